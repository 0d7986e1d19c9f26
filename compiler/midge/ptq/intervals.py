# SPDX-License-Identifier: Apache-2.0
"""Bounds of an operator's output from the Quants of its inputs, where interval arithmetic is tight enough to quantize by."""

from __future__ import annotations

import itertools

import numpy as np

from midge.ir import Array, DType, Graph, Node, Quant, TensorType
from midge.ops.build import dequantize
from midge.ops.conv import Conv2D
from midge.ptq.calibration import real_type
from midge.ptq.observers import activation_quant, quant_range

LINEAR_IN_EACH = ("Add", "Sub", "Mul", "PRelu")  # extremes lie where every operand is at a bound (or at 0, for PRelu)
AVERAGES = ("AveragePool", "Mean", "GlobalAveragePool")


def bounded_quant(graph: Graph, node: Node) -> Quant | None:
    """The Quant for the one output of `node` if all its activations have Quants and its kind allows bounds, else None."""
    activations = graph.activations(node)
    quants = [graph.type(name).quant for name in activations]
    if not activations or any(quant is None for quant in quants):
        return None
    if node.op.kind in AVERAGES:
        return quants[0]
    pointwise = isinstance(node.op, Conv2D) and graph.type(node.inputs[1]).shape == (node.op.groups, 1, 1, 1)
    if node.op.kind in LINEAR_IN_EACH or pointwise:
        return _corners(graph, node)
    if node.op.elementwise and len(node.inputs) == 1:
        return _all_values(graph, node)
    return None


def _corners(graph: Graph, node: Node) -> Quant:
    """The range over all combinations of each activation at its lower bound, 0 and upper bound."""
    activations = sorted(set(graph.activations(node)))
    bounds = [(quant_range(graph.type(name).q)[0], 0.0, quant_range(graph.type(name).q)[1]) for name in activations]
    extremes: list[float] = []
    for corner in itertools.product(*bounds):
        at = dict(zip(activations, corner, strict=True))
        operands = [np.full(graph.type(name).shape, at[name], np.float32) if name in at else _constant(graph, name) for name in node.inputs]
        y = node.op.reference(operands, [real_type(t) for t in graph.types(node.inputs)], graph.types(node.outputs), graph.numerics)[0]
        extremes += [float(y.min()), float(y.max())]
    return activation_quant(min(extremes), max(extremes))


def _all_values(graph: Graph, node: Node) -> Quant | None:
    """The range of a function of one variable over the 256 numbers its input can be, None if it has poles there."""
    quant = graph.type(node.inputs[0]).q
    x = ((np.arange(-128, 128) - quant.z) * quant.s).astype(np.float32).reshape(1, 256)
    type = TensorType(DType.F32, x.shape)
    y = node.op.reference([x], [type], [type], graph.numerics)[0]
    return activation_quant(float(y.min()), float(y.max())) if np.isfinite(y).all() else None


def _constant(graph: Graph, name: str) -> Array:
    data, quant = graph.data(name), graph.type(name).quant
    assert data is not None
    return data if quant is None else dequantize(data, quant)
