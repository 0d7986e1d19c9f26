# SPDX-License-Identifier: Apache-2.0
"""Random small ONNX models: 3 to 12 nodes, branches, residuals, several inputs and outputs, and the odd cases at the edges.

`random_model(seed)` is a pure function of its seed: a failing seed is a complete bug report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from midge.ir import Array

OPSET = 20
ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "HardSwish", "Gelu", "Relu6")
LARGEST = 600  # elements of a value; what grows beyond is not grown further


@dataclass
class Maker:
    """A model being made: `live` are the values later nodes may read, with their shapes."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    live: list[str] = field(default_factory=list)

    def pick(self, *ranks: int) -> str | None:
        """A live value of one of these ranks, mostly a recent one."""
        fitting = [name for name in self.live if len(self.shapes[name]) in ranks]
        if not fitting:
            return None
        return fitting[-1] if self.rng.random() < 0.65 else str(self.rng.choice(fitting))

    def among(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def below(self, bound: int) -> int:
        return int(self.rng.integers(bound))

    def weights(self, *shape: int) -> str:
        fan_in = max(1, int(np.prod(shape[1:])))
        return self.constant(self.rng.normal(size=shape).astype(np.float32) / np.float32(np.sqrt(fan_in)))

    def constant(self, data: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = np.asarray(data)
        return name

    def input(self, *shape: int) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs.append(name)
        self.shapes[name] = shape
        self.live.append(name)
        return name

    def node(self, op: str, inputs: list[str], count: int = 1, **attrs: Any) -> list[str]:
        """Append a node; shapes come from ONNX's own inference."""
        names = [f"v{len(self.nodes)}" if count == 1 else f"v{len(self.nodes)}_{i}" for i in range(count)]
        made = helper.make_node(op, inputs, names, name=f"{op.lower()}_{len(self.nodes)}", **attrs)
        known = [helper.make_tensor_value_info(n, TensorProto.FLOAT, self.shapes[n]) for n in dict.fromkeys(inputs) if n in self.shapes]
        held = [numpy_helper.from_array(self.constants[n], n) for n in dict.fromkeys(inputs) if n in self.constants]
        graph = helper.make_graph([made], "one", known, [helper.make_empty_tensor_value_info(n) for n in names], held)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        found = shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph.output
        self.nodes.append(made)
        for value in found:
            self.shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
            self.live.append(value.name)
        return names


def convolution(m: Maker) -> None:
    x = m.pick(3, 4)
    if x is None:
        return
    _, channels, *size = m.shapes[x]
    rank = len(size)
    dilations = [m.among(1, 1, 1, 2) for _ in size]
    kernel = [m.among(*[k for k in (1, 2, 3, 3, 5) if (k - 1) * d < max(2, n)]) for n, d in zip(size, dilations, strict=True)]
    groups = m.among(1, 1, channels, 2 if channels % 2 == 0 else 1)
    out = groups * m.among(1, 1, 2, 3) if groups > 1 else m.among(1, 2, 4, 5, 8)
    attrs: dict[str, Any] = {"dilations": dilations, "group": groups, "strides": [m.among(1, 1, 2, 3) for _ in size]}
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    style = m.among("pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID")
    fits = all(r <= n for r, n in zip(reach, size, strict=True))
    if style == "pads":
        before = [m.below(k + 1) if k > 1 else 0 for k in kernel]
        after = [max(m.below(k + 1) if k > 1 else 0, r - n - b) for k, r, n, b in zip(kernel, reach, size, before, strict=True)]
        attrs["pads"] = before + after
    else:
        attrs["auto_pad"] = style if fits or style != "VALID" else "SAME_UPPER"
        attrs["dilations"] = [1] * rank  # onnxruntime refuses dilation with auto_pad for some shapes
        if style == "VALID" and not all(k <= n for k, n in zip(kernel, size, strict=True)):
            attrs["auto_pad"] = "SAME_LOWER"
    operands = [x, m.weights(out, channels // groups, *kernel)]
    if m.rng.random() < 0.6:
        operands.append(m.constant(m.rng.normal(size=out).astype(np.float32)))
    y = m.node("Conv", operands, **attrs)[0]
    if m.rng.random() < 0.4:
        normalize(m, y)
    if m.rng.random() < 0.5:
        activation(m)


def normalize(m: Maker, x: str | None = None) -> None:
    x = x or m.pick(3, 4)
    if x is None:
        return
    channels = m.shapes[x][1]
    rows = [m.rng.uniform(0.3, 1.5, channels) * m.among(1, -1), m.rng.normal(size=channels), m.rng.normal(size=channels), m.rng.uniform(0.2, 2.0, channels)]
    m.node("BatchNormalization", [x, *(m.constant(row.astype(np.float32)) for row in rows)])


def activation(m: Maker) -> None:
    x = m.pick(1, 2, 3, 4)
    kind = m.among(*ACTIVATIONS)
    if x is None:
        return
    if kind in ("Clip", "Relu6"):
        low, high = (0.0, 6.0) if kind == "Relu6" else m.among((-1.0, 1.0), (0.0, 1.0), (-0.5, 2.0), (0.25, 3.0), (-3.0, -0.25))
        ends = [m.constant(np.float32(low)), m.constant(np.float32(high))]
        m.node("Clip", [x, *m.among(ends, ends, ["", ends[1]], ends[:1])])
    elif kind == "PRelu":
        shape = m.shapes[x]
        slope = (shape[1],) + (1,) * (len(shape) - 2) if len(shape) > 2 and m.rng.random() < 0.7 else (1,)
        m.node("PRelu", [x, m.constant(m.rng.uniform(-0.5, 0.9, slope).astype(np.float32))])
    elif kind == "LeakyRelu":
        m.node(kind, [x], alpha=m.among(0.01, 0.2, 1.5))
    elif kind == "Gelu":
        m.node(kind, [x], approximate=m.among("none", "tanh"))
    else:
        m.node(kind, [x])


def arithmetic(m: Maker) -> None:
    """Two values, a value with itself, or a value with a constant of any shape that broadcasts."""
    x = m.pick(1, 2, 3, 4)
    if x is None:
        return
    shape = m.shapes[x]
    alike = [name for name in m.live if m.shapes[name] == shape]
    broadcast = [name for name in m.live if len(m.shapes[name]) == len(shape) and all(a in (1, b) for a, b in zip(m.shapes[name], shape, strict=True))]
    if m.rng.random() < 0.6:
        other = str(m.rng.choice(alike if m.rng.random() < 0.7 else broadcast))
    else:
        channel = (1, shape[1]) + (1,) * (len(shape) - 2) if len(shape) > 1 else shape
        chosen = m.among((), (1,), channel, channel, channel[1:], shape, shape[-1:], tuple(d if m.rng.random() < 0.5 else 1 for d in shape))
        other = m.constant(m.rng.uniform(-2, 2, chosen).astype(np.float32))
    m.node(m.among("Add", "Add", "Sub", "Mul"), m.among([x, other], [x, other], [other, x]))


def pooling(m: Maker) -> None:
    x = m.pick(3, 4)
    if x is None:
        return
    size = m.shapes[x][2:]
    kind = m.among("MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean")
    if kind == "GlobalAveragePool":
        m.node(kind, [x])
    elif kind == "ReduceMean":
        axes = m.among(list(range(2, 2 + len(size))), [-1], [2])
        m.node(kind, [x, m.constant(np.array(axes, np.int64))], keepdims=m.among(0, 1))
    else:
        kernel = [m.among(*[k for k in (1, 2, 3) if k <= n]) for n in size]
        attrs: dict[str, Any] = {"kernel_shape": kernel, "strides": [m.among(1, 2, 2) for _ in size]}
        overlaps = all(k >= s for k, s in zip(kernel, attrs["strides"], strict=True))
        if m.rng.random() < 0.3 and overlaps:
            attrs["auto_pad"] = m.among("SAME_UPPER", "SAME_LOWER")
        else:
            # ONNX's shape inference and onnxruntime disagree on a last window that would start in the padding
            attrs["ceil_mode"] = m.among(0, 0, 0, 1) if overlaps else 0
            attrs["pads"] = [0 if attrs["ceil_mode"] else m.below(k) for k in kernel * 2]
        if kind == "AveragePool":
            attrs["count_include_pad"] = m.among(0, 1)
        m.node(kind, [x], **attrs)


def joining(m: Maker) -> None:
    x = m.pick(2, 3, 4)
    if x is None:
        return
    shape = m.shapes[x]
    axis = 1 + m.below(len(shape) - 1)
    fitting = [n for n in m.live if len(m.shapes[n]) == len(shape) and all(i == axis or m.shapes[n][i] == shape[i] for i in range(len(shape)))]
    parts = [x, *(str(m.rng.choice(fitting)) for _ in range(1 + m.below(2)))]
    if m.rng.random() < 0.15:
        parts.append(m.constant(m.rng.normal(size=shape).astype(np.float32)))
    if sum(int(np.prod(m.shapes.get(n, shape))) for n in parts) <= LARGEST:
        m.node("Concat", parts, axis=m.among(axis, axis - len(shape)))


def cutting(m: Maker) -> None:
    x = m.pick(2, 3, 4)
    if x is None:
        return
    shape = m.shapes[x]
    axis = 1 + m.below(len(shape) - 1)
    n = shape[axis]
    if n >= 2 and m.rng.random() < 0.5:
        first = 1 + m.below(n - 1)
        m.node("Split", [x, m.constant(np.array([first, n - first], np.int64))], 2, axis=axis)
        return
    start, step = m.below(n), m.among(1, 1, 2)
    end = m.among(n, 2**31, start + 1 + m.below(n - start))
    rows = [start, end, axis, step]
    m.node("Slice", [x, *(m.constant(np.array([row], np.int64)) for row in rows)])


def padding(m: Maker) -> None:
    x = m.pick(3, 4)
    if x is None or np.prod(m.shapes[x]) > LARGEST // 2:
        return
    size = m.shapes[x][2:]
    channels = m.among(0, 0, 0, 1)
    pads = [0, channels, *(m.below(3) for _ in size), 0, 0, *(m.below(3) for _ in size)]
    value = [m.constant(np.float32(m.among(0.0, 0.0, 0.5, -1.0)))] if m.rng.random() < 0.7 else []
    m.node("Pad", [x, m.constant(np.array(pads, np.int64)), *value], mode="constant")


def resizing(m: Maker) -> None:
    x = m.pick(4)
    if x is None:
        return
    factors = [1.0, 1.0, float(m.among(1, 2, 3)), float(m.among(1, 2))]
    if np.prod(m.shapes[x]) * np.prod(factors) <= LARGEST:
        scales = m.constant(np.array(factors, np.float32))
        m.node("Resize", [x, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def reshaping(m: Maker) -> None:
    x = m.pick(2, 3, 4)
    if x is None:
        return
    shape = m.shapes[x]
    kind = m.among("Transpose", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
    ones = [axis for axis in range(1, len(shape)) if shape[axis] == 1]
    if kind == "Transpose" and len(shape) > 2:
        m.node(kind, [x], perm=[0, *(1 + int(i) for i in m.rng.permutation(len(shape) - 1))])
    elif kind == "Reshape" and len(shape) == 4:
        _, c, h, w = shape
        m.node(kind, [x, m.constant(np.array(m.among([1, c, h * w], [1, -1, w], [0, 0, -1], [1, h, c, w], [-1, c * h * w]), np.int64))])
    elif kind == "Reshape" and len(shape) == 3:
        m.node(kind, [x, m.constant(np.array(m.among([1, shape[1], shape[2], 1], [1, 1, *shape[1:]], [1, shape[2], shape[1]]), np.int64))])
    elif kind == "Squeeze" and ones and len(shape) > 2:
        m.node(kind, [x, m.constant(np.array([m.among(*ones)], np.int64))])
    elif kind == "Unsqueeze" and len(shape) < 4:
        m.node(kind, [x, m.constant(np.array([1 + m.below(len(shape))], np.int64))])
    else:
        m.node("Flatten", [x], axis=1)


def dense(m: Maker) -> None:
    x = m.pick(2, 2, 3)
    if x is None:
        x = m.pick(3, 4)
        x = None if x is None else m.node("Flatten", [x])[0]
    if x is None:
        return
    columns, rows = m.shapes[x][-1], m.among(1, 3, 6, 10)
    if len(m.shapes[x]) == 2 and m.rng.random() < 0.6:
        transposed = m.among(0, 1)
        bias = [m.constant(m.rng.normal(size=m.among((rows,), (1, rows), (1,))).astype(np.float32))] if m.rng.random() < 0.7 else []
        weights = m.weights(rows, columns) if transposed else m.weights(columns, rows)
        m.node("Gemm", [x, weights, *bias], transB=transposed, alpha=m.among(1.0, 1.0, 0.5), beta=m.among(1.0, 2.0))
    else:
        m.node("MatMul", [x, m.weights(columns, rows)])
    if m.rng.random() < 0.4:
        activation(m)


def softmax(m: Maker) -> None:
    x = m.pick(2, 3, 4)
    if x is not None:
        m.node("Softmax", [x], axis=m.among(-1, -1, 1))


STEPS: tuple[tuple[Callable[[Maker], None], int], ...] = (
    (convolution, 6), (normalize, 1), (activation, 3), (arithmetic, 5), (pooling, 3), (joining, 2), (cutting, 2), (padding, 1), (resizing, 1), (reshaping, 3),
    (dense, 2), (softmax, 1),
)  # fmt: skip


def random_model(seed: int) -> onnx.ModelProto:
    """An ONNX model of float32 inputs and outputs that onnxruntime accepts; the same seed gives the same model."""
    m = Maker(np.random.default_rng(seed))
    for _ in range(m.among(1, 1, 1, 2)):
        c, h, w = m.among(1, 2, 3, 4), 3 + m.below(6), 3 + m.below(6)
        m.input(*m.among((1, c, h, w), (1, c, h, w), (1, c, h, w), (1, c, 4 + m.below(9)), (1, 4 + m.below(12))))
    weights = np.array([weight for _, weight in STEPS], float)
    wanted = 3 + m.below(10)
    while len(m.nodes) < wanted:
        STEPS[int(m.rng.choice(len(STEPS), p=weights / weights.sum()))][0](m)
    return _close(m)


def _close(m: Maker) -> onnx.ModelProto:
    """Declare outputs: what nothing reads, sometimes a value inside, an input, a reshape of an output, the same value twice, a constant."""
    read = {name for node in m.nodes for name in node.input}
    outputs = [name for name in m.live if name not in read and name not in m.inputs] or [m.live[-1]]
    chance = m.rng.random
    if chance() < 0.2:
        outputs.append(str(m.rng.choice([name for name in m.live if name not in m.inputs])))
    if chance() < 0.1:
        outputs.append(m.inputs[0])
    if chance() < 0.15:
        outputs += m.node("Reshape", [outputs[0], m.constant(np.array([1, -1], np.int64))])
    if chance() < 0.1:
        outputs += m.node("Identity", [outputs[0]])
    if chance() < 0.07:
        outputs += m.node("Identity", [m.constant(m.rng.normal(size=(1, 5)).astype(np.float32))])
    if chance() < 0.1:
        m.input(1, 4)  # read by nothing
    outputs = list(dict.fromkeys(outputs))
    ports = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, m.shapes[n]) for n in names] for names in (m.inputs, outputs)]
    held = [numpy_helper.from_array(data, name) for name, data in m.constants.items()]
    proto = helper.make_model(helper.make_graph(m.nodes, "random", ports[0], ports[1], held), opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(proto)
    return proto


def random_feeds(proto: onnx.ModelProto, count: int, seed: int = 0) -> dict[str, Array]:
    """`count` samples for every input, (count, *shape)."""
    rng = np.random.default_rng(seed)
    shapes = {port.name: [d.dim_value for d in port.type.tensor_type.shape.dim] for port in proto.graph.input}
    return {name: rng.normal(size=(count, *shape)).astype(np.float32) for name, shape in shapes.items()}


def text(proto: onnx.ModelProto) -> str:
    """The model for a failure message."""
    return onnx.printer.to_text(proto.graph)
