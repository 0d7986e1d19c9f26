# SPDX-License-Identifier: Apache-2.0
"""The independent checker: plays the steps of a Program on an arena of owners and shares no code with the scheduler.

Every byte of the arena knows which row of which buffer it holds, or whose accumulators. A step may only read bytes that still belong to the rows it
names, and may write where it likes: overwriting something still needed shows at the next read, or at the end for outputs. A view has to lie on the very
bytes that it shows, and those have to be in the rows of the tensors that own them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from midge.errors import IRError
from midge.ir import Array
from midge.program import ARRIVAL, Buffer, Call, Contract, Operand, Program, Step

NOBODY = -1
Span = tuple[int, int]


@dataclass(frozen=True)
class Certificate:
    """What playing the steps showed: how many there are, and the end of the highest byte used in any memory."""

    steps: int
    top: int


def certify(program: Program) -> Certificate:
    """Check that every row is computed once, that each read finds what was written, that nothing leaves the arena and everything is aligned.

    Raises: IRError naming the step and the row.
    """
    return _Player(program).play()


class _Player:
    """One pass over the steps. Rows are numbered over all buffers, accumulators follow them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.sizes = {"": program.arena_nbytes} | {memory.name: memory.nbytes for memory in program.memories}
        self.owners = {name: np.full(nbytes, NOBODY, np.int64) for name, nbytes in self.sizes.items()}
        self.numbers, count = {}, 0
        for name, buffer in program.buffers.items():
            self.numbers[name] = count
            count += buffer.rows
        self.accumulators = count  # number of the first call's
        self.parts = {name for name, buffer in program.buffers.items() for name in (name, *(piece.buffer for piece in buffer.pieces)) if buffer.pieces}
        self.views = {name: self.shown(buffer) for name, buffer in program.buffers.items() if buffer.pieces}
        self.done = [0] * len(program.calls)
        self.arrived = 0
        self.given = [0] * len(program.outputs)  # rows that were handed out
        self.top = 0

    def play(self) -> Certificate:
        program = self.program
        for port in program.inputs[1 if program.streams else 0 :]:
            for row in range(program.buffers[port.buffer].rows):
                self.bring(program.buffers[port.buffer], row)
        if program.state_offset >= 0:
            self.owners[""][program.state_offset : program.state_offset + 8] = NOBODY - 1
        for index, step in enumerate(program.steps):
            self.where = f"step {index}"
            if step.call == ARRIVAL:
                self.arrive(step)
            elif step.call < 0:
                self.hand_out(step)
            else:
                self.where += f" (rows {step.first} to {step.first + step.count - 1} of '{program.calls[step.call].name}')"
                self.step(program.calls[step.call], step)
        self.where = "after the run"
        short = [call.name for call, done in zip(program.calls, self.done, strict=True) if done != call.rows]
        if short:
            raise IRError(f"not every row is computed: {', '.join(short)}")
        self.outputs()
        if program.state_offset >= 0 and (self.owners[""][program.state_offset : program.state_offset + 8] != NOBODY - 1).any():
            raise IRError("what is kept between calls was overwritten")
        return Certificate(len(program.steps), self.top)

    def bring(self, buffer: Buffer, row: int) -> None:
        """An input row that is there before the run, where nothing else is."""
        low, high = self.span(buffer, row)
        owner = self.owners[buffer.memory]
        if (owner[low:high] != NOBODY).any():
            raise IRError(f"input row {row} of '{buffer.name}' overlaps another")
        owner[low:high] = self.numbers[buffer.name] + row

    def arrive(self, step: Step) -> None:
        buffer = self.program.buffers[self.program.inputs[0].buffer]
        if step.first != self.arrived:
            raise IRError(f"{self.where}: input row {step.first} arrives after {self.arrived} rows")
        self.arrived += step.count
        for row in range(step.first, step.first + step.count):
            low, high = self.span(buffer, row)
            self.owners[buffer.memory][low:high] = self.numbers[buffer.name] + row

    def hand_out(self, step: Step) -> None:
        """Rows of an output, in their order, all there and in one piece."""
        if step.output >= len(self.given) or step.first != self.given[step.output]:
            raise IRError(f"{self.where}: row {step.first} of output {step.output} is handed out after {self.given[step.output : step.output + 1]} rows")
        self.given[step.output] += step.count
        buffer = self.program.buffers[self.program.outputs[step.output].buffer]
        self.must_hold(buffer, step.first * buffer.row_nbytes, step.count * buffer.row_nbytes)

    def outputs(self) -> None:
        """Every output was handed out, or all of them are there in one piece."""
        for port, given in zip(self.program.outputs, self.given, strict=True):
            buffer = self.program.buffers[port.buffer]
            if self.program.hands_out:
                if given != buffer.rows:
                    raise IRError(f"{given} of the {buffer.rows} rows of output '{port.name}' are handed out")
                continue
            if not buffer.contiguous:
                raise IRError(f"output '{port.name}' is not in one piece")
            self.must_hold(buffer, 0, buffer.nbytes)

    def span(self, buffer: Buffer, row: int) -> Span:
        """Bytes of a row, inside the arena and aligned."""
        low = buffer.offsets[row] if len(buffer.offsets) == buffer.rows else -1
        pixels = buffer.rows == 1 and (buffer.type.hwc[1] > 1 or buffer.name not in self.parts)
        align = buffer.align if pixels else math.gcd(buffer.align, buffer.row_nbytes)
        if low < 0 or low + buffer.row_nbytes > self.sizes.get(buffer.memory, 0) or low % align:
            where = f"the {buffer.memory or 'arena'} of {self.sizes.get(buffer.memory, 0)} bytes"
            raise IRError(f"row {row} of '{buffer.name}' at {low} (+{buffer.row_nbytes}) is outside {where} or misaligned")
        self.top = max(self.top, low + buffer.row_nbytes)
        return low, low + buffer.row_nbytes

    def step(self, call: Call, step: Step) -> None:
        if step.first != self.done[step.call]:
            raise IRError(f"{self.where}: {self.done[step.call]} rows were computed before")
        self.done[step.call] += step.count
        if call.kernel.contract is Contract.REDUCE:
            self.reduce(call, step)
            return
        for first in range(step.first, step.first + step.count, call.block):
            self.kernel(call, step, range(first, min(first + call.block, step.first + step.count)))

    def kernel(self, call: Call, step: Step, rows: range) -> None:
        """One call of a kernel: every row is read before the first is written, as far as anyone knows."""
        output = self.program.buffers[call.output]
        written = [self.piece(output, (call.first_row + y) * call.row_nbytes, call.row_nbytes) for y in rows]
        found = list(self.read_by(call, rows))
        reads = [(position, y, buffer.memory, self.must_hold(buffer, start, operand.row_nbytes)) for position, y, operand, buffer, start in found]
        for y, (low, high) in zip(rows, written, strict=True):
            for position, at, memory, span in reads:
                same = position == call.in_place and at == y and span[0] == low
                if memory == output.memory and span[0] < high and low < span[1] and not same:
                    raise IRError(f"{self.where}: writes row {y} over a row that it reads")
        if call.scratch_nbytes:
            low, high = self.scratch(call, step)
            used = [(output.memory, span) for span in written] + [(memory, span) for _, _, memory, span in reads]
            if any(memory == self.program.scratch_memory and span[0] < high and low < span[1] for memory, span in used):
                raise IRError(f"{self.where}: scratch overlaps a row in use")
            self.owners[self.program.scratch_memory][low:high] = NOBODY
        for y in rows:
            self.own(output, (call.first_row + y) * call.row_nbytes, call.row_nbytes)

    def reduce(self, call: Call, step: Step) -> None:
        """Accumulators are whole from the first row to the last, then the output is written."""
        number, output = self.accumulators + step.call, self.program.buffers[call.output]
        if call.scratch_nbytes and step.first:
            low, high = self.scratch(call, step)
            if (self.owners[self.program.scratch_memory][low:high] != number).any():
                raise IRError(f"{self.where}: accumulators were overwritten")
        for _, _, operand, buffer, start in self.read_by(call, range(step.first, step.first + step.count)):
            low, high = self.must_hold(buffer, start, operand.row_nbytes)
            if self.meets_scratch(call, step, buffer, low, high):
                raise IRError(f"{self.where}: accumulators overlap a row that is read")
        if call.scratch_nbytes:
            low, high = self.scratch(call, step)
            self.owners[self.program.scratch_memory][low:high] = number
        if step.first + step.count == call.rows:
            low, high = self.piece(output, 0, output.nbytes)
            if self.meets_scratch(call, step, output, low, high):
                raise IRError(f"{self.where}: writes its output over its accumulators")
            self.own(output, 0, output.nbytes)

    def meets_scratch(self, call: Call, step: Step, buffer: Buffer, low: int, high: int) -> bool:
        if not call.scratch_nbytes or buffer.memory != self.program.scratch_memory:
            return False
        start, end = self.scratch(call, step)
        return low < end and start < high

    def scratch(self, call: Call, step: Step) -> Span:
        if step.scratch < 0 or step.scratch % 4 or step.scratch + call.scratch_nbytes > self.sizes[self.program.scratch_memory]:
            raise IRError(f"{self.where}: scratch at {step.scratch} (+{call.scratch_nbytes}) leaves the arena or is misaligned")
        self.top = max(self.top, step.scratch + call.scratch_nbytes)
        return step.scratch, step.scratch + call.scratch_nbytes

    def read_by(self, call: Call, rows: range) -> Iterator[tuple[int, int, Operand, Buffer, int]]:
        """(operand's position, output row, operand, buffer, first byte in the buffer) of every row read."""
        for position, operand in enumerate(call.inputs):
            for y in rows if operand.buffer else ():
                for row in operand.window.rows(y):
                    if row >= 0:
                        yield position, y, operand, self.program.buffers[operand.buffer], operand.offset + row * operand.row_nbytes

    def rows_of(self, buffer: Buffer, start: int, nbytes: int) -> range:
        """The rows that bytes [start, start + nbytes) of a buffer are in."""
        if start < 0 or start + nbytes > buffer.nbytes:
            raise IRError(f"{self.where}: bytes {start} to {start + nbytes} of '{buffer.name}', which has {buffer.nbytes}")
        return range(start // buffer.row_nbytes, -(-(start + nbytes) // buffer.row_nbytes))

    def piece(self, buffer: Buffer, start: int, nbytes: int) -> Span:
        """Where bytes of a buffer lie, all in one piece."""
        rows = self.rows_of(buffer, start, nbytes)
        spans = [self.span(buffer, row) for row in rows]
        if any(before[1] != after[0] for before, after in pairwise(spans)):
            raise IRError(f"{self.where}: rows {rows.start} to {rows.stop - 1} of '{buffer.name}' are taken as one piece and are not")
        low = spans[0][0] + start - rows.start * buffer.row_nbytes
        if start == 0 and low % (buffer.align if nbytes == buffer.nbytes > buffer.row_nbytes else math.gcd(buffer.align, nbytes)):
            raise IRError(f"{self.where}: '{buffer.name}' at {low} is taken as one piece and misaligned")
        return low, low + nbytes

    def shown(self, view: Buffer) -> tuple[Array, Array]:
        """The place of every byte of a view, and the row that it is of."""
        places, numbers = np.full(view.nbytes, -1, np.int64), np.full(view.nbytes, NOBODY, np.int64)
        for piece in view.pieces:
            source, part = self.program.buffers[piece.buffer], slice(piece.at, piece.at + piece.nbytes)
            if source.pieces or source.memory != view.memory or not 0 <= piece.start <= source.nbytes - piece.nbytes or (numbers[part] != NOBODY).any():
                raise IRError(f"view '{view.name}': {piece} shows no bytes of a tensor, or is shown twice")
            row, at = np.divmod(np.arange(piece.start, piece.start + piece.nbytes), source.row_nbytes)
            places[part], numbers[part] = np.array(source.offsets)[row] + at, self.numbers[source.name] + row
        if (numbers == NOBODY).any():
            raise IRError(f"view '{view.name}': bytes of it are nobody's")
        return places, numbers

    def must_hold(self, buffer: Buffer, start: int, nbytes: int) -> Span:
        """The bytes are in one piece and still hold the rows they should."""
        low, high = self.piece(buffer, start, nbytes)
        if buffer.pieces:
            places, wanted = (each[start : start + nbytes] for each in self.views[buffer.name])
            if (places != np.arange(low, high)).any():
                raise IRError(f"{self.where}: view '{buffer.name}' does not lie where what it shows is")
        else:
            wanted = self.numbers[buffer.name] + np.arange(start, start + nbytes) // buffer.row_nbytes
        wrong = np.flatnonzero(self.owners[buffer.memory][low:high] != wanted)
        if wrong.size:
            raise IRError(f"{self.where}: byte {start + int(wrong[0])} of '{buffer.name}' is not there any more")
        return low, high

    def own(self, buffer: Buffer, start: int, nbytes: int) -> None:
        if buffer.pieces:
            raise IRError(f"{self.where}: writes to '{buffer.name}', which is a view")
        low, high = self.piece(buffer, start, nbytes)
        self.owners[buffer.memory][low:high] = self.numbers[buffer.name] + np.arange(start, start + nbytes) // buffer.row_nbytes
