# SPDX-License-Identifier: Apache-2.0
"""Kernels for cores without the DSP extension: packed sums that stay apart, equality with the reference on the host and of routine and twin on the
emulator, refusals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import needs_arm, s8

from midge.codegen.write import write_library
from midge.fixedpoint import quantize_multipliers, requantize
from midge.ir import Array, DType, Graph, Node, Quant, TensorType, Value
from midge.lower import lower
from midge.microkernels.gemm import Gemm
from midge.microkernels.thumb import PAIRS, THUMB1, THUMB2, chunks, constants, widths
from midge.ops.conv import Conv2D
from midge.ops.conv_kernels import ConvLayer
from midge.ops.conv_thumb import refuses_dense, refuses_quads, refuses_strip
from midge.run.interpreter import Interpreter
from midge.run.qemu import run_qemu
from midge.run.reference import run_reference
from midge.schedule import place
from midge.targets import get_target

NUMERICS = ("onnx", "tflite")
TARGETS = ("cortex-m0", "cortex-m3")
QUADS, STRIP, DENSE = (f"midge_{name}_thumb_s8" for name in ("conv2d", "depthwise", "dense"))


@dataclass(frozen=True)
class Case:
    """One convolution: its kernel, sizes, what its integers look like, and the seed they come from. `out` is 0 for a depthwise one."""

    kernel: str
    size: tuple[int, int, int]  # H, W, C
    out: int
    window: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    zero_points: tuple[int, int] = (-128, -128)
    extreme: bool = False
    seed: int = 0


def integers(case: Case) -> tuple[Array, Array, Array]:
    """Input, weights and effective scales. No two adjacent weights are -128, which packed sums refuse."""
    rng = np.random.default_rng(case.seed)
    out, depth = (case.out, case.size[2]) if case.out else (case.size[2], 1)
    x_shape, w_shape = (1, *case.size), (out, *case.window, depth)
    x = rng.choice(np.array([-128, 127]), x_shape) if case.extreme else rng.integers(-128, 128, x_shape)
    w = rng.choice(np.array([-127, 127]), w_shape) if case.extreme else np.clip(rng.normal(0, rng.choice([4, 40, 90]), w_shape), -127, 127)
    w.reshape(-1)[:: w.size // 2 + 1] = -128
    spread = np.sqrt(np.prod(case.window) * depth) * (128 * 127 if case.extreme else 80 * 40)
    return x.astype(np.int8), np.asarray(w, np.int8), np.minimum(rng.uniform(20, 120, out) / spread, 0.4)


def convolution(graph: Graph, case: Case) -> Array:
    """Append the case to a graph; returns its input."""
    x, w, scales = integers(case)
    index, groups = len(graph.nodes), 1 if case.out else case.size[2]
    op = Conv2D(case.strides, case.dilations, case.pads, groups=groups)
    tx, tw = s8(x.shape, 0.05, case.zero_points[0]), TensorType(DType.S8, w.shape, Quant.of(np.float32(scales * 2), 0, 0))
    ty = op.infer([tx, tw])[0].with_quant(DType.S8, Quant.of(0.1, case.zero_points[1]))
    bias = np.random.default_rng(case.seed + 1).integers(-3000, 3000, len(w)).astype(np.int32)
    values = (Value("x", tx), Value("w", tw, w), Value("b", TensorType(DType.S32, bias.shape), bias), Value("y", ty))
    names = [f"{value.name}{index}" for value in values]
    for name, value in zip(names, values, strict=True):
        graph.values[name] = replace(value, name=name)
    graph.nodes.append(Node(f"conv{index}", op, names[:3], [names[3]]))
    graph.inputs.append(names[0])
    graph.outputs.append(names[3])
    return x


def program_for(graph: Graph, target: str, kernels: list[str]):
    program = place(lower(graph, get_target(target), "net", "0" * 64))
    assert [call.kernel.symbol.replace("_wide", "") for call in program.calls] == kernels, [call.refused for call in program.calls]
    return program


def expected(graph: Graph, inputs: list[Array]) -> list[Array]:
    found = run_reference(graph, dict(zip(graph.inputs, inputs, strict=True)))
    return [found[name] for name in graph.outputs]


ZERO = st.sampled_from([-128, -77, 0, 127])


@st.composite
def quads_cases(draw):
    window = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilations = (1, draw(st.integers(1, 2)))
    pads = tuple(draw(st.integers(0, 1)) for _ in range(4))
    height, width = (draw(st.integers(k * 2 + 1, 7)) for k in window)
    sizes = ((height, width, draw(st.integers(1, 21))), draw(st.integers(1, 6)), window, (draw(st.integers(1, 2)), draw(st.integers(1, 2))), pads, dilations)
    return Case(QUADS, *sizes, (draw(ZERO), draw(ZERO)), draw(st.booleans()), draw(st.integers(0, 2**32 - 2)))


@st.composite
def strip_cases(draw):
    if draw(st.booleans()):
        window, strides = (draw(st.integers(2, 9)), 1), (draw(st.integers(1, 2)), 1)
        height = window[0] + strides[0] * draw(st.integers(1, 15))
        sizes = ((height, 1, draw(st.integers(2, 9))), 0, window, strides, (0, 0, 0, 0))
    else:
        window, stride = (draw(st.integers(1, 4)), draw(st.integers(1, 5))), draw(st.integers(1, 2))
        width = window[1] + stride * draw(st.integers(1, 13))
        pads = (draw(st.integers(0, 1)), draw(st.integers(0, 1)), draw(st.integers(0, 1)), draw(st.integers(0, 1)))
        sizes = ((window[0] + draw(st.integers(0, 3)), width, draw(st.integers(2, 9))), 0, window, (stride, stride), pads)
    return Case(STRIP, *sizes, (1, 1), (draw(ZERO), draw(ZERO)), draw(st.booleans()), draw(st.integers(0, 2**32 - 2)))


@st.composite
def dense_cases(draw):
    size = (1, draw(st.integers(1, 2)), draw(st.integers(1, 70)))
    return Case(DENSE, size, draw(st.integers(4, 19)), zero_points=(draw(ZERO), draw(ZERO)), extreme=draw(st.booleans()), seed=draw(st.integers(0, 2**32 - 2)))


@settings(max_examples=150, deadline=None)
@given(st.one_of(quads_cases(), strip_cases(), dense_cases()), st.sampled_from(NUMERICS), st.sampled_from(TARGETS))
def test_twins_equal_reference(case, numerics, target):
    graph = Graph("net", numerics=numerics)
    x = convolution(graph, case)
    np.testing.assert_array_equal(Interpreter(program_for(graph, target, [case.kernel])).run([x])[0], expected(graph, [x])[0])


SAMPLE = (
    Case(QUADS, (5, 7, 3), 9, (3, 3), (2, 2), (0, 0, 1, 1)),
    Case(QUADS, (4, 5, 17), 3, (1, 1), zero_points=(3, -5), extreme=True),
    Case(QUADS, (9, 6, 4), 5, (3, 2), (1, 1), (1, 1, 1, 0), (1, 2), (0, 127)),
    Case(QUADS, (3, 3, 64), 8, (3, 3), pads=(1, 1, 1, 1), zero_points=(127, -128)),
    Case(QUADS, (3, 1, 130), 4, extreme=True),
    Case(QUADS, (8, 8, 40), 4, (5, 5), zero_points=(-128, 11)),
    Case(STRIP, (6, 5, 8), 0, (3, 3), pads=(1, 1, 1, 1)),
    Case(STRIP, (7, 13, 3), 0, (3, 3), (2, 2), (0, 1, 1, 1), zero_points=(5, 7), extreme=True),
    Case(STRIP, (5, 16, 5), 0, (5, 5), pads=(2, 2, 2, 2), zero_points=(0, -128)),
    Case(STRIP, (9, 1, 6), 0, (4, 1), zero_points=(-9, 4)),
    Case(STRIP, (20, 1, 7), 0, (10, 1), (2, 1)),
    Case(STRIP, (2, 4, 4), 0, (1, 2), (2, 2), extreme=True),
    Case(DENSE, (1, 1, 640), 13),
    Case(DENSE, (1, 2, 23), 5, zero_points=(-3, 9)),
    Case(DENSE, (1, 1, 64), 8, extreme=True),
    Case(DENSE, (1, 1, 7), 9, zero_points=(127, 60)),
)


@needs_arm
@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("target", TARGETS)
def test_routines_equal_reference(target, numerics, tmp_path):
    graph = Graph("net", numerics=numerics)
    inputs = [convolution(graph, replace(case, seed=seed)) for seed, case in enumerate(SAMPLE)]
    program = program_for(graph, target, [case.kernel for case in SAMPLE])
    assert len(program.routines) > 8
    got = run_qemu(write_library(program, tmp_path / "net"), target, [x[None] for x in inputs]).outputs
    for node, y, want in zip(graph.nodes, got, expected(graph, inputs), strict=True):
        np.testing.assert_array_equal(y.view(np.int8).reshape(want.shape), want, err_msg=node.name)
        assert len(np.unique(want)) > 3  # the outputs are not all saturated


@given(st.lists(st.tuples(st.integers(-128, 127), st.integers(-127, 127)), min_size=1, max_size=60))
def test_chunks_leave_halves_apart(pairs):
    row = np.array(pairs).reshape(-1)
    counts, at = chunks(row), 0
    assert sum(counts) == len(pairs)
    for index, count in enumerate(counts):
        part, after = row[2 * at : 2 * (at + count)], row[2 * at : 2 * (at + count) + 2]
        assert 1 <= count <= PAIRS
        assert np.minimum(-128 * part, 127 * part).sum() >= -(1 << 15)
        assert np.maximum(-128 * part, 127 * part).sum() < 1 << 15
        if index + 1 < len(counts) and count < PAIRS:  # none is cut short without need
            assert np.minimum(-128 * after, 127 * after).sum() < -(1 << 15) or np.maximum(-128 * after, 127 * after).sum() >= 1 << 15
        at += count


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("depth", [6, 400])
def test_pieces_give_the_exact_product(depth, numerics):
    """Three pieces and four: every accumulator at and around the steps of the output."""
    scales = np.array([0.4, 0.0317, 0.0031, 0.00041])
    multiplier, shift = quantize_multipliers(scales)
    gemm = Gemm(np.full((4, depth), 127), np.zeros(4, np.int64), multiplier, shift, 3)
    split = widths(gemm)
    assert len(split) == (3 if depth == 6 else 4)
    reach = depth * 127 * 128
    for channel, (added, low, high, last) in enumerate(constants(gemm, THUMB1, numerics).tolist()):
        steps = (np.arange(-140, 140) - 0.5) / scales[channel]
        acc = np.unique(np.clip(np.add.outer(np.round(steps), np.arange(-3, 4)).astype(np.int64).reshape(-1), -reach, reach))
        value = np.zeros_like(acc)
        for i, piece in enumerate([low & 0xFFFF, low >> 16 & 0xFFFF, high & 0xFFFF, high >> 16 & 0xFFFF][: len(split)]):
            value = (value + acc * piece) >> (split[i] if i + 1 < len(split) else 0)
            assert np.abs(value).max() < 1 << 31
        value -= (acc < 0) << split[-1] if numerics == "tflite" else 0
        want = np.clip(requantize(acc, multiplier[channel], shift[channel], numerics) + 3, -128, 127)
        np.testing.assert_array_equal(np.clip((value + added) >> last, -128, 127), want)


def layer_of(weights: Array, scale: float = 0.01, size: tuple[int, int] = (4, 4), bias: int = 0, **attributes) -> ConvLayer:
    """A layer to ask what refuses it."""
    op = Conv2D(**attributes)
    x = s8((1, *size, weights.shape[3] * op.groups), 1.0, 0)
    w = TensorType(DType.S8, weights.shape, Quant.of(np.float32(scale), 0))
    y = op.infer([x, w])[0].with_quant(DType.S8, Quant.of(1.0, 0))
    return ConvLayer(op, (x, w), y, weights.astype(np.int8), np.full(len(weights), bias, np.int32), "tflite")


def test_refusals():
    ones = np.ones((4, 1, 1, 4))
    assert refuses_quads(layer_of(ones), THUMB2) == refuses_quads(layer_of(ones), THUMB1) == ""
    assert "adjacent" in refuses_quads(layer_of(-128 * ones), THUMB2)
    assert "of four pixels" in refuses_quads(layer_of(ones, size=(1, 2)), THUMB2)
    assert "clamped" in refuses_quads(layer_of(ones, high=6.0), THUMB2)
    assert "not shifted right" in refuses_quads(layer_of(ones, scale=0.75), THUMB2)
    large = layer_of(127 * np.ones((4, 1, 1, 600)), scale=1e-5)
    assert refuses_quads(large, THUMB2) == ""
    assert "in pieces" in refuses_quads(large, THUMB1)
    assert "grouped" in refuses_quads(layer_of(np.ones((4, 1, 1, 2)), groups=2), THUMB2)
    assert "NCHW" in refuses_quads(layer_of(ones, planar=True), THUMB2)
    assert "by fours" in refuses_dense(layer_of(ones), THUMB2)
    assert "more than one row" in refuses_dense(layer_of(np.ones((4, 2, 1, 4)), size=(2, 1)), THUMB2)
    assert "fewer than four" in refuses_dense(layer_of(np.ones((3, 1, 1, 4)), size=(1, 1)), THUMB2)
    deep = np.ones((4, 3, 3, 1))
    assert refuses_strip(layer_of(deep, groups=4, size=(5, 5)), THUMB1, wide=False) == ""
    assert "one output channel" in refuses_strip(layer_of(np.ones((8, 3, 3, 1)), groups=4, size=(5, 5)), THUMB2, wide=False)
    assert "stride above 2" in refuses_strip(layer_of(deep, groups=4, size=(9, 9), strides=(3, 3)), THUMB2, wide=False)
    assert "one pixel" in refuses_strip(layer_of(np.ones((4, 1, 3, 1)), groups=4, size=(5, 1), pads=(0, 1, 0, 1)), THUMB2, wide=False)
    assert "fewer than two" in refuses_strip(layer_of(np.ones((4, 9, 9, 1)), groups=4, size=(12, 12)), THUMB2, wide=True)
