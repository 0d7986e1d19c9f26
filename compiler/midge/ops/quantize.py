# SPDX-License-Identifier: Apache-2.0
"""Between real numbers and integers, and from one Quant to another.

    Quantize    y = saturate(round_half_even(x / s) + z)        of a quantized x: of the numbers it stands for
    Dequantize  y = s * (x - z)

Any shape and layout; y and x are int8 or uint8 per tensor. Float to integer happens at the edges of a network only. Integer to integer is a
table of 256 bytes; `tflite` numerics makes it by requantization with double rounding.

QuantizeLinear and DequantizeLinear import to no node: they say what type a value has (see build.py). A Quantize node is left where one
value is needed under two Quants.

Source: ONNX QuantizeLinear and DequantizeLinear-10 to -21; TensorFlow Lite QUANTIZE, DEQUANTIZE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from midge.errors import ImportFailed, Unsupported
from midge.fixedpoint import Int64
from midge.ir import Array, DType, Node, Op, Quant, TensorType
from midge.ops.build import Builder, OnnxNode, dequantize, onnx_op, quantize
from midge.ops.lowering import Lowering
from midge.ops.unary import Unary, rescaled
from midge.program import Kernel

ACTIVATIONS = (DType.S8, DType.U8)
CONSTANTS = (DType.S8, DType.U8, DType.S32)
ONNX_TYPES = {0: DType.U8, 2: DType.U8, 3: DType.S8}  # the output_dtype attribute


@dataclass(frozen=True)
class Quantize(Unary):
    """Target element type and Quant."""

    dtype: DType
    quant: Quant

    def function(self, x: Array) -> Array:
        return x

    def tflite(self, x: TensorType, y: TensorType) -> Callable[[Int64], Int64] | None:
        return lambda q: rescaled(q, x.q.s / y.q.s)

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        if self.dtype not in ACTIVATIONS or self.quant.axis is not None:
            raise Unsupported(f"quantize: {self.dtype.value} on axis {self.quant.axis}; int8 and uint8 per tensor are offered")
        return [types[0].with_quant(self.dtype, self.quant)]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        if types[0].quant is None:
            return [quantize(np.nan_to_num(inputs[0], nan=0.0, posinf=np.inf, neginf=-np.inf), self.dtype, self.quant)]
        return [self.evaluate(inputs[0], types[0], out[0], numerics)]

    def lower(self, ctx: Lowering, node: Node) -> None:
        x = ctx.graph.type(node.inputs[0])
        if x.dtype.is_float:
            call_edge(ctx, node, f"midge_quantize_f32_{self.dtype.value}", x.count, self.quant)
        else:
            super().lower(ctx, node)


@dataclass(frozen=True)
class Dequantize(Op):
    """No attributes: the input's type says it all."""

    elementwise = True

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        return [types[0].with_quant(DType.F32, None)]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        return [dequantize(inputs[0], types[0].q)]

    def lower(self, ctx: Lowering, node: Node) -> None:
        x = ctx.graph.type(node.inputs[0])
        if x.dtype not in ACTIVATIONS:
            raise Unsupported(f"dequantize: {x.dtype.value}; int8 and uint8 are offered")
        call_edge(ctx, node, f"midge_dequantize_{x.dtype.value}_f32", x.count, x.q)


def call_edge(ctx: Lowering, node: Node, symbol: str, count: int, quant: Quant) -> None:
    """One flat Call of a kernel of family edge."""
    constants = {"scale": np.array([quant.s], np.float32)}
    operands = [ctx.operand(node.inputs[0], flat=True)]
    ctx.call(node, Kernel(symbol, "edge"), {"count": count, "zero_point": quant.z}, operands, constants, flat=True, splits=("count",))


def read_quant(builder: Builder, node: OnnxNode, shape: tuple[int, ...], dtype: DType) -> Quant:
    """The Quant that inputs 1 (scale) and 2 (zero_point) describe for a tensor of this shape and stored type.

    Raises: ImportFailed for scales that are not positive numbers and for counts or types that do not agree; Unsupported for blocks.
    """
    scale = builder.required(node, 1, "scale")
    zero_point = builder.required(node, 2, "zero_point") if node.input(2) else np.zeros(1, dtype.numpy)
    if int(node.attrs.get("block_size", 0)) or scale.ndim > 1:
        raise Unsupported(f"{node}: quantized in blocks (scale of shape {scale.shape}); per tensor and per axis are offered")
    if scale.dtype != np.float32 or not np.all(np.isfinite(scale)) or not np.all(scale > 0):
        raise ImportFailed(f"{node}: scale must be float32, finite and above 0, got {scale.dtype} {scale.reshape(-1)[:4].tolist()}")
    if zero_point.dtype != dtype.numpy:
        raise ImportFailed(f"{node}: zero_point is {zero_point.dtype}, the quantized tensor {dtype.numpy}")
    if zero_point.size not in (1, scale.size):
        raise ImportFailed(f"{node}: {scale.size} scales but {zero_point.size} zero points")
    if scale.size == 1:
        return Quant.of(scale, zero_point)
    axis = int(node.attrs.get("axis", 1))
    axis += len(shape) if axis < 0 else 0
    if not 0 <= axis < len(shape) or shape[axis] != scale.size:
        raise ImportFailed(f"{node}: {scale.size} scales on axis {axis} of a tensor of shape {shape}")
    return Quant.of(scale, zero_point, axis)


@onnx_op("QuantizeLinear")
def quantize_from_onnx(builder: Builder, node: OnnxNode) -> str:
    x, kind = node.input(0), builder.type(node.input(0))
    number = int(node.attrs.get("output_dtype", 0))
    if not node.input(2) and number not in ONNX_TYPES:
        raise Unsupported(f"{node}: output_dtype {number}; 2 (uint8) and 3 (int8) are offered")
    dtype = builder.type(node.input(2)).dtype if node.input(2) else ONNX_TYPES[number]
    constant = builder.graph.is_constant(x)
    if dtype not in (CONSTANTS if constant else ACTIVATIONS) or (kind.quant is None and not kind.dtype.is_float):
        raise Unsupported(f"{node}: from {kind.dtype.value} to {dtype.value}; float to int8 or uint8 is offered")
    quant = read_quant(builder, node, kind.shape, dtype)
    if quant.axis is not None and not constant:
        raise Unsupported(f"{node}: the activation is quantized per axis {quant.axis}; quantize activations per tensor")
    return builder.annotate(x, dtype, quant)


@onnx_op("DequantizeLinear")
def dequantize_from_onnx(builder: Builder, node: OnnxNode) -> str:
    x, kind = node.input(0), builder.type(node.input(0))
    data = builder.graph.data(x)
    offered = ACTIVATIONS if data is None else CONSTANTS
    if kind.dtype not in offered:
        raise Unsupported(f"{node}: from {kind.dtype.value}; {', '.join(d.value for d in offered)} are offered")
    quant = read_quant(builder, node, kind.shape, kind.dtype)
    if kind.quant == quant:
        return x
    if data is not None and kind.quant is None:
        return builder.constant(x, data, quant)
    if kind.quant is not None:
        raise Unsupported(f"{node}: reads integers of {kind} as scale {quant.scale[0]:.6g} zero_point {quant.zero_point[0]}; give both nodes one scale")
    if quant.axis is not None:
        raise Unsupported(f"{node}: the activation is quantized per axis {quant.axis}; quantize activations per tensor")
    builder.set_quant(x, quant)
    return x
