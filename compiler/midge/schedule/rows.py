# SPDX-License-Identifier: Apache-2.0
"""Program -> Problem: which rows a step of a call reads and writes; and a Solution back into the Program.

Every buffer becomes an object for each row. Rows keep their distances where something sees the tensor as a whole: a port, a call that takes it as one
row, or with rows of another size. A buffer that is never touched by rows is one object. A view has none: who reads it reads what it shows (see cells.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from midge.errors import IRError
from midge.program import ARRIVAL, HAND_OUT, Buffer, Call, Contract, Operand, Program, Step
from midge.schedule.cells import Cells, by_rows, in_one_piece, make_cells
from midge.schedule.grains import WHOLE, Grain, parts
from midge.schedule.problem import Object, Problem, Solution, Task

STATE_NBYTES = 8  # what a library remembers between calls that each run a part of it


@dataclass(frozen=True)
class Rows:
    """A Problem and what its parts mean: calls by chain (or ARRIVAL, or HAND_OUT - n), steps by chain, and the objects of buffers."""

    problem: Problem
    calls: tuple[int, ...]
    steps: tuple[tuple[Step, ...], ...]
    cells: Cells
    scratch: Mapping[int, int]  # REDUCE call -> object of its accumulators
    state: int = -1


def split(call: Call) -> Call:
    """A call that takes whole tensors as one row, changed to run row by row; any other as it is."""
    if not call.splits or call.split_rows == 1:
        return call
    rows = call.split_rows
    if any(call.params[name] % rows for name in call.splits) or any(operand.row_nbytes % rows for operand in call.inputs):
        raise IRError(f"call '{call.name}': {rows} rows do not divide it")
    params = {name: value // rows if name in call.splits else value for name, value in call.params.items()}
    inputs = tuple(replace(operand, window=replace(operand.window, height=rows), row_nbytes=operand.row_nbytes // rows) for operand in call.inputs)
    row_nbytes = call.row_nbytes if call.kernel.contract is Contract.REDUCE else call.row_nbytes // rows
    return replace(call, params=params, inputs=inputs, rows=rows, row_nbytes=row_nbytes, splits=(), split_rows=1)


def make_rows(program: Program, grains: Sequence[Grain], *, stream: bool = False, stateful: bool = False, hand_out: bool = False) -> Rows:
    """The Problem of a Program whose calls are split where they run by rows. `grains`: rows its steps compute, by call; WHOLE for all at once.

    stream: rows of the only input arrive one by one. stateful: a few bytes are kept for where the run stands. hand_out: rows of the outputs are given
    to the caller as they come, in their order, and are gone.
    """
    return _Builder(program, grains, stream, hand_out).build(stateful or stream)


def apply_solution(program: Program, rows: Rows, solution: Solution) -> None:
    """Write order and addresses into the Program."""
    done = [0] * len(rows.steps)
    program.steps = []
    for position, chain in enumerate(solution.order):
        step = rows.steps[chain][done[chain]]
        done[chain] += 1
        call = rows.calls[chain]
        scratch = solution.addresses[rows.scratch[call]] if call in rows.scratch else solution.scratch[position]
        program.steps.append(replace(step, scratch=scratch))
    for name in rows.cells.first:
        rows.cells.place(name, solution.addresses)
    program.settle_views()
    program.state_offset = solution.addresses[rows.state] if rows.state >= 0 else -1
    program.lower_bound, program.peak_step = solution.bound, solution.binding
    program.arena_nbytes = max(solution.arena, 4)
    set_lives(program)


def set_lives(program: Program) -> None:
    """Buffer.live: the first and the last step that touch a buffer; inputs from before the run unless they arrive, outputs until after it unless
    they are handed out."""
    arriving = {program.inputs[0].buffer} if program.streams else set()
    first = {port.buffer: -1 for port in program.inputs if port.buffer not in arriving}
    last = dict(first)
    for index, step in enumerate(program.steps):
        for name in _touched(program, step):
            first.setdefault(name, index)
            last[name] = index
    kept = [] if program.hands_out else [port.buffer for port in program.outputs]
    last |= dict.fromkeys(kept + _shown(program, kept), len(program.steps))
    for name, buffer in program.buffers.items():
        buffer.live = (first.get(name, -1), last.get(name, -1))


def _touched(program: Program, step: Step) -> list[str]:
    if step.call < 0:
        names = [program.inputs[0].buffer if step.call == ARRIVAL else program.outputs[step.output].buffer]
    else:
        call = program.calls[step.call]
        names = [call.output, *(operand.buffer for operand in call.inputs if operand.buffer)]
    return names + _shown(program, names)


def _shown(program: Program, names: Iterable[str]) -> list[str]:
    """The buffers that views show."""
    return [piece.buffer for name in names for piece in program.buffers[name].pieces]


class _Builder:
    """Objects first, then a chain of tasks for each call."""

    def __init__(self, program: Program, grains: Sequence[Grain], stream: bool, hand_out: bool) -> None:
        self.program, self.grains, self.stream, self.hand_out = program, grains, stream, hand_out
        ports = {port.buffer for port in program.inputs[1 if stream else 0 :] + ([] if hand_out else program.outputs)}
        self.by_rows = by_rows(program, [index for index, grain in enumerate(grains) if grain != WHOLE])
        if stream:
            self.by_rows.add(program.inputs[0].buffer)
        if hand_out:
            self.by_rows |= {port.buffer for port in program.outputs if program.buffers[port.buffer].pieces}
        self.cells = make_cells(program.buffers, self.by_rows, in_one_piece(program, program.calls, ports))
        self.things = list(self.cells.objects)
        self.scratch: dict[int, int] = {}

    def add(self, thing: Object) -> tuple[int]:
        self.things.append(thing)
        return (len(self.things) - 1,)

    def build(self, stateful: bool) -> Rows:
        """Chains in the order of the calls."""
        chains, steps, calls = [], [], []
        if self.stream:
            buffer = self.program.buffers[self.program.inputs[0].buffer]
            calls.append(ARRIVAL)
            chains.append(tuple(Task((), self.row(buffer, row)) for row in range(buffer.rows)))
            steps.append(tuple(Step(ARRIVAL, row, 1) for row in range(buffer.rows)))
        for index, call in enumerate(self.program.calls):
            counts = parts(self.grains[index], call.rows)
            taken = tuple(Step(index, end - count, count) for end, count in zip(accumulate(counts), counts, strict=True))
            if call.kernel.contract is Contract.REDUCE and call.scratch_nbytes:
                self.scratch[index] = self.add(Object(call.scratch_nbytes))[0]
            calls.append(index)
            steps.append(taken)
            chains.append(tuple(self.task(call, part) for part in taken))
        for number, port in enumerate(self.program.outputs if self.hand_out else ()):
            buffer = self.program.buffers[port.buffer]
            count = 1 if buffer.name in self.by_rows else buffer.rows
            calls.append(HAND_OUT - number)
            steps.append(tuple(Step(HAND_OUT - number, row, count) for row in range(0, buffer.rows, count)))
            chains.append(tuple(Task(self.row(buffer, row, count), ()) for row in range(0, buffer.rows, count)))
        state = self.add(Object(STATE_NBYTES))[0] if stateful else -1
        kept = (state,) if stateful else ()
        initial = [each for port in self.program.inputs[1 if self.stream else 0 :] for each in self.cells.all_of(port.buffer)]
        final = [each for port in self.program.outputs if not self.hand_out for each in self.cells.all_of(port.buffer)]
        problem = Problem(tuple(self.things), tuple(chains), (*dict.fromkeys(initial), *kept), (*dict.fromkeys(final), *kept), rows=self.cells.rows)
        return Rows(problem, tuple(calls), tuple(steps), self.cells, self.scratch, state)

    def task(self, call: Call, step: Step) -> Task:
        """The objects that a step reads and writes."""
        reads: dict[int, None] = {}
        for operand in call.inputs:
            if operand.buffer:
                for y in range(step.first, step.first + step.count):
                    for row in operand.window.rows(y):
                        if row >= 0:
                            reads.update(dict.fromkeys(self.covered(operand, row)))
        if call.kernel.contract is Contract.REDUCE:
            last = step.first + step.count == call.rows
            acc = self.scratch.get(step.call)
            if acc is not None and step.first:
                reads[acc] = None
            first = (acc,) if acc is not None and not step.first else ()
            return Task(tuple(reads), first + (self.cells.all_of(call.output) if last else ()))
        start = (call.first_row + step.first) * call.row_nbytes
        writes = self.cells.touched(call.output, start, step.count * call.row_nbytes)
        return Task(tuple(reads), writes, call.scratch_nbytes, self.in_place(call, step, writes, reads))

    def in_place(self, call: Call, step: Step, writes: tuple[int, ...], reads: Mapping[int, None]) -> tuple[int, int] | None:
        """(written, read): the pair that may share an address."""
        if call.in_place is None or len(writes) != 1:
            return None
        operand = call.inputs[call.in_place]
        rows = [row for y in range(step.first, step.first + step.count) for row in operand.window.rows(y)]
        if not operand.buffer or len(rows) != 1 or rows[0] < 0:
            return None
        covered = self.covered(operand, rows[0])
        written, read = self.things[writes[0]], self.things[covered[0]]
        if len(covered) != 1 or written.group >= 0 or read.group >= 0 or written.nbytes > read.nbytes:
            return None
        return writes[0], covered[0]

    def covered(self, operand: Operand, row: int) -> tuple[int, ...]:
        return self.cells.touched(operand.buffer, operand.offset + row * operand.row_nbytes, operand.row_nbytes)

    def row(self, buffer: Buffer, row: int, count: int = 1) -> tuple[int, ...]:
        """The objects of rows of a buffer."""
        return self.cells.touched(buffer.name, row * buffer.row_nbytes, count * buffer.row_nbytes)
