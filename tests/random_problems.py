# SPDX-License-Identifier: Apache-2.0
"""Small random scheduling problems, and the least peak of a problem by looking at every set of tasks that can be done."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field

from midge.schedule.problem import Object, Problem, Task


@dataclass
class Rows:
    """What a chain leaves behind for others: its rows, or one object for all of them."""

    objects: list[int]
    nbytes: int


@dataclass
class Maker:
    """A problem in the making. Sizes are arbitrary bytes, rounded up only by the alignment."""

    dice: random.Random
    align: int
    objects: list[Object] = field(default_factory=list)
    chains: list[tuple[Task, ...]] = field(default_factory=list)
    tensors: list[Rows] = field(default_factory=list)
    initial: list[int] = field(default_factory=list)

    def new(self, nbytes: int) -> int:
        self.objects.append(Object(nbytes, self.align))
        return len(self.objects) - 1

    def rows(self, count: int, nbytes: int) -> Rows:
        return Rows([self.new(nbytes) for _ in range(count)], nbytes)

    def scratch(self) -> int:
        return self.dice.choice([0, 0, 0, self.dice.randint(1, 9)])

    def start(self, resident: bool) -> None:
        """The input: a group that is there, rows a chain brings, or objects that are there each on its own."""
        count, nbytes = self.dice.randint(3, 6), self.dice.randint(1, 9)
        if resident and self.dice.random() < 0.7:
            for y in range(count):
                self.objects.append(Object(nbytes, self.align if y == 0 else 1, group=0, at=y * nbytes))
            rows = Rows(list(range(count)), nbytes)
        else:
            rows = self.rows(count, nbytes)
        if resident:
            self.initial += rows.objects
        else:
            self.chains.append(tuple(Task((), (o,)) for o in rows.objects))
        self.tensors.append(rows)

    def window(self, source: Rows) -> None:
        """Like a convolution: each row reads a window of rows."""
        height = len(source.objects)
        taps, stride = self.dice.choice([1, 2, 3, 3]), self.dice.choice([1, 1, 2])
        before = self.dice.randint(0, taps // 2)
        count = max(1, -(-height // stride) - self.dice.randint(0, 1))
        out = self.rows(count, self.dice.randint(1, 12))
        scratch = self.scratch()
        spans = [range(max(0, min(y * stride - before, height - 1)), max(1, min(height, y * stride - before + taps))) for y in range(count)]
        self.chains.append(tuple(Task(tuple(source.objects[r] for r in span), (o,), scratch) for span, o in zip(spans, out.objects, strict=True)))
        self.tensors.append(out)

    def elementwise(self, source: Rows) -> None:
        """Row by row, in place where a row dies; of two tensors if there is another of that height."""
        height = len(source.objects)
        others = [t for t in self.tensors if len(t.objects) == height and t is not source]
        operands = [source] + ([self.dice.choice(others)] if others and self.dice.random() < 0.7 else [])
        out = self.rows(height, source.nbytes if self.dice.random() < 0.7 else self.dice.randint(1, 10))
        into = self.dice.choice(operands)
        tasks = []
        for y, o in enumerate(out.objects):
            tasks.append(Task(tuple(t.objects[y] for t in operands), (o,), self.scratch(), in_place=(o, into.objects[y])))
        self.chains.append(tuple(tasks))
        self.tensors.append(out)

    def reduction(self, source: Rows) -> None:
        """An accumulator that every row changes; the last task may put the result in its place."""
        total, out = self.new(self.dice.randint(1, 16)), self.new(self.dice.randint(1, 6))
        last = len(source.objects) - 1
        tasks = [Task((row, total) if y else (row,), (total,)) for y, row in enumerate(source.objects)]
        tasks[last:] = [Task((source.objects[last], *([total] if last else [])), (out,), in_place=(out, total) if last else None)]
        self.chains.append(tuple(tasks))
        self.tensors.append(Rows([out], self.objects[out].nbytes))

    def whole(self, source: Rows) -> None:
        """One object that is written row by row, by one chain or two; whoever reads it waits for all of it."""
        out = self.new(self.dice.randint(2, 20))
        tasks = tuple(Task((row,), (out,), self.scratch()) for row in source.objects)
        self.chains.append(tasks)
        if self.dice.random() < 0.4:
            other = self.dice.choice(self.tensors)
            self.chains.append(tuple(Task((row,), (out,)) for row in other.objects[:3]))
        if self.dice.random() < 0.3:
            self.chains.append((Task((out,), (out,), self.scratch()),))
        self.tensors.append(Rows([out], self.objects[out].nbytes))


def random_problem(seed: int) -> Problem:
    dice = random.Random(seed)
    maker = Maker(dice, dice.choice([1, 1, 2, 4]))
    maker.start(dice.random() < 0.5)
    for _ in range(dice.randint(2, 4)):
        source = maker.tensors[-1] if dice.random() < 0.7 else dice.choice(maker.tensors)
        dice.choice([maker.window, maker.window, maker.window, maker.elementwise, maker.elementwise, maker.reduction, maker.whole])(source)
    final = list(maker.tensors[-1].objects)
    read = {o for chain in maker.chains for task in chain for o in task.reads}
    if dice.random() < 0.5:
        final += [o for t in maker.tensors for o in t.objects if o not in read and o not in final]
    if dice.random() < 0.1:
        final += [o for o in maker.initial if o not in final]
    return Problem(tuple(maker.objects), tuple(maker.chains), tuple(maker.initial), tuple(final), scratch_align=maker.align)


class States:
    """The definition of problem.py, word for word and slowly."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.initial, self.final = set(problem.initial), set(problem.final)
        self.uses = [[(c, k, o in t.reads, o in t.writes) for c, ch in enumerate(problem.chains) for k, t in enumerate(ch) if o in t.reads + t.writes]
                     for o in range(len(problem.objects))]  # fmt: skip
        aligns = [item.align for item in problem.objects if item.group < 0]
        aligns += [math.lcm(*(i.align for i in problem.objects if i.group >= 0))] if any(i.group >= 0 for i in problem.objects) else []
        aligns += [problem.scratch_align] if any(t.scratch for ch in problem.chains for t in ch) else []
        self.unit = math.gcd(*aligns)
        self.size = [self.rounded(item) for item in problem.objects]

    def rounded(self, item: Object) -> int:
        if item.group >= 0:
            return self.unit * sum(b % self.unit == 0 for b in range(item.at, item.at + item.nbytes))
        return -(-item.nbytes // self.unit) * self.unit

    def there(self, o: int, done: tuple[int, ...]) -> bool:
        written = o in self.initial or any(w and k < done[c] for c, k, _, w in self.uses[o])
        return written and self.wanted(o, done)

    def wanted(self, o: int, done: tuple[int, ...]) -> bool:
        return o in self.final or any(k >= done[c] for c, k, _, _ in self.uses[o])

    def alive(self, done: tuple[int, ...]) -> int:
        return sum(size for o, size in enumerate(self.size) if self.there(o, done))

    def can_run(self, c: int, done: tuple[int, ...]) -> bool:
        if done[c] == len(self.problem.chains[c]):
            return False
        task = self.problem.chains[c][done[c]]
        for o in task.reads:
            for d, k, reads, writes in self.uses[o]:
                if writes and d != c and k >= done[d] and not (reads and o in task.writes):
                    return False
        return True

    def while_running(self, c: int, done: tuple[int, ...]) -> int:
        task = self.problem.chains[c][done[c]]
        after = (*done[:c], done[c] + 1, *done[c + 1 :])
        born = [o for o in task.writes if o not in self.initial and not any(w and k < done[d] for d, k, _, w in self.uses[o])]
        use = self.alive(done) + sum(self.size[o] for o in born) + -(-task.scratch // self.unit) * self.unit
        if task.in_place and task.in_place[0] in born:
            new, old = (self.problem.objects[o] for o in task.in_place)
            if new.nbytes <= old.nbytes and new.group < 0 and old.group < 0 and not self.wanted(task.in_place[1], after):
                use -= self.size[task.in_place[0]]
        return use


def least_peak(problem: Problem) -> int:
    """The least peak of all orders: every reachable set of tasks, cheapest first."""
    states = States(problem)
    start, end = (0,) * len(problem.chains), tuple(len(chain) for chain in problem.chains)
    waiting = [(sum(states.size[o] for o in problem.initial), start)]
    closed: set[tuple[int, ...]] = set()
    while waiting:
        peak, done = heapq.heappop(waiting)
        if done == end:
            return peak
        if done in closed:
            continue
        closed.add(done)
        for c in range(len(end)):
            if states.can_run(c, done):
                heapq.heappush(waiting, (max(peak, states.while_running(c, done)), (*done[:c], done[c] + 1, *done[c + 1 :])))
    raise AssertionError("no order exists")
