# SPDX-License-Identifier: Apache-2.0
"""What the depthwise routines of planar rows read: biases, weights and requantization of each channel, weights of 16 bits or of 8.

16 bits: weights scaled by 2**s for each channel, so that one shift ends all of them. 8 bits: two masked bytes are two weights times 256, the same for all
channels, and what is missing is taken from the multipliers, whose lowest bits are lost. Outputs are a monotonic function of the sum, exact and shortened
alike, so both are the same function if they step at the same sums: that is checked for each step within reach. The layouts are in
kernels/depthwise_dsp.h.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from midge.fixedpoint import requantize
from midge.ir import Array
from midge.microkernels.gemm import TOTAL, Gemm, int32_words, pairs

TOTALS = (TOTAL, 9, 10, 13, 8, 16, 20)  # shifts that all channels may share, in the order they are tried
BYTES, WORDS = 32, 44  # of a channel of 8 and of 16 bits, without a shift of its own
SCALE = 8  # log2 of what masked bytes are weights times


def edges(weights: Array, bias: Array, zero_point: int, left: bool, right: bool) -> Array:
    """(C, 3): the biases of the first output, of any, of the last, which make up for taps on padding that are left out."""
    sides = [zero_point * weights[:, :, 2 * side].sum(1) * padded for side, padded in ((0, left), (1, right))]
    return np.stack([bias + sides[0], bias, bias + sides[1]], 1)


def wide_stream(gemm: Gemm, total: int, zero_point: int, left: bool, right: bool, numerics: str) -> Array:
    """The int32 words of 16-bit weights."""
    gemm = gemm.sharing(total, numerics) if total else gemm
    scale, rounding = gemm.ending(total, numerics)
    weights = gemm.weights.reshape(-1, 3, 3).astype(np.int64)
    scaled = weights << scale[:, None, None]
    lanes = pairs(np.stack([scaled[:, :, 1], scaled[:, :, 0], scaled[:, :, 1], scaled[:, :, 2]], 2).reshape(-1)).reshape(len(weights), 6)
    last = [] if total else [-gemm.shift.astype(np.int64)[:, None]]
    bias = edges(weights, gemm.bias, zero_point, left, right) << scale[:, None]
    return _stream(total, zero_point, [bias, lanes, gemm.multiplier.astype(np.int64)[:, None], rounding[:, None], *last])


def byte_stream(gemm: Gemm, zero_point: int, left: bool, right: bool, numerics: str, first: int = TOTAL) -> tuple[int, Array]:
    """(shift of all channels, the int32 words of 8-bit weights); the shift is 0 if there is none that is exact. `first` is tried before the others."""
    weights = gemm.weights.reshape(-1, 3, 3).astype(np.int64)
    bias = edges(weights, gemm.bias, zero_point, left, right)
    if (np.abs(bias).max(1) + 128 * np.abs(weights).sum((1, 2)) + 2 >= 1 << (31 - SCALE)).any():
        return 0, np.zeros(0, np.int32)
    for total in (first, *TOTALS):
        shared = gemm.sharing(total, numerics)
        found = shortened(shared, total, numerics)
        if found is not None:
            bias = (edges(weights, shared.bias, zero_point, left, right) << SCALE) + found[1][:, None]
            lanes = ((weights & 0xFF) << np.array([24, 8, 0])).sum(2)
            return total, _stream(total, zero_point, [bias, lanes, found[0][:, None], constant(shared, total, numerics)[:, None]])
    return 0, np.zeros(0, np.int32)


def exact(gemm: Gemm, total: int, numerics: str) -> bool:
    """Whether 8-bit weights may share a shift."""
    return shortened(gemm.sharing(total, numerics), total, numerics) is not None


def _stream(total: int, zero_point: int, columns: list[Array]) -> Array:
    body = np.concatenate(columns, 1)
    return int32_words(np.concatenate([[4 * body.size, total, zero_point << 16], body.reshape(-1)]))


def constant(gemm: Gemm, total: int, numerics: str) -> Array:
    """C of each channel: the output's zero point and a half, shifted, and half of what the first of two roundings rounds to, if that is a whole number."""
    half = ((np.int64(1) << total) * (numerics == "tflite")) >> (1 - gemm.shift.astype(np.int64))
    return half + ((2 * gemm.zero_point + 1) << (total - 1))


def shortened(gemm: Gemm, total: int, numerics: str) -> tuple[Array, Array] | None:
    """Multipliers M and fractions f with ((256 * acc + f) * M >> 32) + C >> total, limited to int8, equal to the output for every sum within reach; None if
    some channel has none. f is 0 but for where M or C are not fine enough."""
    n, exact = -gemm.shift.astype(np.int64), gemm.multiplier.astype(np.int64)
    lost = n + SCALE - 1 - total
    if (lost < 0).any():
        return None
    weights, offset, outputs = gemm.weights.astype(np.int64), constant(gemm, total, numerics)[:, None], np.arange(-127, 128)
    low = (gemm.bias + np.minimum(-128 * weights, 127 * weights).sum(1))[:, None]
    high = (gemm.bias + np.maximum(-128 * weights, 127 * weights).sum(1))[:, None]
    steps = _steps(gemm, outputs, numerics)
    below, at = np.minimum(steps - 1, high), np.maximum(steps, low)
    finest = np.where((n >= total) & (numerics == "tflite"), (1 << (SCALE + 30)) // exact, 0)
    found, done = np.zeros((2, len(n)), np.int64), np.zeros(len(n), bool)
    for more, change in product((0, 1, -1, 2, -2), (0, 1, -1)):
        multiplier, fraction = ((exact + ((np.int64(1) << lost) >> 1)) >> lost) + change, finest + more
        before, after = ((((sums << SCALE) + fraction[:, None]) * multiplier[:, None] >> 32) + offset >> total for sums in (below, at))
        same = (((before < outputs) | (below < low)) & ((after >= outputs) | (at > high))).all(1) & (multiplier < 1 << 31)
        found, done = np.where(same & ~done, [multiplier, fraction], found), done | same
        if done.all():
            return found[0], found[1]
    return None


def _steps(gemm: Gemm, outputs: Array, numerics: str) -> Array:
    """(C, outputs): the least sum whose output is that or more."""
    factor = gemm.multiplier.astype(np.float64)[:, None] * np.exp2(gemm.shift.astype(np.float64)[:, None] - 31)
    near = np.clip(np.floor((outputs - gemm.zero_point - 0.5) / factor), -(2.0**30), 2.0**30).astype(np.int64) - 2
    multiplier, shift = gemm.multiplier[:, None], gemm.shift[:, None]
    return near + sum((requantize(near + i, multiplier, shift, numerics) + gemm.zero_point < outputs).astype(np.int64) for i in range(6))
