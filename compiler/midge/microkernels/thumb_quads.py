# SPDX-License-Identifier: Apache-2.0
"""The inner loops that walk the streams of midge.microkernels.thumb: r0 acts, r1 stream, r2 the four outputs.

A byte of the stream is added to pc, so that a chunk of any length runs without a loop.

Source: ARM DDI 0403 and DDI 0419, the Armv7-M and Armv6-M Architecture Reference Manuals.
"""

from __future__ import annotations

from midge.microkernels.thumb import PAIRS, THUMB1, Form
from midge.program import Routine

STACK = {"thumb1": 64, "thumb2": 60}


def quads_routine(form: Form, split: tuple[int, ...], relu: bool, numerics: str) -> Routine:
    """The routine of a form; Thumb-1 cuts multipliers as `split` says. `relu`: the output's zero_point is -128, so the sign correction of double
    rounding only moves values that are clamped to -128 anyway."""
    twice = numerics == "tflite"
    kind = "t1" if form is THUMB1 else "t2"
    lines = _thumb1(split, twice and not relu) if form is THUMB1 else _thumb2(twice, twice and not relu)
    symbol = f"midge_quads_{kind}" + (f"_{len(split)}" if form is THUMB1 else "") + ("_tflite" if twice else "") + ("_relu" if twice and relu else "")
    twin = f"midge_quads_{kind}_s8" + ("_tflite" if twice else "")
    return Routine(symbol, twin, "conv2d_thumb", tuple(lines), STACK[form.feature], form.feature)


def _thumb2(twice: bool, corrects: bool) -> list[str]:
    """r7, r8 sums of a chunk; r9, r10 lower and upper sums of pixels 0 and 1, r11, r12 of 2 and 3; lr the record. Frame: the outputs, acts, the end."""
    lines = ["push {r4-r11, lr}", "sub sp, #24", "ldmia r2, {r3-r6}", "stmia sp, {r3-r6}", "ldr r4, [r1, #4]", "adds r1, #8", "add r4, r4, r1"]
    lines += ["str r0, [sp, #16]", "str r4, [sp, #20]", "1:", "mov lr, r1", "ldr r9, [r1], #4", "ldr r10, [r1], #16", "mov r11, r9", "mov r12, r10"]
    lines += ["mov.w r7, #0x8000", "mov.w r8, #0x8000", "2:", "ldrb r6, [r1], #1", "add pc, r6", "nop"]
    for _ in range(PAIRS):
        lines.append("ldmia.w r0!, {r2-r5}")
        for act0, act1 in (("r2", "r3"), ("r4", "r5")):
            lines += ["ldrsb r6, [r1], #1", f"mla r7, {act0}, r6, r7", f"mla r8, {act1}, r6, r8"]
    for total, lower, upper in (("r7", "r9", "r10"), ("r8", "r11", "r12")):
        lines += [f"add.w {lower}, {lower}, {total}", f"add.w {upper}, {upper}, {total}, asr #16", f"mov.w {total}, #0x8000"]
    lines += ["b.n 2b", "adds r1, #3", "bic r1, r1, #3", "add lr, lr, #8", "ldmia lr, {r2-r4}", "ldmia sp, {r0, r5-r7}"]
    for lower, upper in (("r9", "r10"), ("r11", "r12")):
        lines.append(f"sub {lower}, {lower}, {upper}, lsl #16")
    for acc, address in (("r9", "r0"), ("r10", "r5"), ("r11", "r6"), ("r12", "r7")):
        lines += finish2(acc, ("r2", "r3", "r4"), ("r8", "lr"), twice, corrects, [f"strb lr, [{address}], #1"])
    lines += ["stmia sp, {r0, r5-r7}", "ldrd r0, r2, [sp, #16]", "cmp r1, r2", "bne.w 1b"]
    return [*lines, "add sp, #24", "pop {r4-r11, pc}"]


def _thumb1(split: tuple[int, ...], corrects: bool) -> list[str]:
    """r8, r9 sums of a chunk; r10, r11 lower and upper sums of pixels 0 and 1, r12, lr of 2 and 3; r1 the record, r2 the place in it.
    Frame: the outputs, acts, the channel, how many there are."""
    lines = ["push {r4-r7, lr}", *(f"mov r{4 + i}, r{8 + i}" for i in range(4)), "push {r4-r7}", "sub sp, #28", "mov r7, sp"]
    lines += ["ldmia r2!, {r3-r6}", "stmia r7!, {r3-r6}", "movs r4, #0", "ldr r5, [r1]", "adds r1, #8", "str r0, [sp, #16]", "str r4, [sp, #20]"]
    lines += ["str r5, [sp, #24]", "1:", "ldr r0, [sp, #16]", "ldr r3, [r1]", "ldr r4, [r1, #4]", "mov r10, r3", "mov r12, r3", "mov r11, r4", "mov lr, r4"]
    start = ["movs r4, #128", "lsls r4, r4, #8", "mov r8, r4", "mov r9, r4"]
    lines += [*start, "movs r2, #24", "2:", "ldrb r7, [r1, r2]", "adds r2, #1", "add pc, r7", "nop"]
    for _ in range(PAIRS):
        lines.append("ldmia r0!, {r3-r6}")
        for act0, act1 in (("r3", "r4"), ("r5", "r6")):
            lines += ["ldrsb r7, [r1, r2]", "adds r2, #1", f"muls {act0}, r7", f"add r8, {act0}", f"muls {act1}, r7", f"add r9, {act1}"]
    for total, lower, upper in (("r8", "r10", "r11"), ("r9", "r12", "lr")):
        lines += [f"add {lower}, {total}", f"mov r3, {total}", "asrs r3, r3, #16", f"add {upper}, r3"]
    lines += [*start, "b 2b", "ldrh r2, [r1, #20]", "ldr r5, [r1, #8]", "ldr r4, [sp, #20]"]
    for index, (lower, upper) in enumerate((("r10", "r11"), ("", "r11"), ("r12", "lr"), ("", "lr"))):
        lines += [f"mov r6, {lower}", f"mov r7, {upper}", "lsls r7, r7, #16", "subs r6, r6, r7"] if lower else [f"mov r6, {upper}"]
        lines += finish1(index, 12, split, corrects, ("r0", "r7", "r2", "r5"), [f"ldr r3, [sp, #{4 * index}]", "strb r7, [r3, r4]"])
    lines += ["adds r4, #1", "str r4, [sp, #20]", "ldrh r3, [r1, #22]", "adds r1, r1, r3", "ldr r3, [sp, #24]", "cmp r4, r3", "beq 3f", "b 1b"]
    for index in range(4):
        lines += [f"{20 + index}:", "asrs r7, r0, #31", "movs r3, #127", "eors r7, r3", f"b {10 + index}b"]
    return [*lines, "3:", "add sp, #28", "pop {r4-r7}", *(f"mov r{8 + i}, r{4 + i}" for i in range(4)), "pop {r4-r7, pc}"]


def finish2(acc: str, constants: tuple[str, str, str], pair: tuple[str, str], twice: bool, corrects: bool, store: list[str]) -> list[str]:
    """Requantize `acc` by multiplier, C and n in the register that is the second of `pair`, and store it."""
    low, high = pair
    multiplier, rounding, n = constants
    lines = [f"lsl {acc}, {acc}, #1", f"mov {low}, #{'0x80000000' if twice else 0}"]
    if corrects:
        lines.append(f"add {high}, {rounding}, {acc}, asr #31")
    elif high != rounding:
        lines.append(f"mov {high}, {rounding}")
    return [*lines, f"smlal {low}, {high}, {acc}, {multiplier}", f"asr {high}, {high}, {n}", f"ssat {high}, #8, {high}", *store]


def finish1(index: int, at: int, split: tuple[int, ...], corrects: bool, registers: tuple[str, str, str, str], store: list[str]) -> list[str]:
    """Requantize r6 by the pieces at [r1, #at] and store it; registers: the value, the limited value, the shift, C. What saturates goes to
    label 20 + index and comes back to 10 + index."""
    value, limited, shift, rounding = registers
    lines = [f"ldrh {value}, [r1, #{at}]", f"muls {value}, r6", f"asrs {value}, {value}, #{split[0]}"]
    for piece in range(1, len(split)):
        lines += [f"ldrh {limited}, [r1, #{at + 2 * piece}]", f"muls {limited}, r6", f"adds {value}, {value}, {limited}"]
        if piece + 1 < len(split):
            lines.append(f"asrs {value}, {value}, #{split[piece]}")
    if corrects:
        lines += ["asrs r6, r6, #31", f"lsls r6, r6, #{split[-1]}", f"adds {value}, {value}, r6"]
    lines += [f"adds {value}, {value}, {rounding}", f"asrs {value}, {shift}", f"sxtb {limited}, {value}", f"cmp {limited}, {value}"]
    return [*lines, f"bne {20 + index}f", f"{10 + index}:", *store]
