# SPDX-License-Identifier: Apache-2.0
"""Convolution on the M-profile vector extension with nothing copied: two pixels by four channels, each column of taps read where it is.

Two neighbouring windows share columns. Every column of a kernel row has a pointer of its own, so that padding and dilation are a matter of what it points
to. The layout of the stream is in kernels/conv2d_mve.h.

Source: ARM DDI 0553, Armv8-M Architecture Reference Manual (VMLADAV, VLDM).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from midge.ir import Array
from midge.microkernels.mve import EVEN, SAVED, VECTOR, Requantization
from midge.program import Routine

COLUMNS = 5  # that two windows may have in all: as many as there are odd core registers, the stream's apart
ENTRIES = 20  # pointers of a table, at most; as in conv2d_mve.c
SPELLED = 18  # steps of 16 taps that are written out, at most; more go row by row
POINTERS = ("r3", "r5", "r7", "r9", "r11")
SLOTS = 4  # vectors that hold taps, q4 and on
_BODY, _TABLE, _PAIRS, _OUT, _NOW, _ZERO_POINT, _LIMITS, _ROWS, _FRAME = 0, 8, 16, 24, 32, 40, 44, 52, 72  # bytes in the frame


@dataclass(frozen=True)
class Window:
    """rows x taps of `channels`, a multiple of 16; dilation and stride are horizontal, in pixels."""

    rows: int
    taps: int
    dilation: int
    stride: int
    channels: int

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """Of both windows, from left to right, in pixels from the first one's."""
        first = {k * self.dilation for k in range(self.taps)}
        return tuple(sorted(first | {x + self.stride for x in first}))

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """For each tap the columns where the two windows have it."""
        return [(self.columns.index(k * self.dilation), self.columns.index(k * self.dilation + self.stride)) for k in range(self.taps)]

    @property
    def together(self) -> int:
        """Blocks of 16 channels that are read at once."""
        return 1 if self.channels % (2 * VECTOR) else 2

    @property
    def compact(self) -> bool:
        """Whether inside an image one VLDM reads the columns that two windows begin with."""
        return self.channels == VECTOR and self.rows <= 3 and self.columns == tuple(range(len(self.columns))) and len(self.columns) >= SLOTS

    @property
    def spelled(self) -> bool:
        return self.rows * self.taps * self.channels // VECTOR <= SPELLED or len(self.columns) == COLUMNS

    def arrange(self, weights: Array) -> Array:
        """(O, rows, taps, C) -> (steps, O, 16) in the order of the loop."""
        together = self.together
        split = weights.reshape(len(weights), self.rows, self.taps, self.channels // VECTOR // together, together, VECTOR)
        return np.asarray(split.transpose(1, 3, 2, 4, 0, 5).reshape(-1, len(weights), VECTOR))


def window_stream(window: Window, weights: Array, bias: Array, r: Requantization) -> Array:
    """The int32 words that a routine walks, header included. weights: (O, rows, taps, C), O a multiple of 4."""
    words: list[Array] = []
    for c in range(0, len(weights), 4):
        group = slice(c, c + 4)
        words += [np.tile(bias[group].astype(np.int32), 2), np.ascontiguousarray(window.arrange(weights[group])).astype(np.int8).reshape(-1).view(np.int32)]
        words += [r.multiplier[group].astype(np.int32), r.shift[group].astype(np.int32)]
    body = np.concatenate(words)
    columns = [*window.columns, *[0] * (COLUMNS - len(window.columns))]
    header = [4 * len(body), r.zero_point, r.act_min, r.act_max, len(weights), window.rows, window.taps, window.channels // VECTOR, window.together]
    return np.concatenate([np.array([*header, window.dilation, window.stride, len(window.columns), *columns], np.int32), body])


_HEADER = 68  # bytes


def window_routine(window: Window, r: Requantization) -> Routine:
    """r0 table, r1 stream, r2 out, r3 run."""
    count = len(window.columns)
    lines = [
        "push {r4-r11, lr}",
        "vpush {d8-d15}",
        f"sub sp, #{_FRAME}",
        "ldm r3, {r4, r5, r6}",
        f"strd r4, r6, [sp, #{_PAIRS}]",
        f"strd r2, r5, [sp, #{_OUT}]",
    ]
    lines += ["ldm r1, {r4, r5, r6, r7}", f"strd r5, r6, [sp, #{_ZERO_POINT}]", f"str r7, [sp, #{_LIMITS + 4}]", f"adds r1, #{_HEADER}", "add r4, r4, r1"]
    lines += [f"strd r1, r4, [sp, #{_BODY}]", f"mov r5, #{window.rows * count}", f"strd r0, r5, [sp, #{_TABLE}]"]
    for row in range(window.rows if count == COLUMNS else 0):
        lines += [f"add r5, r0, #{4 * COLUMNS * row}", f"str r5, [sp, #{_ROWS + 4 * row}]"]
    lines += ["0:", f"ldrd r7, r5, [sp, #{_OUT}]", "add r5, r5, r7", f"strd r7, r5, [sp, #{_NOW}]", f"ldr r1, [sp, #{_BODY}]"]
    lines += ["1:", "ldmia r1!, {" + ", ".join(EVEN) + "}", *_rows(window), "vldmia r1!, {d4-d7}", "vmov q0[2], q0[0], r0, r4", "vmov q0[3], q0[1], r2, r6"]
    lines += ["vmov q1[2], q1[0], r8, r12", "vmov q1[3], q1[1], r10, lr", f"ldr r11, [sp, #{_ZERO_POINT}]"]
    lines += [f"ldrd r0, r2, [sp, #{_LIMITS}]"] if r.clamps else []
    lines += [*r.lines(("q0", "q1"), ("q2", "q2"), ("q3", "q3")), f"ldrd r7, r5, [sp, #{_NOW}]", "vstrb.32 q0, [r7], #4", "vstrb.32 q1, [r5], #4"]
    lines += [f"ldr r0, [sp, #{_BODY + 4}]", f"strd r7, r5, [sp, #{_NOW}]", "cmp r1, r0", "bne.w 1b", *_next_pair()]
    return Routine(_name(window, r), _twin(r), "conv2d_mve", tuple(lines), SAVED + _FRAME, "mve")


def inner_routine(window: Window, r: Requantization) -> Routine:
    """The same for pairs that are inside the image, if the window is compact: of the table only each row's first pointer is read."""
    rows, step = POINTERS[: window.rows], 4 * len(window.columns)
    lines = [
        "push {r4-r11, lr}",
        "vpush {d8-d15}",
        f"sub sp, #{_FRAME}",
        "ldm r3, {r4, r5, r6}",
        f"strd r4, r6, [sp, #{_PAIRS}]",
        f"strd r2, r5, [sp, #{_OUT}]",
    ]
    lines += ["ldm r1, {r4, r5, r6, r7}", "mov r11, r5", f"strd r6, r7, [sp, #{_LIMITS}]", f"adds r1, #{_HEADER}", "add r9, r4, r1", f"str r1, [sp, #{_BODY}]"]
    lines += [f"ldr {row}, [r0, #{step * i}]" for i, row in enumerate(rows)]
    lines += ["0:", f"ldrd r0, r2, [sp, #{_OUT}]", "add r2, r2, r0", f"strd r0, r2, [sp, #{_NOW}]", f"ldr r1, [sp, #{_BODY}]"]
    lines += ["1:", "ldmia r1!, {" + ", ".join(EVEN) + "}"]
    for row in rows:
        lines.append(f"vldmia {row}, {{d8-d15}}")
        for pair in window.pairs:
            lines += [f"vldrw.u32 q4, [{row}, #{VECTOR * column}]" for column in pair if column >= SLOTS] + ["vldmia r1!, {d0-d7}"]
            lines += [f"vmladava.s8 {EVEN[4 * p + c]}, q{c}, q{4 + column % SLOTS}" for p, column in enumerate(pair) for c in range(4)]
    lines += ["vldmia r1!, {d4-d7}", "vmov q0[2], q0[0], r0, r4", "vmov q0[3], q0[1], r2, r6", "vmov q1[2], q1[0], r8, r12", "vmov q1[3], q1[1], r10, lr"]
    lines += [f"ldrd r0, r2, [sp, #{_LIMITS}]"] if r.clamps else []
    lines += [*r.lines(("q0", "q1"), ("q2", "q2"), ("q3", "q3")), f"ldrd r0, r2, [sp, #{_NOW}]", "vstrb.32 q0, [r0], #4", "vstrb.32 q1, [r2], #4"]
    lines += [f"strd r0, r2, [sp, #{_NOW}]", "cmp r1, r9", "bne.w 1b", f"ldrd r0, r4, [sp, #{_PAIRS}]", "subs r0, #1", "beq.n 9f", f"str r0, [sp, #{_PAIRS}]"]
    lines += [f"ldrd r6, r8, [sp, #{_OUT}]", "add r6, r6, r8, lsl #1", f"str r6, [sp, #{_OUT}]", *(f"add {row}, {row}, r4" for row in rows), "b.w 0b"]
    lines += ["9:", f"add sp, #{_FRAME}", "vpop {d8-d15}", "pop {r4-r11, pc}"]
    return Routine(_name(window, r, "_inner"), _twin(r), "conv2d_mve", tuple(lines), SAVED + _FRAME, "mve")


def _name(window: Window, r: Requantization, kind: str = "") -> str:
    shape = f"{window.rows}x{window.taps}x{window.channels}" + f"_s{window.stride}" * (window.stride > 1) + f"_d{window.dilation}" * (window.dilation > 1)
    return f"midge_window_mve_{shape}{kind}{r.suffix}"


def _twin(r: Requantization) -> str:
    return "midge_window_mve_s8" + ("_tflite" if r.twice else "")


def _next_pair() -> list[str]:
    """All pointers move on."""
    lines = [f"ldrd r0, r4, [sp, #{_PAIRS}]", "subs r0, #1", "beq.n 9f", f"str r0, [sp, #{_PAIRS}]", f"ldrd r7, r5, [sp, #{_OUT}]"]
    lines += ["add r7, r7, r5, lsl #1", f"str r7, [sp, #{_OUT}]", f"ldrd r3, r5, [sp, #{_TABLE}]", "dlstp.32 lr, r5", "3:", "vldrw.u32 q0, [r3]"]
    lines += ["vadd.i32 q0, q0, r4", "vstrw.32 q0, [r3], #16", "letp lr, 3b", "b.w 0b"]
    return [*lines, "9:", f"add sp, #{_FRAME}", "vpop {d8-d15}", "pop {r4-r11, pc}"]


def _rows(window: Window) -> list[str]:
    """All taps of four channels."""
    pointers = POINTERS[: len(window.columns)]
    load = "{" + ", ".join(pointers) + "}"
    if len(pointers) == COLUMNS:
        rows = [[f"ldr r11, [sp, #{_ROWS + 4 * row}]", f"ldm r11, {load}", *_row(window)] for row in range(window.rows)]
        return [line for row in rows for line in row]
    start = [f"ldr r11, [sp, #{_TABLE}]"]
    if window.spelled:
        return start + [f"ldmia r11!, {load}", *_row(window)] * window.rows
    return [*start, f"ldmia r11!, {load}", "2:", *_row(window), f"ldmia r11!, {load}", "cmp r3, #0", "bne.w 2b"]  # after the last row comes NULL


def _row(window: Window) -> list[str]:
    """One kernel row. A column is read when a tap first asks for it, over one that is not asked for again or, failing that, asked for last."""
    groups, together = window.channels // VECTOR // window.together, window.together
    asked = [column for pair in window.pairs for column in pair]
    lines: list[str] = []
    for group in range(groups):
        slots: list[int | None] = [None] * (SLOTS // together)
        loads: list[tuple[int, int]] = []  # (index in lines, column)
        for tap, pair in enumerate(window.pairs):
            later = asked[2 * tap + 2 :]
            for column in pair:
                if column not in slots:
                    free = [i for i, held in enumerate(slots) if held not in pair]
                    slot = max(free, key=lambda i: len(later) if slots[i] not in later else later.index(slots[i] or 0))
                    slots[slot] = column
                    loads.append((len(lines), column))
                    d = 2 * (4 + slot * together)
                    lines.append(f"vldmia {POINTERS[column]}, {{d{d}-d{d + 2 * together - 1}}}")
            for block in range(together):
                lines.append("vldmia r1!, {d0-d7}")
                for p, column in enumerate(pair):
                    q = 4 + slots.index(column) * together + block
                    lines += [f"vmladava.s8 {EVEN[4 * p + c]}, q{c}, q{q}" for c in range(4)]
        for index, _ in dict((column, (index, column)) for index, column in loads).values() if group + 1 < groups else ():
            lines[index] = lines[index].replace(",", "!,", 1)  # the last read of a column moves its pointer to the next channels
    return lines
