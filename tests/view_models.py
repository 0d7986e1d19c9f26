# SPDX-License-Identifier: Apache-2.0
"""Small float models that put tensors together and take them apart, most of which need no copy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx_models import model, node, value

Nodes = list[onnx.NodeProto]


class Net:
    """Nodes that are appended by name, and their weights."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.nodes: Nodes = []
        self.constants: dict[str, np.ndarray] = {}
        self.rng, self.shape = np.random.default_rng(5), shape

    def conv(self, x: str, y: str, channels: tuple[int, int], size: tuple[int, ...], relu: bool = True, strides: tuple[int, ...] | None = None) -> str:
        """A convolution that keeps the size, unless it has strides."""
        self.constants[f"w_{y}"] = (self.rng.normal(size=(channels[1], channels[0], *size)) / np.sqrt(channels[0] * np.prod(size))).astype(np.float32)
        pads = [(k - 1) // 2 for k in size] + [k // 2 for k in size]
        name = f"{y}_linear" if relu else y
        self.nodes.append(node("Conv", [x, f"w_{y}"], [name], pads=pads, strides=list(strides or (1,) * len(size))))
        return self.op("Relu", [name], y) if relu else name

    def op(self, kind: str, inputs: list[str], y: str, **attrs: object) -> str:
        self.nodes.append(node(kind, inputs, [y], **attrs))
        return y

    def split(self, x: str, ys: list[str], axis: int, sizes: list[int]) -> list[str]:
        self.constants[f"sizes_{x}"] = np.array(sizes, np.int64)
        self.nodes.append(node("Split", [x, f"sizes_{x}"], ys, axis=axis))
        return ys

    def cut(self, x: str, y: str, axis: int, start: int, end: int, step: int = 1) -> str:
        for what, number in (("start", start), ("end", end), ("axis", axis), ("step", step)):
            self.constants[f"{what}_{y}"] = np.array([number], np.int64)
        return self.op("Slice", [x, *(f"{what}_{y}" for what in ("start", "end", "axis", "step"))], y)

    def close(self, *outputs: str) -> onnx.ModelProto:
        return model(self.nodes, [value("x", self.shape)], [value(name, None) for name in outputs], self.constants)


def stacked() -> onnx.ModelProto:
    """Two branches one above the other."""
    m = Net((1, 4, 12, 10))
    m.conv("x", "a", (4, 8), (3, 3))
    m.conv("x", "b", (4, 8), (5, 3), strides=(2, 1))
    m.op("Concat", ["a", "b"], "c", axis=2)
    m.conv("c", "y", (8, 4), (3, 3))
    return m.close("y")


def halves() -> onnx.ModelProto:
    """The upper and the lower part of a picture on their own, as window attention and part-based heads have it."""
    m = Net((1, 4, 16, 8))
    m.conv("x", "a", (4, 8), (3, 3))
    m.split("a", ["top", "bottom"], 2, [6, 10])
    m.conv("top", "p", (8, 4), (3, 3))
    m.conv("bottom", "q", (8, 4), (3, 3))
    return m.close("p", "q")


def side_by_side() -> onnx.ModelProto:
    """Two branches beside each other, each written into its part of every row."""
    m = Net((1, 4, 10, 8))
    m.conv("x", "a", (4, 8), (3, 3))
    m.conv("x", "b", (4, 8), (1, 1))
    m.op("Concat", ["a", "b"], "c", axis=3)
    m.conv("c", "y", (8, 4), (3, 3))
    return m.close("y")


def columns() -> onnx.ModelProto:
    """A crop: some rows, and of each of them a part."""
    m = Net((1, 4, 14, 12))
    m.conv("x", "a", (4, 8), (3, 3))
    m.cut("a", "rows", 2, 3, 11)
    m.cut("rows", "crop", 3, 2, 9)
    m.conv("crop", "y", (8, 4), (3, 3))
    return m.close("y")


def every_other() -> onnx.ModelProto:
    """Rows with a step, beside all of them."""
    m = Net((1, 4, 12, 6))
    m.conv("x", "a", (4, 8), (3, 3))
    m.cut("a", "even", 2, 0, 12, 2)
    m.cut("a", "odd", 2, 1, 12, 2)
    m.op("Add", ["even", "odd"], "s")
    m.conv("s", "y", (8, 4), (3, 3))
    return m.close("y")


def inception() -> onnx.ModelProto:
    """Branches of a sound in time whose channels are put together (W is 1)."""
    m = Net((1, 8, 14))
    m.conv("x", "t", (8, 16), (3,))
    for name, size in (("a", 1), ("b", 3), ("c", 5)):
        m.conv("t", name, (16, 8), (size,))
    m.op("Concat", ["a", "b", "c", "t"], "j", axis=1)
    m.conv("j", "u", (40, 16), (3,))
    m.op("GlobalAveragePool", ["u"], "g")
    m.op("Flatten", ["g"], "y")
    return m.close("y")


def dense_block() -> onnx.ModelProto:
    """What a layer makes is put beside everything before it, twice."""
    m = Net((1, 8, 12))
    m.conv("x", "a", (8, 8), (3,))
    m.conv("a", "b", (8, 8), (3,))
    m.op("Concat", ["a", "b"], "ab", axis=1)
    m.conv("ab", "c", (16, 8), (3,))
    m.op("Concat", ["ab", "c"], "abc", axis=1)
    m.conv("abc", "y", (24, 4), (1,))
    return m.close("y")


def mixed_sizes() -> onnx.ModelProto:
    """Channels of a sound in two parts, each with a kernel of its own, and together again."""
    m = Net((1, 8, 14))
    m.conv("x", "t", (8, 16), (3,))
    m.split("t", ["low", "high"], 1, [8, 8])
    m.conv("low", "a", (8, 8), (5,))
    m.conv("high", "b", (8, 8), (9,))
    m.op("Concat", ["a", "b"], "j", axis=1)
    m.conv("j", "y", (16, 4), (1,))
    return m.close("y")


def history() -> onnx.ModelProto:
    """What was computed before in front of what is new, along time; the last of both is what the next run begins with."""
    m = Net((1, 4, 24))
    m.conv("x", "t", (4, 8), (3,))
    m.cut("t", "old", 2, 0, 8)
    m.cut("t", "new", 2, 8, 24)
    m.conv("new", "n", (8, 8), (3,))
    m.op("Concat", ["old", "n"], "c", axis=2)
    m.conv("c", "u", (8, 8), (5,))
    m.cut("c", "state", 2, 16, 24)
    return m.close("u", "state")


def vectors() -> onnx.ModelProto:
    """Features of two kinds in one vector for the last layers."""
    m = Net((1, 4, 10, 8))
    m.conv("x", "a", (4, 8), (3, 3))
    m.conv("x", "b", (4, 6), (5, 5), strides=(2, 2))
    for name in "ab":
        m.op("GlobalAveragePool", [name], f"{name}_mean")
        m.op("Flatten", [f"{name}_mean"], f"{name}_flat")
    m.op("Concat", ["a_flat", "b_flat"], "f", axis=1)
    m.constants["w"] = m.rng.normal(size=(14, 5)).astype(np.float32)
    m.op("MatMul", ["f", "w"], "y")
    return m.close("y")


def skip() -> onnx.ModelProto:
    """A U with a skip: channels of pixels are put together, which a kernel cannot write apart."""
    m = Net((1, 4, 16, 12))
    m.conv("x", "a", (4, 8), (3, 3))
    m.op("MaxPool", ["a"], "p", kernel_shape=[2, 2], strides=[2, 2])
    m.conv("p", "b", (8, 16), (3, 3))
    m.constants["scales"] = np.array([1, 1, 2, 2], np.float32)
    m.op("Resize", ["b", "", "scales"], "up", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    m.op("Concat", ["up", "a"], "c", axis=1)
    m.conv("c", "y", (24, 4), (3, 3))
    return m.close("y")


VIEWED: tuple[Callable[[], onnx.ModelProto], ...] = (
    stacked, halves, side_by_side, columns, every_other, inception, dense_block, mixed_sizes, history, vectors,
)  # fmt: skip


def feeds(proto: onnx.ModelProto, count: int = 6) -> np.ndarray:
    """Samples for the input."""
    shape = [axis.dim_value for axis in proto.graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(1).normal(size=(count, *shape)).astype(np.float32)
