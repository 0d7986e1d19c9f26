# SPDX-License-Identifier: Apache-2.0
"""Addresses for the items of an ordered problem: first fit in some orders, then what sticks out first on several grids, then a constraint
solver."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from midge.schedule._first_fit import Conflicts
from midge.schedule.cpsat import place_exactly
from midge.schedule.lifetimes import Item, conflicts_of
from midge.schedule.tables import Ints, as_ints

WORK = 60_000_000  # pairs that first fit looks at: the number of tries falls with the size of the problem
LEAST_WORK = 50_000  # what a try counts for at least
PATIENCE = 120  # tries that bring nothing before another start is made
ODDS = 8, 1  # one in so many tries that made it worse is followed up
EFFORT = 0.02  # of the constraint solver, in its deterministic seconds
MOST_EXACT = 500  # items; with more the constraint solver gets nowhere
COMMON = 8  # a grid is of use if one in so many items may lie on it
NO_LIMIT = 2**31 - 1


@dataclass
class Placed:
    """Addresses of the items, and the bytes that this takes."""

    addresses: Ints
    arena: int


class Placer:
    """Tries on one set of items, the best of them kept."""

    def __init__(self, items: list[Item], target: int, unit: int):
        self.items, self.target, self.unit = items, target, unit
        self.conflicts = Conflicts(*conflicts_of(items))
        self.best = Placed(np.zeros(len(items), np.int32), NO_LIMIT)
        self.turn = 0
        self.rigid = [i for i, item in enumerate(items) if item.tensor]
        self.orders = [as_ints(sorted(range(len(items)), key=key)) for key in sort_keys(items)]
        self.aligns = [as_ints([item.align for item in items])]

    @property
    def done(self) -> bool:
        return self.best.arena <= self.target

    def keep(self, addresses: Ints, arena: int) -> None:
        arena = -(-arena // self.unit) * self.unit
        if arena < self.best.arena:
            self.best = Placed(addresses, arena)

    def quick(self) -> None:
        """A few orders, each with the rigid items everywhere they may be."""
        for order in self.orders:
            for top in self.ways():
                ahead = top[order] >= 0
                sequence = np.concatenate([order[ahead], order[~ahead]])
                for tight in (False, True):
                    if self.done:
                        return
                    addresses, arena = self.conflicts.first_fit(sequence, top, self.aligns[0], tight, self.best.arena)
                    if addresses is not None:
                        self.keep(addresses, arena)

    def thorough(self, work: int = WORK, enough: int = 0) -> None:
        """What sticks out first, on one grid and from one order after the other, until an arena of `enough` bytes or about `work` pairs were looked at."""
        if len(self.aligns) == 1:
            self.aligns += grids(self.items, self.unit)
        ways, target = np.stack(self.ways()), max(self.target, enough)
        while work > 0 and self.best.arena > target:
            start, grid = divmod(self.turn, len(self.aligns))
            order, odds = self.orders[start % len(self.orders)], ODDS[start % len(ODDS)]
            addresses, arena, tries = self.conflicts.squeak(order, ways, self.aligns[grid], target, odds, PATIENCE, self.turn)
            self.keep(addresses, arena)
            self.turn, work = self.turn + 1, work - max(1, tries) * max(LEAST_WORK, self.conflicts.pairs + 50 * len(self.items))

    def exact(self) -> None:
        """The constraint solver."""
        if not self.done and len(self.items) <= MOST_EXACT:
            found = place_exactly(self.items, self.target, self.unit, self.best.addresses, self.best.arena, EFFORT)
            if found is not None:
                self.keep(*found)

    def ways(self) -> list[Ints]:
        """Where the rigid items may be put first: for each item -1 for in its turn, 0 for the lowest, else the height to stay below."""
        found, all_others = [], self.rigid[1:]
        high = self.target
        for one, others in ((0, high), (high, 0), (-1, -1), (0, -1), (high, -1)) if self.rigid else ((-1, -1),):
            top = np.full(len(self.items), -1, np.int32)
            top[self.rigid[:1]], top[all_others] = one, others
            found.append(top)
        return found


def grids(items: list[Item], unit: int) -> list[Ints]:
    """Coarser alignments. Where the arena is full, everything lies at a sum of sizes, so at a multiple of what divides them all; to look only there helps."""
    divisors = [math.gcd(*(n for rect in item.rects for n in (rect.at, rect.nbytes))) for item in items]
    sizes = Counter(rect.nbytes for item in items for rect in item.rects)
    found: dict[tuple[int, ...], None] = {}
    for grid in sorted({math.gcd(one, other) for one in sizes for other in sizes}, reverse=True):
        aligns = tuple(grid if n and n % grid == 0 and grid % item.align == 0 else item.align for item, n in zip(items, divisors, strict=True))
        if grid > unit and COMMON * aligns.count(grid) >= len(items):
            found[aligns] = None
    return [as_ints(aligns) for aligns in found]


def sort_keys(items: list[Item]) -> list[Callable[[int], tuple[int, ...]]]:
    first = [min((r.first for r in item.rects), default=0) for item in items]
    last = [max((r.last for r in item.rects), default=0) for item in items]
    size = [max((r.nbytes for r in item.rects), default=0) for item in items]
    area = [sum(r.nbytes * (r.last - r.first + 1) for r in item.rects) for item in items]
    return [
        lambda i: (-size[i], first[i]),
        lambda i: (first[i], -size[i]),
        lambda i: (first[i] - last[i], -size[i]),
        lambda i: (-area[i], first[i]),
        lambda i: (-size[i], first[i] - last[i]),
        lambda i: (-last[i], -size[i]),
        lambda i: (first[i], -last[i]),
    ]
