# SPDX-License-Identifier: Apache-2.0
"""Convolution and dense layers with weights of four bits: what serves a layer, and how two weights go into a byte."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from midge.ir import Array
from midge.microkernels import gemm_w4
from midge.microkernels.unpack import unpack_routine, window_order
from midge.ops import conv_dsp
from midge.ops.conv_dsp import gemm_of
from midge.ops.lowering import Packed, Variant
from midge.program import Kernel

if TYPE_CHECKING:
    from midge.ops.conv_kernels import ConvLayer

WORTH = 1024  # weights of a layer, at least: what fewer save, the code of another kernel takes
PORTABLE = Kernel("midge_conv2d_w4_s8", "conv2d_w4", profiled=True)


def is_offered(weights: Array, groups: int, planar: bool) -> bool:
    """Whether a layer may have weights of four bits: one group, an input that is NHWC, and enough of them to save flash."""
    return groups == 1 and not planar and weights.size >= WORTH


def serves(layer: ConvLayer) -> bool:
    """Whether a layer is stored at two weights a byte."""
    return is_offered(layer.weights, layer.op.groups, layer.op.planar) and gemm_w4.fits(layer.weights)


def pack_pairs(layer: ConvLayer) -> dict[str, Packed]:
    """midge_conv2d_dsp_constants."""
    height, run = conv_dsp.window(layer)
    gemm = gemm_of(layer).reordered(window_order(height, run))
    routine = gemm_w4.pairs_routine(gemm.depth, layer.out.q.z == -128, gemm.total(layer.numerics), gemm_w4.raised(gemm, layer.numerics), layer.numerics)
    unpack = unpack_routine(height, run, layer.params["in_channels"] % 4 == 0)
    stream, last = gemm_w4.pairs_streams(gemm, layer.numerics, conv_dsp.pitch(layer))
    return {"stream": stream, "last": last, "gemm": routine, "unpack": unpack}


def pack_dense(layer: ConvLayer, in_place: bool) -> dict[str, Packed]:
    """midge_dense_dsp_constants, or midge_dense_bytes_constants if `in_place`."""
    gemm = gemm_of(layer)
    routine = gemm_w4.dense_routine(gemm.depth, layer.out.q.z == -128, gemm_w4.raised(gemm, layer.numerics), layer.numerics, in_place)
    return {"stream": gemm_w4.dense_stream(gemm, layer.numerics), "dense": routine}


def pack_portable(layer: ConvLayer) -> dict[str, Packed]:
    """midge_conv2d_w4_constants."""
    (multiplier, shift), missing = layer.multipliers, -len(layer.weights) % 4
    weights = np.pad(layer.weights.astype(np.uint8), ((0, missing), (0, 0), (0, 0), (0, 0))) & 15
    blocks = weights.reshape(-1, 2, 2, *weights.shape[1:]).transpose(0, 3, 4, 5, 1, 2)
    return {
        "weights": (blocks[..., 0] | blocks[..., 1] << 4).astype(np.uint8),
        "bias": np.pad(layer.folded_bias, (0, missing)).astype(np.int32),
        "multiplier": np.pad(multiplier, (0, missing)),
        "shift": np.pad(shift, (0, missing)).astype(np.int8),
    }


def refuses_pairs(layer: ConvLayer) -> str:
    """Why two pixels by two channels do not serve a layer."""
    return conv_dsp.pairs_geometry(layer) or conv_dsp.gemm_geometry(layer) or gemm_w4.refuses_pairs(gemm_of(layer), layer.numerics)


def refuses_dense(layer: ConvLayer, in_place: bool) -> str:
    """Why one pixel by four channels does not serve a layer."""
    height, run = conv_dsp.window(layer)
    if in_place and (height > 1 or run % 4):
        return "taps of several rows" if height > 1 else f"{run} taps, no multiple of four"
    return conv_dsp.pixel_geometry(layer) or conv_dsp.gemm_geometry(layer) or gemm_w4.refuses_dense(gemm_of(layer), layer.numerics)


VARIANTS = (
    Variant(conv_dsp.PIXEL, partial(pack_dense, in_place=False), partial(refuses_dense, in_place=False), conv_dsp.pixel_scratch, narrow=True),
    Variant(conv_dsp.BYTES, partial(pack_dense, in_place=True), partial(refuses_dense, in_place=True), conv_dsp.bytes_scratch, narrow=True),
    Variant(conv_dsp.PAIRS, pack_pairs, refuses_pairs, conv_dsp.pairs_scratch, narrow=True),
    Variant(PORTABLE, pack_portable),
)
