# SPDX-License-Identifier: Apache-2.0
"""A lower bound of the peak: at some moment task t runs, and the cheapest state in which it can run is a minimum cut.

A state S puts tasks on the source's side. An object costs its weight if a writer of it is in S and not every task that touches it is: an arc of that
capacity from the writer to a node of the object, and unlimited arcs from there to each chain's last use. Chains and reads are unlimited arcs from a
task to what it needs. That what t needs is in S and t is not are unlimited arcs too. The bound is the largest of these minima, each with what t adds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ortools.graph.python import max_flow

from midge.schedule.tables import NEVER, Tables


@dataclass
class CutGraph:
    """The network; nodes are the tasks, then the source, the sink, and the objects. Arcs to force a task in or out have no capacity until they are used."""

    tables: Tables
    flow: max_flow.SimpleMaxFlow
    force_in: list[int]
    force_out: list[int]
    unlimited: int

    def cheapest(self, inside: set[int], outside: int) -> int:
        """The least weight alive in a state with the tasks `inside` done and the task `outside` not."""
        arcs = [self.force_in[task] for task in inside] + [self.force_out[outside]]
        for arc in arcs:
            self.flow.set_arc_capacity(arc, self.unlimited)
        status = self.flow.solve(self.tables.tasks, self.tables.tasks + 1)
        assert status == self.flow.OPTIMAL, status
        for arc in arcs:
            self.flow.set_arc_capacity(arc, 0)
        return int(self.flow.optimal_flow())


def make_graph(tables: Tables) -> CutGraph:
    flow, tasks = max_flow.SimpleMaxFlow(), tables.tasks
    source, sink, node = tasks, tasks + 1, tasks + 2
    unlimited = int(tables.weight.sum(dtype=np.int64)) + 1
    for task, c in enumerate(tables.chain_of().tolist()):
        if task > tables.first[c]:
            flow.add_arc_with_capacity(task, task - 1, unlimited)
        for other, count in needs_of(tables, task):
            flow.add_arc_with_capacity(task, int(tables.first[other]) + count - 1, unlimited)
    for o, weight in enumerate(tables.weight.tolist()):
        uses = uses_of(tables, o)
        writers = [int(tables.first[c]) + write for c, write, _ in uses if write != NEVER]
        begin = source if tables.initial[o] else writers[0] if len(writers) == 1 else node + 1
        if begin == node + 1:
            for writer in writers:
                flow.add_arc_with_capacity(writer, begin, unlimited)
        flow.add_arc_with_capacity(begin, node, weight)
        for c, _, end in uses:
            flow.add_arc_with_capacity(node, int(tables.first[c]) + end - 1, unlimited)
        if tables.final[o]:
            flow.add_arc_with_capacity(node, sink, unlimited)
        node += 2
    force_in = [flow.add_arc_with_capacity(source, task, 0) for task in range(tasks)]
    force_out = [flow.add_arc_with_capacity(task, sink, 0) for task in range(tasks)]
    return CutGraph(tables, flow, force_in, force_out, unlimited)


def needs_of(tables: Tables, task: int) -> list[tuple[int, int]]:
    pairs = tables.needs[tables.needs_at[task] : tables.needs_at[task + 1]].tolist()
    return list(zip(pairs[::2], pairs[1::2], strict=True))


def uses_of(tables: Tables, o: int) -> list[tuple[int, int, int]]:
    flat = tables.uses[tables.uses_at[o] : tables.uses_at[o + 1]].tolist()
    return list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))


def task_bound(graph: CutGraph, task: int, chain: int) -> int:
    """The least in use while a task runs, over all states."""
    tables = graph.tables
    begin = int(tables.first[chain])
    before = {task - 1} if task > begin else set()
    before |= {int(tables.first[c]) + count - 1 for c, count in needs_of(tables, task)}
    added = int(tables.scratch[task])
    born = set()
    for o in tables.written[tables.written_at[task] : tables.written_at[task + 1]].tolist():
        writers = [(c, write) for c, write, _ in uses_of(tables, o) if write != NEVER]
        if not tables.initial[o] and writers == [(chain, task - begin)]:
            born.add(o)
            added += int(tables.weight[o])
    least = graph.cheapest(before, task) + added
    new, old = tables.in_place[task].tolist()
    if new not in born or any(c == chain and end > task - begin + 1 for c, _, end in uses_of(tables, old)):
        return least
    others = {int(tables.first[c]) + end - 1 for c, _, end in uses_of(tables, old) if c != chain}
    return min(least, graph.cheapest(before | others, task) + added - int(tables.weight[new]))


def lower_bound(tables: Tables, usage: NDArray[np.int64], known: int, cuts: int, enough: int = 1 << 62) -> tuple[int, bool]:
    """(bound, whether every task was looked at). usage: what was in use at each task in some order, so that a task below the bound need not be cut.

    known: a bound to begin with. cuts: tasks looked at, at most; those with most in use first. enough: a bound above this will do.
    """
    graph, bound = make_graph(tables), known
    chains = tables.chain_of()
    for count, task in enumerate(np.argsort(-usage, kind="stable").tolist()):
        if usage[task] <= bound:
            return bound, True
        if count == cuts or bound > enough:
            return bound, False
        bound = max(bound, task_bound(graph, task, int(chains[task])))
    return bound, True
