# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolution of any window on the DSP extension: one pixel, four channels at a time. The layout of the stream is in
kernels/depthwise_dsp.h, where the twin is.

Source: ARM DDI 0403, Armv7-M Architecture Reference Manual (SXTB16, SMLABB, SMLATT, SMMLA, SMMLAR, SSAT; LDR takes any address).
"""

from __future__ import annotations

import numpy as np

from midge.ir import Array
from midge.microkernels.gemm import Gemm, int32_words
from midge.program import Routine

MOST_TAPS = 49  # as in depthwise_dsp.c
TAPS, OUT, COUNT, LAST, ROUND, FRAME = 0, 4, 8, 12, 16, 20


def direct_stream(gemm: Gemm) -> Array:
    """The int32 words that the routine walks, header included."""
    channels, taps = gemm.weights.shape
    words = [np.array([taps, channels, 2 * gemm.zero_point + 1])]
    for first in (*range(0, channels - 4, 4), channels - 4):
        four = slice(first, first + 4)
        weights = ((gemm.weights[four].astype(np.int64) & 0xFF) << np.array([[0], [8], [16], [24]])).sum(0)
        requantize = np.stack([gemm.multiplier[four].astype(np.int64), -gemm.shift[four].astype(np.int64) - 1], 1)
        words += [gemm.bias[four].astype(np.int64), weights, requantize.reshape(-1)]
    return int32_words(np.concatenate(words))


def pixel_routine(numerics: str, relu: bool) -> Routine:
    """r0 taps, r1 stream, r2 taps to come, then out, r3 channel, r4 to r7 accumulators. `relu`: the output's zero_point is -128, so the sign
    correction of double rounding only moves values that are clamped to -128 anyway."""
    twice = numerics == "tflite"
    lines = ["push {r4-r11, lr}", f"sub sp, #{FRAME}", f"strd r0, r2, [sp, #{TAPS}]", "ldmia r1!, {r4-r6}", "sub r5, r5, #4", "mov r3, #0"]
    lines += [f"strd r4, r5, [sp, #{COUNT}]", f"str r6, [sp, #{ROUND}]"]
    lines += ["1:", f"ldr r0, [sp, #{TAPS}]", f"ldr r2, [sp, #{COUNT}]", "ldmia r1!, {r4-r7}", "lsrs r2, r2, #1", "bcc 2f"]
    lines += ["ldr r8, [r0], #4", "ldr r10, [r1], #4", "ldr r8, [r8, r3]", *_products("r8", "r10")]
    lines += ["2:", "cbz r2, 4f", "3:", "ldrd r8, r9, [r0], #8", "ldrd r10, r11, [r1], #8", "ldr r8, [r8, r3]", "ldr r9, [r9, r3]"]
    lines += [*_products("r8", "r10"), *_products("r9", "r11"), "subs r2, r2, #1", "bne 3b"]
    lines += ["4:", f"ldr r2, [sp, #{OUT}]", f"ldr r12, [sp, #{ROUND}]", "add r2, r2, r3"]
    for acc in ("r4", "r5", "r6", "r7"):
        lines += ["ldrd r8, r9, [r1], #8", f"lsl {acc}, {acc}, #1", "lsl r10, r12, r9", f"{'smmlar' if twice else 'smmla'} r10, {acc}, r8, r10"]
        if twice and not relu:
            lines.append(f"add r10, r10, {acc}, asr #31")
        lines += ["asr r10, r10, r9", "ssat r10, #8, r10, asr #1", "strb r10, [r2], #1"]
    lines += [f"ldr r8, [sp, #{LAST}]", "cmp r3, r8", "beq 5f", "adds r3, #4", "cmp r3, r8", "it gt", "movgt r3, r8", "b 1b"]
    symbol = "midge_depthwise_four" + ("_tflite" if twice else "") + ("_relu" if twice and relu else "")
    twin = "midge_depthwise_pixel_s8" + ("_tflite" if twice else "")
    return Routine(symbol, twin, "depthwise_dsp", (*lines, "5:", f"add sp, #{FRAME}", "pop {r4-r11, pc}"), FRAME + 36)


def _products(pixel: str, weights: str) -> list[str]:
    """Four channels of one tap."""
    lines = []
    for turn, even, odd in (("", "r4", "r6"), (", ror #8", "r5", "r7")):
        lines += [f"sxtb16 r12, {pixel}{turn}", f"sxtb16 lr, {weights}{turn}", f"smlabb {even}, r12, lr, {even}", f"smlatt {odd}, r12, lr, {odd}"]
    return lines
