# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolution on the DSP extension: against the reference, assembly against its twins, shared shifts, and what is not served."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dsp_cases import Case, assert_assembly_matches, symbols
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_kernels_match, needs_arm, op_graph, program_of, s8

from midge.fixedpoint import requantize
from midge.ir import DType, Quant, TensorType
from midge.microkernels.depthwise import DEPTHS, STRIP_NBYTES, Depthwise
from midge.microkernels.gemm import Gemm
from midge.ops.conv import Conv2D

STRIP, DIRECT = "midge_depthwise_dsp_s8", "midge_depthwise_direct_s8"


def depthwise(rng: np.random.Generator, op: Conv2D, shape: tuple[int, int, int], kernel: tuple[int, int], numerics: str, zero_point: int, even: bool) -> Case:
    """A graph of one layer on (H, W, C) and its input, extremes included. `even`: scales within a factor of 8, so that channels may share a shift."""
    channels = shape[2]
    op = replace(op, groups=channels)
    ends = np.array([-128, 127], np.int8)
    x = rng.choice(ends, (1, *shape)) if rng.random() < 0.3 else rng.integers(-128, 128, (1, *shape)).astype(np.int8)
    weights = rng.choice(ends, (channels, *kernel, 1)) if rng.random() < 0.3 else rng.integers(-128, 128, (channels, *kernel, 1)).astype(np.int8)
    weights[rng.random(channels) < 0.1] = 0  # constant channels
    bias = rng.integers(-9000, 9000, channels).astype(np.int32)
    top = rng.choice([-11.0, -6.0, -2.0])
    scales = np.float32(2.0 ** rng.uniform(top - 3.0 if even else -11.0, top, channels))
    tx, tb = s8(x.shape, 0.5, int(rng.choice([-128, -3, 0, 127]))), TensorType(DType.S32, bias.shape)
    tw = TensorType(DType.S8, weights.shape, Quant.of(scales, 0, 0))
    ty = op.infer([tx, tw])[0].with_quant(DType.S8, Quant.of(0.5, zero_point))
    return op_graph(op, [tx, (tw, weights), (tb, bias)], ty, numerics), {"in0": x}


def three_by_three(rng: np.random.Generator, numerics: str, most: int = 12) -> Case:
    """3x3 of stride 1 or 2, any padding, odd and even sizes, channel counts that do not come in fours."""
    stride, pads = int(rng.integers(1, 3)), tuple(int(n) for n in rng.integers(0, 3, 4))
    height, width = (int(rng.integers(max(1, low - pads[i] - pads[i + 2]), most)) for i, low in ((0, 3), (1, 3 + stride)))
    op = Conv2D((stride, stride), pads=pads)
    return depthwise(rng, op, (height, width, int(rng.integers(4, 14))), (3, 3), numerics, int(rng.choice([-128, -128, 5])), bool(rng.random() < 0.7))


def any_window(rng: np.random.Generator, numerics: str) -> Case:
    """Windows of other sizes, strides and dilations; one in three is a column."""
    column = rng.random() < 0.3
    kernel = int(rng.integers(1, 16 if column else 6)), 1 if column else int(rng.integers(1, 6))
    dilations = int(rng.integers(1, 3)), 1 if column else int(rng.integers(1, 3))
    pads = tuple(int(n) * (1 - column) for n in rng.integers(0, 3, 4))
    least = [max(1, dilations[i] * (kernel[i] - 1) + 1 - pads[i] - pads[i + 2]) for i in range(2)]
    height, width = (1 if column and i else int(rng.integers(least[i], least[i] + 5)) for i in range(2))
    op = Conv2D((int(rng.integers(1, 4)), int(rng.integers(1, 4))), dilations, pads)
    return depthwise(rng, op, (height, width, int(rng.integers(4, 14))), kernel, numerics, int(rng.choice([-128, 5])), False)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["onnx", "tflite"]))
def test_strips_equal_reference(seed, numerics):
    graph, feeds = three_by_three(np.random.default_rng(seed), numerics, 24)
    assert symbols(graph) == [STRIP]
    assert_kernels_match(graph, feeds, "cortex-m4")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["onnx", "tflite"]))
def test_single_pixels_equal_reference(seed, numerics):
    graph, feeds = any_window(np.random.default_rng(seed), numerics)
    assert_kernels_match(graph, feeds, "cortex-m4")


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55", "cortex-m3", "cortex-m0"])
@pytest.mark.parametrize("seed", [969, 1048, 1084])
def test_columns_padded_at_their_sides_are_no_plain_columns(seed, target):
    """One pixel wide inputs whose windows reach beyond it: pixels of padding only."""
    graph, feeds = any_window(np.random.default_rng(seed), "onnx")
    assert_kernels_match(graph, feeds, target)


@needs_arm
@pytest.mark.parametrize(("numerics", "target"), [("onnx", "cortex-m4"), ("tflite", "cortex-m33"), ("onnx", "cortex-m7"), ("tflite", "cortex-m4")])
def test_assembly_of_strips_equals_twins(numerics, target, tmp_path):
    """Each stride with narrow, wide, odd and even outputs, channels with a shift in common and with their own, deep and shallow strips."""
    rng = np.random.default_rng(7)
    cases = [three_by_three(rng, numerics) for _ in range(16)]
    for stride in (1, 2):
        for width in (2, 3, 8, 9, 16, 17, 19, 40):
            op = Conv2D((stride, stride), pads=(1, 1, 1, 1) if width % 3 else (0, 0, 1, 1))
            for zero_point, even in ((-128, True), (-128, False), (3, True)):
                shape = (int(rng.integers(3, 22)), stride * width, int(rng.integers(4, 10)))
                cases.append(depthwise(rng, op, shape, (3, 3), numerics, zero_point, even))
    assert_assembly_matches(cases, target, "balanced", tmp_path, STRIP)
    used = {symbol for graph, _ in cases for symbol in program_of(graph, target).routines}
    for kinds in (
        ("_s1_", "_s2_"),
        ("_s1_8", "_s2_3_"),
        ("_shift12", "_shift8", "_s1_odd_shift"),
        ("depthwise10_", "depthwise6_"),
        ("spread10", "spread6"),
    ):
        assert all(any(kind in symbol for symbol in used) for kind in kinds), (kinds, used)


@needs_arm
@pytest.mark.parametrize(("numerics", "target"), [("onnx", "cortex-m4"), ("tflite", "cortex-m33")])
def test_assembly_of_single_pixels_equals_twin(numerics, target, tmp_path):
    rng = np.random.default_rng(11)
    cases = [case for case in (any_window(rng, numerics) for _ in range(40)) if symbols(case[0]) == [DIRECT]]
    assert len(cases) > 30
    assert_assembly_matches(cases, target, "balanced", tmp_path, DIRECT)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["onnx", "tflite"]))
def test_a_shift_in_common_changes_nothing(seed, numerics):
    """Scaled weights, one shift and one constant for both roundings give what two roundings give, for sums up to the bounds."""
    rng = np.random.default_rng(seed)
    shift = -rng.integers(5, 12, 6)
    gemm = Gemm(np.full((6, 9), 127), np.zeros(6, np.int64), rng.integers(1 << 30, 1 << 31, 6), shift, -128)
    layer = Depthwise(gemm, 8, 8, 8, 1, 1, numerics)
    total = layer.total
    assert total
    scale = total + 1 + shift
    half = np.where(scale > 1, 1 << np.maximum(scale - 2, 0), 0) if numerics == "tflite" else 0
    for acc in (rng.integers(-200000, 200000, (200, 6)), rng.integers(-3000, 3000, (200, 6))):
        want = np.clip(requantize(acc, gemm.multiplier, shift, numerics) - 128, -128, 127)
        constant = (-255 << (total - 1)) + half
        got = np.clip(((((acc << scale) * gemm.multiplier) >> 32) + constant) >> total, -128, 127)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("shift", "zero_point", "numerics", "total"),
    [
        ([-5, -11], -128, "tflite", 12),
        ([-4, -4], -128, "tflite", 8),
        ([-12, -9], -128, "onnx", 12),
        ([-12, -9], -128, "tflite", 16),
        ([-4, -12], -128, "onnx", 0),
        ([-5, -11], 0, "tflite", 0),
        ([-5, -11], 0, "onnx", 12),
    ],
)
def test_channels_share_a_shift_where_scaled_weights_fit(shift, zero_point, numerics, total):
    gemm = Gemm(np.full((2, 9), -128), np.zeros(2, np.int64), np.full(2, 1 << 30), np.array(shift), zero_point)
    assert Depthwise(gemm, 8, 8, 8, 1, 1, numerics).total == total
    assert Depthwise(replace(gemm, bias=np.array([0, 1 << 29])), 8, 8, 8, 1, 1, numerics).total == 0


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("width", [2, 3, 5, 8, 24, 48, 200])
@pytest.mark.parametrize("height", [1, 2, 3, 7, 16, 17, 25, 48])
def test_strips_hold_what_a_call_reads(height, width, stride):
    gemm = Gemm(np.zeros((4, 9), np.int8), np.zeros(4, np.int64), np.full(4, 1 << 30), np.full(4, -5), 0)
    layer = Depthwise(gemm, height, width, width * stride, 1, stride, "onnx")
    assert layer.block % 2 == 0
    assert layer.depth in DEPTHS
    assert layer.depth >= (layer.block - 1) * stride + 3
    assert layer.block <= 8
    assert layer.scratch <= STRIP_NBYTES or layer.depth == min(DEPTHS)


def test_layers_that_are_not_served_say_why():
    rng = np.random.default_rng(0)
    few = depthwise(rng, Conv2D(), (5, 5, 3), (3, 3), "onnx", 0, True)[0]
    large = depthwise(rng, Conv2D(), (9, 9, 8), (8, 8), "onnx", 0, True)[0]
    for graph, reason in ((few, "fewer than four"), (large, "64 taps")):
        call = program_of(graph, "cortex-m4").calls[0]
        assert call.kernel.family != "depthwise_dsp"
        assert any(line.startswith("depthwise_direct_s8: ") and reason in line for line in call.refused)
    for graph, reason in (
        (depthwise(rng, Conv2D(), (9, 9, 8), (5, 5), "onnx", 0, True)[0], "not 3x3"),
        (depthwise(rng, Conv2D(dilations=(2, 2)), (9, 9, 8), (3, 3), "onnx", 0, True)[0], "undilated"),
        (depthwise(rng, Conv2D(), (9, 3, 8), (3, 3), "onnx", 0, True)[0], "one output column"),
    ):
        call = program_of(graph, "cortex-m4").calls[0]
        assert call.kernel.symbol == DIRECT
        assert any(line.startswith("depthwise_dsp_s8: ") and reason in line for line in call.refused)


def test_a_long_column_is_served():
    graph, feeds = depthwise(np.random.default_rng(0), Conv2D(), (64, 1, 5), (60, 1), "tflite", -9, False)
    assert symbols(graph) == [DIRECT]
    assert_kernels_match(graph, feeds, "cortex-m4")
