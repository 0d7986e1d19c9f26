# SPDX-License-Identifier: Apache-2.0
"""Addresses for the items of an ordered problem: first fit in some orders, then in many, then what sticks out first, then a constraint solver."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from midge.schedule._first_fit import Conflicts
from midge.schedule.cpsat import place_exactly
from midge.schedule.lifetimes import Item, conflicts_of
from midge.schedule.tables import Ints

WORK = 60_000_000
"""Pairs looked at by first fit, about: so that the number of tries falls with the size of the problem."""
LEAST_TRIES, SHUFFLES, SQUEAKS, PATIENCE = 100, 300, 2000, 120
EFFORT = 0.04  # of the constraint solver, in its deterministic seconds
MOST_EXACT = 1000  # items; with more the constraint solver gets nowhere
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
        self.tries_left = max(LEAST_TRIES, WORK // (self.conflicts.pairs + 50 * len(items) + 1))
        self.random = random.Random(0)
        self.rigid = [i for i, item in enumerate(items) if len({at for _, at in item.objects}) > 1]
        self.orders = [sorted(range(len(items)), key=key) for key in sort_keys(items)]

    @property
    def done(self) -> bool:
        return self.best.arena <= self.target or self.tries_left <= 0

    def attempt(self, order: list[int], pins: tuple[int, ...] = (), tight: bool = False, whole: bool = False) -> Placed:
        """First fit; `pins` says for each rigid item: 0 in its turn, 1 first and lowest, 2 first and highest. `whole`: go on past the best found."""
        top = np.zeros(len(self.items), np.int32)
        ahead = [item for item, pin in zip(self.rigid, pins, strict=False) if pin]
        for item, pin in zip(self.rigid, pins, strict=False):
            top[item] = self.target if pin == 2 else 0
        sequence = ahead + [item for item in order if item not in ahead] if ahead else order
        self.tries_left -= 1
        addresses, arena = self.conflicts.first_fit(np.array(sequence, np.int32), top, tight, NO_LIMIT if whole else self.best.arena)
        if addresses is None:
            return self.best
        found = Placed(addresses, -(-arena // self.unit) * self.unit)
        if found.arena < self.best.arena:
            self.best = found
        return found

    def quick(self) -> None:
        """A few orders, each with the rigid items everywhere they may be."""
        for order in self.orders:
            for pins in self.all_pins():
                for tight in (False, True):
                    if self.done:
                        return
                    self.attempt(order, pins, tight)

    def thorough(self) -> None:
        """Orders near those, then what sticks out first."""
        for order in shuffles(self):
            if self.done:
                break
            self.attempt(order, self.random.choice(self.all_pins()), self.random.random() < 0.5)
        squeak(self)

    def exact(self) -> None:
        """The constraint solver."""
        if self.best.arena > self.target and len(self.items) <= MOST_EXACT:
            found = place_exactly(self.items, self.target, self.unit, self.best.addresses, self.best.arena, EFFORT)
            if found is not None and found[1] < self.best.arena:
                self.best = Placed(*found)

    def all_pins(self) -> list[tuple[int, ...]]:
        """Where the rigid items may be put first."""
        if not self.rigid:
            return [()]
        others = len(self.rigid) - 1
        return [(1, *[2] * others), (2, *[1] * others), tuple([0] * (others + 1)), (1, *[0] * others), (2, *[0] * others)]


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


def shuffles(placer: Placer) -> Iterator[list[int]]:
    """Orders near the given ones."""
    for _ in range(SHUFFLES):
        order, width = placer.random.choice(placer.orders), placer.random.random() * 0.5 * len(placer.items)
        place_in = {item: at + placer.random.random() * placer.random.random() * width for at, item in enumerate(order)}
        yield sorted(order, key=place_in.__getitem__)


def squeak(placer: Placer) -> None:
    """Move what sticks out of the target forward in the order, again and again."""
    count, orders, stalled, turn = len(placer.items), placer.orders, 0, 0
    rank = np.empty(count)
    rank[orders[0]] = np.arange(count)
    spans = np.array([item.span for item in placer.items])
    for _ in range(SQUEAKS):
        if placer.done:
            return
        before = placer.best.arena
        found = placer.attempt(np.argsort(rank, kind="stable").tolist(), placer.random.choice(placer.all_pins()), whole=True)
        stalled = 0 if placer.best.arena < before else stalled + 1
        for item in np.nonzero(found.addresses + spans > placer.target)[0].tolist():
            rank[item] -= placer.random.random() * 0.3 * count + 1
        for _ in range(placer.random.randint(0, 3)):
            rank[placer.random.randrange(count)] += (placer.random.random() - 0.5) * 0.2 * count
        if stalled > PATIENCE:
            stalled, turn = 0, turn + 1
            rank[orders[turn % len(orders)]] = np.arange(count)
