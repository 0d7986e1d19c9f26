# SPDX-License-Identifier: Apache-2.0
"""Dead channels: what is removed from known models and from nets with planted constants, and that no byte of any value that is left changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import program_of, s8, shared

from midge.api import quantized_graph
from midge.ir import Array, DType, Graph, Node, Op, Quant, TensorType
from midge.ops.binary import Add, Mul, Sub
from midge.ops.conv import Conv2D
from midge.ops.dense import Dense
from midge.ops.join import Concat, Slice
from midge.ops.mean import Mean
from midge.ops.move import Transpose
from midge.ops.pad import Pad
from midge.ops.pool import AveragePool, MaxPool
from midge.ops.prelu import PRelu
from midge.ops.resize import Resize
from midge.ops.softmax import Softmax
from midge.ops.unary import Clip, LeakyRelu, Math, Sigmoid
from midge.ops.view import Reshape
from midge.passes import INTEGER
from midge.passes.dead_channels import DeadChannels, crop, eliminate_dead_channels
from midge.passes.integer import edges
from midge.passes.intervals import intervals
from midge.run.interpreter import Interpreter
from midge.run.reference import run_reference
from midge.text import print_graph

BOTH = pytest.mark.parametrize("numerics", ["onnx", "tflite"])
INF = float("inf")


def patterns(kind: TensorType, rng: np.random.Generator) -> list[Array]:
    """Samples of an input: both extremes, checkerboards of them both ways round, random ones."""
    board = (np.indices(kind.shape).sum(axis=0) % 2).astype(bool)
    extremes = [np.full(kind.shape, -128), np.full(kind.shape, 127), np.where(board, -128, 127), np.where(board, 127, -128)]
    return [x.astype(np.int8) for x in (*extremes, *rng.integers(-128, 128, (2, *kind.shape)))]


def feeds_of(graph: Graph, seed: int = 0) -> list[dict[str, Array]]:
    rng = np.random.default_rng(seed)
    columns = [patterns(graph.type(name), rng) for name in graph.inputs]
    return [dict(zip(graph.inputs, row, strict=True)) for row in zip(*columns, strict=True)]


def eliminate(graph: Graph, seed: int = 0, *, kernels: bool = True) -> tuple[Graph, DeadChannels]:
    """The smaller Graph, after holding every value of it, and the kernels' outputs, against the Graph it came from."""
    small, dead = eliminate_dead_channels(graph)
    bounds, run = intervals(graph), Interpreter(program_of(small)) if kernels else None
    assert [small.type(name) for name in small.inputs + small.outputs] == [graph.type(name) for name in graph.inputs + graph.outputs]
    for feeds in feeds_of(graph, seed):
        full, left = run_reference(graph, feeds), run_reference(small, feeds)
        for node in graph.nodes:
            name = node.outputs[0]
            assert (bounds[name].low <= full[name]).all() and (full[name] <= bounds[name].high).all(), (name, node.op)
            if name in left:
                want = full[name][..., list(dead.kept[name])] if name in dead.kept else full[name]
                np.testing.assert_array_equal(left[name], want, err_msg=f"{name}: {node.op}")
        for name, got in zip(small.outputs, run.run([feeds[i] for i in small.inputs]) if run else (), strict=run is not None):
            np.testing.assert_array_equal(got, full[name])
    return small, dead


def shapes(graph: Graph, kind: type) -> list[tuple[int, ...]]:
    """Shapes of the weights, or of the output, of each node of a kind."""
    return [graph.type(node.inputs[1] if kind in (Conv2D, Dense) else node.outputs[0]).shape for node in graph.nodes if isinstance(node.op, kind)]


@dataclass
class Net:
    """A quantized Graph being made; `live` are the values later nodes may read."""

    rng: np.random.Generator
    graph: Graph = field(default_factory=lambda: Graph("planted"))
    live: list[str] = field(default_factory=list)

    def value(self, shape: tuple[int, ...], scale: float | None = None, zero_point: int | None = None) -> str:
        s = 2.0 ** self.rng.uniform(-7, -4) if scale is None else scale
        z = int(self.rng.choice([-128, -128, -3, 0, 40, 127])) if zero_point is None else zero_point
        name = self.graph.add_value("v", s8(shape, s, z))
        self.live.append(name)
        return name

    def input(self, *shape: int) -> str:
        self.graph.inputs.append(self.value(shape, 0.03, int(self.rng.integers(-128, 128))))
        return self.graph.inputs[-1]

    def node(self, op: Op, inputs: list[str], scale: float | None = None, zero_point: int | None = None) -> str:
        """The output keeps the input's Quant where the operator only moves data."""
        kind = self.graph.type(inputs[0])
        if op.moves_data:
            scale, zero_point = kind.q.s, kind.q.z
        out = self.value(op.infer(self.graph.types(inputs))[0].shape, scale, zero_point)
        self.graph.nodes.append(Node(f"n{len(self.graph.nodes)}", op, inputs, [out]))
        return out

    def linear(self, op: Conv2D | Dense, x: str, weights: Array, bias: Array, spread: float = 40.0, **out: float) -> str:
        """Weight scales per channel such that an accumulator of random integers spreads over `spread` steps of the output."""
        y = self.graph.type(self.node(op, [x, self.constant(weights)], **out)).q.s  # type: ignore[arg-type]
        scales = spread * y / (np.sqrt(weights[0].size) * 4000.0) / self.graph.type(x).q.s * self.rng.uniform(0.5, 2.0, len(weights))
        quant = Quant.of(scales, 0, 0)
        bias_quant = Quant.of(np.asarray(quant.scale) * self.graph.type(x).q.s, 0, 0)
        self.graph.nodes[-1].inputs = [
            x,
            self.graph.add_constant("w", weights.astype(np.int8), quant),
            self.graph.add_constant("b", bias.astype(np.int32), bias_quant),
        ]
        return self.graph.nodes[-1].outputs[0]

    def constant(self, data: Array, scale: float = 0.02, zero_point: int = 5) -> str:
        return self.graph.add_constant("k", np.asarray(data, np.int8), Quant.of(scale, zero_point))

    def random_linear(self, op: Conv2D | Dense, x: str, *shape: int) -> str:
        """Weights with planted outputs that are constant, saturated or nearly so, and planted inputs of weight 0."""
        w, b = self.rng.integers(-128, 128, shape), self.rng.integers(-3000, 3000, shape[0])
        kinds = self.rng.choice(5, shape[0], p=[0.45, 0.2, 0.1, 0.1, 0.15])
        w[kinds == 1] = 0
        b = np.where(kinds == 1, b * self.rng.integers(0, 30), np.where(kinds == 2, -(1 << 29), np.where(kinds == 3, 1 << 27, b)))
        w[kinds == 4], b = -np.abs(w[kinds == 4]), np.where(kinds == 4, -200000, b)
        w[..., self.rng.random(shape[-1]) < 0.3] = 0
        return self.linear(op, x, w, b)

    def finish(self, numerics: str, *outputs: str) -> Graph:
        self.graph.outputs, self.graph.numerics = list(outputs), numerics
        self.graph.prune()
        return self.graph


def extend(net: Net, x: str) -> str:
    """One more block of a random kind on x (1, H, W, C)."""
    rng, kind = net.rng, net.graph.type(x)
    _, height, width, channels = kind.shape
    pick = int(rng.integers(16))
    low, high = [(-INF, INF), (0.0, INF), (0.0, 6.0), (0.0, 0.5)][int(rng.integers(4))]
    pads = [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 1, 0)][int(rng.integers(3))] if min(height, width) > 2 else (1, 1, 1, 1)
    stride = int(rng.integers(1, 3))
    same = [name for name in net.live if net.graph.type(name).shape == kind.shape]
    if pick < 2:
        out = int(rng.integers(1, 9))
        return net.random_linear(Conv2D((stride, stride), pads=pads, low=low, high=high), x, out, 3, 3, channels)
    if pick < 5:
        return net.random_linear(Conv2D((stride, 1), pads=pads, groups=channels, low=low, high=high), x, channels * int(rng.choice([1, 1, 2])), 3, 3, 1)
    if pick == 5 and channels % 2 == 0:
        return net.random_linear(Conv2D(groups=2, low=low, high=high), x, 4, 1, 1, channels // 2)
    if pick == 6:  # squeeze and excite
        gate = net.random_linear(Conv2D(), net.node(Mean(), [x]), channels, 1, 1, channels)
        return net.node(Mul(), [x, net.node(Sigmoid(), [gate], 1 / 256, -128)])
    if pick in (7, 8):
        branch = net.random_linear(Conv2D(low=low, high=high), x, channels, 1, 1, channels)
        other = str(rng.choice(same)) if pick == 7 else net.constant(rng.integers(-128, 128, (1, 1, 1, channels)))
        return net.node([Add(low=low, high=high), Sub(), Mul()][int(rng.integers(3))], [branch, other])
    if pick == 9:
        return net.node([LeakyRelu(), Math("Abs"), Clip(0.0, 1.0)][int(rng.integers(3))], [x])
    if pick == 10:
        slope = net.graph.add_constant("slope", rng.uniform(-1, 1, channels).astype(np.float32))
        return net.node(PRelu(), [x, slope])
    if pick == 11 and min(height, width) > 2:
        op = AveragePool((2, 2), (1, stride), (0, 1, 1, 0), bool(rng.integers(2))) if rng.random() < 0.5 else MaxPool((3, 2), (1, 1), pads=(1, 0, 1, 1))
        return net.node(op, [x])
    if pick == 12:
        part = net.node(Slice((0, 0, 0, 1), kind.shape, (1, 1, 1, 1)), [x]) if channels > 1 else x
        rest = net.random_linear(Conv2D(low=low, high=high), x, 3, 1, 1, channels)
        net.graph.values[rest].type = kind.with_shape((1, height, width, 3))
        return net.node(Concat(3), [part, rest])
    if pick == 13:
        return net.node([Pad(((0, 0), (1, 0), (0, 1), (1, 2)), 0.1), Resize((0, *range(height)), tuple(range(width)))][int(rng.integers(2))], [x])
    if pick == 14:
        return net.node(Transpose([(0, 2, 1, 3), (0, 1, 3, 2)][int(rng.integers(2))]), [x])
    return net.random_linear(Dense(low=low, high=high), x, 5, channels)


def planted(seed: int, numerics: str) -> Graph:
    """A net of 3 to 9 blocks and a classifier, with one or two outputs."""
    net = Net(np.random.default_rng(seed))
    x = net.input(1, int(net.rng.integers(1, 7)), int(net.rng.integers(1, 6)), int(net.rng.integers(1, 5)))
    x = net.random_linear(Conv2D(pads=(1, 1, 1, 1), low=0.0), x, 6, 3, 3, net.graph.type(x).shape[-1])
    inner = []
    for _ in range(int(net.rng.integers(3, 10))):
        inner.append(x)
        if net.graph.type(x).count < 400:
            x = extend(net, x)
    flat = net.node(Reshape((1, net.graph.type(x).count)), [x])
    scores = net.node(Softmax(), [net.random_linear(Dense(), flat, 4, net.graph.type(x).count)], 1 / 256, -128)
    return net.finish(numerics, scores, *([str(net.rng.choice(inner))] if net.rng.random() < 0.3 else []))


@settings(max_examples=150)
@given(st.integers(0, 1 << 32), st.sampled_from(["onnx", "tflite"]))
def test_nothing_that_is_left_changes(seed, numerics):
    graph = planted(seed, numerics)
    small, dead = eliminate(graph, seed)
    assert all(node.op.infer(types)[0].shape == out[0].shape for node, types, out in small.walk())
    assert dead.macs[1] <= dead.macs[0] and dead.weight_nbytes[1] <= dead.weight_nbytes[0]


def test_the_planted_nets_lose_channels_around_every_operator():
    """Otherwise the test above shows nothing."""
    thinner: Counter[str] = Counter()
    for seed in range(300):
        graph = planted(seed, "onnx")
        _, dead = eliminate_dead_channels(graph)
        thinner.update({node.op.kind for node in graph.nodes if dead.kept.get(node.outputs[0])})
        thinner.update({f"no {node.op.kind}" for node in graph.nodes if dead.kept.get(node.outputs[0]) == ()})
    wanted = {
        "Conv2D",
        "Dense",
        "Add",
        "Sub",
        "Mul",
        "Mean",
        "Sigmoid",
        "LeakyRelu",
        "Math",
        "Clip",
        "PRelu",
        "AveragePool",
        "MaxPool",
        "Slice",
        "Concat",
        "Pad",
        "Resize",
    }
    assert wanted | {"Transpose", "Reshape", "no Conv2D", "no Sigmoid"} <= thinner.keys()
    assert thinner["Conv2D"] > 150


MODELS = {
    "mlperf_tiny/vww_96_int8_qdq": ((7489664, 3727313), (208112, 29066)),
    "zoo/tflm_person_detect": ((7157888, 7077246), (207968, 207676)),
}
ALIVE = [f"mlperf_tiny/{name}_int8_qdq" for name in ("kws_ref_model", "pretrainedResnet", "ad01", "str_ww_ref_model")]
ALIVE += [f"zoo/{name}" for name in ("tflm_micro_speech_quantized", "tinymaix_mnist_dw_q", "tinymaix_mnist_resnet_q", "tinymaix_cifar10_q")]


def integer_graph(name: str, numerics: str) -> Graph:
    graph = quantized_graph(shared(f"models/{name}.onnx"), numerics=numerics)
    for run in INTEGER:
        graph = run(graph)
    return graph


@BOTH
@pytest.mark.parametrize("name", MODELS)
def test_models_with_dead_channels(name, numerics):
    graph = integer_graph(name, numerics)
    small, dead = eliminate(graph)
    assert (dead.macs, dead.weight_nbytes) == MODELS[name]
    _, again = eliminate_dead_channels(small)
    assert not again


@pytest.mark.parametrize("name", MODELS)
def test_golden_bytes_without_dead_channels(name):
    golden = np.load(shared(f"golden/{name.split('/')[1].removesuffix('_int8_qdq')}.npz"))
    run = Interpreter(program_of(eliminate_dead_channels(integer_graph(name, "tflite"))[0]))
    for x, y in (("x", "y_tflm"), ("x_real", "y_real_tflm")):
        for sample, want in zip(golden[x], golden[y], strict=True):
            shape = run.program.inputs[0].type.shape
            np.testing.assert_array_equal(run.run([sample.reshape(shape)])[0].reshape(-1), want.reshape(-1))


@pytest.mark.parametrize("name", ALIVE)
def test_models_without_dead_channels_stay_as_they_are(name):
    graph = integer_graph(name, "onnx")
    small, dead = eliminate_dead_channels(graph)
    assert not dead and dead.kept == {}
    assert print_graph(small) == print_graph(graph)


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
