# SPDX-License-Identifier: Apache-2.0
"""What each kernel's arithmetic can bear, computed from the integers of a layer: an accumulator's reach and the limit it must stay below.

Reach is |bias| + 128 * sum |w| of a channel, the zero point of the input folded into the bias. Weights that a generator settles (of channels that cannot
change) are taken as settled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from midge.ir import Array
from midge.microkernels.gemm import Gemm
from midge.microkernels.gemm_w4 import lifted, raised
from midge.microkernels.planar_stream import SCALE
from midge.microkernels.thumb import THUMB1, chunks, paired, widths
from midge.microkernels.winograd import FORMS
from midge.ops.conv_depthwise import STRIP, depthwise_of, planar_of
from midge.ops.conv_dsp import PAIRS, POINTWISE, gemm_of
from midge.ops.conv_kernels import ConvLayer
from midge.ops.conv_mve import requantization
from midge.ops.conv_winograd import winograd_of
from midge.ops.lowering import Variant

INT32, INT16 = 1 << 31, 1 << 15
WINOGRAD_INPUTS = {"winograd4": 17340, "winograd2": 1020, "winograd2_half": 510}
"""The largest magnitude of a transformed input, of inputs 0..255: rows of B^T twice."""


@dataclass(frozen=True)
class Bound:
    """Values of each channel that must be less than `limit`. `packing`: of constants, which fit or do not, whatever the inputs."""

    what: str
    values: Array
    limit: int
    packing: bool = False

    @property
    def holds(self) -> bool:
        return bool((self.values < self.limit).all())

    @property
    def worst(self) -> tuple[int, int, float]:
        """(channel, its value, bits between it and the limit)."""
        channel = int(np.argmax(self.values))
        value = self.values[channel]
        if not math.isfinite(float(value)):
            return channel, 0, 0.0
        return channel, int(value), math.log2(self.limit / max(1, int(value)))


def reach_of(weights: Array, bias: Array) -> Array:
    """|bias| + 128 * sum |w| of each channel, weights (O, ...)."""
    return np.asarray(np.abs(bias.astype(np.int64)) + 128 * np.abs(weights.reshape(len(weights), -1).astype(np.int64)).sum(1))


def kernel_bounds(variant: Variant, layer: ConvLayer) -> list[Bound]:
    """What must hold so that a kernel's sums are exact."""
    family = variant.kernel.family
    if family in ("conv2d", "conv2d_w4"):
        return [Bound("32-bit sum", reach_of(layer.weights, layer.folded_bias), INT32)]
    if family.endswith("_mve"):
        return [Bound("32-bit sum", requantization(layer).reach, INT32)]
    gemm = gemm_of(layer)
    if family.endswith("_thumb"):
        return [*_doubled(gemm), *_thumb(variant, gemm)]
    if family == "winograd_dsp":
        return _winograd(variant, layer)
    if family == "strassen_dsp":
        return [*_doubled(gemm), *_strassen(gemm)]
    if variant.kernel.symbol.startswith("midge_depthwise_planar"):
        return _planar(variant, layer)
    if variant.narrow:
        return _narrow(variant, gemm, layer.numerics)
    if _packs(variant):
        return _packed(gemm)
    return _lanes(gemm, _shared_shift(variant, layer, gemm), layer.numerics)


def _shared_shift(variant: Variant, layer: ConvLayer, gemm: Gemm) -> int:
    """The shift that a kernel of 16-bit lanes ends all channels with, 0 if each has its own."""
    if variant.kernel in (PAIRS, POINTWISE):
        return gemm.total(layer.numerics)
    return depthwise_of(layer).total if variant.kernel == STRIP else 0


def _packs(variant: Variant) -> bool:
    """Whether two weights share a lane."""
    return bool(getattr(variant.pack, "keywords", {}).get("packed", False))


def _doubled(gemm: Gemm) -> list[Bound]:
    """Sums are doubled before the upper half of a product is taken; beside it the output's zero point and a half, shifted, are added."""
    reach, n = reach_of(gemm.weights, gemm.bias), -gemm.shift.astype(np.int64)
    ending = reach + (np.int64(abs(gemm.zero_point)) << n) + (np.int64(1) << np.maximum(n - 1, 0)) + 1
    return [Bound("sum, doubled in 32 bits", 2 * reach, INT32), Bound("sum with zero point and rounding", ending, INT32)]


def _lanes(gemm: Gemm, total: int, numerics: str) -> list[Bound]:
    """One weight in 16 bits, times a power of two where all channels share a shift."""
    if not total:
        return [*_doubled(gemm), Bound("weight in a 16-bit lane", 2 * np.abs(gemm.weights.astype(np.int64)).max(1, initial=0), INT16, True)]
    shared = gemm.sharing(total, numerics)
    scale, _ = shared.ending(total, numerics)
    lanes = np.abs(shared.weights.astype(np.int64) << scale[:, None]).max(1, initial=0)
    # -128 << 8 is the least of int16, so a lane may be exactly 2**15 where the weight is -128.
    return [Bound("sum, scaled in 32 bits", reach_of(shared.weights, shared.bias) << scale, INT32), Bound("weight in a 16-bit lane", lanes, INT16 + 1, True)]


def _packed(gemm: Gemm) -> list[Bound]:
    """256 * w1 + w0 in a lane: the sum 256 * D1 + D0 is taken apart modulo 2**32, D1 within 24 bits."""
    reach, weights = reach_of(gemm.weights, gemm.bias), gemm.weights.astype(np.int64)
    odd = len(weights) % 2
    low, high = np.pad(weights, ((0, odd), (0, 0))).reshape(-1, 2, weights.shape[1]).transpose(1, 0, 2)
    lanes = np.abs(256 * high + low).max(1, initial=0)
    below = (256 * high + low).min(1, initial=0)
    lanes = np.where(below == -INT16, lanes - 1, lanes)  # the least of int16 is a lane, too
    return [
        Bound("lower of two sums, doubled in 32 bits", 2 * reach[0::2], INT32),
        Bound("upper of two sums, times 256 in 32 bits", 256 * reach[1::2] if len(reach) > 1 else np.zeros(1, np.int64), INT32),
        Bound("two weights in a 16-bit lane", lanes, INT16, True),
    ]


def _narrow(variant: Variant, gemm: Gemm, numerics: str) -> list[Bound]:
    """Fields of four bits: sums of two or four channels are taken apart modulo 2**32, each within what is left above the ones below it."""
    reach, pairs = reach_of(gemm.weights, gemm.bias), variant.kernel == PAIRS
    total = gemm.total(numerics) if pairs else 0
    names = ("second of two sums",) if pairs else ("second of four sums", "third of four sums", "last of four sums")
    fields = [reach[place :: len(names) + 1] << 4 * place for place in range(1, len(names) + 1)]
    parts = [
        Bound(f"{name}, times {16**place} in 32 bits", values, INT32) for place, (name, values) in enumerate(zip(names, fields, strict=True), 1) if values.size
    ]
    if total:
        shared = gemm.sharing(total, numerics)
        scale, _ = shared.ending(total, numerics)
        return [*parts, Bound("sum, scaled in 32 bits", reach_of(shared.weights, shared.bias) << scale, INT32)]
    return [*parts, *_doubled(lifted(gemm, raised(gemm, numerics)))]


def _planar(variant: Variant, layer: ConvLayer) -> list[Bound]:
    """The biases of the edges make up for taps on padding that are left out, so they may be larger than the bias itself."""
    packed = _packs(variant)
    planar = planar_of(layer, packed)
    gemm, sides = planar.gemm, np.abs(planar.zero_point * planar.gemm.weights.astype(np.int64)).sum(1)
    reach = reach_of(gemm.weights, gemm.bias) + sides + 2
    if packed:
        return [Bound("sum with an edge's bias, times 256 in 32 bits", reach << SCALE, INT32)]
    total = planar.gemm.total(layer.numerics)
    if not total:
        return [Bound("sum with an edge's bias, doubled in 32 bits", 2 * reach, INT32)]
    shared = gemm.sharing(total, layer.numerics)
    scale, _ = shared.ending(total, layer.numerics)
    return [Bound("sum with an edge's bias, scaled in 32 bits", (reach_of(shared.weights, shared.bias) + sides) << scale, INT32)]


def _winograd(variant: Variant, layer: ConvLayer) -> list[Bound]:
    """Products of transformed inputs and weights are summed modulo 2**32, which keeps the sum that is left after the last transform."""
    form = next(form for form in FORMS if variant.kernel.symbol == f"midge_{form.name}_s8")
    winograd = winograd_of(layer, form)
    rows = winograd.weights.reshape(len(winograd.weights), -1).astype(np.int64)
    raised = 255 * np.maximum(np.maximum(rows, 0).sum(1), np.maximum(-rows, 0).sum(1))
    transformed = np.abs(winograd.transformed()).reshape(len(winograd.transformed()), -1).max(1)
    gemm = Gemm(rows, winograd.bias, winograd.multiplier, winograd.shift, winograd.zero_point)
    return [
        *_doubled(gemm),
        Bound("sum of raised inputs, what the form leaves of 32 bits", raised, 1 << form.bits),
        Bound("transformed weight in a 16-bit lane", transformed, INT16, True),
        Bound("transformed input in a 16-bit lane", np.array([WINOGRAD_INPUTS[form.name]]), INT16, True),
    ]


def _strassen(gemm: Gemm) -> list[Bound]:
    """Sums of up to four doubled weights and of up to four inputs are factors."""
    weights = 2 * np.abs(gemm.weights.astype(np.int64)).max(initial=0)
    return [
        Bound("four doubled weights in a 16-bit lane", np.array([4 * weights]), INT16, True),
        Bound("four inputs in a 16-bit lane", np.array([4 * 128]), INT16, True),
    ]


def _thumb(variant: Variant, gemm: Gemm) -> list[Bound]:
    """A chunk of taps keeps the lower of two sums in 16 bits; Thumb-1 multiplies by pieces of the multiplier."""
    found = []
    if variant.kernel.symbol == "midge_conv2d_thumb_s8":
        found.append(Bound("lower sum of a chunk of taps, in 16 bits", np.array([_chunk_reach(row) for row in paired(gemm.weights)]), INT16 + 1, True))
    if THUMB1.feature in variant.kernel.features:
        pieces, reach = widths(gemm), reach_of(gemm.weights, gemm.bias)
        widest = max(pieces[:-1], default=32)
        found.append(Bound("sum times a piece of the multiplier", (reach + 2 << widest) + reach + 2, INT32))
    return found


def _chunk_reach(row: Array) -> int:
    """The largest magnitude of a sum within one chunk; -2**15 is allowed."""
    most, start = 0, 0
    for count in chunks(row):
        part = row[2 * start : 2 * (start + count)]
        high, low = int(np.maximum(-128 * part, 127 * part).sum()), int(np.minimum(-128 * part, 127 * part).sum())
        most, start = max(most, high + 1, -low), start + count
    return most
