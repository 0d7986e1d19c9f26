# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolution along a line on the DSP extension: how a layer is walked, and the stream for it. The layouts of strip and stream are in
kernels/depthwise_line_dsp.h, where the twins are; midge.microkernels.line_walk and line_column write the routines.

Source: ARM DDI 0403, Armv7-M Architecture Reference Manual (SMLAD, SMLADX, SMLATB, SMMLA, SMMLAR, SXTB16, PKHBT, PKHTB, SSAT).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midge.ir import Array
from midge.microkernels.gemm import Gemm, int32_words
from midge.microkernels.line_block import weight_names
from midge.microkernels.line_column import BLOCKS, CHUNK, MARKS, OUTPUTS, Column
from midge.microkernels.line_walk import HEAD, Walk
from midge.program import Routine

MOST_TAPS = 32
PAIRS = 16  # words of the strip that a channel takes, or as many as four outputs need
COLUMN_ROWS = 18  # of input that blocks of a column take, or as many as one needs
SHIFTS = 3  # that have a loop of their own
MOST_SHIFT = 20  # of these, so that the bias of a constant channel fits


@dataclass(frozen=True)
class Line:
    """One layer: weights (C, taps) and requantization, outputs of a line, stride and dilation in pixels."""

    gemm: Gemm
    outputs: int
    stride: int
    dilation: int
    numerics: str
    column: bool = False  # its rows may lie anywhere

    @property
    def channels(self) -> int:
        return len(self.gemm.weights)

    @property
    def taps(self) -> int:
        return int(self.gemm.weights.shape[1])

    @property
    def most(self) -> int:
        """Outputs of a walk, a multiple of four: as many as PAIRS allows, evenly spread; of a column, as many as COLUMN_ROWS allows."""
        if self.column:
            needed = -(-self.outputs // OUTPUTS)
            return OUTPUTS * max(1, min(BLOCKS, needed, ((COLUMN_ROWS - self.taps) // self.stride + 1) // OUTPUTS))
        line = -(-self.outputs // self.dilation)
        fits = max(4, ((2 * PAIRS - self.taps) // self.stride + 1) // 4 * 4)
        return -(-line // (4 * -(-line // fits))) * 4

    @property
    def walks(self) -> frozenset[int]:
        """How many outputs walks have."""
        lines = {(self.outputs - phase + self.dilation - 1) // self.dilation for phase in range(min(self.dilation, self.outputs))}
        return frozenset(min(self.most, line - first) for line in lines for first in range(0, line, self.most))

    @property
    def depth(self) -> int:
        """Words of the strip for a channel."""
        return ((self.most - 1) * self.stride + self.taps + 1) // 2

    @property
    def scratch(self) -> int:
        """Bytes: the strip and, of a line, one channel's constants; of a column as few as it works with."""
        if self.column:
            return self.strip(OUTPUTS)
        return 16 * self.depth + 4 * (4 + len(weight_names(self.taps, self.stride)))

    def strip(self, outputs: int) -> int:
        """Bytes of the strip for so many output rows of a column."""
        chunks, rest = divmod((-(-outputs // OUTPUTS) * OUTPUTS - 1) * self.stride + self.taps, 4)
        return CHUNK * chunks + (0, CHUNK - 4, CHUNK - 4, CHUNK)[rest]

    @property
    def shifts(self) -> tuple[int, ...]:
        """The shifts that have a loop of their own, most frequent first; none if there are too many."""
        kept = self.gemm.weights.any(1)  # constant channels are shifted as suits the others
        values, counts = np.unique(-self.gemm.shift[kept if kept.any() else ~kept], return_counts=True)
        found = [int(value) for value in values[np.argsort(-counts, kind="stable")]]
        return tuple(found) if len(found) <= SHIFTS and max(found) <= MOST_SHIFT else ()

    def stream(self) -> Array:
        """The int32 words that the routine walks, head included."""
        gemm, channels = self.gemm, self.channels
        n = -gemm.shift.astype(np.int64)
        constant = ~gemm.weights.any(1)  # as left by `settled`: their bias is four times their value
        shared = self.shifts[0] if self.shifts else 1
        bias = np.where(constant, gemm.bias.astype(np.int64) // 4 << (shared + 1), gemm.bias)
        n = np.where(constant, shared, n)
        rounding = (np.int64(gemm.zero_point) << n) + (np.int64(1) << (n - 1))
        scaling, biases = np.stack([gemm.multiplier.astype(np.int64), rounding], 1), 2 * bias[:, None]
        words = np.concatenate([biases, self._bytes(n | self._marks(n)), scaling] if self.column else [scaling, biases, self._bytes(n)], 1)
        order = [c for first in (*range(0, channels - 4, 4), channels - 4) for c in range(first, first + 4)]
        head = np.zeros(HEAD, np.int64)
        head[:3] = self.taps, self.depth, self.most
        return int32_words(np.concatenate([head, words[order].reshape(-1)]))

    def _marks(self, n: Array) -> Array:
        """Of n, in the same byte: which of `shifts` it is, for the routine to branch."""
        return np.asarray(sum(mark * (n == shift) for shift, mark in zip(self.shifts, MARKS, strict=False)), np.int64)

    def _bytes(self, n: Array) -> Array:
        """(C, words): four weights a word in the order 0, 2, 1, 3, and n in the last byte."""
        count = self.taps // 4 + 1
        data = np.zeros((self.channels, 4 * count), np.int64)
        data[:, : self.taps] = self.gemm.weights
        data = data.reshape(-1, count, 4)[:, :, [0, 2, 1, 3]]
        data[:, -1, 3] = n
        return np.asarray(((data & 0xFF) << np.array([0, 8, 16, 24])).sum(2))

    def routine(self) -> Routine:
        """The walk over all channels."""
        twice, relu = self.numerics == "tflite", self.gemm.zero_point == -128
        if self.column:
            return Column(self.taps, self.stride, self.most // OUTPUTS, self.channels % 4, self.shifts, twice, relu).routine
        pitch, walks = self.dilation * self.channels, self.walks
        rests = tuple(sorted({outputs % 4 for outputs in walks}))
        return Walk(self.taps, self.stride, self.depth, pitch if pitch < 256 else 0, self.channels % 4, rests, min(walks) < 4, self.shifts, twice, relu).routine
