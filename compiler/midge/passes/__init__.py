# SPDX-License-Identifier: Apache-2.0
"""Graph to Graph: plain functions, run in the order of two tuples.

CANONICAL passes hold for float, quantized and partly quantized Graphs: they remove layout changes and fuse. Then everything is quantized
(midge.ptq.complete), and INTEGER passes make the Graph fit for lowering.
"""

from __future__ import annotations

from collections.abc import Callable

from midge.check import check
from midge.ir import Graph
from midge.passes.fuse import fold_constants, fuse_activation, fuse_affine, fuse_pad
from midge.passes.integer import edges, refuse_float, signed, unify
from midge.passes.layout import layout, read_planes
from midge.passes.ports import nhwc_ports

CANONICAL: tuple[Callable[[Graph], Graph], ...] = (signed, fold_constants, layout, fuse_affine, fuse_activation, fuse_pad, layout)
INTEGER: tuple[Callable[[Graph], Graph], ...] = (unify, refuse_float)


def canonicalize(graph: Graph) -> Graph:
    """Run CANONICAL and check the result."""
    for run in CANONICAL:
        graph = run(graph)
    graph.prune()
    return check(graph)


def integerize(graph: Graph, io: str = "quantized", nhwc: tuple[bool, bool] = (False, False)) -> Graph:
    """Run INTEGER on a quantized Graph, then give it the ports that `io` asks for ("quantized" or "model"), and check the result.

    nhwc: whether inputs and outputs are to be NHWC where the model has NCHW.
    """
    for run in INTEGER:
        graph = run(graph)
    graph = read_planes(nhwc_ports(graph, *nhwc))
    return check(edges(graph, io))


__all__ = ["CANONICAL", "INTEGER", "canonicalize", "integerize"]
