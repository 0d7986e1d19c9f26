# SPDX-License-Identifier: Apache-2.0
"""Layout: importers put a Transpose on either side of every spatial operator; this pass sinks them towards the outputs until they cancel.

Rules, for y = transpose(x, perm):
- a Transpose that only moves axes of size 1 is a Reshape; Reshape of Reshape is one Reshape;
- transpose of transpose is one transpose, or nothing;
- f(transpose(x)) = transpose(f(x)) for elementwise f, with constant operands permuted, and for pad, concat and slice with axes renamed;
- dense(reshape(transpose(x))) = dense'(reshape(x)) with the columns of the weights permuted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from midge.ir import Graph, Node, Quant
from midge.ops.conv import Conv2D
from midge.ops.dense import Dense
from midge.ops.move import Transpose
from midge.ops.view import Reshape
from midge.passes.rewrite import bypass, merges, producer_of

Perm = tuple[int, ...]


def layout(graph: Graph) -> Graph:
    """Cancel what transposes can be cancelled. Ends because every step moves a transpose towards the outputs or removes a node."""
    changed = True
    while changed:
        changed = any(_step(graph, node) for node in list(graph.nodes) if any(node is n for n in graph.nodes))
        graph.prune()
    return graph


def _step(graph: Graph, node: Node) -> bool:
    if isinstance(node.op, Transpose):
        return _transpose_is_view(graph, node) or _compose(graph, node)
    if isinstance(node.op, Reshape):
        return _merge_reshape(graph, node)
    if isinstance(node.op, Dense) and _permute_columns(graph, node):
        return True
    if node.op.elementwise and _hoist_over_reshape(graph, node):
        return True
    if node.op.elementwise or hasattr(node.op, "permuted"):
        return _sink(graph, node)
    return False


def _transpose_is_view(graph: Graph, node: Node) -> bool:
    """A Transpose that keeps the order of the axes larger than 1 becomes a Reshape (or nothing)."""
    assert isinstance(node.op, Transpose)
    shape = graph.type(node.inputs[0]).shape
    moved = [axis for axis in node.op.perm if shape[axis] > 1]
    if moved != sorted(moved):
        return False
    if node.op.perm == tuple(range(len(shape))) and bypass(graph, node):
        return True
    node.op = Reshape(graph.type(node.outputs[0]).shape)
    return True


def _merge_reshape(graph: Graph, node: Node) -> bool:
    if graph.type(node.inputs[0]).shape == graph.type(node.outputs[0]).shape and bypass(graph, node):
        return True
    inner = producer_of(graph, node.inputs[0])
    if inner is None or not isinstance(inner.op, Reshape) or not merges(graph, node.inputs[0], node.outputs[0]):
        return False
    node.inputs = list(inner.inputs)
    return True


def _compose(graph: Graph, node: Node) -> bool:
    """transpose(transpose(x, p), q) = transpose(x, p[q])."""
    assert isinstance(node.op, Transpose)
    inner = producer_of(graph, node.inputs[0])
    if inner is None or not isinstance(inner.op, Transpose) or not merges(graph, node.inputs[0], node.outputs[0]):
        return _share(graph, node)
    node.op = Transpose(tuple(inner.op.perm[axis] for axis in node.op.perm))
    node.inputs = list(inner.inputs)
    return True


def _share(graph: Graph, node: Node) -> bool:
    """Two equal transposes of one value become one."""
    for other in graph.nodes:
        if other is node:
            return False
        same = isinstance(other.op, Transpose) and other.op == node.op and other.inputs == node.inputs
        if same and graph.type(other.outputs[0]) == graph.type(node.outputs[0]):
            graph.nodes.remove(node)
            graph.replace_uses(node.outputs[0], other.outputs[0])
            return True
    return False


def _sink(graph: Graph, node: Node) -> bool:
    """f(transpose(x)) -> transpose(f(x)). Other computed operands that are not transposed alike get the inverse transpose."""
    sources = [producer_of(graph, name) for name in node.inputs]
    perms = [p.op.perm for p in sources if p is not None and isinstance(p.op, Transpose)]
    out = node.outputs[0]
    rank = len(graph.type(out).shape)
    if not perms or len(node.outputs) != 1 or len(perms[0]) != rank:
        return False
    perm = perms[0]
    inverse: Perm = tuple(int(i) for i in np.argsort(perm))
    if (len(perms) < len(graph.activations(node)) or set(perms) != {perm}) and not _worth_transposing_the_rest(graph, node, sources, perm):
        return False
    if any(not graph.is_constant(name) and len(graph.type(name).shape) != rank for name in node.inputs):
        return False
    operands = []
    for name, source in zip(node.inputs, sources, strict=True):
        if source is not None and isinstance(source.op, Transpose) and source.op.perm == perm and merges(graph, source.inputs[0], name):
            if graph.type(source.inputs[0]).dtype.is_float and not graph.type(name).dtype.is_float:
                graph.values[source.inputs[0]].type = graph.type(name).with_shape(graph.type(source.inputs[0]).shape)
            operands.append(source.inputs[0])
        elif graph.is_constant(name):
            operands.append(_permuted_constant(graph, name, inverse))
        else:
            operands.append(_transposed(graph, node, name, inverse))
    kind = graph.type(out)
    inner = graph.add_value(f"{out}_nhwc", kind.with_shape(tuple(kind.shape[i] for i in inverse)))
    node.op = node.op.permuted(inverse) if hasattr(node.op, "permuted") else node.op
    node.inputs, node.outputs = operands, [inner]
    graph.nodes.insert(graph.nodes.index(node) + 1, Node(f"{node.name}_transpose", Transpose(perm), [inner], [out], node.origin))
    return True


def _worth_transposing_the_rest(graph: Graph, node: Node, sources: list[Node | None], perm: Perm) -> bool:
    """Whether an elementwise operator on mixed operands should move: only from NCHW to NHWC, never back, or sinking would not end."""
    alike = [source is not None and isinstance(source.op, Transpose) and source.op.perm == perm for source in sources]
    moved = [source.inputs[0] for source, same in zip(sources, alike, strict=True) if source is not None and same]
    rest = [name for name, same in zip(node.inputs, alike, strict=True) if not same and not graph.is_constant(name)]
    return node.op.elementwise and all(_is_nhwc(graph, name) for name in moved) and not any(_is_nhwc(graph, name) for name in rest)


def _is_nhwc(graph: Graph, name: str) -> bool:
    """Whether a value descends from an operator that is bound to NHWC, as opposed to an input of the graph or a reshaped value."""
    node = producer_of(graph, name)
    if node is None or isinstance(node.op, Reshape):
        return False
    if isinstance(node.op, Transpose):
        return not _is_nhwc(graph, node.inputs[0])
    if node.op.elementwise or hasattr(node.op, "permuted"):
        return any(_is_nhwc(graph, operand) for operand in graph.activations(node)[:1])
    return True


def _transposed(graph: Graph, node: Node, name: str, perm: Perm) -> str:
    kind = graph.type(name)
    output = graph.add_value(f"{name}_transposed", kind.with_shape(tuple(kind.shape[i] for i in perm)))
    graph.nodes.insert(graph.nodes.index(node), Node(f"{node.name}_operand", Transpose(perm), [name], [output], node.origin))
    return output


def _permuted_constant(graph: Graph, name: str, perm: Perm) -> str:
    """A constant operand, given leading axes of size 1 up to the full rank, with its axes permuted. Scalars stay as they are."""
    value = graph.values[name]
    assert value.data is not None
    if value.data.size == 1:
        return name
    shape = (1,) * (len(perm) - value.data.ndim) + value.data.shape
    quant = value.type.quant
    if quant is not None and quant.axis is not None:
        axis = perm.index(quant.axis + len(perm) - value.data.ndim)
        quant = Quant(quant.scale, quant.zero_point, axis)
    return graph.add_constant(name, np.transpose(value.data.reshape(shape), perm), quant)


def _hoist_over_reshape(graph: Graph, node: Node) -> bool:
    """f(reshape(x)) -> reshape(f(x)) for elementwise f of one operand, so that f meets the producer it may fuse into."""
    if len(node.inputs) != 1 or graph.sole_consumer(node.inputs[0]) is not node:
        return False
    view = producer_of(graph, node.inputs[0])
    if view is None or not isinstance(view.op, Reshape):
        return False
    middle, out, source = node.inputs[0], node.outputs[0], view.inputs[0]
    if not merges(graph, source, middle) or graph.type(source).dtype != graph.type(middle).dtype:
        return False
    inner = graph.add_value(f"{out}_flat", graph.type(out).with_shape(graph.type(source).shape))
    node.inputs, node.outputs = [source], [inner]
    view.inputs, view.outputs = [inner], [out]
    at = graph.nodes.index(view)
    graph.nodes.remove(node)
    graph.nodes.insert(at, node)
    return True


def _permute_columns(graph: Graph, node: Node) -> bool:
    """dense(reshape(transpose(x))) reads x directly; the weights' columns follow."""
    view = producer_of(graph, node.inputs[0])
    if view is None or not isinstance(view.op, Reshape):
        return False
    inner = producer_of(graph, view.inputs[0])
    if inner is None or not isinstance(inner.op, Transpose):
        return False
    perm, stored = inner.op.perm, graph.type(inner.inputs[0]).shape
    weights = graph.values[node.inputs[1]]
    kind = graph.type(node.inputs[0])
    if weights.data is None or kind.count != weights.data.shape[1] or not merges(graph, inner.inputs[0], view.inputs[0]):
        return False
    seen = tuple(stored[axis] for axis in perm)
    order = np.transpose(np.arange(kind.count).reshape(seen), np.argsort(perm)).reshape(-1)
    columns = graph.add_constant(weights.name, weights.data[:, order], weights.type.quant)
    if graph.type(inner.inputs[0]).dtype.is_float and not kind.dtype.is_float:
        graph.values[inner.inputs[0]].type = kind.with_shape(stored)
    flat = graph.add_value(f"{inner.inputs[0]}_flat", kind)
    graph.nodes.insert(graph.nodes.index(node), Node(f"{node.name}_flatten", Reshape(kind.shape), [inner.inputs[0]], [flat], view.origin))
    node.inputs = [flat, columns, *node.inputs[2:]]
    return True


MAX_PLANE_ROWS = 64  # pointers to rows that a planar convolution holds on the stack


def read_planes(graph: Graph) -> Graph:
    """An NCHW input that only convolutions read, through a transpose each, is read plane by plane instead of being copied to NHWC."""
    for node in list(graph.nodes):
        if not isinstance(node.op, Transpose) or node.op.perm != (0, 2, 3, 1) or node.inputs[0] not in graph.inputs or node.outputs[0] in graph.outputs:
            continue
        readers = [reader for reader in graph.nodes if node.outputs[0] in reader.inputs]
        channels = graph.type(node.inputs[0]).shape[1]
        if readers and all(_may_read_planes(graph, reader, channels) for reader in readers):
            for reader in readers:
                reader.op, reader.inputs = replace(reader.op, planar=True), [node.inputs[0], *reader.inputs[1:]]  # type: ignore[call-arg]
            graph.nodes.remove(node)
    graph.prune()
    return graph


def _may_read_planes(graph: Graph, reader: Node, channels: int) -> bool:
    return isinstance(reader.op, Conv2D) and reader.op.groups == 1 and channels * graph.type(reader.inputs[1]).shape[1] <= MAX_PLANE_ROWS
