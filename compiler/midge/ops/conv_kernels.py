# SPDX-License-Identifier: Apache-2.0
"""Kernels of convolution and dense layers: which there are, what each serves, and how weights are packed for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from midge.costs import shape_of
from midge.errors import Unsupported
from midge.fixedpoint import activation_range, quantize_multipliers
from midge.ir import Array, Node, TensorType
from midge.microkernels.gemm import TOTAL
from midge.ops import conv_clamp, conv_depthwise, conv_dsp, conv_line, conv_mve, conv_planar, conv_strassen, conv_thumb, conv_w4, conv_winograd
from midge.ops.lowering import Lowering, Packed, Variant
from midge.program import Kernel, Operand


class Geometry(Protocol):
    """What of a convolution the kernels ask for; midge.ops.conv.Conv2D is one."""

    @property
    def strides(self) -> tuple[int, int]: ...
    @property
    def dilations(self) -> tuple[int, int]: ...
    @property
    def pads(self) -> tuple[int, int, int, int]: ...
    @property
    def groups(self) -> int: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def planar(self) -> bool: ...
    def hwc(self, x: TensorType) -> tuple[int, int, int]: ...


def effective_scales(types: Sequence[TensorType], out: TensorType) -> Array:
    """s_x * s_w[o] / s_y, one per output channel, in double precision from float32 scales."""
    return types[0].q.s * types[1].q.scales(types[1].shape[0]) / out.q.s


@dataclass(frozen=True)
class ConvLayer:
    """A quantized convolution to be lowered: what kernels are chosen by and packed from. Weights are OHWI int8, bias int32."""

    op: Geometry
    types: tuple[TensorType, ...]
    out: TensorType
    weights: Array
    bias: Array
    numerics: str
    in_planar: bool = False  # the input's rows are planar
    whole: bool = False  # layers run one after the other, on whole tensors
    out_planar: bool = False  # the output's rows are to be
    by_rows: bool = False  # a layer that could be flat is computed row by row
    total: int = TOTAL  # the shift that is tried first where all channels are to share one

    @property
    def flat(self) -> bool:
        """Whether every output pixel depends on one input pixel, so that the whole tensor is one row."""
        op = self.op
        return self.weights.shape[1:3] == (1, 1) and op.strides == (1, 1) and op.pads == (0, 0, 0, 0) and not op.planar and not self.by_rows

    @property
    def depthwise(self) -> bool:
        """Whether every group has one input channel."""
        return self.op.groups > 1 and self.op.groups == self.op.hwc(self.types[0])[2]

    @property
    def params(self) -> dict[str, int]:
        """midge_conv2d_params."""
        op, out = self.op, self.out
        height, width, channels = op.hwc(self.types[0])
        act_min, act_max = activation_range(op.low, op.high, out.q.s, out.q.z)
        return {
            "in_width": height * width if self.flat else width,
            "in_channels": channels,
            "out_width": height * width if self.flat else out.hwc[1],
            "out_channels": out.hwc[2],
            "groups": op.groups,
            "kernel_height": self.weights.shape[1],
            "kernel_width": self.weights.shape[2],
            "stride": op.strides[1],
            "dilation": op.dilations[1],
            "pad": op.pads[1],
            "zero_point": out.q.z,
            "act_min": act_min,
            "act_max": act_max,
        }

    @property
    def folded_bias(self) -> Array:
        """bias - zero_point_in * sum(weights), int64.

        Raises: Unsupported if it does not fit in 32 bits.
        """
        folded = self.bias.astype(np.int64) - self.types[0].q.z * self.weights.astype(np.int64).sum((1, 2, 3))
        if np.abs(folded).max(initial=0) >= 1 << 31:
            raise Unsupported(f"conv2d: a bias of {int(np.abs(folded).max())} with the zero point folded in does not fit in 32 bits")
        return np.asarray(folded, np.int64)

    @property
    def multipliers(self) -> tuple[Array, Array]:
        """(multiplier, shift) per output channel."""
        return quantize_multipliers(effective_scales(self.types, self.out))


def lower_conv(ctx: Lowering, node: Node, layer: ConvLayer, sources: list[Operand]) -> None:
    """Choose a kernel for a convolution or dense layer and append the call."""
    whole = replace(layer, in_planar=ctx.buffer(node.inputs[0]).planar, whole=ctx.whole)
    whole = replace(whole, total=conv_planar.common_total(ctx, whole))
    layer = conv_clamp.saturated(ctx, whole)
    variants = conv_depthwise.PLANAR_ROWS if layer.in_planar else conv_w4.VARIANTS if ctx.narrow and conv_w4.serves(layer) else KERNELS
    shape = shape_of(layer.params, layer.out.hwc[0] if not layer.flat else 1)
    variant = ctx.choose(variants, layer, shape)
    if conv_planar.would_rather(ctx, node, layer, variant.kernel):
        variant = ctx.choose(tuple(other for other in KERNELS if other is not variant), layer, shape)
    clamped = whole is not layer and bool(variant.kernel.features)
    layer = conv_planar.arranged(ctx, node, layer if clamped else whole, variant.kernel)
    if layer.by_rows:
        sources = [ctx.operand(node.inputs[0])]
    params, output = layer.params, conv_clamp.buffer_before(ctx, node) if clamped else None
    constants: dict[str, Packed | str] = dict(variant.pack(layer))
    if variant.kernel not in (conv_dsp.PIXEL, conv_dsp.BYTES, conv_dsp.POINTWISE, conv_strassen.KERNEL, conv_depthwise.PLANAR, conv_line.COLUMN):
        constants["pad_row"] = ctx.pad_row(layer.types[0].q.z, -(-params["in_channels"] // 4) * 4)  # kernels may read whole words
    scratch, block, flat = variant.scratch(layer), _block(variant, layer), layer.flat
    least = 2 if variant.kernel is conv_line.COLUMN or (variant.kernel is conv_dsp.PAIRS and block > 1 and layer.out.hwc[1] == 1) else 1
    splits = ("in_width", "out_width") if flat and variant.kernel is not conv_strassen.KERNEL else ()
    units: tuple[int, ...] = ()
    if variant.kernel is conv_line.COLUMN:
        params, units = params | {"stride": layer.op.strides[0]}, conv_line.units(layer)
        scratch, block = units[-1], conv_line.most(layer)
    if variant.kernel is conv_line.LINE and conv_line.column(layer):
        params, sources, flat = params | conv_line.upright(layer), [ctx.operand(node.inputs[0], flat=True)], True
        splits = ()
    rows = {"block": block, "least": least, "scratch_nbytes": scratch}
    ctx.call(node, variant.kernel, params, sources, constants, output=output, flat=flat, splits=splits, units=units, **rows)
    if output:
        conv_clamp.call_clamp(ctx, node, output, whole)


def _block(variant: Variant, layer: ConvLayer) -> int:
    """Output rows of a call."""
    if variant.kernel.family == "depthwise_dsp":
        return conv_depthwise.block(layer, variant.kernel)
    if variant.kernel.family == "conv2d_mve":
        return conv_mve.block(layer, variant)
    if variant.kernel.family.endswith("_thumb"):
        return conv_thumb.block(layer, variant.kernel)
    return conv_dsp.block(layer) if variant.kernel.family == "conv2d_dsp" else variant.block


def pad_blocks(data: Array, groups: int) -> Array:
    """(O, ...) with each group's channels padded by zeros to a multiple of 4."""
    grouped = data.reshape(groups, -1, *data.shape[1:])
    missing = -grouped.shape[1] % 4
    padded = np.pad(grouped, [(0, 0), (0, missing)] + [(0, 0)] * (data.ndim - 1))
    return padded.reshape(-1, *data.shape[1:])


def pack_blocks(layer: ConvLayer, groups: int | None = None) -> dict[str, Packed]:
    """midge_conv2d_constants in blocks of four channels."""
    groups = layer.op.groups if groups is None else groups
    multiplier, shift = layer.multipliers
    padded = pad_blocks(layer.weights, groups)
    blocks = padded.reshape(-1, 4, *layer.weights.shape[1:]).transpose(0, 2, 3, 4, 1)
    return {
        "weights": blocks.astype(np.int8),
        "bias": pad_blocks(layer.folded_bias, groups).astype(np.int32),
        "multiplier": pad_blocks(multiplier, groups),
        "shift": pad_blocks(shift, groups).astype(np.int8),
    }


def pack_depthwise(layer: ConvLayer) -> dict[str, Packed]:
    """As pack_blocks; channels of all groups share blocks of four."""
    return pack_blocks(layer, 1)


def pack_planar(layer: ConvLayer) -> dict[str, Packed]:
    """As pack_blocks, with the weights of a block in the order plane, ky, kx."""
    packed = pack_blocks(layer)
    weights = packed["weights"]
    assert isinstance(weights, np.ndarray)
    return {**packed, "weights": np.ascontiguousarray(weights.transpose(0, 3, 1, 2, 4))}


def _not_depthwise(layer: ConvLayer) -> str:
    return "" if layer.depthwise else "groups have more than one input channel"


def _not_planar(layer: ConvLayer) -> str:
    return "" if layer.op.planar else "the input is NHWC"


KERNELS = (
    *conv_mve.VARIANTS,
    *conv_winograd.VARIANTS,
    *conv_strassen.VARIANTS,
    *conv_dsp.VARIANTS,
    *conv_line.VARIANTS,
    *conv_depthwise.VARIANTS,
    *conv_thumb.VARIANTS,
    Variant(Kernel("midge_conv2d_planar_s8", "conv2d", profiled=True), pack_planar, _not_planar),
    Variant(Kernel("midge_depthwise_s8", "conv2d", profiled=True), pack_depthwise, _not_depthwise),
    Variant(Kernel("midge_conv2d_s8", "conv2d", profiled=True), pack_blocks),
)
