# SPDX-License-Identifier: Apache-2.0
"""Pools, means, softmax and dense layers: kernels against references, references against definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_kernels_match, op_graph, s8

from midge.fixedpoint import quantize_multiplier
from midge.ir import DType, Op, Quant, TensorType
from midge.ops.dense import Dense
from midge.ops.fixed_functions import fixed_exp, reciprocal
from midge.ops.mean import Mean
from midge.ops.pool import AveragePool, MaxPool
from midge.ops.pool_numbers import quotient
from midge.ops.softmax import Softmax

# ---- Hypothesis: kernels equal references ----


@st.composite
def pools(draw):
    """(graph, feeds): windows as large as the image, padding that counts or not, rounded-up sizes, any two Quants."""
    kernel, strides, pads, extra, size = [], [], [], [], []
    for _ in range(2):
        k = draw(st.integers(1, 4))
        s = draw(st.integers(1, 3))
        begin, end = draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))
        n = draw(st.integers(max(1, k - begin - end), 8))
        over = -(n + begin + end - k) % s if draw(st.booleans()) else 0
        over = 0 if (n + begin + end + over - k) // s * s >= n + begin else over  # the last window starts inside
        kernel, strides, extra, size = [*kernel, k], [*strides, s], [*extra, over], [*size, n]
        pads.append((begin, end))
    if draw(st.integers(0, 4)) == 0:
        kernel, pads, extra = list(size), [(0, 0), (0, 0)], [0, 0]
    channels = draw(st.integers(1, 9))
    around = (pads[0][0], pads[1][0], pads[0][1], pads[1][1])
    x = s8((1, *size, channels), draw(st.floats(0.001, 2.0)), draw(st.sampled_from([-128, -7, 0, 127])))
    op: Op
    if draw(st.integers(0, 2)) == 0:
        dilations = (1, 1) if kernel == size else tuple(draw(st.integers(1, 2)) if k == 1 or n > 2 * k else 1 for k, n in zip(kernel, size, strict=True))
        op = MaxPool(tuple(kernel), tuple(strides), dilations, (around[0], around[1], around[2] + extra[0], around[3] + extra[1]))
        out = op.infer([x])[0]
    else:
        low, high = draw(st.sampled_from([(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0)]))
        op = AveragePool(tuple(kernel), tuple(strides), around, draw(st.booleans()), tuple(extra), low, high)
        quant = x.q if draw(st.booleans()) else Quant.of(draw(st.floats(0.001, 2.0)), draw(st.sampled_from([-128, 3, 127])))
        out = op.infer([x])[0].with_quant(DType.S8, quant)
    return op_graph(op, [x], out, draw(st.sampled_from(["onnx", "tflite"]))), {"in0": integers(draw, x.shape)}


def integers(draw, shape):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        return rng.integers(-128, 128, shape).astype(np.int8)
    return rng.choice(np.array([-128, -127, 0, 126, 127], np.int8), shape)


@settings(max_examples=300, deadline=None)
@given(pools())
def test_pool_kernels_equal_reference(case):
    assert_kernels_match(*case)


@st.composite
def rows(draw, op, most_channels):
    shape = (1, draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, most_channels)))
    x = s8(shape, draw(st.floats(1e-4, 2.0)), draw(st.sampled_from([-128, -7, 0, 127])))
    usual = isinstance(op, Softmax) and draw(st.booleans())
    quant = Quant.of(1 / 256, -128) if usual else Quant.of(draw(st.floats(1e-4, 2.0)), draw(st.sampled_from([-128, 3, 127])))
    return op_graph(op, [x], op.infer([x])[0].with_quant(DType.S8, quant), draw(st.sampled_from(["onnx", "tflite"]))), {"in0": integers(draw, shape)}


@settings(max_examples=150, deadline=None)
@given(rows(Mean(), 11))
def test_mean_kernels_equal_reference(case):
    assert_kernels_match(*case)


@settings(max_examples=150, deadline=None)
@given(rows(Softmax(), 40))
def test_softmax_kernels_equal_reference(case):
    assert_kernels_match(*case)


@st.composite
def dense_layers(draw):
    depth, count = draw(st.integers(1, 20)), draw(st.integers(1, 11))
    shape = (*draw(st.sampled_from([(1,), (1, 3), (1, 2, 3)])), depth)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    w, b = rng.integers(-128, 128, (count, depth)).astype(np.int8), rng.integers(-50000, 50000, count).astype(np.int32)
    scales = rng.uniform(1e-4, 0.1, count if draw(st.booleans()) else 1)
    x = s8(shape, 0.05, draw(st.sampled_from([-128, -3, 0, 127])))
    op = Dense(*draw(st.sampled_from([(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0)])))
    tw, tb = TensorType(DType.S8, w.shape, Quant.of(scales, 0, 0)), TensorType(DType.S32, b.shape)
    out = op.infer([x, tw])[0].with_quant(DType.S8, Quant.of(draw(st.floats(0.01, 2.0)), draw(st.sampled_from([-128, 5, 127]))))
    return op_graph(op, [x, (tw, w), (tb, b)], out, draw(st.sampled_from(["onnx", "tflite"]))), {"in0": integers(draw, shape)}


@settings(max_examples=150, deadline=None)
@given(dense_layers())
def test_dense_kernels_equal_reference(case):
    assert_kernels_match(*case)


# ---- Rounding, by definition ----


@pytest.mark.parametrize("away", [False, True])
def test_quotient_is_exact_division(away):
    total = np.arange(-40000, 40001)
    for count in (*range(1, 66), 125, 1000, 4096):
        whole, rest = total // count, total % count
        tie = 2 * rest == count
        up = np.where(tie, (total > 0) if away else (whole & 1 == 1), 2 * rest > count)
        multiplier, shift = quantize_multiplier(1.0 / count)
        np.testing.assert_array_equal(quotient(total, np.array(multiplier), np.array(shift), away=away), whole + up, err_msg=str(count))


def test_window_kernel_divides_every_sum_exactly():
    """All int8 pairs: half of the sums are odd, so every other average is a tie."""
    pairs = np.stack(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)), -1).reshape(1, 1, -1, 1).astype(np.int8)
    x = s8(pairs.shape, 0.1, -128)
    op = AveragePool((1, 2), (1, 2))
    total = pairs.reshape(-1, 2).astype(int).sum(-1)
    for numerics in ("onnx", "tflite"):
        got = assert_kernels_match(op_graph(op, [x], op.infer([x])[0].with_quant(x.dtype, x.q), numerics), {"in0": pairs})[0].reshape(-1)
        halves = np.rint((total + 256) / 2) - 128 if numerics == "onnx" else np.trunc(total / 2 + np.sign(total) * 0.5)
        np.testing.assert_array_equal(got, halves)


def test_counted_padding_of_raw_averages_is_real_zero():
    """TFLite sees a Pad in front of the pool: zero points are averaged with the rest, halves away from zero."""
    x = np.array([[[[3], [4]]]], np.int8)
    op = AveragePool((1, 2), (1, 1), (0, 1, 0, 1), True)
    for zero_point in (-128, -7, 5):
        kind = s8(x.shape, 0.1, zero_point)
        got = assert_kernels_match(op_graph(op, [kind], op.infer([kind])[0].with_quant(DType.S8, kind.q), "tflite"), {"in0": x})[0].reshape(-1)
        sums = np.array([3 + zero_point, 7, 4 + zero_point])
        np.testing.assert_array_equal(got, np.trunc(sums / 2 + np.sign(sums) * 0.5))


def test_fixed_point_exp_and_reciprocal_are_close():
    a = -np.arange(0, 31 << 26, 99991, dtype=np.int64)
    np.testing.assert_allclose(fixed_exp(a, 5) / 2.0**31, np.exp(a / 2.0**26), atol=2e-9, rtol=2e-6)
    b = np.arange(0, 1 << 31, 99991, dtype=np.int64)
    np.testing.assert_allclose(reciprocal(b) / 2.0**30, 1 / (1 + b / 2.0**31), atol=1e-8)


@pytest.mark.parametrize("channels", [1, 256, 257, 1000, 4095, 4096])
@pytest.mark.parametrize("numerics", ["onnx", "tflite"])
def test_softmax_of_equal_and_of_many_channels(channels, numerics):
    """Equal inputs make the largest sums; from 512 channels on each share is below half an output step."""
    x, out = s8((1, 3, channels), 0.05, 3), s8((1, 3, channels), 1 / 256, -128)
    data = np.full(x.shape, 127, np.int8)
    data[0, 1] = np.random.default_rng(0).integers(-128, 128, channels)
    data[0, 2, 1:] = -128
    got = assert_kernels_match(op_graph(Softmax(), [x], out, numerics), {"in0": data})[0].astype(int)
    assert (np.abs(got[0, 0] + 128 - min(255, 256 / channels)) <= 1).all()
    assert got[0, 2, 0] >= 119 or channels > 1000
