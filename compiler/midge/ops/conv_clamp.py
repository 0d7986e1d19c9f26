# SPDX-License-Identifier: Apache-2.0
"""Convolutions whose output is clamped to less than int8, such as by a ReLU6 whose 6 is not the largest integer: fast kernels that only saturate, and a
clamp in place behind them, of about two instructions an element."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from midge.ir import Node
from midge.ops.lowering import Lowering
from midge.program import Kernel, Operand, Window

if TYPE_CHECKING:
    from midge.ops.conv_kernels import ConvLayer

CLAMP = Kernel("midge_clamp_s8", "clamp")


def saturated(ctx: Lowering, layer: ConvLayer) -> ConvLayer:
    """What kernels are asked to serve: the layer, without its clamp where kernels of the target do not clamp."""
    limits = layer.params["act_min"], layer.params["act_max"]
    if limits == (-128, 127) or "mve" in ctx.features:
        return layer
    return replace(layer, op=replace(layer.op, low=-math.inf, high=math.inf))  # type: ignore[type-var]


def buffer_before(ctx: Lowering, node: Node) -> str:
    """A buffer like that of the node's output, for what is to be clamped."""
    buffer = ctx.buffer(node.outputs[0])
    name = f"{buffer.name}_saturated"
    ctx.program.buffers[name] = replace(buffer, name=name)
    return name


def call_clamp(ctx: Lowering, node: Node, source: str, layer: ConvLayer) -> None:
    """Append the call that clamps `source` to the node's output."""
    nbytes = ctx.program.buffer(source).nbytes
    params = {"count": nbytes, "low": layer.params["act_min"], "high": layer.params["act_max"]}
    ctx.call(node, CLAMP, params, [Operand(source, Window(1), nbytes)], {}, flat=True, in_place=0, splits=("count",))
