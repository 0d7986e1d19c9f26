# SPDX-License-Identifier: Apache-2.0
"""Division by a count in integers: what pools and means round with, and the same in 32 bits."""

from __future__ import annotations

import numpy as np

from midge.fixedpoint import Int64
from midge.ir import Array, TensorType


def average_scales(x: TensorType, out: TensorType, count: Array) -> Array:
    """s_x / (s_y * count), in double precision from float32 scales."""
    return x.q.s / out.q.s / np.asarray(count, np.float64)


def quotient(total: Int64, multiplier: Array, shift: Array, *, away: bool) -> Int64:
    """total * multiplier * 2**(shift - 31), exact halves to even or away from zero: pool_quotient in kernels/pool.c.

    The multiplier is a rounded reciprocal; a product within |total| units of a half is taken for one.
    """
    multiplier, shift = np.asarray(multiplier, np.int64), np.asarray(shift, np.int64)
    limit = np.where(shift > 0, np.int64(1) << (30 - np.maximum(shift, 0)), np.int64(1) << 31)
    total = np.clip(total, -limit, limit)
    right, slack = 31 - shift, np.abs(total)
    value = total * multiplier + (np.int64(1) << (right - 1)) + slack
    rounded = value >> right
    tie = (value & ((np.int64(1) << right) - 1)) <= 2 * slack
    return np.asarray(rounded - (tie & ((rounded <= 0) if away else (rounded & 1 == 1))), np.int64)


def short_scales(scales: Array, counts: Array, full: tuple[Array, Array], *, away: bool) -> tuple[Array, Array] | None:
    """(multiplier, shift) for each count with which 32 bits give what `quotient` gives with `full` for all sums: scale ~ multiplier / 2**shift. None
    if there are none."""
    found = []
    for scale, count, multiplier, shift in zip(scales, counts, *full, strict=True):
        sums: Int64 = np.arange(-256 * count, 256 * count + 1, dtype=np.int64)
        right = 30 - int(np.ceil(np.log2(256 * count * scale + 2)))
        short = round(float(scale) * 2.0**right)
        value = sums * short + (1 << (right - 1)) + np.abs(sums) if right > 0 else sums
        if right < 1 or np.abs(value).max() >= 1 << 31 or 2 * np.abs(sums).max() >= 1 << 31:
            return None
        rounded = value >> right
        tie = (value & ((1 << right) - 1)) <= 2 * np.abs(sums)
        rounded -= tie & ((rounded <= 0) if away else (rounded & 1 == 1))
        if not np.array_equal(rounded, quotient(sums, np.array(multiplier), np.array(shift), away=away)):
            return None
        found.append((short, right))
    return np.array([m for m, _ in found], np.int32), np.array([n for _, n in found], np.int32)
