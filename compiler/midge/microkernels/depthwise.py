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
from midge.microkernels.gemm import Gemm, int32_words
from midge.microkernels.spread import FIELD, spread_routine
from midge.program import Routine

DEPTHS = (10, 6)  # rows of a strip, few so that layers share routines; the first serves most rows of a call, 8, as in depthwise_dsp.c
NARROW = 8  # output columns that a routine spells out, at most
TOTALS = (12, 8, 16, 20)  # shifts that all channels of a layer may share, in the order they are tried
STRIP_NBYTES = 2560  # what a call may spend on its strip to convert fewer rows twice
END, MULTIPLIER, OUT_PIXEL, OUT_ROW, SHIFT, BIAS, ROW, SPAN, OUTS, OUTS_END = 0, 8, 16, 20, 24, 28, 32, 36, 40, 44  # the frame of taps
OUTS_BEGIN, ROUND, CHANNEL, STRIP, STREAM, OUT, FRAME = 48, 52, 56, 64, 68, 72, 76


@dataclass(frozen=True)
class Depthwise:
    """One layer: weights (C, 3, 3) and requantization, output size, input width, padding on the left and stride in pixels."""

    gemm: Gemm
    height: int
    width: int
    in_width: int
    pad: int
    stride: int
    numerics: str

    @property
    def total(self) -> int:
        """Bits that all channels are shifted by after scaling their weights by 2**scale each, 0 if they differ: no multiple of four suits them all."""
        return next((total for total in TOTALS if self.gemm.suits(total, self.numerics)), 0)

    @property
    def columns(self) -> int:
        """Pairs of columns of the strip."""
        return (self.width + 1) // 2 + 1 if self.stride == 1 else self.width + 1

    @property
    def block(self) -> int:
        """Output rows of a call, even: as many as share conversion within STRIP_NBYTES, evenly spread."""
        depth = next((depth for depth in DEPTHS if 16 * self.columns * depth <= STRIP_NBYTES), DEPTHS[-1])
        calls = -(-self.height // self._rows(depth))
        return -(-self.height // (2 * calls)) * 2

    @property
    def depth(self) -> int:
        """Rows of the strip."""
        return min(depth for depth in DEPTHS if self._rows(depth) >= self.block)

    def _rows(self, depth: int) -> int:
        """Output rows of a call that a strip serves, even."""
        return ((depth - 3) // self.stride + 1) // 2 * 2

    @property
    def scratch(self) -> int:
        """Bytes of the strip."""
        return 16 * self.columns * self.depth

    def stream(self) -> Array:
        """The int32 words that the routines walk."""
        gemm = self.gemm.sharing(self.total, self.numerics) if self.total else self.gemm
        shift = -gemm.shift.astype(np.int64)
        scale = self.total + 1 - shift if self.total else np.ones_like(shift)
        weights = (gemm.weights.reshape(-1, 3, 3).astype(np.int64) & 0xFF) << np.array([0, 16, 24])
        rows = weights.sum(2)
        rows[:, 0] |= scale << 8
        rows[:, 1] |= (shift + scale - 1) << 8
        words = np.concatenate([rows, (gemm.bias << scale)[:, None], gemm.multiplier[:, None].astype(np.int64)], 1)
        return int32_words(np.concatenate([[self.depth], words.reshape(-1)]))

    def routines(self) -> tuple[Routine, Routine]:
        """(spread, taps)."""
        narrow = self.width if self.width <= NARROW else 0
        taps = Taps(self.stride, self.depth, narrow, self.width % 2 != 0, self.numerics == "tflite", self.gemm.zero_point == -128, self.total)
        return spread_routine(self.depth, self.in_width, self.pad % 2 != 0), taps.routine


@dataclass(frozen=True)
class Taps:
    """The routine for a stride and a depth of the strip, for one narrow width or (0) for any that is odd or even, a profile of rounding, and a shift
    shared by all channels (0: each has its own). `relu`: the output's zero_point is -128, so the sign correction of double rounding only moves values
    that are clamped to -128 anyway.

    r0 strip, r14 out; the accumulators of output (y, x) are in r7 + 2 * y + x, data in r11, r12, at stride 2 in r6 too.
    """

    stride: int
    depth: int
    narrow: int
    odd: bool
    twice: bool
    relu: bool
    total: int

    @property
    def symbol(self) -> str:
        width = f"_{self.narrow}" if self.narrow else "_odd" if self.odd else ""
        ending = f"_shift{self.total}" if self.total else "_relu" if self.twice and self.relu else ""
        return f"midge_depthwise{self.depth}_s{self.stride}{width}{ending}" + ("_tflite" if self.twice else "")

    @property
    def routine(self) -> Routine:
        lines = [*self._setup("r3"), "1:", *self._weights(), *self._constants(), "2:", *self._row_pair()]
        if self.narrow:
            for block in range(self.narrow // 2):
                lines += [*self._block(2), *self._finish(2, last=not self.odd and block == self.narrow // 2 - 1)]
        else:
            lines += ["3:", *self._block(2), *self._finish(2), f"ldr r11, [sp, #{END}]", "cmp r0, r11", "bne.w 3b"]
        if self.odd:
            lines += [*self._block(1), *self._finish(1, last=True)]
        lines += [f"ldrd r7, r8, [sp, #{OUTS}]", "cmp r7, r8", "bne.w 2b", f"ldrd r6, r7, [sp, #{CHANNEL}]", f"ldr r8, [sp, #{STRIP}]"]
        lines += ["add r6, r6, #1", f"add r8, r8, #{4 * self.depth}", f"str r8, [sp, #{STRIP}]", "subs r7, r7, #1", f"strd r6, r7, [sp, #{CHANNEL}]"]
        lines += ["bne.w 1b", f"add sp, #{FRAME}", "pop {r4-r11, pc}"]
        twin = "midge_depthwise_taps_s8" + ("_tflite" if self.twice else "")
        return Routine(self.symbol, twin, "depthwise_dsp", tuple(lines), FRAME + 36)

    def _setup(self, shape: str) -> list[str]:
        lines = ["push {r4-r11, lr}", f"sub sp, #{FRAME}", f"strd r0, r1, [sp, #{STRIP}]"]
        for name, place in (("pixel", OUT_PIXEL), ("round", ROUND), ("channel", CHANNEL), ("count", CHANNEL + 4)):
            lines += [f"ldr r6, [{shape}, #{FIELD[name]}]", f"str r6, [sp, #{place}]"]
        if not self.narrow:
            lines += [f"ldr r6, [{shape}, #{FIELD['span']}]", f"str r6, [sp, #{SPAN}]"]
        return [*lines, f"str r2, [sp, #{OUTS_BEGIN}]", f"ldr r6, [{shape}, #{FIELD['pairs']}]", "add r6, r2, r6, lsl #3", f"str r6, [sp, #{OUTS_END}]"]

    def _weights(self) -> list[str]:
        """Scaled. Stride 1: w0, w1 of the kernel rows in r1, r3, r5; w1, w2 in r2, r4, r6. Stride 2: w0, w1 in r1, r2, r3; w2 of rows 1, 0 in r4, of row 2
        in the upper half of r5. The scale goes to r9."""
        rows = ("r1", "r3", "r5") if self.stride == 1 else ("r1", "r2", "r3")
        thirds = ("r2", "r4", "r6") if self.stride == 1 else ("r4", "r5", "r5")
        lines = [f"ldr r12, [sp, #{STREAM}]", f"ldmia r12!, {{{', '.join(rows)}, r7, r8}}", f"str r12, [sp, #{STREAM}]", f"ubfx r9, {rows[0]}, #8, #8"]
        if self.total:
            lines += ["mov r11, #65536", "lsl r10, r11, r9", "sub r10, r10, r11"]  # what the lower half spills into the upper when both are shifted
        else:
            lines += [f"ubfx r10, {rows[1]}, #8, #8"]
        for row, third in zip(rows, thirds, strict=True):
            lines += [f"sxtb16 {third}, {row}, ror #8", *self._scale(third, spills=False), f"sxtb16 {row}, {row}", *self._scale(row, spills=True)]
            if self.stride == 1:
                lines.append(f"pkhtb {third}, {third}, {row}, asr #16")
            elif row == "r2":
                lines.append("pkhtb r4, r4, r5, asr #16")
        return lines

    def _scale(self, pair: str, *, spills: bool) -> list[str]:
        """The halves of a pair times 2**r9; the lower half of one that does not spill is a small number not used."""
        if not self.total:
            return [f"sadd16 {pair}, {pair}, {pair}"]
        return [f"lsl {pair}, {pair}, r9"] + ([f"bic {pair}, {pair}, r10"] if spills else [])

    def _constants(self) -> list[str]:
        """Bias r7, multiplier r8 and C to the frame, n beside them if channels have their own; the walk over output rows starts again."""
        lines = [f"str r7, [sp, #{BIAS}]", f"ldrd r7, r11, [sp, #{OUTS_BEGIN}]"]
        if self.total:
            lines.append(f"lsl r10, r11, #{self.total - 1}")
            if self.twice:
                lines += ["sub r9, r9, #2", "mov r11, #1", "lsl r11, r11, r9", "add r10, r10, r11"]
        else:
            lines += [f"str r10, [sp, #{SHIFT}]", "sub r10, r10, #1", "lsl r10, r11, r10"]
        return [*lines, f"strd r8, r10, [sp, #{MULTIPLIER}]", f"ldr r0, [sp, #{STRIP}]", f"str r0, [sp, #{ROW}]"]

    def _row_pair(self) -> list[str]:
        """Pointers of the next two output rows; r7 walks over them."""
        lines = ["ldrd lr, r9, [r7], #8", f"ldr r10, [sp, #{CHANNEL}]", f"str r7, [sp, #{OUTS}]", "sub r9, r9, lr", f"str r9, [sp, #{OUT_ROW}]"]
        lines += ["add lr, lr, r10", f"ldr r0, [sp, #{ROW}]"]
        if not self.narrow:
            lines += [f"ldr r11, [sp, #{SPAN}]", "add r11, r11, r0", f"str r11, [sp, #{END}]"]
        return [*lines, f"add r12, r0, #{8 * self.stride}", f"str r12, [sp, #{ROW}]"]

    def _block(self, columns: int) -> list[str]:
        """Accumulators of two output rows by `columns` columns; r0 moves on by the column pairs that the next block does not read."""
        stride, pitch, started = self.stride, 16 * self.depth, set[str]()
        lines = [f"ldr r7, [sp, #{BIAS}]"] + (["mov r8, r7"] if stride == 2 and columns == 2 else [])
        steps = 2 if stride == 1 else columns + 1
        for step in range(steps):
            for load, words, rows in _loads(stride, pitch, step == steps - 1):
                lines.append(load)
                for word, row in reversed([*zip(words, rows, strict=True)]):
                    lines += _products(stride, columns, step, word, row, started)
        return lines

    def _finish(self, columns: int, *, last: bool = False) -> list[str]:
        """Requantize and store; the second row first, because a row without a partner is its own second row."""
        accs = [f"r{7 + 2 * y + x}" for y in range(2) for x in range(columns)]
        lines = [f"ldrd r11, r12, [sp, #{MULTIPLIER}]"]
        if self.total:
            for acc in accs:
                lines += [f"smmla {acc}, {acc}, r11, r12", f"ssat {acc}, #8, {acc}, asr #{self.total}"]
        elif self.twice and not self.relu:
            lines.append(f"str lr, [sp, #{OUT}]")
            for acc in accs:
                lines += [f"smmlar lr, {acc}, r11, r12", f"add {acc}, lr, {acc}, asr #31"]
            lines.append(f"ldr lr, [sp, #{OUT}]")
        else:
            lines += [f"{'smmlar' if self.twice else 'smmla'} {acc}, {acc}, r11, r12" for acc in accs]
        if not self.total:
            lines += [f"ldr r11, [sp, #{SHIFT}]", *(f"asr {acc}, {acc}, r11" for acc in accs), *(f"ssat {acc}, #8, {acc}" for acc in accs)]
        lines += [f"ldrd r11, r12, [sp, #{OUT_PIXEL}]"]
        for x in range(columns):
            lines += [f"strb r{9 + x}, [lr, r12]", f"strb r{7 + x}, [lr]", "add lr, lr, r11"]
        return lines[:-1] if last else lines


def _loads(stride: int, pitch: int, last: bool) -> list[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """Loads of the words of one column pair, the registers and the input rows: to the next column pair unless it is the block's last."""
    if stride == 1:
        loads = ("ldrd r11, r12, [r0]", "ldrd r11, r12, [r0, #8]") if last else ("ldrd r11, r12, [r0], #8", f"ldrd r11, r12, [r0], #{pitch - 8}")
        return [(loads[0], ("r11", "r12"), (0, 1)), (loads[1], ("r11", "r12"), (2, 3))]
    loads = ("ldmia r0, {r6, r11, r12}", "ldrd r11, r12, [r0, #12]") if last else ("ldmia r0!, {r6, r11, r12}", f"ldrd r11, r12, [r0], #{pitch - 12}")
    return [(loads[0], ("r6", "r11", "r12"), (0, 1, 2)), (loads[1], ("r11", "r12"), (3, 4))]


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
