# SPDX-License-Identifier: Apache-2.0
"""Rectifier with a slope of its own for each channel.

    y[..., c] = x[..., c] for x >= 0, slope[c] * x[..., c] below

x is (1, H, W, C), (1, L, C) or (1, C), slope (C), constant, float or int8 per tensor. Quantized: x and y int8 per tensor. `onnx` numerics: x - z_x
times s_x / s_y or slope * s_x / s_y in units of 2**-32, rounded once, ties to even. `tflite`: slopes are int8; (x - z_x) * (slope - z_slope) is
requantized by s_x * s_slope / s_y, a float slope first becoming int8 with scale max |slope| / 127.

Source: ONNX PRelu-7 to -16; TensorFlow Lite PRELU for int8. A slope of one element is imported as LeakyRelu.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midge.errors import ImportFailed, Unsupported
from midge.fixedpoint import quantize_array, quantize_multiplier, requantize, shift_right_half_even
from midge.ir import Array, DType, Node, Op, TensorType
from midge.ops.binary import word_multipliers
from midge.ops.build import Builder, OnnxNode, dequantize, onnx_op
from midge.ops.lowering import Lowering
from midge.ops.unary import LeakyRelu
from midge.program import Kernel

KERNEL = Kernel("midge_prelu_s8", "elementwise", profiled=True)


@dataclass(frozen=True)
class PRelu(Op):
    """No attributes; inputs are x and slope."""

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        if types[1].shape != (types[0].shape[-1],):
            raise ImportFailed(f"prelu: slope has shape {types[1].shape}, input has {types[0].shape[-1]} channels")
        return [TensorType(DType.F32, types[0].shape)]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        x, slope = inputs
        if out[0].quant is None:
            return [np.where(x >= 0, x, slope * x).astype(np.float32)]
        p, slopes = prelu_params(slope, types, out[0], numerics, flat=False)
        q = x.astype(np.int64) - p["in_zero_point"]
        if numerics == "onnx":
            y = shift_right_half_even((q << p["identity_shift"]) * np.where(q < 0, slopes.astype(np.int64), p["identity_multiplier"]), 32)
        else:
            below = requantize(q * slopes, p["multiplier"], p["shift"], numerics)
            y = np.where(q < 0, below, requantize(q, p["identity_multiplier"], p["identity_shift"], numerics))
        return [np.clip(y + p["zero_point"], -128, 127).astype(np.int8)]

    def lower(self, ctx: Lowering, node: Node) -> None:
        types, out = ctx.graph.types(node.inputs), ctx.graph.type(node.outputs[0])
        slope = ctx.graph.data(node.inputs[1])
        if slope is None:
            raise Unsupported("prelu: the slope is computed at run time; only a constant slope is offered")
        params, slopes = prelu_params(slope, types, out, ctx.graph.numerics, flat=True)
        ctx.call(node, KERNEL, params, [ctx.operand(node.inputs[0], flat=True)], {"slope": slopes}, flat=True, in_place=0, splits=("width",))


def prelu_params(slope: Array, types: list[TensorType], out: TensorType, numerics: str, *, flat: bool) -> tuple[dict[str, int], Array]:
    """(midge_prelu_params, the slopes of midge_prelu_constants). `flat`: the whole tensor as one row of pixels."""
    height, width, channels = types[0].hwc
    s_x, s_y = types[0].q.s, out.q.s
    if numerics == "onnx":
        real = slope if types[1].quant is None else dequantize(slope, types[1].quant)
        factors, identity_shift = word_multipliers([s_x / s_y, *(real.astype(np.float64) * s_x / s_y)])
        identity, *slopes = factors
        multiplier, shift = 0, 0
    else:
        integers, scale = integer_slopes(slope, types[1])
        slopes = integers.tolist()
        identity, identity_shift = quantize_multiplier(s_x / s_y)
        multiplier, shift = quantize_multiplier(s_x * scale / s_y)
    params = {
        "width": height * width if flat else width,
        "channels": channels,
        "in_zero_point": types[0].q.z,
        "identity_multiplier": identity,
        "identity_shift": identity_shift,
        "multiplier": multiplier,
        "shift": shift,
        "zero_point": out.q.z,
    }
    return params, np.array(slopes, np.int32)


def integer_slopes(slope: Array, kind: TensorType) -> tuple[Array, float]:
    """(slope - z_slope, s_slope) of an int8 slope; of a float one, rounded to 8 bits."""
    if kind.quant is not None:
        return slope.astype(np.int64) - kind.q.z, kind.q.s
    scale = float(np.float32(np.abs(slope).max(initial=0.0) / 127.0)) or 1.0
    return quantize_array(slope, scale, 0), scale


@onnx_op("PRelu")
def prelu_from_onnx(builder: Builder, node: OnnxNode) -> str:
    """The slope broadcasts from the right against NCHW: (C, 1, 1), (1, C, 1, 1), (C) of a rank-2 input, or one element."""
    slope = builder.required(node, 1, "slope")
    x = node.input(0)
    if slope.size == 1:
        return builder.emit1(LeakyRelu(float(slope.reshape(-1)[0])), [x])
    shape = builder.type(x).shape
    full = (1,) * (len(shape) - slope.ndim) + slope.shape
    if len(shape) < 2 or full != tuple(d if axis == 1 else 1 for axis, d in enumerate(shape)):
        raise Unsupported(f"{node}: slope of shape {slope.shape} on input {shape}; one slope, or one for each channel, is offered")
    return builder.nchw(builder.emit1(PRelu(), [builder.nhwc(x), builder.reshape(node.input(1), (shape[1],))]))
