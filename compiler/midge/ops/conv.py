# SPDX-License-Identifier: Apache-2.0
"""Convolution, 1-D and 2-D, grouped and depthwise.

    y[oy, ox, o] = clamp(b[o] + sum over ky, kx, i of x[oy * sh + ky * dh - pt, ox * sw + kx * dw - pl, g + i] * w[o, ky, kx, i], low, high)

x is (1, H, W, C) or (1, L, C), or (1, C, H, W) if `planar`; w is OHWI with I = C / groups, b is (O). Quantized: x int8 per tensor, w int8 with zero_point 0 per
tensor or per output channel, b int32 of scale s_x * s_w[o], y int8.

Source: ONNX Conv-11, QLinearConv-10; BatchNormalization is imported as a 1x1 depthwise convolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from midge.errors import ImportFailed, Unsupported
from midge.fixedpoint import activation_range, quantize_multipliers, requantize
from midge.ir import Array, DType, Node, Op, TensorType
from midge.ops.build import Builder, OnnxNode, onnx_op
from midge.ops.conv_kernels import ConvLayer, effective_scales, lower_conv
from midge.ops.lowering import Lowering
from midge.program import Operand, Window


@dataclass(frozen=True)
class Conv2D(Op):
    """Attributes of a convolution; pads are (top, left, bottom, right), low and high the fused clamp in real numbers. `planar` reads an NCHW
    input plane by plane, so that no transposed copy of it is made; the output is NHWC as always."""

    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    low: float = -math.inf
    high: float = math.inf
    planar: bool = False

    def hwc(self, x: TensorType) -> tuple[int, int, int]:
        """(H, W, C) of the input."""
        return (x.shape[2], x.shape[3], x.shape[1]) if self.planar else x.hwc

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        x, w = types[0], types[1]
        height, width, channels = self.hwc(x)
        out, kh, kw, depth = w.shape
        if depth * self.groups != channels:
            raise ImportFailed(f"conv2d: weight has {depth} input channels a group and {self.groups} groups, input has {channels} channels (OHWI)")
        if out % self.groups:
            raise ImportFailed(f"conv2d: {out} output channels do not divide into {self.groups} groups")
        rows = window_count(height, kh, self.strides[0], self.dilations[0], self.pads[0] + self.pads[2])
        cols = window_count(width, kw, self.strides[1], self.dilations[1], self.pads[1] + self.pads[3])
        if rows < 1 or cols < 1:
            raise ImportFailed(f"conv2d: kernel {kh}x{kw} does not fit in the padded input {height}x{width}")
        shape = (1, rows, cols, out) if len(x.shape) == 4 else (1, rows, out)
        return [TensorType(DType.F32, shape)]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        x, w = inputs[0][0].transpose(1, 2, 0) if self.planar else inputs[0].reshape(types[0].hwc), inputs[1]
        if out[0].dtype.is_float:
            y = self.accumulate(x.astype(np.float64), w.astype(np.float64))
            if len(inputs) > 2:
                y = y + inputs[2]
            return [np.clip(y, self.low, self.high).astype(np.float32).reshape(out[0].shape)]
        acc = self.accumulate(x.astype(np.float64) - types[0].q.z, w.astype(np.float64)).astype(np.int64) + inputs[2].astype(np.int64)
        multiplier, shift = quantize_multipliers(effective_scales(types, out[0]))
        act_min, act_max = activation_range(self.low, self.high, out[0].q.s, out[0].q.z)
        y = np.clip(requantize(acc, multiplier, shift, numerics) + out[0].q.z, act_min, act_max)
        return [y.astype(np.int8).reshape(out[0].shape)]

    def accumulate(self, x: Array, w: Array) -> Array:
        """The sum of products (H', W', O) of x (H, W, C) and w OHWI, in float64: exact for integers."""
        top, left, bottom, right = self.pads
        x = np.pad(x, ((top, bottom), (left, right), (0, 0)))
        (sh, sw), (dh, dw) = self.strides, self.dilations
        out, kh, kw, depth = w.shape
        rows, cols = (x.shape[0] - dh * (kh - 1) - 1) // sh + 1, (x.shape[1] - dw * (kw - 1) - 1) // sw + 1
        y = np.zeros((self.groups, rows * cols, out // self.groups))
        grouped = w.reshape(self.groups, out // self.groups, kh, kw, depth)
        for ky in range(kh):
            for kx in range(kw):
                tap = x[ky * dh : ky * dh + (rows - 1) * sh + 1 : sh, kx * dw : kx * dw + (cols - 1) * sw + 1 : sw]
                if depth == 1 and out == self.groups:  # a matrix product of 1x1 for each channel would be slow
                    y[:, :, 0] += (tap.reshape(rows * cols, out) * grouped[:, 0, ky, kx, 0]).T
                else:
                    y += tap.reshape(rows * cols, self.groups, depth).transpose(1, 0, 2) @ grouped[:, :, ky, kx].transpose(0, 2, 1)
        return y.transpose(1, 0, 2).reshape(rows, cols, out)

    def macs(self, types: list[TensorType], out: list[TensorType]) -> int:
        return out[0].count * math.prod(types[1].shape[1:])

    def lower(self, ctx: Lowering, node: Node) -> None:
        types, out = ctx.graph.types(node.inputs), ctx.graph.type(node.outputs[0])
        weights, bias = ctx.graph.data(node.inputs[1]), ctx.graph.data(node.inputs[2])
        assert weights is not None and bias is not None
        layer = ConvLayer(self, tuple(types), out, weights, bias, ctx.graph.numerics)
        lower_conv(ctx, node, layer, [ctx.operand(node.inputs[0], flat=True)] if layer.flat else self.operands(ctx, node))

    def operands(self, ctx: Lowering, node: Node) -> list[Operand]:
        """The input, row by row; one operand for each plane if `planar`."""
        x, w, out = ctx.graph.type(node.inputs[0]), ctx.graph.type(node.inputs[1]), ctx.graph.type(node.outputs[0])
        height, width, channels = self.hwc(x)
        window = Window(height, w.shape[1], self.strides[0], self.dilations[0], self.pads[0], rows_out=out.hwc[0])
        if not self.planar:
            return [ctx.operand(node.inputs[0], window)]
        pad_row = ctx.pad_row(x.q.z, width) if window.may_pad else None
        buffer = ctx.buffer(node.inputs[0])
        buffer.rows, buffer.row_nbytes = channels * height, width  # rows of planes, so that each may go when it was read
        return [Operand(buffer.name, window, width, pad_row, offset=plane * height * width) for plane in range(channels)]

    def depthwise(self, types: list[TensorType]) -> bool:
        """Whether every group has one input channel."""
        return self.groups > 1 and self.groups == self.hwc(types[0])[2]


def window_count(size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    """Positions of a window along one axis."""
    return (size + padding - dilation * (kernel - 1) - 1) // stride + 1


def resolve_pads(node: OnnxNode, size: list[int], kernel: list[int], strides: list[int], dilations: list[int]) -> tuple[list[int], list[int]]:
    """(begin, end) padding per spatial axis from `pads` or `auto_pad`; SAME_LOWER puts the odd one first."""
    rank = len(size)
    mode = node.attrs.get("auto_pad", "NOTSET")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    if mode == "NOTSET":
        pads = node.ints("pads", [0] * (2 * rank))
        return pads[:rank], pads[rank:]
    if mode == "VALID":
        return [0] * rank, [0] * rank
    begin, end = [], []
    for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
        small, large = total // 2, total - total // 2
        begin.append(large if mode == "SAME_LOWER" else small)
        end.append(small if mode == "SAME_LOWER" else large)
    return begin, end


def emit_conv(builder: Builder, node: OnnxNode, x: str, w: str, bias: str) -> str:
    """Conv from NCHW values x, w (OIHW) and an optional bias to an NCHW value."""
    if builder.graph.data(w) is None:
        raise Unsupported(f"{node}: weights are computed at run time; only constant weights are offered")
    rank = len(builder.type(w).shape) - 2
    if rank not in (1, 2) or len(builder.type(x).shape) != rank + 2:
        raise Unsupported(f"{node}: {rank}-D convolution of a rank-{len(builder.type(x).shape)} input; 1-D and 2-D are offered")
    kernel = list(builder.type(w).shape[2:])
    strides, dilations = node.ints("strides", [1] * rank), node.ints("dilations", [1] * rank)
    begin, end = resolve_pads(node, list(builder.type(x).shape[2:]), kernel, strides, dilations)
    if min(begin + end) < 0 or min(strides + dilations) < 1:
        raise Unsupported(f"{node}: negative pads or strides below 1; slice the input instead")
    op = Conv2D(
        (strides[0], strides[1] if rank > 1 else 1),
        (dilations[0], dilations[1] if rank > 1 else 1),
        (begin[0], begin[1] if rank > 1 else 0, end[0], end[1] if rank > 1 else 0),
        int(node.attrs.get("group", 1)),
    )
    weights = builder.transpose(w, (0, 2, 1)) if rank == 1 else builder.transpose(w, (0, 2, 3, 1))
    if rank == 1:  # (O, L, I) to OHWI with W = 1; the quantized axis, 0, stays where it is
        data, quant = builder.graph.data(weights), builder.type(weights).quant
        assert data is not None
        weights = builder.constant(weights, data[:, :, None, :], quant)
    inputs = [builder.nhwc(x), weights] + ([bias] if bias else [])
    return builder.nchw(builder.emit1(op, inputs))


@onnx_op("Conv")
def conv_from_onnx(builder: Builder, node: OnnxNode) -> str:
    return emit_conv(builder, node, node.input(0), node.input(1), node.input(2))


@onnx_op("BatchNormalization")
def batch_norm_from_onnx(builder: Builder, node: OnnxNode) -> str:
    """y = gamma * (x - mean) / sqrt(var + epsilon) + beta as a 1x1 depthwise convolution. Source: ONNX BatchNormalization-7 to -15."""
    if int(node.attrs.get("training_mode", 0)):
        raise Unsupported(f"{node}: training mode; export the model in evaluation mode")
    gamma, beta, mean, var = (builder.required(node, i, what).astype(np.float64) for i, what in ((1, "scale"), (2, "B"), (3, "mean"), (4, "var")))
    factor = gamma / np.sqrt(var + float(node.attrs.get("epsilon", 1e-5)))
    channels = factor.size
    x, shape = node.input(0), builder.type(node.input(0)).shape
    if len(shape) < 2 or shape[1] != channels:
        raise ImportFailed(f"{node}: {channels} channels of statistics, input is {shape}")
    weights = builder.constant(f"{node.name}_factor", factor.astype(np.float32).reshape(channels, 1, 1, 1))
    bias = builder.constant(f"{node.name}_offset", (beta - mean * factor).astype(np.float32))
    source = builder.reshape(x, (1, 1, 1, channels)) if len(shape) == 2 else builder.nhwc(x)
    y = builder.emit1(Conv2D(groups=channels), [source, weights, bias])
    return builder.reshape(y, shape) if len(shape) == 2 else builder.nchw(y)
