# SPDX-License-Identifier: Apache-2.0
"""Softmax over the last axis.

    y[.., c] = exp(x[.., c] - m) / sum over i of exp(x[.., i] - m)   with m = max over i of x[.., i]

Any rank: the last axis is the channels, everything before it pixels. Quantized: exp is a table over the 256 possible differences. onnx
numerics: 31-bit exps, an exact sum, one rounding at the end; any output Quant. tflite numerics: gemmlowp's fixed point as TFLite's int8
reference has it, if the output is scale 1/256, zero_point -128 (TFLite knows no other); otherwise as onnx.

Source: ONNX Softmax-1 to -13; TFLite SOFTMAX; gemmlowp fixedpoint.h for exp and reciprocal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from midge.errors import ImportFailed, Unsupported
from midge.fixedpoint import Int64, high_mul, quantize_multiplier, rounding_shift_right_half_away
from midge.ir import Array, DType, Node, Op, TensorType
from midge.ops.build import Builder, OnnxNode, onnx_op
from midge.ops.fixed_functions import fixed_exp, reciprocal, shift_left
from midge.ops.lowering import Lowering
from midge.program import Kernel

EXACT = Kernel("midge_softmax_s8", "softmax")
TFLITE = Kernel("midge_softmax_s8_tflite", "softmax")
KERNELS = (EXACT, TFLITE)
TFLITE_MAX_CHANNELS = 4095  # the sum has 12 integer bits
MAX_CHANNELS = 1 << 20


@dataclass(frozen=True)
class Softmax(Op):
    """No attributes: the importer brings the axis to the end."""

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        if not types[0].shape:
            raise ImportFailed("softmax: the input is a scalar")
        return [TensorType(DType.F32, types[0].shape)]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        x = inputs[0].reshape(-1, types[0].shape[-1])
        if out[0].dtype.is_float:
            e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
            return [(e / e.sum(-1, keepdims=True)).astype(np.float32).reshape(out[0].shape)]
        d = x.max(-1, keepdims=True).astype(np.int64) - x
        if tflite_softmax(types[0], out[0], numerics):
            y = _tflite_pixels(tflite_table(types[0].q.s), d)
        else:
            multiplier, shift = quantize_multiplier(1.0 / out[0].q.s)
            y = _exact_pixels(exact_table(types[0].q.s), d, multiplier, shift) + out[0].q.z
        return [np.clip(y, -128, 127).astype(np.int8).reshape(out[0].shape)]

    def lower(self, ctx: Lowering, node: Node) -> None:
        x, out = ctx.graph.type(node.inputs[0]), ctx.graph.type(node.outputs[0])
        channels = x.shape[-1]
        tflite = tflite_softmax(x, out, ctx.graph.numerics)
        if channels > MAX_CHANNELS:
            raise Unsupported(f"softmax over {channels} channels; at most {MAX_CHANNELS} are offered")
        table = (tflite_table if tflite else exact_table)(x.q.s)
        multiplier, shift = quantize_multiplier(1.0 / out.q.s)
        params = {
            "width": x.count // channels,
            "channels": channels,
            "table_size": table.size,
            "multiplier": multiplier,
            "shift": shift,
            "zero_point": out.q.z,
        }
        operand = ctx.operand(node.inputs[0], flat=True)
        ctx.call(
            node, TFLITE if tflite else EXACT, params, [operand], {"table": table.astype(np.uint32).view(np.int32)}, flat=True, in_place=0, splits=("width",)
        )


def tflite_softmax(x: TensorType, out: TensorType, numerics: str) -> bool:
    """Whether TFLite's softmax applies: its output type is fixed and its sum holds 4095 channels."""
    return numerics == "tflite" and (out.q.s, out.q.z) == (1 / 256, -128) and x.shape[-1] <= TFLITE_MAX_CHANNELS


def trimmed(table: Int64) -> Int64:
    """Without the zeros at its end."""
    return table[: int(np.flatnonzero(table)[-1]) + 1]


def exact_table(scale: float) -> Int64:
    """round(exp(-scale * d) * 2**31) for d = 0 .. 255, up to the last that is not 0."""
    return trimmed(np.rint(np.exp(-scale * np.arange(256)) * 2.0**31).astype(np.int64))


def _exact_pixels(table: Int64, d: Int64, multiplier: int, shift: int) -> Int64:
    """softmax_pixel in kernels/softmax.c on differences (pixels, channels)."""
    e = np.concatenate([table, np.zeros(256 - table.size, np.int64)])[d]
    total = e.sum(-1, keepdims=True)
    down = np.maximum(np.frexp(total.astype(np.float64))[1] - 32, 0)
    factor = (np.int64(multiplier) << 32) // (total >> down)
    product = e.astype(np.uint64) * factor.astype(np.uint64)
    right = (63 + down - shift).astype(np.uint64)
    rounded = ((product >> np.minimum(right - np.uint64(1), np.uint64(63))) + np.uint64(1)) >> np.uint64(1)
    return np.where(right < 64, np.minimum(rounded, np.uint64(255)), np.uint64(0)).astype(np.int64)


def tflite_table(scale: float) -> Int64:
    """gemmlowp's exp(-scale * d) with 31 fraction bits for d = 0 .. 255, up to the last that is not 0.

    The difference is scaled to 26 fraction bits and 5 integer bits; one that does not fit counts as exp = 0.
    """
    if scale * (1 << 26) <= 1.0:
        raise Unsupported(f"softmax: an input scale of {scale} is below 2**-26; use --numerics onnx")
    multiplier, shift = quantize_multiplier(min(scale * (1 << 26), float((1 << 31) - 1)))
    limit = (31 << 26) >> shift
    d = np.arange(min(limit, 255) + 1, dtype=np.int64)
    return trimmed(fixed_exp(high_mul(-d << shift, multiplier), 5))


def _tflite_pixels(table: Int64, d: Int64) -> Int64:
    """softmax_pixel_tflite in kernels/softmax.c on differences (pixels, channels)."""
    e = np.concatenate([table, np.zeros(256 - table.size, np.int64)])[d]
    total = rounding_shift_right_half_away(e, 12).sum(-1, keepdims=True)
    up = 32 - np.frexp(total.astype(np.float64))[1]
    factor = shift_left(reciprocal((total << up) - (1 << 31)), 1)
    right = np.broadcast_to(35 - up, e.shape)
    y = rounding_shift_right_half_away(high_mul(e, factor), np.minimum(right, 31))
    return np.where(right > 31, 0, y) - 128


@onnx_op("Softmax")
def softmax_from_onnx(builder: Builder, node: OnnxNode) -> str:
    """Up to opset 11 all axes from `axis` on are one (default 1); from 13 on `axis` alone is normalized (default -1)."""
    x = node.input(0)
    shape = builder.type(x).shape
    rank = len(shape)
    axis = int(node.attrs.get("axis", 1 if node.opset < 13 else -1))
    if not -rank <= axis < rank:
        raise ImportFailed(f"{node}: axis {axis} on an input of rank {rank}")
    axis %= rank
    if node.opset < 13 or axis == rank - 1 or math.prod(shape[axis + 1 :]) == 1:
        inner = math.prod(shape[axis:])
        flat = builder.reshape(x, shape if axis == rank - 1 else (1, math.prod(shape[:axis]), inner))
        return builder.reshape(builder.emit1(Softmax(), [flat]), shape)
    if axis == 1 and rank in (3, 4):
        return builder.nchw(builder.emit1(Softmax(), [builder.nhwc(x)]))
    swap = tuple(rank - 1 if i == axis else axis if i == rank - 1 else i for i in range(rank))
    return builder.transpose(builder.emit1(Softmax(), [builder.transpose(x, swap)]), swap)


@onnx_op("LogSoftmax")
def log_softmax_from_onnx(builder: Builder, node: OnnxNode) -> str:
    raise Unsupported(f"{node}: log-probabilities are not offered; export the logits, or Softmax, and take the logarithm on them")
