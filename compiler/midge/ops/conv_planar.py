# SPDX-License-Identifier: Apache-2.0
"""Planar rows between a convolution that can write them and the depthwise layers that read them: which buffers have them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from midge.ir import Node
from midge.microkernels.gemm import TOTAL
from midge.microkernels.planar_stream import TOTALS, exact
from midge.ops import conv_clamp, conv_depthwise, conv_dsp, conv_strassen
from midge.ops.conv_depthwise import refuses_planar
from midge.ops.conv_dsp import gemm_of
from midge.ops.lowering import Lowering
from midge.program import Kernel

if TYPE_CHECKING:
    from midge.ops.conv_kernels import ConvLayer


def arranged(ctx: Lowering, node: Node, layer: ConvLayer, kernel: Kernel) -> ConvLayer:
    """The layer as `kernel` is to compute it: by rows where the kernel takes blocks of them, planar ones if all readers want them. Marks the buffer."""
    whole = kernel == conv_strassen.KERNEL  # takes the tensor as one row, whatever its rows are like
    if kernel not in (conv_dsp.PAIRS, conv_dsp.POINTWISE) and not whole:
        return layer
    graph = ctx.graph
    same = graph.type(node.inputs[0]).hwc == layer.types[0].hwc and graph.type(node.outputs[0]).hwc == layer.out.hwc  # a dense layer has other rows
    layer = replace(layer, by_rows=layer.flat and same and not whole)
    if same and (conv_strassen.writes_planar(layer) if whole else conv_dsp.writes_planar(kernel, layer)) and all_want_planar(ctx, node, layer):
        ctx.buffer(node.outputs[0]).planar = True
        return replace(layer, out_planar=True)
    return layer


def would_rather(ctx: Lowering, node: Node, layer: ConvLayer, kernel: Kernel) -> bool:
    """Whether the readers want planar rows, another kernel for pairs of pixels writes them, and `kernel` does not: then they save more than it does."""
    pairs = kernel == conv_dsp.POINTWISE and not conv_dsp.writes_planar(kernel, layer) and not ctx.prefer
    return pairs and ctx.choices.get(ctx.layer) is None and all_want_planar(ctx, node, layer)


def all_want_planar(ctx: Lowering, node: Node, layer: ConvLayer) -> bool:
    """Whether the output has readers, all of them depthwise layers that planar rows serve."""
    value, variants = node.outputs[0], conv_depthwise.PLANAR_ROWS
    readers = [reader for reader in ctx.graph.nodes if value in reader.inputs]
    if value in ctx.graph.outputs or not readers or ctx.prefer not in ("", *(variant.name for variant in variants)):
        return False

    def served(reader: Node) -> bool:
        reading = _reading(ctx, reader, layer)
        return any(not ctx.refusal(variant, reading) for variant in variants)

    return all(reader.op.kind == node.op.kind and served(reader) for reader in readers)


def common_total(ctx: Lowering, layer: ConvLayer) -> int:
    """The shift that suits the channels of all depthwise layers that may read planar rows, which then share routines; TOTAL if there is none."""
    if not ctx.total:
        nodes = [node for node in ctx.graph.nodes if node.op.kind == "Conv2D" and "dsp" in ctx.features]
        readings = [reading for node in nodes if not refuses_planar(reading := _reading(ctx, node, layer), packed=True)]
        ctx.total = next((total for total in TOTALS if all(exact(gemm_of(reading), total, layer.numerics) for reading in readings)), TOTAL)
    return ctx.total


def _reading(ctx: Lowering, reader: Node, layer: ConvLayer) -> ConvLayer:
    """A convolution that reads the output of `layer`."""
    types, weights, bias = ctx.graph.types(reader.inputs), ctx.graph.data(reader.inputs[1]), ctx.graph.data(reader.inputs[2])
    assert weights is not None
    assert bias is not None
    found = replace(layer, op=reader.op, types=tuple(types), out=ctx.graph.type(reader.outputs[0]), weights=weights, bias=bias)  # type: ignore[arg-type]
    return conv_clamp.saturated(ctx, replace(found, in_planar=True, out_planar=False, by_rows=False))
