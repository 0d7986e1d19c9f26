# SPDX-License-Identifier: Apache-2.0
"""Problem -> Solution: an order of least peak, shaped so that it can be placed, and addresses that take no more than the peak where possible."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from midge.schedule.lifetimes import Item, make_items
from midge.schedule.placement import Placed, place
from midge.schedule.problem import Problem, Solution
from midge.schedule.search import Found, Report, Searcher, find_order, shaped
from midge.schedule.tables import make_tables

STATES = 50_000


@dataclass
class Attempt:
    """An order with its places."""

    order: list[int]
    items: list[Item]
    placed: Placed


def solve(problem: Problem, *, states: int = STATES, budget: int | None = None, progress: Report | None = None) -> Solution:
    """The schedule of the smallest arena that is found.

    states: how many the search may look at before it settles for a good order and a bound. budget: an arena of so many bytes is small enough.
    progress: told (states, cap, bound, best) now and then; sizes in bytes. The result depends on nothing but the arguments.

    Raises:
        IRError: the problem breaks its own rules, or no order of its tasks exists.
    """
    tables = make_tables(problem)
    searcher = Searcher(tables, states, progress)
    found = find_order(searcher)
    unit = tables.unit
    target = max(found.peak * unit, (budget or 0) // unit * unit)
    best: Attempt | None = None
    for order in orders(searcher, found):
        items = make_items(problem, order)
        attempt = Attempt(order, items, place(items, target, unit))
        best = attempt if best is None or attempt.placed.arena < best.placed.arena else best
        if best.placed.arena <= target:
            break
    assert best is not None
    return solution(problem, searcher, found, best)


def orders(searcher: Searcher, found: Found) -> Iterator[list[int]]:
    """Orders of the same peak, the one most likely to be placed first."""
    yield found.order
    yield shaped(searcher, found)


def solution(problem: Problem, searcher: Searcher, found: Found, best: Attempt) -> Solution:
    usage = searcher.engine.usage(searcher.start, best.order)
    addresses, scratch = [-1] * len(problem.objects), [-1] * len(best.order)
    for item, address in zip(best.items, best.placed.addresses.tolist(), strict=True):
        for o, at in item.objects:
            addresses[o] = address + at
        if item.step >= 0:
            scratch[item.step] = address
    peak, unit = max(searcher.floor, max(usage, default=0)), searcher.tables.unit
    return Solution(
        order=tuple(best.order),
        addresses=tuple(addresses),
        scratch=tuple(scratch),
        arena=best.placed.arena,
        peak=peak * unit,
        bound=found.bound * unit,
        binding=usage.index(peak) if peak in usage else -1,
        notes=found.notes,
    )
