# SPDX-License-Identifier: Apache-2.0
"""Depthwise 3x3 on the DSP extension: rows to planar int16 pairs, then blocks of two output rows by two output columns of one channel.

A block reads each word of its input once: a word holds two adjacent pixels, which SMLAD meets with two taps and SMLABT, SMLATB with one. Six
multiply instructions make an output, whatever the alignment. The layouts of strip and stream are in kernels/depthwise_dsp.h, where the twins are.

Source: ARM DDI 0403, Armv7-M Architecture Reference Manual (SMLAD, SMLABT, SMMLA, SMMLAR, SXTB16, PKHBT, SSAT).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midge.ir import Array
from midge.microkernels.gemm import Gemm
from midge.program import Routine

ROWS, IN_ROWS = 16, 18  # of one call, at most; as in depthwise_dsp.c
STRIP_NBYTES = 2560  # what a call may spend on its strip to convert fewer rows twice
SHAPE = ("lines", "pixel", "step", "left", "full", "right", "zero", "span", "round", "pairs", "channel", "count")
FIELD = {name: 4 * i for i, name in enumerate(SHAPE)}
PITCH, END, MULTIPLIER, OUT_PIXEL, OUT_ROW, SHIFT, BIAS, ROW, SPAN = 0, 4, 8, 16, 20, 24, 28, 32, 36  # the frame of taps
OUTS, OUTS_END, OUTS_BEGIN, ROUND, CHANNEL, STRIP, STREAM, OUT, FRAME = 40, 44, 48, 52, 56, 64, 72, 76, 80


@dataclass(frozen=True)
class Depthwise:
    """One layer: weights (C, 3, 3) and requantization, output size in pixels and stride."""

    gemm: Gemm
    height: int
    width: int
    stride: int

    @property
    def in_rows(self) -> int:
        """Input rows of a call, which the strip holds."""
        return (self.block - 1) * self.stride + 3

    @property
    def depth(self) -> int:
        """Rows of the strip: those that pairs of output rows read."""
        return self.block * self.stride + 3 - self.stride

    @property
    def columns(self) -> int:
        """Pairs of columns of the strip."""
        return (self.width + 1) // 2 + 1 if self.stride == 1 else self.width + 1

    @property
    def block(self) -> int:
        """Output rows of a call, even: as many as share conversion within STRIP_NBYTES, evenly spread."""
        rows = min(ROWS, (IN_ROWS - 3) // self.stride + 1, self.height + self.height % 2)
        while rows > 2 and 16 * self.columns * (rows * self.stride + 3 - self.stride) > STRIP_NBYTES:
            rows -= 1
        calls = -(-self.height // (rows // 2 * 2))
        return -(-self.height // (2 * calls)) * 2

    @property
    def scratch(self) -> int:
        """Bytes of the strip."""
        return 16 * self.columns * self.depth

    def stream(self) -> Array:
        """The int32 words that the routines walk."""
        weights = (self.gemm.weights.reshape(-1, 3, 3).astype(np.int64) & 0xFF) << np.array([0, 16, 24])
        rows = weights.sum(2)
        rows[:, 0] |= -self.gemm.shift.astype(np.int64) << 8
        words = np.concatenate([rows, 2 * self.gemm.bias[:, None], self.gemm.multiplier[:, None].astype(np.int64)], 1)
        return (np.concatenate([[self.depth], words.reshape(-1)]) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)

    def routines(self, numerics: str) -> tuple[Routine, Routine]:
        """(spread, taps)."""
        return spread_routine(), taps_routine(self.stride, self.width % 2 != 0, numerics, self.gemm.zero_point == -128)


def spread_routine() -> Routine:
    """r0 lines, r1 place in the strip, r2 pixel, r3 bytes a pixel, r4 step, r5 3 * step, r11 end of the full pairs, r12 their bytes, r14 end of lines."""
    lines = ["push {r4-r11, lr}", "sub sp, #20", "str r3, [sp]", "str r1, [sp, #16]", _field("r3", "pixel"), _field("r4", "step")]
    lines += ["add r5, r4, r4, lsl #1", _field("r6", "left"), _field("r7", "full"), _field("r8", "right"), _field("r9", "zero"), _field("r10", "lines")]
    lines += ["str r6, [sp, #4]", "strd r8, r9, [sp, #8]", "add r7, r7, r6", "mul r12, r7, r4", "lsl r12, r12, #2", "add lr, r0, r10, lsl #2"]
    lines += ["1:", "ldr r2, [r0], #4", "ldrd r6, r7, [sp]", "add r2, r2, r6", "ldr r1, [sp, #16]", "add r6, r1, #4", "str r6, [sp, #16]"]
    lines += ["add r11, r1, r12", "cbz r7, 4f", "ldr r6, [sp, #12]", "ldr r7, [r2]", "add r2, r2, r3", "b 3f"]
    lines += ["2:", "ldr r6, [r2]", "ldr r7, [r2, r3]", "add r2, r2, r3, lsl #1", "3:", *_spread_pair()]
    lines += ["4:", "cmp r1, r11", "blo 2b", "bne 5f", "ldr r6, [sp, #8]", "cbz r6, 5f", "ldr r6, [r2]", "ldr r7, [sp, #12]", "b 3b"]
    lines += ["5:", "cmp r0, lr", "bne 1b", "add sp, #20", "pop {r4-r11, pc}"]
    return Routine("midge_depthwise_spread", "midge_depthwise_spread_s8", "depthwise_dsp", tuple(lines), 56)


def _field(register: str, name: str) -> str:
    return f"ldr {register}, [r2, #{FIELD[name]}]"


def _spread_pair() -> list[str]:
    """Four channels of the pixels r6 and r7 to the strip."""
    lines = []
    for turn, low, high in (("", "", ", r4, lsl #1"), (", ror #8", ", r4", ", r5")):
        lines += [f"sxtb16 r8, r6{turn}", f"sxtb16 r9, r7{turn}", "pkhbt r10, r8, r9, lsl #16", f"str r10, [r1{low}]"]
        lines += ["pkhtb r10, r9, r8, asr #16", f"str r10, [r1{high}]"]
    return [*lines, "add r1, r1, r4, lsl #2"]


def taps_routine(stride: int, odd: bool, numerics: str, relu: bool) -> Routine:
    """r0 strip, r14 out; the accumulators of output (y, x) are in r7 + 2 * y + x, data in r11, r12, at stride 2 in r6 too. `odd`: a last column stands alone.
    `relu`: the output's zero_point is -128, so the sign correction of double rounding only moves values that are clamped to -128 anyway."""
    twice = numerics == "tflite"
    corrects = twice and not relu
    symbol = f"midge_depthwise_s{stride}" + ("_odd" if odd else "") + ("_tflite" if twice else "") + ("_relu" if twice and relu else "")
    lines = [*_taps_setup("r3"), "1:", *(_weights_pairs() if stride == 1 else _weights_apart()), *_constants()]
    lines += ["2:", *_row_pair(stride), "3:", *_block(stride, 2), *_finish(2, twice, corrects), "bne.w 3b"]
    if odd:
        lines += [*_block(stride, 1), *_finish(1, twice, corrects)]
    lines += [f"ldrd r7, r8, [sp, #{OUTS}]", "cmp r7, r8", "bne.w 2b", f"ldrd r6, r7, [sp, #{CHANNEL}]", f"ldrd r8, r9, [sp, #{STRIP}]"]
    lines += ["add r6, r6, #1", "add r8, r8, r9", f"str r8, [sp, #{STRIP}]", "subs r7, r7, #1", f"strd r6, r7, [sp, #{CHANNEL}]", "bne.w 1b"]
    twin = "midge_depthwise_taps_s8" + ("_tflite" if twice else "")
    return Routine(symbol, twin, "depthwise_dsp", (*lines, f"add sp, #{FRAME}", "pop {r4-r11, pc}"), FRAME + 36)


def _taps_setup(shape: str) -> list[str]:
    def field(register: str, name: str) -> str:
        return f"ldr {register}, [{shape}, #{FIELD[name]}]"

    lines = ["push {r4-r11, lr}", f"sub sp, #{FRAME}", field("r4", "step"), "lsl r5, r4, #2", f"str r5, [sp, #{PITCH}]", f"strd r0, r4, [sp, #{STRIP}]"]
    lines += [field("r6", "pixel"), f"str r6, [sp, #{OUT_PIXEL}]", field("r6", "span"), f"str r6, [sp, #{SPAN}]", field("r6", "round")]
    lines += [f"strd r2, r6, [sp, #{OUTS_BEGIN}]", field("r6", "pairs"), "add r6, r2, r6, lsl #3", f"str r6, [sp, #{OUTS_END}]"]
    return [*lines, field("r6", "channel"), field("r7", "count"), f"strd r6, r7, [sp, #{CHANNEL}]", f"str r1, [sp, #{STREAM}]"]


def _weights_pairs() -> list[str]:
    """Stride 1, doubled: w0, w1 of the kernel rows in r1, r3, r5; w1, w2 in r2, r4, r6."""
    lines = [f"ldr r12, [sp, #{STREAM}]", "ldmia r12!, {r1, r3, r5, r7, r8}", "ubfx r9, r1, #8, #8"]
    for low, high in (("r1", "r2"), ("r3", "r4"), ("r5", "r6")):
        lines += [f"sxtb16 {high}, {low}, ror #8", f"sxtb16 {low}, {low}", f"pkhtb {high}, {high}, {low}, asr #16"]
        lines += [f"sadd16 {low}, {low}, {low}", f"sadd16 {high}, {high}, {high}"]
    return lines


def _weights_apart() -> list[str]:
    """Stride 2, doubled: w0, w1 of the kernel rows in r1, r2, r3; w2 of rows 1, 0 in r4, of row 2 in the upper half of r5."""
    lines = [f"ldr r12, [sp, #{STREAM}]", "ldmia r12!, {r1-r3, r7, r8}", "ubfx r9, r1, #8, #8", "sxtb16 r4, r1, ror #8", "sxtb16 r5, r2, ror #8"]
    lines += ["pkhtb r4, r4, r5, asr #16", "sxtb16 r5, r3, ror #8", *(f"sxtb16 r{i}, r{i}" for i in (1, 2, 3))]
    return [*lines, *(f"sadd16 r{i}, r{i}, r{i}" for i in range(1, 6))]


def _constants() -> list[str]:
    """Bias r7, multiplier r8 and n r9 to the frame, C = round << (n - 1) beside them; the walk over output rows starts again."""
    lines = [f"str r12, [sp, #{STREAM}]", f"ldrd r12, r11, [sp, #{OUTS_BEGIN}]", "sub r10, r9, #1", "lsl r10, r11, r10", f"strd r8, r10, [sp, #{MULTIPLIER}]"]
    return [*lines, f"strd r9, r7, [sp, #{SHIFT}]", f"str r12, [sp, #{OUTS}]", f"ldr r0, [sp, #{STRIP}]", f"str r0, [sp, #{ROW}]"]


def _row_pair(stride: int) -> list[str]:
    """Pointers of the next two output rows."""
    lines = [f"ldr r8, [sp, #{OUTS}]", "ldrd lr, r9, [r8], #8", f"str r8, [sp, #{OUTS}]", "sub r9, r9, lr", f"str r9, [sp, #{OUT_ROW}]"]
    lines += [f"ldr r10, [sp, #{CHANNEL}]", "add lr, lr, r10", f"ldrd r0, r11, [sp, #{ROW}]", "add r11, r11, r0", f"str r11, [sp, #{END}]"]
    return [*lines, f"add r12, r0, #{8 * stride}", f"str r12, [sp, #{ROW}]"]


def _advance(last: bool) -> list[str]:
    """To the next column pair; `last` sets the flags of the loop."""
    return [f"ldrd r11, r12, [sp, #{PITCH}]", "add r0, r0, r11", "cmp r0, r12"] if last else [f"ldr r11, [sp, #{PITCH}]", "add r0, r0, r11"]


def _block(stride: int, columns: int) -> list[str]:
    """Accumulators of two output rows by `columns` columns."""
    steps = range(2) if stride == 1 else range(columns + 1)
    started: set[str] = set()
    lines = [f"ldr r7, [sp, #{BIAS}]"] + (["mov r8, r7"] if stride == 2 and columns == 2 else [])
    for step in steps:
        if step:
            lines += _advance(columns == 2 and step == steps[-1])
        loads = [("ldrd r11, r12, [r0]", ("r11", "r12"), (0, 1)), ("ldrd r11, r12, [r0, #8]", ("r11", "r12"), (2, 3))]
        if stride == 2:
            loads = [("ldmia r0, {r6, r11, r12}", ("r6", "r11", "r12"), (0, 1, 2)), ("ldrd r11, r12, [r0, #12]", ("r11", "r12"), (3, 4))]
        for load, words, rows in loads:
            lines.append(load)
            for word, row in reversed([*zip(words, rows, strict=True)]):
                lines += _products(stride, columns, step, word, row, started)
    return lines


def _products(stride: int, columns: int, step: int, word: str, row: int, started: set[str]) -> list[str]:
    """All that one word of the strip takes part in: pixels 2 * step, 2 * step + 1 of the block, input row `row`. The bias is in r7 and r8 until
    these accumulators are started."""
    found = []
    for y in (1, 0):
        ky = row - y * stride
        for x in range(columns - 1, -1, -1):
            instruction = (_pair_product if stride == 1 else _apart_product)(2 * step - x * stride, word, ky) if 0 <= ky <= 2 else ""
            if instruction:
                acc = f"r{7 + 2 * y + x}"
                bias = "r8" if stride == 2 and x else "r7"
                found.append(instruction.format(acc=acc, start=acc if acc in started else bias))
                started.add(acc)
    return found


def _pair_product(tap: int, word: str, ky: int) -> str:
    """Stride 1; the word's first pixel meets tap `tap` of kernel row ky."""
    low, high = f"r{1 + 2 * ky}", f"r{2 + 2 * ky}"
    kind, weights = {0: ("smlad", low), -1: ("smlatb", low), 2: ("smlabt", high), 1: ("smlad", high)}[tap]
    return f"{kind} {{acc}}, {word}, {weights}, {{start}}"


def _apart_product(tap: int, word: str, ky: int) -> str:
    """Stride 2, likewise; '' if they do not meet."""
    if tap == 2:
        kind, weights = (("smlabt", "r4"), ("smlabb", "r4"), ("smlabt", "r5"))[ky]
        return f"{kind} {{acc}}, {word}, {weights}, {{start}}"
    return f"smlad {{acc}}, {word}, r{1 + ky}, {{start}}" if tap == 0 else ""


def _finish(columns: int, twice: bool, corrects: bool) -> list[str]:
    """Requantize and store; the second row first, because a row without a partner is its own second row."""
    accs = [f"r{7 + 2 * y + x}" for y in range(2) for x in range(columns)]
    lines = [f"ldrd r11, r12, [sp, #{MULTIPLIER}]"]
    if corrects:
        lines.append(f"str lr, [sp, #{OUT}]")
        for acc in accs:
            lines += [f"smmlar lr, {acc}, r11, r12", f"add {acc}, lr, {acc}, asr #31"]
        lines.append(f"ldr lr, [sp, #{OUT}]")
    else:
        lines += [f"{'smmlar' if twice else 'smmla'} {acc}, {acc}, r11, r12" for acc in accs]
    lines += [f"ldr r11, [sp, #{SHIFT}]", *(f"asr {acc}, {acc}, r11" for acc in accs), *(f"ssat {acc}, #8, {acc}" for acc in accs)]
    lines += [f"ldrd r11, r12, [sp, #{OUT_PIXEL}]"]
    for x in range(columns):
        lines += [f"strb r{9 + x}, [lr, r12]", f"strb r{7 + x}, [lr]", "add lr, lr, r11"]
    return lines
