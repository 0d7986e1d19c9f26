# SPDX-License-Identifier: Apache-2.0
"""One level of Strassen's multiplication, in Winograd's form with 7 products and 15 sums, for pointwise layers on the DSP extension.

Two pairs of pixels, two halves of the input channels and two halves of the output channels are 2x2 blocks A and B of a product:

    s1 = a21 + a22   s2 = s1 - a11   s3 = a11 - a21   s4 = a12 - s2
    t1 = b12 - b11   t2 = b22 - t1   t3 = b22 - b12   t4 = t2 - b21
    c11 = a11 b11 + a12 b21               c12 = a11 b11 + s2 t2 + s1 t1 + s4 b22
    c21 = a11 b11 + s2 t2 + s3 t3 - a22 t4   c22 = a11 b11 + s2 t2 + s3 t3 + s1 t1

In integers no sum loses anything: of int8 operands |s| <= 512 and |t| <= 512, doubled 1024, so all factors are int16, and sums modulo 2**32 are
exact where the accumulator fits. Halves of an odd number of channels overlap: a channel that is in both has a weight of zero in the second half of the
inputs, and is written twice, with one value, as an output. Layouts of the sums and of the stream are in kernels/strassen_dsp.h.

Source: Strassen, Gaussian Elimination is not Optimal; Winograd's form as in Higham, Accuracy and Stability of Numerical Algorithms, section 23.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midge.ir import Array
from midge.microkernels.gemm import Gemm, int32_words, interleaved, pairs
from midge.program import Routine

PRODUCTS = 7
INLINE = 8  # groups of four taps of a product that are spelled out seven times; beyond that the products share a subroutine
UNROLLED = 32  # groups of four taps in the subroutine's loop, at most
STACK, FRAME = 36, 80  # nine registers; words of the frame
STRD_REACH, LDR_REACH = 1020, 4095
LONGEST_PITCH = 255  # what a store adds to its address


def half_in(channels: int) -> int:
    """Input channels of a half: a multiple of four."""
    return -(-channels // 8) * 4


def half_out(channels: int) -> int:
    """Output channels of a half: a multiple of two."""
    return -(-channels // 4) * 2


def refuses_sizes(channels: int, out: int) -> str:
    """Why the routines do not reach all of their operands, '' if they do."""
    if channels < 4 or out < 2:
        return f"{channels} to {out} channels are too few for halves"
    furthest = max(4 * channels, 24 * half_in(channels) + 16)
    return f"{channels} input channels are too many for the offsets of loads and stores" if furthest > LDR_REACH else ""


def instructions(pixels: int, channels: int, out: int) -> int:
    """About what an output of these sizes costs."""
    steps, calls = half_in(channels) // 4, 3 * PRODUCTS if half_in(channels) > 4 * INLINE else 0
    return -(-pixels // 4) * (62 * steps + 90 + half_out(out) // 2 * (10 * PRODUCTS * steps + calls + 107))


def strassen_stream(gemm: Gemm, pitch: int) -> Array:
    """The int32 words that the products walk, header included; `pitch` bytes are between the outputs of a pixel's channels."""
    out, channels = gemm.weights.shape
    depth, count = half_in(channels), half_out(out)
    weights = 2 * gemm.weights.astype(np.int64)
    second = weights[:, channels - depth :].copy()
    second[:, : 2 * depth - channels] = 0
    halves = [slice(0, count), slice(out - count, out)]
    (b11, b12), (b21, b22) = ([half[rows][:, interleaved(depth)] for rows in halves] for half in (weights[:, :depth], second))
    t1, t3 = b12 - b11, b22 - b12
    t2 = b22 - t1
    bias, last = (2 * gemm.bias[rows].astype(np.int64) for rows in halves)
    constants = [np.stack(_requantization(gemm, rows), 1) for rows in halves]
    words = []
    for c in range(0, count, 2):
        pair = slice(c, c + 2)
        first, other = (half[pair].reshape(-1) for half in constants)
        words += [np.repeat((last - bias)[pair], 2), _lanes(t1[pair]), np.repeat(bias[pair], 2), _lanes(b11[pair]), _lanes(b21[pair]), first]
        words += [_lanes(t2[pair]), _lanes(t3[pair]), _lanes((b21 - t2)[pair]), first, other, _lanes(b22[pair]), other]
    body = np.concatenate(words)
    return int32_words(np.concatenate([[4 * len(body), depth, pitch * (out - count), pitch], body]))


def _requantization(gemm: Gemm, rows: slice) -> tuple[Array, Array, Array]:
    n = -gemm.shift[rows].astype(np.int64)
    return gemm.multiplier[rows].astype(np.int64), (np.int64(gemm.zero_point) << n) + (np.int64(1) << (n - 1)), n


def _lanes(weights: Array) -> Array:
    """Two channels' weights, word by word in turn."""
    return np.stack([pairs(weights[0]), pairs(weights[1])], 1).reshape(-1)


def combine_routine(channels: int) -> Routine:
    """Four pixels to the seven left factors. r0 pixels, r1 factors; r2 to r5 hold bytes of both pixels of a11 and a22, r6 and r7 those of a21, a12."""
    depth = half_in(channels)
    second, step = channels - depth, depth // 4
    places = {name: 4 * depth * i for i, name in enumerate(("s1", "a11", "a12", "s2", "s3", "a22", "s4"))}
    lines = ["push {r4-r11, lr}", "sub sp, #8", f"add r2, r0, #{4 * step}" if step < 64 else f"addw r2, r0, #{4 * step}", "str r2, [sp]", "1:"]
    for pixel in range(2):
        lines += [f"ldr r{2 + pixel}, [r0, #{pixel * channels}]", f"ldr r{4 + pixel}, [r0, #{(2 + pixel) * channels + second}]"]
        lines += [f"ldr r{6 + pixel}, [r0, #{(2 + pixel) * channels}]"]
    for odd in (False, True):
        turned, at = ", ror #8" if odd else "", 8 * odd
        lines += [f"sxtb16 r8, r4{turned}", f"sxtb16 r9, r5{turned}", *_store("r8", places["a22"] + at)]
        lines += [f"sxtab16 r10, r8, r6{turned}", f"sxtab16 r11, r9, r7{turned}", *_store("r10", places["s1"] + at)]
        lines += [f"sxtb16 r12, r2{turned}", f"sxtb16 lr, r3{turned}", *_store("r12", places["a11"] + at)]
        lines += ["ssub16 r10, r10, r12", "ssub16 r11, r11, lr", *_store("r10", places["s2"] + at)]
        lines += ["ssub16 r8, r8, r10", "ssub16 r9, r9, r11", *_store("r8", places["s3"] + at)]
        lines += [f"ldr r12, [r0, #{second}]", f"ldr lr, [r0, #{channels + second}]", f"sxtb16 r12, r12{turned}", f"sxtb16 lr, lr{turned}"]
        lines += [*_store("r12", places["a12"] + at), "ssub16 r10, r12, r10", "ssub16 r11, lr, r11", *_store("r10", places["s4"] + at)]
    lines += ["ldr r12, [sp]", "adds r0, #4", "adds r1, #16", "cmp r0, r12", "bne.w 1b", "add sp, #8", "pop {r4-r11, pc}"]
    return Routine(f"midge_strassen_combine_{channels}", "midge_strassen_combine", "strassen_dsp", tuple(lines), STACK + 8)


def _store(register: str, offset: int) -> list[str]:
    """`register` and the one after it, at r1 + offset."""
    after = {"r8": "r9", "r10": "r11", "r12": "lr"}[register]
    if offset <= STRD_REACH:
        return [f"strd {register}, {after}, [r1, #{offset}]"]
    return [f"str {register}, [r1, #{offset}]", f"str {after}, [r1, #{offset + 4}]"]


def gemm_routine(channels: int, pitch: int, relu: bool, numerics: str) -> Routine:
    """The seven products, their sums and requantization, for `channels` inputs. `relu`: the output's zero_point is -128, see gemm.gemm_routine; `pitch`
    as above."""
    depth, twice = half_in(channels), numerics == "tflite"
    symbol = f"midge_strassen_gemm_{depth}{f'_{pitch}' if pitch > 1 else ''}" + ("_tflite" if twice else "") + ("_relu" if twice and relu else "")
    twin = "midge_strassen_gemm_s8" + ("_tflite" if twice else "")
    return Routine(symbol, twin, "strassen_dsp", tuple(_gemm(depth // 4, _Ending(pitch, twice, twice and not relu))), STACK + FRAME)


@dataclass(frozen=True)
class _Ending:
    """How sums become outputs."""

    pitch: int
    twice: bool
    corrects: bool

    def lines(self, place: int) -> list[str]:
        """Both pixels of both channels: the outputs' addresses are at `place` in the frame."""
        lines = [f"ldrd r9, r10, [sp, #{place}]"]
        for accs in (("r2", "r3"), ("r4", "r5")):
            lines += ["ldmia r1!, {r6-r8}"]
            for acc, address in zip(accs, ("r9", "r10"), strict=True):
                lines += [f"{'smmlar' if self.twice else 'smmla'} lr, {acc}, r6, r7", *([f"add lr, lr, {acc}, asr #31"] if self.corrects else [])]
                lines += ["asr lr, lr, r8", "ssat lr, #8, lr", f"strb lr, [{address}], #{self.pitch}"]
        return [*lines, f"strd r9, r10, [sp, #{place}]"]


def _gemm(steps: int, ending: _Ending) -> list[str]:
    """r0 factors, r1 stream, r2 outs; sums of channel 0 in r2 and r3, of channel 1 in r4 and r5. Frame: s1 t1, later c22; a11 b11, later c12 without s4 b22;
    at 32 the end of the stream, factors, at 40 outputs of the pixels' first halves, then of their second halves, at 72 the subroutine's end and return."""
    product = _steps(steps) if steps <= INLINE else ["bl 9f"]
    starts, more = ["ldmia r1!, {r2-r5}", *product], product
    keep, kept = ["strd r2, r3, [sp, #16]", "strd r4, r5, [sp, #24]"], ["ldrd r2, r3, [sp, #16]", "ldrd r4, r5, [sp, #24]"]
    added = ["ldmia sp, {r6-r9}", *(f"add r{6 + i}, r{6 + i}, r{2 + i}" for i in range(4))]
    out = {name: ending.lines(40 + 8 * i) for i, name in enumerate(("c11", "c21", "c12", "c22"))}
    lines = ["push {r4-r11, lr}", f"sub sp, #{FRAME}", "ldmia r1!, {r4-r7}", "add r4, r4, r1", "strd r4, r0, [sp, #32]", "ldmia r2, {r8-r11}"]
    lines += ["strd r8, r9, [sp, #40]", "strd r10, r11, [sp, #48]", *(f"add r{i}, r{i}, r6" for i in range(8, 12))]
    lines += ["strd r8, r9, [sp, #56]", "strd r10, r11, [sp, #64]"]
    lines += ["1:", *starts, "stmia sp, {r2-r5}", *starts, *keep, *more, *out["c11"]]
    lines += [*kept, *more, *added, "strd r6, r7, [sp, #16]", "strd r8, r9, [sp, #24]"]
    lines += [*more, *added, "stmia sp, {r6-r9}", *more, *out["c21"], "ldmia sp, {r2-r5}", *out["c22"], *kept, *more, *out["c12"]]
    lines += ["ldrd r6, r0, [sp, #32]", "cmp r1, r6", "bne.w 1b", f"add sp, #{FRAME}", "pop {r4-r11, pc}"]
    return lines if steps <= INLINE else [*lines, *_subroutine(steps)]


def _subroutine(steps: int) -> list[str]:
    """One product, called: all registers are its operands."""
    rounds = -(-steps // UNROLLED)
    body, tail = steps // rounds, steps % rounds
    if rounds == 1:
        return ["9:", "str lr, [sp, #76]", *_steps(body), "ldr pc, [sp, #76]"]
    lines = ["9:", "str lr, [sp, #76]", f"addw r6, r0, #{16 * body * rounds}", "str r6, [sp, #72]", "8:", *_steps(body)]
    return [*lines, "ldr r6, [sp, #72]", "cmp r0, r6", "bne.w 8b", *_steps(tail), "ldr pc, [sp, #76]"]


def _steps(count: int) -> list[str]:
    """Four taps a step."""
    lines = []
    for _ in range(count):
        lines += ["ldmia r0!, {r6-r9}", "ldmia r1!, {r10-r12, lr}"]
        for act0, act1, weight0, weight1 in (("r6", "r7", "r10", "r11"), ("r8", "r9", "r12", "lr")):
            lines += [f"smlad r2, {act0}, {weight0}, r2", f"smlad r3, {act1}, {weight0}, r3"]
            lines += [f"smlad r4, {act0}, {weight1}, r4", f"smlad r5, {act1}, {weight1}, r5"]
    return lines
