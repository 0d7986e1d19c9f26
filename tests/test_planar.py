# SPDX-License-Identifier: Apache-2.0
"""Planar rows: depthwise layers that read them behind convolutions that write them, against the reference, assembly against twins, and where there are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dsp_cases import Case, assert_assembly_matches, convolution, symbols
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import assert_kernels_match, needs_arm, program_of
from test_depthwise_dsp import depthwise

from midge.fixedpoint import requantize
from midge.ir import Graph, Node, Value
from midge.microkernels.gemm import Gemm
from midge.microkernels.planar_stream import byte_stream, constant, shortened
from midge.ops.conv import Conv2D
from midge.program import planar_order
from midge.run.interpreter import Interpreter
from midge.run.reference import run_reference

PLANAR, STRIP = "midge_depthwise_planar_s8", "midge_depthwise_dsp_s8"
PAIRS, POINTWISE = "midge_conv2d_dsp_s8", "midge_pointwise_dsp_s8"


def chained(first: Case, second: Case) -> Case:
    """One graph of two layers, the second on what the first computes."""
    (a, feeds), (b, _) = first, second
    graph = Graph("chained", numerics=a.numerics, inputs=list(a.inputs), outputs=["y"])
    graph.values = dict(a.values) | {f"b_{name}": Value(f"b_{name}", value.type, value.data) for name, value in b.values.items() if value.data is not None}
    graph.values["y"] = Value("y", b.type("out0"))
    node = b.nodes[0]
    constants = [f"b_{name}" for name in node.inputs[1:]]
    graph.values["out0"] = Value("out0", b.type("in0"))
    graph.nodes = [replace(a.nodes[0], name="producer"), Node("reader", node.op, ["out0", *constants], ["y"])]
    return graph, feeds


def pair(rng: np.random.Generator, numerics: str, width: int, stride: int, pads: tuple[int, int], depth: int = 8, channels: int = 0, kernel: int = 1) -> Case:
    """A convolution with a kernel of `kernel` columns and a depthwise 3x3 of (left, right) padding on its output of `width` columns."""
    channels, height = channels or int(rng.integers(4, 12)), int(rng.integers(1, 7))
    op = Conv2D(pads=(0, kernel // 2, 0, kernel // 2))
    producer = convolution(rng, op, (1, height, width, depth), (1, kernel), channels, numerics, bool(rng.random() < 0.3))
    reader_op = Conv2D((stride, stride), pads=(1, pads[0], 1, pads[1]))
    zero_point, even = int(rng.choice([-128, -128, 5])), bool(rng.random() < 0.7)
    return chained(producer, depthwise(rng, reader_op, (height, width, channels), (3, 3), numerics, zero_point, even))


def random_pair(rng: np.random.Generator, numerics: str, most: int = 40) -> Case:
    stride, pads = int(rng.integers(1, 3)), (int(rng.integers(0, 2)), int(rng.integers(0, 2)))
    width = int(rng.integers(2 + stride + 2, most))
    if stride == 1 and pads[0] == 0 and width - 2 + pads[1] > 12:
        width = width // 8 * 8 + 4
    return pair(rng, numerics, width, stride, pads, int(rng.choice([3, 4, 8, 12])), kernel=int(rng.choice([1, 1, 3])))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["onnx", "tflite"]), st.sampled_from(["balanced", "speed"]))
def test_planar_rows_equal_reference(seed, numerics, optimize):
    graph, feeds = random_pair(np.random.default_rng(seed), numerics)
    assert symbols(graph, optimize=optimize)[1] in (PLANAR, STRIP)
    assert_kernels_match(graph, feeds, "cortex-m4", optimize)


@needs_arm
@pytest.mark.parametrize(
    ("numerics", "target", "optimize"),
    [("onnx", "cortex-m4", "speed"), ("tflite", "cortex-m33", "speed"), ("onnx", "cortex-m33", "balanced"), ("tflite", "cortex-m4", "balanced")],
)
def test_assembly_of_planar_rows_equals_twins(numerics, target, optimize, tmp_path):
    """Every width from 2 to 26 of both strides, with and without padding; weights of 8 and 16 bits, channels with a shift in common and with their own."""
    rng = np.random.default_rng(3)
    cases = []
    packed = optimize == "balanced"
    for width in range(4, 27) if packed else range(4 + (target == "cortex-m33"), 27, 2):
        for stride in (1, 2):
            pads = ((1, 1), (0, 1))[width % 2] if stride == 2 else ((1, 1), (1, 0))[width % 3 == 0]
            cases.append(pair(rng, numerics, width, stride, pads, 12 if width % 4 else 8))
    cases += [pair(rng, numerics, width, stride, (1, 1), 12) for width, stride in ((2, 1), (3, 1), (3, 2), (48, 1), (48, 2), (52, 1), (100, 2))]
    cases += [pair(rng, numerics, width, 1, (0, 0), 12) for width in (4, 5, 8, 12, 14, 20, 29)]
    if packed:  # a shift that suits all channels is not found for every layer
        cases = [case for case in cases if symbols(case[0], target)[1] == PLANAR]
        assert len(cases) > 25
    assert_assembly_matches(cases, target, optimize, tmp_path, PAIRS, PLANAR, *(() if packed or target == "cortex-m33" else (POINTWISE,)))
    routines = {symbol for graph, _ in cases for symbol in program_of(graph, target, optimize).routines if "depthwise_s" in symbol}
    assert all(
        any(kind in symbol for symbol in routines)
        for kind in (
            "_wide",
            "s2p0" if packed or target == "cortex-m33" else "s2p1",
            "s1p1_8_8" if packed or target == "cortex-m4" else "s1p1_9_8",
            "_shift12",
            "_shift9" if packed else "",
        )
    ), routines
    assert all("_bytes_shift" in symbol for symbol in routines) == packed
    assert packed or any("shift" not in symbol for symbol in routines)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["onnx", "tflite"]), st.sampled_from([12, 8, 16, 20]))
def test_shortened_multipliers_change_no_output(seed, numerics, total):
    """Every sum within reach, whatever the scales; and multipliers that cannot be shortened are not."""
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 5))
    multiplier, shift = rng.integers(1 << 30, 1 << 31, channels), -rng.integers(1, 15, channels)
    weights = rng.integers(-128, 128, (channels, 9)) * rng.choice([1, 0], (channels, 1), p=[0.9, 0.1])
    gemm = Gemm(weights.astype(np.int8), rng.integers(-20000, 20000, channels), multiplier, shift, int(rng.choice([-128, 5])))
    found = shortened(gemm, total, numerics)
    assume(found is not None)
    for c in range(channels):
        reach = 128 * int(np.abs(weights[c]).sum())
        low, high = (int(gemm.bias[c] + np.where(sign * weights[c] > 0, 127 * weights[c], -128 * weights[c]).sum()) for sign in (-1, 1))
        sums = np.arange(min(low, high), max(low, high) + 1)
        assert len(sums) <= 2 * reach + 1
        expected = np.clip(requantize(sums, multiplier[c], shift[c], numerics) + gemm.zero_point, -128, 127)
        high_word = (sums * 256 + found[1][c]) * found[0][c] >> 32
        np.testing.assert_array_equal(np.clip((high_word + constant(gemm, total, numerics)[c]) >> total, -128, 127), expected)


def test_the_choice_of_eight_bits_says_why_not():
    rng = np.random.default_rng(0)
    multiplier, weights = rng.integers(1 << 30, 1 << 31, 64), rng.integers(-128, 128, (64, 9)).astype(np.int8)
    halves = Gemm(weights, np.zeros(64, np.int64), multiplier, np.full(64, -3), 5)  # of negative sums are rounded down here and up there
    assert byte_stream(halves, 0, True, True, "onnx")[0]
    assert not byte_stream(halves, 0, True, True, "tflite")[0]
    gemm = Gemm(weights[:2], np.zeros(2, np.int64), multiplier[:2], np.array([-2, -8]), -128)
    assert byte_stream(gemm, 0, True, True, "onnx")[0] == 9
    assert byte_stream(gemm, 0, True, True, "onnx", first=8)[0] == 8
    huge = replace(gemm, bias=np.array([1 << 23, 0]))
    assert not byte_stream(huge, 0, True, True, "onnx")[0]


@pytest.mark.parametrize("width", range(1, 14))
def test_a_planar_row_has_a_place_for_every_pixel(width):
    order = planar_order(width, 3)
    assert sorted(order) == list(range(3 * width))
    places = order.reshape(width, 3)[:, 0]
    assert list(places[: width // 4 * 4]) == [4 * (x // 4) + (0, 2, 1, 3)[x % 4] for x in range(width // 4 * 4)]
    assert list(places[width // 4 * 4 :]) == list(range(width // 4 * 4, width))


def test_a_planar_buffer_is_traced_as_hwc():
    graph, feeds = pair(np.random.default_rng(1), "onnx", 13, 1, (1, 1), 12)
    program = program_of(graph, "cortex-m4")
    assert program.buffers["out0"].planar
    traced = {}
    Interpreter(program).run([feeds["in0"]], lambda layer, data: traced.update({layer: data}))
    np.testing.assert_array_equal(traced[0].view(np.int8), run_reference(graph, feeds)["out0"].reshape(-1))


def test_rows_are_planar_only_where_all_readers_want_them():
    graph, feeds = pair(np.random.default_rng(1), "onnx", 12, 1, (1, 1))
    assert program_of(graph, "cortex-m4").buffers["out0"].planar
    assert not program_of(graph, "cortex-m4", "size").buffers["out0"].planar
    assert not program_of(graph, "cortex-m55").buffers["out0"].planar
    graph.outputs.append("out0")
    assert symbols(graph)[1] == STRIP
    call = program_of(graph, "cortex-m4").calls[1]
    assert any("does not write planar rows" in line for line in call.refused)
    assert_kernels_match(graph, feeds, "cortex-m4")
    padded, feeds = pair(np.random.default_rng(1), "onnx", 12, 1, (2, 2))
    assert symbols(padded)[1] == STRIP
    assert_kernels_match(padded, feeds, "cortex-m4")


def test_blocks_of_pointwise_rows_cost_no_pixel_twice():
    """Rows of five pixels come in blocks whose pairs cross from one row to the next."""
    graph, feeds = convolution(np.random.default_rng(0), Conv2D(), (1, 7, 5, 16), (1, 1), 6, "onnx", False)
    call = program_of(graph, "cortex-m4").calls[0]
    assert (call.kernel.symbol, call.rows, call.block) == (PAIRS, 7, 7)
    assert_kernels_match(graph, feeds, "cortex-m4")
