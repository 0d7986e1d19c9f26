# SPDX-License-Identifier: Apache-2.0
"""Problem -> Solution: an order of least peak, shaped so that it can be placed, and addresses that take no more than the peak where possible."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from midge.schedule.lifetimes import Item, make_items
from midge.schedule.placement import Placer
from midge.schedule.problem import Problem, Solution
from midge.schedule.search import WIDE, WIDEST, Found, Report, Searcher, beam_order, best_order, first_order, shaped
from midge.schedule.tables import make_tables

STATES = 200_000
LARGE = 800  # tasks from which on the widest beam is worth its time


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
    quick: only the order of the beam and first fit in a few orders; for trials whose failure costs nothing but a chance.
    progress: told (states, cap, bound, best) now and then; sizes in bytes. The result depends on nothing but the other arguments.

    Raises:
        IRError: the problem breaks its own rules, or no order of its tasks exists.
    """
    tables = make_tables(problem)
    searcher = Searcher(tables, states, progress)
    found = first_order(searcher)
    enough = (budget or 0) // tables.unit * tables.unit
    if found.peak * tables.unit <= enough or quick:
        attempt = try_order(problem, found.order, found.peak * tables.unit, tables.unit)
        if attempt.arena <= enough or quick:
            return solution(problem, searcher, found, attempt)
    found = best_order(searcher, found)
    target = max(found.peak * tables.unit, enough)
    return solution(problem, searcher, found, place_best(problem, searcher, found, target))


def try_order(problem: Problem, order: list[int], target: int, unit: int) -> Attempt:
    items = make_items(problem, order)
    attempt = Attempt(order, items, Placer(items, target, unit))
    attempt.placer.quick()
    return attempt


def place_best(problem: Problem, searcher: Searcher, found: Found, target: int) -> Attempt:
    """The order that takes the smallest arena of all tried; the best two are given more time, and the best of those to the constraint solver."""
    unit = searcher.tables.unit
    attempts: list[Attempt] = []
    for order in orders(searcher, found, target // unit):
        attempts.append(try_order(problem, order, target, unit))
        if attempts[-1].arena <= target:
            return attempts[-1]
    attempts.sort(key=lambda attempt: attempt.arena)
    for attempt in attempts[:2]:
        attempt.placer.thorough()
        if attempt.arena <= target:
            return attempt
    best = min(attempts, key=lambda attempt: attempt.arena)
    best.placer.exact()
    return best


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
