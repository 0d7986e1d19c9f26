# SPDX-License-Identifier: Apache-2.0
"""Dead channels, rule by rule: what becomes a constant, what a bias may hold, what goes as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from dead_channel_nets import BOTH, Net, eliminate, shapes

from midge.ir import DType, Graph, TensorType
from midge.ops.binary import Add, Mul, Sub
from midge.ops.conv import Conv2D
from midge.ops.join import Concat
from midge.ops.mean import Mean
from midge.ops.prelu import PRelu
from midge.ops.unary import Sigmoid
from midge.passes.dead_channels import DeadChannels, crop, eliminate_dead_channels
from midge.passes.integer import edges


def constant_then(after: str, value: int, numerics: str = "onnx") -> tuple[Graph, DeadChannels]:
    """Conv 1x1 of three channels, the middle one always `value` (0 or 90) above the zero_point; then a convolution that reads them."""
    net = Net(np.random.default_rng(3))
    x = net.input(1, 5, 4, 2)
    w, b = net.rng.integers(-128, 128, (3, 1, 1, 2)), np.array([50, 1 << 29 if value else -(1 << 29), -40])
    w[1] = 0
    middle = net.linear(Conv2D(low=0.0, high=90 * 0.02), x, w, b, scale=0.02, zero_point=-128)
    if after == "depthwise":
        middle = net.linear(Conv2D(pads=(1, 1, 1, 1), groups=3), middle, net.rng.integers(1, 128, (3, 3, 3, 1)), np.zeros(3), scale=0.02, zero_point=-100)
    elif after == "saturating depthwise":
        weights, bias = net.rng.integers(1, 128, (3, 3, 3, 1)), np.array([0, 1 << 27, 0])
        middle = net.linear(Conv2D(pads=(1, 1, 1, 1), groups=3, low=0.0), middle, weights, bias, scale=0.02, zero_point=-128)
    kernel, pads = (1, (0, 0, 0, 0)) if "depthwise" in after else (3, (1, 1, 1, 1) if after == "same" else (0, 0, 0, 0))
    y = net.linear(Conv2D(pads=pads), middle, net.rng.integers(-128, 128, (2, kernel, kernel, 3)), np.array([7, -7]))
    return eliminate(net.finish(numerics, y))


@BOTH
@pytest.mark.parametrize(
    ("after", "value", "left"),
    [
        ("valid", 90, [(2, 1, 1, 2), (2, 3, 3, 2)]),  # goes into the bias
        ("same", 0, [(2, 1, 1, 2), (2, 3, 3, 2)]),  # adds nothing, whatever the padding
        ("same", 90, [(3, 1, 1, 2), (2, 3, 3, 3)]),  # the bias would depend on the border
        ("depthwise", 90, [(3, 1, 1, 2), (3, 3, 3, 1), (2, 1, 1, 3)]),  # constant inside, another constant at the border
        ("saturating depthwise", 90, [(2, 1, 1, 2), (2, 3, 3, 1), (2, 1, 1, 2)]),  # made uniform by the clamp
    ],
)
def test_constant_channels_go_where_a_bias_can_hold_them(after, value, left, numerics):
    small, dead = constant_then(after, value, numerics)
    assert shapes(small, Conv2D) == left
    assert dead.layers[0].channels == (3, left[0][0])


def test_the_weights_of_a_constant_that_has_to_stay_are_zero():
    """It is needed at the border, but it no longer needs what it was computed from."""
    net = Net(np.random.default_rng(4))
    x = net.random_linear(Conv2D(), net.input(1, 4, 4, 2), 2, 1, 1, 2)
    w = np.array([[100, 0], [0, 1]]).reshape(2, 1, 1, 2)
    x = net.linear(Conv2D(low=0.0), x, w, np.array([5, 1 << 27]))
    x = net.linear(Conv2D(pads=(1, 1, 1, 1)), x, net.rng.integers(1, 128, (2, 3, 3, 2)), np.zeros(2))
    small, _ = eliminate(net.finish("onnx", x))
    assert shapes(small, Conv2D) == [(1, 1, 1, 2), (2, 1, 1, 1), (2, 3, 3, 2)]


def test_a_bias_that_would_leave_32_bits_keeps_its_channel():
    net = Net(np.random.default_rng(5))
    w = np.array([[3], [0]]).reshape(2, 1, 1, 1)
    x = net.linear(Conv2D(low=0.0, high=5.0), net.input(1, 2, 2, 1), w, np.array([0, 1 << 29]), scale=0.02, zero_point=-128)
    y = net.linear(Conv2D(), x, np.full((2, 1, 1, 2), 127), np.array([(1 << 31) - 200, 0]), spread=1.0)
    assert shapes(eliminate_dead_channels(net.finish("onnx", y))[0], Conv2D) == [(2, 1, 1, 1), (2, 1, 1, 2)]
    net.graph.values[net.graph.nodes[1].inputs[2]].data = np.zeros(2, np.int32)
    assert shapes(eliminate(net.graph)[0], Conv2D) == [(1, 1, 1, 1), (2, 1, 1, 1)]


@BOTH
def test_a_dead_squeeze_and_excite_becomes_a_constant(numerics):
    net = Net(np.random.default_rng(6))
    x = net.linear(Conv2D(low=0.0), net.input(1, 4, 5, 3), net.rng.integers(-128, 128, (4, 1, 1, 3)), np.zeros(4))
    gate = net.linear(Conv2D(), net.node(Mean(), [x]), np.zeros((4, 1, 1, 4)), np.array([9000, -9000, 1 << 27, 1000]))
    y = net.node(Mul(), [x, net.node(Sigmoid(), [gate], 1 / 256, -128)])
    small, dead = eliminate(net.finish(numerics, y))
    assert [node.op.kind for node in small.nodes] == ["Conv2D", "Mul"]
    assert small.type(small.nodes[1].inputs[1]).shape == (1, 1, 1, 4)
    assert dead.layers[1].channels == (4, 0) and dead.kept[gate] == ()


@BOTH
@pytest.mark.parametrize("op", [Add(), Sub()])
@pytest.mark.parametrize("first", [False, True])
def test_a_dead_branch_of_a_residual_becomes_a_constant(op, first, numerics):
    net = Net(np.random.default_rng(7))
    x = net.input(1, 4, 5, 3)
    branch = net.linear(Conv2D(pads=(1, 1, 1, 1), low=0.0), x, np.full((3, 3, 3, 3), -1), np.array([-(1 << 27), 1 << 28, -(1 << 27)]))
    small, dead = eliminate(net.finish(numerics, net.node(op, [branch, x] if first else [x, branch])))
    assert [node.op.kind for node in small.nodes] == [op.kind] and dead.macs == (1620, 0)


def test_groups_go_as_a_whole():
    net = Net(np.random.default_rng(8))
    x = net.linear(Conv2D(low=0.0), net.input(1, 3, 3, 2), net.rng.integers(-128, 128, (6, 1, 1, 2)), np.zeros(6))
    x = net.linear(Conv2D(groups=3), x, net.rng.integers(-128, 128, (6, 1, 1, 2)), np.zeros(6))
    w = net.rng.integers(1, 128, (2, 1, 1, 6))
    w[..., [0, 2, 3]] = 0
    small, _ = eliminate(net.finish("onnx", net.linear(Conv2D(), x, w, np.zeros(2))))
    assert shapes(small, Conv2D) == [(4, 1, 1, 2), (4, 1, 1, 2), (2, 1, 1, 4)]
    assert small.nodes[1].op == Conv2D(groups=2)


def test_a_concat_is_left_out_with_all_but_one_of_its_inputs():
    net = Net(np.random.default_rng(14))
    x = net.input(1, 3, 3, 2)
    parts = [net.linear(Conv2D(), x, net.rng.integers(-128, 128, (2, 1, 1, 2)), np.zeros(2), scale=0.03, zero_point=9) for _ in range(3)]
    w = np.concatenate([np.zeros((1, 1, 1, 4)), net.rng.integers(1, 128, (1, 1, 1, 2))], axis=3)
    small, _ = eliminate(net.finish("onnx", net.linear(Conv2D(), net.node(Concat(3), parts), w, np.zeros(1))))
    assert shapes(small, Conv2D) == [(2, 1, 1, 2), (1, 1, 1, 2)] and len(small.nodes) == 2


def test_the_steepest_slope_stays_since_it_scales_all_of_them():
    net = Net(np.random.default_rng(9))
    x = net.linear(Conv2D(), net.input(1, 3, 3, 2), net.rng.integers(-128, 128, (4, 1, 1, 2)), np.zeros(4))
    x = net.node(PRelu(), [x, net.graph.add_constant("slope", np.float32([0.1, -9.0, 0.3, 0.2]))], 0.02, 0)
    w = net.rng.integers(1, 128, (1, 1, 1, 4)) * np.array([1, 0, 1, 0])
    _, dead = eliminate(net.finish("tflite", net.linear(Conv2D(), x, w, np.zeros(1))))
    assert dead.kept[x] == (0, 1, 2)


@pytest.mark.parametrize(
    ("op", "size", "kernel", "pads", "left"),
    [
        (Conv2D(pads=(3, 3, 3, 3)), (3, 3), (7, 7), (2, 2, 2, 2), (5, 5)),
        (Conv2D(pads=(3, 3, 3, 3)), (4, 3), (7, 7), (3, 2, 3, 2), (7, 5)),
        (Conv2D((2, 2), pads=(1, 1, 1, 1)), (2, 1), (3, 3), (0, 0, 1, 0), (2, 1)),
        (Conv2D(dilations=(2, 2), pads=(4, 4, 4, 4)), (1, 3), (5, 5), (0, 2, 0, 2), (1, 3)),
        (Conv2D(dilations=(3, 1), pads=(4, 0, 0, 0)), (3, 3), (3, 1), (1, 0, 0, 0), (2, 1)),  # the second tap stays: pads are not negative
        (Conv2D(pads=(0, 0, 0, 0)), (3, 3), (3, 3), (0, 0, 0, 0), (3, 3)),
    ],
)
def test_taps_that_only_meet_padding_are_cropped(op, size, kernel, pads, left):
    weights = np.random.default_rng(10).integers(-128, 128, (2, *kernel, 3))
    smaller, cropped = crop(op, weights, size)
    assert (smaller.pads, cropped.shape[1:3]) == (pads, left)
    x = np.random.default_rng(11).integers(-255, 256, (*size, 3)).astype(np.float64)
    np.testing.assert_array_equal(op.accumulate(x, weights.astype(np.float64)), smaller.accumulate(x, cropped.astype(np.float64)))


def test_inputs_and_outputs_keep_all_channels():
    net = Net(np.random.default_rng(12))
    x = net.input(1, 3, 3, 4)
    w = net.rng.integers(1, 128, (3, 1, 1, 4)) * np.array([[[[0, 1, 0, 1]]]]) * np.array([1, 0, 1]).reshape(3, 1, 1, 1)
    small, dead = eliminate(net.finish("onnx", net.linear(Conv2D(), x, w, np.array([0, 4000, 0]))))
    assert not dead and shapes(small, Conv2D) == [(3, 1, 1, 4)]


@pytest.mark.parametrize("io", ["quantized", "model"])
def test_edges_may_be_there_already_and_planes_be_read(io):
    net = Net(np.random.default_rng(13))
    x = net.input(1, 3, 5, 4)
    middle = net.random_linear(Conv2D(low=0.0, planar=True), x, 8, 3, 3, 3)
    y = net.random_linear(Conv2D(), middle, 3, 1, 1, 8)
    graph = net.finish("onnx", y)
    small, dead = eliminate(graph)
    graph.model_types = {name: TensorType(DType.F32, graph.type(name).shape) for name in (x, y)}
    ported, same = eliminate_dead_channels(edges(graph, io))
    assert dead.kept == same.kept and dead.kept[middle]
    assert shapes(ported, Conv2D) == shapes(small, Conv2D)
