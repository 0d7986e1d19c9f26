# SPDX-License-Identifier: Apache-2.0
"""Orders of least peak: a beam for a good one, minimum cuts for a bound, and a best-first search between the two.

A state is the number of tasks each chain has done; its key is the most bytes in use on the best way to it. States are looked at by key, least first, so
the key of the first complete one is the least peak of all orders, and at any time the least key still open is a bound. Two rules make this quick:

- A task that fits under the key and leaves no more bytes alive than before is run at once. An order that runs it later has at least as much alive in
  every state between, as m is submodular, and its tasks then add no less: with x moved to the front no step needs more.
- A chain that reads nothing and needs no scratch only ever adds bytes; its tasks are run when a task that needs them is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midge.schedule import _search
from midge.schedule.bound import lower_bound
from midge.schedule.tables import Tables

NARROW, WIDE, WIDEST = 16, 64, 256  # states for each number of tasks done
CUTS = 2000  # tasks whose minimum cut is sought, at most
Report = Callable[[int, int, int, int], None]
"""Told (states, cap, bound, best) now and then; sizes in bytes."""


@dataclass
class Found:
    """An order, its peak and a bound, in units; `proven`: no order has a lower peak."""

    order: list[int]
    peak: int
    bound: int
    states: int
    notes: tuple[str, ...] = ()

    @property
    def proven(self) -> bool:
        return self.peak == self.bound


class Searcher:
    """The engine of a problem, and what is asked of it."""

    def __init__(self, tables: Tables, cap: int, report: Report | None):
        self.tables, self.cap, self.report = tables, cap, report
        self.engine = _search.Engine(tables)
        self.start = [0] * tables.chains
        self.beams: dict[tuple[int, int], tuple[list[int], int]] = {}  # by key and width
        self.floor = max(int(tables.weight[tables.initial > 0].sum()), int(tables.weight[tables.final > 0].sum()))

    def complete(self, order: list[int]) -> list[int]:
        """The order with the tasks of lazy chains that nobody asked for."""
        lengths = np.diff(self.tables.first) - np.bincount(np.asarray(order, np.int64), minlength=self.tables.chains)
        return order + np.repeat(np.arange(self.tables.chains), lengths).tolist()

    def usage_by_task(self, order: list[int]) -> NDArray[np.int64]:
        """What is in use at each task, by its number."""
        place = np.argsort(np.asarray(order), kind="stable")  # tasks of one chain stand in their order
        return np.asarray(self.engine.usage(self.start, order), np.int64)[place]

    def told(self, bound: int, best: int) -> Callable[[int, int], None] | None:
        unit, report, cap = self.tables.unit, self.report, self.cap
        return None if report is None else lambda states, key: report(states, cap, max(bound, key) * unit, best * unit)


def beam_order(searcher: Searcher, key: int, width: int) -> tuple[list[int], int]:
    """(order, its peak) from a beam search that takes `key` to be free."""
    if (key, width) not in searcher.beams:
        order = searcher.complete(_search.beam(searcher.engine, searcher.start, key, width)[0])
        searcher.beams[key, width] = order, max(searcher.floor, max(searcher.engine.usage(searcher.start, order), default=0))
    return searcher.beams[key, width]


def small_order(searcher: Searcher, enough: int) -> Found:
    """An order of beams and some bound; the wider beam only if the first found none of at most `enough` and the bound by cuts allows one."""
    order, peak = beam_order(searcher, searcher.floor, NARROW)
    if peak <= enough:
        return Found(order, peak, searcher.floor, 0)
    bound, _ = lower_bound(searcher.tables, searcher.usage_by_task(order), searcher.floor, CUTS, enough)
    if bound <= enough:
        order, peak = min((order, peak), beam_order(searcher, searcher.floor, WIDE), key=lambda pair: pair[1])
    return Found(order, peak, bound, 0)


def first_order(searcher: Searcher) -> Found:
    """A quick order and the bound by cuts."""
    order, peak = beam_order(searcher, searcher.floor, NARROW)
    bound, every = lower_bound(searcher.tables, searcher.usage_by_task(order), searcher.floor, CUTS)
    if peak > bound:
        wider, wider_peak = beam_order(searcher, searcher.floor, WIDE)
        order, peak = (wider, wider_peak) if wider_peak < peak else (order, peak)
    return Found(order, peak, bound, 0, () if every else (f"the bound is from {CUTS} of {searcher.tables.tasks} tasks",))


def best_order(searcher: Searcher, found: Found) -> Found:
    """The order of least peak, or, if the cap on states is reached, a good one and a bound."""
    engine, start, peak, bound = searcher.engine, searcher.start, found.peak, found.bound
    if found.proven:
        return found
    better, key, states, every = _search.best_first(engine, start, bound, peak, searcher.cap, searcher.told(bound, peak))
    if better is not None:
        return Found(searcher.complete(better), key, key, states)
    if every:
        return Found(found.order, peak, peak, states)
    bound = max(bound, key)
    wide, wide_peak = min((beam_order(searcher, key, WIDEST) for key in (searcher.floor, bound)), key=lambda pair: pair[1])
    order, peak = (wide, wide_peak) if wide_peak < peak else (found.order, peak)
    return Found(order, peak, bound, states, (*found.notes, f"the search ended at {searcher.cap} states"))


def shaped(searcher: Searcher, found: Found) -> list[int]:
    """An order of the same peak with little in use elsewhere: keep the path up to its bottleneck, solve again behind it."""
    engine, state, left = searcher.engine, searcher.start[:], searcher.cap
    order: list[int] = []
    while True:
        rest, _, states, _ = _search.best_first(engine, state, 0, found.peak + 1, left)
        left = max(1000, left - states // 4)
        if rest is None:
            rest, key = _search.beam(engine, state, 0, WIDE)
            if key > found.peak:
                rest, _, _, _ = _search.best_first(engine, state, found.peak, found.peak + 1, left)
            if rest is None:
                return found.order
        if not rest:
            return searcher.complete(order)
        usage = engine.usage(state, rest)
        cut = usage.index(max(usage)) + 1
        order += rest[:cut]
        for c in rest[:cut]:
            state[c] += 1
