# SPDX-License-Identifier: Apache-2.0
"""Depthwise 3x3 on the DSP extension from planar rows: one output row of one channel after the other, up to eight outputs at a time.

A word holds four pixels in the order 0, 2, 1, 3, so that two SXTB16 make two pairs of adjacent pixels; SMLAD and SMLADX meet a pair with two taps, SMLABT
and SMLATT with one. Taps of 8 bits become pairs of weights times 256 by a mask. Taps on padding are left out, which the biases of the edges make up for.
The stream is described in kernels/depthwise_dsp.h, planar rows in midge.program.

Source: ARM DDI 0403, Armv7-M Architecture Reference Manual (SMLAD, SMLADX, SMLABT, PKHBT, SMMLA, SMMLAR, SXTB16, SSAT; LDR takes any address).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from midge.ir import Array
from midge.microkernels.gemm import TOTAL, Gemm
from midge.microkernels.planar_stream import BYTES, WORDS, byte_stream, wide_stream
from midge.program import Routine, planar_order

NARROW = 6  # outputs of a row, or of half a row, that is computed at once, at most, the pointers to its rows in registers
BLOCK = 8  # outputs at a time of a wider row
HEADER = 12  # bytes
OUT, PIXEL, END, START, STREAM_END, WIDTH = 0, 4, 8, 12, 16, 20  # the frame of wide rows; OUT, PIXEL, END alone of narrow ones
ROWS, CARRY, ZERO, FRAME = 24, 36, 48, 52
WORDS_TWIN, BYTES_TWIN, FAMILY = "midge_depthwise_planar_row_s8", "midge_depthwise_planar_bytes_s8", "depthwise_dsp"


@dataclass(frozen=True)
class Planar:
    """One layer: weights (C, 9) and requantization, the input's zero_point and width, output width, padding on the left and stride in pixels.

    `packed`: weights are stored as 8 bits; `first` is the shift of all channels that is tried first then.
    """

    gemm: Gemm
    zero_point: int
    in_width: int
    width: int
    pad: int
    stride: int
    numerics: str
    packed: bool
    first: int = TOTAL

    @cached_property
    def _stream(self) -> tuple[int, Array]:
        """(the shift that all channels share, 0 if they do not; the words)."""
        reach = (self.width - 1) * self.stride - self.pad + 3 - self.in_width
        if self.packed:
            return byte_stream(self.gemm, self.zero_point, self.pad > 0, reach > 0, self.numerics, self.first)
        total = TOTAL if self.gemm.suits(TOTAL, self.numerics) else 0
        return total, wide_stream(self.gemm, total, self.zero_point, self.pad > 0, reach > 0, self.numerics)

    def refuses(self) -> str:
        """Why rows are not served, '' if they are."""
        reach = (self.width - 1) * self.stride - self.pad + 3 - self.in_width
        if self.width < 2 or self.in_width < 2:
            return "one column"
        if self.pad > 1 or reach > 1:
            return "more than one pixel of padding"
        if self.blocks and self.stride == 1 and self.pad == 0 and self.in_width - self.blocks * BLOCK < 4:
            return "less than four pixels after the last eight"
        return "" if self._stream[0] or not self.packed else "no shift that all channels share is exact"

    @property
    def halves(self) -> bool:
        """Whether a row is computed as a part of six outputs and the rest."""
        return NARROW < self.width <= 2 * NARROW

    @property
    def blocks(self) -> int:
        """Blocks of a wide row before its last one."""
        return 0 if self.width <= 2 * NARROW else (self.width - 1) // BLOCK

    def stream(self) -> Array:
        """The int32 words that the routine walks."""
        return self._stream[1]

    def routine(self) -> Routine:
        """For this width if it is narrow, for all that end in a like block otherwise."""
        twice, relu = self.numerics == "tflite", self.gemm.zero_point == -128
        total, kind = self._stream[0], "_bytes" if self.packed else ""
        ending = f"_shift{total}" if total else ("_tflite" if twice else "") + ("_relu" if twice and relu else "")
        form = Form(self.packed, total, twice, twice and not relu)
        columns, count = self.in_width - self.blocks * BLOCK * self.stride, self.width - self.blocks * BLOCK
        narrow = not self.blocks
        lines = _halves(self, form) if self.halves else _narrow(self, form) if narrow else _wide(self, columns, count, form)
        symbol = f"midge_depthwise_s{self.stride}p{self.pad}_{columns}_{count}{'_wide' if self.blocks else ''}{kind}{ending}"
        twin = BYTES_TWIN if self.packed else WORDS_TWIN + ("_tflite" if twice else "")
        return Routine(symbol, twin, FAMILY, tuple(lines), 36 + (12 if narrow else FRAME))


@dataclass(frozen=True)
class Form:
    """How taps are read, of 8 bits (`packed`) or 16, and sums requantized: with the shift `total` or with their own, rounded twice, with a correction
    of negative ones.

    Taps 1, 0 of a kernel row go to r6, taps 1, 2 to r7; multiplier, C and n to r6, r7 and r9.
    """

    packed: bool
    total: int
    twice: bool
    corrects: bool

    @property
    def nbytes(self) -> int:
        """Of a channel's part of the stream."""
        return BYTES if self.packed else WORDS + (0 if self.total else 4)

    def taps(self, k: int) -> list[str]:
        """Of kernel row k, r14 at the beginning of the channel's part of the stream; of the next row, advancing r14, if k is negative."""
        if not self.packed:
            return ["ldmia lr!, {r6, r7}"] if k < 0 else [f"ldrd r6, r7, [lr, #{12 + 8 * k}]"]
        return ["ldr r7, [lr], #4" if k < 0 else f"ldr r7, [lr, #{12 + 4 * k}]", "and r6, r7, #0xff00ff00", "pkhbt r7, r6, r7, lsl #24"]

    def requantized(self, accs: list[str]) -> list[str]:
        """Outputs from sums, r14 at the beginning of the channel's part of the stream; r8 is where the first of them goes, r9 the bytes to the next."""
        at = 24 if self.packed else 36
        return [f"ldrd r6, r7, [lr, #{at}]", *([] if self.total else [f"ldr r9, [lr, #{at + 8}]"]), *self.lines(accs), f"ldrd r8, r9, [sp, #{OUT}]"]

    def lines(self, accs: list[str]) -> list[str]:
        lines = []
        for acc in accs:
            if self.corrects and not self.total:
                lines += [f"smmlar r8, {acc}, r6, r7", f"add {acc}, r8, {acc}, asr #31"]
            else:
                lines.append(f"{'smmlar' if self.twice and not self.total else 'smmla'} {acc}, {acc}, r6, r7")
            lines += [f"ssat {acc}, #8, {acc}, asr #{self.total}"] if self.total else [f"asr {acc}, {acc}, r9", f"ssat {acc}, #8, {acc}"]
        return lines


@dataclass
class Block:
    """What a kernel row adds to some outputs: outputs 0 to len(accs) - 1 read pixels from -pad on, of which 0 to columns - 1 are in the row.

    Data go through r8 and r9, taps 1, 0 are in r6, taps 1, 2 in r7. `carried`: pixel -1 is the upper half of the word at `carried` in the frame.
    `bias` maps outputs to the register that holds theirs until they start.
    """

    accs: list[str]
    columns: int
    pad: int
    stride: int
    bias: dict[str, str]
    words: int  # whole words of the row within reach

    def row(self, pointer: str, advance: int, carried: int | None = None, carry: int | None = None, past: int = 0) -> list[str]:
        """`advance` the pointer past the row's part, or it is so many bytes `past` its beginning; `carry` is where the last pair is kept."""
        lines, first, last = [], max(0, -self.pad), min(self.columns - 1, (len(self.accs) - 1) * self.stride - self.pad + 2)
        if carried is not None:
            lines += [f"ldr r8, [sp, #{carried}]", *self._meet("r8", -1, single="top")]

        def address(offset: int) -> str:
            nonlocal past, advance
            if not offset and advance:
                past, moved, advance = advance, advance, 0
                return f"[{pointer}], #{moved}"
            return f"[{pointer}, #{offset - past}]" if offset != past else f"[{pointer}]"

        column, order = first // 4 * 4, planar_order(4, 1)
        while column <= last:
            inside, low, high = column // 4 < self.words, max(first - column, 0), last - column
            if not inside or high == 0 or low == 3:
                for x in range(column + low, min(last, column + 3 if inside else column) + 1):
                    lines += [f"ldrsb r8, {address(column + int(order[x - column]) if inside else x)}", *self._meet("r8", x, single="low")]
                column += 4 if inside else 1
                continue
            lines.append(f"ldr r9, {address(column)}")
            lines += ["sxtb16 r8, r9"] if low < 2 else []
            lines += ["sxtb16 r9, r9, ror #8"] if high > 1 else []
            lines += self._meet("r8", column) if low < 2 else []
            lines += self._meet("r9", column + 2) if high > 1 else []
            column += 4
        if carry is not None:
            lines.append(f"str r9, [sp, #{carry}]")
        return lines + ([f"add {pointer}, #{advance}"] if advance else [])

    def _meet(self, data: str, column: int, single: str = "") -> list[str]:
        """All outputs that pixels `column` and `column` + 1 take part in, or one of them if `single`."""
        found = []
        for i, acc in enumerate(self.accs):
            tap = column - (i * self.stride - self.pad)
            if single:
                operation = _single(tap, "b" if single == "low" else "t")
            else:
                operation = {0: ("smladx", "r6"), 1: ("smlad", "r7"), -1: ("smlatt", "r6"), 2: ("smlabt", "r7")}.get(tap)
            if operation is not None:
                found.append(f"{operation[0]} {acc}, {data}, {operation[1]}, {self.bias.pop(acc, acc)}")
        return found


def _single(tap: int, half: str) -> tuple[str, str] | None:
    """Instruction and taps for one pixel."""
    return {0: (f"smla{half}t", "r6"), 1: (f"smla{half}b", "r6"), 2: (f"smla{half}t", "r7")}.get(tap)


def _store(accs: list[str], *, more: bool) -> list[str]:
    """Outputs from r8 on, r9 bytes apart; r6 and r7 are free. OUT moves to the pixel after eight if `more`, else to the next channel of the first."""
    places = ("", ", r9", ", r9, lsl #1", ", r6", ", r9, lsl #2", ", r7", ", r6, lsl #1")
    lines = ["add r6, r9, r9, lsl #1"] if len(accs) > 3 else []
    if more:
        for first in (0, 4):
            lines += [f"strb {acc}, [r8{place}]" for acc, place in zip(accs[first : first + 4], places[:4], strict=True)]
            lines.append("add r8, r8, r9, lsl #2")
        return [*lines, f"str r8, [sp, #{OUT}]"]
    if len(accs) > 7:
        lines += ["add r7, r8, r6", f"strb {accs[7]}, [r7, r9, lsl #2]"]
    if len(accs) > 5:
        lines.append("add r7, r6, r9, lsl #1")
    lines += [f"strb {acc}, [r8{place}]" for acc, place in zip(accs[1:7], places[1:], strict=False)]
    return [*lines, f"strb {accs[0]}, [r8], #1", f"str r8, [sp, #{OUT}]"]


def _narrow(planar: Planar, form: Form) -> list[str]:
    """r0 to r5 sums, r10 to r12 rows, r14 stream, its end in r5 if that is free."""
    accs = ["r0", "r2"] if planar.width == 2 else [f"r{i}" for i in range(planar.width)]
    middle = "r1" if planar.width == 2 else accs[-2]
    lines = ["push {r4-r11, lr}", "sub sp, #12", "ldr r3, [r3, #12]", "strd r2, r3, [sp]", "mov lr, r1", f"ldr r5, [lr], #{HEADER}", "add r5, r5, lr"]
    end = [] if planar.width < NARROW else [f"ldr r6, [sp, #{END}]"]
    lines += [*([f"str r5, [sp, #{END}]"] if end else []), "ldmia r0, {r10-r12}", "1:", f"ldmia lr!, {{{accs[0]}, {middle}, {accs[-1]}}}"]
    block = Block(accs, planar.in_width, planar.pad, planar.stride, {acc: middle for acc in accs[1:-1] if acc != middle}, planar.in_width // 4)
    for pointer in ("r10", "r11", "r12"):
        lines += [*form.taps(-1), *block.row(pointer, planar.in_width)]
    lines += ["ldmia lr!, {r6, r7}" if form.total else "ldmia lr!, {r6, r7, r9}", *form.lines(accs), f"ldrd r8, r9, [sp, #{OUT}]"]
    return [*lines, *_store(accs, more=False), *end, f"cmp lr, {'r6' if end else 'r5'}", "bne.w 1b", "add sp, #12", "pop {r4-r11, pc}"]


def _halves(planar: Planar, form: Form) -> list[str]:
    """Like narrow rows, in two parts, r14 staying at the beginning of the channel's part of the stream."""
    lines = ["push {r4-r11, lr}", "sub sp, #12", "ldr r3, [r3, #12]", "strd r2, r3, [sp]", "mov lr, r1", f"ldr r4, [lr], #{HEADER}", "add r4, r4, lr"]
    lines += [f"str r4, [sp, #{END}]", "ldmia r0, {r10-r12}", "1:"]
    for first, count in ((0, NARROW), (NARROW, planar.width - NARROW)):
        accs = [f"r{i}" for i in range(count)]
        middle = accs[max(0, count - 2)] if first else accs[-1]
        lines.append("ldr r0, [lr, #8]" if count == 1 else f"ldrd {middle}, {accs[-1]}, [lr, #4]" if first else f"ldrd r0, {middle}, [lr]")
        bias = {acc: middle for acc in (accs if first else accs[1:])[:-1] if acc != middle and acc != accs[-1]}
        block = Block(accs, planar.in_width, planar.pad - first * planar.stride, planar.stride, bias, planar.in_width // 4)
        for k, pointer in enumerate(("r10", "r11", "r12")):
            lines += form.taps(k)
            lines += block.row(pointer, 0, past=planar.in_width) if first else block.row(pointer, planar.in_width)
        lines += form.requantized(accs)
        lines += ["add r6, r9, r9, lsl #1"]
        places = ("", ", r9", ", r9, lsl #1", ", r6", ", r9, lsl #2")
        if first:
            lines += ["add r7, r8, r6, lsl #1", "add r8, r8, #1", f"str r8, [sp, #{OUT}]", *(["add r8, r6, r9, lsl #1"] if count > 5 else [])]
            lines += [f"strb {acc}, [r7{place}]" for acc, place in zip(accs, (*places, ", r8"), strict=False)]
        else:
            lines += ["add r7, r6, r9, lsl #1", *(f"strb {acc}, [r8{place}]" for acc, place in zip(accs, (*places, ", r7"), strict=True))]
    lines += [f"add lr, lr, #{form.nbytes}", f"ldr r6, [sp, #{END}]", "cmp lr, r6", "bne.w 1b"]
    return [*lines, "add sp, #12", "pop {r4-r11, pc}"]


def _wide(planar: Planar, columns: int, count: int, form: Form) -> list[str]:
    """r0 to r5, r10, r11 sums, r12 the row, r14 the channel's part of the stream. The last block has `count` outputs and `columns` pixels; one of
    eight ends where the others do, and says by the flags that it was the last."""
    stride, names = planar.stride, ["r0", "r1", "r2", "r3", "r4", "r5", "r10", "r11"]
    lines = ["push {r4-r11, lr}", f"sub sp, #{FRAME}", "ldr r4, [r3, #12]", f"strd r2, r4, [sp, #{OUT}]", "ldr r7, [r3]", "ldmia r0, {r4-r6}"]
    lines += [f"strd r4, r5, [sp, #{ROWS}]", f"str r6, [sp, #{ROWS + 8}]", "ldr r4, [r3, #8]", "sub r4, r4, #1", "lsr r4, r4, #3"]
    lines += [f"add r4, r6, r4, lsl #{2 + stride}", f"strd r4, r2, [sp, #{END}]", "ldr r6, [r1, #8]", f"str r6, [sp, #{ZERO}]"]
    lines += [f"ldr r5, [r1], #{HEADER}", "add r5, r5, r1", f"strd r5, r7, [sp, #{STREAM_END}]", "mov lr, r1", "1:"]
    if planar.pad:
        lines += [f"ldr r8, [sp, #{ZERO}]", f"strd r8, r8, [sp, #{CARRY}]", f"str r8, [sp, #{CARRY + 8}]"]
    reach, accs = BLOCK * stride + 2, names[:count]
    inner = Block(names, reach, planar.pad, stride, dict.fromkeys(names[:-1], "r11"), -(-reach // 4))
    lines += ["2:", "ldr r11, [lr, #4]", *_rows(inner, form, BLOCK * stride, carry=True), f"ldr r6, [sp, #{END}]", "cmp r12, r6"]
    lines += ["3:", *form.requantized(names), *_store(names, more=True), "bcc.w 2b"]
    block = Block(accs, columns, planar.pad, stride, dict.fromkeys(accs[:-2], accs[max(0, count - 2)]), columns // 4)
    last = [f"ldrd {accs[-2]}, {accs[-1]}, [lr, #4]" if count > 1 else f"ldr {accs[0]}, [lr, #8]", *_rows(block, form, columns, carry=False)]
    lines += ["bhi.w 4f", *last, "cmp r12, #0", "b.w 3b", "4:"] if count == BLOCK else [*last, *form.requantized(accs), *_store(accs, more=False)]
    lines += [f"add lr, lr, #{form.nbytes}", f"ldrd r6, r8, [sp, #{END}]", f"ldrd r7, r9, [sp, #{STREAM_END}]", "add r6, r6, r9", "add r8, r8, #1"]
    lines += [f"strd r6, r8, [sp, #{END}]", f"str r8, [sp, #{OUT}]", "cmp lr, r7", "bne.w 1b"]
    return [*lines, f"add sp, #{FRAME}", "pop {r4-r11, pc}"]


def _rows(block: Block, form: Form, advance: int, *, carry: bool) -> list[str]:
    """All kernel rows of a block of a wide row."""
    lines = []
    for k in range(3):
        carried = CARRY + 4 * k if block.pad else None
        lines += [*form.taps(k), f"ldr r12, [sp, #{ROWS + 4 * k}]"]
        lines += [*block.row("r12", advance, carried, carried if carry else None), f"str r12, [sp, #{ROWS + 4 * k}]"]
    return lines
