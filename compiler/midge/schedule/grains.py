# SPDX-License-Identifier: Apache-2.0
"""How many rows the steps of a call compute: its grain."""

from __future__ import annotations

from dataclasses import replace

from midge.program import Call

Grain = int | tuple[int, ...]  # rows of every step, but for the last, or of each
WHOLE = 0  # the grain of a call that runs in one step, as it was lowered
MOST_NATURAL = 4  # rows; kernels that take more pair pixels across rows and lose nothing with two


def natural_grain(call: Call) -> int:
    """The rows that a kernel takes at once, or two if that may be many: the fewest that cost no more instructions a row than more of them, or than twice as
    many where each more saves a little (Call.units)."""
    if call.units:
        return call.block // len(call.units)
    return call.block if call.block <= MOST_NATURAL else 2


def parts(grain: Grain, rows: int) -> tuple[int, ...]:
    """Rows of each step."""
    if isinstance(grain, tuple):
        return grain
    grain = grain or rows
    return tuple(min(grain, rows - first) for first in range(0, rows, grain))


def fitted(call: Call, grain: Grain) -> Call:
    """A call whose kernel takes units of rows, with the scratch that its longest step needs; any other as it is."""
    if not call.units or grain == WHOLE:
        return call
    unit = call.block // len(call.units)
    count = min(len(call.units), -(-max(parts(grain, call.rows)) // unit))
    return replace(call, block=count * unit, units=call.units[:count], scratch_nbytes=call.units[count - 1])
