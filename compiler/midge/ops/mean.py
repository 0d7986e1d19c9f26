# SPDX-License-Identifier: Apache-2.0
"""Mean over all rows and pixels.

    y[0, 0, c] = sum over h, w of x[h, w, c] / (H * W)

x is (1, H, W, C) or (1, L, C), y is (1, 1, 1, C) or (1, 1, C). Quantized: s_x / s_y * sum(q - zero_point) / (H * W), rounded once with exact
halves to even (onnx), or twice with TFLite's own multiplier (tflite). The kernel takes one row at a time.

Source: ONNX GlobalAveragePool-1, ReduceMean-1 to -18; TFLite MEAN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from midge.errors import ImportFailed, Unsupported
from midge.fixedpoint import Int64, quantize_multiplier, requantize
from midge.ir import Array, DType, Node, Op, TensorType
from midge.ops.build import Builder, OnnxNode, onnx_op
from midge.ops.lowering import Lowering
from midge.ops.pool import MEAN, AveragePool, lower_mean, pool_params
from midge.ops.pool_numbers import average_scales, quotient


@dataclass(frozen=True)
class Mean(Op):
    """No attributes: rows and pixels are gone from the output, other axes are brought here by Transpose and Reshape."""

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        rank = len(types[0].shape)
        if rank not in (3, 4):
            raise ImportFailed(f"mean: input of rank {rank}; (1, H, W, C) or (1, L, C) is wanted")
        return [TensorType(DType.F32, (1,) * (rank - 1) + (types[0].shape[-1],))]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        height, width, _ = types[0].hwc
        x = inputs[0].reshape(types[0].hwc)
        if out[0].dtype.is_float:
            return [x.astype(np.float64).mean((0, 1)).astype(np.float32).reshape(out[0].shape)]
        total: Int64 = (x.astype(np.int64) - types[0].q.z).sum((0, 1))
        multiplier, shift = mean_multiplier(types[0], out[0], height * width, numerics)
        y = requantize(total, multiplier, shift, numerics) if numerics == "tflite" else quotient(total, np.array(multiplier), np.array(shift), away=False)
        return [np.clip(y + out[0].q.z, -128, 127).astype(np.int8).reshape(out[0].shape)]

    def lower(self, ctx: Lowering, node: Node) -> None:
        x, out = ctx.graph.type(node.inputs[0]), ctx.graph.type(node.outputs[0])
        height, width, _ = x.hwc
        multiplier, shift = mean_multiplier(x, out, height * width, ctx.graph.numerics)
        params = pool_params(x, out, (height, width), 1, (1, 1), 0, raw=False)
        lower_mean(ctx, node, MEAN, params, np.array([multiplier], np.int32), np.array([shift], np.int32))


def mean_multiplier(x: TensorType, out: TensorType, count: int, numerics: str) -> tuple[int, int]:
    """(multiplier, shift) of s_x / (s_y * count). tflite divides the multiplier of s_x / s_y by count in integers, shifted left as far as fits."""
    if numerics != "tflite":
        return quantize_multiplier(float(average_scales(x, out, np.array(count))))
    multiplier, shift = quantize_multiplier(x.q.s / out.q.s)
    up = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << up) // count, shift - up


def emit_mean(builder: Builder, node: OnnxNode, x: str, axes: tuple[int, ...], keepdims: bool) -> str:
    """The mean of an ONNX value over `axes` (not negative): over rows, columns or both of an image on NHWC, over others by a Transpose."""
    shape = builder.type(x).shape
    final = tuple(1 if axis in axes else size for axis, size in enumerate(shape) if keepdims or axis not in axes)
    reduced = tuple(axis for axis in axes if shape[axis] > 1)
    if not reduced:
        return builder.reshape(x, final)
    if len(shape) == 4 and shape[0] == 1 and reduced in ((2,), (3,), (2, 3)):
        op = Mean() if len(reduced) == 2 else AveragePool((shape[2], 1) if reduced == (2,) else (1, shape[3]))
        return builder.reshape(builder.nchw(builder.emit1(op, [builder.nhwc(x)])), final)
    kept = tuple(axis for axis in range(len(shape)) if axis not in reduced)
    moved = builder.transpose(x, (*reduced, *kept)) if max(reduced) >= len(reduced) and not _leads(shape, reduced) else x
    rows = math.prod(shape[axis] for axis in reduced)
    flat = builder.reshape(moved, (1, rows, math.prod(shape[axis] for axis in kept)))
    return builder.reshape(builder.emit1(Mean(), [flat]), final)


def _leads(shape: tuple[int, ...], reduced: tuple[int, ...]) -> bool:
    """Whether only axes of size 1 come before the reduced ones, and none between them: the bytes need not move."""
    return all(axis in reduced or shape[axis] == 1 for axis in range(max(reduced)))


@onnx_op("GlobalAveragePool")
def global_average_pool_from_onnx(builder: Builder, node: OnnxNode) -> str:
    x = node.input(0)
    rank = len(builder.type(x).shape)
    if rank not in (3, 4):
        raise Unsupported(f"{node}: input of rank {rank}; 1-D and 2-D pools are offered")
    return emit_mean(builder, node, x, tuple(range(2, rank)), keepdims=True)


@onnx_op("ReduceMean")
def reduce_mean_from_onnx(builder: Builder, node: OnnxNode) -> str:
    """Axes are an attribute up to opset 17, an input from 18 on; none given means all of them, or none with noop_with_empty_axes."""
    rank = len(builder.type(node.input(0)).shape)
    given = node.ints("axes", [])
    if node.input(1):
        given = [int(axis) for axis in builder.required(node, 1, "axes").reshape(-1)]
    if not given and not int(node.attrs.get("noop_with_empty_axes", 0)):
        given = list(range(rank))
    if any(not -rank <= axis < rank for axis in given):
        raise ImportFailed(f"{node}: axes {given} on an input of rank {rank}")
    axes = tuple(sorted({axis % rank for axis in given}))
    return emit_mean(builder, node, node.input(0), axes, keepdims=bool(int(node.attrs.get("keepdims", 1))))
