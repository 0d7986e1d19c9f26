# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolution on the DSP extension: what serves a layer and what it is packed to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midge.microkernels.depthwise import Depthwise
from midge.ops.conv_dsp import gemm_of
from midge.ops.lowering import Packed, Variant
from midge.program import Kernel

if TYPE_CHECKING:
    from midge.ops.conv_kernels import ConvLayer

STRIP = Kernel("midge_depthwise_dsp_s8", "depthwise_dsp", features=frozenset({"dsp"}))


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
    op, params = layer.op, layer.params
    channels = params["in_channels"]
    if not layer.depthwise or channels != params["out_channels"]:
        return "not one output channel for each input channel"
    if layer.weights.shape[1:3] != (3, 3) or op.dilations != (1, 1) or op.strides not in ((1, 1), (2, 2)):
        return "not 3x3 of stride 1 or 2, undilated"
    if op.planar or channels < 4 or params["out_width"] < 2:
        return "the input is NCHW" if op.planar else "fewer than four channels" if channels < 4 else "one output column"
    if (params["act_min"], params["act_max"]) != (-128, 127):
        return f"clamped to {params['act_min']}..{params['act_max']}, which int8 saturation does not do"
    return gemm_of(layer).refuses()


def strip_scratch(layer: ConvLayer) -> int:
    return depthwise_of(layer).scratch


def strip_block(layer: ConvLayer) -> int:
    """Output rows of a call."""
    return depthwise_of(layer).block


VARIANTS = (Variant(STRIP, pack_strip, refuses_strip, strip_scratch),)
