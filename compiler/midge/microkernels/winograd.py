# SPDX-License-Identifier: Apache-2.0
"""Winograd's minimal filtering F(4x4, 3x3) and F(2x2, 3x3) in integers on the DSP extension: transformed weights, proofs, and the two routines.

The rows of G are scaled until they are integers, and the signs of B^T chosen so that its rows cost least; with w int8 and x + 128 in 0..255

    tile 4: |G w G^T| <= 6272, B^T x B in -12750..17340, sums 9 * 2**p * acc, 2 <= p <= 6
    tile 2: |G w G^T| <= 1152, B^T x B in -510..1020, sums 4 * acc

so both factors are int16. SMLAD wraps modulo 2**32, which leaves 2**p * acc exact after multiplication by the inverse of 9 if |acc| < 2**(31 - p).

The input transform of tile 4 keeps a pair of channels as one integer, a + 65536 * b, so that sums with shifted operands are single instructions modulo
2**32; adding 0x8000 first and flipping that bit last makes it two int16. Layouts of v and of the stream are in kernels/winograd_dsp.h.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midge.ir import Array
from midge.microkernels.gemm import Gemm
from midge.program import Routine

UNROLLED = 16  # groups of four channels in a loop body, at most
G = {
    2: np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]),
    4: np.array([[6, 0, 0], [-1, -1, -1], [-1, 1, -1], [1, 2, 4], [1, -2, 4], [0, 0, 6]]),
}
SAVED = 36  # bytes of nine registers


@dataclass(frozen=True)
class Winograd:
    """Integers of one 3x3 layer: weights OHWI, bias with the zero point folded in, and requantization per channel. `tile` is 2 or 4."""

    tile: int
    weights: Array
    bias: Array
    multiplier: Array
    shift: Array
    zero_point: int

    @property
    def channels(self) -> int:
        """Input channels, rounded up to four."""
        return -(-int(self.weights.shape[3]) // 4) * 4

    @property
    def v_nbytes(self) -> int:
        """Of the transformed input of two tiles."""
        return 4 * (self.tile + 2) ** 2 * self.channels

    def refuses(self) -> str:
        """Why the sums are not exact here, '' if they are."""
        rows = self.weights.reshape(len(self.weights), -1).astype(np.int64)
        reason = Gemm(rows, self.bias, self.multiplier, self.shift, self.zero_point).refuses()
        limit = 25 if self.tile == 4 else 29
        reach = 255 * np.maximum(np.maximum(rows, 0).sum(1), np.maximum(-rows, 0).sum(1))
        if not reason and reach.max(initial=0) >= 1 << limit:
            reason = f"a sum of products may reach {int(reach.max())}, 2**{limit} is too much"
        if not reason and np.abs(self.raised_bias).max(initial=0) >= 1 << 30:
            reason = f"a bias of {int(np.abs(self.raised_bias).max())} for inputs raised by 128, 2**30 is too much"
        return reason

    @property
    def raised_bias(self) -> Array:
        """bias - 128 * sum(weights): the inputs are raised by 128."""
        return np.asarray(self.bias - 128 * self.weights.astype(np.int64).sum((1, 2, 3)), np.int64)

    def stream(self) -> Array:
        """The int32 words that the routine walks, header included."""
        size, channels, odd = self.tile + 2, self.channels, len(self.weights) % 2
        weights = np.pad(self.weights.astype(np.int64), ((0, odd), (0, 0), (0, 0), (0, channels - self.weights.shape[3])))
        g = G[self.tile]
        u = np.einsum("ia,oabc,jb->ojic", g, weights, g)[:, :, [*range(1, size - 1), 0, size - 1]]
        if self.tile == 2:
            u[:, :, 3] *= -1  # y1 = m1 - m2 - m3: the routine only adds
        order = [k + i for k in range(0, channels, 4) for i in (0, 2, 1, 3)]
        words = (u[..., order[0::2]] & 0xFFFF) | ((u[..., order[1::2]] & 0xFFFF) << 16)
        pairs = words.reshape(-1, 2, size * size * channels // 2).transpose(0, 2, 1).reshape(len(words) // 2, -1)
        n = -self.shift.astype(np.int64)
        rounding = (np.int64(self.zero_point) << n) + (np.int64(1) << (n - 1))
        finish = np.pad(np.stack([2 * self.raised_bias, self.multiplier.astype(np.int64), rounding, n], 1), ((0, odd), (0, 0)), mode="edge")
        body = np.concatenate([pairs, finish.reshape(-1, 8)], 1).reshape(-1)
        return (np.concatenate([[4 * body.size, channels], body]) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def transform_routine(tile: int) -> Routine:
    """The input transform, for any number of channels."""
    name = f"midge_winograd{tile}_transform"
    return Routine(f"{name}_dsp", name, "winograd_dsp", tuple(_transform(tile)), SAVED + _transform_frame(tile))


def gemm_routine(tile: int, channels: int, relu: bool, numerics: str) -> Routine:
    """The sums over channels, the output transform and requantization. `relu`: the output's zero_point is -128, see gemm.gemm_routine."""
    twice = numerics == "tflite"
    twin = f"midge_winograd{tile}_gemm_s8" + ("_tflite" if twice else "")
    symbol = f"midge_winograd{tile}_gemm_{channels}" + ("_tflite" if twice else "") + ("_relu" if twice and relu else "")
    return Routine(symbol, twin, "winograd_dsp", tuple(_gemm(tile, channels, twice, twice and not relu)), SAVED + _gemm_frame(tile))


def _transform_frame(tile: int) -> int:
    """Six words, five saved values, and all columns transformed vertically."""
    return 48 + (2 * tile + 2) * 2 * (tile + 2) * 4


def _forward4() -> list[str]:
    """B^T d. In: d1, d2, d4, d0, d5, d3 in r2, r3, r5, r6, r7, r8. Out: rows 1, 2, 3, 4, 0, 5 in r2 to r7."""
    return [
        "sub r4, r5, r3, lsl #2",
        "sub r6, r6, r3",
        "sub r5, r5, r3",
        "sub r3, r8, r2, lsl #2",
        "sub r7, r7, r8",
        "sub r8, r8, r2",
        "add r2, r4, r3",
        "sub r3, r4, r3",
        "add r6, r5, r6, lsl #2",
        "sub r7, r7, r8, lsl #2",
        "add r4, r5, r8, lsl #1",
        "sub r5, r5, r8, lsl #1",
    ]


def _forward2() -> list[str]:
    """B^T d. In: d1, d2, d0, d3 in r2, r8, r4, r5. Out: rows 1, 2, 0, 3 in r2 to r5."""
    return ["ssub16 r4, r4, r8", "ssub16 r5, r2, r5", "ssub16 r3, r8, r2", "sadd16 r2, r2, r8"]


def _transform(tile: int) -> list[str]:
    """r0 columns, r1 channels, r2 v. Frame: a column's words; at 24 columns, channels, v, end of columns, channel; at 48 columns transformed vertically,
    each for channels 0, 2 and for channels 1, 3."""
    size, count, frame = tile + 2, 2 * tile + 2, _transform_frame(tile)
    regs = [f"r{2 + i}" for i in range(size)]
    listed, moved = f"{{r2-r{1 + size}}}", ("r4" if tile == 4 else "r3")  # the one that leaves its place to a temporary
    lines = ["push {r4-r11, lr}", f"sub sp, #{frame}", f"add r3, r0, #{8 * count}", "movs r4, #0", "strd r0, r1, [sp, #24]"]
    lines += ["strd r2, r3, [sp, #32]", "str r4, [sp, #40]", "1:", "ldr r0, [sp, #24]", "ldr lr, [sp, #36]", "ldr r11, [sp, #40]", "add r12, sp, #48"]
    lines += ["mov r1, #0x00800080", "2:", "ldrd r9, r10, [r0], #8", "add r10, r10, r11", f"ldmia r9, {listed}"]
    lines += [f"ldr {reg}, [{reg}, r10]" for reg in regs]
    for odd in (False, True):
        lines.append(f"{'ldmia' if odd else 'stmia'} sp, {listed}")
        lines += [f"sxtab16 {'r8' if reg == moved else reg}, r1, {reg}{', ror #8' if odd else ''}" for reg in regs]
        lines += [*(_forward4() if tile == 4 else _forward2()), f"stmia r12!, {listed}"]
    lines += ["cmp r0, lr", "bne 2b"]
    lines += ["ldrd r12, r9, [sp, #28]", "add r9, r9, r11, lsl #2", f"mov r11, #{4 * size}", "mul r11, r12, r11", "lsl r12, r12, #2", "add r0, sp, #48"]
    lines += [f"add lr, r0, #{8 * size}", "3:", "add r10, r9, r11, lsl #1", *(["add r10, r10, r11"] if tile == 4 else []), "4:"]
    for t in range(2):
        lines += _horizontal4(t) if tile == 4 else _horizontal2(t)
    lines += ["add r9, r9, r12", "add r10, r10, r12", "adds r0, r0, #4"]
    lines += [f"add r2, sp, #{48 + 4 * size}", "cmp r0, r2", "it ne", "cmpne r0, lr", "bne 4b"]
    lines += [f"sub r9, r9, r12, lsl #{2 if tile == 2 else 1}", *(["sub r9, r9, r12, lsl #2"] if tile == 4 else []), "add r9, r9, #8", "cmp r0, lr", "bne 3b"]
    lines += ["ldr r2, [sp, #28]", "ldr r11, [sp, #40]", "add r11, r11, #4", "str r11, [sp, #40]", "cmp r11, r2", "bne 1b"]
    return [*lines, f"add sp, #{frame}", "pop {r4-r11, pc}"]


def _horizontal4(t: int) -> list[str]:
    """One row of one tile: from r0, 48 bytes a column, to six places r11 bytes apart: three from r9, three from r10."""
    lines = [f"ldr {reg}, [r0, #{48 * (4 * t + x)}]" for x, reg in ((4, "r5"), (5, "r7"), (0, "r6"), (1, "r2"), (2, "r3"), (3, "r8"))]
    lines += ["add r5, r5, #0x8000", "add r7, r7, #0x8000", *_forward4(), *(f"eor r{i}, r{i}, #0x8000" for i in range(2, 8))]
    return lines + _places(t, ("r6", "r2", "r3"), ("r4", "r5", "r7"))


def _horizontal2(t: int) -> list[str]:
    """One row of one tile: from r0, 32 bytes a column, to four places r11 bytes apart: two from r9, two from r10."""
    lines = [f"ldr {reg}, [r0, #{32 * (2 * t + x)}]" for x, reg in ((0, "r4"), (1, "r2"), (2, "r8"), (3, "r5"))]
    return [*lines, *_forward2(), *_places(t, ("r4", "r2"), ("r3", "r5"))]


def _places(t: int, first: tuple[str, ...], second: tuple[str, ...]) -> list[str]:
    """Stores for tile t; r9 and r10 come back to tile 0."""
    steps = ("", ", r11", ", r11, lsl #1")
    stores = [f"str {reg}, [{base}{step}]" for base, regs in (("r9", first), ("r10", second)) for reg, step in zip(regs, steps, strict=False)]
    move = ["add r9, r9, #4", "add r10, r10, #4"] if t else []
    back = ["sub r9, r9, #4", "sub r10, r10, #4"] if t else []
    return [*move, *stores, *back]


def _gemm_frame(tile: int) -> int:
    return 96 + 4 * _lane(tile)


def _lane(tile: int) -> int:
    """Bytes of one channel and tile, transformed vertically: for each output row, the last first, its columns."""
    return 4 * tile * (tile + 2)


def _sums(channels: int, fresh: bool) -> list[str]:
    """r2 to r5 += or = products over channels; r0 walks v, r1 the stream. Clobbers r6 to r12 and lr."""
    steps = channels // 4
    body = max(u for u in range(1, min(steps, UNROLLED) + 1) if steps % u == 0)
    looped = body != steps
    lines: list[str] = []
    if looped:
        lines += [f"movw r6, #{4 * channels}", "add r6, r6, r0", "str r6, [sp, #88]", *((f"movs r{i}, #0" for i in range(2, 6)) if fresh else ()), "8:"]
    for step in range(body):
        lines += ["ldmia r0!, {r6-r9}", "ldmia r1!, {r10-r12, lr}"]
        starts = fresh and step == 0 and not looped
        for i, (act, weight) in enumerate((("r6", "r10"), ("r7", "r10"), ("r6", "r11"), ("r7", "r11"))):
            lines.append(f"smuad r{2 + i}, {act}, {weight}" if starts else f"smlad r{2 + i}, {act}, {weight}, r{2 + i}")
        lines += [f"smlad r{2 + i}, {act}, {weight}, r{2 + i}" for i, (act, weight) in enumerate((("r8", "r12"), ("r9", "r12"), ("r8", "lr"), ("r9", "lr")))]
    return [*lines, "ldr r6, [sp, #88]", "cmp r0, r6", "bne.w 8b"] if looped else lines


def _store(offset: int) -> list[str]:
    return [f"strd r2, r3, [sp, #{offset}]", f"strd r4, r5, [sp, #{offset + 8}]"]


def _load(offset: int) -> list[str]:
    return [f"ldrd r2, r3, [sp, #{offset}]", f"ldrd r4, r5, [sp, #{offset + 8}]"]


def _keep_row(tile: int, y: int) -> list[str]:
    """r2 to r5, output row y of the current column, to the four lanes; leaves the column's place in r12."""
    place = 4 * (tile + 2) * (tile - 1 - y)
    return ["ldr r12, [sp, #56]", *(f"str r{2 + lane}, [r12, #{lane * _lane(tile) + place}]" for lane in range(4))]


def _column4(channels: int) -> list[str]:
    """Six sums and the vertical output transform of one column. m1 and m1 + m2 are kept, m1 - m2 = 2 * m1 - (m1 + m2); likewise m3, m4."""
    lines = [*_sums(channels, True), "stmia sp, {r2-r5}", *_sums(channels, False), *_store(16)]
    lines += [*_sums(channels, True), *_store(32), *_sums(channels, False), "strd r0, r1, [sp, #48]", "ldmia sp, {r6-r12, lr}"]
    for lane, (first, both) in enumerate((("r6", "r10"), ("r7", "r11"), ("r8", "r12"), ("r9", "lr"))):
        total, place = f"r{2 + lane}", lane * _lane(4)
        lines += [f"ldr r0, [sp, #{32 + 4 * lane}]", f"rsb {first}, {both}, {first}, lsl #1", f"rsb r0, {total}, r0, lsl #1"]
        lines += [f"add r1, {total}, {both}", f"add {total}, {total}, {both}, lsl #2", *(["ldr r10, [sp, #56]"] if lane == 0 else [])]
        lines += [f"str r1, [r10, #{place + 24}]", f"add r1, r0, {first}, lsl #1", f"str r1, [r10, #{place + 48}]", f"add {first}, {first}, r0, lsl #1"]
    lines += ["strd r6, r7, [sp, #32]", "strd r8, r9, [sp, #40]", "ldrd r0, r1, [sp, #48]", *_sums(channels, False), *_keep_row(4, 0)]
    return [*lines, *_load(32), *_sums(channels, False), *_keep_row(4, 3)]


def _column2(channels: int) -> list[str]:
    """Four sums and the vertical output transform of one column; the weights of m3 are negated."""
    lines = [*_sums(channels, True), "stmia sp, {r2-r5}", *_sums(channels, False), "ldmia sp, {r6-r9}"]
    lines += [f"rsb r{6 + i}, r{2 + i}, r{6 + i}, lsl #1" for i in range(4)]
    lines += ["strd r6, r7, [sp, #32]", "strd r8, r9, [sp, #40]", *_sums(channels, False), *_keep_row(2, 0)]
    return [*lines, *_load(32), *_sums(channels, False), *_keep_row(2, 1)]


def _gemm(tile: int, channels: int, twice: bool, corrects: bool) -> list[str]:
    """r0 v, r1 stream, r2 out_rows, r3 out_step. Frame: twelve words of sums, v's and the stream's place, at 56 the column's place, v, end of the stream,
    out_step, at 72 four output rows, at 88 the end of a loop over channels; at 96 the lanes."""
    frame, lanes = _gemm_frame(tile), 96
    lines = ["push {r4-r11, lr}", f"sub sp, #{frame}", "ldr r4, [r1], #8", "add r4, r4, r1", "str r0, [sp, #60]", "strd r4, r3, [sp, #64]"]
    lines += ["ldmia r2, {r4-r7}" if tile == 4 else "ldmia r2, {r4-r5}", "strd r4, r5, [sp, #72]", *(["strd r6, r7, [sp, #80]"] if tile == 4 else [])]
    lines += ["1:", f"add r12, sp, #{lanes}", "str r12, [sp, #56]", "2:", *(_column4(channels) if tile == 4 else _column2(channels))]
    lines += ["add r12, r12, #4", "str r12, [sp, #56]", f"add r6, sp, #{lanes + 4 * (tile + 2)}", "cmp r12, r6", "bne.w 2b"]
    lines += ["str r1, [sp, #52]", f"add r0, sp, #{lanes}", "ldr r1, [sp, #68]", "movw lr, #36409", "movt lr, #14563"]
    lines += ["3:", "ldr r8, [sp, #52]", "ldmia r8!, {r9-r12}", "str r8, [sp, #52]"]
    for t in range(2):
        for y in reversed(range(tile)):
            lines += _row4(y, t, twice, corrects) if tile == 4 else _row2(y, t, twice, corrects)
    lines += ["ldrd r2, r3, [sp, #72]", "adds r2, #1", "adds r3, #1", "strd r2, r3, [sp, #72]"]
    if tile == 4:
        lines += ["ldrd r2, r3, [sp, #80]", "adds r2, #1", "adds r3, #1", "strd r2, r3, [sp, #80]"]
    lines += [f"add r8, sp, #{lanes + 4 * _lane(tile)}", "cmp r0, r8", "bne.w 3b", "ldr r1, [sp, #52]", "ldrd r0, r2, [sp, #60]", "cmp r1, r2", "bne.w 1b"]
    return [*lines, f"add sp, #{frame}", "pop {r4-r11, pc}"]


def _row4(y: int, t: int, twice: bool, corrects: bool) -> list[str]:
    """Four pixels of one channel: horizontal output transform, division by 9 * 2**(power - 1), requantization."""
    lines = ["ldmia r0!, {r2-r7}", "add r8, r3, r4", "sub r3, r3, r4", "add r4, r5, r6", "sub r5, r5, r6", "add r2, r2, r4", "add r2, r2, r8, lsl #2"]
    lines += ["add r4, r4, r8", "add r6, r5, r3, lsl #1", "add r7, r7, r3", "add r7, r7, r5, lsl #1", f"ldr r3, [sp, #{72 + 4 * y}]"]
    lines += ["add r3, r3, r1, lsl #2"] if t else []
    for x, (acc, address) in enumerate((("r2", "r3"), ("r6", "r3, r1"), ("r4", "r3, r1, lsl #1"), ("r7", "r3, r1, lsl #1"))):
        lines += ["add r3, r3, r1"] if x == 3 else []
        lines += [f"mul {acc}, {acc}, lr", *_finish(acc, 6 - min(y, 2) - min(x, 2), address, twice, corrects)]
    return lines


def _row2(y: int, t: int, twice: bool, corrects: bool) -> list[str]:
    """Two pixels of one channel."""
    lines = ["ldmia r0!, {r2-r5}", "add r2, r2, r3", "sub r3, r3, r4", "add r2, r2, r4", "sub r5, r3, r5", f"ldr r3, [sp, #{72 + 4 * y}]"]
    lines += ["add r3, r3, r1, lsl #1"] if t else []
    return [*lines, *_finish("r2", 2, "r3", twice, corrects), *_finish("r5", 2, "r3, r1", twice, corrects)]


def _finish(acc: str, power: int, address: str, twice: bool, corrects: bool) -> list[str]:
    """Requantize 2**power times the accumulator and store: r9 to r12 are 2 * bias, multiplier, C and n."""
    lines = [f"add {acc}, r9, {acc}, asr #{power - 1}", f"{'smmlar' if twice else 'smmla'} r8, {acc}, r10, r11"]
    if corrects:
        lines.append(f"add r8, r8, {acc}, asr #31")
    return [*lines, "asr r8, r8, r12", "ssat r8, #8, r8", f"strb r8, [{address}]"]
