# SPDX-License-Identifier: Apache-2.0
"""Budgets of RAM, flash and cycles: where one cannot be met, ways out, each of them compiled to know what it saves.

A way out is a change of options. It is tried on the same Graph; its RAM is the arena that was planned, its flash what the target's compiler makes of the C
(or, where that is not installed, what tables say), its cycles an estimate. Ways that meet the budget come first, then the others, best first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from midge import changes
from midge.changes import Attempt, Way
from midge.codegen.c import emit
from midge.costs import load_code_sizes
from midge.costs.cycles import check_offered, estimate_cycles, load_factors, offered
from midge.errors import MidgeError, Unsupported, UsageError
from midge.lower import UNMEASURED
from midge.program import Program
from midge.report.needs import SHOWN, heaviest, peak, short
from midge.run.size import OPT, flash_of
from midge.targets import get_target


@dataclass(frozen=True)
class Tried:
    """What came of a way out."""

    name: str
    value: int
    note: str = ""


REBUILT = 6  # times that C is compiled for a budget of flash
Compile = Callable[[Attempt], Program]
Measure = Callable[[Attempt, Program], int]


def within(attempt: Attempt, compile: Compile) -> Program:
    """The Program of an attempt that keeps to all of its budgets.

    Raises: UsageError or Unsupported with ranked ways out if one cannot be met; whatever else `compile` raises.
    """
    if attempt.cycles is not None:
        check_offered(attempt.target.name)
    try:
        program = compile(attempt)
    except (UsageError, Unsupported) as error:
        flash, free = attempt.choice.flash, replace(attempt, choice=replace(attempt.choice, flash=None))
        if attempt.wish.ram is None and flash is None:
            raise
        small = _portable_within(flash, attempt, compile, []) if flash is not None and _compiles(free, compile) else None
        if small is None:
            raise type(error)(_explained(str(error), attempt, compile)) from None
        program = small
    if attempt.choice.flash is not None:
        program = _built_within(attempt.choice.flash, attempt, compile, program)
    if attempt.cycles is not None:
        found = estimate_cycles(program, attempt.choice.costs)
        if found.middle > attempt.cycles:
            raise Unsupported(_cycle_ways(f"--cycles {attempt.cycles}: the run takes {found}", attempt, compile, program))
    return program


def _built_within(flash: int, attempt: Attempt, compile: Compile, program: Program) -> Program:
    """The Program whose C, as the target's compiler builds it, keeps to the budget. What the tables of code say too little is taken off the room of the
    kernels, as far as that helps; at last there are only portable ones."""
    room, least = flash, list[int]()
    for _ in range(REBUILT):
        nbytes = flash_of(emit(program), attempt.target)
        if nbytes is None or nbytes <= flash:
            return program
        least.append(nbytes)
        room = min(room, by_tables(attempt, program)) - (nbytes - flash)
        try:
            program = compile(replace(attempt, choice=replace(attempt.choice, flash=room)))
        except (UsageError, Unsupported):
            break
    small = _portable_within(flash, attempt, compile, least)
    if small is not None:
        return small
    text = f"--flash {flash}: the least that was found is {min(least):,} bytes, as the compiler for {attempt.target.name} builds the C with {OPT}"
    raise Unsupported(_flash_ways(text, attempt, compile))


def _portable_within(flash: int, attempt: Attempt, compile: Compile, least: list[int]) -> Program | None:
    """The Program of portable kernels, None if its C is larger than the budget or such kernels are not wanted; how large it is, is added to `least`."""
    if attempt.choice.optimize == "size" or attempt.choice.require_fast:
        return None
    program = compile(changes.size(replace(attempt, choice=replace(attempt.choice, flash=None))))
    nbytes = flash_of(emit(program), attempt.target)
    least += [] if nbytes is None else [nbytes]
    return program if nbytes is not None and nbytes <= flash else None


def _explained(text: str, attempt: Attempt, compile: Compile) -> str:
    """Which of two budgets was too small: that of flash if its kernels are not even found, else that of RAM."""
    if attempt.choice.flash is not None and not _compiles(replace(attempt, wish=replace(attempt.wish, ram=None)), compile):
        return _flash_ways(text, attempt, compile)
    return _ram_ways(text, attempt, compile)


def _compiles(attempt: Attempt, compile: Compile) -> bool:
    try:
        compile(attempt)
    except (UsageError, Unsupported):
        return False
    return True


def _without_budgets(attempt: Attempt) -> Attempt:
    return replace(attempt, choice=replace(attempt.choice, flash=None), wish=replace(attempt.wish, ram=None), cycles=None)


def _ram_ways(text: str, attempt: Attempt, compile: Compile) -> str:
    budget = attempt.wish.ram or 0
    base = replace(attempt, wish=replace(attempt.wish, ram=None, least=True))
    program = compile(base)
    alone, together = changes.ports(attempt, program)
    ways = [Way("--optimize size, kernels with less scratch", changes.size)] if attempt.choice.optimize != "size" else []
    ways += [Way("--schedule rows", changes.by_rows)] if not attempt.wish.by_rows else []
    ways += [Way("no --stepwise", changes.not_stepwise)] if attempt.wish.stepwise else []
    window = changes.smaller_window(attempt)
    together += [replace(changes.joined(*alone, way), name=f"{changes.joined(*alone).name} and {way.name}") for way in window if alone]
    tried = _try([*ways, *alone, *changes.dead_channels(attempt), *window], base, compile, _arena)
    for way in together:  # each is one more compilation: only as far as needed
        least = min([program.arena_nbytes, *(other.value for other in tried)])
        if least <= budget:
            break
        tried += [found for found in _try([way], base, compile, _arena) if found.value < least]
    unit = "bytes with --optimize ram" if attempt.wish.by_rows else "bytes layer by layer"
    return "\n".join([text, peak(program), *_ranked(tried, program.arena_nbytes, budget, unit)])


def _flash_ways(text: str, attempt: Attempt, compile: Compile) -> str:
    budget, base = attempt.choice.flash or 0, _without_budgets(attempt)
    program = compile(base)
    how = "by the tables of code, as no compiler for the target is installed" if flash_of(emit(program), attempt.target) is None else f"measured with {OPT}"
    ways = [changes.PORTABLE] if attempt.choice.optimize != "size" else []
    ways += [Way("--schedule layers, which needs no tables of rows", lambda a: replace(a, wish=replace(a.wish, by_rows=False)))] if attempt.wish.by_rows else []
    ways += [Way("no --stepwise", changes.not_stepwise)] if attempt.wish.stepwise else []
    tried = _try([*ways, *changes.int4(attempt), *changes.dead_channels(attempt), *changes.smaller_window(attempt)], base, compile, _flash)
    for name, change in (("the C compiled with -Os", base), ("--optimize size, the C compiled with -Os", changes.size(base))):
        nbytes = flash_of(emit(compile(change)), attempt.target, "-Os")
        tried += [Tried(name, nbytes)] if nbytes is not None else []
    return "\n".join([text, heaviest(program), *_ranked(tried, _flash(base, program), budget, f"bytes of flash, {how}")])


def _cycle_ways(text: str, attempt: Attempt, compile: Compile, program: Program) -> str:
    budget, table = attempt.cycles or 0, attempt.choice.costs
    base = replace(attempt, cycles=None)
    before = estimate_cycles(program, table)
    ways = [
        Way(f"--optimize {name}", changes.optimize(name)) for name in {"size": ("balanced", "speed"), "balanced": ("speed",)}.get(attempt.choice.optimize, ())
    ]
    ways += [Way("no --ram", lambda a: replace(a, wish=replace(a.wish, ram=None)))] if attempt.wish.ram is not None else []
    ways += [Way("no --flash", lambda a: replace(a, choice=replace(a.choice, flash=None)))] if attempt.choice.flash is not None else []
    faster = [name for name in offered() if load_factors()[name].middle < load_factors()[attempt.target.name].middle]
    ways += [Way(f"--target {name}", changes.to_target(name)) for name in faster if get_target(name).features >= attempt.target.features]
    ways += [*changes.dead_channels(attempt), *changes.smaller_window(attempt)]
    tried = _try(ways, base, compile, lambda a, p: estimate_cycles(p, a.choice.costs).middle)
    largest = sorted(before.layers.items(), key=lambda item: -item[1])[:SHOWN]
    names = ", ".join(f"layer {i} '{short(program.layers[i].name)}' ({count / max(1, before.instructions):.0%})" for i, count in largest)
    return "\n".join([text, f"most of them in {names}", *_ranked(tried, before.middle, budget, "estimated cycles")])


def _try(ways: list[Way], base: Attempt, compile: Compile, measure: Measure) -> list[Tried]:
    """What each way needs; ways that do not compile are left out."""
    found = []
    for way in ways:
        changed = way.change(base)
        try:
            found.append(Tried(way.name, measure(changed, compile(changed)), way.note))
        except MidgeError:
            continue
    return found


def _arena(attempt: Attempt, program: Program) -> int:
    return program.arena_nbytes


def _flash(attempt: Attempt, program: Program) -> int:
    """Bytes as the target's compiler builds the C, or by the table of code where it is not installed."""
    measured = flash_of(emit(program), attempt.target)
    return by_tables(attempt, program) if measured is None else measured


def by_tables(attempt: Attempt, program: Program) -> int:
    """Bytes of constants, of kernels by the table of code, and of routines."""
    code = load_code_sizes(attempt.target.name)
    symbols = {symbol for call in program.calls for symbol in call.kernel.symbols(program.numerics)}
    routines = sum(4 * len(routine.lines) for routine in program.routines.values())
    return program.weight_nbytes + routines + sum(code.get(symbol, UNMEASURED) for symbol in symbols)


def _ranked(tried: list[Tried], before: int, budget: int, unit: str) -> list[str]:
    """The list for people: what meets the budget first, then what leaves the outputs as they are, then by what is needed; ways that save nothing at the end
    in one line."""
    useful = sorted((way for way in tried if way.value < before), key=lambda way: (way.value > budget, way.note != "", way.value))
    useless = [way.name for way in tried if way.value >= before]
    lines = [f"ways out, from {before:,} {unit}:"]
    for number, way in enumerate(useful, 1):
        fits = "fits" if way.value <= budget else f"{way.value - budget:,} too many"
        note = f"; {way.note}" if way.note else ""
        lines.append(f"  {number}. {way.name}: {way.value:,}, saves {before - way.value:,}; {fits}{note}")
    if not useful:
        lines = [f"no way out is known from {before:,} {unit}"]
    return [*lines, *([f"  tried, saves nothing: {'; '.join(useless)}"] if useless else [])]
