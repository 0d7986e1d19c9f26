# SPDX-License-Identifier: Apache-2.0
"""An ONNX model in QDQ form being written: tensors, their axes, constants behind DequantizeLinear.

A Graph is NHWC and ONNX NCHW: every exported tensor remembers which axis of the Graph's value each of its axes is, so a Transpose of
the Graph costs nothing and a node is written only where an operator needs another order than it is given.

Source: ONNX operator set 13 (QuantizeLinear, DequantizeLinear with axis).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from midge.errors import Unsupported
from midge.ir import Array, Graph, Node, Quant, TensorType
from midge.ops.build import TO_NCHW


@dataclass(frozen=True)
class Stored:
    """A float tensor of the ONNX model that holds a value: axis i of the tensor is axis layout[i] of the value."""

    name: str
    layout: tuple[int, ...]


@dataclass
class Exporter:
    """The ONNX model being written."""

    graph: Graph
    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    stored: dict[str, Stored] = field(default_factory=dict)
    transposed: dict[tuple[str, tuple[int, ...]], str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    @property
    def public(self) -> dict[str, str]:
        """The model's name of each value that is an output; the first of several."""
        names = self.graph.output_names or self.graph.outputs
        return dict(zip(reversed(self.graph.outputs), reversed(names), strict=True))

    def fresh(self, stem: str) -> str:
        """A tensor or node name not in use."""
        name, suffix = stem, 1
        while name in self.used:
            name, suffix = f"{stem}.{suffix}", suffix + 1
        self.used.add(name)
        return name

    def emit(self, op: str, inputs: list[str], stem: str, **attributes: Any) -> str:
        """Append a node with one output; returns the output's name."""
        output = self.fresh(stem)
        self.emit_to(op, inputs, output, **attributes)
        return output

    def emit_to(self, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attributes))

    def initializer(self, stem: str, data: Array) -> str:
        name = self.fresh(stem)
        self.initializers[name] = numpy_helper.from_array(np.asarray(data, order="C"), name)  # ascontiguousarray would make a scalar a vector
        return name

    def scale_point(self, stem: str, type: TensorType) -> tuple[list[str], dict[str, int]]:
        """Names of scale and zero_point initializers, and the axis attribute."""
        quant = type.q
        per_tensor = quant.axis is None
        scale = np.float32(quant.s) if per_tensor else np.asarray(quant.scale, np.float32)
        point = np.asarray(quant.z if per_tensor else quant.zero_point, type.dtype.numpy)
        names = [self.initializer(f"{stem}/scale", np.asarray(scale)), self.initializer(f"{stem}/zero_point", point)]
        return names, ({} if quant.axis is None else {"axis": quant.axis})

    def constant(self, value: str, data: Array | None = None, quant: Quant | None = None) -> str:
        """A constant behind DequantizeLinear; `data` (and `quant`) replace the value's own, in another layout."""
        type = self.graph.type(value)
        held = self.graph.data(value) if data is None else data
        assert held is not None
        if type.quant is None:
            return self.initializer(value, held)
        type = type.with_quant(type.dtype, quant or type.quant)
        integers = self.initializer(f"{value}/q", held)
        parameters, axis = self.scale_point(value, type)
        return self.emit("DequantizeLinear", [integers, *parameters], value, **axis)

    def get(self, value: str, layout: tuple[int, ...]) -> str:
        """The float tensor of `value` in a layout, by a Transpose if it is stored in another."""
        held = self.stored[value]
        if held.layout == layout:
            return held.name
        if (value, layout) not in self.transposed:
            perm = [held.layout.index(axis) for axis in layout]
            self.transposed[value, layout] = self.emit("Transpose", [held.name], f"{value}/transposed", perm=perm)
        return self.transposed[value, layout]

    def onnx_order(self, value: str) -> str:
        """The float tensor of `value` in ONNX's order: channels second."""
        return self.get(value, channels_second(len(self.graph.type(value).shape)))

    def put(self, node: Node, tensor: str, layout: tuple[int, ...], index: int = 0) -> None:
        """The float result of a node: clamped, quantized and dequantized."""
        value = node.outputs[index]
        low, high = float(getattr(node.op, "low", -math.inf)), float(getattr(node.op, "high", math.inf))
        if low == 0.0 and high == math.inf:
            tensor = self.emit("Relu", [tensor], f"{value}/clamped")
        elif low > -math.inf or high < math.inf:
            bounds = [self.initializer(f"{value}/{what}", np.asarray(b, np.float32)) if math.isfinite(b) else "" for what, b in (("low", low), ("high", high))]
            tensor = self.emit("Clip", [tensor, *bounds] if bounds[1] else [tensor, bounds[0]], f"{value}/clamped")
        self.quantize(value, tensor, layout)

    def quantize(self, value: str, tensor: str, layout: tuple[int, ...]) -> None:
        """QuantizeLinear and DequantizeLinear; an output of the Graph takes its own name where the layout is its own."""
        type = self.graph.type(value)
        if type.quant is None:
            raise Unsupported(f"value '{value}' is {type}; only fully quantized graphs are exported (quantize with --calibration)")
        public = self.public.get(value, "") if layout == identity(type) else ""
        to_float = self.graph.model_types.get(public, type).dtype.is_float
        parameters, _ = self.scale_point(value, type)
        integers = public if public and not to_float else self.fresh(f"{value}/q")
        self.emit_to("QuantizeLinear", [tensor, *parameters], integers)
        real = public if public and to_float else self.fresh(f"{value}/dq")
        self.emit_to("DequantizeLinear", [integers, *parameters], real)
        self.stored[value] = Stored(real, layout)


def identity(type: TensorType) -> tuple[int, ...]:
    return tuple(range(len(type.shape)))


def channels_second(rank: int) -> tuple[int, ...]:
    """The layout of ONNX for a channels-last value of this rank."""
    return TO_NCHW.get(rank, tuple(range(rank)))
