# SPDX-License-Identifier: Apache-2.0
"""Convolution and dense layers on cores without narrow multiplications: what serves a layer and what it is packed to."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from midge.microkernels.thumb import THUMB1, THUMB2, Form, paired, quads_stream, reach, refuses_chunks, widths
from midge.microkernels.thumb_dense import dense_routine, dense_stream
from midge.microkernels.thumb_quads import quads_routine
from midge.microkernels.thumb_strip import PIXELS, TAPS, WIDE_TAPS, Strip, strip_routine, strip_stream
from midge.ops.conv_dsp import gemm_of, pixels
from midge.ops.lowering import Packed, Variant
from midge.program import Kernel

if TYPE_CHECKING:
    from midge.ops.conv_kernels import ConvLayer

OVERHEAD = 0.4  # what a strip costs beside its pixels, in pixels


def pack_quads(layer: ConvLayer, form: Form) -> dict[str, Packed]:
    """midge_conv2d_thumb_constants."""
    gemm = gemm_of(layer)
    return {"stream": quads_stream(gemm, form, layer.numerics), "quads": quads_routine(form, widths(gemm), layer.out.q.z == -128, layer.numerics)}


def refuses_form(layer: ConvLayer, form: Form) -> str:
    """Why requantization is not exact in few instructions, '' if it is."""
    act_min, act_max = layer.params["act_min"], layer.params["act_max"]
    if (act_min, act_max) != (-128, 127):
        return f"clamped to {act_min}..{act_max}, which int8 saturation does not do"
    gemm = gemm_of(layer)
    if form is THUMB1 and not widths(gemm):
        return f"an accumulator may reach {reach(gemm)}, too much for a product in pieces"
    return gemm.refuses()


def refuses_quads(layer: ConvLayer, form: Form) -> str:
    """Why four pixels by one channel do not serve a layer."""
    if layer.op.groups > 1 or layer.op.planar:
        return "grouped" if layer.op.groups > 1 else "the input is NCHW"
    if pixels(layer) < 3:
        return f"{pixels(layer)} of four pixels"
    return refuses_form(layer, form) or refuses_chunks(gemm_of(layer))


def quads_scratch(layer: ConvLayer) -> int:
    return 8 * int(paired(gemm_of(layer).weights).shape[1])


def pack_dense(layer: ConvLayer, form: Form) -> dict[str, Packed]:
    """midge_dense_thumb_constants."""
    gemm = gemm_of(layer)
    channels, depth = gemm.weights.shape
    routine = dense_routine(channels, depth, form, widths(gemm), layer.out.q.z == -128, layer.numerics)
    return {"stream": dense_stream(gemm, form, layer.numerics), "dense": routine}


def refuses_dense(layer: ConvLayer, form: Form) -> str:
    """Why one pixel by several channels does not serve a layer."""
    op, params = layer.op, layer.params
    if op.groups > 1 or op.planar:
        return "grouped" if op.groups > 1 else "the input is NCHW"
    if pixels(layer) > 2:
        return f"{pixels(layer)} pixels, which are faster by fours"
    if (
        params["kernel_height"] > 1
        or params["pad"]
        or params["dilation"] > 1
        or (pixels(layer) - 1) * op.strides[1] + params["kernel_width"] > params["in_width"]
    ):
        return "a window of more than one row, padded or dilated"
    return "fewer than four channels" if params["out_channels"] < 4 else refuses_form(layer, form)


def strip_of(layer: ConvLayer) -> Strip:
    """How many neighbours of a row, or of a column of one pixel wide rows, are computed at once."""
    height, width = layer.weights.shape[1:3]
    down = layer.op.hwc(layer.types[0])[1] == 1
    length, stride = layer.out.hwc[0 if down else 1], layer.op.strides[0 if down else 1]
    whole = Strip(1, height, stride, 0) if down else Strip(height, width, stride, 0)
    fitting = [replace(whole, pixels=n) for n in range(1, min(PIXELS, length) + 1)]
    most = TAPS if len(fitting) > 1 and fitting[1].taps <= TAPS else WIDE_TAPS
    fitting = [strip for strip in fitting if strip.taps <= most]
    return min(fitting, key=lambda strip: -(-length // strip.pixels) * (strip.pixels + OVERHEAD), default=whole)


def pack_strip(layer: ConvLayer, form: Form) -> dict[str, Packed]:
    """midge_depthwise_thumb_constants."""
    gemm, strip = gemm_of(layer), strip_of(layer)
    routine = strip_routine(strip, form, widths(gemm), layer.out.q.z == -128, layer.numerics)
    return {"stream": strip_stream(gemm, strip, form, layer.numerics), "strip": routine}


def refuses_strip(layer: ConvLayer, form: Form, wide: bool) -> str:
    """Why a few pixels of one channel do not serve a layer."""
    op, params, (height, width) = layer.op, layer.params, layer.weights.shape[1:3]
    if not layer.depthwise or params["in_channels"] != params["out_channels"] or op.planar:
        return "not one output channel for each input channel" if not op.planar else "the input is NCHW"
    if op.dilations != (1, 1) or max(op.strides) > 2:
        return "dilated, or a stride above 2"
    if params["in_width"] == 1 and (width > 1 or op.strides[0] > height or params["out_width"] > 1 or params["pad"] > 0):
        return "rows of one pixel, padded or skipped"
    if strip_of(layer).pixels < 2:
        return f"a window of {height} x {width} and {params['out_width']} pixels a row: fewer than two fit a strip"
    if (strip_of(layer).taps > TAPS) is not wide:
        return f"strips of {strip_of(layer).taps} taps, {'more than' if wide else 'up to'} {TAPS} are offered"
    return "out of reach of an offset in the stream" if form is THUMB1 and 20 + height * width > 232 else refuses_form(layer, form)


def block(layer: ConvLayer, kernel: Kernel) -> int:
    """Output rows of a call: as many as share a strip, or lend their last pixels a neighbour from the next row."""
    if kernel.family == "depthwise_thumb":
        return strip_of(layer).pixels if layer.params["in_width"] == 1 else 1
    most = 4 if layer.weights.shape[1] <= 8 else 3  # pointers to the rows of a block lie on the stack
    return most if kernel.family == "conv2d_thumb" and layer.out.hwc[1] % 4 else 1


def _variants(form: Form) -> tuple[Variant, ...]:
    quads = Kernel("midge_conv2d_thumb_s8", "conv2d_thumb", features=frozenset({form.feature}))
    strip = Kernel("midge_depthwise_thumb_s8", "depthwise_thumb", features=frozenset({form.feature}), shares_taps=True)
    wide = Kernel("midge_depthwise_thumb_wide_s8", "depthwise_thumb", features=frozenset({form.feature}), shares_taps=True)
    dense = Kernel("midge_dense_thumb_s8", "dense_thumb", features=frozenset({form.feature}))
    return (
        Variant(dense, partial(pack_dense, form=form), partial(refuses_dense, form=form)),
        Variant(quads, partial(pack_quads, form=form), partial(refuses_quads, form=form), quads_scratch),
        Variant(strip, partial(pack_strip, form=form), partial(refuses_strip, form=form, wide=False)),
        Variant(wide, partial(pack_strip, form=form), partial(refuses_strip, form=form, wide=True)),
    )


VARIANTS = (*_variants(THUMB2), *_variants(THUMB1))
