# SPDX-License-Identifier: Apache-2.0
"""The network of a smaller input window: the same layers on less rows of input.

It is what a model of that window would be after training it again, as far as RAM, flash and time go: its shapes, with this model's numbers in place of
those that training would give. Kernels that cover all rows (a global pool, a last convolution) cover all that are left; a dense layer keeps as many of its
taps as there are inputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from midge.check import check
from midge.errors import Unsupported
from midge.ir import Array, Graph, Node, Op, TensorType
from midge.ops.conv import Conv2D
from midge.ops.dense import Dense
from midge.ops.join import Concat, Slice
from midge.ops.move import Transpose
from midge.ops.pad import Pad
from midge.ops.pool import AveragePool, MaxPool
from midge.ops.resize import Resize
from midge.ops.view import Reshape

Shape = tuple[int, ...]


def with_less_rows(graph: Graph, part: Fraction) -> Graph:
    """The Graph with that part of the rows of its input, rounded up; the taps of a rank-2 input count as rows.

    Raises: Unsupported or ImportFailed if there is more than one input, if there is one row only, or if a layer has no meaning on less rows.
    """
    if len(graph.inputs) != 1:
        raise Unsupported(f"a smaller window of {len(graph.inputs)} inputs, of which some may be states")
    cut = graph.copy()
    (name,) = cut.inputs
    _reshape_value(cut, name, _less(cut, name, part))
    for node in cut.nodes:
        old = graph.types(node.inputs)
        node.op = _cut_op(node.op, old, cut.types(node.inputs))
        node.inputs = [_cut_constant(cut, node, i, old) for i in range(len(node.inputs))]
        for output, kind in zip(node.outputs, node.op.infer(cut.types(node.inputs)), strict=True):
            if kind.count == 0:
                raise Unsupported(f"'{node.name}' ({node.op.kind}) has nothing left to do")
            _reshape_value(cut, output, kind.shape)
    if cut.type(name).count == graph.type(name).count:
        raise Unsupported("a window of one row cannot be smaller")
    cut.model_types = {}
    return check(cut)


def _reshape_value(graph: Graph, name: str, shape: Sequence[int]) -> None:
    graph.values[name].type = graph.type(name).with_shape(tuple(shape))


def _less(graph: Graph, name: str, part: Fraction) -> Shape:
    """The shape of a tensor with less rows: those of the first operator that has rows and columns."""
    shape, readers = graph.type(name).shape, graph.consumers()[name]
    op = readers[0].op if readers else None
    axis = 1 if len(shape) > 2 else len(shape) - 1
    if isinstance(op, Conv2D) and op.planar:
        axis = 2
    elif isinstance(op, Reshape) and len(op.shape) >= len(shape):
        return regrouped(op.shape, shape, _less(graph, readers[0].outputs[0], part))
    elif op is not None and (op.elementwise or isinstance(op, Transpose | Pad | Slice | Concat)):
        output = readers[0].outputs[0]
        before, after = graph.type(output).shape, _less(graph, output, part)
        axes = [len(shape) - len(before) + i for i, size in enumerate(before) if size != after[i]]
        axis = next(iter(axes), axis)
        axis = op.perm[axis] if isinstance(op, Transpose) else axis
    return tuple(math.ceil(size * part) if i == axis else size for i, size in enumerate(shape))


def regrouped(old: Shape, seen_as: Shape, new: Shape) -> Shape:
    """What a tensor of shape `new`, which was `old`, is seen as where `old` was seen as `seen_as`.

    Axes are matched from the front in the smallest groups of as many elements; in a group with another count now, the first axis larger than 1 changes.
    Raises: Unsupported if the count is no multiple of the others.
    """
    found: list[int] = []
    i = j = 0
    while i < len(old) or j < len(seen_as):
        first, start = i, j
        i, j = min(i + 1, len(old)), min(j + 1, len(seen_as))
        while math.prod(old[first:i]) != math.prod(seen_as[start:j]):
            fewer = math.prod(old[first:i]) < math.prod(seen_as[start:j])
            i, j = i + fewer, j + (not fewer)
        group = list(seen_as[start:j])
        if math.prod(new[first:i]) != math.prod(group):
            large = next((k for k, size in enumerate(group) if size > 1), 0)
            others = math.prod(group) // group[large]
            if math.prod(new[first:i]) % others:
                raise Unsupported(f"{new} cannot be seen as {seen_as}, as {old} was")
            group[large] = math.prod(new[first:i]) // others
        found += group
    return tuple(found)


def _cut_op(op: Op, old: list[TensorType], new: list[TensorType]) -> Op:
    """The operator on its smaller input."""
    before, after = old[0].shape, new[0].shape
    if before == after:
        return op
    if isinstance(op, Reshape):
        return replace(op, shape=regrouped(before, op.shape, after))
    if isinstance(op, AveragePool | MaxPool) and op.kernel[0] == old[0].hwc[0]:
        return replace(op, kernel=(new[0].hwc[0], op.kernel[1]))
    if isinstance(op, Resize):
        return replace(op, rows=tuple(row for row in op.rows if row < new[0].hwc[0]))
    if isinstance(op, Slice):
        return replace(op, ends=tuple(end - was + now for end, was, now in zip(op.ends, before, after, strict=True)))
    return op


def _cut_constant(graph: Graph, node: Node, index: int, old: list[TensorType]) -> str:
    """The name of an operand; of a constant's cut, where it belongs to rows that are gone."""
    name = node.inputs[index]
    data, kind, new = graph.data(name), graph.type(name), graph.type(node.inputs[0])
    if data is None or old[0].shape == new.shape:
        return name
    if isinstance(node.op, Dense):
        wanted: Shape = (kind.shape[0], new.shape[-1]) if index == 1 else kind.shape
    elif isinstance(node.op, Conv2D):
        rows, left = node.op.hwc(old[0])[0], node.op.hwc(new)[0]
        wanted = (kind.shape[0], left, *kind.shape[2:]) if index == 1 and kind.shape[1] == rows else kind.shape
    else:  # operands that are broadcast
        was, now = old[0].shape[::-1], new.shape[::-1]
        wanted = tuple(now[i] if i < len(was) and size == was[i] else size for i, size in enumerate(kind.shape[::-1]))[::-1]
    if wanted == kind.shape:
        return name
    held: Array = np.ascontiguousarray(data[tuple(slice(size) for size in wanted)])
    return graph.add_value(f"{name}_cut", kind.with_shape(held.shape), held)
