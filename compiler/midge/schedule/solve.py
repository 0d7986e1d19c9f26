# SPDX-License-Identifier: Apache-2.0
"""Problem -> Solution: an order of least peak, shaped so that it can be placed, and addresses that take no more than the peak where possible."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from midge.schedule.lifetimes import Item, make_items
from midge.schedule.placement import NO_LIMIT, WORK, Placer
from midge.schedule.problem import Problem, Solution
from midge.schedule.search import WIDE, WIDEST, Found, Report, Searcher, beam_order, best_order, first_order, shaped, small_order
from midge.schedule.tables import make_tables

STATES = 200_000
LARGE = 800  # tasks from which on the widest beam is worth its time


NEAR_PEAK = 0.97
EXACT = 1.01  # times the target, above which the constraint solver is asked
LITTLE_WORK, MOST_WORK = 5_000_000, 400_000_000  # pairs that first fit looks at
WORTH = 0.02  # what is above the target by less is given less work


@dataclass
class Attempt:
    """An order with its places."""

    order: list[int]
    items: list[Item]
    placer: Placer

    @property
    def arena(self) -> int:
        return self.placer.best.arena


def solve(problem: Problem, *, states: int = STATES, budget: int | None = None, quick: bool = False, progress: Report | None = None) -> Solution:
    """The schedule of the smallest arena that is found.

    states: how many the search may look at before it settles for a good order and a bound. budget: an arena of so many bytes is small enough.
    quick: only see whether a beam's order can be placed in `budget` with ease; if not, only the bound, of use, and the arena, NO_LIMIT, say so.
    progress: told (states, cap, bound, best) now and then; sizes in bytes. The result depends on nothing but the other arguments.

    Raises:
        IRError: the problem breaks its own rules, or no order of its tasks exists.
    """
    tables = make_tables(problem)
    searcher = Searcher(tables, states, progress)
    enough = (budget or 0) // tables.unit * tables.unit
    if quick:
        return trial(problem, searcher, enough)
    found = first_order(searcher)
    if found.peak * tables.unit <= enough:
        attempt = try_order(problem, found.order, found.peak * tables.unit, tables.unit)
        if attempt.arena <= enough:
            return solution(problem, searcher, found, attempt)
    found = best_order(searcher, found)
    target = max(found.peak * tables.unit, enough)
    return solution(problem, searcher, found, place_best(problem, searcher, found, target, MOST_WORK if budget is None else LITTLE_WORK))


def trial(problem: Problem, searcher: Searcher, enough: int) -> Solution:
    """A schedule within `enough` bytes if one is found at once."""
    unit = searcher.tables.unit
    found = small_order(searcher, enough // unit)
    if found.peak * unit <= enough:
        attempt = try_order(problem, found.order, found.peak * unit, unit)
        attempt.placer.thorough(LITTLE_WORK, enough)
        if attempt.arena <= enough:
            return solution(problem, searcher, first_order(searcher), attempt)
    return Solution((), (), (), NO_LIMIT, found.peak * unit, found.bound * unit)


def try_order(problem: Problem, order: list[int], target: int, unit: int) -> Attempt:
    items = make_items(problem, order)
    attempt = Attempt(order, items, Placer(items, target, unit))
    attempt.placer.quick()
    return attempt


def place_best(problem: Problem, searcher: Searcher, found: Found, target: int, most: int) -> Attempt:
    """The order that takes the smallest arena of all tried. The one that leaves the most room is given up to `most` pairs of work, the best of the others
    less, and what is left over goes to the constraint solver."""
    unit = searcher.tables.unit
    attempts: list[Attempt] = []
    early = [latest_first(searcher)] if problem.rows else []
    for order in (*early, *orders(searcher, found, target // unit)):
        attempts.append(try_order(problem, order, target, unit))
        if attempts[-1].arena <= target:
            return attempts[-1]
    gap = min(attempt.arena for attempt in attempts) / target - 1
    favourite, *others = sorted(attempts, key=lambda attempt: crowded(searcher, attempt.order, found.peak))
    others.sort(key=lambda attempt: attempt.arena)
    for attempt, work in zip((favourite, *others), (int(most * min(1.0, gap / WORTH)), min(most, WORK)), strict=False):
        attempt.placer.thorough(work)
        if attempt.arena <= target:
            return attempt
    best = min(attempts, key=lambda attempt: attempt.arena)
    if best.arena > target * EXACT and most > WORK:
        best.placer.exact()
    return best


def crowded(searcher: Searcher, order: list[int], peak: int) -> tuple[int, int]:
    """How many steps use nearly `peak` or more, and what all use together: the less, the more ways there are to place an order."""
    usage = searcher.engine.usage(searcher.start, order)
    return sum(use >= NEAR_PEAK * peak for use in usage), sum(usage)


def orders(searcher: Searcher, found: Found, enough: int) -> Iterator[list[int]]:
    """Different orders of the least peak, or of at most `enough`; those of beams keep little alive throughout and are often placed more easily."""
    seen = {tuple(found.order)}
    yield found.order
    order = shaped(searcher, found)
    if tuple(order) not in seen:
        seen.add(tuple(order))
        yield order
    for width in (WIDE, WIDEST) if searcher.tables.tasks >= LARGE else (WIDE,):
        for key in (searcher.floor, found.peak):
            order, peak = beam_order(searcher, key, width)
            if peak <= max(found.peak, enough) and tuple(order) not in seen:
                seen.add(tuple(order))
                yield order


def solution(problem: Problem, searcher: Searcher, found: Found, best: Attempt) -> Solution:
    usage = searcher.engine.usage(searcher.start, best.order)
    addresses, scratch = [-1] * len(problem.objects), [-1] * len(best.order)
    for item, address in zip(best.items, best.placer.best.addresses.tolist(), strict=True):
        for o, at in item.objects:
            addresses[o] = address + at
        if item.step >= 0:
            scratch[item.step] = address
    peak, unit = max(searcher.floor, max(usage, default=0)), searcher.tables.unit
    return Solution(
        order=tuple(best.order),
        addresses=tuple(addresses),
        scratch=tuple(scratch),
        arena=best.arena,
        peak=peak * unit,
        bound=found.bound * unit,
        binding=usage.index(peak) if peak in usage else -1,
        notes=found.notes,
    )


def latest_first(searcher: Searcher) -> list[int]:
    """The order that always runs the last chain that can run. Parts of a row, which keep their distances, come soon after each other in it."""
    tables = searcher.tables
    lengths, done, order = np.diff(tables.first), [0] * tables.chains, list[int]()

    def ready(c: int) -> bool:
        task = int(tables.first[c]) + done[c]
        pairs = tables.needs[tables.needs_at[task] : tables.needs_at[task + 1]].reshape(-1, 2).tolist()
        return all(done[other] >= count for other, count in pairs)

    while len(order) < tables.tasks:
        c = next(c for c in reversed(range(tables.chains)) if done[c] < lengths[c] and ready(c))
        done[c] += 1
        order.append(c)
    return order
