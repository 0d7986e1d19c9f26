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


def rounding(gemm: Gemm) -> Array:
    """C = (zero_point << n) + 2**(n - 1), what is added at one part of the unit of the shifted result."""
    n = -gemm.shift.astype(np.int64)
    return np.asarray((np.int64(gemm.zero_point) << n) + (np.int64(1) << (n - 1)))


def widths(gemm: Gemm) -> tuple[int, ...]:
    """Bits of the pieces of a multiplier, lowest first, so that no sum of a piece's product passes 32 bits; () if none does."""
    for found in ((10, 10, 11), (8, 8, 8, 7)):
        carried, last = reach(gemm) + 2, found[-1]
        sums = [carried << width for width in found[:-1]]
        sums.append((carried << last) + (int(np.abs(rounding(gemm)).max(initial=0)) + 2 << last))
        if max(sums) + carried < 1 << 31 and int((-gemm.shift).max(initial=0)) + last < 32:
            return found
    return ()


def quads_stream(gemm: Gemm, form: Form, numerics: str) -> Array:
    """The int32 words that a routine walks, header included."""
    weights, n = paired(gemm.weights), -gemm.shift.astype(np.int64)
    split = widths(gemm)
    body = b""
    for channel, row in enumerate(weights):
        counts, values, at, code = chunks(row), row.astype(np.int8).tobytes(), 0, bytearray()
        for count in counts:
            code += bytes([(PAIRS - count) * form.pair]) + values[at : at + 2 * count]
            at += 2 * count
        code.append(form.last)
        bias = int(gemm.bias[channel])
        head = [bias + (bias << 16) - (len(counts) << 15), bias]
        constant, multiplier, shift = int(rounding(gemm)[channel]), int(gemm.multiplier[channel]), int(n[channel])
        if form is THUMB2:
            record = int32_words(np.array([*head, multiplier, constant, shift])).tobytes() + bytes(code)
        else:
            last = split[-1]
            half = 1 << (last - 1) if numerics == "tflite" else 0
            nbytes = -(-(24 + len(code)) // 4) * 4
            halves = np.array([*pieces(multiplier, split), shift + last, nbytes], np.uint16)
            record = int32_words(np.array([*head, (constant << last) + half])).tobytes() + halves.tobytes() + bytes(code)
        body += record + bytes(-len(record) % 4)
    header = len(body) if form is THUMB2 else len(split)
    return np.concatenate([np.array([len(weights), header], np.int32), np.frombuffer(body, np.int32)])


def pieces(multiplier: int, split: tuple[int, ...]) -> list[int]:
    """A multiplier cut into pieces, lowest first; four of them."""
    found = []
    for width in split:
        found.append(multiplier & ((1 << width) - 1))
        multiplier >>= width
    return found + [0] * (4 - len(found))
