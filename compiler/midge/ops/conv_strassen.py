# SPDX-License-Identifier: Apache-2.0
"""When a pointwise convolution is computed by Strassen's multiplication, and how it is packed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midge.microkernels.pointwise import DEPTHS
from midge.microkernels.strassen import LONGEST_PITCH, PRODUCTS, combine_routine, gemm_routine, half_in, instructions, refuses_sizes, strassen_stream
from midge.ops.conv_dsp import gemm_of
from midge.ops.lowering import Packed, Variant
from midge.program import Kernel

if TYPE_CHECKING:
    from midge.ops.conv_kernels import ConvLayer

KERNEL = Kernel("midge_strassen_dsp_s8", "strassen_dsp", features=frozenset({"dsp"}))
MIN_PIXELS = 4


def refuses_strassen(layer: ConvLayer) -> str:
    """Why blocks of four pixels do not serve a layer, '' if they do."""
    params = layer.params
    if layer.op.groups > 1 or not layer.flat:
        return "grouped" if layer.op.groups > 1 else "not pointwise of stride 1"
    if params["out_width"] < MIN_PIXELS:
        return f"fewer than {MIN_PIXELS} pixels"
    if (params["act_min"], params["act_max"]) != (-128, 127):
        return f"clamped to {params['act_min']}..{params['act_max']}, which int8 saturation does not do"
    return refuses_sizes(params["in_channels"], params["out_channels"]) or slower(layer) or gemm_of(layer).refuses()


def slower(layer: ConvLayer) -> str:
    """Why another kernel executes fewer instructions, '' if two pixels by two channels do not."""
    pixels, channels, out = (layer.params[name] for name in ("out_width", "in_channels", "out_channels"))
    if channels in DEPTHS:
        return f"{channels} input channels stay in registers"
    depth = -(-channels // 4) * 4
    pairs = -(-pixels // 2) * (depth * 7 // 2 + 60 + -(-out // 2) * (depth * 5 // 2 + 20))
    mine = instructions(pixels, channels, out)
    return f"about {mine:,} instructions, two pixels by two channels {pairs:,}" if mine > pairs else ""


def pack_strassen(layer: ConvLayer) -> dict[str, Packed]:
    """midge_strassen_constants."""
    gemm, channels = gemm_of(layer), layer.params["in_channels"]
    pitch = layer.out.hwc[1] if layer.out_planar else 1
    return {
        "stream": strassen_stream(gemm, pitch),
        "combine": combine_routine(channels),
        "gemm": gemm_routine(channels, pitch, layer.out.q.z == -128, layer.numerics),
    }


def writes_planar(layer: ConvLayer) -> bool:
    """Whether planar rows of a layer's output may be written."""
    return layer.out.hwc[1] <= LONGEST_PITCH


def strassen_scratch(layer: ConvLayer) -> int:
    """Bytes: the left factors of all products."""
    return 4 * PRODUCTS * half_in(layer.params["in_channels"])


VARIANTS = (Variant(KERNEL, pack_strassen, refuses_strassen, strassen_scratch, spends=True, bulky=True),)
