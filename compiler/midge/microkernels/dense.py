# SPDX-License-Identifier: Apache-2.0
"""Dense layers on the DSP extension: one pixel by four channels, from packed weights (p8) or int16 ones, see midge.microkernels.gemm.

The layout of acts and stream is in kernels/dense_dsp.h.

Source: ARM DDI 0403, Armv7-M Architecture Reference Manual (SMLAD, SMMLA, SMMLAR, SXTB16, SSAT).
"""

from __future__ import annotations

import numpy as np

from midge.ir import Array
from midge.microkernels.gemm import Gemm, finish, int32_words, interleaved, pairs
from midge.program import Routine

UNROLLED = 8  # groups of eight taps in a loop body, at most
SMALL, FEW = 1024, 2  # weights of a layer that is not worth a long loop body, groups in a short one
STACK = 52  # nine registers and four words


def dense_stream(gemm: Gemm, packed: bool) -> Array:
    """The int32 words that the routine walks, header included; channels are filled up to a multiple of four."""
    count, depth = -(-len(gemm.weights) // 4) * 4, gemm.depth
    weights = np.zeros((count, depth), np.int64)
    weights[: len(gemm.weights), : gemm.weights.shape[1]] = gemm.weights
    weights = weights[:, interleaved(depth)]
    missing = count - len(gemm.weights)
    bias, multiplier = np.pad(gemm.bias.astype(np.int64), (0, missing)), np.pad(gemm.multiplier.astype(np.int64), (0, missing))
    n = np.pad(-gemm.shift.astype(np.int64), (0, missing), constant_values=1)
    requantize = np.stack([multiplier, (np.int64(gemm.zero_point) << n) + (np.int64(1) << (n - 1)), n], 1)
    words: list[Array] = []
    for c in range(0, count, 4):
        b, w = bias[c : c + 4], weights[c : c + 4]
        if packed:
            words.append(np.array([b[0], 256 * b[1] + b[0], b[2], 256 * b[3] + b[2]]))
            words.append(np.stack([pairs(256 * w[1] + w[0]), pairs(256 * w[3] + w[2])], 1).reshape(-1))
        else:
            words.append(2 * b)
            words.append(np.stack([pairs(2 * channel) for channel in w], 1).reshape(-1))
        words.append(requantize[c : c + 4].reshape(-1))
    body = np.concatenate(words)
    return int32_words(np.concatenate([[4 * len(body), depth], body]))


def dense_routine(depth: int, channels: int, packed: bool, relu: bool, numerics: str, in_place: bool = False) -> Routine:
    """The routine for `depth` taps, shared by all depths that are whole numbers of its loop's body. `relu` as in gemm_routine. in_place: it reads taps as
    they come instead of acts."""
    twice = numerics == "tflite"
    eights, half = divmod(depth, 8)
    bodies = [u for u in range(UNROLLED, 0, -1) if eights and eights % u == 0] or [0]
    if depth * channels < SMALL:
        bodies = [u for u in bodies if u <= FEW] + [u for u in bodies if u > FEW]
    kind, ending = "bytes" if in_place else "p8" if packed else "i16", ("_tflite" if twice else "") + ("_relu" if twice and relu else "")
    names = ["_".join(str(n) for n in (8 * u, 4 if half else 0) if n) for u in bodies]
    symbol, *others = (f"midge_dense_{kind}_{name}{ending}" for name, u in zip(names, bodies, strict=True) if u >= bodies[0])
    twin = f"midge_dense_{kind}_s8" + ("_tflite" if twice else "")
    lines = _lines(bodies[0], bool(half), packed, twice, twice and not relu, in_place)
    return Routine(symbol, twin, "dense_dsp", tuple(lines), STACK, others=tuple(others))


def _lines(body: int, half: bool, packed: bool, twice: bool, corrects: bool, in_place: bool) -> list[str]:
    """r0 acts, r1 stream, r2 out. Frame: end of the loop's acts, end of the stream, acts, out."""
    steps = _packed_steps if packed else _wide_steps
    lines = ["push {r4-r11, lr}", "sub sp, #16", "ldrd r4, r5, [r1], #8", "add r4, r4, r1", f"add r5, r0, r5{'' if in_place else ', lsl #1'}"]
    lines += [f"sub r5, r5, #{4 if in_place else 8}"] if half else []
    lines += ["strd r5, r4, [sp]", "strd r0, r2, [sp, #8]", "1:", "ldmia r1!, {r2-r5}"]
    if body:
        lines += ["2:"]
        for _ in range(body):
            lines += [*_acts(("r6", "r7", "r8", "r9"), in_place), *steps(("r6", "r7", "r8", "r9"))]
        lines += ["ldr r6, [sp]", "cmp r0, r6", "bne.w 2b"]
    lines += [*_acts(("r6", "r7"), in_place), *steps(("r6", "r7"))] if half else []
    if packed:
        lines += ["sub r3, r3, r2", "sub r5, r5, r4", "asr r3, r3, #7", "asr r5, r5, #7", "lsl r2, r2, #1", "lsl r4, r4, #1"]
    lines.append("ldrd r0, r12, [sp, #8]")
    for acc0, acc1 in (("r2", "r3"), ("r4", "r5")):
        lines.append("ldmia r1!, {r6-r11}")
        lines += finish(acc0, 6, "r12", twice, corrects) + finish(acc1, 9, "r12", twice, corrects)
    return [*lines, "ldr r6, [sp, #4]", "str r12, [sp, #12]", "cmp r1, r6", "bne.w 1b", "add sp, #16", "pop {r4-r11, pc}"]


def _acts(registers: tuple[str, ...], in_place: bool) -> list[str]:
    """Pairs of taps 0, 2 and 1, 3 of each four."""
    if not in_place:
        return [f"ldmia r0!, {{{', '.join(registers)}}}"]
    fours = list(zip(registers[0::2], registers[1::2], strict=True))
    lines = [f"ldr {even}, [r0], #4" for even, _ in fours]
    return [*lines, *(line for even, odd in fours for line in (f"sxtb16 {odd}, {even}, ror #8", f"sxtb16 {even}, {even}"))]


def _wide_steps(acts: tuple[str, ...]) -> list[str]:
    """r2 to r5 are the accumulators of the four channels."""
    lines = []
    for act in acts:
        lines.append("ldmia r1!, {r10-r12, lr}")
        lines += [f"smlad {acc}, {act}, {weight}, {acc}" for acc, weight in (("r2", "r10"), ("r3", "r11"), ("r4", "r12"), ("r5", "lr"))]
    return lines


def _packed_steps(acts: tuple[str, ...]) -> list[str]:
    """r3 and r5 take both channels of a lane, r2 and r4 the lower one."""
    lines = []
    for act0, act1 in zip(acts[0::2], acts[1::2], strict=True):
        lines.append("ldmia r1!, {r10-r12, lr}")
        for act, word0, word1 in ((act0, "r10", "r11"), (act1, "r12", "lr")):
            lines += [f"smlad r3, {act}, {word0}, r3", f"sxtb16 {word0}, {word0}", f"smlad r5, {act}, {word1}, r5", f"sxtb16 {word1}, {word1}"]
            lines += [f"smlad r2, {act}, {word0}, r2", f"smlad r4, {act}, {word1}, r4"]
    return lines
