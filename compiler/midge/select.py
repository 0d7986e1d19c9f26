# SPDX-License-Identifier: Apache-2.0
"""Kernels under a budget of flash: the choice of one variant for each layer that executes the fewest instructions and fits.

    minimize   sum of instructions[layer, variant] * x[layer, variant]
    such that  sum over variants of x[layer, variant] = 1 for each layer
               y[unit] >= x[layer, variant] for each kernel that the variant needs
               y[routine] + sum over its others of y[other] >= x[layer, variant] for each routine of the variant
               y[routine] <= sum of x[layer, variant] over the variants whose own routine it is
               fixed + sum of nbytes[layer, variant] * x + sum of nbytes[unit] * y <= flash
               sum of nbytes[layer, variant] * x <= stored

A unit of code, a kernel or a routine, is paid once, however many layers share it. Solved to proven optimality by CP-SAT, in integers.
"""

from __future__ import annotations

from dataclasses import dataclass

from midge.errors import IRError, Unsupported


@dataclass(frozen=True)
class Candidate:
    """One variant for one layer: instructions, bytes of constants, and the units of code it needs; of each of its routines the own one, and others that
    stand in for it if some layer has one of them, as midge.program.Routine tells."""

    name: str
    instructions: int
    nbytes: int
    units: frozenset[str]
    routines: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Selection:
    """The chosen variant for each layer, what it executes and stores in all."""

    names: dict[int, str]
    instructions: int
    nbytes: int


def evaluate(layers: dict[int, list[Candidate]], code: dict[str, int], fixed: int, names: dict[int, str]) -> Selection:
    """Instructions and bytes of a choice."""
    taken = [next(c for c in layers[layer] if c.name == name) for layer, name in names.items()]
    own = {routine[0] for c in taken for routine in c.routines}
    shared = {next((other for other in routine[1:] if other in own), routine[0]) for c in taken for routine in c.routines}
    units: set[str] = shared.union(*(c.units for c in taken))
    return Selection(names, sum(c.instructions for c in taken), fixed + sum(c.nbytes for c in taken) + sum(code[unit] for unit in units))


def select(layers: dict[int, list[Candidate]], code: dict[str, int], fixed: int, flash: int | None, stored: int | None = None) -> Selection:
    """The best choice with all bytes within `flash` and the layers' constants within `stored`; `fixed` are the bytes that no choice changes.

    Raises: Unsupported with the least that would do if nothing fits.
    """

    def fits(choice: Selection) -> bool:
        constants = sum(next(c.nbytes for c in layers[layer] if c.name == name) for layer, name in choice.names.items())
        return (flash is None or choice.nbytes <= flash) and (stored is None or constants <= stored)

    fastest = evaluate(layers, code, fixed, {layer: min(found, key=lambda c: (c.instructions, c.nbytes)).name for layer, found in layers.items()})
    if fits(fastest):
        return fastest
    if flash is not None:
        least = evaluate(layers, code, fixed, _solve(layers, code, 1, 0, None, stored))
        if least.nbytes > flash:
            raise Unsupported(f"--flash {flash}: the smallest choice of kernels needs {least.nbytes:,} bytes of code and constants")
    return evaluate(layers, code, fixed, _solve(layers, code, 0, 1, None if flash is None else flash - fixed, stored))


def _solve(
    layers: dict[int, list[Candidate]], code: dict[str, int], per_byte: int, per_instruction: int, room: int | None, stored: int | None
) -> dict[int, str]:
    """Layer -> name of the variant that minimizes the weighted sum, with code and constants within `room` and constants within `stored`."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    offered = [c for found in layers.values() for c in found]
    units = sorted({unit for c in offered for unit in (*c.units, *(routine[0] for routine in c.routines))})
    used = {unit: model.new_bool_var(unit) for unit in units}
    taken = {(layer, c.name): model.new_bool_var(f"{layer} {c.name}") for layer, found in sorted(layers.items()) for c in found}
    for layer, found in sorted(layers.items()):
        model.add_exactly_one(taken[layer, c.name] for c in found)
        for c in found:
            for unit in sorted(c.units):
                model.add_implication(taken[layer, c.name], used[unit])
            for routine in c.routines:
                model.add_bool_or(used[unit] for unit in routine if unit in used).only_enforce_if(taken[layer, c.name])
    for own in sorted({routine[0] for c in offered for routine in c.routines}):
        owners = [taken[layer, c.name] for layer, found in sorted(layers.items()) for c in found if own in [routine[0] for routine in c.routines]]
        model.add_bool_or(owners).only_enforce_if(used[own])
    all_of = [(c, taken[layer, c.name]) for layer, found in sorted(layers.items()) for c in found]
    constants = sum(c.nbytes * variable for c, variable in all_of)
    code_nbytes = sum(code[unit] * used[unit] for unit in units)
    if room is not None:
        model.add(constants + code_nbytes <= room)
    if stored is not None:
        model.add(constants <= stored)
    model.minimize(per_byte * (constants + code_nbytes) + per_instruction * sum(c.instructions * variable for c, variable in all_of))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers, solver.parameters.random_seed = 1, 0
    if solver.solve(model) != cp_model.OPTIMAL:
        raise IRError("the choice of kernels was not solved")
    return {layer: next(c.name for c in found if solver.value(taken[layer, c.name])) for layer, found in layers.items()}
