# SPDX-License-Identifier: Apache-2.0
"""The two definitions of integer arithmetic, Python and C, against each other and against exact rationals."""

from __future__ import annotations

import ctypes
import math
import subprocess
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from midge.kernels import SOURCES

from midge import fixedpoint
from midge.errors import Unsupported

EXPORTS = """
#include "fixedpoint.h"
#include <stddef.h>
void requantize(const int32_t *acc, const int32_t *m, const int32_t *s, int rounding, int32_t *out, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    out[i] = rounding ? midge_requantize(acc[i], m[i], s[i], MIDGE_ROUND_TWICE) : midge_requantize(acc[i], m[i], s[i], MIDGE_ROUND_ONCE);
  }
}
void half_even(const int64_t *v, const int32_t *s, int32_t *out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = midge_shift_right_half_even(v[i], s[i]);
}
"""


@pytest.fixture(scope="module")
def c(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixedpoint")
    (folder / "exports.c").write_text(EXPORTS)
    subprocess.run(
        [
            "gcc",
            "-std=c99",
            "-O1",
            "-fsanitize=undefined",
            "-fno-sanitize-recover=all",
            "-static-libubsan",
            "-shared",
            "-fPIC",
            f"-I{SOURCES}",
            "exports.c",
            "-o",
            "exports.so",
        ],
        cwd=folder,
        check=True,
    )
    return ctypes.CDLL(str(folder / "exports.so"))


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def c_requantize(c, acc, multiplier, shift, numerics):
    acc, multiplier, shift = (np.ascontiguousarray(a, np.int32) for a in np.broadcast_arrays(acc, multiplier, shift))
    out = np.zeros(acc.shape, np.int32)
    c.requantize(pointer(acc), pointer(multiplier), pointer(shift), int(numerics == "tflite"), pointer(out), ctypes.c_size_t(acc.size))
    return out


MULTIPLIERS = np.array([0, 1 << 30, (1 << 30) + 1, 1518500250, (1 << 31) - 1], np.int64)
EDGES = np.array([-(1 << 31), -(1 << 31) + 1, -(1 << 30), -65536, -32769, -257, -3, -2, -1, 0, 1, 2, 3, 255, 32768, 65535, (1 << 30), (1 << 31) - 1], np.int64)


@pytest.mark.parametrize("numerics", fixedpoint.NUMERICS)
def test_c_equals_python_on_every_shift(c, numerics):
    rng = np.random.default_rng(0)
    acc = np.concatenate([EDGES, np.arange(-3000, 3000), rng.integers(-(1 << 31), 1 << 31, 2000), rng.integers(-(1 << 20), 1 << 20, 2000)])
    multipliers = np.concatenate([MULTIPLIERS, rng.integers(1 << 30, 1 << 31, 20)])
    for shift in range(fixedpoint.MIN_SHIFT, fixedpoint.MAX_SHIFT + 1):
        a, m = (x.reshape(-1) for x in np.meshgrid(acc, multipliers))
        expected = fixedpoint.requantize(a, m, shift, numerics)
        got = c_requantize(c, a, m, shift, numerics)
        np.testing.assert_array_equal(got, expected.astype(np.int32), err_msg=f"shift {shift}")


def test_half_even_equals_c_and_numpy(c):
    rng = np.random.default_rng(0)
    for shift in (1, 2, 7, 20, 31, 40, 62):
        bound = min(1 << 62, 1 << (shift + 30))
        value = np.concatenate([rng.integers(-bound, bound, 500), (np.arange(-40, 40) << shift >> 1).astype(np.int64)])
        out, shifts = np.zeros(value.shape, np.int32), np.full(value.shape, shift, np.int32)
        c.half_even(pointer(value), pointer(shifts), pointer(out), ctypes.c_size_t(value.size))
        expected = [round(Fraction(int(v), 1 << shift)) for v in value]  # Python rounds half to even
        np.testing.assert_array_equal(fixedpoint.shift_right_half_even(value, shift), expected)
        np.testing.assert_array_equal(out, expected)


@given(st.integers(-(1 << 31), (1 << 31) - 1), st.integers(1 << 30, (1 << 31) - 1), st.integers(-31, 0))
def test_one_rounding_is_round_half_up(acc, multiplier, shift):
    exact = Fraction(acc * multiplier, 1 << (31 - shift))
    assert fixedpoint.requantize(acc, multiplier, shift, "onnx") == math.floor(exact + Fraction(1, 2))


@given(st.integers(-(1 << 31), (1 << 31) - 1), st.integers(1 << 30, (1 << 31) - 1), st.integers(-31, 0))
def test_two_roundings_by_definition(acc, multiplier, shift):
    high = math.floor(Fraction(acc * multiplier, 1 << 31) + Fraction(1, 2))
    exact = Fraction(high, 1 << -shift)
    away = math.floor(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
    assert fixedpoint.requantize(acc, multiplier, shift, "tflite") == away


@given(st.floats(2.0**-31, 2.0**29))
def test_multiplier_is_close_and_normal(real):
    multiplier, shift = fixedpoint.quantize_multiplier(real)
    assert 1 << 30 <= multiplier < 1 << 31
    assert abs(multiplier * 2.0 ** (shift - 31) / real - 1.0) <= 2.0**-31


@pytest.mark.parametrize("real", [math.nan, math.inf, -1.0, 2.0**40])
def test_meaningless_factors_are_refused(real):
    with pytest.raises(Unsupported):
        fixedpoint.quantize_multiplier(real)


def test_tiny_factors_are_zero():
    assert fixedpoint.quantize_multiplier(2.0**-40) == (0, 0)
    assert fixedpoint.quantize_multiplier(0.0) == (0, 0)


def test_saturated_left_shift_stays_saturated():
    """With shift > 0 the limited accumulator still lands beyond any 8-bit range, on the right side."""
    for shift in range(1, 23):
        for acc in (1 << 31 - shift, (1 << 31) - 1):
            for numerics in fixedpoint.NUMERICS:
                assert fixedpoint.requantize(acc, 1 << 30, shift, numerics) > 255
                assert fixedpoint.requantize(-acc, 1 << 30, shift, numerics) < -255


def test_activation_range_rounds_as_quantize_does():
    assert fixedpoint.activation_range(0.0, math.inf, 0.1, -128) == (-128, 127)
    assert fixedpoint.activation_range(0.0, 6.0, 0.05, -128) == (-128, -8)
    assert fixedpoint.activation_range(-1.0, 1.0, 0.1, 5) == (-5, 15)
