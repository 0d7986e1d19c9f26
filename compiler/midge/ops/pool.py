# SPDX-License-Identifier: Apache-2.0
"""Pooling over windows, 1-D and 2-D.

    average: y[oy, ox, c] = clamp(sum over the taps inside of x[oy * sh + ky - pt, ox * sw + kx - pl, c] / count[oy, ox], low, high)
    max:     y[oy, ox, c] = max over the taps inside of x[oy * sh + ky * dh - pt, ox * sw + kx * dw - pl, c]

x and y are (1, H, W, C) or (1, L, C). count is the number of taps inside the tensor or, with count_include_pad, inside the padded one.
Quantized, onnx numerics: s_x / s_y * sum(q - zero_point) / count rounded once, exact halves to even. tflite numerics: the sum of the raw
integers over count, halves away from zero, if x and y have one Quant (TFLite knows no other average pool); otherwise as onnx.

Source: ONNX AveragePool-7 to -22, MaxPool-1 to -22, GlobalMaxPool-1; TFLite AVERAGE_POOL_2D, MAX_POOL_2D.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from midge.errors import ImportFailed, Unsupported
from midge.fixedpoint import Int64, activation_range, quantize_multipliers
from midge.ir import Array, DType, Node, Op, TensorType
from midge.ops.build import Builder, OnnxNode, onnx_op
from midge.ops.conv import resolve_pads, window_count
from midge.ops.lowering import Lowering
from midge.ops.pool_numbers import average_scales, quotient, short_scales
from midge.program import Contract, Kernel, Operand, Window

AVERAGE = Kernel("midge_average_pool_s8", "pool", profiled=True)
AVERAGE_ONCE = Kernel("midge_average_pool_s8", "pool")
MAX = Kernel("midge_max_pool_s8", "pool")
MEAN = Kernel("midge_mean_s8", "pool", profiled=True, contract=Contract.REDUCE)
MEAN_ONCE = Kernel("midge_mean_s8", "pool", contract=Contract.REDUCE)
MEAN_HALF_AWAY = Kernel("midge_mean_half_away_s8", "pool", contract=Contract.REDUCE)
MOST_TAPS = 255  # whose sum of int8 fits in 16 bits
KERNELS = (AVERAGE, AVERAGE_ONCE, MAX, MEAN, MEAN_ONCE, MEAN_HALF_AWAY)


@dataclass(frozen=True)
class AveragePool(Op):
    """pads are (top, left, bottom, right); `extra` are the rows and columns that a rounded-up output size reaches beyond them, which never
    count. low and high are the fused clamp in real numbers."""

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    count_include_pad: bool = False
    extra: tuple[int, int] = (0, 0)
    low: float = -math.inf
    high: float = math.inf

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        return [TensorType(DType.F32, pooled_shape("averagepool", types[0], self.kernel, self.strides, (1, 1), self.reach))]

    @property
    def reach(self) -> tuple[int, int, int, int]:
        """Padding on each side, `extra` included."""
        top, left, bottom, right = self.pads
        return top, left, bottom + self.extra[0], right + self.extra[1]

    def counts(self, size: int, axis: int, outputs: int) -> Int64:
        """Taps that count along one axis, per output."""
        before, after = (self.pads[axis], self.pads[axis + 2]) if self.count_include_pad else (0, 0)
        first = np.arange(outputs) * self.strides[axis] - self.pads[axis]
        return np.asarray(np.minimum(first + self.kernel[axis], size + after) - np.maximum(first, -before), np.int64)

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        height, width, _ = types[0].hwc
        rows, cols, _ = out[0].hwc
        count = (self.counts(height, 0, rows)[:, None] * self.counts(width, 1, cols))[:, :, None]
        x = inputs[0].reshape(types[0].hwc)
        if out[0].dtype.is_float:
            y = windows(x.astype(np.float64), self.kernel, self.strides, (1, 1), self.reach, 0.0).sum(axis=0) / count
            return [np.clip(y, self.low, self.high).astype(np.float32).reshape(out[0].shape)]
        away = raw_average(types[0], out[0], numerics)
        counted, zero_point = (types[0].q.z, 0) if away else (0, out[0].q.z)
        total = windows(x.astype(np.int64) - types[0].q.z, self.kernel, self.strides, (1, 1), self.reach, 0).sum(axis=0) + counted * count
        multiplier, shift = quantize_multipliers(average_scales(types[0], out[0], count.reshape(-1)))
        y = quotient(total, multiplier.reshape(count.shape), shift.reshape(count.shape), away=away) + zero_point
        y = np.clip(y, *activation_range(self.low, self.high, out[0].q.s, out[0].q.z))
        return [y.astype(np.int8).reshape(out[0].shape)]

    def lower(self, ctx: Lowering, node: Node) -> None:
        x, out = ctx.graph.type(node.inputs[0]), ctx.graph.type(node.outputs[0])
        height, width, channels = x.hwc
        away = raw_average(x, out, ctx.graph.numerics)
        params = pool_params(x, out, self.kernel, self.strides[1], (1, 1), self.pads[1], raw=away)
        params["act_min"], params["act_max"] = activation_range(self.low, self.high, out.q.s, out.q.z)
        if self.kernel == (height, width) and not any(self.reach) and out.hwc[:2] == (1, 1):
            multiplier, shift = quantize_multipliers(average_scales(x, out, np.array([height * width])))
            lower_mean(ctx, node, MEAN_HALF_AWAY if away else MEAN_ONCE, params, multiplier, shift)
            return
        count = np.multiply.outer(self.counts(height, 0, out.hwc[0]), self.counts(width, 1, out.hwc[1]))
        params["count_min"] = int(count.min())
        if self.count_include_pad:
            params["count_top"], params["count_left"], params["count_bottom"], params["count_right"] = self.pads
        counts = np.arange(count.min(), count.max() + 1)
        multiplier, shift = quantize_multipliers(average_scales(x, out, counts))
        kernel, short = AVERAGE if away else AVERAGE_ONCE, None
        if fast(ctx, MAX, channels) is not MAX and self.kernel[0] * self.kernel[1] <= MOST_TAPS:
            short = short_scales(average_scales(x, out, counts), counts, (multiplier, shift), away=away)
        if short is not None:
            (multiplier, shift), kernel = short, replace(kernel, symbol="midge_average_pool_dsp_s8", family="pool_dsp", features=frozenset({"dsp"}))
        window = Window(height, self.kernel[0], self.strides[0], 1, self.pads[0], rows_out=out.hwc[0])
        pad_row = ctx.pad_row(x.q.z, width * channels if window.may_pad else 1)
        params["pad_rows"] = max(window.rows(y).count(-1) for y in range(out.hwc[0]))
        constants: dict[str, Array | str] = {"multiplier": multiplier, "shift": shift.astype(np.int8), "pad_row": pad_row}
        ctx.call(node, kernel, params, [ctx.operand(node.inputs[0], window)], constants)


@dataclass(frozen=True)
class MaxPool(Op):
    """pads are (top, left, bottom, right), what a rounded-up output size reaches beyond included; padding never wins."""

    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    moves_data = True

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        return [types[0].with_shape(pooled_shape("maxpool", types[0], self.kernel, self.strides, self.dilations, self.pads))]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        x = inputs[0].reshape(types[0].hwc)
        least = -np.inf if out[0].dtype.is_float else int(np.iinfo(x.dtype).min)
        y = windows(x, self.kernel, self.strides, self.dilations, self.pads, least).max(axis=0)
        return [y.astype(x.dtype).reshape(out[0].shape)]

    def lower(self, ctx: Lowering, node: Node) -> None:
        x, out = ctx.graph.type(node.inputs[0]), ctx.graph.type(node.outputs[0])
        height, width, channels = x.hwc
        params = pool_params(x, out, self.kernel, self.strides[1], self.dilations, self.pads[1], raw=True)
        window = Window(height, self.kernel[0], self.strides[0], self.dilations[0], self.pads[0], rows_out=out.hwc[0])
        pad_row = ctx.pad_row(-128, width * channels) if window.may_pad else None
        ctx.call(node, fast(ctx, MAX, channels), params, [Operand(ctx.buffer(node.inputs[0]).name, window, width * channels, pad_row=pad_row)], {})


def pooled_shape(
    kind: str, x: TensorType, kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int], pads: tuple[int, int, int, int]
) -> tuple[int, ...]:
    """The shape of a pool's output.

    Raises: ImportFailed if no window fits, or if padding is as wide as the window, which would average nothing.
    """
    height, width, channels = x.hwc
    rows = window_count(height, kernel[0], strides[0], dilations[0], pads[0] + pads[2])
    cols = window_count(width, kernel[1], strides[1], dilations[1], pads[1] + pads[3])
    if rows < 1 or cols < 1:
        raise ImportFailed(f"{kind}: window {kernel[0]}x{kernel[1]} does not fit in the padded input {height}x{width}")
    for axis in (0, 1):
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        last = ((rows, cols)[axis] - 1) * strides[axis] - pads[axis]
        if pads[axis] >= reach or last >= (height, width)[axis]:
            raise ImportFailed(f"{kind}: a window of {reach} lies wholly in the padding (pads {pads}, input {height}x{width})")
    return (1, rows, cols, channels) if len(x.shape) == 4 else (1, rows, channels)


def windows(x: Array, kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int], pads: tuple[int, int, int, int], fill: float) -> Array:
    """(taps, H', W', C): for each tap of the window the inputs (H, W, C) it meets; `fill` is met in the padding."""
    x = np.pad(x, ((pads[0], pads[2]), (pads[1], pads[3]), (0, 0)), constant_values=fill)
    (sh, sw), (dh, dw) = strides, dilations
    rows, cols = window_count(x.shape[0], kernel[0], sh, dh, 0), window_count(x.shape[1], kernel[1], sw, dw, 0)
    taps = [x[ky * dh : ky * dh + (rows - 1) * sh + 1 : sh, kx * dw : kx * dw + (cols - 1) * sw + 1 : sw] for ky in range(kernel[0]) for kx in range(kernel[1])]
    return np.stack(taps)


def raw_average(x: TensorType, out: TensorType, numerics: str) -> bool:
    """Whether TFLite's AVERAGE_POOL_2D applies: it divides the raw integers, so input and output must mean the same."""
    return numerics == "tflite" and x.quant == out.quant


def pool_params(x: TensorType, out: TensorType, kernel: tuple[int, int], stride: int, dilations: tuple[int, int], pad: int, *, raw: bool) -> dict[str, int]:
    """midge_pool_params without fused clamp and counted padding. `raw`: input and output mean the same, integers are averaged as they are."""
    return {
        "in_width": x.hwc[1],
        "channels": x.hwc[2],
        "out_width": out.hwc[1],
        "kernel_height": kernel[0],
        "kernel_width": kernel[1],
        "stride": stride,
        "dilation": dilations[1],
        "pad": pad,
        "pad_rows": 0,
        "count_top": 0,
        "count_left": 0,
        "count_bottom": 0,
        "count_right": 0,
        "count_min": kernel[0] * kernel[1],
        "input_zero_point": x.q.z,
        "counted_value": x.q.z if raw else 0,
        "zero_point": 0 if raw else out.q.z,
        "act_min": -128,
        "act_max": 127,
    }


def lower_mean(ctx: Lowering, node: Node, kernel: Kernel, params: dict[str, int], multiplier: Array, shift: Array) -> None:
    """The call of a mean over all rows and pixels: `params` has the whole tensor as its window, added as one row of all its pixels."""
    x = ctx.graph.type(node.inputs[0])
    constants: dict[str, Array | str] = {"multiplier": multiplier, "shift": shift.astype(np.int8), "pad_row": ctx.pad_row(x.q.z, 1)}
    params = params | {"in_width": x.hwc[0] * x.hwc[1]}
    kernel, source, scratch = fast(ctx, kernel, params["channels"]), ctx.operand(node.inputs[0], flat=True), 4 * params["channels"]
    ctx.call(node, kernel, params, [source], constants, rows=1, scratch_nbytes=scratch, splits=("in_width",))


def fast(ctx: Lowering, kernel: Kernel, channels: int) -> Kernel:
    """The kernel that does the same with what the target's cores have."""
    served = {"mve": (MEAN, MEAN_ONCE, MEAN_HALF_AWAY), "dsp": (MAX, MEAN, MEAN_ONCE, MEAN_HALF_AWAY) if channels >= 4 else ()}
    for feature, kernels in served.items():
        if feature in ctx.features and kernel in kernels and ctx.optimize != "size":
            symbol = f"{kernel.symbol.removesuffix('_s8')}_{feature}_s8"
            return replace(kernel, symbol=symbol, family=f"pool_{feature}", features=frozenset({feature}))
    return kernel


def rounded_up(size: int, kernel: int, stride: int, dilation: int, begin: int, end: int) -> int:
    """Padding beyond `end` with which ceil_mode's last window fits; a window that would start beyond the input is left out."""
    span = dilation * (kernel - 1) + 1
    count = -(-(size + begin + end - span) // stride) + 1
    if (count - 1) * stride >= size + begin:
        count -= 1
    return max(0, (count - 1) * stride + span - size - begin - end)


def emit_pool(builder: Builder, node: OnnxNode, x: str) -> str:
    """AveragePool or MaxPool (by the end of node.op) from an NCHW value to an NCHW value."""
    size = list(builder.type(x).shape[2:])
    kernel = node.ints("kernel_shape", [])
    rank = len(kernel)
    if rank not in (1, 2) or len(size) != rank:
        raise Unsupported(f"{node}: {rank}-D window on a rank-{len(size) + 2} input; 1-D and 2-D pools are offered")
    strides, dilations = node.ints("strides", [1] * rank), node.ints("dilations", [1] * rank)
    begin, end = resolve_pads(node, size, kernel, strides, dilations)
    if min(begin + end) < 0 or min(strides + dilations + kernel) < 1:
        raise Unsupported(f"{node}: negative pads, or a window, stride or dilation below 1; slice the input instead")
    extra = [0] * rank
    if int(node.attrs.get("ceil_mode", 0)):
        extra = [rounded_up(*axis) for axis in zip(size, kernel, strides, dilations, begin, end, strict=True)]
    tail = [1] * (2 - rank)
    kh, kw = kernel + tail
    sh, sw = strides + tail
    begin, end, extra = begin + [0] * (2 - rank), end + [0] * (2 - rank), extra + [0] * (2 - rank)
    op: Op
    if node.op.endswith("MaxPool"):
        dh, dw = dilations + tail
        op = MaxPool((kh, kw), (sh, sw), (dh, dw), (begin[0], begin[1], end[0] + extra[0], end[1] + extra[1]))
    else:
        if max(dilations) > 1:
            raise Unsupported(f"{node}: dilations {dilations}; export it as a depthwise Conv with weights of 1 / count")
        include = bool(int(node.attrs.get("count_include_pad", 0))) and max(begin + end) > 0
        op = AveragePool((kh, kw), (sh, sw), (begin[0], begin[1], end[0], end[1]), include, (extra[0], extra[1]))
    return builder.nchw(builder.emit1(op, [builder.nhwc(x)]))


@onnx_op("AveragePool")
def average_pool_from_onnx(builder: Builder, node: OnnxNode) -> str:
    return emit_pool(builder, node, node.input(0))


@onnx_op("MaxPool")
def max_pool_from_onnx(builder: Builder, node: OnnxNode) -> str:
    if len(node.outputs) > 1 and node.outputs[1]:
        raise Unsupported(f"{node}: output Indices; only the maxima are offered, remove the consumers of '{node.outputs[1]}'")
    return emit_pool(builder, node, node.input(0))


@onnx_op("GlobalMaxPool")
def global_max_pool_from_onnx(builder: Builder, node: OnnxNode) -> str:
    size = builder.type(node.input(0)).shape[2:]
    if len(size) not in (1, 2):
        raise Unsupported(f"{node}: {len(size)} spatial axes; 1-D and 2-D pools are offered")
    return builder.nchw(builder.emit1(MaxPool((size[0], size[1] if len(size) == 2 else 1)), [builder.nhwc(node.input(0))]))
