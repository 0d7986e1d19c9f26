# SPDX-License-Identifier: Apache-2.0
"""A sum of two int8 tensors whose scales are small multiples of one power of two of the output's, where halves are rounded to even: no two tables do that,
but the sums are exact in few bits.

    y = clamp(round_half_even((a * a_factor + b * b_factor + offset) / 2**shift) + zero_point)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from midge.fixedpoint import Int64, shift_right_half_even
from midge.ir import Node
from midge.ops.lowering import Lowering
from midge.program import Kernel

MOST_SHIFT = 16
LIMIT = 1 << 21  # of a factor, so that no sum of operands of 9 bits overflows


@dataclass(frozen=True)
class Dyadic:
    a_factor: int
    b_factor: int
    offset: int
    shift: int
    zero_point: int


def find_dyadic(wanted: Int64, ratios: tuple[float, float], zero_points: tuple[int, int, int], limits: tuple[int, int]) -> Dyadic | None:
    """The form that equals wanted[a + 128, b + 128] for all pairs, or None. `ratios` are signed input scales over the output's; zero_points of a, b and
    the output."""
    for shift in range(1, MOST_SHIFT + 1):
        a, b = (ratio * (1 << shift) for ratio in ratios)
        if max(abs(a), abs(b)) >= LIMIT:
            return None
        if a == int(a) and b == int(b):
            break
    else:
        return None
    found = Dyadic(int(a), int(b), -int(a) * zero_points[0] - int(b) * zero_points[1], shift, zero_points[2])
    every = np.arange(-128, 128, dtype=np.int64)
    total = found.a_factor * every[:, None] + found.b_factor * every + found.offset
    result = np.clip(shift_right_half_even(total, shift) + found.zero_point, *limits)
    return found if np.array_equal(result, wanted) else None


def lower_dyadic(ctx: Lowering, node: Node, dyadic: Dyadic, limits: tuple[int, int]) -> None:
    """Append the call, over the whole tensors."""
    params = {"count": ctx.graph.type(node.outputs[0]).count, **asdict(dyadic), "act_min": limits[0], "act_max": limits[1]}
    whole = (i for i in (0, 1) if not ctx.graph.is_constant(node.inputs[i]))
    operands = [ctx.operand(name, flat=True) for name in node.inputs]
    kernel = Kernel("midge_dyadic_s8" if limits == (-128, 127) else "midge_dyadic_clamped_s8", "elementwise")
    ctx.call(node, kernel, params, operands, {}, flat=True, in_place=next(whole, None), splits=("count",))
