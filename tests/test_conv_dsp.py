# SPDX-License-Identifier: Apache-2.0
"""Two pixels by two channels on the DSP extension: against the reference, assembly against its twins, bounds, and what it does not serve."""

from __future__ import annotations

import numpy as np
import pytest
from dsp_cases import assert_assembly_matches, convolution
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_kernels_match, joined, needs_arm, program_of

from midge.fixedpoint import requantize
from midge.microkernels.gemm import Gemm, unrolled
from midge.microkernels.unpack import window_order
from midge.ops.conv import Conv2D

KERNEL = "midge_conv2d_dsp_s8"
POINTWISE = "midge_pointwise_dsp_s8"


def geometry(rng: np.random.Generator, channels: int) -> tuple[Conv2D, tuple[int, ...], tuple[int, int]]:
    """A convolution of more than one pixel, its input and its kernel; windows may be larger than the image, rows are a word or more."""
    while True:
        kernel = int(rng.integers(1, 6)), int(rng.integers(1, 5))
        pads = tuple(int(n) for n in rng.integers(0, 3, 4))
        shape = 1, int(rng.integers(1, 9)), int(rng.integers(1, 9)), channels
        op = Conv2D((int(rng.integers(1, 3)), int(rng.integers(1, 4))), (int(rng.integers(1, 3)), 1), pads)
        height = (shape[1] + pads[0] + pads[2] - op.dilations[0] * (kernel[0] - 1) - 1) // op.strides[0] + 1
        width = (shape[2] + pads[1] + pads[3] - kernel[1]) // op.strides[1] + 1
        if height > 0 and width > 0 and height * width > 1 and shape[2] * channels > 3:
            return op, shape, kernel


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3, 4, 5, 8, 11, 12, 16]), st.sampled_from(["balanced", "speed"]), st.booleans())
def test_twins_equal_reference(seed, channels, optimize, extreme):
    rng = np.random.default_rng(seed)
    op, shape, kernel = geometry(rng, channels)
    graph, feeds = convolution(rng, op, shape, kernel, int(rng.integers(1, 9)), str(rng.choice(["onnx", "tflite"])), extreme)
    assert_kernels_match(graph, feeds, "cortex-m4", optimize)


@needs_arm
@pytest.mark.parametrize(
    ("numerics", "optimize", "target"),
    [("onnx", "balanced", "cortex-m4"), ("tflite", "balanced", "cortex-m33"), ("onnx", "speed", "cortex-m7"), ("tflite", "speed", "cortex-m4")],
)
def test_assembly_equals_twins(numerics, optimize, target, tmp_path):
    rng = np.random.default_rng(5)
    cases = []
    for i in range(24):
        op, shape, kernel = geometry(rng, [1, 3, 4, 6, 8, 16, 20, 31][i % 8])
        cases.append(convolution(rng, op, shape, kernel, int(rng.integers(1, 8)), numerics, i % 3 == 0))
    for channels in (8, 37, 64, 148, 256):  # one tap: depths with and without a loop, odd numbers of pixels
        cases.append(convolution(rng, Conv2D((2, 2)), (1, 5, 5, channels), (1, 1), 3, numerics, False))
    cases.append(convolution(rng, Conv2D((2, 2)), (1, 23, 23, 100), (1, 1), 8, numerics, False))  # enough for a routine of its own
    for channels in (64, 131):  # runs of 192 bytes, and acts further apart than one store reaches
        cases.append(convolution(rng, Conv2D(pads=(0, 1, 0, 1)), (1, 5, 5, channels), (3, 3), 3, numerics, False))
    for depth, out in ((4, 5), (8, 1), (8, 6), (4, 9), (8, 16)):  # taps in registers, even and odd numbers of pixels
        cases.append(convolution(rng, Conv2D(), (1, 3, out + 1, depth), (1, 1), out, numerics, out == 6))
    assert_assembly_matches(cases, target, optimize, tmp_path, KERNEL, *((POINTWISE,) if optimize == "speed" else ()))


@needs_arm
@pytest.mark.parametrize(("numerics", "most"), [("tflite", 16), ("onnx", 32)])
def test_short_ladders_equal_twins(numerics, most, tmp_path):
    """No deeper layer is there whose routine they would call."""
    rng = np.random.default_rng(most)
    cases = [convolution(rng, Conv2D(), (1, 3, 3, depth), (1, 1), out, numerics, depth == most) for depth, out in ((4, 3), (most - 4, 4), (most, 6))]
    assert_assembly_matches(cases, "cortex-m4", "balanced", tmp_path, KERNEL)
    routines = program_of(joined([graph for graph, _ in cases]), "cortex-m4").routines
    assert any(f"gemm_p8_{most}" in symbol for symbol in routines) and not any("gemm_p8_64" in symbol for symbol in routines)


def test_layers_share_what_is_as_fast():
    """A ladder is entered where as many steps are left, so the longest serves all; alone, a layer has the shortest."""
    rng = np.random.default_rng(1)
    graphs = [convolution(rng, Conv2D(), (1, 3, 3, depth), (1, 1), 4, "onnx", True)[0] for depth in (16, 64, 96)]
    alone = [{symbol for symbol in program_of(graph, "cortex-m4").routines if "gemm" in symbol} for graph in graphs]
    together = {symbol.split("_")[3] for symbol in program_of(joined(graphs), "cortex-m4").routines if "gemm" in symbol}
    assert [symbol.split("_")[3] for (symbol,) in alone] == ["16", "64", "96"]
    assert together == {"96"}


@pytest.mark.parametrize("steps", range(1, 400))
def test_a_loop_and_its_tail_walk_the_whole_depth(steps):
    body, tail = unrolled(steps)
    assert body <= 24
    assert tail < 24
    assert (steps - tail) % body == 0
    assert body + tail <= steps


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40))
def test_every_tap_has_one_place(height, run):
    assert sorted(window_order(height, run)) == list(range(height * run))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["onnx", "tflite"]))
def test_settled_channels_keep_their_outputs(seed, numerics):
    """Channels that saturate or have no weights become small constants; no output of any input changes."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (6, 5)) * (rng.random((6, 1)) < 0.5)
    bias = np.int64(rng.choice([0, 77, -(1 << 20), 1 << 30, -(1 << 30)], 6))
    gemm = Gemm(weights, bias, np.int64(rng.integers(1 << 30, 1 << 31, 6)), np.int64(rng.integers(-28, 1, 6)), int(rng.choice([-128, -7, 127])))
    settled = gemm.settled(numerics)
    for x in (*rng.integers(-128, 128, (20, 5)), np.full(5, -128), np.full(5, 127)):
        a, b = (np.clip(requantize(g.bias + g.weights @ x, g.multiplier, g.shift, numerics) + g.zero_point, -128, 127) for g in (gemm, settled))
        np.testing.assert_array_equal(a, b)
    assert (np.abs(settled.bias[~settled.weights.any(1)]) <= 4 * 255).all()


def test_packed_weights_are_refused_where_a_lane_overflows():
    high, low = np.full(4, -128), np.full(4, -1)
    gemm = Gemm(np.stack([low, high]), np.zeros(2, np.int64), np.full(2, 1 << 30), np.full(2, -4), 0)
    assert "-128 stands over" in gemm.refuses_packing()
    assert Gemm(np.stack([high, low]), gemm.bias, gemm.multiplier, gemm.shift, 0).refuses_packing() == ""
    assert "2**23" in Gemm(np.stack([low, low]), np.array([0, 1 << 23]), gemm.multiplier, gemm.shift, 0).refuses_packing()
    assert "2**30" in Gemm(np.stack([low, low]), np.array([1 << 30, 0]), gemm.multiplier, gemm.shift, 0).refuses()
    assert "not shifted right" in Gemm(gemm.weights, gemm.bias, gemm.multiplier, np.array([-3, 0]), 0).refuses()
    assert "zero point" in Gemm(gemm.weights, gemm.bias, gemm.multiplier, np.array([-26, -3]), 127).refuses()


def test_layers_it_does_not_serve_say_why():
    rng = np.random.default_rng(0)
    dilated, _ = convolution(rng, Conv2D(dilations=(1, 2)), (1, 4, 4, 16), (1, 2), 4, "onnx", False)
    single, _ = convolution(rng, Conv2D(), (1, 1, 1, 16), (1, 1), 4, "onnx", False)
    deep, _ = convolution(rng, Conv2D(), (1, 1, 2, 5000), (1, 1), 2, "onnx", False)
    for graph, reason in ((dilated, "dilated in width"), (single, "one pixel"), (deep, "5000 taps")):
        call = program_of(graph, "cortex-m4").calls[0]
        assert call.kernel.symbol != KERNEL
        assert any(line.startswith("conv2d_dsp_s8: ") and reason in line for line in call.refused)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 8]), st.integers(1, 12), st.integers(2, 9), st.booleans())
def test_taps_in_registers_equal_reference(seed, depth, out, width, extreme):
    rng = np.random.default_rng(seed)
    graph, feeds = convolution(rng, Conv2D(), (1, 1, width, depth), (1, 1), out, str(rng.choice(["onnx", "tflite"])), extreme)
    assert program_of(graph, "cortex-m4", "speed").calls[0].kernel.symbol == POINTWISE
    assert_kernels_match(graph, feeds, "cortex-m4", "speed")


def test_one_column_is_not_read_in_pairs_of_pixels():
    graph, feeds = convolution(np.random.default_rng(0), Conv2D(), (1, 6, 1, 8), (1, 1), 4, "onnx", False)
    call = program_of(graph, "cortex-m4", "speed").calls[0]
    assert any(line.startswith("pointwise_dsp_s8+: one column") for line in call.refused)
    assert_kernels_match(graph, feeds, "cortex-m4", "speed")


@pytest.mark.parametrize(("kernel", "width"), [(1, 1), (3, 1)])
def test_rows_shorter_than_a_word(kernel, width):
    """Without padding windows of one to three bytes are served, with padding a window is made of whole words of a row."""
    rng = np.random.default_rng(0)
    inside, feeds = convolution(rng, Conv2D(), (1, 8, width, 3), (kernel, 1), 4, "onnx", False)
    assert program_of(inside, "cortex-m4").calls[0].kernel.symbol == KERNEL
    assert_kernels_match(inside, feeds, "cortex-m4")
    outside, feeds = convolution(rng, Conv2D(pads=(0, 1, 0, 1)), (1, 8, width, 3), (kernel, 2), 4, "onnx", False)
    assert any("padded rows of less than four bytes" in line for line in program_of(outside, "cortex-m4").calls[0].refused)
    assert_kernels_match(outside, feeds, "cortex-m4")


def test_depths_below_a_ladder_share_a_routine():
    rng = np.random.default_rng(0)
    graph = joined([convolution(rng, Conv2D(), (1, 3, 3, channels), (1, 1), 4, "onnx", False)[0] for channels in (40, 48, 64)])
    assert [symbol for symbol in program_of(graph, "cortex-m4").routines if "gemm" in symbol] == ["midge_gemm_p8_64_shift12"]


def test_depths_with_the_same_loop_share_a_routine():
    rng = np.random.default_rng(0)
    graph = joined([convolution(rng, Conv2D(), (1, 3, 3, channels), (1, 1), 4, "onnx", False)[0] for channels in (192, 288, 576)])
    assert len([symbol for symbol in program_of(graph, "cortex-m4").routines if "gemm" in symbol]) == 1


def test_one_column_is_computed_by_pairs_of_rows():
    """Rows that hold an odd number of pixels are computed two at a time, and a call says so."""
    graph, feeds = convolution(np.random.default_rng(0), Conv2D(), (1, 9, 1, 8), (3, 1), 4, "onnx", False)
    call = program_of(graph, "cortex-m4").calls[0]
    assert (call.kernel.symbol, call.block) == (KERNEL, 2)
    assert_kernels_match(graph, feeds, "cortex-m4")
