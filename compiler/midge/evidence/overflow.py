# SPDX-License-Identifier: Apache-2.0
"""No accumulator can overflow: for every layer that sums, the largest value of each channel's sum over all inputs there are, from the actual weights.

For x in -128..127 and a bias with the input's zero point folded in, every partial sum, in any order, is within |bias| + 128 * sum |w|. How much of that a
kernel can bear is its own rule (midge.evidence.rules). The packed constants that a rule is applied to are those of the library: their digests are in its
manifest, and a layer whose constants are not found there is not proved.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from midge.evidence.part import FAILED, PASSED, Cell, Part, Subject, Table
from midge.evidence.rules import Bound, kernel_bounds
from midge.ir import Array, Graph, Node
from midge.microkernels.planar_stream import TOTALS
from midge.ops import conv_w4
from midge.ops.conv import Conv2D
from midge.ops.conv_kernels import KERNELS, ConvLayer
from midge.ops.dense import Dense
from midge.ops.lowering import Variant
from midge.ops.pool import AveragePool

KEY, TITLE = "overflow", "Accumulators cannot overflow"
ABOUT = (
    "For every layer the largest magnitude that its accumulators may take for any input at all, computed from the weights in the library, and the limit of the "
    "arithmetic that its kernel uses. The worst channel is shown; margin is the limit over the reach, in bits."
)
LIMITS = "Each bound takes every input for -128 or 127, whichever is worse, so it holds for all inputs, not only for those that were run."
NO_SUMS = frozenset(
    (
        *("Add", "Sub", "Mul", "Concat", "Slice", "Transpose", "MaxPool", "Pad", "PRelu", "Quantize", "Dequantize", "Resize", "Clip", "LeakyRelu", "Reshape"),
        *("Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Gelu", "Elu", "Math"),
    )
)
"""Kinds of layers that compute each output from one element of each operand, in integers whose width does not depend on the size of a tensor."""


def prove(subject: Subject) -> Part:
    """The table of all layers; FAILED if one may overflow or is of a kind that no rule is known for."""
    producers = {node.outputs[0]: node for node in subject.graph.nodes}
    rows: list[tuple[Cell, ...]] = []
    bad: list[str] = []
    least = math.inf, -1
    for layer in subject.manifest["layers"]:
        node = producers.get(str(layer["value"]))
        found = [] if node is None else layer_bounds(subject, node, list(layer["kernels"]))
        if found is None:
            continue
        for bound in found or [Bound("no rule is known for this kind of layer", np.array([math.inf]), 1)]:
            channel, reach, margin = bound.worst
            if not bound.holds:
                bad.append(str(layer["name"]))
            shown = f"{margin:.2f}" if bound.holds else "none"
            if bound.holds and not bound.packing and margin < least[0]:
                least = margin, int(layer["index"])
            rows.append((int(layer["index"]), str(layer["name"]), str(layer["kind"]), bound.what, channel, reach, bound.limit, shown))
    columns = ("layer", "name", "kind", "what is bounded", "worst channel", "reach", "limit", "margin, bits")
    layers = len({row[0] for row in rows})
    says = f"{len(rows)} bounds of {layers} layers that sum hold" if not bad else f"not proved: {', '.join(dict.fromkeys(bad))}"
    if least[1] >= 0 and not bad:
        says += f"; the least margin of a sum is {least[0]:.2f} bits, in layer {least[1]}"
    figures = {"bounds": len(rows), "not_proved": list(dict.fromkeys(bad)), "least_margin_bits": round(least[0], 3) if least[1] >= 0 else None}
    return Part(KEY, TITLE, FAILED if bad else PASSED, says, ABOUT, LIMITS, (Table("bounds", columns, tuple(rows)),), figures=figures)


def layer_bounds(subject: Subject, node: Node, kernels: list[str]) -> list[Bound] | None:
    """What has to hold of a layer, None if it has no sum, nothing if there is no rule."""
    graph, kind = subject.graph, node.op.kind
    if isinstance(node.op, Conv2D | Dense):
        return _convolution(subject, node, kernels)
    if kind == "Mean" or isinstance(node.op, AveragePool):
        height, width, _ = graph.type(node.inputs[0]).hwc
        taps = height * width if kind == "Mean" else math.prod(node.op.kernel) if isinstance(node.op, AveragePool) else 0
        return [Bound("sum of the window, zero point and counted padding included", np.array([2 * 256 * taps]), 1 << 31)]
    if kind == "Softmax":
        count = graph.type(node.inputs[0]).shape[-1]
        if graph.numerics == "tflite":
            return [Bound("sum of exponentials of 19 fraction bits", np.array([count << 19]), 1 << 32)]
        return [Bound("sum of exponentials of 32 bits", np.array([count << 32]), 1 << 64)]
    return None if kind in NO_SUMS else []


def _convolution(subject: Subject, node: Node, kernels: list[str]) -> list[Bound]:
    """The bounds of the kernel that the library has for a layer, on the constants that are in its manifest."""
    known = {str(constant["sha256"]) for constant in subject.manifest["constants"]}
    layer = conv_layer(subject.graph, node)
    for variant, form in _forms(layer, kernels):
        try:
            packed = variant.pack(form)
        except (ValueError, AssertionError, IndexError, OverflowError):
            continue  # this form of the layer is none the kernel takes
        arrays = [data for data in packed.values() if isinstance(data, np.ndarray)]
        if arrays and all(_digest(data) in known for data in arrays):
            return kernel_bounds(variant, form)
    return [Bound("its constants are not those in the manifest", np.array([math.inf]), 1)]


def _digest(data: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()


def _forms(layer: ConvLayer, kernels: list[str]) -> Iterator[tuple[Variant, ConvLayer]]:
    """Every way the layer could have been handed to the kernels it runs: with its clamp or without, by rows or whole, planar or not, one shift or another
    for all its channels."""
    free = replace(layer, op=replace(layer.op, low=-math.inf, high=math.inf))  # type: ignore[type-var]
    numerics = layer.numerics
    variants = [variant for variant in (*KERNELS, *conv_w4.VARIANTS) if set(variant.kernel.symbols(numerics)) & set(kernels)]
    for total, variant in product(TOTALS, variants):
        for clamped, in_planar, out_planar, by_rows in product((True, False), *[(False, True)] * 3):
            yield variant, replace(layer if clamped else free, in_planar=in_planar, out_planar=out_planar, by_rows=by_rows, total=total)


def conv_layer(graph: Graph, node: Node) -> ConvLayer:
    """What midge.ops lowers a convolution or a dense layer from."""
    types, out = graph.types(node.inputs), graph.type(node.outputs[0])
    weights, bias = graph.data(node.inputs[1]), graph.data(node.inputs[2])
    assert weights is not None
    assert bias is not None
    if isinstance(node.op, Conv2D):
        return ConvLayer(node.op, tuple(types), out, weights, bias, graph.numerics)
    assert isinstance(node.op, Dense)
    count, depth = weights.shape
    pixels = types[0].count // depth
    x, y, w = types[0].with_shape((1, pixels, 1, depth)), out.with_shape((1, pixels, 1, count)), types[1].with_shape((count, 1, 1, depth))
    return ConvLayer(Conv2D(low=node.op.low, high=node.op.high), (x, w), y, weights.reshape(count, 1, 1, depth), bias, graph.numerics)
