# SPDX-License-Identifier: Apache-2.0
"""GEMM of two pixels by two channels, and of one pixel by four, from weights of four bits, on the DSP extension.

One word holds eight weights. Fields of a lane are taken out by masks, each with what is below it:

    pairs  lane 16 * w1 + u0:                                       SXTB16 gives both, a mask u0
    dense  lane 4096 * w3 + 256 * u2 + 16 * u1 + u0, u = w + 8:     the word itself, and three masks

so that every sum has the one before it as a part, and their exact difference is a power of two times one channel. The 8 * sum(x) in the sums of u is made
once for a pixel and comes off the biases. Exact if |D1| < 2**27, |D2| < 2**23, |D3| < 2**19, which is checked here on the actual weights. The layout of the
streams is in kernels/gemm_w4.h.

Steps of four bits are coarse, so that s_x * s_w / s_y may pass 1/2 and a channel is not shifted right. Where rounding is single, all channels of such a layer
are raised: sums times 2**RAISE, shifts RAISE more, and nothing else changes.

Source: ARM DDI 0403, Armv7-M Architecture Reference Manual (SMLAD, SXTB16, UXTB16, modified immediate constants 0x00XY00XY and 0xXY00XY00).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from midge.ir import Array
from midge.microkernels.gemm import Gemm, finish, framed, int32_words, interleaved, pairs, requantized
from midge.program import Routine

BODY = 4  # groups of four taps in the loop of pairs
DENSE_BODY = 4  # groups of eight taps in the loop of dense layers, at most
RAISE = 3  # with it factors are below 4
STACK = 72  # nine registers and nine words
DENSE_STACK = 56  # nine registers and five words
FAMILY = "gemm_w4"


def fits(weights: Array) -> bool:
    """Whether weights have four bits."""
    return bool(((weights >= -8) & (weights <= 7)).all())


def raised(gemm: Gemm, numerics: str) -> int:
    """The power of two that sums are raised by, 0 where that is not needed or, with double rounding, would round elsewhere."""
    return RAISE if numerics == "onnx" and (gemm.shift > -1).any() else 0


def lifted(gemm: Gemm, by: int) -> Gemm:
    """The same outputs from sums that are 2**by times larger."""
    return replace(gemm, weights=gemm.weights.astype(np.int64) << by, bias=gemm.bias.astype(np.int64) << by, shift=gemm.shift.astype(np.int64) - by)


def refuses_pairs(gemm: Gemm, numerics: str) -> str:
    """Why two channels do not share a sum, '' if they do."""
    refused = lifted(gemm, raised(gemm, numerics)).refuses()
    if refused:
        return refused
    reach = reach_of(gemm.paired())[1::2].max(initial=0)
    return f"an accumulator may reach {int(reach)}, 2**27 is too much beside another" if reach >= 1 << 27 else ""


def refuses_dense(gemm: Gemm, numerics: str) -> str:
    """Why four channels do not share a sum, '' if they do."""
    refused = lifted(gemm, raised(gemm, numerics)).refuses()
    if refused:
        return refused
    reach = reach_of(gemm)
    for place, bits in ((1, 27), (2, 23), (3, 19)):
        most = reach[place::4].max(initial=0)
        if most >= 1 << bits:
            return f"an accumulator may reach {int(most)}, 2**{bits} is too much beside {place} others"
    return "a weight of -8 stands over negative ones" if (gemm.weights[3::4] < -7).any() else ""


def reach_of(gemm: Gemm) -> Array:
    """The largest magnitude of each channel's sum, bias included."""
    return np.asarray(np.abs(gemm.bias.astype(np.int64)) + 128 * np.abs(gemm.weights.astype(np.int64)).sum(1))


def filled(weights: Array, depth: int, channels: int) -> Array:
    """Weights (O, K) padded with zeros to whole groups of taps and channels."""
    count = -(-len(weights) // channels) * channels
    return np.pad(weights.astype(np.int64), ((0, count - len(weights)), (0, depth - weights.shape[1])))


def pairs_streams(gemm: Gemm, numerics: str, pitch: int) -> tuple[Array, Array]:
    """The int32 words that the routine of pairs walks, as Gemm.streams."""
    total, by = gemm.total(numerics), raised(gemm, numerics)
    odd, paired = len(gemm.weights) % 2, (gemm.sharing(total, numerics) if total else gemm).paired()
    paired = replace(paired, shift=paired.shift - by)
    weights, bias = filled(paired.weights, gemm.depth, 2), paired.bias.astype(np.int64)
    scale, rounding = paired.ending(total, numerics)
    requantize = np.stack([paired.multiplier.astype(np.int64), rounding, scale if total else -paired.shift.astype(np.int64)], 1)
    words: list[Array] = []
    for c in range(0, len(weights), 2):
        taps = (16 * weights[c + 1] + weights[c] + 8) & 0xFF
        packed = (taps.reshape(-1, 4) << np.array([0, 8, 16, 24])).sum(1)
        words.append(np.concatenate([[bias[c], 16 * bias[c + 1] + bias[c]], packed, requantize[c : c + 2].reshape(-1)]))
    return framed(words, odd, [gemm.depth, pitch, total, pitch, 1 + by])


def dense_stream(gemm: Gemm, numerics: str) -> Array:
    """The int32 words that the dense routine walks, header included; channels are filled up to a multiple of four."""
    weights = filled(gemm.weights, gemm.depth, 4)[:, interleaved(gemm.depth)]
    missing = len(weights) - len(gemm.weights)
    bias, multiplier = np.pad(gemm.bias.astype(np.int64), (0, missing)), np.pad(gemm.multiplier.astype(np.int64), (0, missing))
    by = raised(gemm, numerics)
    n = np.pad(by - gemm.shift.astype(np.int64), (0, missing), constant_values=1)
    requantize = np.stack([multiplier, (np.int64(gemm.zero_point) << n) + (np.int64(1) << (n - 1)), n], 1)
    words: list[Array] = []
    for c in range(0, len(weights), 4):
        places = np.array([1, 16, 256, 4096])
        words.append(np.cumsum(bias[c : c + 4] * places))
        words.append(pairs((weights[c : c + 4] * places[:, None]).sum(0) + 8 * 273))
        words.append(requantize[c : c + 4].reshape(-1))
    body = np.concatenate(words)
    return int32_words(np.concatenate([[4 * len(body), gemm.depth, 1 + by], body]))


def _suffix(twice: bool, relu: bool, by: int) -> str:
    return ("_tflite" if twice else "") + ("_relu" if twice and relu else "") + (f"_up{by}" if by else "")


def pairs_routine(depth: int, relu: bool, total: int, by: int, numerics: str) -> Routine:
    """The routine of pairs for `depth` taps; depths with the same rest beside whole bodies share it. `relu` and `total`
    as in gemm_routine, `by` from raised."""
    twice, steps = numerics == "tflite", depth // 4
    rest, looped = steps % BODY, steps >= BODY
    ending = f"_shift{total}" if total else _suffix(twice, relu, by)
    name = f"midge_gemm_w4_{4 * BODY}n_{4 * rest}" if looped else f"midge_gemm_w4_{4 * rest}"
    twin = "midge_gemm_w4_s8" + ("_tflite" if twice else "")
    return Routine(name + ending, twin, FAMILY, tuple(_pairs_lines(looped, rest, total, 1 + by, twice, twice and not relu)), STACK)


def _pairs_lines(looped: bool, rest: int, total: int, up: int, twice: bool, corrects: bool) -> list[str]:
    """r0 acts, r1 stream, r2 and r3 the outputs of both pixels. Frame: as in midge.microkernels.gemm, then 8 * sum(x) of both pixels."""
    lines = ["push {r4-r11, lr}", "sub sp, #36", "ldmia r1!, {r4-r9}", "add r4, r4, r1", "sub r3, r3, r2", "add r8, r3, r6", "strd r6, r3, [sp]"]
    lines += ["strd r8, r2, [sp, #8]", "strd r4, r0, [sp, #16]", "add r5, r0, r5, lsl #2", "mov r2, #0", "mov r3, #0", "mov r10, #0x00080008"]
    lines += ["3:", "ldmia r0!, {r6-r9}", "smlad r2, r6, r10, r2", "smlad r3, r7, r10, r3", "smlad r2, r8, r10, r2", "smlad r3, r9, r10, r3"]
    lines += ["cmp r0, r5", "bne.n 3b", "strd r2, r3, [sp, #28]", "ldr r0, [sp, #20]"]
    lines += [*([f"sub r5, r5, #{16 * rest}"] if rest else []), "str r5, [sp, #24]"] if looped else []
    lines += [
        "1:",
        "ldmia r1!, {r2, r4}",
        "ldrd r6, r7, [sp, #28]",
        "mov lr, #0x000f000f",
        "sub r3, r2, r7",
        "sub r5, r4, r7",
        "sub r2, r2, r6",
        "sub r4, r4, r6",
    ]
    lines += ["2:", *_pairs_steps(BODY), "ldr r12, [sp, #24]", "cmp r0, r12", "bne.w 2b"] if looped else []
    lines += [*_pairs_steps(rest), "sub r4, r4, r2", "sub r5, r5, r3"]
    if total:
        lines += ["ldmia r1!, {r6-r11}", "asr r4, r4, #4", "asr r5, r5, #4", "lsl r2, r2, r8", "lsl r3, r3, r8", "lsl r4, r4, r11", "lsl r5, r5, r11"]
    else:
        lines += [*_down(("r4", "r5"), 4 - up), f"lsl r2, r2, #{up}", f"lsl r3, r3, #{up}", "ldmia r1!, {r6-r11}"]
    lines += requantized(total, twice, corrects)
    return [*lines, "ldrd r6, r0, [sp, #16]", "cmp r1, r6", "bne.w 1b", "add sp, #36", "pop {r4-r11, pc}"]


def _down(registers: tuple[str, ...], bits: int) -> list[str]:
    return [f"asr {register}, {register}, #{bits}" for register in registers] if bits else []


def _pairs_steps(count: int) -> list[str]:
    """So many times four taps: r2 and r3 take the lower channel, r4 and r5 both."""
    lines = []
    for step in range(count):
        if step % 2 == 0:
            lines.append("ldrd r10, r11, [r1], #8" if step + 1 < count else "ldr r10, [r1], #4")
        word = "r11" if step % 2 else "r10"
        lines.append("ldmia r0!, {r6-r9}")
        for act0, act1, turn, down in (("r6", "r7", "", ""), ("r8", "r9", ", ror #8", ", lsr #8")):
            lines += [f"sxtb16 r12, {word}{turn}", f"smlad r4, {act0}, r12, r4", f"smlad r5, {act1}, r12, r5"]
            lines += [f"and r12, lr, {word}{down}", f"smlad r2, {act0}, r12, r2", f"smlad r3, {act1}, r12, r3"]
    return lines


def dense_routine(depth: int, relu: bool, by: int, numerics: str, in_place: bool = False) -> Routine:
    """The dense routine for `depth` taps, shared by all depths that are whole numbers of its loop's body. in_place: it reads taps as they come."""
    twice = numerics == "tflite"
    eights, half = divmod(depth, 8)
    body = max((u for u in range(1, DENSE_BODY + 1) if eights % u == 0), default=0) if eights else 0
    stem = "midge_dense_w4_bytes" if in_place else "midge_dense_w4"
    name = "_".join(str(n) for n in (8 * body, 4 if half else 0) if n)
    twin = f"{stem}_s8" + ("_tflite" if twice else "")
    lines = _dense_lines(body, bool(half), 1 + by, twice, twice and not relu, in_place)
    return Routine(f"{stem}_{name}{_suffix(twice, relu, by)}", twin, FAMILY, tuple(lines), DENSE_STACK)


def _dense_lines(body: int, half: bool, up: int, twice: bool, corrects: bool, in_place: bool) -> list[str]:
    """r0 acts, r1 stream, r2 out. Frame: end of the loop's acts, end of the stream, acts, out, 8 * sum(x)."""
    lines = ["push {r4-r11, lr}", "sub sp, #20", "ldmia r1!, {r4-r6}", "add r4, r4, r1", f"add r5, r0, r5{'' if in_place else ', lsl #1'}"]
    lines += ["strd r0, r2, [sp, #8]", "mov r2, #0", "mov r10, #0x00080008", "3:", *_acts(("r6", "r7"), in_place)]
    lines += ["smlad r2, r6, r10, r2", "smlad r2, r7, r10, r2", "cmp r0, r5", "bne.n 3b", "str r2, [sp, #16]", "ldr r0, [sp, #8]"]
    lines += [f"sub r5, r5, #{4 if in_place else 8}"] if half else []
    lines += ["strd r5, r4, [sp]", "1:", "ldmia r1!, {r2-r5}", "ldr r6, [sp, #16]", "add r7, r6, r6, lsl #4", "add r8, r7, r6, lsl #8"]
    lines += ["sub r2, r2, r6", "sub r3, r3, r7", "sub r4, r4, r8", "sub r5, r5, r8"]
    if body:
        eight = [*_acts(("r6", "r7", "r8", "r9"), in_place), "ldmia r1!, {r10-r12, lr}"]
        eight += _dense_steps((("r6", "r10"), ("r7", "r11"), ("r8", "r12"), ("r9", "lr")))
        lines += ["2:", *(eight * body), "ldr r6, [sp]", "cmp r0, r6", "bne.w 2b"]
    lines += [*_acts(("r6", "r7"), in_place), "ldrd r10, r11, [r1], #8", *_dense_steps((("r6", "r10"), ("r7", "r11")))] if half else []
    lines += ["sub r5, r5, r4", "sub r4, r4, r3", "sub r3, r3, r2"]
    lines += [*_down(("r5",), 12 - up), *_down(("r4",), 8 - up), *_down(("r3",), 4 - up), f"lsl r2, r2, #{up}"]
    lines.append("ldrd r0, r12, [sp, #8]")
    for acc0, acc1 in (("r2", "r3"), ("r4", "r5")):
        lines.append("ldmia r1!, {r6-r11}")
        lines += finish(acc0, 6, "r12", twice, corrects) + finish(acc1, 9, "r12", twice, corrects)
    return [*lines, "ldr r6, [sp, #4]", "str r12, [sp, #12]", "cmp r1, r6", "bne.w 1b", "add sp, #20", "pop {r4-r11, pc}"]


def _acts(registers: tuple[str, ...], in_place: bool) -> list[str]:
    """Pairs of taps 0, 2 and 1, 3 of each four."""
    if not in_place:
        return [f"ldmia r0!, {{{', '.join(registers)}}}"]
    fours = list(zip(registers[0::2], registers[1::2], strict=True))
    lines = [f"ldr {word}, [r0], #4" for word, _ in fours]
    return [*lines, *(line for word, odd in fours for line in (f"sxtb16 {odd}, {word}, ror #8", f"sxtb16 {word}, {word}"))]


def _dense_steps(steps: tuple[tuple[str, str], ...]) -> list[str]:
    """r5 takes all four channels of a lane, r4 the lower three, r3 two, r2 one."""
    lines = []
    for act, word in steps:
        lines += [f"smlad r5, {act}, {word}, r5", f"bic {word}, {word}, #0xf000f000", f"smlad r4, {act}, {word}, r4", f"uxtb16 {word}, {word}"]
        lines += [f"smlad r3, {act}, {word}, r3", f"and {word}, {word}, #0x000f000f", f"smlad r2, {act}, {word}, r2"]
    return lines
