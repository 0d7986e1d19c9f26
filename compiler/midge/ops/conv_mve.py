# SPDX-License-Identifier: Apache-2.0
"""Convolution and dense layers on the M-profile vector extension: what serves a layer and what it is packed to."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from midge.microkernels.mve import VECTOR, Requantization, Taps, dense_routine, gemm_routine, gemm_stream
from midge.microkernels.mve_strip import BLOCK, STRIP_COLUMNS, strip_routine, strip_stream
from midge.microkernels.mve_taps import DIRECT, NARROW, WIDE, WIDEST, taps_routine, taps_stream
from midge.microkernels.mve_window import COLUMNS, ENTRIES, Window, inner_routine, window_routine, window_stream
from midge.ops.lowering import Packed, Variant
from midge.program import Kernel

if TYPE_CHECKING:
    from midge.ops.conv_kernels import ConvLayer

_MVE = frozenset({"mve"})
COLUMNS_NBYTES = 272  # as in midge_conv2d_columns_mve_s8


def requantization(layer: ConvLayer) -> Requantization:
    multiplier, shift = layer.multipliers
    reach = np.abs(layer.folded_bias) + 128 * np.abs(layer.weights.astype(np.int64)).sum((1, 2, 3))
    params = layer.params
    shift = np.where(multiplier == 0, -1, shift)  # of nothing, any shift is as good
    return Requantization(reach, multiplier, shift, params["zero_point"], params["act_min"], params["act_max"], layer.numerics)


def in_place(layer: ConvLayer) -> bool:
    """Whether the taps of a pixel are one run of bytes of the input."""
    p = layer.params
    return layer.weights.shape[1:3] == (1, 1) and p["pad"] == 0 and (p["out_width"] - 1) * p["stride"] < p["in_width"]


def taps_of(layer: ConvLayer) -> Taps:
    depth, channels = layer.weights[0].size, layer.params["in_channels"]
    if in_place(layer):
        return Taps(depth, "aligned" if channels % 4 == 0 else "bytes")
    return Taps(-(-depth // VECTOR) * VECTOR, "aligned")  # gathered, with anything after the last tap


def rows_of_weights(layer: ConvLayer) -> np.ndarray:
    """(O, K), zeros for taps that stand for nothing."""
    weights = layer.weights.reshape(len(layer.weights), -1)
    return np.pad(weights, [(0, 0), (0, taps_of(layer).depth - weights.shape[1])])


def pack_pairs(layer: ConvLayer) -> dict[str, Packed]:
    """midge_conv2d_mve_constants."""
    r, taps, weights = requantization(layer), taps_of(layer), rows_of_weights(layer)
    return {"stream": gemm_stream(taps, weights, layer.folded_bias, r, 4), "gemm": gemm_routine(taps, len(weights), r)}


def column_pitch(layer: ConvLayer) -> int:
    """Bytes of a column of taps."""
    return layer.params["kernel_height"] * layer.params["in_channels"]


def pack_columns(layer: ConvLayer) -> dict[str, Packed]:
    """midge_conv2d_columns_mve_constants."""
    r, p, pitch = requantization(layer), layer.params, column_pitch(layer)
    weights = layer.weights.transpose(0, 2, 1, 3).reshape(len(layer.weights), -1)
    weights = np.pad(weights, [(0, 0), (0, -weights.shape[1] % VECTOR)])
    taps = Taps(weights.shape[1], "bytes" if p["stride"] * pitch % 4 else "aligned")
    places = [i // p["in_channels"] * pitch + i % p["in_channels"] for i in range(VECTOR)]
    stream, gemm = gemm_stream(taps, weights, layer.folded_bias, r, 4), gemm_routine(taps, len(weights), r)
    return {"stream": stream, "gemm": gemm, "places": np.array(places, np.uint8)}


def refuses_columns(layer: ConvLayer) -> str:
    """Why columns of taps do not serve a layer."""
    channels, taps = layer.params["in_channels"], column_pitch(layer)
    if channels > VECTOR or layer.params["dilation"] > 1:
        return f"{channels} channels, {VECTOR} are the most" if channels > VECTOR else "dilation"
    if in_place(layer):
        return "one tap, which is read in place"
    return f"columns of {taps} taps" if (VECTOR - 1) // channels * taps + channels > 256 else refuses_pairs(layer)


def columns_scratch(layer: ConvLayer) -> int:
    p, pitch = layer.params, column_pitch(layer)
    batch = max(2, (COLUMNS_NBYTES - p["kernel_width"] * pitch) // (p["stride"] * pitch) // 2 * 2)
    nbytes = pitch * ((min(batch, p["out_width"]) - 1) * p["stride"] + p["kernel_width"])
    return (2 * -(-nbytes // 4) * 4 if columns_block(layer) == 2 else nbytes) + VECTOR


def columns_block(layer: ConvLayer) -> int:
    """Two rows where one has a pixel without a partner, if their columns are no more than those that one row may have."""
    p = layer.params
    nbytes = column_pitch(layer) * ((p["out_width"] - 1) * p["stride"] + p["kernel_width"])
    return 2 if p["out_width"] % 2 and 2 * -(-nbytes // 4) * 4 <= COLUMNS_NBYTES else 1


def block(layer: ConvLayer, variant: Variant) -> int:
    """Output rows of a call."""
    if variant.kernel is POINTWISE:
        return 2 if layer.out.hwc[1] % 2 else 1
    return columns_block(layer) if variant.kernel is COLUMNS_OF_TAPS else variant.block


def pack_dense(layer: ConvLayer) -> dict[str, Packed]:
    """midge_conv2d_mve_constants."""
    r, taps, weights = requantization(layer), taps_of(layer), rows_of_weights(layer)
    return {"stream": gemm_stream(taps, weights, layer.folded_bias, r, 8), "gemm": dense_routine(taps, len(weights), r)}


def refuses_gemm(layer: ConvLayer) -> str:
    """Why vectors of taps do not serve a layer."""
    if layer.op.groups > 1 or layer.op.planar:
        return "grouped" if layer.op.groups > 1 else "the input is NCHW"
    return requantization(layer).refuses()


def refuses_pairs(layer: ConvLayer) -> str:
    return "one pixel a row" if layer.params["out_width"] < 2 else refuses_gemm(layer)


def refuses_pointwise(layer: ConvLayer) -> str:
    return refuses_pairs(layer) if in_place(layer) else "a window or padding"


def window_of(layer: ConvLayer) -> Window:
    p = layer.params
    return Window(p["kernel_height"], p["kernel_width"], p["dilation"], p["stride"], p["in_channels"])


def pack_window(layer: ConvLayer) -> dict[str, Packed]:
    """midge_conv2d_window_mve_constants."""
    r, window = requantization(layer), window_of(layer)
    routine = window_routine(window, r)
    inner = inner_routine(window, r) if window.compact else routine
    return {"stream": window_stream(window, layer.weights, layer.folded_bias, r), "window": routine, "inner": inner}


def refuses_window(layer: ConvLayer) -> str:
    """Why columns of taps that are read where they are do not serve a layer."""
    window, channels = window_of(layer), layer.params["in_channels"]
    if channels % VECTOR or len(layer.weights) % 4:
        return f"{channels} channels to {len(layer.weights)}"
    columns = len(window.columns)
    if columns > COLUMNS or columns * window.rows > ENTRIES or (columns == COLUMNS and window.rows > 4):
        return f"two windows have {columns} columns of {window.rows} taps"
    return "one pixel a row" if layer.out.hwc[1] < 2 else refuses_gemm(layer)  # a flat layer may be split into rows


def refuses_dense(layer: ConvLayer) -> str:
    return refuses_gemm(layer) if layer.params["out_width"] == 1 else "more than one pixel a row"


def pairs_scratch(layer: ConvLayer) -> int:
    depth = -(-taps_of(layer).depth // VECTOR) * VECTOR
    return depth * (2 if depth > 256 else 4 if depth > 128 else 8) + VECTOR


def dense_scratch(layer: ConvLayer) -> int:
    return 0 if in_place(layer) else taps_of(layer).depth


def pack_depthwise(layer: ConvLayer, *, narrow: bool) -> dict[str, Packed]:
    """midge_depthwise_mve_constants. narrow: fewer than 16 channels are repeated until there are 16."""
    copies, r = VECTOR // len(layer.weights) if narrow else 1, requantization(layer)
    r = replace(r, reach=np.tile(r.reach, copies), multiplier=np.tile(r.multiplier, copies), shift=np.tile(r.shift, copies))
    weights, bias = np.tile(layer.weights.reshape(len(layer.weights), -1), (copies, 1)), np.tile(layer.folded_bias, copies)
    skip = (layer.params["stride"] - 1) * layer.params["in_channels"]
    return {"stream": taps_stream(weights, bias, r, skip), "taps": taps_routine(weights, r, skip)}


def pack_strip(layer: ConvLayer) -> dict[str, Packed]:
    """midge_depthwise_strip_mve_constants."""
    r, p = requantization(layer), layer.params
    stream = strip_stream(layer.weights[..., 0], layer.folded_bias, r, layer.types[0].q.z)
    return {"stream": stream, "strip": strip_routine(min(STRIP_COLUMNS, p["out_width"]), p["in_channels"] % 4 == 0, r)}


def strip_scratch(layer: ConvLayer) -> int:
    return 4 * BLOCK * (min(STRIP_COLUMNS, layer.params["out_width"]) + 2)


def refuses_strip(layer: ConvLayer) -> str:
    """Why blocks of 2x2 pixels do not serve a layer."""
    op, p = layer.op, layer.params
    if (layer.weights.shape[1:3], op.strides, op.dilations) != ((3, 3), (1, 1), (1, 1)):
        return "only a window of 3x3 taps with stride 1"
    if p["in_channels"] < BLOCK or p["out_width"] < 4:
        return f"{p['out_width']} pixels of {p['in_channels']} channels, 4 of 4 are the least"
    right = p["out_width"] + 2 - p["pad"] - p["in_width"]
    if p["pad"] > 1 or right > 1:
        return f"rows of {p['in_width']} pixels with {p['pad']} and {max(0, right)} of padding"
    return refuses_taps(layer)


def refuses_taps(layer: ConvLayer, most: int = WIDEST) -> str:
    """Why 16 channels at a time do not serve a layer, whatever their number."""
    if not layer.depthwise or layer.op.planar:
        return "groups have more than one input channel" if not layer.depthwise else "the input is NCHW"
    if layer.out.hwc[2] != layer.params["in_channels"]:
        return "more than one output channel for each input channel"
    taps = layer.weights[0].size
    return f"{taps} taps, {most} are the most" if taps > most else requantization(layer).refuses()


def refuses_narrow(layer: ConvLayer) -> str:
    channels, stride = layer.params["in_channels"], layer.params["stride"]
    if channels >= VECTOR or VECTOR % channels:
        return f"{channels} channels do not divide 16"
    return f"stride {stride}" if stride > 1 else refuses_taps(layer, NARROW)


def refuses_column(layer: ConvLayer) -> str:
    """Why rows are not themselves the taps of a layer."""
    p = layer.params
    if p["kernel_width"] > 1 or p["pad"] or (p["out_width"] - 1) * p["stride"] >= p["in_width"]:
        return "a window of more than one column, or padding at its sides"
    return refuses_taps(layer)


def narrow_scratch(layer: ConvLayer) -> int:
    p = layer.params
    return p["kernel_height"] * p["in_channels"] * (max(p["out_width"], VECTOR // p["in_channels"]) + (p["kernel_width"] - 1) * p["dilation"])


POINTWISE = Kernel("midge_pointwise_mve_s8", "conv2d_mve", features=_MVE)
COLUMNS_OF_TAPS = Kernel("midge_conv2d_columns_mve_s8", "conv2d_mve", features=_MVE)
VARIANTS = (
    Variant(POINTWISE, pack_pairs, refuses_pointwise),
    Variant(Kernel("midge_conv2d_window_mve_s8", "conv2d_mve", features=_MVE), pack_window, refuses_window),
    Variant(COLUMNS_OF_TAPS, pack_columns, refuses_columns, columns_scratch),
    Variant(Kernel("midge_conv2d_mve_s8", "conv2d_mve", features=_MVE), pack_pairs, refuses_pairs, pairs_scratch),
    Variant(Kernel("midge_conv2d_pixel_mve_s8", "conv2d_mve", features=_MVE), pack_dense, refuses_dense, dense_scratch),
    Variant(Kernel("midge_depthwise_strip_mve_s8", "depthwise_mve", features=_MVE), pack_strip, refuses_strip, strip_scratch, block=2),
    Variant(Kernel("midge_depthwise_narrow_mve_s8", "depthwise_mve", features=_MVE), partial(pack_depthwise, narrow=True), refuses_narrow, narrow_scratch),
    Variant(Kernel("midge_depthwise_column_mve_s8", "depthwise_mve", features=_MVE), partial(pack_depthwise, narrow=False), refuses_column),
    Variant(Kernel("midge_depthwise_mve_s8", "depthwise_mve", features=_MVE), partial(pack_depthwise, narrow=False), partial(refuses_taps, most=DIRECT)),
    Variant(Kernel("midge_depthwise_wide_mve_s8", "depthwise_mve", features=_MVE), partial(pack_depthwise, narrow=False), partial(refuses_taps, most=WIDE)),
    Variant(Kernel("midge_depthwise_widest_mve_s8", "depthwise_mve", features=_MVE), partial(pack_depthwise, narrow=False), refuses_taps),
)
