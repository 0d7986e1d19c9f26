# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolution on the DSP extension: what serves a layer and what it is packed to."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from midge.microkernels.depthwise import Depthwise
from midge.microkernels.depthwise_pixel import MOST_TAPS, direct_stream, pixel_routine
from midge.microkernels.planar import Planar
from midge.ops.conv_dsp import DSP, gemm_of
from midge.ops.lowering import Packed, Variant
from midge.program import Kernel

if TYPE_CHECKING:
    from midge.ops.conv_kernels import ConvLayer

PLANAR = Kernel("midge_depthwise_planar_s8", "depthwise_dsp", features=DSP)
STRIP = Kernel("midge_depthwise_dsp_s8", "depthwise_dsp", features=DSP)
DIRECT = Kernel("midge_depthwise_direct_s8", "depthwise_dsp", features=DSP)


def depthwise_of(layer: ConvLayer) -> Depthwise:
    """The layer's integers and where its pixels are."""
    (height, width, _), params = layer.out.hwc, layer.params
    return Depthwise(gemm_of(layer), height, width, params["in_width"], params["pad"], params["stride"], layer.numerics)


def pack_strip(layer: ConvLayer) -> dict[str, Packed]:
    """midge_depthwise_dsp_constants."""
    depthwise = depthwise_of(layer)
    spread, taps = depthwise.routines()
    return {"stream": depthwise.stream(), "spread": spread, "taps": taps}


def refuses_strip(layer: ConvLayer) -> str:
    """Why blocks of a planar strip do not serve a layer, '' if they do."""
    op = layer.op
    if layer.weights.shape[1:3] != (3, 3) or op.dilations != (1, 1) or op.strides not in ((1, 1), (2, 2)):
        return "not 3x3 of stride 1 or 2, undilated"
    if layer.params["out_width"] < 2:
        return "one output column"
    return refuses_channels(layer) or gemm_of(layer).refuses()


def planar_of(layer: ConvLayer, packed: bool) -> Planar:
    """The layer's integers and where its pixels are."""
    p = layer.params
    return Planar(gemm_of(layer), layer.types[0].q.z, p["in_width"], p["out_width"], p["pad"], p["stride"], layer.numerics, packed, layer.total)


def pack_planar(layer: ConvLayer, packed: bool) -> dict[str, Packed]:
    """midge_depthwise_planar_constants."""
    planar = planar_of(layer, packed)
    return {"stream": planar.stream(), "row": planar.routine()}


def refuses_planar(layer: ConvLayer, packed: bool) -> str:
    """Why planar rows do not serve a layer, '' if they do."""
    if not layer.in_planar:
        return "the producer of the input does not write planar rows"
    op = layer.op
    if layer.weights.shape[1:3] != (3, 3) or op.dilations != (1, 1) or op.strides not in ((1, 1), (2, 2)):
        return "not 3x3 of stride 1 or 2, undilated"
    return refuses_channels(layer) or gemm_of(layer).refuses() or planar_of(layer, packed).refuses()


def pack_direct(layer: ConvLayer) -> dict[str, Packed]:
    """midge_depthwise_direct_constants."""
    return {"stream": direct_stream(gemm_of(layer)), "pixel": pixel_routine(layer.numerics, layer.out.q.z == -128)}


def refuses_direct(layer: ConvLayer) -> str:
    """Why one pixel at a time does not serve a layer, '' if it does."""
    taps, params = gemm_of(layer).weights.shape[1], layer.params
    column = params["in_width"] == params["kernel_width"] == params["out_width"] == 1 and params["pad"] == 0
    if taps > MOST_TAPS and not column:
        return f"{taps} taps, {MOST_TAPS} are offered"
    return refuses_channels(layer) or gemm_of(layer).refuses()


def refuses_channels(layer: ConvLayer) -> str:
    """What both kernels ask of channels and of the output."""
    params = layer.params
    if not layer.depthwise or params["in_channels"] != params["out_channels"]:
        return "not one output channel for each input channel"
    if layer.op.planar or params["in_channels"] < 4:
        return "the input is NCHW" if layer.op.planar else "fewer than four channels"
    if (params["act_min"], params["act_max"]) != (-128, 127):
        return f"clamped to {params['act_min']}..{params['act_max']}, which int8 saturation does not do"
    return ""


def strip_scratch(layer: ConvLayer) -> int:
    return depthwise_of(layer).scratch


def block(layer: ConvLayer, kernel: Kernel) -> int:
    """Output rows of a call."""
    return depthwise_of(layer).block if kernel is STRIP else 1


PLANAR_ROWS = tuple(Variant(PLANAR, partial(pack_planar, packed=packed), partial(refuses_planar, packed=packed), spends=not packed) for packed in (False, True))
VARIANTS = (*PLANAR_ROWS, Variant(STRIP, pack_strip, refuses_strip, strip_scratch), Variant(DIRECT, pack_direct, refuses_direct))
