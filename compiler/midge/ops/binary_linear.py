# SPDX-License-Identifier: Apache-2.0
"""A sum of two int8 tensors as one linear form, where it gives the same integers as the reference for all 65536 pairs.

    y = clamp((a * a_factor + b * b_factor + offset) >> shift)

Rounding twice, or half to even, differs from that only for pairs next to a tie, so the factors next to the exact ones are tried on those pairs first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product

import numpy as np

from midge.ir import Array, Node, TensorType
from midge.ops.lowering import Lowering
from midge.program import Kernel

LEAST_SHIFT = 12  # fewer bits than that and no factors will do
TRIED = 3  # units that a factor may be moved by, each way
NEAR = 2.0**-9  # what counts as next to a tie, in units of the output


@dataclass(frozen=True)
class Linear:
    a_factor: int
    b_factor: int
    offset: int
    shift: int


def find_linear(wanted: Array, a_scale: float, b_scale: float, offset: float, limits: tuple[int, int]) -> Linear | None:
    """The form that equals `wanted` (256, 256), indexed by a + 128 and b + 128, or None. The real result is a_scale * a + b_scale * b + offset."""
    act_min, act_max = limits
    every = np.arange(-128, 128, dtype=np.int64)
    real = a_scale * every[:, None] + b_scale * every[None, :] + offset
    shift = 30 - int(np.ceil(np.log2(np.abs(real).max() + 2.0)))
    if shift < LEAST_SHIFT:
        return None
    distance = np.abs(real - np.floor(real) - 0.5)
    near = (distance < NEAR) & (real > act_min - 2) & (real < act_max + 2)
    a, b = (grid[near] for grid in np.broadcast_arrays(every[:, None], every[None, :]))
    expected = wanted[near]
    unit = float(1 << shift)
    exact = [int(np.rint(value * unit)) for value in (a_scale, b_scale, offset + 0.5)]
    moves = sorted(product(range(-TRIED, TRIED + 1), repeat=2), key=lambda move: (abs(move[0]) + abs(move[1]), move))
    for move_a, move_b in moves:
        found = _with_offset(exact[0] + move_a, exact[1] + move_b, exact[2], shift, a, b, expected, act_min, act_max)
        if found is not None:
            result = (every[:, None] * found.a_factor + every[None, :] * found.b_factor + found.offset) >> shift
            if np.array_equal(np.clip(result, act_min, act_max), wanted):
                return found
    return None


def _with_offset(a_factor: int, b_factor: int, offset: int, shift: int, a: Array, b: Array, expected: Array, act_min: int, act_max: int) -> Linear | None:
    """The factors with an offset that gives `expected` for the pairs (a, b), the nearest to `offset`."""
    scaled = a * a_factor + b * b_factor
    low = np.where(expected > act_min, (expected << shift) - scaled, np.iinfo(np.int64).min).max(initial=-(1 << 31))
    high = np.where(expected < act_max, (expected + 1 << shift) - 1 - scaled, np.iinfo(np.int64).max).min(initial=1 << 31)
    return Linear(a_factor, b_factor, int(min(max(offset, low), high)), shift) if low <= high else None


def takes_linear(ctx: Lowering, types: list[TensorType], out: TensorType) -> bool:
    """Whether the target multiplies vectors, and no operand is broadcast."""
    return "mve" in ctx.features and ctx.optimize != "size" and all(t.count == out.count for t in types)


def lower_linear(ctx: Lowering, node: Node, linear: Linear, limits: tuple[int, int]) -> None:
    """Append the call, over the whole tensors."""
    params = {"count": ctx.graph.type(node.outputs[0]).count, **asdict(linear), "act_min": limits[0], "act_max": limits[1]}
    whole = (i for i in (0, 1) if not ctx.graph.is_constant(node.inputs[i]))
    operands = [ctx.operand(name, flat=True) for name in node.inputs]
    kernel = Kernel("midge_linear_mve_s8", "elementwise_mve", features=frozenset({"mve"}))
    ctx.call(node, kernel, params, operands, {}, flat=True, in_place=next(whole, None), splits=("count",))
