# SPDX-License-Identifier: Apache-2.0
"""Kernels under a budget of flash: the choice of one variant for each layer that executes the fewest instructions and fits.

    minimize   sum of instructions[layer, variant] * x[layer, variant]
    such that  sum over variants of x[layer, variant] = 1 for each layer
               y[unit] >= x[layer, variant] for each unit of code (a kernel, a routine) that the variant needs
               fixed + sum of nbytes[layer, variant] * x + sum of nbytes[unit] * y <= budget

A unit of code is paid once, however many layers share it. Solved to optimality as a mixed integer program by HiGHS.
"""

from __future__ import annotations

from dataclasses import dataclass

from midge.errors import ToolMissing, Unsupported


@dataclass(frozen=True)
class Candidate:
    """One variant for one layer: instructions, bytes of constants, and the units of code it needs."""

    name: str
    instructions: int
    nbytes: int
    units: frozenset[str]


@dataclass(frozen=True)
class Selection:
    """The chosen variant for each layer, what it executes and stores in all."""

    names: dict[int, str]
    instructions: int
    nbytes: int


def evaluate(layers: dict[int, list[Candidate]], code: dict[str, int], fixed: int, names: dict[int, str]) -> Selection:
    """Instructions and bytes of a choice."""
    taken = [next(c for c in layers[layer] if c.name == name) for layer, name in names.items()]
    units: set[str] = set().union(*(c.units for c in taken)) if taken else set()
    return Selection(names, sum(c.instructions for c in taken), fixed + sum(c.nbytes for c in taken) + sum(code[unit] for unit in units))


def select(layers: dict[int, list[Candidate]], code: dict[str, int], fixed: int, budget: int) -> Selection:
    """The best choice within `budget` bytes; `fixed` are the bytes that no choice changes.

    Raises: Unsupported with the least that would do if nothing fits, ToolMissing without the solver.
    """
    fastest = evaluate(layers, code, fixed, {layer: min(found, key=lambda c: (c.instructions, c.nbytes)).name for layer, found in layers.items()})
    if fastest.nbytes <= budget:
        return fastest
    smallest = _solve(layers, code, weight_bytes=1.0, weight_instructions=0.0, room=None)
    least = evaluate(layers, code, fixed, smallest)
    if least.nbytes > budget:
        raise Unsupported(f"--flash {budget}: the smallest choice of kernels needs {least.nbytes:,} bytes of code and constants")
    return evaluate(layers, code, fixed, _solve(layers, code, weight_bytes=0.0, weight_instructions=1.0, room=budget - fixed))


def _solve(layers: dict[int, list[Candidate]], code: dict[str, int], *, weight_bytes: float, weight_instructions: float, room: int | None) -> dict[int, str]:
    """Layer -> name of the variant that minimizes the weighted sum, within `room` bytes if given."""
    try:
        import highspy
    except ImportError:
        raise ToolMissing("--flash needs the solver HiGHS: pip install highspy") from None
    model = highspy.Highs()
    model.silent()
    model.setOptionValue("threads", 1)
    model.setOptionValue("mip_rel_gap", 0.0)
    units = sorted(set().union(*(c.units for found in layers.values() for c in found)))
    used = {unit: model.addBinary(obj=weight_bytes * code[unit]) for unit in units}
    taken = {}
    for layer, found in sorted(layers.items()):
        for c in found:
            taken[layer, c.name] = model.addBinary(obj=weight_bytes * c.nbytes + weight_instructions * c.instructions)
            for unit in sorted(c.units):
                model.addConstr(used[unit] >= taken[layer, c.name])
        model.addConstr(sum(taken[layer, c.name] for c in found) == 1)
    if room is not None:
        stored = sum(c.nbytes * taken[layer, c.name] for layer, found in sorted(layers.items()) for c in found)
        model.addConstr(stored + sum(code[unit] * used[unit] for unit in units) <= room)
    model.minimize()
    values = model.allVariableValues()
    return {layer: max(found, key=lambda c: values[taken[layer, c.name].index]).name for layer, found in layers.items()}
