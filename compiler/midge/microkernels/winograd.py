# SPDX-License-Identifier: Apache-2.0
"""Winograd's minimal filtering of 3x3 convolutions in integers: transformed weights and proofs that the result is exact.

The rows of G are scaled until they are integers, and the signs of B^T chosen so that its rows cost least. With w int8 and x + 128 in 0..255

    winograd4       |G w G^T| <= 6272   B^T x B in -12750..17340   sums 9 * 2**p * acc, 2 <= p <= 6
    winograd2       |G w G^T| <= 1152   B^T x B in -510..1020      sums 4 * acc
    winograd2_half  |G w G^T| <= 1024   B^T x B in -510..510       sums 2 * acc (weights are doubled)

so both factors are int16. SMLAD wraps modulo 2**32, which leaves 2**p * acc exact after multiplication by the inverse of 9 if |acc| < 2**(31 - p).
winograd2_half is a convolution of stride 2: even inputs meet a filter of two taps, w0 and w2, for which F(2, 2) needs three products instead of
four, odd inputs meet w1. Layouts of v and of the stream are in kernels/winograd_dsp.h.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midge.ir import Array
from midge.microkernels.gemm import Gemm, int32_words, pairs


@dataclass(frozen=True)
class Form:
    """One algorithm: pixels of an output tile and of its input along one axis, stride, G, the order in which rows are kept, and the bits that the
    sum of products may have. For two tiles, `transform` instructions an input channel and `finish` instructions a pair of output channels, beside
    the products, as measured under QEMU."""

    name: str
    tile: int
    size: int
    stride: int
    g: tuple[tuple[int, int, int], ...]
    order: tuple[int, ...]
    bits: int
    transform: int
    finish: int

    def instructions(self, height: int, width: int, channels: int, out: int) -> int:
        """About what an output of these sizes costs."""
        pairs = -(-height // self.tile) * -(-width // (2 * self.tile))
        return pairs * (self.transform * channels + -(-out // 2) * (self.size * self.size * channels * 5 // 2 + self.finish))

    @property
    def step(self) -> int:
        """Pixels from the input of one tile to the next one's."""
        return self.tile * self.stride

    @property
    def columns(self) -> int:
        """Input columns of two tiles."""
        return self.step + self.size

    @property
    def room(self) -> int:
        """Words of the work space before v: places of the columns, and the columns transformed vertically."""
        return 2 * self.columns * (1 + self.size)


F4 = Form("winograd4", 4, 6, 1, ((6, 0, 0), (-1, -1, -1), (-1, 1, -1), (1, 2, 4), (1, -2, 4), (0, 0, 6)), (1, 2, 3, 4, 0, 5), 25, 360, 1070)
F2 = Form("winograd2", 2, 4, 1, ((2, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, -2)), (1, 2, 0, 3), 29, 120, 280)
HALF = Form("winograd2_half", 2, 5, 2, ((1, 0, 0), (0, 1, 0), (1, 0, 1), (0, 1, 0), (0, 0, 1)), (2, 0, 1, 4, 3), 30, 155, 270)
FORMS = (F4, F2, HALF)  # of those of one stride, the one that stores most first


@dataclass(frozen=True)
class Winograd:
    """Integers of one 3x3 layer: weights OHWI, bias with the zero point folded in, and requantization per channel."""

    form: Form
    weights: Array
    bias: Array
    multiplier: Array
    shift: Array
    zero_point: int

    @property
    def channels(self) -> int:
        """Input channels, rounded up to four."""
        return -(-int(self.weights.shape[3]) // 4) * 4

    def refuses(self) -> str:
        """Why the sums are not exact here, '' if they are."""
        rows = self.weights.reshape(len(self.weights), -1).astype(np.int64)
        reason = Gemm(rows, self.bias, self.multiplier, self.shift, self.zero_point).refuses()
        reach = 255 * np.maximum(np.maximum(rows, 0).sum(1), np.maximum(-rows, 0).sum(1))
        if not reason and reach.max(initial=0) >= 1 << self.form.bits:
            reason = f"a sum of products may reach {int(reach.max())}, 2**{self.form.bits} is too much"
        return reason

    @property
    def raised_bias(self) -> Array:
        """bias - 128 * sum(weights): the inputs are raised by 128. Below 2**30 because Gemm.refuses bounds |bias| + 128 * sum(|weights|)."""
        return np.asarray(self.bias - 128 * self.weights.astype(np.int64).sum((1, 2, 3)), np.int64)

    def transformed(self) -> Array:
        """G w G^T in the order of the stream (O, j, i, I), channels padded to 2 and 4."""
        form, odd = self.form, len(self.weights) % 2
        weights = np.pad(self.weights.astype(np.int64), ((0, odd), (0, 0), (0, 0), (0, self.channels - self.weights.shape[3])))
        g = np.array(form.g)
        u = np.einsum("ia,oabc,jb->ojic", g, weights, g)[:, :, list(form.order)]
        return np.asarray(2 * u if form is HALF else u)

    def stream(self) -> Array:
        """The int32 words that the routine walks, header included."""
        u, odd, channels = self.transformed(), len(self.weights) % 2, self.channels
        words = pairs(u.reshape(-1)[_interleaved(u.size)]).reshape(len(u) // 2, 2, -1).transpose(0, 2, 1).reshape(len(u) // 2, -1)
        n = -self.shift.astype(np.int64)
        rounding = (np.int64(self.zero_point) << n) + (np.int64(1) << (n - 1))
        finish = np.pad(np.stack([2 * self.raised_bias, self.multiplier.astype(np.int64), rounding, n], 1), ((0, odd), (0, 0)), mode="edge")
        body = np.concatenate([words, finish.reshape(-1, 8)], 1).reshape(-1)
        return int32_words(np.concatenate([[4 * body.size, channels], body]))


def _interleaved(count: int) -> Array:
    """Channels in the order their pairs are multiplied: 0, 2, 1, 3, 4, 6, 5, 7..."""
    return np.arange(count).reshape(-1, 2, 2).transpose(0, 2, 1).reshape(-1)
