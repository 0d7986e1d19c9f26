# SPDX-License-Identifier: Apache-2.0
"""When a convolution is computed by Winograd's minimal filtering, and how it is packed for it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from midge.microkernels.winograd import Winograd, gemm_routine, transform_routine
from midge.ops.conv_dsp import gemm_of
from midge.ops.lowering import Packed, Variant
from midge.program import Kernel

if TYPE_CHECKING:
    from midge.ops.conv_kernels import ConvLayer

WASTE = {4: 2.0, 2: 1.5}  # pixels computed for one that exists, at most: beyond, the direct kernel executes fewer instructions
MIN_IN, MIN_OUT = 3, 8  # channels, likewise


def winograd_of(layer: ConvLayer, tile: int) -> Winograd:
    """The layer's integers."""
    gemm = gemm_of(layer)
    return Winograd(tile, gemm.weights.reshape(layer.weights.shape), gemm.bias, gemm.multiplier, gemm.shift, gemm.zero_point)


def refuses_winograd(layer: ConvLayer, tile: int) -> str:
    """Why tiles do not serve a layer, '' if they do."""
    op, params = layer.op, layer.params
    if op.groups > 1 or op.planar:
        return "grouped" if op.groups > 1 else "the input is NCHW"
    if layer.weights.shape[1:3] != (3, 3) or op.strides != (1, 1) or op.dilations != (1, 1):
        return "not 3x3 of stride 1"
    if params["in_channels"] < MIN_IN or params["out_channels"] < MIN_OUT:
        return f"fewer than {MIN_IN} input or {MIN_OUT} output channels"
    height, width, _ = layer.out.hwc
    waste = _up(height, tile) * _up(width, 2 * tile) / (height * width)
    if waste > WASTE[tile]:
        return f"tiles of {tile}x{tile} compute {waste:.1f} pixels for one of {height}x{width}"
    if (params["act_min"], params["act_max"]) != (-128, 127):
        return f"clamped to {params['act_min']}..{params['act_max']}, which int8 saturation does not do"
    return winograd_of(layer, tile).refuses()


def pack_winograd(layer: ConvLayer, tile: int) -> dict[str, Packed]:
    """midge_winograd_constants."""
    winograd = winograd_of(layer, tile)
    gemm = gemm_routine(tile, winograd.channels, layer.out.q.z == -128, layer.numerics)
    return {"stream": winograd.stream(), "transform": transform_routine(tile), "gemm": gemm}


def winograd_scratch(layer: ConvLayer, tile: int) -> int:
    """Bytes: two transformed tiles; their output if it is not written in place; their input if channels do not come in fours."""
    winograd, channels, out = winograd_of(layer, tile), layer.params["in_channels"], layer.out.hwc
    apart = out[2] % 2 or out[1] < 2 * tile
    spare = 2 * tile * tile * _up(out[2], 2) if apart else 0
    gathered = (tile + 2) * (2 * tile + 2) * winograd.channels if channels % 4 else 0
    return winograd.v_nbytes + spare + gathered


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


VARIANTS = tuple(
    Variant(
        Kernel(f"midge_winograd{tile}_s8", "winograd_dsp", features=frozenset({"dsp"})),
        partial(pack_winograd, tile=tile),
        partial(refuses_winograd, tile=tile),
        partial(winograd_scratch, tile=tile),
        block=tile,
        spends=True,
    )
    for tile in (4, 2)
)
