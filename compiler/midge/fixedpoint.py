# SPDX-License-Identifier: Apache-2.0
"""The one definition of integer arithmetic in Python; kernels/fixedpoint.h is its twin in C and both are compared exhaustively.

Two named profiles: `onnx` rounds once, `tflite` rounds twice as gemmlowp does. A real factor is multiplier * 2**(shift - 31) with
multiplier in [2**30, 2**31); shift is positive to the left.

Source: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, section 2.2.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from midge.errors import IRError, Unsupported

Int64 = npt.NDArray[np.int64]
NUMERICS = ("onnx", "tflite")
MIN_SHIFT, MAX_SHIFT = -31, 30


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(multiplier, shift) with real ~ multiplier * 2**(shift - 31), relative error at most 2**-31; (0, 0) for factors under 2**-32.

    Raises: Unsupported for NaN, infinite, negative or absurdly large factors.
    """
    if not math.isfinite(real) or real < 0.0:
        raise Unsupported(f"scale factor {real!r} is not a finite number >= 0")
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    if shift < MIN_SHIFT:
        return 0, 0
    if shift > MAX_SHIFT:
        raise Unsupported(f"scale factor {real!r} is 2**{MAX_SHIFT} or more: the scales of input, weights and output do not belong together")
    return multiplier, shift


def quantize_multipliers(real: npt.ArrayLike) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """quantize_multiplier over an array: (multipliers int32, shifts int32)."""
    pairs = [quantize_multiplier(float(value)) for value in np.asarray(real, np.float64).reshape(-1)]
    return np.array([m for m, _ in pairs], np.int32), np.array([s for _, s in pairs], np.int32)


def rounding_shift_right_half_away(value: Int64, shift: Int64 | int) -> Int64:
    """value / 2**shift rounded to nearest, ties away from zero (gemmlowp RoundingDivideByPOT)."""
    mask = np.asarray((np.int64(1) << np.asarray(shift, np.int64)) - 1, np.int64)
    threshold = np.asarray((mask >> 1) + (value < 0), np.int64)
    return np.asarray((value >> shift) + ((value & mask) > threshold), np.int64)


def high_mul(a: Int64, b: npt.ArrayLike) -> Int64:
    """(a * b + 2**30) >> 31, saturated at 2**31 - 1 (gemmlowp SaturatingRoundingDoublingHighMul) for int32 operands."""
    product: Int64 = a * np.asarray(b, np.int64)
    return np.asarray(np.minimum((product + (1 << 30)) >> 31, (1 << 31) - 1), np.int64)


def requantize(acc: npt.ArrayLike, multiplier: npt.ArrayLike, shift: npt.ArrayLike, numerics: str) -> Int64:
    """acc * multiplier * 2**(shift - 31), rounded as `numerics` says. Arrays broadcast; acc within int32.

    onnx: one rounding, half up: floor(x + 1/2). tflite: high_mul of the left-shifted value, then a right shift with ties away from zero.
    With shift > 0 acc is first limited to +-2**(30 - shift): beyond that every 8-bit output is saturated anyway.
    """
    factor, shifted = np.asarray(multiplier, np.int64), np.asarray(shift, np.int64)
    limit = np.where(shifted > 0, np.int64(1) << (30 - np.maximum(shifted, 0)), np.int64(1) << 31)
    limited = np.clip(np.asarray(acc, np.int64), -limit, limit)
    if numerics == "onnx":
        total = 31 - shifted
        return np.asarray((limited * factor + (np.int64(1) << (total - 1))) >> total, np.int64)
    if numerics == "tflite":
        left, right = np.maximum(shifted, 0), np.maximum(-shifted, 0)
        return rounding_shift_right_half_away(high_mul(np.asarray(limited << left, np.int64), factor), np.asarray(right, np.int64))
    raise IRError(f"no numerics named {numerics!r} (known: {', '.join(NUMERICS)})")


def shift_right_half_even(value: Int64, shift: int) -> Int64:
    """value / 2**shift rounded to nearest, ties to even: what a float rounding does, for exact integers."""
    half = np.int64(1) << (shift - 1)
    rounded = (value + half) >> shift
    tie = (value & ((np.int64(1) << shift) - 1)) == half
    return np.asarray(rounded - (tie & ((rounded & 1) == 1)), np.int64)


def quantize_array(x: npt.ArrayLike, scale: npt.ArrayLike, zero_point: npt.ArrayLike, low: int = -128, high: int = 127) -> Int64:
    """clamp(round_half_even(x / scale) + zero_point): ONNX QuantizeLinear, in float32 as ONNX Runtime does."""
    ratio = np.asarray(x, np.float32) / np.asarray(scale, np.float32)
    return np.asarray(np.clip(np.rint(ratio).astype(np.float64) + np.asarray(zero_point), low, high), np.int64)


def activation_range(low: float, high: float, scale: float, zero_point: int, qmin: int = -128, qmax: int = 127) -> tuple[int, int]:
    """(act_min, act_max): the integers that the real bounds [low, high] of a fused clamp become."""

    def quantized(bound: float, fallback: int) -> int:
        if not math.isfinite(bound):
            return fallback
        return min(qmax, max(qmin, zero_point + int(np.rint(np.float32(bound) / np.float32(scale)))))

    return quantized(low, qmin), quantized(high, qmax)
