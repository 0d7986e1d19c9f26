# SPDX-License-Identifier: Apache-2.0
"""exp, logistic, tanh and hard swish in fixed point, bit for bit as TensorFlow Lite Micro's reference kernels.

Qn is a 32-bit integer of n integer bits: real = raw * 2**(n - 31). Products are high_mul: Qm * Qn is Q(m + n). All functions take int64 arrays that
hold such integers and run at compile time only.

Source: gemmlowp fixedpoint/fixedpoint.h (the algorithms; constants here are computed from their formulas); TensorFlow Lite LOGISTIC, TANH, HARD_SWISH.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from midge.errors import Unsupported
from midge.fixedpoint import Int64, high_mul, quantize_multiplier, rounding_shift_right_half_away

ONE = (1 << 31) - 1  # 1 in Q0, as near as it gets
INPUT_BITS = 4  # logistic and tanh read Q4


def q0(real: float) -> int:
    """A constant in Q0."""
    return min(ONE, round(real * 2.0**31))


def shift_left(raw: Int64, bits: int) -> Int64:
    """raw * 2**bits, saturated to 32 bits."""
    return np.asarray(np.clip(raw << bits, -(1 << 31), ONE), np.int64)


def fixed_exp(raw: Int64, integer_bits: int) -> Int64:
    """exp of a value <= 0 in Qn, n <= 5, as Q0: a polynomial on [-1/4, 0) times exp(-2**k) for each bit of the remaining multiple of 1/4."""
    quarter = 1 << (29 - integer_bits)
    low = (raw & (quarter - 1)) - quarter
    x = shift_left(low, integer_bits) + (1 << 28)  # around -1/8
    square = high_mul(x, x)
    cube, fourth = high_mul(square, x), rounding_shift_right_half_away(high_mul(square, square), 2)
    tail = rounding_shift_right_half_away(high_mul(fourth + cube, q0(1 / 3)) + square, 1)
    result = q0(math.exp(-1 / 8)) + high_mul(x + tail, q0(math.exp(-1 / 8)))
    remainder = low - raw
    for power in range(-2, integer_bits):
        bit = (remainder >> (31 - integer_bits + power)) & 1
        result = np.where(bit == 1, high_mul(result, q0(math.exp(-(2.0**power)))), result)
    return np.where(raw == 0, ONE, result)


def reciprocal(raw: Int64) -> Int64:
    """2 / (1 + x) in Q2 of x in [0, 1), Q0: three Newton-Raphson steps from 48/17 - 32/17 d on d = (1 + x) / 2."""
    half = (raw + ONE + 1) >> 1
    y = round(48 / 17 * 2.0**29) + high_mul(half, round(-32 / 17 * 2.0**29))
    for _ in range(3):
        y = y + shift_left(high_mul(y, (1 << 29) - high_mul(half, y)), 2)
    return np.asarray(y, np.int64)


def fixed_logistic(raw: Int64) -> Int64:
    """1 / (1 + exp(-x)) in Q0 of x in Q4."""
    positive = shift_left(reciprocal(fixed_exp(-np.abs(raw), INPUT_BITS)), 1)
    return np.select([raw > 0, raw < 0], [positive, ONE - positive], 1 << 30)


def fixed_tanh(raw: Int64) -> Int64:
    """tanh(x) in Q0 of x in Q4: (1 - e) / (1 + e) with e = exp(-2 |x|)."""
    magnitude = shift_left(reciprocal(fixed_exp(-np.abs(raw), INPUT_BITS + 1)) - (1 << 29), 2)
    return np.select([raw > 0, raw < 0], [magnitude, -magnitude], 0)


def saturating(q: Int64, scale: float, low: int, high: int, function: Callable[[Int64], Int64]) -> Int64:
    """function of q * scale in Q4, limited to [low, high]; inputs outside +-15 or so take the limits."""
    fraction, shift = math.frexp(scale * 2.0 ** (31 - INPUT_BITS))
    multiplier = min(math.floor(fraction * 2.0**31 + 0.5), ONE)
    radius = math.floor(15 * 2.0 ** (31 - INPUT_BITS) / 2.0**shift)
    inside = np.clip(q, -radius, radius)
    raw = high_mul(inside << shift, multiplier) if shift >= 0 else np.zeros_like(q)
    return np.select([q <= -radius, q >= radius], [low, high], np.clip(function(raw), low, high))


def high_mul_16(a: Int64, b: int) -> Int64:
    """a * b / 2**15 of 16-bit integers, rounded to nearest and saturated."""
    return np.asarray(np.minimum((a * b + (1 << 14)) >> 15, (1 << 15) - 1), np.int64)


def multiplier_16(real: float) -> tuple[int, int]:
    """quantize_multiplier with a multiplier of 16 bits."""
    multiplier, shift = quantize_multiplier(real)
    return min((multiplier + (1 << 15)) >> 16, (1 << 15) - 1), shift


def fixed_hard_swish(q: Int64, in_scale: float, out_scale: float) -> Int64:
    """x * relu6(x + 3) / 6 in units of out_scale, with q in units of in_scale; the relu6 is a 16-bit fraction.

    Raises: Unsupported for an output scale under 1/128 of the input's, which the TensorFlow Lite kernel refuses.
    """
    fine_scale = np.float32(in_scale) / np.float32(128.0)
    out_multiplier, out_shift = multiplier_16(float(fine_scale / np.float32(out_scale)))
    if out_shift > 0:
        raise Unsupported(f"hard swish: output scale {out_scale} is under 1/128 of the input scale {in_scale}")
    multiplier, shift = multiplier_16(float(fine_scale / (np.float32(3.0) / np.float32(32768.0))))
    fine = q << 7
    gate = high_mul_16(saturate_16(fine << (shift - 1)) if shift > 0 else fine, multiplier)
    gate = saturate_16(gate << 1) if shift > 0 else rounding_shift_right_half_away(gate, -shift)
    product = ((gate + (1 << 15)) >> 1) * high_mul_16(fine, out_multiplier)
    return rounding_shift_right_half_away(np.sign(product) * (np.abs(product) >> 15), -out_shift)


def saturate_16(raw: Int64) -> Int64:
    return np.asarray(np.clip(raw, -(1 << 15), (1 << 15) - 1), np.int64)
