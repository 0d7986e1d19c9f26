# SPDX-License-Identifier: Apache-2.0
"""Convolution and dense layers on the DSP extension: what serves a layer and what it is packed to."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from midge.microkernels.dense import dense_routine, dense_stream
from midge.microkernels.gemm import Gemm, gemm_routine
from midge.microkernels.pointwise import DEPTHS, pointwise_routine, pointwise_stream
from midge.microkernels.unpack import unpack_routine, window_order
from midge.ops.lowering import Packed, Variant
from midge.program import Kernel

if TYPE_CHECKING:
    from midge.ops.conv_kernels import ConvLayer

DSP = frozenset({"dsp"})
BLOCK = 16  # rows of a pointwise layer that share a call, at most
PAIRS = Kernel("midge_conv2d_dsp_s8", "conv2d_dsp", features=DSP)
POINTWISE = Kernel("midge_pointwise_dsp_s8", "conv2d_dsp", features=DSP)
PIXEL = Kernel("midge_dense_dsp_s8", "dense_dsp", features=DSP)
BYTES = Kernel("midge_dense_bytes_dsp_s8", "dense_dsp", features=DSP)


def gemm_of(layer: ConvLayer) -> Gemm:
    """The layer as rows of weights over the taps of a window."""
    multiplier, shift = layer.multipliers
    return Gemm(layer.weights.reshape(len(layer.weights), -1), layer.folded_bias, multiplier, shift, layer.out.q.z).settled(layer.numerics)


def window(layer: ConvLayer) -> tuple[int, int]:
    """(runs, bytes of a run)."""
    _, height, width, channels = layer.weights.shape
    return height, width * channels


def pack_pairs(layer: ConvLayer, packed: bool) -> dict[str, Packed]:
    """midge_conv2d_dsp_constants."""
    height, run = window(layer)
    gemm = gemm_of(layer).reordered(window_order(height, run))
    routine = gemm_routine(gemm.depth, packed, layer.out.q.z == -128, gemm.total(layer.numerics), layer.numerics)
    aligned = layer.params["in_channels"] % 4 == 0
    stream, last = gemm.streams(packed, layer.numerics, pitch(layer))
    return {"stream": stream, "last": last, "gemm": routine, "unpack": unpack_routine(height, run, aligned)}


def pack_pixel(layer: ConvLayer, packed: bool) -> dict[str, Packed]:
    """midge_dense_dsp_constants."""
    gemm = gemm_of(layer)
    routine = dense_routine(gemm.depth, len(gemm.weights), packed, layer.out.q.z == -128, layer.numerics)
    return {"stream": dense_stream(gemm, packed), "dense": routine}


def pack_bytes(layer: ConvLayer) -> dict[str, Packed]:
    """midge_dense_bytes_constants."""
    gemm = gemm_of(layer)
    routine = dense_routine(gemm.depth, len(gemm.weights), True, layer.out.q.z == -128, layer.numerics, in_place=True)
    return {"stream": dense_stream(gemm, True), "dense": routine}


def pack_pointwise(layer: ConvLayer) -> dict[str, Packed]:
    """midge_pointwise_dsp_constants."""
    gemm, relu = gemm_of(layer), layer.out.q.z == -128
    routine = pointwise_routine(gemm.depth, len(gemm.weights), pitch(layer), relu, gemm.total(layer.numerics), layer.numerics)
    return {"stream": pointwise_stream(gemm, pitch(layer), layer.numerics), "pointwise": routine}


def pitch(layer: ConvLayer) -> int:
    """Bytes from a channel to the next in an output row."""
    return layer.out.hwc[1] if layer.out_planar else 1


def writes_planar(kernel: Kernel, layer: ConvLayer) -> bool:
    """Whether a kernel may write planar rows of a layer's output."""
    _, width, channels = layer.out.hwc
    return kernel == PAIRS or (kernel == POINTWISE and width % 4 == 0 and width < 256 and width * channels < 1 << 16)


def refuses_pointwise(layer: ConvLayer) -> str:
    """Why two pixels in registers do not serve a layer."""
    channels = layer.params["in_channels"]
    if not layer.flat or channels not in DEPTHS or pixels(layer) == 1:
        return "not pointwise of four or eight channels" if not layer.flat or channels not in DEPTHS else "one pixel"
    if layer.out.hwc[1] == 1:
        return "one column, whose rows may be computed one by one"
    if len(layer.weights) >= 1 << 12:
        return f"{len(layer.weights)} channels"
    return refuses_gemm(layer, packed=False)


def gemm_geometry(layer: ConvLayer) -> str:
    """Why no GEMM that only saturates serves a layer, whatever its weights."""
    if layer.op.groups > 1 or layer.op.planar:
        return "grouped" if layer.op.groups > 1 else "the input is NCHW"
    act_min, act_max = layer.params["act_min"], layer.params["act_max"]
    if (act_min, act_max) != (-128, 127):
        return f"clamped to {act_min}..{act_max}, which int8 saturation does not do"
    return ""


def refuses_gemm(layer: ConvLayer, packed: bool) -> str:
    """Why integers of one or two channels a lane do not give the exact result."""
    refused = gemm_geometry(layer)
    if refused:
        return refused
    gemm = gemm_of(layer)
    return gemm.refuses() or (gemm.refuses_packing() if packed else "")


def refuses_pairs(layer: ConvLayer, packed: bool) -> str:
    """Why two pixels by two channels do not serve a layer."""
    return pairs_geometry(layer) or refuses_gemm(layer, packed)


def pairs_geometry(layer: ConvLayer) -> str:
    """Why a layer has no pairs of pixels that windows of taps fill."""
    params = layer.params
    if pixels(layer) == 1:
        return "one pixel"
    if params["dilation"] > 1 and params["kernel_width"] > 1:
        return "dilated in width"
    if padded(layer) and params["in_width"] * params["in_channels"] < 4 <= window(layer)[1]:
        return "padded rows of less than four bytes"
    if 16 * gemm_of(layer).depth >= 1 << 16:
        return f"{gemm_of(layer).depth} taps"
    return ""


def refuses_pixel(layer: ConvLayer, packed: bool) -> str:
    """Why one pixel by four channels does not serve a layer."""
    return pixel_geometry(layer) or refuses_gemm(layer, packed)


def pixel_geometry(layer: ConvLayer) -> str:
    """Why a layer is more than one pixel with a whole window."""
    params = layer.params
    if pixels(layer) > 1:
        return f"{pixels(layer)} pixels, which two by two are faster"
    if params["pad"] or params["kernel_width"] > params["in_width"] or (params["dilation"] > 1 and params["kernel_width"] > 1):
        return "the window is not whole"
    return ""


def refuses_bytes(layer: ConvLayer) -> str:
    """Why taps cannot be read as they come."""
    height, run = window(layer)
    if height > 1 or run % 4:
        return "taps of several rows" if height > 1 else f"{run} taps, no multiple of four"
    return refuses_pixel(layer, packed=True)


def padded(layer: ConvLayer) -> bool:
    """Whether a window reaches beyond its rows."""
    params = layer.params
    last = (params["out_width"] - 1) * params["stride"] - params["pad"] + params["kernel_width"]
    return params["pad"] > 0 or last > params["in_width"]


def pixels(layer: ConvLayer) -> int:
    """Output pixels."""
    height, width, _ = layer.out.hwc
    return height * width


def pairs_scratch(layer: ConvLayer) -> int:
    return 4 * gemm_of(layer).depth


def pixel_scratch(layer: ConvLayer) -> int:
    depth = gemm_of(layer).depth
    return 2 * depth + (depth if window(layer)[1] % 4 else 0) + bytes_scratch(layer)


def bytes_scratch(layer: ConvLayer) -> int:
    channels = layer.out.hwc[2]
    return -(-channels // 4) * 4 if channels % 4 else 0


def block(layer: ConvLayer) -> int:
    """Rows that share a call: an odd row lends its last pixel a neighbour from the next."""
    if layer.by_rows:
        return max(1, min(BLOCK, layer.out.hwc[0]))
    return 2 if layer.params["out_width"] % 2 and not layer.flat else 1


def _variants(packed: bool) -> tuple[Variant, ...]:
    kinds = (
        (PIXEL, pack_pixel, refuses_pixel, pixel_scratch),
        (PAIRS, pack_pairs, refuses_pairs, pairs_scratch),
    )
    return tuple(
        Variant(kernel, partial(pack, packed=packed), partial(refuses, packed=packed), scratch, spends=not packed) for kernel, pack, refuses, scratch in kinds
    )


VARIANTS = (
    Variant(POINTWISE, pack_pointwise, refuses_pointwise, spends=True),
    *_variants(packed=False),
    *_variants(packed=True),
    Variant(BYTES, pack_bytes, refuses_bytes, bytes_scratch),
)
