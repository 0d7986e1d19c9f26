# SPDX-License-Identifier: Apache-2.0
"""A function of two int8 operands as the sum of two tables, exact for all 65,536 pairs of them.

    f(a, b) = clamp((a_terms[a] + b_terms[b]) >> 20, act_min, act_max)

What a pair wants of its sum is an interval of 2**20 integers, open to one side where f is saturated. With b's table negated these are 131,072
bounds on differences of 512 unknowns: a graph of shortest paths, whose distances are tables if they exist (Bellman-Ford). Halves that are rounded away
from zero have tables, halves that are rounded to even have none.

Source: Bellman, On a routing problem, Quarterly of Applied Mathematics 16, 1958.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midge.fixedpoint import Int64
from midge.ir import Array, Node
from midge.ops.lowering import Lowering, Packed
from midge.program import Kernel

BITS = 20
LIMIT = 1 << 30  # of an entry, so that no sum overflows
ROUNDS = 512  # a shortest path meets every unknown once at most
TERMS_NBYTES = 2048  # of both tables


@dataclass(frozen=True)
class Terms:
    """Both tables, 256 int32 each, for operands 0 to 127 and then -128 to -1, as bytes count."""

    a: Array
    b: Array


def find_terms(wanted: Int64, a: Array, b: Array, zero_point: int, limits: tuple[int, int]) -> Terms | None:
    """Tables for wanted[a + 128, b + 128], None if there are none below LIMIT. `a` and `b` are the real contributions of -128 to 127 in integers of
    the output, where the search starts; `limits` is its range."""
    least = np.where(wanted <= limits[0], -2 * LIMIT, wanted << BITS)
    most = np.where(wanted >= limits[1], 2 * LIMIT, ((wanted + 1) << BITS) - 1)
    upper, lower = (np.asarray(np.rint(x * (1 << BITS)), np.int64) for x in (a, -b))  # wanted are `least` <= upper - lower <= `most`
    lower -= (2 * zero_point + 1) << (BITS - 1)
    for _ in range(ROUNDS):
        before = upper, lower
        upper = np.minimum(upper, (lower + most).min(1))
        lower = np.minimum(lower, (upper[:, None] - least).min(0))
        if (upper == before[0]).all() and (lower == before[1]).all():
            fits = max(np.abs(upper).max(), np.abs(lower).max()) < LIMIT
            return Terms(*(np.roll(table, 128).astype(np.int32) for table in (upper, -lower))) if fits else None
    return None


def lower_terms(ctx: Lowering, node: Node, terms: Terms, limits: tuple[int, int]) -> None:
    """Append the call, over the whole tensors."""
    params = {"count": ctx.graph.type(node.outputs[0]).count, "act_min": limits[0], "act_max": limits[1]}
    kernel = Kernel("midge_terms_s8" if limits == (-128, 127) else "midge_terms_clamped_s8", "elementwise")
    whole = (i for i in (0, 1) if not ctx.graph.is_constant(node.inputs[i]))
    operands = [ctx.operand(name, flat=True) for name in node.inputs]
    tables: dict[str, Packed | str] = {"a_terms": terms.a, "b_terms": terms.b}
    ctx.call(node, kernel, params, operands, tables, flat=True, in_place=next(whole, None), splits=("count",))
