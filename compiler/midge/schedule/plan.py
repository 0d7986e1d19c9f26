# SPDX-License-Identifier: Apache-2.0
"""How many rows a step computes: from whole tensors, which need the most RAM, to single rows, which need the least.

A grain is the rows of a step. Kernels that compute several rows at once cost nothing more by rows, if the grain is what they take; the natural plan uses
those grains, and longer steps of kernels that gain a little with each row more, for a little RAM. The least plan uses single rows, or two of kernels that
take as long for one, then coarsens whatever does not raise its arena. Only a budget that this does not fit in has single rows everywhere. A plan between
them has the largest grains that a budget allows. Layers at the end of a network are small: as many of them as may run at once do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from midge.errors import UsageError
from midge.program import Call, Memory, Program
from midge.schedule.certify import certify
from midge.schedule.grains import WHOLE, Grain, fitted, natural_grain, parts
from midge.schedule.memories import divide
from midge.schedule.problem import Solution
from midge.schedule.rows import Rows, apply_solution, make_rows, split
from midge.schedule.solve import solve
from midge.schedule.views import take_views

Progress = Callable[[int, int, int, int], None]
_solved = lru_cache(maxsize=64)(solve)  # different choices of kernels often lead to the same problem
HARDLY = 12  # the part of an arena that longer steps may cost


@dataclass(frozen=True)
class Wish:
    """What is asked of a plan. least: the least RAM, else the least that costs no time. ram: at most so many bytes. stream: rows of the input are pushed.
    hand_out: rows of the outputs are given to the caller as they come. stepwise: a run may be cut into steps. by_rows: False for operator by operator.
    memories: where the arena is and what else there is. views: what only moves bytes is left out where that can be."""

    least: bool = False
    ram: int | None = None
    stream: bool = False
    stepwise: bool = False
    by_rows: bool = True
    memories: tuple[Memory, ...] = ()
    hand_out: bool = False
    views: bool = True


@dataclass(frozen=True)
class Plan:
    """Grains by call, the calls they are for, and the schedule that was found for them."""

    grains: tuple[Grain, ...]
    calls: tuple[Call, ...]
    rows: Rows
    solution: Solution

    @property
    def arena(self) -> int:
        return self.solution.arena


def place(program: Program, wish: Wish | None = None, progress: Progress | None = None) -> Program:
    """Schedule `program` in place, have the result certified, and return it.

    Raises: UsageError if no plan fits in wish.ram.
    """
    wish = wish or Wish()
    adopt(program, choose(Planner(program, wish, progress)), wish.memories)
    return program


def adopt(program: Program, plan: Plan, memories: tuple[Memory, ...] = ()) -> None:
    """Make a plan the Program's."""
    program.calls = list(plan.calls)
    apply_solution(program, plan.rows, plan.solution)
    if memories:
        divide(program, plan.rows, plan.solution, memories)
    certify(program)


def choose(planner: Planner) -> Plan:
    """The plan that a wish asks for."""
    wish = planner.wish
    if wish.least and wish.by_rows and wish.ram is None:
        return planner.least()
    whole = planner.whole()
    if not wish.by_rows:
        if wish.ram is not None and whole.arena > wish.ram:
            raise UsageError(f"--ram {wish.ram}: layer by layer the arena has {whole.arena} bytes")
        return whole
    natural = planner.natural()
    if not wish.least and (wish.ram is None or natural.arena <= wish.ram):
        return natural if natural.arena < whole.arena else whole
    if not wish.least and wish.ram is not None and whole.arena <= wish.ram:
        return whole
    least = planner.least()
    if wish.ram is not None and least.arena > wish.ram:
        least = planner.least(single=True)
    if wish.ram is not None and least.arena > wish.ram:
        raise UsageError(f"--ram {wish.ram}: the least that was found is {least.arena} bytes (no schedule needs less than {least.solution.bound})")
    return least if wish.least else planner.coarsened(least, wish.ram or least.arena)


class Planner:
    """Plans of one Program."""

    def __init__(self, program: Program, wish: Wish, progress: Progress | None = None) -> None:
        self.program, self.wish, self.progress = program, wish, progress
        if wish.views:
            take_views(program)
        self.calls = list(program.calls)

    def plan(self, grains: Sequence[Grain], budget: int | None = None, quick: bool = True) -> Plan:
        """Schedule with these grains; with `budget` only try whether they do with an arena of so many bytes, `quick` without much of a search."""
        calls = [fitted(split(call), grain) if grain != WHOLE else call for call, grain in zip(self.calls, grains, strict=True)]
        trial = replace(self.program, calls=calls)
        rows = make_rows(trial, grains, stream=self.wish.stream, stateful=self.wish.stepwise, hand_out=self.wish.hand_out)
        return Plan(tuple(grains), tuple(calls), rows, _solved(rows.problem, budget=budget, quick=quick and budget is not None, progress=self.progress))

    def whole(self) -> Plan:
        """Operator by operator."""
        return self.plan([WHOLE] * len(self.calls))

    def natural(self) -> Plan:
        """Rows as kernels take them, layers at the end at once, and longer steps where they save time for hardly any RAM."""
        plan = self.with_tail(self.plan([natural_grain(call) for call in self.calls]))
        budget = plan.arena + plan.arena // HARDLY
        longer = self.joined(plan, budget if self.wish.ram is None else min(budget, max(plan.arena, self.wish.ram)), thorough=True)
        return longer if longer.grains == plan.grains else min(longer, self.plan(longer.grains), key=lambda each: each.arena)

    def least(self, single: bool = False) -> Plan:
        """The fewest rows that kernels should take, or `single` ones, and what may be coarser in the same arena."""
        plan = self.plan([1 if single else call.least for call in self.calls])
        return self.coarsened(plan, plan.arena)

    def coarsened(self, plan: Plan, budget: int) -> Plan:
        """The plan with larger grains where an arena of `budget` bytes allows them: layers at the end, then kernels that take several rows."""
        plan = self.with_tail(plan, budget)
        for index, call in enumerate(self.calls):
            natural = natural_grain(call)
            if plan.grains[index] not in (WHOLE, natural):
                tried = self.plan([natural if i == index else grain for i, grain in enumerate(plan.grains)], budget)
                plan = tried if tried.arena <= budget else plan
        return self.joined(plan, budget)

    def joined(self, plan: Plan, budget: int, thorough: bool = False) -> Plan:
        """The plan with longer steps of kernels that compute more rows in less time each, as long as an arena of `budget` bytes allows, from the first
        step of a call to where none longer does."""
        for index, call in enumerate(self.calls):
            if call.units:
                plan = self.lengthened(plan, index, natural_grain(call), budget, thorough)
        return plan

    def lengthened(self, plan: Plan, index: int, unit: int, budget: int, thorough: bool) -> Plan:
        """The plan with the steps of one call as long as that: all of them, or one after the other."""
        call, grain, done = self.calls[index], plan.grains[index], tuple[int, ...]()
        if not isinstance(grain, int) or grain == WHOLE or call.block <= max(unit, grain):
            return plan
        tried = self.trial(plan, index, parts(call.block, call.rows), budget, True)
        if tried.arena <= budget:
            return tried
        while (left := call.rows - sum(done)) > max(unit, grain):
            for count in range(min(call.block, -(-left // unit) * unit), max(unit, grain), -unit):
                taken = (*done, min(count, left))
                tried = self.trial(plan, index, (*taken, *parts(grain, call.rows - sum(taken))), budget, thorough)
                if tried.arena <= budget:
                    plan, done = tried, taken
                    break
            else:
                break
        return plan

    def trial(self, plan: Plan, index: int, grain: Grain, budget: int, thorough: bool) -> Plan:
        """The plan with another grain of one call; `thorough` if there is hope after a quick look."""
        grains = [*plan.grains[:index], grain, *plan.grains[index + 1 :]]
        tried = self.plan(grains, budget)
        return self.plan(grains, budget, quick=False) if thorough and tried.solution.bound <= budget < tried.arena else tried

    def with_tail(self, plan: Plan, budget: int | None = None) -> Plan:
        """The plan with as many calls from the end run at once as its arena allows."""
        freely = budget is None
        budget, low, high = budget or plan.arena, 0, len(self.calls)  # `low` calls fit
        while low < high:
            count = (low + high + 1) // 2
            tried = self.plan([*plan.grains[: len(self.calls) - count], *[WHOLE] * count], budget)
            if tried.arena <= budget:
                low, plan = count, tried
                budget = tried.arena if freely else budget
            else:
                high = count - 1
        return plan
