# SPDX-License-Identifier: Apache-2.0
"""GEMM on the M-profile vector extension: two pixels by four channels, or one pixel by eight, 16 taps an instruction (VMLADAVA).

Eight sums live in the even core registers, the only ones VMLADAVA adds to. Requantization is vectorized over channels and exact for shifts of
-1 and less:

- `onnx` rounds once: VQDMULH gives floor(acc * m / 2**31), VRSHL floor((that + 2**(n - 1)) / 2**n). Floors of integers nest, so that is
  floor(acc * m / 2**(31 + n) + 1/2).
- `tflite`: VQRDMULH is gemmlowp's high_mul; VRSHL of a negative number less 1 rounds ties away from zero. The output's zero_point being -128, the
  correction only moves values that are clamped to -128 anyway.

The layout of the stream is in kernels/conv2d_mve.h.

Source: ARM DDI 0553, Armv8-M Architecture Reference Manual (VMLADAV, VQDMULH, VQRDMULH, VRSHL, VQMOVN, VCTP).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midge.ir import Array
from midge.program import Routine

VECTOR = 16  # bytes
UNROLLED = 9  # steps in a loop body, at most
EVEN = ("r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr")
SAVED = 100  # bytes: nine core registers and d8 to d15


@dataclass(frozen=True)
class Requantization:
    """Integers of the channels of one layer: `reach` bounds the sums, bias included."""

    reach: Array
    multiplier: Array
    shift: Array
    zero_point: int
    act_min: int
    act_max: int
    numerics: str

    def refuses(self) -> str:
        """Why the vector form is not exact here, '' if it is."""
        if (self.shift > -1).any():
            return f"channel {int(np.argmax(self.shift > -1))} is not shifted right"
        if self.reach.max(initial=0) >= 1 << 31:
            return f"an accumulator may reach {int(self.reach.max())}, which does not fit in 32 bits"
        return ""

    @property
    def twice(self) -> bool:
        return self.numerics == "tflite"

    @property
    def corrects(self) -> bool:
        """Whether negative values need their ties moved."""
        return self.twice and self.zero_point != -128

    @property
    def clamps(self) -> bool:
        """Whether the output is limited to less than int8."""
        return (self.act_min, self.act_max) != (-128, 127)

    @property
    def wide(self) -> bool:
        """Whether a scaled sum may leave 16 bits."""
        most = self.reach.astype(np.float64) * self.multiplier / 2.0**31 / 2.0 ** -self.shift.astype(np.float64)
        return bool(most.max(initial=0.0) >= 32000)

    @property
    def suffix(self) -> str:
        """What names a routine after what it does to sums."""
        flags = (("tflite", self.twice), ("fix", self.corrects), ("wide", self.wide and not self.clamps), ("clamp", self.clamps))
        return "".join(f"_{name}" for name, is_set in flags if is_set)

    def lines(self, values: tuple[str, ...], multipliers: tuple[str, ...], shifts: tuple[str, ...]) -> list[str]:
        """int32 vectors of sums become values of the output, in the low byte of each lane. r11: zero_point, r0 and r2: the limits; multipliers are spent."""
        lines = [f"v{'qrdmulh' if self.twice else 'qdmulh'}.s32 {q}, {q}, {m}" for q, m in zip(values, multipliers, strict=True)]
        if self.corrects:
            spare = multipliers[0]
            lines += [line for q in values for line in (f"vshr.s32 {spare}, {q}, #31", f"vadd.i32 {q}, {q}, {spare}")]
        lines += [f"vrshl.s32 {q}, {q}, {n}" for q, n in zip(values, shifts, strict=True)]
        lines += [f"vadd.i32 {q}, {q}, r11" for q in values]
        for q in values:
            if self.clamps:
                lines += [f"vpt.s32 lt, {q}, r0", f"vdupt.32 {q}, r0", f"vpt.s32 gt, {q}, r2", f"vdupt.32 {q}, r2"]
            else:
                lines += [f"vqmovnb.s32 {q}, {q}"] * self.wide + [f"vqmovnb.s16 {q}, {q}"]
        return lines


@dataclass(frozen=True)
class Taps:
    """How the `depth` taps of a pixel are read: `mode` is `aligned` (to 4 bytes) or `bytes`. The first step takes what is no multiple of 16 and no
    more."""

    depth: int
    mode: str

    @property
    def steps(self) -> int:
        return -(-self.depth // VECTOR)

    @property
    def first(self) -> int:
        return self.depth - VECTOR * (self.steps - 1)

    def arrange(self, weights: Array) -> Array:
        """(O, K) -> (O, steps, 16) int8, zeros after the taps of the first step."""
        padded = np.zeros((len(weights), self.steps * VECTOR), np.int8)
        padded[:, : self.first] = weights[:, : self.first]
        padded[:, VECTOR:] = weights[:, self.first :]
        return padded.reshape(len(weights), self.steps, VECTOR)


def gemm_stream(taps: Taps, weights: Array, bias: Array, requantization: Requantization, width: int) -> Array:
    """The int32 words that a routine of `width` channels side by side walks, header included. weights: (O, K)."""
    channels, missing = len(weights), -len(weights) % width
    arranged = np.pad(taps.arrange(weights), [(0, missing), (0, 0), (0, 0)])
    biases = np.pad(bias.astype(np.int64), (0, missing)).astype(np.int32)
    multiplier = np.pad(requantization.multiplier, (0, missing)).astype(np.int32)
    shift = np.pad(requantization.shift, (0, missing), constant_values=-1).astype(np.int32)
    words: list[Array] = []
    for c in range(0, len(arranged), width):
        group = slice(c, c + width)
        words += [np.tile(biases[group], 8 // width), np.ascontiguousarray(arranged[group].transpose(1, 0, 2)).reshape(-1).view(np.int32)]
        words += [multiplier[group], shift[group]]
    body = np.concatenate(words)
    r = requantization
    header = [4 * len(body), taps.steps, taps.first, VECTOR, r.zero_point, r.act_min, r.act_max, channels]
    return np.concatenate([np.array(header, np.int32), body])


def _plan(steps: int) -> tuple[int, int, int]:
    """(steps before the loop, steps in its body, turns), with the shortest code."""
    if steps <= UNROLLED:
        return steps, 0, 0
    body = min(range(UNROLLED // 2, UNROLLED + 1), key=lambda u: (steps % u, -u))
    return steps % body, body, steps // body


def _loads(mode: str, count: int, base: int = 4) -> tuple[list[str], list[tuple[int, int]]]:
    """Read 16 taps of both pixels `count` (1 or 2) times into registers from q`base` on; (instructions, pairs of registers)."""
    d = 2 * base
    pairs = [(base + i, base + count + i) for i in range(count)]
    if mode == "aligned":
        return [f"vldmia r3!, {{d{d}-d{d + 2 * count - 1}}}", f"vldmia r9!, {{d{d + 2 * count}-d{d + 4 * count - 1}}}"], pairs
    return [f"vldrb.u8 q{q}, [{r}], #16" for pair in pairs for q, r in zip(pair, ("r3", "r9"), strict=True)], pairs


def _first(taps: Taps, registers: tuple[str, ...], base: int = 4) -> list[str]:
    """Read the taps of a short first step, zeros after them."""
    loads = [f"vldrbt.u8 q{base + i}, [{r}], #{taps.first}" for i, r in enumerate(registers)]
    return [f"movs r0, #{taps.first}", "vctp.8 r0", "vps" + "t" * len(registers), *loads]


def _products(pair: tuple[int, int]) -> list[str]:
    """Four channels of two pixels."""
    lines = ["vldmia r1!, {d0-d7}"]
    return lines + [f"vmladava.s8 {EVEN[4 * p + c]}, q{c}, q{q}" for p, q in enumerate(pair) for c in range(4)]


def _pairs_of_steps(mode: str, count: int) -> list[str]:
    lines: list[str] = []
    for step in range(0, count, 2):
        loads, pairs = _loads(mode, min(2, count - step))
        lines += loads + [line for pair in pairs for line in _products(pair)]
    return lines


def constant(register: str, value: int) -> list[str]:
    """Any 32-bit constant."""
    high = [f"movt {register}, #{value >> 16 & 0xFFFF}"] if value >> 16 & 0xFFFF else []
    return [f"movw {register}, #{value & 0xFFFF}", *high]


def loop(taps: Taps, steps: int, body: int, turns: int, lines: list[str], end: str) -> list[str]:
    """Repeat `lines` until r3 has passed `turns` times `body` steps; `end` is a register for where that is."""
    if not turns:
        return []
    return [*constant(end, turns * body * VECTOR), f"add {end}, {end}, r3", "2:", *lines, f"cmp r3, {end}", "bne.w 2b"]


# Words of the frame: x of both pixels, pairs left, x_step, stream body and end, bytes from the outputs' ends to the next pair's, channels left, zero_point,
# act_min, act_max, channels.
_FRAME = 48


def gemm_routine(taps: Taps, channels: int, r: Requantization) -> Routine:
    """Two pixels by four channels. r1 stream, r3 and r9 taps, r7 and r5 out, r11 zero_point."""
    ragged, odd, resident = channels % 4 != 0, taps.first < VECTOR, taps.steps <= 2
    hoisted = resident and odd and not ragged and not r.clamps  # nothing else sets the predicate
    acts: list[str] = []
    group = ["ldmia r1!, {" + ", ".join(EVEN) + "}"]
    if resident:
        loads, pairs = _loads(taps.mode, taps.steps - odd, 6 if odd else 4) if taps.steps > odd else ([], [])
        acts = [*(_first(taps, ("r3", "r9"))[2 * hoisted :] if odd else []), *loads, "ldr r9, [sp, #20]"]
        group += [line for pair in [(4, 5)] * odd + pairs for line in _products(pair)]
    else:
        before, body, turns = _plan(taps.steps - odd)
        group = [*(_first(taps, ("r3", "r9")) if odd else []), *group, *(_products((4, 5)) if odd else []), *_pairs_of_steps(taps.mode, before)]
        group += loop(taps, before, body, turns, _pairs_of_steps(taps.mode, body), "r11")
        group += ["ldr r11, [sp, #32]"] if turns else []
    group += ["vldmia r1!, {d4-d7}", "vmov q0[2], q0[0], r0, r4", "vmov q0[3], q0[1], r2, r6"]
    group += ["vmov q1[2], q1[0], r8, r12", "vmov q1[3], q1[1], r10, lr"]
    group += ["ldrd r0, r2, [sp, #36]"] if r.clamps else []
    group += r.lines(("q0", "q1"), ("q2", "q2"), ("q3", "q3"))
    if ragged:
        group += ["ldr r0, [sp, #28]", "vctp.32 r0", "vpstt", "vstrbt.32 q0, [r7], #4", "vstrbt.32 q1, [r5], #4", "subs r0, #4", "str r0, [sp, #28]"]
    else:
        group += ["vstrb.32 q0, [r7], #4", "vstrb.32 q1, [r5], #4"]
    group += ["cmp r1, r9"] if resident else ["ldrd r3, r9, [sp]", "ldr r0, [sp, #20]", "cmp r1, r0"]
    lines = [*_gemm_prologue(), *(_first(taps, ())[:2] if hoisted else []), "0:", *(["ldr r0, [sp, #44]", "str r0, [sp, #28]"] if ragged else []), *acts]
    lines += ["1:", *group, "bne.w 1b", *_gemm_epilogue()]
    name = f"midge_gemm_mve_{taps.depth}_{taps.mode}" + ("_ragged" if ragged else "") + r.suffix
    return Routine(name, "midge_gemm_mve_s8" + ("_tflite" if r.twice else ""), "conv2d_mve", tuple(lines), SAVED + _FRAME, "mve")


def _gemm_prologue() -> list[str]:
    """r0 x, r1 stream, r2 out, r3 run."""
    lines = ["push {r4-r11, lr}", "vpush {d8-d15}", f"sub sp, #{_FRAME}", "ldm r3, {r4-r8}", "mov r3, r0", "add r9, r0, r4", "strd r3, r9, [sp]"]
    lines += ["strd r8, r5, [sp, #8]", "ldr r8, [r1]", "ldr r11, [r1, #16]", "ldrd r4, r5, [r1, #20]", "ldr r10, [r1, #28]", "adds r1, #32", "add r8, r8, r1"]
    lines += ["strd r1, r8, [sp, #16]", "strd r11, r4, [sp, #32]", "strd r5, r10, [sp, #40]", "adds r4, r10, #3", "bic r4, r4, #3", "subs r4, r7, r4"]
    return [*lines, "str r4, [sp, #24]", "mov r7, r2", "adds r5, r6, r2"]


def _gemm_epilogue() -> list[str]:
    """On to the next two pixels."""
    lines = ["ldrd r0, r6, [sp, #8]", "subs r0, #1", "beq.n 9f", "str r0, [sp, #8]", "ldrd r3, r9, [sp]", "ldr r8, [sp, #24]", "ldr r1, [sp, #16]"]
    lines += ["add r3, r3, r6", "add r9, r9, r6", "strd r3, r9, [sp]", "add r7, r7, r8", "add r5, r5, r8", "b.w 0b"]
    return [*lines, "9:", f"add sp, #{_FRAME}", "vpop {d8-d15}", "pop {r4-r11, pc}"]


def dense_routine(taps: Taps, channels: int, r: Requantization) -> Routine:
    """One pixel by eight channels. Frame: x, act_min, act_max, channels left."""
    ragged, odd = channels % 8 != 0, taps.first < VECTOR
    before, body, turns = _plan(taps.steps - odd)
    lines = ["push {r4-r11, lr}", "vpush {d8-d15}", "sub sp, #16", "ldr r7, [r1]", "ldr r11, [r1, #16]", "ldrd r4, r5, [r1, #20]", "ldr r6, [r1, #28]"]
    lines += ["str r0, [sp]", "strd r4, r5, [sp, #4]", "str r6, [sp, #12]", "adds r1, #32", "add r7, r7, r1", "mov r5, r2", "1:", "ldr r3, [sp]"]
    lines += _first(taps, ("r3",)) if odd else []
    lines += ["ldmia r1!, {" + ", ".join(EVEN) + "}", *(_eight(4) if odd else []), *_dense_steps(taps, before)]
    lines += loop(taps, before, body, turns, _dense_steps(taps, body), "r9")
    lines += ["vldmia r1!, {d4-d11}", "vmov q0[2], q0[0], r0, r4", "vmov q0[3], q0[1], r2, r6"]
    lines += ["vmov q1[2], q1[0], r8, r12", "vmov q1[3], q1[1], r10, lr", *(["ldrd r0, r2, [sp, #4]"] if r.clamps else [])]
    lines += r.lines(("q0", "q1"), ("q2", "q3"), ("q4", "q5"))
    if ragged:
        lines += ["ldr r0, [sp, #12]", "vctp.32 r0", "vpst", "vstrbt.32 q0, [r5], #4", "subs r0, #4", "it mi", "movmi r0, #0", "vctp.32 r0"]
        lines += ["vpst", "vstrbt.32 q1, [r5], #4", "subs r0, #4", "str r0, [sp, #12]"]
    else:
        lines += ["vstrb.32 q0, [r5], #4", "vstrb.32 q1, [r5], #4"]
    lines += ["cmp r1, r7", "bne.w 1b", "add sp, #16", "vpop {d8-d15}", "pop {r4-r11, pc}"]
    name = f"midge_dense_mve_{taps.depth}_{taps.mode}" + ("_ragged" if ragged else "") + r.suffix
    return Routine(name, "midge_dense_mve_s8" + ("_tflite" if r.twice else ""), "conv2d_mve", tuple(lines), SAVED + 16, "mve")


def _eight(q: int) -> list[str]:
    """Eight channels of one pixel."""
    return [line for half in (0, 4) for line in ("vldmia r1!, {d0-d7}", *(f"vmladava.s8 {EVEN[half + c]}, q{c}, q{q}" for c in range(4)))]


def _dense_steps(taps: Taps, count: int) -> list[str]:
    lines: list[str] = []
    for step in range(0, count, 4):
        n = min(4, count - step)
        lines += [f"vldmia r3!, {{d8-d{7 + 2 * n}}}"] if taps.mode == "aligned" else [f"vldrb.u8 q{4 + i}, [r3], #16" for i in range(n)]
        lines += [line for i in range(n) for line in _eight(4 + i)]
    return lines
