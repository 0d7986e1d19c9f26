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

from midge.schedule import _search
from midge.schedule.bound import lower_bound
from midge.schedule.tables import Tables

NARROW, WIDE = 16, 64  # states for each number of tasks done
CUTS = 1 << 30
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
        self.floor = max(int(tables.weight[tables.initial > 0].sum()), int(tables.weight[tables.final > 0].sum()))

    def complete(self, order: list[int]) -> list[int]:
        """The order with the tasks of lazy chains that nobody asked for."""
        lengths = np.diff(self.tables.first) - np.bincount(np.asarray(order, np.int64), minlength=self.tables.chains)
        return order + np.repeat(np.arange(self.tables.chains), lengths).tolist()

    def usage_by_task(self, order: list[int]) -> np.ndarray:
        """What is in use at each task, by its number."""
        place = np.argsort(np.asarray(order), kind="stable")  # tasks of one chain stand in their order
        return np.asarray(self.engine.usage(self.start, order), np.int64)[place]

    def told(self, bound: int, best: int) -> Callable[[int, int], None] | None:
        unit, report, cap = self.tables.unit, self.report, self.cap
        return None if report is None else lambda states, key: report(states, cap, max(bound, key) * unit, best * unit)


def find_order(searcher: Searcher) -> Found:
    """The order of least peak, or, if the cap on states is reached, a good one and a bound."""
    engine, start = searcher.engine, searcher.start
    order, _ = engine_beam(searcher, searcher.floor, NARROW)
    peak = max(searcher.floor, max(engine.usage(start, order), default=0))
    bound, every = lower_bound(searcher.tables, searcher.usage_by_task(order), searcher.floor, CUTS)
    notes = () if every else ("the bound is from a part of the tasks",)
    if peak == bound:
        return Found(order, peak, bound, 0, notes)
    better, key, states, done = _search.best_first(engine, start, bound, peak, searcher.cap, searcher.told(bound, peak))
    if better is not None:
        return Found(searcher.complete(better), key, key, states)
    if done:
        return Found(order, peak, peak, states)
    bound = max(bound, key)
    wide, _ = engine_beam(searcher, bound, WIDE)
    wide_peak = max(engine.usage(start, wide))
    order, peak = (wide, wide_peak) if wide_peak < peak else (order, peak)
    return Found(order, peak, bound, states, (*notes, f"the search ended at {searcher.cap} states"))


def engine_beam(searcher: Searcher, key: int, width: int) -> tuple[list[int], int]:
    order, key = _search.beam(searcher.engine, searcher.start, key, width, None)
    return searcher.complete(order), key


def shaped(searcher: Searcher, found: Found) -> list[int]:
    """An order of the same peak with little in use elsewhere: keep the path up to its bottleneck, solve again behind it."""
    engine, state = searcher.engine, searcher.start[:]
    order: list[int] = []
    cap = max(1000, searcher.cap // 10)
    while True:
        rest, _, _, _ = _search.best_first(engine, state, 0, found.peak + 1, cap)
        if rest is None:
            rest, key = _search.beam(engine, state, 0, NARROW)
            if key > found.peak:
                rest, _, _, _ = _search.best_first(engine, state, found.peak, found.peak + 1, cap)
            if rest is None:
                return found.order
        if not rest:
            return searcher.complete(order)
        usage = engine.usage(state, rest)
        cut = usage.index(max(usage)) + 1
        order += rest[:cut]
        for c in rest[:cut]:
            state[c] += 1
