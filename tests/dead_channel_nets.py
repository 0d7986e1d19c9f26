# SPDX-License-Identifier: Apache-2.0
"""Networks with dead channels planted in them, and what has to hold when they are eliminated."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from support import program_of, s8

from midge.ir import Array, Graph, Node, Op, Quant, TensorType
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
from midge.passes.dead_channels import DeadChannels, eliminate_dead_channels
from midge.passes.intervals import intervals
from midge.run.interpreter import Interpreter
from midge.run.reference import run_reference

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
