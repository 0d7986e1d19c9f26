# SPDX-License-Identifier: Apache-2.0
"""From ONNX nodes to Graph nodes: what an importer hands to `from_onnx`, and the table of which function imports which ONNX operator.

A value with a Quant is a real-valued tensor that happens to be stored as integers. So DequantizeLinear imports to nothing, QuantizeLinear
to the type of the value it quantizes, and QLinearConv(...) to a Conv2D on quantized values. ONNX is NCHW and midge NHWC: an
importer brings rank-3 and rank-4 operands to NHWC with `nhwc`, its result back with `nchw`; the layout pass removes the transposes in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from midge.errors import ImportFailed, Unsupported
from midge.ir import Array, DType, Graph, Node, Op, Quant, TensorType


@dataclass(frozen=True)
class OnnxNode:
    """One node of the model, free of the onnx package. `inputs` are Graph value names, '' where an optional input is absent."""

    op: str
    name: str
    domain: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, Any] = field(default_factory=dict)

    def input(self, index: int) -> str:
        """Value name of an input, '' if absent."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def ints(self, name: str, default: list[int]) -> list[int]:
        return [int(v) for v in self.attrs.get(name, default)]

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self.attrs.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def axis(self, axis: int, rank: int) -> int:
        """`axis` counted from the front.

        Raises: ImportFailed if it lies outside [-rank, rank).
        """
        if not -rank <= axis < rank:
            raise ImportFailed(f"{self}: axis {axis} of a rank-{rank} tensor; wanted {-rank} to {rank - 1}")
        return axis % rank

    def __str__(self) -> str:
        return f"{self.op} '{self.name}'"


FromOnnx = Callable[["Builder", OnnxNode], "list[str] | str"]
ONNX_OPS: dict[str, FromOnnx] = {}


def onnx_op(*names: str) -> Callable[[FromOnnx], FromOnnx]:
    """Register a function that imports these ONNX operators. It returns the value names that the node's outputs become."""

    def register(function: FromOnnx) -> FromOnnx:
        for name in names:
            ONNX_OPS[name] = function
        return function

    return register


TO_NHWC = {4: (0, 2, 3, 1), 3: (0, 2, 1)}
TO_NCHW = {4: (0, 3, 1, 2), 3: (0, 2, 1)}


@dataclass
class Builder:
    """Appends nodes to a Graph on behalf of one ONNX node (`origin`)."""

    graph: Graph
    origin: str = ""

    def type(self, value: str) -> TensorType:
        return self.graph.type(value)

    def emit(self, op: Op, inputs: list[str], count: int = 1) -> list[str]:
        """Append a node with `count` outputs typed by op.infer; returns the names of the outputs."""
        types = op.infer(self.graph.types(inputs))
        stem = self.origin or op.kind
        outputs = [self.graph.add_value(f"{stem}_{op.kind.lower()}" if count == 1 else f"{stem}_{op.kind.lower()}_{i}", t) for i, t in enumerate(types[:count])]
        self.graph.nodes.append(Node(stem, op, list(inputs), outputs, (self.origin,) if self.origin else ()))
        return outputs

    def emit1(self, op: Op, inputs: list[str]) -> str:
        return self.emit(op, inputs)[0]

    def constant(self, stem: str, data: Array, quant: Quant | None = None) -> str:
        return self.graph.add_constant(stem, data, quant)

    def real(self, value: str) -> Array | None:
        """The real numbers a constant stands for (dequantized if it is quantized), or None if the value is computed."""
        data = self.graph.data(value)
        if data is None:
            return None
        quant = self.type(value).quant
        return data if quant is None else dequantize(data, quant)

    def required(self, node: OnnxNode, index: int, what: str) -> Array:
        """A constant input, dequantized.

        Raises: ImportFailed if absent, Unsupported if computed at run time.
        """
        name = node.input(index)
        if not name:
            raise ImportFailed(f"{node}: input {index} ({what}) is missing")
        data = self.real(name)
        if data is None:
            raise Unsupported(f"{node}: {what} must be a constant, it is computed by the graph; fold it into an initializer before export")
        return data

    def transpose(self, value: str, perm: tuple[int, ...]) -> str:
        """The value with axes permuted: folded if constant, a Transpose node otherwise."""
        if perm == tuple(range(len(perm))):
            return value
        data = self.graph.data(value)
        if data is None:
            from midge.ops.move import Transpose

            return self.emit1(Transpose(perm), [value])
        quant = self.type(value).quant
        if quant is not None and quant.axis is not None:
            quant = Quant(quant.scale, quant.zero_point, perm.index(quant.axis))
        return self.constant(value, np.transpose(data, perm), quant)

    def reshape(self, value: str, shape: tuple[int, ...]) -> str:
        """The value in another shape: folded if constant, a Reshape node otherwise."""
        if shape == self.type(value).shape:
            return value
        data = self.graph.data(value)
        if data is None:
            from midge.ops.view import Reshape

            return self.emit1(Reshape(shape), [value])
        quant = self.type(value).quant
        if quant is not None and quant.axis is not None:
            raise Unsupported(f"constant '{value}': a per-channel quantized constant is reshaped; export it in its final shape")
        return self.constant(value, data.reshape(shape), quant)

    def nhwc(self, value: str) -> str:
        rank = len(self.type(value).shape)
        return self.transpose(value, TO_NHWC[rank]) if rank in TO_NHWC else value

    def nchw(self, value: str) -> str:
        rank = len(self.type(value).shape)
        return self.transpose(value, TO_NCHW[rank]) if rank in TO_NCHW else value

    def set_quant(self, value: str, quant: Quant) -> None:
        """Say what the integers of `value` mean; operators that only move data pass it on to their inputs."""
        holder = self.graph.values[value]
        if holder.type.quant is not None:
            return
        holder.type = holder.type.with_quant(holder.type.dtype, quant)
        producer = next((node for node in reversed(self.graph.nodes) if value in node.outputs), None)
        if producer is not None and producer.op.moves_data and quant.axis is None:
            for name in producer.inputs:
                if not self.type(name).dtype.is_float and self.type(name).dtype is holder.type.dtype:
                    self.set_quant(name, quant)

    def annotate(self, value: str, dtype: DType, quant: Quant) -> str:
        """QuantizeLinear: the value itself becomes quantized; if it already is, differently, a Quantize node converts it."""
        held = self.type(value)
        if held.dtype.is_float:
            data = self.graph.data(value)
            if data is not None:
                return self.constant(value, quantize(data, dtype, quant), quant)
            self.graph.values[value].type = held.with_quant(dtype, quant)
            return value
        if held.quant is None:
            self.set_quant(value, quant)
            held = self.type(value)
        if held.dtype is dtype and held.quant == quant:
            return value
        from midge.ops.quantize import Quantize

        return self.emit1(Quantize(dtype, quant), [value])


def dequantize(data: Array, quant: Quant) -> Array:
    """scale * (q - zero_point) in float32, per tensor or along quant.axis."""
    shape = [1] * data.ndim
    if quant.axis is not None:
        shape[quant.axis] = -1
    scale = np.asarray(quant.scale, np.float32).reshape(shape if quant.axis is not None else [1] * data.ndim)
    zero_point = np.asarray(quant.zero_point, np.int64).reshape(shape if quant.axis is not None else [1] * data.ndim)
    return ((data.astype(np.int64) - zero_point).astype(np.float32) * scale).astype(np.float32)


def quantize(data: Array, dtype: DType, quant: Quant) -> Array:
    """clamp(round_half_even(x / scale) + zero_point), per tensor or along quant.axis."""
    from midge.fixedpoint import quantize_array

    shape = [1] * data.ndim
    if quant.axis is not None:
        shape[quant.axis] = -1
    info = np.iinfo(dtype.numpy)
    scale, zero_point = np.asarray(quant.scale, np.float32).reshape(shape), np.asarray(quant.zero_point, np.int64).reshape(shape)
    return quantize_array(data, scale, zero_point, int(info.min), int(info.max)).astype(dtype.numpy)
