# SPDX-License-Identifier: Apache-2.0
"""Dense (fully connected) layer.

    y[p, n] = clamp(b[n] + sum over k of x[p, k] * w[n, k], low, high)

x is (1, K), (1, L, K) or (1, H, W, K): every pixel p by itself; w is OI (N, K), b is (N). Quantized as Conv2D, whose kernel it shares as a
1x1 convolution.

Source: ONNX Gemm-1 to -13, MatMul-1 to -13; TFLite FULLY_CONNECTED.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from midge.errors import ImportFailed, Unsupported
from midge.fixedpoint import activation_range, quantize_multipliers, requantize
from midge.ir import Array, DType, Node, Op, Quant, TensorType
from midge.ops.build import Builder, OnnxNode, onnx_op
from midge.ops.conv import Conv2D
from midge.ops.conv_kernels import ConvLayer, effective_scales, lower_conv
from midge.ops.lowering import Lowering


@dataclass(frozen=True)
class Dense(Op):
    """low and high are the fused clamp in real numbers."""

    low: float = -math.inf
    high: float = math.inf

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        x, w = types[0], types[1]
        if len(x.shape) < 2 or len(w.shape) != 2 or x.shape[-1] != w.shape[1]:
            raise ImportFailed(f"dense: weight {w.shape} (OI) does not fit input {x.shape}")
        return [TensorType(DType.F32, (*x.shape[:-1], w.shape[0]))]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        x, w = inputs[0].astype(np.float64), inputs[1].astype(np.float64)
        if out[0].dtype.is_float:
            y = x @ w.T + (inputs[2] if len(inputs) > 2 else 0.0)
            return [np.clip(y, self.low, self.high).astype(np.float32)]
        acc = ((x - types[0].q.z) @ w.T).astype(np.int64) + inputs[2].astype(np.int64)
        multiplier, shift = quantize_multipliers(effective_scales(types, out[0]))
        act_min, act_max = activation_range(self.low, self.high, out[0].q.s, out[0].q.z)
        return [np.clip(requantize(acc, multiplier, shift, numerics) + out[0].q.z, act_min, act_max).astype(np.int8)]

    def macs(self, types: list[TensorType], out: list[TensorType]) -> int:
        return out[0].count * types[1].shape[1]

    def lower(self, ctx: Lowering, node: Node) -> None:
        types, out = ctx.graph.types(node.inputs), ctx.graph.type(node.outputs[0])
        weights, bias = ctx.graph.data(node.inputs[1]), ctx.graph.data(node.inputs[2])
        assert weights is not None
        assert bias is not None
        count, depth = weights.shape
        pixels = types[0].count // depth
        x, y = types[0].with_shape((1, pixels, 1, depth)), out.with_shape((1, pixels, 1, count))
        w = types[1].with_shape((count, 1, 1, depth))
        layer = ConvLayer(Conv2D(low=self.low, high=self.high), (x, w), y, weights.reshape(count, 1, 1, depth), bias, ctx.graph.numerics)
        lower_conv(ctx, node, layer, [ctx.operand(node.inputs[0], flat=True)])


def emit_dense(builder: Builder, node: OnnxNode, x: str, w: str, bias: str) -> str:
    """Dense from an ONNX value (.., K), constant OI weights and an optional bias (N); leading axes other than 1 become rows."""
    quant = builder.type(w).quant
    if quant is not None and quant.axis == 1:
        raise Unsupported(f"{node}: weights are quantized along the summed axis; quantize them per tensor or per output channel")
    shape = builder.type(x).shape
    pixels = math.prod(shape[:-1])
    plain = len(shape) in (2, 3, 4) and shape[0] == 1
    flat = x if plain else builder.reshape(x, (1, shape[-1]) if pixels == 1 else (1, pixels, shape[-1]))
    y = builder.emit1(Dense(), [flat, w] + ([bias] if bias else []))
    return builder.reshape(y, (*shape[:-1], builder.type(w).shape[0]))


def emit_matmul(builder: Builder, node: OnnxNode, x: str, w: str) -> str:
    """MatMul of a computed (.., K) and a constant (K, N) or (K)."""
    if builder.graph.data(w) is None or builder.graph.data(x) is not None:
        raise Unsupported(
            f"{node}: only computed x constant is offered; transpose both operands if the left one is the constant, "
            "and replace a product of two computed tensors (attention) by layers with constant weights"
        )
    shape = builder.type(w).shape
    if len(shape) > 2:
        if math.prod(shape[:-2]) > 1:
            raise Unsupported(f"{node}: a batch of {math.prod(shape[:-2])} weight matrices {shape}; split it into one MatMul each")
        w = _squeezed(builder, w, shape[-2:])
    elif len(shape) == 1:
        y = emit_dense(builder, node, x, builder.reshape(w, (1, *shape)), "")
        return builder.reshape(y, builder.type(y).shape[:-1])
    return emit_dense(builder, node, x, builder.transpose(w, (1, 0)), "")


def _squeezed(builder: Builder, w: str, shape: tuple[int, ...]) -> str:
    """A constant without its leading axes of size 1; a quantized axis moves along."""
    data, quant = builder.graph.data(w), builder.type(w).quant
    assert data is not None
    if quant is not None and quant.axis is not None:
        quant = Quant(quant.scale, quant.zero_point, quant.axis - (data.ndim - len(shape)))
    return builder.constant(w, data.reshape(shape), quant)


def _scaled(builder: Builder, node: OnnxNode, value: str, factor: float, what: str) -> str:
    """A constant times alpha or beta: quantized data keep their integers, the scale takes the factor."""
    if factor == 1.0:
        return value
    data, quant = builder.graph.data(value), builder.type(value).quant
    assert data is not None
    if quant is None:
        return builder.constant(value, (data * np.float32(factor)).astype(np.float32))
    if factor <= 0.0:
        raise Unsupported(f"{node}: {what} = {factor} on quantized constants; fold it into them before quantizing")
    return builder.constant(value, data, Quant.of(np.asarray(quant.scale) * factor, quant.zero_point, quant.axis))


def emit_gemm(builder: Builder, node: OnnxNode, x: str, w: str, bias: str) -> str:
    """Gemm of a computed x (M, K), a constant w, (N, K) if transB, and a constant bias that broadcasts to (M, N)."""
    if int(node.attrs.get("transA", 0)):
        raise Unsupported(f"{node}: transA = 1; transpose the left operand in a node of its own")
    if builder.graph.data(w) is None or builder.graph.data(x) is not None:
        raise Unsupported(f"{node}: only computed x constant weights are offered; fold the weights into an initializer before export")
    if len(builder.type(x).shape) != 2 or len(builder.type(w).shape) != 2:
        raise ImportFailed(f"{node}: operands {builder.type(x).shape} and {builder.type(w).shape} are not both matrices")
    w = w if int(node.attrs.get("transB", 0)) else builder.transpose(w, (1, 0))
    w = _scaled(builder, node, w, float(node.attrs.get("alpha", 1.0)), "alpha")
    beta = float(node.attrs.get("beta", 1.0))
    return emit_dense(builder, node, x, w, _bias(builder, node, bias, builder.type(w).shape[0], beta) if bias and beta != 0.0 else "")


def _bias(builder: Builder, node: OnnxNode, bias: str, count: int, beta: float) -> str:
    """The bias as (N), times beta. A scalar or a row is repeated, in real numbers."""
    if builder.graph.data(bias) is None:
        raise Unsupported(f"{node}: input C is computed at run time; add it in an Add of its own")
    shape = builder.type(bias).shape
    if shape != (count,):
        if math.prod(shape) not in (1, count) or (shape and shape[-1] not in (1, count)):
            raise Unsupported(f"{node}: bias {shape} differs from row to row; add it in an Add of its own")
        real = builder.real(bias)
        assert real is not None
        bias = builder.constant(bias, np.broadcast_to(real.reshape(-1), (count,)).astype(np.float32))
    return _scaled(builder, node, bias, beta, "beta")


@onnx_op("Gemm")
def gemm_from_onnx(builder: Builder, node: OnnxNode) -> str:
    return emit_gemm(builder, node, node.input(0), node.input(1), node.input(2))


@onnx_op("MatMul")
def matmul_from_onnx(builder: Builder, node: OnnxNode) -> str:
    return emit_matmul(builder, node, node.input(0), node.input(1))
