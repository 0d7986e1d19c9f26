# SPDX-License-Identifier: Apache-2.0
"""Routines of Winograd's minimal filtering on the DSP extension: the input transform, and products with output transform and requantization.

The input transform of winograd4 keeps a pair of channels as one integer, a + 65536 * b, so that sums with shifted operands are single instructions
modulo 2**32; adding 0x8000 first and flipping that bit last makes it two int16. The others add and subtract pairs of int16.

Source: ARM DDI 0403, Armv7-M Architecture Reference Manual (SMLAD, SMMLA, SMMLAR, SXTAB16, SADD16, SSUB16, SSAT).
"""

from __future__ import annotations

from midge.microkernels.winograd import F2, F4, HALF, Form
from midge.program import Routine

UNROLLED = 16  # groups of four channels in a loop body, at most
SAVED = 36  # bytes of nine registers
FORWARD, PRODUCTS = 48, 96  # bytes of the frames of both routines


def transform_routine(form: Form) -> Routine:
    """The input transform, for any number of channels."""
    name = f"midge_{form.name}_transform"
    return Routine(f"{name}_dsp", name, "winograd_dsp", tuple(_transform(form)), SAVED + FORWARD)


def gemm_routine(form: Form, channels: int, relu: bool, numerics: str) -> Routine:
    """The sums over channels, the output transform and requantization. `relu`: the output's zero_point is -128, see gemm.gemm_routine."""
    twice = numerics == "tflite"
    twin = f"midge_{form.name}_gemm_s8" + ("_tflite" if twice else "")
    symbol = f"midge_{form.name}_gemm_{channels}" + ("_tflite" if twice else "") + ("_relu" if twice and relu else "")
    return Routine(symbol, twin, "winograd_dsp", tuple(_gemm(form, channels, twice, twice and not relu)), SAVED + PRODUCTS)


def _forward(form: Form) -> list[str]:
    """B^T d. In: d1, d2, d3, d4, d0, d5 in r2, r3, r8, r5, r6, r7; d1, d2, d0, d3 in r2, r8, r4, r5; d2, d0, d1, d4, d3 in r2 to r6. Out: the rows in
    the form's order from r2 on."""
    if form is HALF:
        return ["ssub16 r3, r3, r2", "ssub16 r5, r5, r2"]
    if form is F2:
        return ["ssub16 r4, r4, r8", "ssub16 r5, r2, r5", "ssub16 r3, r8, r2", "sadd16 r2, r2, r8"]
    lines = ["sub r4, r5, r3, lsl #2", "sub r6, r6, r3", "sub r5, r5, r3", "sub r3, r8, r2, lsl #2", "sub r7, r7, r8", "sub r8, r8, r2"]
    lines += ["add r2, r4, r3", "sub r3, r4, r3", "add r6, r5, r6, lsl #2", "sub r7, r7, r8, lsl #2"]
    return [*lines, "add r4, r5, r8, lsl #1", "sub r5, r5, r8, lsl #1"]


MOVED = {F4: "r4", F2: "r3", HALF: ""}  # a row that leaves its register to a temporary and goes to r8


def _transform(form: Form) -> list[str]:
    """r0 rows, r1 channels, r2 the work space. Frame: a column's words; at 24 rows, channels, v, end of the places, channel, places. The columns transformed
    vertically are behind the places, each for channels 0, 2 and for channels 1, 3."""
    regs, listed = [f"r{2 + i}" for i in range(form.size)], f"{{r2-r{1 + form.size}}}"
    lines = ["push {r4-r11, lr}", f"sub sp, #{FORWARD}", "strd r0, r1, [sp, #24]", "movs r4, #0", "strd r4, r2, [sp, #40]"]
    lines += [f"add r3, r2, #{8 * form.columns}", f"add r2, r2, #{4 * form.room}", "strd r2, r3, [sp, #32]"]
    lines += ["1:", "ldr r12, [sp, #36]", "ldrd r11, r0, [sp, #40]", "mov lr, r12", "mov r1, #0x00800080"]
    lines += ["2:", "ldrd r9, r10, [r0], #8", "ldr r2, [sp, #24]", "add r9, r2, r9, lsl #2", "add r10, r10, r11", f"ldmia r9, {listed}"]
    lines += [f"ldr {reg}, [{reg}, r10]" for reg in regs]
    for odd in (False, True):
        lines.append(f"{'ldmia' if odd else 'stmia'} sp, {listed}")
        lines += [f"sxtab16 {'r8' if reg == MOVED[form] else reg}, r1, {reg}{', ror #8' if odd else ''}" for reg in regs]
        lines += [*_forward(form), f"stmia r12!, {listed}"]
    lines += ["cmp r0, lr", "bne.w 2b", *_horizontal(form)]
    lines += ["ldr r2, [sp, #28]", "ldr r11, [sp, #40]", "adds r11, #4", "str r11, [sp, #40]", "cmp r11, r2", "bne.w 1b"]
    return [*lines, f"add sp, #{FORWARD}", "pop {r4-r11, pc}"]


def _horizontal(form: Form) -> list[str]:
    """All rows of both tiles, for four channels. Columns are kept from r0 on; of the places of a row, which are r11 bytes apart, r9 points to the
    first and r10 to the middle one; r12 leads from tile 1 to the next row."""
    size = form.size
    lines = ["ldrd r12, r9, [sp, #28]", "add r9, r9, r11, lsl #2", f"mov r11, #{4 * size}", "mul r11, r12, r11", "lsl r12, r12, #2", "sub r12, r12, #4"]
    lines += ["ldr r0, [sp, #36]", f"add lr, r0, #{4 * size}", "3:", "add r10, r9, r11, lsl #1", *(["add r10, r10, r11"] if size > 4 else []), "4:"]
    for tile in range(2):
        lines += _row(form, tile)
    lines += ["add r9, r9, r12", "add r10, r10, r12", "adds r0, #4", "cmp r0, lr", "bne 4b"]
    lines += [f"mov r2, #{size}", "mul r2, r2, r12", "sub r9, r9, r2", f"sub r9, r9, #{4 * size - 8}"]
    return [*lines, f"add lr, lr, #{4 * size}", "ldr r2, [sp, #36]", f"add r2, r2, #{12 * size}", "cmp lr, r2", "bne 3b"]


def _row(form: Form, tile: int) -> list[str]:
    """One row of one tile, whose columns are in the order of _forward's inputs."""
    columns = {F4: {4: 5, 5: 7, 0: 6, 1: 2, 2: 3, 3: 8}, F2: {0: 4, 1: 2, 2: 8, 3: 5}, HALF: {2: 2, 0: 3, 1: 4, 4: 5, 3: 6}}[form]
    lines = [f"ldr r{reg}, [r0, #{8 * form.size * (form.step * tile + x)}]" for x, reg in columns.items()]
    if form is F4:
        lines += ["add r5, r5, #0x8000", "add r7, r7, #0x8000", *_forward(form), *(f"eor r{i}, r{i}, #0x8000" for i in range(2, 8))]
    else:
        lines += _forward(form)
    places = sorted(range(form.size), key=lambda slot: form.order[slot])
    half = 3 if form.size > 4 else 2
    steps = ("", ", r11", ", r11, lsl #1")
    lines += ["add r9, r9, #4", "add r10, r10, #4"] if tile else []
    return lines + [f"str r{2 + slot}, [{'r9' if x < half else 'r10'}{steps[x % half]}]" for x, slot in enumerate(places)]


def _lane(form: Form) -> int:
    """Bytes of one channel and tile, transformed vertically: for each output row, the last first, its columns."""
    return 4 * form.tile * form.size


def _sums(channels: int, fresh: bool) -> list[str]:
    """r2 to r5 += or = products over channels; r0 walks v, r1 the stream. Clobbers r6 to r12 and lr."""
    rounds = -(-channels // (4 * UNROLLED))
    body, tail = channels // 4 // rounds, channels // 4 % rounds
    if rounds == 1:
        return _steps(body, fresh)
    lines = [f"movw r6, #{16 * body * rounds}", "add r6, r6, r0", "str r6, [sp, #88]", *((f"movs r{i}, #0" for i in range(2, 6)) if fresh else ()), "8:"]
    return [*lines, *_steps(body, False), "ldr r6, [sp, #88]", "cmp r0, r6", "bne.w 8b", *_steps(tail, False)]


def _steps(count: int, fresh: bool) -> list[str]:
    """Four channels a step."""
    lines: list[str] = []
    for step in range(count):
        lines += ["ldmia r0!, {r6-r9}", "ldmia r1!, {r10-r12, lr}"]
        for i, (act, weight) in enumerate((("r6", "r10"), ("r7", "r10"), ("r6", "r11"), ("r7", "r11"))):
            lines.append(f"smuad r{2 + i}, {act}, {weight}" if fresh and step == 0 else f"smlad r{2 + i}, {act}, {weight}, r{2 + i}")
        lines += [f"smlad r{2 + i}, {act}, {weight}, r{2 + i}" for i, (act, weight) in enumerate((("r8", "r12"), ("r9", "r12"), ("r8", "lr"), ("r9", "lr")))]
    return lines


def _store(offset: int, first: int = 2) -> list[str]:
    return [f"strd r{first}, r{first + 1}, [sp, #{offset}]", f"strd r{first + 2}, r{first + 3}, [sp, #{offset + 8}]"]


def _load(offset: int) -> list[str]:
    return [f"ldrd r2, r3, [sp, #{offset}]", f"ldrd r4, r5, [sp, #{offset + 8}]"]


def _keep_row(form: Form, y: int) -> list[str]:
    """r2 to r5, output row y of the current column, to the four lanes; leaves the column's place in r12."""
    place = 4 * form.size * (form.tile - 1 - y)
    return ["ldr r12, [sp, #56]", *(f"str r{2 + lane}, [r12, #{lane * _lane(form) + place}]" for lane in range(4))]


def _column(form: Form, channels: int) -> list[str]:
    """The sums of one column and their vertical output transform. m1 and m1 + m2 are kept, m1 - m2 = 2 * m1 - (m1 + m2); likewise m3, m4."""
    fresh, more = _sums(channels, True), _sums(channels, False)
    if form is HALF:
        return [*fresh, "stmia sp, {r2-r5}", *more, *more, *_keep_row(form, 0), "ldmia sp, {r2-r5}", *more, *more, *_keep_row(form, 1)]
    if form is F2:
        lines = [*fresh, "stmia sp, {r2-r5}", *more, "ldmia sp, {r6-r9}", *(f"rsb r{6 + i}, r{2 + i}, r{6 + i}, lsl #1" for i in range(4))]
        return [*lines, *_store(32, 6), *more, *_keep_row(form, 0), *_load(32), *more, *_keep_row(form, 1)]
    lines = [*fresh, "stmia sp, {r2-r5}", *more, *_store(16), *fresh, *_store(32), *more, "strd r0, r1, [sp, #48]", "ldmia sp, {r6-r12, lr}"]
    for lane, (first, both) in enumerate((("r6", "r10"), ("r7", "r11"), ("r8", "r12"), ("r9", "lr"))):
        total, place = f"r{2 + lane}", lane * _lane(form)
        lines += [f"ldr r0, [sp, #{32 + 4 * lane}]", f"rsb {first}, {both}, {first}, lsl #1", f"rsb r0, {total}, r0, lsl #1"]
        lines += [f"add r1, {total}, {both}", f"add {total}, {total}, {both}, lsl #2", *(["ldr r10, [sp, #56]"] if lane == 0 else [])]
        lines += [f"str r1, [r10, #{place + 24}]", f"add r1, r0, {first}, lsl #1", f"str r1, [r10, #{place + 48}]", f"add {first}, {first}, r0, lsl #1"]
    return [*lines, *_store(32, 6), "ldrd r0, r1, [sp, #48]", *more, *_keep_row(form, 0), *_load(32), *more, *_keep_row(form, 3)]


def _gemm(form: Form, channels: int, twice: bool, corrects: bool) -> list[str]:
    """r0 the work space, of which the first words hold columns, r1 stream, r2 out_rows, r3 out_step. Frame: twelve words of sums, v's and the stream's
    place, at 56 the column's place, columns, end of the stream, out_step, at 72 output rows, at 88 the end of a loop over channels."""
    rows = range(72, 72 + 4 * form.tile, 8)
    lines = ["push {r4-r11, lr}", f"sub sp, #{PRODUCTS}", "ldr r4, [r1], #8", "add r4, r4, r1", "str r0, [sp, #60]", "strd r4, r3, [sp, #64]"]
    for i, place in enumerate(rows):
        lines += [f"ldrd r4, r5, [r2, #{8 * i}]", f"strd r4, r5, [sp, #{place}]"]
    lines += ["1:", "ldr r12, [sp, #60]", f"add r0, r12, #{4 * form.room}", "str r12, [sp, #56]", "2:", *_column(form, channels)]
    lines += ["ldr r6, [sp, #60]", "adds r12, #4", "str r12, [sp, #56]", f"add r6, r6, #{4 * form.size}", "cmp r12, r6", "bne.w 2b"]
    lines += ["str r1, [sp, #52]", "ldr r0, [sp, #60]", "ldr r1, [sp, #68]", *(["movw lr, #36409", "movt lr, #14563"] if form is F4 else [])]
    lines += ["3:", "ldr r8, [sp, #52]", "ldmia r8!, {r9-r12}", "str r8, [sp, #52]"]
    for tile in range(2):
        for y in reversed(range(form.tile)):
            lines += _finish_row(form, y, tile, twice, corrects)
    for place in rows:
        lines += [f"ldrd r2, r3, [sp, #{place}]", "adds r2, #1", "adds r3, #1", f"strd r2, r3, [sp, #{place}]"]
    lines += ["ldr r8, [sp, #60]", f"add r8, r8, #{4 * _lane(form)}", "cmp r0, r8", "bne.w 3b"]
    return [*lines, "ldr r1, [sp, #52]", "ldr r2, [sp, #64]", "cmp r1, r2", "bne.w 1b", f"add sp, #{PRODUCTS}", "pop {r4-r11, pc}"]


def _finish_row(form: Form, y: int, tile: int, twice: bool, corrects: bool) -> list[str]:
    """A row of pixels of one channel: horizontal output transform, division by 9, requantization. r1 is out_step, r9 to r12 the channel's constants."""
    sums: tuple[str, ...]
    if form is HALF:
        lines, sums = ["ldmia r0!, {r2-r6}", "add r2, r2, r3", "add r5, r5, r4", "add r2, r2, r4", "add r5, r5, r6"], ("r2", "r5")
    elif form is F2:
        lines, sums = ["ldmia r0!, {r2-r5}", "add r2, r2, r3", "sub r3, r3, r4", "add r2, r2, r4", "add r5, r5, r3"], ("r2", "r5")
    else:
        lines = ["ldmia r0!, {r2-r7}", "add r8, r3, r4", "sub r3, r3, r4", "add r4, r5, r6", "sub r5, r5, r6", "add r2, r2, r4", "add r2, r2, r8, lsl #2"]
        lines += ["add r4, r4, r8", "add r6, r5, r3, lsl #1", "add r7, r7, r3", "add r7, r7, r5, lsl #1"]
        sums = ("r2", "r6", "r4", "r7")
    lines += [f"ldr r3, [sp, #{72 + 4 * y}]", *([f"add r3, r3, r1, lsl #{form.tile // 2}"] if tile else [])]
    for x, acc in enumerate(sums):
        power = {F4: 6 - min(y, 2) - min(x, 2), F2: 2, HALF: 1}[form]
        lines += [f"mul {acc}, {acc}, lr"] if form is F4 else []
        lines += ["add r3, r3, r1"] if x == 3 else []
        lines += [f"add {acc}, r9, {acc}" + (f", asr #{power - 1}" if power > 1 else ""), f"{'smmlar' if twice else 'smmla'} r8, {acc}, r10, r11"]
        lines += [f"add r8, r8, {acc}, asr #31"] if corrects else []
        lines += ["asr r8, r8, r12", "ssat r8, #8, r8", f"strb r8, [r3{('', ', r1', ', r1, lsl #1', ', r1, lsl #1')[x]}]"]
    return lines
