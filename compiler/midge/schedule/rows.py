# SPDX-License-Identifier: Apache-2.0
"""Program -> Problem: which rows a step of a call reads and writes; and a Solution back into the Program.

Every buffer becomes an object for each row. Rows keep their distances where something sees the tensor as a whole: a port, a call that takes it as one
row, a view with rows of another size. A buffer that is never touched by rows is one object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from midge.errors import IRError
from midge.program import Buffer, Call, Contract, Operand, Program, Step
from midge.schedule.problem import Object, Problem, Solution, Task

STATE_NBYTES = 8  # what a library remembers between calls that each run a part of it
WHOLE = 0  # the grain of a call that runs in one step, as it was lowered


@dataclass(frozen=True)
class Rows:
    """A Problem and what its parts mean: calls by chain (-1: input rows arrive), steps by chain, and the object of each row of each buffer."""

    problem: Problem
    calls: tuple[int, ...]
    steps: tuple[tuple[Step, ...], ...]
    objects: Mapping[str, tuple[int, ...]]
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


def make_rows(program: Program, grains: Sequence[int], *, stream: bool = False, stateful: bool = False) -> Rows:
    """The Problem of a Program whose calls are split where they run by rows. `grains`: rows a step computes, by call; WHOLE for all at once.

    stream: rows of the only input arrive one by one. stateful: a few bytes are kept for where the run stands.
    """
    return _Builder(program, grains, stream).build(stateful or stream)


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
    for name, buffer in program.buffers.items():
        objects = rows.objects[name]
        if len(objects) == 1:
            buffer.put(solution.addresses[objects[0]])
        else:
            buffer.offsets = tuple(solution.addresses[each] for each in objects)
    program.state_offset = solution.addresses[rows.state] if rows.state >= 0 else -1
    program.lower_bound, program.peak_step = solution.bound, solution.binding
    program.arena_nbytes = max(solution.arena, 4)
    set_lives(program)


def set_lives(program: Program) -> None:
    """Buffer.live: the first and the last step that touch a buffer; inputs from before the run unless they arrive, outputs until after it."""
    arriving = {program.inputs[0].buffer} if any(step.call < 0 for step in program.steps) else set()
    first = {port.buffer: -1 for port in program.inputs if port.buffer not in arriving}
    last = dict(first)
    for index, step in enumerate(program.steps):
        names = [program.inputs[0].buffer] if step.call < 0 else _touched(program.calls[step.call])
        for name in names:
            first.setdefault(name, index)
            last[name] = index
    last |= {port.buffer: len(program.steps) for port in program.outputs}
    for name, buffer in program.buffers.items():
        buffer.live = (first.get(name, -1), last.get(name, -1))


def _touched(call: Call) -> list[str]:
    return [call.output, *(operand.buffer for operand in call.inputs if operand.buffer)]


class _Builder:
    """Objects first, then a chain of tasks for each call."""

    def __init__(self, program: Program, grains: Sequence[int], stream: bool) -> None:
        self.program, self.grains, self.stream = program, grains, stream
        self.ports = {port.buffer for port in program.inputs[1 if stream else 0 :] + program.outputs}
        self.things: list[Object] = []
        self.groups = 0
        self.objects = {name: self.of_buffer(buffer) for name, buffer in program.buffers.items()}
        self.scratch: dict[int, int] = {}

    def of_buffer(self, buffer: Buffer) -> tuple[int, ...]:
        """The objects of a buffer, by row: one for all where no call goes by its rows."""
        by_rows, rigid = False, buffer.name in self.ports
        if self.stream and self.program.inputs[0].buffer == buffer.name:
            by_rows = True
        for call, grain in zip(self.program.calls, self.grains, strict=True):
            if call.output == buffer.name:
                partial = grain != WHOLE and call.kernel.contract is Contract.ROWS and call.rows > 1
                by_rows |= partial
                rigid |= call.row_nbytes != buffer.row_nbytes and call.kernel.contract is Contract.ROWS
            for operand in call.inputs:
                if operand.buffer == buffer.name:
                    by_rows |= grain != WHOLE and call.rows > 1
                    rigid |= operand.row_nbytes != buffer.row_nbytes or operand.offset != 0
        if not by_rows or buffer.rows == 1:
            return self.add(Object(buffer.nbytes, buffer.align))
        if not rigid:
            return tuple(self.add(Object(buffer.row_nbytes, buffer.align))[0] for _ in range(buffer.rows))
        self.groups += 1
        return tuple(self.add(Object(buffer.row_nbytes, 1 if row else buffer.align, self.groups - 1, row * buffer.row_nbytes))[0] for row in range(buffer.rows))

    def add(self, thing: Object) -> tuple[int]:
        self.things.append(thing)
        return (len(self.things) - 1,)

    def build(self, stateful: bool) -> Rows:
        """Chains in the order of the calls."""
        chains, steps, calls = [], [], []
        if self.stream:
            name = self.program.inputs[0].buffer
            calls.append(-1)
            chains.append(tuple(Task((), (each,)) for each in self.objects[name]))
            steps.append(tuple(Step(-1, row, 1) for row in range(self.program.buffers[name].rows)))
        for index, call in enumerate(self.program.calls):
            grain = self.grains[index] or call.rows
            parts = tuple(Step(index, first, min(grain, call.rows - first)) for first in range(0, call.rows, grain))
            if call.kernel.contract is Contract.REDUCE and call.scratch_nbytes:
                self.scratch[index] = self.add(Object(call.scratch_nbytes))[0]
            calls.append(index)
            steps.append(parts)
            chains.append(tuple(self.task(call, part) for part in parts))
        state = self.add(Object(STATE_NBYTES))[0] if stateful else -1
        kept = (state,) if stateful else ()
        initial = [each for port in self.program.inputs[1 if self.stream else 0 :] for each in self.objects[port.buffer]]
        final = [each for port in self.program.outputs for each in self.objects[port.buffer]]
        problem = Problem(tuple(self.things), tuple(chains), (*dict.fromkeys(initial), *kept), (*dict.fromkeys(final), *kept))
        return Rows(problem, tuple(calls), tuple(steps), self.objects, self.scratch, state)

    def task(self, call: Call, step: Step) -> Task:
        """The objects that a step reads and writes."""
        reads: dict[int, None] = {}
        for operand in call.inputs:
            if operand.buffer:
                for y in range(step.first, step.first + step.count):
                    for row in operand.window.rows(y):
                        if row >= 0:
                            reads.update(dict.fromkeys(self.covered(operand, row)))
        output = self.program.buffers[call.output]
        if call.kernel.contract is Contract.REDUCE:
            last = step.first + step.count == call.rows
            acc = self.scratch.get(step.call)
            if acc is not None and step.first:
                reads[acc] = None
            first = (acc,) if acc is not None and not step.first else ()
            return Task(tuple(reads), first + (self.objects[output.name] if last else ()))
        start = (call.first_row + step.first) * call.row_nbytes
        writes = self.bytes_of(output, start, start + step.count * call.row_nbytes)
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
        start = operand.offset + row * operand.row_nbytes
        return self.bytes_of(self.program.buffers[operand.buffer], start, start + operand.row_nbytes)

    def bytes_of(self, buffer: Buffer, start: int, stop: int) -> tuple[int, ...]:
        """Objects of the bytes [start, stop) of a buffer."""
        objects = self.objects[buffer.name]
        if len(objects) == 1:
            return objects
        return objects[start // buffer.row_nbytes : -(-stop // buffer.row_nbytes)]
