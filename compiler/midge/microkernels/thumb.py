# SPDX-License-Identifier: Apache-2.0
"""Four pixels by one channel for cores without narrow multiplications: packed streams and their routines for Thumb-1 and Thumb-2.

A word 65536 * x1 + x0 times a weight is two products. Their sums stay apart while the lower one, started at 2**15, stays within [0, 2**16): a chunk of
taps, cut here from the actual weights. The layout of the stream is in kernels/conv2d_thumb.h.

Source: ARM DDI 0403, Armv7-M (MLA, SMLAL, SSAT); ARM DDI 0419, Armv6-M Architecture Reference Manual (MULS, ADD with high registers and with pc).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midge.ir import Array
from midge.microkernels.gemm import Gemm, int32_words

PAIRS = 8  # pairs of taps in the longest chunk


@dataclass(frozen=True)
class Form:
    """What differs between the two instruction sets: bytes of code for a pair of taps, and of what follows the last pair up to the end of a channel."""

    feature: str
    pair: int
    fold: int

    @property
    def last(self) -> int:
        """The byte that ends a channel."""
        return PAIRS * self.pair + self.fold


THUMB1 = Form("thumb1", 26, 26)
THUMB2 = Form("thumb2", 28, 26)


def paired(weights: Array) -> Array:
    """(O, K) with K even."""
    return np.pad(weights.astype(np.int64), [(0, 0), (0, weights.shape[1] % 2)])


def chunks(row: Array) -> list[int]:
    """Pairs in each chunk of a channel's weights, as many as leave the lower half within 16 bits whatever the acts."""
    low = (np.minimum(-128 * row, 127 * row)).reshape(-1, 2).sum(1).tolist()
    high = (np.maximum(-128 * row, 127 * row)).reshape(-1, 2).sum(1).tolist()
    found, least, most, count = [], 0, 0, 0
    for down, up in zip(low, high, strict=True):
        if count == PAIRS or least + down < -(1 << 15) or most + up >= 1 << 15:
            found.append(count)
            least, most, count = 0, 0, 0
        least, most, count = least + down, most + up, count + 1
    return [*found, count]


def refuses_chunks(gemm: Gemm) -> str:
    """Why some pair of taps does not fit, '' if all do."""
    weights = paired(gemm.weights)
    if ((weights[:, 0::2] == -128) & (weights[:, 1::2] == -128)).any():
        return "two adjacent weights are -128"
    return ""


def reach(gemm: Gemm) -> int:
    """No accumulator is larger."""
    return int((np.abs(gemm.bias.astype(np.int64)) + 128 * np.abs(gemm.weights.astype(np.int64)).sum(1)).max(initial=0))


def widths(gemm: Gemm) -> tuple[int, ...]:
    """Bits of the pieces of a multiplier, lowest first, so that no sum of a piece's product passes 32 bits; () if none does."""
    n = int((-gemm.shift).max(initial=0))
    for found in ((10, 10, 11), (8, 8, 8, 7)):
        carried, last = reach(gemm) + 2, found[-1]
        sums = [carried << width for width in found[:-1]]
        sums.append(carried + (abs(gemm.zero_point) + 1 << n) << last)
        if max(sums) + carried < 1 << 31 and n + last < 32:
            return found
    return ()


def constants(gemm: Gemm, form: Form, numerics: str) -> Array:
    """(O, 3 or 4) int32: the constants of requantization in kernels/thumb_requantize.h."""
    n = -gemm.shift.astype(np.int64)
    rounding = (np.int64(gemm.zero_point) << n) + (np.int64(1) << (n - 1))
    if form is THUMB2:
        return int32_words(np.stack([gemm.multiplier.astype(np.int64), rounding, n], 1))
    split = widths(gemm)
    last, left = split[-1], gemm.multiplier.astype(np.int64)
    pieces = np.zeros((len(left), 4), np.int64)
    for i, width in enumerate(split):
        pieces[:, i], left = left & ((1 << width) - 1), left >> width
    half = 1 << (last - 1) if numerics == "tflite" else 0
    words = [(rounding << last) + half, pieces[:, 0] | pieces[:, 1] << 16, pieces[:, 2] | pieces[:, 3] << 16, n + last]
    return int32_words(np.stack(words, 1))


def quads_stream(gemm: Gemm, form: Form, numerics: str) -> Array:
    """The int32 words that a routine walks, header included."""
    body, requantize = [], constants(gemm, form, numerics)
    for channel, row in enumerate(paired(gemm.weights)):
        counts, values, at, code = chunks(row), row.astype(np.int8).tobytes(), 0, bytearray()
        for count in counts:
            code += bytes([(PAIRS - count) * form.pair]) + values[at : at + 2 * count]
            at += 2 * count
        code.append(form.last)
        words = np.frombuffer(bytes(code) + bytes(-len(code) % 4), np.int32)
        bias = int(gemm.bias[channel])
        head = int32_words(np.array([bias + (bias << 16) - (len(counts) << 15), bias]))
        if form is THUMB1:
            requantize[channel, -1] |= 4 * (len(head) + requantize.shape[1] + len(words)) << 16
        body += [head, requantize[channel], words]
    header = 4 * sum(map(len, body)) if form is THUMB2 else len(widths(gemm))
    return np.concatenate([np.array([len(gemm.weights), header], np.int32), *body])
