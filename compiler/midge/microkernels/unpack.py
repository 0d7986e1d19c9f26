# SPDX-License-Identifier: Apache-2.0
"""Bytes of two pixels to pairs of int16, as midge.microkernels.gemm reads them. The layout is in kernels/conv2d_dsp.h, where the twins are.

Source: ARM DDI 0403, Armv7-M Architecture Reference Manual (SXTB16; LDR takes any address, LDM multiples of four).
"""

from __future__ import annotations

from midge.program import Routine

UNROLLED = 12  # groups of four taps of one run that a routine spells out, at most
SPELLED = 24  # groups of all runs together, beyond that there is a loop over runs


def unpack_routine(kernel_height: int, run: int, aligned: bool) -> Routine:
    """Windows of kernel_height runs of `run` bytes. r0 first_rows, r1 second_rows, r2 acts, r3 first_offset; the second offset is on the stack.
    `aligned` runs are read by twos of words. Frame: end of first_rows, end of a run."""
    fours, left = divmod(run, 4)
    if kernel_height == 1 and fours:
        return _one_run(aligned)
    looped = not left and kernel_height > 1 and kernel_height * min(fours, UNROLLED) > SPELLED
    lines = ["push {r4-r11, lr}", "sub sp, #8"]
    if looped:
        lines += [f"add r4, r0, #{4 * kernel_height}", "str r4, [sp]"]
    for ky in range(1 if looped else kernel_height):
        lines += ["1:", "ldr r4, [r0], #4", "ldr r5, [r1], #4", "ldr lr, [sp, #44]", "add r4, r4, r3", "add r5, r5, lr"]
        lines += _run(fours, aligned)
        lines += _add("lr", "r2", 16 * (kernel_height - ky - 1) * fours) if left else []
        for k in range(left):
            place = _place(ky * left + k)
            lines += [f"ldrsb r6, [r4, #{k}]", f"ldrsb r7, [r5, #{k}]", f"strh r6, [lr, #{place}]", f"strh r7, [lr, #{place + 4}]"]
    lines += ["ldr lr, [sp]", "cmp r0, lr", "bne.w 1b"] if looped else []
    symbol = f"midge_unpack_{kernel_height}x{run}{'' if aligned else '_any'}"
    return Routine(symbol, "midge_unpack_s8", "conv2d_dsp", (*lines, "add sp, #8", "pop {r4-r11, pc}"), 44)


def _one_run(aligned: bool) -> Routine:
    """Windows of one run of any length from four bytes on. r0 and r1 walk the pixels, r3 is the number of taps left, less those of a round. What is
    left at the end is the upper part of the last word."""
    lines = ["push {r4-r11, lr}", "ldr r0, [r0]", "ldr r1, [r1]", "ldrd r4, r5, [sp, #36]", "add r0, r0, r3", "add r1, r1, r4"]
    lines += ["ldr r3, [r5, #4]", "ldr r4, [r5, #24]", "mul r3, r3, r4", "subs r3, r3, #8", "blt.n 2f"]
    lines += ["1:", *_groups(2, aligned, "r0", "r1"), "subs r3, r3, #8", "bge.n 1b", "2:"]
    lines += ["tst r3, #4", "beq.n 4f", *_groups(1, False, "r0", "r1"), "4:"]
    if not aligned:
        lines += ["ands r3, r3, #3", "beq.n 5f", "add r0, r0, r3", "add r1, r1, r3", "ldr r10, [r0, #-4]", "ldr r11, [r1, #-4]"]
        lines += ["rsb r3, r3, #4", "lsl r3, r3, #3", "lsr r10, r10, r3", "lsr r11, r11, r3", *_four("r10", "r11"), "5:"]
    return Routine(f"midge_unpack_1xn{'' if aligned else '_any'}", "midge_unpack_s8", "conv2d_dsp", (*lines, "pop {r4-r11, pc}"), 36)


def _run(fours: int, aligned: bool) -> list[str]:
    """One run, r4 and r5 pointing to it."""
    rounds = -(-fours // UNROLLED)
    if rounds < 2:
        return _groups(fours, aligned)
    body, tail = fours // rounds, fours % rounds
    return [
        *_add("lr", "r4", 4 * body * rounds),
        "str lr, [sp, #4]",
        "2:",
        *_groups(body, aligned),
        "ldr lr, [sp, #4]",
        "cmp r4, lr",
        "bne.w 2b",
        *_groups(tail, aligned),
    ]


def _groups(count: int, aligned: bool, first: str = "r4", second: str = "r5") -> list[str]:
    """So many times four taps of each pixel."""
    lines = []
    for _ in range(count // 2 if aligned else 0):
        lines += [f"ldmia {first}!, {{r10, r11}}", f"ldmia {second}!, {{r12, lr}}", *_four("r10", "r12"), *_four("r11", "lr")]
    for _ in range(count % 2 if aligned else count):
        lines += [f"ldr r10, [{first}], #4", f"ldr r11, [{second}], #4", *_four("r10", "r11")]
    return lines


def _four(word0: str, word1: str) -> list[str]:
    lines = [f"sxtb16 r6, {word0}", f"sxtb16 r7, {word1}", f"sxtb16 r8, {word0}, ror #8", f"sxtb16 r9, {word1}, ror #8"]
    return [*lines, "stmia r2!, {r6-r9}"]


def _add(register: str, base: str, value: int) -> list[str]:
    """register = base + value, below 2**16."""
    return [f"addw {register}, {base}, #{value}"] if value < 4096 else [f"movw {register}, #{value}", f"add {register}, {register}, {base}"]


def _place(tap: int) -> int:
    """Bytes from the first act to tap `tap` of pixel 0."""
    return tap // 4 * 16 + (tap & 1) * 8 + (tap & 2)


def window_order(kernel_height: int, run: int) -> list[int]:
    """Taps in the order that the window routine gives them."""
    fours = run // 4 * 4
    whole = [ky * run + i for ky in range(kernel_height) for i in range(fours)]
    return whole + [ky * run + i for ky in range(kernel_height) for i in range(fours, run)]
