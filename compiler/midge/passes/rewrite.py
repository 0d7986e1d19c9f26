# SPDX-License-Identifier: Apache-2.0
"""Small steps that passes are made of: bypass a node, insert one, look at a neighbour."""

from __future__ import annotations

from midge.ir import DType, Graph, Node, Op, TensorType


def insert(graph: Graph, before: Node | None, op: Op, source: str, out: TensorType, like: Node | None = None) -> str:
    """Add a node computing op(source) in front of `before` (at the end if None); returns the name of its output."""
    name = graph.add_value(f"{source}_{op.kind.lower()}", out)
    origin = like.origin if like else ()
    node = Node(f"{like.name if like else source}_{op.kind.lower()}", op, [source], [name], origin)
    at = next((i for i, n in enumerate(graph.nodes) if n is before), len(graph.nodes))
    graph.nodes.insert(at, node)
    return name


def can_bypass(graph: Graph, source: str, output: str) -> bool:
    """Whether `output` may simply be `source`: nothing between them depends on both being kept apart."""
    old, new = graph.type(output), graph.type(source)
    if old.dtype.is_float or old == new.with_shape(old.shape):
        return True
    return new.dtype.is_float and not graph.is_constant(source) and source not in graph.outputs


def bypass(graph: Graph, node: Node) -> bool:
    """Remove a node that does nothing: its output becomes its first input, which takes over the output's Quant. False if that is not possible."""
    source, output = node.inputs[0], node.outputs[0]
    if graph.type(source).shape != graph.type(output).shape or not can_bypass(graph, source, output):
        return False
    if graph.type(source).dtype.is_float and not graph.type(output).dtype.is_float:
        graph.values[source].type = graph.type(output)
    graph.nodes.remove(node)
    graph.replace_uses(output, source)
    return True


def producer_of(graph: Graph, value: str) -> Node | None:
    return next((node for node in graph.nodes if value in node.outputs), None)


def merges(graph: Graph, inner: str, outer: str) -> bool:
    """Whether a rounding between two fused steps may be left out or does no harm: `inner` is real-valued, or has the same Quant as `outer`."""
    a, b = graph.type(inner), graph.type(outer)
    return a.dtype.is_float or (a.dtype is b.dtype and a.quant == b.quant)


def hand_over(graph: Graph, producer: Node, consumer: Node) -> None:
    """`producer` absorbs `consumer`: it writes consumer's output and carries both origins."""
    producer.outputs = list(consumer.outputs)
    producer.origin = producer.origin + tuple(o for o in consumer.origin if o not in producer.origin)
    graph.nodes.remove(consumer)


def is_quantized(kind: TensorType) -> bool:
    return kind.dtype in (DType.S8, DType.U8)
