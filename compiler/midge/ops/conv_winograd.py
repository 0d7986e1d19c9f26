# SPDX-License-Identifier: Apache-2.0
"""When a convolution is computed by Winograd's minimal filtering, and how it is packed for it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from midge.microkernels.winograd import FORMS, Form, Winograd
from midge.microkernels.winograd_dsp import gemm_routine, transform_routine
from midge.ops.conv_dsp import gemm_of
from midge.ops.lowering import Packed, Variant
from midge.program import Kernel

if TYPE_CHECKING:
    from midge.ops.conv_kernels import ConvLayer

MIN_CHANNELS = 3  # of the input: words of four channels may reach into the next pixel, not beyond it


def winograd_of(layer: ConvLayer, form: Form) -> Winograd:
    """The layer's integers."""
    gemm = gemm_of(layer)
    return Winograd(form, gemm.weights.reshape(layer.weights.shape), gemm.bias, gemm.multiplier, gemm.shift, gemm.zero_point)


def refuses_winograd(layer: ConvLayer, form: Form) -> str:
    """Why tiles do not serve a layer, '' if they do."""
    op, params, stride = layer.op, layer.params, form.stride
    if op.groups > 1 or op.planar:
        return "grouped" if op.groups > 1 else "the input is NCHW"
    if layer.weights.shape[1:3] != (3, 3) or op.strides != (stride, stride) or op.dilations != (1, 1):
        return f"not 3x3 of stride {stride}"
    if params["in_channels"] < MIN_CHANNELS:
        return f"fewer than {MIN_CHANNELS} input channels"
    if (params["act_min"], params["act_max"]) != (-128, 127):
        return f"clamped to {params['act_min']}..{params['act_max']}, which int8 saturation does not do"
    return slower(layer, form) or winograd_of(layer, form).refuses()


def slower(layer: ConvLayer, form: Form) -> str:
    """Why a form that stores less, or two pixels by two channels, executes fewer instructions, '' if none does."""
    height, width, out = layer.out.hwc
    channels, pairs = _up(layer.params["in_channels"], 4), -(-out // 2)
    depth = _up(9 * layer.params["in_channels"], 4)
    counts = {f.name: f.instructions(height, width, channels, out) for f in FORMS[FORMS.index(form) :] if f.stride == form.stride}
    counts["two pixels by two channels"] = -(-height * width // 2) * (depth * 13 // 5 + pairs * (depth * 5 // 2 + 44))
    best = min(counts, key=lambda name: counts[name])
    return "" if best == form.name else f"about {counts[form.name]:,} instructions, {best} {counts[best]:,}"


POINTERS_NBYTES = 8 + 18 * 8  # of the host, the same on every target so that plans are; see kernels/winograd_dsp.c


def pack_winograd(layer: ConvLayer, form: Form) -> dict[str, Packed]:
    """midge_winograd_constants."""
    winograd = winograd_of(layer, form)
    gemm = gemm_routine(form, winograd.channels, layer.out.q.z == -128, layer.numerics)
    return {"stream": winograd.stream(), "transform": transform_routine(form), "gemm": gemm}


def winograd_scratch(layer: ConvLayer, form: Form) -> int:
    """Bytes: room for columns; two transformed tiles; their output if it is not in place; pointers; a column of input if channels do not come in fours."""
    in_channels, (_, width, channels) = layer.params["in_channels"], layer.out.hwc
    apart, words = channels % 2 or width < 2 * form.tile, _up(in_channels, 4)
    spare = 2 * form.tile * form.tile * _up(channels, 2) if apart else 0
    copies = form.size * words if in_channels % 4 else 0
    return 4 * (form.room + form.size * form.size * words) + spare + POINTERS_NBYTES + copies


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


VARIANTS = tuple(
    Variant(
        Kernel(f"midge_{form.name}_s8", "winograd_dsp", features=frozenset({"dsp"})),
        partial(pack_winograd, form=form),
        partial(refuses_winograd, form=form),
        partial(winograd_scratch, form=form),
        block=form.tile,
        spends=True,
    )
    for form in FORMS
)
