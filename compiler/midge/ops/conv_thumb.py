# SPDX-License-Identifier: Apache-2.0
"""Convolution and dense layers on cores without narrow multiplications: what serves a layer and what it is packed to."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from midge.microkernels.thumb import THUMB1, THUMB2, Form, paired, quads_stream, reach, refuses_chunks, widths
from midge.microkernels.thumb_quads import quads_routine
from midge.ops.conv_dsp import gemm_of, pixels
from midge.ops.lowering import Packed, Variant
from midge.program import Kernel

if TYPE_CHECKING:
    from midge.ops.conv_kernels import ConvLayer


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


def _variants(form: Form) -> tuple[Variant, ...]:
    quads = Kernel("midge_conv2d_thumb_s8", "conv2d_thumb", features=frozenset({form.feature}))
    return (Variant(quads, partial(pack_quads, form=form), partial(refuses_quads, form=form), quads_scratch, 4),)


VARIANTS = (*_variants(THUMB2), *_variants(THUMB1))
