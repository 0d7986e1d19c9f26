# SPDX-License-Identifier: Apache-2.0
"""When each object of an ordered problem lives, as rigid items that have to be placed so that no two meet."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from midge.schedule.problem import Problem, Task
from midge.schedule.tables import Ints, as_ints, groups_of


@dataclass(frozen=True)
class Rect:
    """Bytes [at, at + nbytes) of an item, in use from step `first` to step `last`, both included."""

    first: int
    last: int
    at: int
    nbytes: int


@dataclass
class Item:
    """Rectangles that keep their distances: an object and those that take its place, a group, or the scratch of one step."""

    align: int
    rects: list[Rect] = field(default_factory=list)
    objects: list[tuple[int, int]] = field(default_factory=list)  # (object, where in the item)
    step: int = -1  # whose scratch this is
    tensor: bool = False  # more than a row, which is placed where it is least in the way

    @property
    def span(self) -> int:
        return max((rect.at + rect.nbytes for rect in self.rects), default=0)


def steps_of(problem: Problem, order: list[int]) -> list[Task]:
    """The tasks in their order."""
    done = [0] * len(problem.chains)
    steps = []
    for c in order:
        steps.append(problem.chains[c][done[c]])
        done[c] += 1
    return steps


def lives_of(problem: Problem, steps: list[Task]) -> list[tuple[int, int]]:
    """(first, last) step of every object; what is initial lives from step -1, what is final to the step after the last, and (0, -1) what never lives."""
    lives = [(0, -1)] * len(problem.objects)
    for o in problem.initial:
        lives[o] = -1, -1
    for index, task in enumerate(steps):
        for o in {*task.reads, *task.writes}:
            lives[o] = (lives[o][0] if lives[o] != (0, -1) else index), index
    for o in problem.final:
        lives[o] = lives[o][0], len(steps)
    return lives


def replaced(problem: Problem, steps: list[Task], lives: list[tuple[int, int]]) -> dict[int, int]:
    """Object -> the object whose place it takes."""
    found = {}
    for index, task in enumerate(steps):
        if task.in_place is None:
            continue
        new, old = task.in_place
        sound = problem.objects[new].group < 0 and problem.objects[old].group < 0 and problem.objects[new].nbytes <= problem.objects[old].nbytes
        if sound and lives[new][0] == index and lives[old][1] == index:
            found[new] = old
    return found


def make_items(problem: Problem, order: list[int]) -> list[Item]:
    steps = steps_of(problem, order)
    lives = lives_of(problem, steps)
    places = replaced(problem, steps, lives)
    items, owner = [], dict[int, Item]()
    for members in groups_of(problem).values():
        item = Item(math.lcm(*(problem.objects[o].align for o in members)))
        item.objects = [(o, problem.objects[o].at) for o in members]
        item.tensor = len({at for _, at in item.objects}) > 1 and problem.objects[members[0]].group not in problem.rows
        item.rects = [Rect(*lives[o], at, problem.objects[o].nbytes) for o, at in item.objects if lives[o] != (0, -1)]
        items.append(item)
    alone = [o for o, life in enumerate(lives) if problem.objects[o].group < 0 and life != (0, -1)]
    for o in sorted(alone, key=lambda o: (lives[o][0], o)):
        if o not in places:
            owner[o] = Item(1)
            items.append(owner[o])
        item = owner[o] = owner[places[o]] if o in places else owner[o]
        item.align = math.lcm(item.align, problem.objects[o].align)
        item.objects.append((o, 0))
        item.rects.append(Rect(lives[o][0] + (o in places), lives[o][1], 0, problem.objects[o].nbytes))
    for index, task in enumerate(steps):
        if task.scratch:
            items.append(Item(problem.scratch_align, [Rect(index, index, 0, task.scratch)], step=index))
    for item in items:
        item.rects = [rect for rect in item.rects if rect.last >= rect.first and rect.nbytes]
    return items


def conflicts_of(items: list[Item]) -> tuple[Ints, ...]:
    """The arguments of _first_fit.Conflicts: every pair of rectangles of different items that are in use at once."""
    flat = np.array([(i, r.first, r.last, r.at, r.nbytes) for i, item in enumerate(items) for r in item.rects], np.int32).reshape(-1, 5)
    owner, first, last, at, nbytes = flat.T
    found = []
    for index, item in enumerate(owner.tolist()):
        meets = np.nonzero((first <= last[index]) & (last >= first[index]) & (owner != item))[0]
        low, high = at[meets] - at[index] - nbytes[index], at[meets] + nbytes[meets] - at[index]
        found.append(np.stack([np.full(len(meets), item, np.int32), owner[meets], low, high]))
    table = np.concatenate(found, axis=1) if found else np.zeros((4, 0), np.int32)
    begin = np.searchsorted(table[0], np.arange(len(items) + 1)).astype(np.int32)
    columns = [np.ascontiguousarray(column, np.int32) for column in table[1:]]
    return begin, *columns, as_ints([item.align for item in items]), as_ints([item.span for item in items])
