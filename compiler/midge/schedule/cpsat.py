# SPDX-License-Identifier: Apache-2.0
"""Placement by constraint solving: no two rectangles of (steps x addresses) overlap. The last resort of placement.py."""

from __future__ import annotations

import math

import numpy as np

from midge.schedule.lifetimes import Item
from midge.schedule.tables import Ints


def place_exactly(items: list[Item], target: int, unit: int, hint: Ints, arena: int, effort: float) -> tuple[Ints, int] | None:
    """Addresses and arena below `arena`, at best `target`; None if none is found within `effort`, in deterministic seconds of CP-SAT.

    hint: addresses that take `arena` bytes. All sizes in bytes; addresses are sought in multiples of what divides all sizes, places and alignments.
    """
    from ortools.sat.python import cp_model  # slow to import, and seldom needed

    grain = math.gcd(unit, *(n for item in items for rect in item.rects for n in (rect.at, rect.nbytes)))
    top = (arena - unit) // grain
    model = cp_model.CpModel()
    height = model.new_int_var(target // grain, top, "height")
    times, spaces, starts = [], [], []
    for index, item in enumerate(items):
        step = item.align // math.gcd(item.align, grain)
        start = model.new_int_var(0, max(0, (top - item.span // grain) // step), f"a{index}")
        model.add_hint(start, int(hint[index]) // grain // step)
        starts.append(start * (step * grain))
        for rect in item.rects:
            begin = start * step + rect.at // grain
            times.append(model.new_fixed_size_interval_var(rect.first, rect.last - rect.first + 1, ""))
            spaces.append(model.new_interval_var(begin, rect.nbytes // grain, begin + rect.nbytes // grain, ""))
            model.add(begin + rect.nbytes // grain <= height)
    model.add_no_overlap_2d(times, spaces)
    model.add_cumulative(times, [rect.nbytes // grain for item in items for rect in item.rects], height)
    model.minimize(height)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = effort
    solver.parameters.use_timetabling_in_no_overlap_2d = True
    solver.parameters.use_energetic_reasoning_in_no_overlap_2d = True
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    found = np.array([solver.value(start) for start in starts], np.int32)
    used = max(int(address) + item.span for address, item in zip(found, items, strict=True))
    return found, -(-used // unit) * unit
