# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolution on the M-profile vector extension: 16 channels of one pixel, each tap read through a pointer of its own.

VMULLB and VMULLT multiply 16 bytes by 16 weights into 16 bits; sums of products stay there while they fit (which the weights tell) and are then widened to
32 bits and added to the sums of the channels. The layout of the stream is in kernels/depthwise_mve.h.

Source: ARM DDI 0553, Armv8-M Architecture Reference Manual (VMULL, VMOVL, VQMOVN).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midge.ir import Array
from midge.microkernels.mve import SAVED, VECTOR, Requantization
from midge.program import Routine

WIDE, WIDEST, NARROW = 25, 49, 25  # taps at most, as in depthwise_mve.c
DIRECT = 9  # taps whose pointers stay in core registers; as DEPTHWISE_MVE_TAPS
LANES = np.array([4 * lane + phase for phase in (0, 2, 1, 3) for lane in range(4)])  # channel of a sum, as bytes widened twice fall
_FRAME = 24


def groups_of(weights: Array) -> tuple[int, ...]:
    """How many adjacent taps are summed in 16 bits at a time, longest runs first. weights: (C, taps)."""
    size = np.abs(weights.astype(np.int64))
    found, start = [], 0
    for end in range(1, size.shape[1] + 1):
        if end == size.shape[1] or (size[:, start : end + 1].sum(1) * 128).max(initial=0) > 32767:
            found.append(end - start)
            start = end
    return tuple(found)


def taps_stream(weights: Array, bias: Array, r: Requantization, skip: int) -> Array:
    """The int32 words that a routine walks, header included. weights: (C, taps); skip: bytes between pixels."""
    channels, count = weights.shape
    before, missing = groups_of(weights)[0], max(0, VECTOR - channels)
    weights, bias = np.pad(weights, [(0, missing), (0, 0)]), np.pad(bias, (0, missing))
    multiplier, shift = np.pad(r.multiplier, (0, missing)), np.pad(r.shift, (0, missing), constant_values=-1)
    words: list[Array] = []
    for c in range(0, channels, VECTOR):
        block = np.arange(VECTOR) + min(c, len(weights) - VECTOR)
        packed = np.ascontiguousarray(weights[block].astype(np.int8).T)
        lanes = block[LANES]
        words += [packed[:before].reshape(-1).view(np.int32), bias[lanes].astype(np.int32), packed[before:].reshape(-1).view(np.int32)]
        words.append(np.stack([multiplier[lanes].reshape(4, 4), shift[lanes].reshape(4, 4)], 1).reshape(-1).astype(np.int32))
    header = [channels, skip, count, before, r.zero_point, r.act_min, r.act_max, 0]
    return np.concatenate([np.array(header, np.int32), *words])


@dataclass(frozen=True)
class Walk:
    """How 16 bytes of a tap are read. direct: pointers in r0 to r8, moved on by each read; else r0 is the table of pointers and r4 what is added to them.
    short: fewer than 16 channels, the predicate lets that many through."""

    count: int
    channels: int

    @property
    def direct(self) -> bool:
        return self.count <= DIRECT

    @property
    def short(self) -> bool:
        return self.channels < VECTOR

    @property
    def step(self) -> int:
        return min(self.channels, VECTOR)

    @property
    def moving(self) -> list[str]:
        """Registers that move with the channels."""
        return [f"r{i}" for i in range(self.count)] if self.direct else ["r4"]

    def read(self, tap: int) -> list[str]:
        """Tap number `tap` into q6."""
        at = f"[r{tap}], #{self.step}" if self.direct else "[r3]"
        load = ["vpst", f"vldrbt.u8 q6, {at}"] if self.short else [f"vldrb.u8 q6, {at}"]
        return load if self.direct else [f"ldr r3, [r0, #{4 * tap}]", "add r3, r3, r4", *load]

    def end(self, skip: int) -> list[str]:
        """After a block of channels, and between pixels: r11 counts channels."""
        lines = [] if self.direct else [f"add r4, r4, #{self.step}"]
        lines += ["vpst", f"vstrbt.8 q0, [r10], #{self.step}"] if self.short else ["vstrb.8 q0, [r10], #16"]
        if self.channels > VECTOR and self.channels % VECTOR:
            back = [f"sub {r}, {r}, r11" for r in [*self.moving, "r10"]]
            lines += ["subs r11, #16", "cmp r11, #16", "bge.w 1b", "cmp r11, #0", "beq.w 3f", "rsb r11, r11, #16", *back, "mov r11, #16", "b.w 1b", "3:"]
        elif self.channels > VECTOR:
            lines += ["subs r11, #16", "bne.w 1b"]
        if skip:
            lines += ["ldr r11, [sp, #8]", *(f"add {r}, {r}, r11" for r in self.moving)]
        return lines


def taps_routine(weights: Array, r: Requantization, skip: int) -> Routine:
    """r0 taps, r1 stream, r2 out, r3 run. Then r0 to r8 are the taps, r9 the stream, r10 out, r11 channels left, r12 zero_point, lr pixels left.
    Frame: stream body, channels, skip, act_min, act_max, zero_point."""
    channels, count = weights.shape
    groups, walk = groups_of(weights), Walk(count, channels)
    lines = ["push {r4-r11, lr}", "vpush {d8-d15}", f"sub sp, #{_FRAME}", "ldrd r11, lr, [r3]", "mov r10, r2", "ldrd r4, r5, [r1]", "ldr r12, [r1, #16]"]
    lines += ["ldrd r6, r7, [r1, #20]", "adds r1, #32", "str r1, [sp]", "strd r4, r5, [sp, #4]", "strd r6, r7, [sp, #12]", "str r12, [sp, #20]"]
    lines += ["vctp.8 r4"] if walk.short else []
    pointers = ["mov r9, r0", "ldm r9, {" + ", ".join(walk.moving) + "}"] if count > 1 else ["ldr r0, [r0]"]
    lines += [*pointers, *(f"add {r}, {r}, r11" for r in walk.moving)] if walk.direct else ["mov r4, r11"]
    lines += ["0:", "ldrd r9, r11, [sp]", "1:", *_first_group(walk, groups[0])]
    tap = groups[0]
    for size in groups[1:]:
        lines += _later_group(walk, tap, size)
        tap += size
    lines += [*_requantize(r), *walk.end(skip), "subs lr, #1", "bne.w 0b", f"add sp, #{_FRAME}", "vpop {d8-d15}", "pop {r4-r11, pc}"]
    kind = f"_{channels}ch" if walk.short else "_ragged" if channels % VECTOR else "_even" if channels > VECTOR else ""
    name = f"midge_taps_mve_{'_'.join(map(str, groups))}{kind}" + ("_skip" if skip else "") + r.suffix
    return Routine(name, "midge_taps_mve_s8" + ("_tflite" if r.twice else ""), "depthwise_mve", tuple(lines), SAVED + _FRAME, "mve")


def _flush() -> list[str]:
    """Widen the 16-bit sums q4 (even channels) and q5 (odd ones) and add them to q0 to q3."""
    lines = []
    for q, low, high in (("q4", "q0", "q1"), ("q5", "q2", "q3")):
        lines += [f"vmovlb.s16 q6, {q}", f"vmovlt.s16 {q}, {q}", f"vadd.i32 {low}, {low}, q6", f"vadd.i32 {high}, {high}, {q}"]
    return lines


def _first_group(walk: Walk, size: int) -> list[str]:
    """q0 to q3 are free for weights until the biases are read."""
    lines = []
    for tap in range(size):
        if tap % 4 == 0:
            lines.append(f"vldmia r9!, {{d0-d{2 * min(4, size - tap) - 1}}}")
        weight = f"q{tap % 4}"
        lines += walk.read(tap)
        if tap == 0:
            lines += [f"vmullb.s8 q4, q6, {weight}", f"vmullt.s8 q5, q6, {weight}"]
        else:
            lines += [f"vmullb.s8 q7, q6, {weight}", f"vmullt.s8 q6, q6, {weight}", "vadd.i16 q4, q4, q7", "vadd.i16 q5, q5, q6"]
    return [*lines, "vldmia r9!, {d0-d7}", *_flush()]


def _later_group(walk: Walk, start: int, size: int) -> list[str]:
    """No register is free for a product, so it takes the place of the weights, which are read again."""
    lines = []
    for tap in range(start, start + size):
        lines += walk.read(tap)
        if tap == start:
            lines += ["vldrb.u8 q7, [r9], #16", "vmullb.s8 q4, q6, q7", "vmullt.s8 q5, q6, q7"]
        else:
            lines += ["vldrb.u8 q7, [r9]", "vmullb.s8 q7, q6, q7", "vadd.i16 q4, q4, q7"]
            lines += ["vldrb.u8 q7, [r9], #16", "vmullt.s8 q7, q6, q7", "vadd.i16 q5, q5, q7"]
    return lines + _flush()


def _requantize(r: Requantization) -> list[str]:
    """q0 to q3 become 16 bytes in q0."""
    lines = []
    for q, m, n in (("q0", "q4", "q5"), ("q1", "q6", "q7"), ("q2", "q4", "q5"), ("q3", "q6", "q7")):
        if r.corrects:
            m, n = "q4", "q5"
            lines.append("vldmia r9!, {d8-d11}")
        elif m == "q4":
            lines.append("vldmia r9!, {d8-d15}")
        lines.append(f"v{'qrdmulh' if r.twice else 'qdmulh'}.s32 {q}, {q}, {m}")
        lines += [f"vshr.s32 q6, {q}, #31", f"vadd.i32 {q}, {q}, q6"] if r.corrects else []
        lines.append(f"vrshl.s32 {q}, {q}, {n}")
    for low, high in (("q0", "q1"), ("q2", "q3")):
        lines += [f"vqmovnb.s32 {low}, {low}", f"vqmovnt.s32 {low}, {high}", f"vqadd.s16 {low}, {low}, r12"]
    lines += ["vqmovnb.s16 q0, q0", "vqmovnt.s16 q0, q2"]
    if r.clamps:
        for limit, word in (("vmax.s8", 12), ("vmin.s8", 16)):
            lines += [f"ldr r12, [sp, #{word}]", "vdup.8 q4, r12", f"{limit} q0, q0, q4"]
        lines.append("ldr r12, [sp, #20]")
    return lines
