# SPDX-License-Identifier: Apache-2.0
"""Pointwise layers of four or eight input channels on the DSP extension: the taps of two pixels stay in registers while all channels pass by, and the
loop over pixels is in the routine. The layout of the stream is in kernels/conv2d_dsp.h.

Source: ARM DDI 0403, Armv7-M Architecture Reference Manual (SMLAD, SMMLA, SMMLAR, SXTB16, SSAT).
"""

from __future__ import annotations

import numpy as np

from midge.ir import Array
from midge.microkernels.gemm import Gemm, int32_words, interleaved, pairs
from midge.program import Routine

DEPTHS = (4, 8)
STACK = 52  # nine registers and four words


def pointwise_stream(gemm: Gemm, pitch: int, numerics: str) -> Array:
    """The int32 words that the routine walks, header included; `pitch` bytes are between the outputs of a pixel's channels."""
    total = gemm.total(numerics)
    gemm = gemm.sharing(total, numerics) if total else gemm
    scale, rounding = gemm.ending(total, numerics)
    weights = gemm.weights.astype(np.int64)[:, interleaved(gemm.depth)] << scale[:, None]
    taps = np.stack([pairs(channel) for channel in weights])
    requantize = [gemm.multiplier.astype(np.int64), rounding] + ([] if total else [-gemm.shift.astype(np.int64)])
    body = np.concatenate([(gemm.bias.astype(np.int64) << scale)[:, None], taps, np.stack(requantize, 1)], 1).reshape(-1)
    return int32_words(np.concatenate([[4 * len(body), gemm.depth, len(weights), pitch, total], body]))


def pointwise_routine(depth: int, channels: int, pitch: int, relu: bool, total: int, numerics: str) -> Routine:
    """The routine for 4 or 8 taps and so many output channels, `pitch` bytes apart. `relu` and `total` as in gemm_routine."""
    twice = numerics == "tflite"
    planar = f"_{pitch}" if pitch > 1 else ""
    symbol = f"midge_pointwise_{depth}_{channels}{planar}"
    symbol += f"_shift{total}" if total else ("_tflite" if twice else "") + ("_relu" if twice and relu else "")
    lines = _lines(depth, channels, pitch, total, twice and not total, twice and not relu)
    return Routine(symbol, "midge_pointwise_s8" + ("_tflite" if twice else ""), "conv2d_dsp", tuple(lines), STACK)


def _lines(depth: int, channels: int, pitch: int, total: int, twice: bool, corrects: bool) -> list[str]:
    """r0 input, r1 stream, r2 output, r3 pairs of pixels. Frame: input, stream, its end, pairs."""
    lines = ["push {r4-r11, lr}", "sub sp, #16", "ldr r12, [r1], #20", "add r12, r12, r1", "strd r1, r12, [sp, #4]", "str r3, [sp, #12]", "1:"]
    lines += [f"ldmia r0!, {{{'r6, r7, r10, r11' if depth == 8 else 'r6, r10'}}}", "str r0, [sp]"]
    for r in (4, 8):
        lines += [f"sxtb16 r{r}, r{r + 2}", f"sxtb16 r{r + 1}, r{r + 2}, ror #8"]
        lines += [f"sxtb16 r{r + 2}, r{r + 3}", f"sxtb16 r{r + 3}, r{r + 3}, ror #8"] if depth == 8 else []
    lines.append("2:")
    for _ in range(next(n for n in (4, 3, 2, 1) if channels % n == 0)):
        lines += _channel(depth, channels, pitch, total, twice, corrects)
    lines += ["ldr r12, [sp, #8]", "cmp r1, r12", "bne.w 2b", "ldrd r0, r1, [sp]", "ldr r12, [sp, #12]"]
    if pitch == 1:
        lines.append(f"addw r2, r2, #{channels}")
    else:  # pixels 0, 1 of four are at bytes 0, 2, pixels 2, 3 at 1, 3; an even number of pairs is to come before a four
        lines += ["and r3, r12, #1", f"movw lr, #{channels * pitch - 1}", "sub r2, r2, lr", "add r2, r2, r3, lsl #1"]
    return [*lines, "subs r12, r12, #1", "str r12, [sp, #12]", "bne.w 1b", "add sp, #16", "pop {r4-r11, pc}"]


def _channel(depth: int, channels: int, pitch: int, total: int, twice: bool, corrects: bool) -> list[str]:
    """Both pixels of one channel, in r0 and r3."""
    high = "smmlar" if twice else "smmla"
    lines = ["ldmia r1!, {r0, r12, lr}", "smlad r3, r8, r12, r0", "smlad r0, r4, r12, r0", "smlad r3, r9, lr, r3", "smlad r0, r5, lr, r0"]
    if depth == 8:
        lines += ["ldmia r1!, {r12, lr}", "smlad r3, r10, r12, r3", "smlad r0, r6, r12, r0", "smlad r3, r11, lr, r3", "smlad r0, r7, lr, r0"]
    lines.append("ldmia r1!, {r12, lr}")
    if corrects and not total:
        lines += [f"{high} lr, r3, r12, lr", "add r3, lr, r3, asr #31", "ldr lr, [r1, #-4]", f"{high} lr, r0, r12, lr", "add r0, lr, r0, asr #31"]
    else:
        lines += [f"{high} r3, r3, r12, lr", f"{high} r0, r0, r12, lr"]
    if total:
        lines += [f"ssat r3, #8, r3, asr #{total}", f"ssat r0, #8, r0, asr #{total}"]
    else:
        lines += ["ldr r12, [r1], #4", "asr r3, r3, r12", "asr r0, r0, r12", "ssat r3, #8, r3", "ssat r0, #8, r0"]
    return [*lines, f"strb r3, [r2, #{channels if pitch == 1 else 2}]", f"strb r0, [r2], #{pitch}"]
