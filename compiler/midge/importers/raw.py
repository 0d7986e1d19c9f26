# SPDX-License-Identifier: Apache-2.0
"""Integers that operators move about before a DequantizeLinear says what they mean."""

from __future__ import annotations

from midge.errors import Unsupported
from midge.ir import DType, Graph, Quant
from midge.ops.build import Builder, OnnxNode

# operators that ONNX defines on int8 and that do the same to the numbers the integers stand for
RAW_OK = frozenset(
    {"Concat", "DepthToSpace", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
EIGHT_BITS = (DType.S8, DType.U8)


def share_quant(builder: Builder, node: OnnxNode) -> None:
    """Integers that a node joins mean the same: operands without a Quant take that of the others.

    Raises: Unsupported if operands have different ones.
    """
    names = [name for name in node.inputs if name and builder.type(name).dtype in EIGHT_BITS]
    known = {builder.type(name).quant for name in names} - {None}
    if len(known) > 1:
        raise Unsupported(f"{node}: joins bare integers of {len(known)} different scales; put DequantizeLinear before it")
    for quant in known:
        for name in names:
            if quant is not None:
                builder.set_quant(name, quant)


def complete_quants(graph: Graph, raw: set[str]) -> None:
    """Give every 8-bit value a Quant: that of its neighbours across operators that move data, else scale 1 and zero_point 0.

    Raises: Unsupported if one of the nodes `raw` joins integers of different scales.
    """
    groups = [[name for name in [*node.inputs, *node.outputs] if graph.type(name).dtype in EIGHT_BITS] for node in graph.nodes if node.op.moves_data]
    groups_of: dict[str, list[int]] = {}
    for i, names in enumerate(groups):
        for name in names:
            groups_of.setdefault(name, []).append(i)
    done: set[int] = set()
    held = [name for name, value in graph.values.items() if value.type.dtype in EIGHT_BITS]
    unknown = [name for name in held if graph.type(name).quant is None]
    spread(graph, [name for name in held if graph.type(name).quant is not None], groups, groups_of, done)
    for name in unknown:
        if graph.type(name).quant is None:
            graph.values[name].type = graph.type(name).with_quant(graph.type(name).dtype, Quant.of(1.0, 0))
            spread(graph, [name], groups, groups_of, done)
    for node in graph.nodes:
        kinds = {graph.type(name) for name in [*node.inputs, *node.outputs] if graph.type(name).dtype in EIGHT_BITS}
        if node.name in raw and len({(kind.dtype, kind.quant) for kind in kinds}) > 1:
            found = ", ".join(sorted(str(kind) for kind in kinds))
            raise Unsupported(f"{node.op.kind} '{node.name}': joins bare integers of different scales ({found}); put DequantizeLinear before it")


def spread(graph: Graph, names: list[str], groups: list[list[str]], groups_of: dict[str, list[int]], done: set[int]) -> None:
    """Hand the Quant of `names` on to values of the same groups that have none, and on from those. Each group is served once."""
    while names:
        name = names.pop()
        source = graph.type(name)
        for i in [i for i in groups_of.get(name, []) if i not in done and source.q.axis is None]:
            done.add(i)
            for other in groups[i]:
                kind = graph.type(other)
                if kind.quant is None and kind.dtype is source.dtype:
                    graph.values[other].type = kind.with_quant(kind.dtype, source.quant)
                    names.append(other)
