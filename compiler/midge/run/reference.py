# SPDX-License-Identifier: Apache-2.0
"""Runs a Graph by its numpy references: the definition of correct that every other way of running is held against."""

from __future__ import annotations

from collections.abc import Mapping

from midge.ir import Array, Graph


def run_reference(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every value of `graph` for one sample; `feeds` has an array for each input."""
    values: dict[str, Array] = {name: value.data for name, value in graph.values.items() if value.data is not None}
    values.update(feeds)
    for node, types, out in graph.walk():
        results = node.op.reference([values[name] for name in node.inputs], types, out, graph.numerics)
        values.update(zip(node.outputs, results, strict=True))
    return values
