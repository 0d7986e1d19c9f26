# SPDX-License-Identifier: Apache-2.0
"""Depthwise 3x3 on the M-profile vector extension: blocks of two output rows by two output columns of one channel, from a strip of four input rows.

A vector holds 4x4 pixels of a channel, so that one VMLADAV makes an output; the weights of the four outputs are those of the first, moved by a row or a
column. The strip is [column][4 channels][4 rows], filled by VST4 from four columns at a time. The layout of the stream is in kernels/depthwise_mve.h.

Source: ARM DDI 0553, Armv8-M Architecture Reference Manual (VMLADAV, VST4, VSHLC, gather loads and scatter stores).
"""

from __future__ import annotations

import numpy as np

from midge.ir import Array
from midge.microkernels.mve import SAVED, Requantization
from midge.program import Routine

BLOCK = 4  # channels of a strip
STRIP_COLUMNS = 6  # output columns of a strip, at most; as in depthwise_mve.c
_STRIP = 24  # bytes in the table
_HEADER = 20  # bytes of the stream's header
_TABLE, _LEFT, _RUN, _PLACES, _LIMITS = 0, 4, 8, 16, 32  # bytes in the frame: table, channels left, run, offsets of four columns, clamp


def starts_of(columns: int) -> tuple[int, ...]:
    """Where blocks of two output columns begin; the last of an odd number overlaps the one before it."""
    return tuple(min(x, columns - 2) for x in range(0, columns, 2))


def strip_stream(weights: Array, bias: Array, r: Requantization, pad: int) -> Array:
    """The int32 words that a routine walks, header included. weights: (C, 3, 3); pad: the input's zero point."""
    channels = len(weights)
    order = np.concatenate([np.arange(BLOCK) + min(c, channels - BLOCK) for c in range(0, channels, BLOCK)])
    taps = np.zeros((channels, 3, 4), np.int8)
    taps[:, :, :3] = weights.transpose(0, 2, 1)
    body = np.concatenate([taps.reshape(channels, 12).view(np.int32), np.stack([bias, r.multiplier, r.shift], 1).astype(np.int32)], 1)
    return np.concatenate([np.array([channels, r.zero_point, r.act_min, r.act_max, pad], np.int32), body[order].reshape(-1)])


def strip_routine(columns: int, words: bool, r: Requantization) -> Routine:
    """r0 table, r1 stream, r2 out, r3 run. words: pixels begin at multiples of four bytes. Then r5 leads from a channel's last block to the next channel's
    first, r9 is out, r11 channels, r12 zero_point; q6 are the addresses of four columns, q7 where the four outputs of a block go."""
    starts, frame = starts_of(columns), _LIMITS + 8 * r.clamps
    lines = ["push {r4-r11, lr}", "vpush {d8-d15}", f"sub sp, #{frame}", "ldrd r11, r12, [r1]", f"strd r0, r11, [sp, #{_TABLE}]", "mov r9, r2"]
    lines += ["ldrd r4, r5, [r1, #8]", f"strd r4, r5, [sp, #{_LIMITS}]"] if r.clamps else []
    lines += ["ldrd r6, r2, [r3]", f"strd r6, r2, [sp, #{_RUN}]", f"ldr r3, [r0, #{_STRIP}]", f"adds r1, #{_HEADER}", "movs r4, #0", "add r5, r2, r11"]
    lines += ["vmov q7[2], q7[0], r4, r2", "vmov q7[3], q7[1], r11, r5", "subs r3, #4", "add r5, r3, #16", "add r6, r3, #32"]
    lines += ["add r7, r3, #48", "vmov q6[2], q6[0], r3, r6", "vmov q6[3], q6[1], r5, r7", "movs r5, #255", "vmsr p0, r5", "lsls r5, r11, #1"]
    lines += ["add r6, r5, r11", f"strd r4, r11, [sp, #{_PLACES}]", f"strd r5, r6, [sp, #{_PLACES + 8}]"] if words else []
    last = {0: "mov r5, #0", 3: "add r5, r11, r11, lsl #1"}.get(starts[-1], f"lsl r5, r11, #{starts[-1] // 2}")
    lines += [last, "rsb r5, r5, #1", "1:", *_fill(words), f"ldr r10, [sp, #{_RUN + 4}]", "mov r0, #4", "dls lr, r0", "mov r3, #0"]
    lines += ["cmp r10, #0", "beq.w 3f"]  # one output row: no way to the second
    lines += ["2:", *_channel(starts, r, ["vstrb.32 q5, [r9, q7]"]), "le lr, 2b", "b.w 4f"]
    lines += ["3:", *_channel(starts, r, ["vpst", "vstrbt.32 q5, [r9, q7]"]), "le lr, 3b", "4:", *_next_block(words, frame)]
    name = f"midge_strip_mve_{columns}" + ("" if words else "_bytes") + r.suffix
    return Routine(name, "midge_strip_mve_s8" + ("_tflite" if r.twice else ""), "depthwise_mve", tuple(lines), SAVED + frame, "mve")


def _fill(words: bool) -> list[str]:
    """Four channels of the columns that are in the image: the first four, which go to r7, and the last four, to r8."""
    rows, lines = ("r2", "r3", "r4", "r6"), [f"ldr r0, [sp, #{_TABLE}]", f"ldr r10, [sp, #{_RUN}]", "ldm r0, {r2, r3, r4, r6, r7, r8}"]
    lines += [f"vldrw.u32 q5, [sp, #{_PLACES}]"] if words else ["sub r10, r10, r11"]
    for turn, place in enumerate(("r7", "r8")):
        if words:
            lines += ["vadd.i32 q5, q5, r10"] * turn + [f"vldrw.u32 q{i}, [{row}, q5]" for i, row in enumerate(rows)]
        for i, row in enumerate(() if words else rows):
            lines += [f"add {row}, {row}, r10"] * turn + [f"ldr r0, [{row}]", f"ldr lr, [{row}, r11, lsl #1]", f"vmov q{i}[2], q{i}[0], r0, lr"]
            lines += [f"ldr r0, [{row}, r11]", f"add {row}, {row}, r11", f"ldr lr, [{row}, r11, lsl #1]", f"vmov q{i}[3], q{i}[1], r0, lr"]
        lines += [f"vst4{i}.8 {{q0, q1, q2, q3}}, [{place}]" for i in range(4)]
    return lines


def _next_block(words: bool, frame: int) -> list[str]:
    """Rows and output move on by four channels, or as many as make the last four."""
    lines = [f"ldrd r0, r2, [sp, #{_TABLE}]", "mov r3, #16", "vsub.i32 q6, q6, r3", "mov r4, #4", "subs r2, #4", "beq.n 9f"]
    lines += [] if words else ["cmp r2, #4", "bge.n 5f", "mov r4, r2", "add r9, r9, r2", "sub r9, r9, #4", "movs r2, #4", "5:"]
    lines += [f"str r2, [sp, #{_LEFT}]", "vldrw.u32 q4, [r0]", "vadd.i32 q4, q4, r4", "vstrw.32 q4, [r0]", "b.w 1b"]
    return [*lines, "9:", f"add sp, #{frame}", "vpop {d8-d15}", "pop {r4-r11, pc}"]


def _channel(starts: tuple[int, ...], r: Requantization, store: list[str]) -> list[str]:
    """All blocks of one channel: weights to q0, moved by a column to q1, by a row to q2, by both to q3."""
    lines = ["ldmia r1!, {r0, r2, r4, r7, r8, r10}", "vmov q0[2], q0[0], r0, r4", "vmov q0[3], q0[1], r2, r3", "vmov q1, q0", "vshlc q1, r3, #32"]
    lines += ["vshl.i32 q2, q0, #8", "vshl.i32 q3, q1, #8"]
    for i, start in enumerate(starts):
        lines.append(f"vldrw.u32 q4, [q6, #{16 * start}]" if i else "vldrw.u32 q4, [q6, #4]!")
        lines += [f"vmladav.s8 {acc}, q4, q{q}" for q, acc in enumerate(("r0", "r2", "r4", "r6"))]
        lines += ["vmov q5[2], q5[0], r0, r4", "vmov q5[3], q5[1], r2, r6", "vadd.i32 q5, q5, r7", f"v{'qrdmulh' if r.twice else 'qdmulh'}.s32 q5, q5, r8"]
        lines += ["vshr.s32 q4, q5, #31", "vadd.i32 q5, q5, q4"] if r.corrects else []
        lines += ["vrshl.s32 q5, r10", "vadd.i32 q5, q5, r12"]
        if r.clamps:
            lines += [f"ldrd r0, r2, [sp, #{_LIMITS}]", "vdup.32 q4, r0", "vmax.s32 q5, q5, q4", "vdup.32 q4, r2", "vmin.s32 q5, q5, q4"]
        else:
            lines += ["vqmovnb.s32 q5, q5"] * r.wide + ["vqmovnb.s16 q5, q5"]
        step = starts[i + 1] - start if i + 1 < len(starts) else 0
        lines += [*store, {0: "add r9, r9, r5", 1: "add r9, r9, r11", 2: "add r9, r9, r11, lsl #1"}[step]]
    return lines
