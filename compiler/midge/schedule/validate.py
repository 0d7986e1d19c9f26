# SPDX-License-Identifier: Apache-2.0
"""Judges a Solution by running it on a table of occupied bytes. Shares no code with what found it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter

from midge.errors import IRError
from midge.schedule.problem import Problem, Solution, Task


def validate(problem: Problem, solution: Solution) -> None:
    """Raises IRError at the first thing wrong: an order against chains or reads, bytes that meet, alignment, groups, arena, peak, or bound."""
    steps = check_order(problem, solution)
    check_reads(problem, steps)
    check_addresses(problem, solution, steps)
    peak = Arena(problem, solution).run([task for _, _, task in steps])
    if solution.peak != max(peak, default=0):
        raise IRError(f"the peak is {max(peak, default=0)} bytes, not {solution.peak}")
    if not solution.bound <= solution.peak <= solution.arena:
        raise IRError(f"bound {solution.bound}, peak {solution.peak} and arena {solution.arena} do not rise")
    if solution.binding >= 0 and (solution.binding + 1 >= len(peak) or peak[solution.binding + 1] != solution.peak):
        raise IRError(f"step {solution.binding} does not use {solution.peak} bytes")


def check_order(problem: Problem, solution: Solution) -> list[tuple[int, int, Task]]:
    """(chain, position, task) of every step; each chain is run to its end and no further."""
    counts, steps = Counter[int](), []
    for c in solution.order:
        if not 0 <= c < len(problem.chains) or counts[c] >= len(problem.chains[c]):
            raise IRError(f"the order runs chain {c} too often")
        steps.append((c, counts[c], problem.chains[c][counts[c]]))
        counts[c] += 1
    short = [c for c, chain in enumerate(problem.chains) if counts[c] < len(chain)]
    if short:
        raise IRError(f"the order leaves tasks of chains {short[:5]} out")
    return steps


def check_reads(problem: Problem, steps: list[tuple[int, int, Task]]) -> None:
    """What a step reads has been written: by all that write it if it only reads, by all that do not read it themselves if it changes it."""
    pure, changes = Counter[int](), Counter[int]()  # writers still to come, of every object
    own: dict[int, Counter[tuple[int, int]]] = {0: Counter(), 1: Counter()}  # the same by (object, chain)
    for c, _, task in steps:
        for o in set(task.writes):
            (changes if o in task.reads else pure)[o] += 1
            own[o in task.reads][o, c] += 1
    filled = set(problem.initial)
    for index, (c, _, task) in enumerate(steps):
        for o in set(task.reads):
            waiting = pure[o] - own[0][o, c]
            if o not in task.writes:
                waiting += changes[o] - own[1][o, c]
            if waiting or o not in filled:
                raise IRError(f"step {index} of chain {c} reads object {o} before it is written")
        for o in set(task.writes):
            (changes if o in task.reads else pure)[o] -= 1
            own[o in task.reads][o, c] -= 1
        filled.update(task.writes)
    if not filled.issuperset(problem.final):
        raise IRError("a final object is never written")


def check_addresses(problem: Problem, solution: Solution, steps: list[tuple[int, int, Task]]) -> None:
    """Everything used has an aligned address, and groups keep their distances."""
    if len(solution.addresses) != len(problem.objects) or len(solution.scratch) != len(steps):
        raise IRError("the number of addresses differs from the number of objects or steps")
    used = {o for _, _, task in steps for o in (*task.reads, *task.writes)} | set(problem.initial) | set(problem.final)
    bases: dict[int, int] = {}
    for o, (item, address) in enumerate(zip(problem.objects, solution.addresses, strict=True)):
        if address < 0 and (o in used or address != -1):
            raise IRError(f"object {o} has the address {address}")
        if address >= 0 and address % item.align:
            raise IRError(f"object {o} lies at {address}, not a multiple of {item.align}")
        if address >= 0 and item.group >= 0 and bases.setdefault(item.group, address - item.at) != address - item.at:
            raise IRError(f"object {o} lies at {address}, apart from its group {item.group}")
    for index, ((_, _, task), address) in enumerate(zip(steps, solution.scratch, strict=True)):
        if (address < 0) != (not task.scratch) or address < -1 or (address >= 0 and address % problem.scratch_align):
            raise IRError(f"scratch of step {index} lies at {address}, {task.scratch} bytes aligned to {problem.scratch_align}")


class Arena:
    """The bytes in use, as intervals in order of address."""

    def __init__(self, problem: Problem, solution: Solution):
        self.problem, self.solution = problem, solution
        self.taken: list[tuple[int, int, int]] = []  # (begin, end, object, or -1 for scratch)
        self.unit = self.common_step()
        self.in_use = 0

    def common_step(self) -> int:
        """What divides every address: alignments of single objects, the largest of each group, that of scratch."""
        largest: dict[int, int] = {}
        for o, item in enumerate(self.problem.objects):
            key = item.group if item.group >= 0 else -2 - o
            largest[key] = math.lcm(largest.get(key, 1), item.align)
        scratch = [self.problem.scratch_align] if any(address >= 0 for address in self.solution.scratch) else []
        return math.gcd(*largest.values(), *scratch) if largest or scratch else 1

    def owned(self, o: int) -> int:
        """Bytes of the units whose first byte belongs to an object, or all of its units if it has no group."""
        item = self.problem.objects[o]
        if item.group < 0:
            return (item.nbytes + self.unit - 1) // self.unit * self.unit
        return sum(1 for byte in range(item.at, item.at + item.nbytes) if byte % self.unit == 0) * self.unit

    def enter(self, begin: int, nbytes: int, o: int, index: int) -> None:
        if begin + nbytes > self.solution.arena:
            raise IRError(f"step {index}: bytes {begin} to {begin + nbytes} are outside the arena of {self.solution.arena}")
        if not nbytes:
            return
        at = bisect_right(self.taken, (begin, 0, 0))
        near = self.taken[max(at - 1, 0) : at + 1]
        for other_begin, other_end, other in near:
            if begin < other_end and other_begin < begin + nbytes:
                raise IRError(f"step {index}: object {o} at {begin} meets object {other} at {other_begin}")
        self.taken.insert(at, (begin, begin + nbytes, o))

    def place(self, o: int, index: int) -> None:
        self.enter(self.solution.addresses[o], self.problem.objects[o].nbytes, o, index)

    def leave(self, o: int) -> None:
        self.taken = [entry for entry in self.taken if entry[2] != o]

    def run(self, steps: list[Task]) -> list[int]:
        """Bytes in use before the first step and at each."""
        left = Counter(o for task in steps for o in {*task.reads, *task.writes})
        final, there = set(self.problem.final), set(self.problem.initial)
        for o in sorted(there):
            self.place(o, -1)
        usage = [sum(self.owned(o) for o in there)]
        for o in [o for o in there if not left[o] and o not in final]:
            self.leave(o)
            there.remove(o)
        self.in_use = sum(self.owned(o) for o in there)
        for index, task in enumerate(steps):
            usage.append(self.step(index, task, left, there, final))
        usage.append(self.in_use)
        return usage

    def step(self, index: int, task: Task, left: Counter[int], there: set[int], final: set[int]) -> int:
        """One task: what it writes first appears, its scratch comes and goes, what nobody needs any more disappears. Bytes in use meanwhile."""
        for o in {*task.reads, *task.writes}:
            left[o] -= 1
        new, old = self.successor(task, left, there, final)
        saved = self.owned(new) if new >= 0 else 0
        late = new >= 0 and self.solution.addresses[new] == self.solution.addresses[old]
        for o in sorted(set(task.writes) - there):
            if o != new or not late:
                self.place(o, index)
            there.add(o)
            self.in_use += self.owned(o)
        if task.scratch:
            self.enter(self.solution.scratch[index], task.scratch, -1, index)
            self.leave(-1)
        most = self.in_use - saved + -(-task.scratch // self.unit) * self.unit
        for o in [o for o in {*task.reads, *task.writes} if not left[o] and o not in final]:
            if not (o == new and late):
                self.leave(o)
            there.remove(o)
            self.in_use -= self.owned(o)
        if late and new in there:
            self.place(new, index)
        return most

    def successor(self, task: Task, left: Counter[int], there: set[int], final: set[int]) -> tuple[int, int]:
        """The object that takes the place of one that dies with this task, and that one; (-1, -1) without."""
        if task.in_place is None:
            return -1, -1
        new, old = task.in_place
        items = self.problem.objects
        alone = items[new].group < 0 and items[old].group < 0
        fits = items[new].nbytes <= items[old].nbytes and new not in there and old in there
        return (new, old) if alone and fits and not left[old] and old not in final else (-1, -1)
