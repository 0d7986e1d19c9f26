# SPDX-License-Identifier: Apache-2.0
"""A Problem as flat arrays of numbers, which bound, search and placement read; and the checks that it is sound.

Sizes are weights in units of `unit` bytes, the alignment that all addresses share. An object that is placed on its own owns every unit it touches; one of
a group owns the units whose first byte is its own. No unit has two owners, so the sum of the weights alive is a lower bound of the arena.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midge.errors import IRError
from midge.schedule.problem import Problem, Task

NEVER = 1 << 30
"""Position in a chain of something that it does not do."""
LONGEST_CHAIN, MOST_WEIGHT = 0xFFFF, 2**30
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Tables:
    """Tasks are numbered chain by chain: task i of chain c is `first[c] + i`. Lists per task or object are cut from one array by their `_at`.

    touched: objects a task reads or writes. written: those it writes. needs: (chain, count) pairs, tasks of other chains that must be done before, given
    where they exceed what the chain's earlier tasks needed. uses: (chain, first write, last use + 1) triples of an object, by position in the chain.
    in_place: (written, read) of each task or (-1, -1). lazy: 1 for a chain without reads and scratch, whose tasks are run when a reader needs them.
    """

    unit: int
    first: Ints
    touched_at: Ints
    touched: Ints
    written_at: Ints
    written: Ints
    needs_at: Ints
    needs: Ints
    uses_at: Ints
    uses: Ints
    weight: Ints
    scratch: Ints
    initial: Ints
    final: Ints
    in_place: Ints
    lazy: Ints

    @property
    def chains(self) -> int:
        return len(self.first) - 1

    @property
    def tasks(self) -> int:
        return int(self.first[-1])

    def chain_of(self) -> Ints:
        """The chain of every task."""
        return np.repeat(np.arange(self.chains, dtype=np.int32), np.diff(self.first))


def make_tables(problem: Problem) -> Tables:
    """Raises IRError if the problem breaks its own rules or no order of its tasks exists."""
    check_objects(problem)
    unit = shared_align(problem)
    tasks = [task for chain in problem.chains for task in chain]
    uses = object_uses(problem)
    first = np.cumsum([0] + [len(chain) for chain in problem.chains])
    touched_at, touched = cut([sorted({*task.reads, *task.writes}) for task in tasks])
    written_at, written = cut([sorted(set(task.writes)) for task in tasks])
    needs_at, needs = cut([[n for pair in row for n in pair] for row in task_needs(problem)])
    uses_at, use_list = cut([[n for c, (w, last) in sorted(o.items()) for n in (c, w, last + 1)] for o in uses])
    marks = np.zeros((2, len(problem.objects)), np.int32)
    marks[0, list(problem.initial)], marks[1, list(problem.final)] = 1, 1
    weight = as_ints([weight_of(problem, o, unit) for o in range(len(problem.objects))])
    tables = Tables(
        unit=unit,
        first=as_ints(first),
        touched_at=touched_at,
        touched=touched,
        written_at=written_at,
        written=written,
        needs_at=needs_at,
        needs=needs,
        uses_at=uses_at,
        uses=use_list,
        weight=weight,
        scratch=as_ints([-(-task.scratch // unit) for task in tasks]),
        initial=marks[0],
        final=marks[1],
        in_place=as_ints([usable_in_place(problem, task) for task in tasks]).reshape(-1, 2),
        lazy=lazy_chains(problem, weight),
    )
    check_order_exists(tables)
    if max((len(chain) for chain in problem.chains), default=0) > LONGEST_CHAIN or weight.sum(dtype=np.int64) > MOST_WEIGHT:
        raise IRError(f"chains of more than {LONGEST_CHAIN} tasks, or objects of more than {MOST_WEIGHT} units together, are not offered")
    return tables


def as_ints(values: Any) -> Ints:
    return np.ascontiguousarray(values, dtype=np.int32)


def cut(rows: list[list[int]]) -> tuple[Ints, Ints]:
    """Rows of different lengths as (where each begins and the last ends, all of them)."""
    return as_ints(np.cumsum([0] + [len(row) for row in rows])), as_ints([n for row in rows for n in row])


def groups_of(problem: Problem) -> dict[int, list[int]]:
    """The objects of each group."""
    groups = defaultdict(list)
    for index, item in enumerate(problem.objects):
        if item.group >= 0:
            groups[item.group].append(index)
    return dict(groups)


def group_aligns(problem: Problem) -> dict[int, int]:
    """Alignment of each group's address: the largest of its objects."""
    return {group: math.lcm(*(problem.objects[o].align for o in members)) for group, members in groups_of(problem).items()}


def shared_align(problem: Problem) -> int:
    """The largest number that divides every address: of objects on their own, of groups, of scratch."""
    aligns = [item.align for item in problem.objects if item.group < 0] + list(group_aligns(problem).values())
    if any(task.scratch for chain in problem.chains for task in chain):
        aligns.append(problem.scratch_align)
    return math.gcd(*aligns) if aligns else 1


def weight_of(problem: Problem, index: int, unit: int) -> int:
    item = problem.objects[index]
    at = item.at if item.group >= 0 else 0
    return -(-(at + item.nbytes) // unit) - -(-at // unit)


def check_objects(problem: Problem) -> None:
    """Sizes, alignments, places in groups, and that every task's objects exist."""
    count, aligns = len(problem.objects), group_aligns(problem)
    for index, item in enumerate(problem.objects):
        if item.nbytes < 0 or item.align < 1 or item.at < 0:
            raise IRError(f"object {index} has nbytes {item.nbytes}, align {item.align}, at {item.at}")
        if item.group >= 0 and (item.at % item.align or aligns[item.group] % item.align):
            raise IRError(f"object {index} lies at {item.at} of group {item.group}, not a multiple of its alignment {item.align}")
    used = {o for chain in problem.chains for task in chain for o in (*task.reads, *task.writes, *(task.in_place or ()))}
    wrong = sorted(o for o in used | {*problem.initial, *problem.final} if not 0 <= o < count)
    if wrong:
        raise IRError(f"objects {wrong[:5]} do not exist, there are {count}")
    if any(task.scratch < 0 for chain in problem.chains for task in chain) or problem.scratch_align < 1:
        raise IRError("negative scratch or scratch alignment below 1")
    written = {o for chain in problem.chains for task in chain for o in task.writes} | set(problem.initial)
    missing = sorted((used | set(problem.final)) - written)
    if missing:
        raise IRError(f"objects {missing[:5]} are read or final, but nothing writes them")


def object_uses(problem: Problem) -> list[dict[int, tuple[int, int]]]:
    """Per object, chain -> (position of its first write or NEVER, position of its last use)."""
    uses: list[dict[int, tuple[int, int]]] = [{} for _ in problem.objects]
    for c, chain in enumerate(problem.chains):
        for position, task in enumerate(chain):
            for o in {*task.reads, *task.writes}:
                begun = uses[o].get(c, (NEVER, 0))[0]
                uses[o][c] = (min(begun, position) if o in task.writes else begun, position)
    return uses


def task_needs(problem: Problem) -> list[list[tuple[int, int]]]:
    """Per task, (chain, tasks of it that must be done before), where that is more than the chain's earlier tasks needed.

    A task that only reads an object needs every writer of it in other chains; one that changes it, those writers that do not read it.
    """
    last: list[dict[int, tuple[int, int]]] = [{} for _ in problem.objects]  # chain -> tasks up to the last that (writes, writes without reading)
    for c, chain in enumerate(problem.chains):
        for position, task in enumerate(chain):
            for o in task.writes:
                last[o][c] = (position + 1, last[o].get(c, (0, 0))[1] if o in task.reads else position + 1)
    rows = []
    for c, chain in enumerate(problem.chains):
        reached: dict[int, int] = {}
        for task in chain:
            wanted: dict[int, int] = {}
            for o in task.reads:
                for other, counts in last[o].items():
                    count = counts[o in task.writes]
                    if other != c and count > reached.get(other, 0):
                        wanted[other] = reached[other] = count
            rows.append(sorted(wanted.items()))
    check_own_reads(problem, last)
    return rows


def check_own_reads(problem: Problem, last: list[dict[int, tuple[int, int]]]) -> None:
    """What a task reads is there at the start, is written by another chain, or was written earlier in its own."""
    initial = set(problem.initial)
    for c, chain in enumerate(problem.chains):
        done = set(initial)
        for position, task in enumerate(chain):
            for o in task.reads:
                if o not in done and last[o].keys() <= {c}:
                    raise IRError(f"task {position} of chain {c} reads object {o} before its own chain writes it")
            done.update(task.writes)


def usable_in_place(problem: Problem, task: Task) -> tuple[int, int]:
    """The task's in_place if sizes, groups and uses permit it at all."""
    if task.in_place is None:
        return -1, -1
    written, read = task.in_place
    if written not in task.writes or written in task.reads or read not in task.reads or read in task.writes:
        raise IRError(f"in_place ({written}, {read}) is not a pair of an object only written and one only read by its task")
    new, old = problem.objects[written], problem.objects[read]
    if new.nbytes > old.nbytes or new.group >= 0 or old.group >= 0 or read in problem.final or written in problem.initial:
        return -1, -1
    return written, read


def lazy_chains(problem: Problem, weight: Ints) -> Ints:
    """1 for each chain whose tasks only ever add to what is alive: running one earlier than a reader needs it gains nothing.

    An object that nobody reads passes through; that is no worse later if as much is added, and kept, by a later task of the chain.
    """
    kept = {o for chain in problem.chains for task in chain for o in task.reads} | set(problem.final)
    lazy = []
    for chain in problem.chains:
        passing = 0
        for task in chain:
            size = sum(int(weight[o]) for o in set(task.writes))
            if not kept.issuperset(task.writes):
                passing = max(passing, size)
            elif size >= passing:
                passing = 0
        lazy.append(passing == 0 and not any(task.reads or task.scratch for task in chain))
    return as_ints(lazy)


def check_order_exists(tables: Tables) -> None:
    """Runs whatever can run until nothing can."""
    done = [0] * tables.chains
    waiting: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def blocked(c: int) -> Iterable[tuple[int, int]]:
        task = int(tables.first[c]) + done[c]
        pairs = tables.needs[tables.needs_at[task] : tables.needs_at[task + 1]].reshape(-1, 2).tolist()
        return [(other, count) for other, count in pairs if done[other] < count]

    ready = list(range(tables.chains))
    while ready:
        c = ready.pop()
        while done[c] < tables.first[c + 1] - tables.first[c]:
            missing = next(iter(blocked(c)), None)
            if missing is not None:
                waiting[missing[0]].append((c, missing[1]))
                break
            done[c] += 1
            ready += [other for other, count in waiting[c] if count <= done[c]]
            waiting[c] = [(other, count) for other, count in waiting[c] if count > done[c]]
    stuck = [c for c in range(tables.chains) if done[c] < tables.first[c + 1] - tables.first[c]]
    if stuck:
        raise IRError(f"chains {stuck[:5]} wait for each other: no order of the tasks exists")
