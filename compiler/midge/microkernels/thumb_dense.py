# SPDX-License-Identifier: Apache-2.0
"""Dense inner loops for cores without the DSP extension: one pixel by several channels. Layouts are in kernels/dense_thumb.h.

Source: ARM DDI 0403 and DDI 0419, the Armv7-M and Armv6-M Architecture Reference Manuals.
"""

from __future__ import annotations

import numpy as np

from midge.ir import Array
from midge.microkernels.gemm import Gemm, int32_words
from midge.microkernels.thumb import THUMB1, THUMB2, Form, constants, widths
from midge.microkernels.thumb_quads import finish1, finish2
from midge.program import Routine

UNROLLED = 8  # taps in a round of the loop, at most


def block_of(channels: int, form: Form) -> int:
    """Channels of a block."""
    return 8 if form is THUMB2 and channels >= 8 else 4


def dense_stream(gemm: Gemm, form: Form, numerics: str) -> Array:
    """The int32 words that a routine walks, header included."""
    channels, depth = gemm.weights.shape
    block, requantize = block_of(channels, form), constants(gemm, form, numerics)
    body = []
    for start in range(0, channels, block):
        first = min(start, channels - block)
        part = slice(first, first + block)
        weights = gemm.weights[part].astype(np.int8)
        packed = (weights.T if form is THUMB2 else weights).tobytes()
        words, bias = np.frombuffer(packed + bytes(-len(packed) % 4), np.int32), int32_words(gemm.bias[part])
        order = [bias, words, requantize[part].reshape(-1)] if form is THUMB2 else [np.column_stack([bias, requantize[part]]).reshape(-1), words]
        body += [np.array([first], np.int32), *order]
    last = 4 * sum(map(len, body)) if form is THUMB2 else len(widths(gemm))
    return np.concatenate([np.array([channels, depth, block, last], np.int32), *body])


def dense_routine(channels: int, depth: int, form: Form, split: tuple[int, ...], relu: bool, numerics: str) -> Routine:
    """The routine for any depth that the same number of taps divides; see quads_routine."""
    twice = numerics == "tflite"
    taps = next(n for n in range(UNROLLED, 0, -1) if depth % n == 0)
    block, kind = block_of(channels, form), "t1" if form is THUMB1 else "t2"
    if form is THUMB1:
        lines, size = _thumb1(taps, split, twice and not relu), f"{taps}_{len(split)}"
    else:
        lines, size = _thumb2(block, taps, -depth * block % 4, twice, twice and not relu), f"{taps}x{block}" + ("_odd" if depth * block % 4 else "")
    symbol = f"midge_dense_{kind}_{size}" + ("_tflite" if twice else "") + ("_relu" if twice and relu else "")
    twin = f"midge_dense_{kind}_s8" + ("_tflite" if twice else "")
    return Routine(symbol, twin, "dense_thumb", tuple(lines), 56 if form is THUMB1 else 52, form.feature)


def _thumb2(block: int, taps: int, spare: int, twice: bool, corrects: bool) -> list[str]:
    """r0 taps, r1 stream, r2 output, r3 a tap, r4 a weight, r5... sums, lr the taps' end. Frame: output, taps, their end, the stream's end."""
    sums = ["r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12"][:block]
    lines = ["push {r4-r11, lr}", "sub sp, #16", "ldr r4, [r1, #4]", "ldr r5, [r1, #12]", "add r4, r4, r0", "adds r1, #16", "add r5, r5, r1"]
    lines += ["strd r2, r0, [sp]", "strd r4, r5, [sp, #8]", "1:", "ldr r3, [r1], #4", "ldrd r2, r0, [sp]", "ldr lr, [sp, #8]", "add r2, r2, r3"]
    lines += [f"ldmia r1!, {{{', '.join(sums)}}}", "2:"]
    for _ in range(taps):
        lines.append("ldrsb r3, [r0], #1")
        for acc in sums:
            lines += ["ldrsb r4, [r1], #1", f"mla {acc}, r3, r4, {acc}"]
    lines += ["cmp r0, lr", "bne.w 2b", *([f"adds r1, #{spare}"] if spare else [])]
    for acc in sums:
        lines += ["ldmia.w r1!, {r3, r4, lr}", *finish2(acc, ("r3", "r4", "lr"), ("r0", "r4"), twice, corrects, ["strb r4, [r2], #1"])]
    return [*lines, "ldr r3, [sp, #12]", "cmp r1, r3", "bne.w 1b", "add sp, #16", "pop {r4-r11, pc}"]


def _thumb1(taps: int, split: tuple[int, ...], corrects: bool) -> list[str]:
    """r0 taps, r1 the place among them, r2-r5 weights of four channels, r6 a tap, r7 a weight, r8-r11 sums, r12 depth.
    Frame: output, taps, the block, channels left, depth."""
    lines = ["push {r4-r7, lr}", *(f"mov r{4 + i}, r{8 + i}" for i in range(4)), "push {r4-r7}", "sub sp, #20", "ldr r3, [r1]", "ldr r4, [r1, #4]"]
    lines += ["adds r1, #16", "str r2, [sp]", "str r0, [sp, #4]", "str r1, [sp, #8]", "str r3, [sp, #12]", "mov r12, r4"]
    lines += ["1:", "ldr r0, [sp, #4]", "ldr r7, [sp, #8]"]
    for channel in range(4):
        lines += [f"ldr r6, [r7, #{4 + 20 * channel}]", f"mov r{8 + channel}, r6"]
    lines += ["adds r7, #84", "mov r2, r7", *(f"mov r{channel}, r{channel - 1}\nadd r{channel}, r12" for channel in (3, 4, 5)), "movs r1, #0", "2:"]
    for _ in range(taps):
        lines.append("ldrsb r6, [r0, r1]")
        for channel in range(4):
            lines += [f"ldrsb r7, [r{2 + channel}, r1]", "muls r7, r6", f"add r{8 + channel}, r7"]
        lines.append("adds r1, #1")
    lines += ["cmp r1, r12", "beq 4f", "b 2b", "4:", "add r5, r12", "movs r6, #3", "adds r5, #3", "bics r5, r6", "ldr r1, [sp, #8]", "str r5, [sp, #8]"]
    lines += ["ldr r0, [sp]", "ldmia r1!, {r3}", "adds r0, r0, r3"]
    for channel in range(4):
        lines += ["ldr r5, [r1, #4]", "ldrh r4, [r1, #16]", f"mov r6, r{8 + channel}"]
        lines += finish1(channel, 8, split, corrects, ("r3", "r7", "r4", "r5"), [f"strb r7, [r0, #{channel}]", "adds r1, #20"])
    lines += ["ldr r3, [sp, #12]", "subs r3, #4", "str r3, [sp, #12]", "ble 3f", "b 1b"]
    for channel in range(4):
        lines += [f"{20 + channel}:", "asrs r7, r3, #31", "movs r3, #127", "eors r7, r3", f"b {10 + channel}b"]
    done = ["3:", "add sp, #20", "pop {r4-r7}", *(f"mov r{8 + i}, r{4 + i}" for i in range(4)), "pop {r4-r7, pc}"]
    return [part for line in [*lines, *done] for part in line.split("\n")]
