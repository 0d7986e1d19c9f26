# SPDX-License-Identifier: Apache-2.0
"""GEMM of two pixels by two channels on the DSP extension, for one depth: what convolution, pointwise and dense layers are made of.

Two weight formats. `i16`: one 16-bit lane a weight, doubled. `p8`: a lane holds 256 * w1 + w0, the weights of two channels, at one byte a weight: SMLAD
of it gives 256 * D1 + D0, one SXTB16 yields w0 and so D0, and D1 is the shifted difference. Exact if |D1| < 2**23 and no lane overflows, which is
checked here on the actual weights. The layout of the stream is in kernels/conv2d_dsp.h.

Source: ARM DDI 0403, Armv7-M Architecture Reference Manual (SMLAD, SMMLA, SMMLAR, SXTB16, SSAT).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from midge.fixedpoint import requantize
from midge.ir import Array
from midge.program import Routine

UNROLLED = 24  # groups of four taps in a loop body, at most
LADDERS = (4, 8, 16, 24)  # groups of four taps that a routine spells out, of which lesser depths run the last ones
TOTAL = 12  # the shift that all channels of a layer share where scaled accumulators allow it
STACK = 64  # nine registers and seven words


@dataclass(frozen=True)
class Gemm:
    """Integers of one layer: weights (O, K) as they are walked, bias with the zero point folded in, and requantization per channel."""

    weights: Array
    bias: Array
    multiplier: Array
    shift: Array
    zero_point: int

    @property
    def depth(self) -> int:
        """Taps, rounded up to four."""
        return -(-int(self.weights.shape[1]) // 4) * 4

    def settled(self, numerics: str) -> Gemm:
        """The same outputs, with nothing left of channels that are constant: no weights, and a bias that leaves room for every bound below."""
        weights = self.weights.astype(np.int64)
        low = self.bias + np.minimum(-128 * weights, 127 * weights).sum(1)
        high = self.bias + np.maximum(-128 * weights, 127 * weights).sum(1)
        least, most = (np.clip(requantize(acc, self.multiplier, self.shift, numerics) + self.zero_point, -128, 127) for acc in (low, high))
        constant = (least == most) & (np.maximum(np.abs(low), np.abs(high)) < 1 << 31)
        return replace(
            self,
            weights=np.where(constant[:, None], 0, self.weights),
            bias=np.where(constant, 4 * (least - self.zero_point), self.bias),
            multiplier=np.where(constant, 1 << 30, self.multiplier),  # with a shift of -1: a quarter
            shift=np.where(constant, -1, self.shift),
        )

    def reordered(self, taps: list[int]) -> Gemm:
        """With the taps in another order."""
        return replace(self, weights=self.weights[:, taps])

    def refuses(self) -> str:
        """Why requantization in three instructions is not exact here, '' if it is."""
        if (self.shift > -1).any():
            return f"channel {int(np.argmax(self.shift > -1))} is not shifted right"
        reach = np.abs(self.bias) + 128 * np.abs(self.weights.astype(np.int64)).sum(1)
        if reach.max(initial=0) >= 1 << 30:
            return f"an accumulator may reach {int(reach.max())}, 2**30 is too much"
        n = -self.shift.astype(np.int64)
        if (reach + (abs(self.zero_point) << n) + (np.int64(1) << (n - 1)) + 1).max(initial=0) >= 1 << 31:
            return "the output's zero point, shifted, does not fit beside the accumulator"
        return ""

    def suits(self, total: int, numerics: str) -> bool:
        """Whether sums scaled by 2**s, s = total + 1 + shift for each channel, leave a shift of `total` to all channels, exactly.

        Double rounding, floor((floor(acc * m / 2**31 + 1/2) + 2**(n - 1)) / 2**n), is a single division whose constant has both halves. Of negative
        sums it takes 1 before the division, which only matters if the output may be negative.
        """
        twice = numerics == "tflite"
        gemm = self.sharing(total, numerics)
        scale = total + 1 + gemm.shift.astype(np.int64)
        reach = np.abs(gemm.bias) + 128 * np.abs(gemm.weights.astype(np.int64)).sum(1)
        least = 2 if twice else 1  # so that half a unit of the first rounding is a whole number
        return bool((not twice or self.zero_point == -128) and (scale >= least).all() and (scale <= 8).all() and (reach << scale < 1 << 31).all())

    def sharing(self, total: int, numerics: str) -> Gemm:
        """The same outputs, channels without weights shifted as suits `total` best: their value times a power of two is their bias."""
        n, constant = total - 7, ~self.weights.any(1)
        value = np.clip(requantize(self.bias, self.multiplier, self.shift, numerics), -128 - self.zero_point, 127 - self.zero_point)
        return replace(
            self,
            bias=np.where(constant, value << (n + 1), self.bias),
            multiplier=np.where(constant, 1 << 30, self.multiplier),
            shift=np.where(constant, -n, self.shift),
        )

    def ending(self, total: int, numerics: str) -> tuple[Array, Array]:
        """(scale, C) of each channel: the accumulator times 2**scale, times the multiplier, plus C is shifted by `total`; if 0 by n = -shift."""
        n = -self.shift.astype(np.int64)
        if not total:
            return np.ones_like(n), (np.int64(self.zero_point) << n) + (np.int64(1) << (n - 1))
        scale = total + 1 - n
        half = np.int64(1) << (scale - 2) if numerics == "tflite" else np.zeros_like(n)
        return scale, (np.int64(self.zero_point) << total) + (np.int64(1) << (total - 1)) + half

    def refuses_packing(self) -> str:
        """Why two weights do not share a lane, '' if they do."""
        paired = self.paired()
        weights, bias = paired.weights.astype(np.int64), paired.bias
        low, high = weights[0::2], weights[1::2]
        if ((high == -128) & (low < 0)).any():
            return "a weight of -128 stands over a negative one"
        reach = np.abs(bias[1::2]) + 128 * np.abs(high).sum(1)
        if reach.max(initial=0) >= 1 << 23:
            return f"an accumulator may reach {int(reach.max())}, 2**23 is too much for packed weights"
        if (np.abs(bias[0::2]) + 128 * np.abs(low).sum(1)).max(initial=0) >= 1 << 30:
            return "the lower accumulator may pass 2**30"
        return ""

    def paired(self) -> Gemm:
        """The same channels in pairs: an odd last one comes second in its pair, after one without weights."""
        if len(self.weights) % 2 == 0:
            return self

        def filled(data: Array, fill: int) -> Array:
            return np.insert(data, len(data) - 1, fill, axis=0)

        return Gemm(filled(self.weights, 0), filled(self.bias, 0), filled(self.multiplier, 0), filled(self.shift, -5), self.zero_point)

    def streams(self, packed: bool, numerics: str, pitch: int) -> tuple[Array, Array]:
        """The int32 words that the routine walks, headers included: of all pairs of channels, and of the last pair alone if the number of channels is odd;
        `pitch` bytes are between the outputs of a pixel's channels."""
        total = self.total(numerics)
        gemm = (self.sharing(total, numerics) if total else self).paired()
        weights = np.zeros((len(gemm.weights), self.depth), np.int64)
        weights[:, : gemm.weights.shape[1]] = gemm.weights
        weights, bias = weights[:, interleaved(self.depth)], gemm.bias.astype(np.int64)
        scale, rounding = gemm.ending(total, numerics)
        last = np.where(np.arange(len(scale)) % 2, 8 - scale, scale) if total and packed else -gemm.shift
        requantize = np.stack([gemm.multiplier.astype(np.int64), rounding, last.astype(np.int64)], 1)
        words: list[Array] = []
        for c in range(0, len(weights), 2):
            if packed:
                biases = np.array([bias[c], bias[c], 256 * bias[c + 1] + bias[c], 256 * bias[c + 1] + bias[c]])
                lanes = pairs(256 * weights[c + 1] + weights[c])
            else:
                scaled = weights[c : c + 2] << scale[c : c + 2, None]
                biases, lanes = np.repeat(bias[c : c + 2] << scale[c : c + 2], 2), np.stack([pairs(scaled[0]), pairs(scaled[1])], 1).reshape(-1)
            words.append(np.concatenate([biases, lanes, requantize[c : c + 2].reshape(-1)]))
        return framed(words, len(self.weights) % 2, [self.depth, pitch, total, pitch])

    def total(self, numerics: str) -> int:
        """The shift that all channels share, 0 if they do not."""
        return TOTAL if self.suits(TOTAL, numerics) else 0


def framed(words: list[Array], odd: int, header: list[int]) -> tuple[Array, Array]:
    """Streams of pairs of channels, as Gemm.streams has them: the bytes after it and `header`, then the words of each. In an odd last pair the step, the
    header's second number, is 0: the first output is where the second goes, which comes later."""
    depth, step, *rest = header
    last = np.concatenate([[4 * len(words[-1]), depth, 0, *rest], words[-1]])
    body = np.concatenate([*words[: len(words) - odd], np.zeros(0, np.int64)])
    every = np.concatenate([[4 * len(body), depth, step, *rest], body])
    return int32_words(every if len(body) else last), int32_words(last if odd else every)


def interleaved(depth: int) -> list[int]:
    """Taps in the order their pairs are multiplied: 0, 2, 1, 3, 4, 6, 5, 7..."""
    return [k + i for k in range(0, depth, 4) for i in (0, 2, 1, 3)]


def pairs(values: Array) -> Array:
    """Two int16 a word, the first in the low half."""
    return (values[0::2] & 0xFFFF) | ((values[1::2] & 0xFFFF) << 16)


def int32_words(words: Array) -> Array:
    return (words.astype(np.int64) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def unrolled(steps: int) -> tuple[int, int]:
    """(steps in the loop's body, steps after the loop): as few rounds as UNROLLED allows, or one more if that leaves nothing after it."""
    rounds = -(-steps // UNROLLED)
    rounds += steps % rounds > 0 and steps % (rounds + 1) == 0
    return steps // rounds, steps % rounds


def gemm_routine(depth: int, packed: bool, relu: bool, total: int, numerics: str) -> Routine:
    """The routine for `depth` taps. Depths below that of a ladder share it, entering where it has as many steps left; beyond the longest ladder those
    with the same body of a loop share it, the number of rounds comes from the stream. Longer ladders and bodies may stand in. `relu`: the output's
    zero_point is -128, so the sign correction of double rounding only moves values that are clamped to -128 anyway. `total`: the shift that all channels
    share."""
    kind, twice = "p8" if packed else "i16", numerics == "tflite"
    steps = depth // 4
    looped = steps > LADDERS[-1]
    body, tail = unrolled(steps) if looped else (next(n for n in LADDERS if n >= steps), steps % 2 if packed else 0)
    ending = f"_shift{total}" if total else ("_tflite" if twice else "") + ("_relu" if twice and relu else "")
    longer = [n for n in range(UNROLLED, body, -1) if ((steps - tail) % n == 0 if looped else n in LADDERS)]
    symbol, *others = (f"midge_gemm_{kind}_{4 * n}{'n' if looped else ''}{f'_{4 * tail}' if tail else ''}{ending}" for n in (body, *longer))
    twin = f"midge_gemm_{kind}_s8" + ("_tflite" if twice else "")
    lines = _lines(body, tail, looped, packed, _finish(packed, total, twice, twice and not relu))
    return Routine(symbol, twin, "conv2d_dsp", tuple(lines), STACK, others=tuple(others))


def _lines(body: int, tail: int, looped: bool, packed: bool, finished: list[str]) -> list[str]:
    """r0 acts, r1 stream, r2 and r3 the outputs of both pixels. Frame: bytes to the next channel, to the other pixel, to the other pixel's next channel;
    output, end of the stream, acts, end of the loop's acts or the ladder's entry."""
    steps = _packed_steps if packed else _wide_steps
    lines = ["push {r4-r11, lr}", "sub sp, #28", "ldmia r1!, {r4-r8}", "add r4, r4, r1", "sub r3, r3, r2", "add r8, r3, r6", "strd r6, r3, [sp]"]
    lines += ["strd r8, r2, [sp, #8]", "strd r4, r0, [sp, #16]"]
    if looped:
        lines += ["add r5, r0, r5, lsl #2", *([f"sub r5, r5, #{16 * tail}"] if tail else []), "str r5, [sp, #24]"]
        lines += ["1:", "ldmia r1!, {r2-r5}", "2:", *steps(body), "ldr r6, [sp, #24]", "cmp r0, r6", "bne.w 2b", *steps(tail)]
    else:
        lines = [".p2align 2", *lines, *_entry(tail, packed), "1:", "ldmia r1!, {r2-r5}", "ldr pc, [sp, #24]", *steps(body), "3:", *steps(tail)]
    lines += finished
    return [*lines, "ldrd r6, r0, [sp, #16]", "cmp r1, r6", "bne.w 1b", "add sp, #28", "pop {r4-r11, pc}"]


def _finish(packed: bool, total: int, twice: bool, corrects: bool) -> list[str]:
    """Both outputs of two channels: channel 0 of both pixels in r2, r3, channel 1 in r4, r5."""
    lines = ["sub r4, r4, r2", "sub r5, r5, r3"] if packed else []
    if packed and not total:
        lines += ["asr r4, r4, #7", "asr r5, r5, #7", "lsl r2, r2, #1", "lsl r3, r3, #1"]
    lines += ["ldmia r1!, {r6-r11}"]
    if packed and total:
        lines += ["lsl r2, r2, r8", "lsl r3, r3, r8", "asr r4, r4, r11", "asr r5, r5, r11"]
    return [*lines, *requantized(total, twice, corrects)]


def requantized(total: int, twice: bool, corrects: bool) -> list[str]:
    """Scaled sums in r2 to r5 to outputs, stored; the constants are in r6 to r11, and the frame is that of _lines."""
    lines = []
    for acc, k in (("r2", 6), ("r3", 6), ("r4", 9), ("r5", 9)):
        if corrects:
            lines += [f"smmlar lr, {acc}, r{k}, r{k + 1}", f"add {acc}, lr, {acc}, asr #31"]
        else:
            lines.append(f"{'smmlar' if twice and not total else 'smmla'} {acc}, {acc}, r{k}, r{k + 1}")
        lines += [f"ssat {acc}, #8, {acc}, asr #{total}"] if total else [f"asr {acc}, {acc}, r{k + 2}", f"ssat {acc}, #8, {acc}"]
    lines += ["ldmia sp, {r6-r8, r12}", "strb r2, [r12]", "strb r3, [r12, r7]", "strb r4, [r12, r6]", "strb r5, [r12, r8]"]
    return [*lines, "add r12, r12, r6, lsl #1", "str r12, [sp, #12]"]


def _entry(tail: int, packed: bool) -> list[str]:
    """Where a ladder is entered for the depth in r5: every instruction of it is 4 bytes, a step 10 of them, two packed steps 23. Bit 0 is for Thumb."""
    if packed:
        size = [*([f"sub r5, r5, #{4 * tail}"] if tail else []), "mov r6, #23", "mul r5, r5, r6", "lsr r5, r5, #1"]
    else:
        size = ["add r5, r5, r5, lsl #2", "lsl r5, r5, #1"]
    return [*size, "adr.w r6, 3f", "sub r6, r6, r5", "add r6, r6, #1", "str r6, [sp, #24]"]


def _wide_steps(count: int) -> list[str]:
    lines = []
    for _ in range(count):
        lines += ["ldmia r0!, {r6-r9}", "ldmia r1!, {r10-r12, lr}"]
        for act0, act1, weight0, weight1 in (("r6", "r7", "r10", "r11"), ("r8", "r9", "r12", "lr")):
            lines += [f"smlad r2, {act0}, {weight0}, r2", f"smlad r3, {act1}, {weight0}, r3"]
            lines += [f"smlad r4, {act0}, {weight1}, r4", f"smlad r5, {act1}, {weight1}, r5"]
    return lines


def _packed_steps(count: int) -> list[str]:
    lines = []
    for step in range(0, count, 2):
        registers = ["r10", "r11", "r12", "lr"][: 4 if step + 1 < count else 2]
        lines.append(f"ldmia r1!, {{{', '.join(registers)}}}")
        for weight0, weight1 in zip(registers[0::2], registers[1::2], strict=True):
            lines.append("ldmia r0!, {r6-r9}")
            for act0, act1, weight in (("r6", "r7", weight0), ("r8", "r9", weight1)):
                lines += [f"smlad r4, {act0}, {weight}, r4", f"smlad r5, {act1}, {weight}, r5", f"sxtb16 {weight}, {weight}"]
                lines += [f"smlad r2, {act0}, {weight}, r2", f"smlad r3, {act1}, {weight}, r3"]
    return lines


def finish(acc: str, constants: int, address: str, twice: bool, corrects: bool) -> list[str]:
    """Requantize, store and advance: multiplier, C and n are in three registers from r`constants` on."""
    multiplier, rounding, n = f"r{constants}", f"r{constants + 1}", f"r{constants + 2}"
    lines = [f"{'smmlar' if twice else 'smmla'} lr, {acc}, {multiplier}, {rounding}"]
    if corrects:
        lines.append(f"add lr, lr, {acc}, asr #31")
    return [*lines, f"asr lr, lr, {n}", "ssat lr, #8, lr", f"strb lr, [{address}], #1"]
