# SPDX-License-Identifier: Apache-2.0
"""What lies where and when in the arena of a placed Program: for pictures, and for knowing what is free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from midge.program import ARRIVAL, Call, Contract, Program
from midge.schedule.rows import STATE_NBYTES


@dataclass(frozen=True)
class Occupant:
    """Bytes [offset, offset + nbytes) in use from step `first` to step `last`: rows of a buffer, or scratch (accumulators too) of a layer."""

    name: str
    layer: int  # that wrote it, -1 for an input
    row: int  # the first of them; -1 for scratch
    offset: int
    nbytes: int
    first: int
    last: int
    memory: str = ""  # '' is the arena


def timeline(program: Program) -> list[Occupant]:
    """Every row and every scratch, in the order in which they come to life. Inputs live from step -1 unless they arrive, outputs to the step after the last
    unless they are handed out."""
    lives: dict[tuple[str, int], list[int]] = {}
    for port in program.inputs[1 if program.streams else 0 :]:
        lives |= {(port.buffer, row): [-1, -1] for row in range(program.buffers[port.buffer].rows)}
    for index, step in enumerate(program.steps):
        if step.call < 0:
            port = program.inputs[0] if step.call == ARRIVAL else program.outputs[step.output]
            row_nbytes = program.buffers[port.buffer].row_nbytes
            touched = set(_rows(program, port.buffer, step.first * row_nbytes, step.count * row_nbytes))
        else:
            touched = set(_touched(program, program.calls[step.call], range(step.first, step.first + step.count)))
        for key in touched:
            lives.setdefault(key, [index, index])[1] = index
    for port in [] if program.hands_out else program.outputs:
        for key in _rows(program, port.buffer, 0, program.buffers[port.buffer].nbytes):
            lives[key][1] = len(program.steps)
    writers = {call.output: call.layer for call in reversed(program.calls)}
    found = [
        Occupant(
            name, writers.get(name, -1), row, program.buffers[name].offsets[row], program.buffers[name].row_nbytes, first, last, program.buffers[name].memory
        )
        for (name, row), (first, last) in lives.items()
    ]
    return sorted([*found, *_scratch(program)], key=lambda each: (each.first, each.offset))


def _scratch(program: Program) -> Iterator[Occupant]:
    ends: dict[int, list[int]] = {}
    for index, step in enumerate(program.steps):
        if step.call < 0 or not program.calls[step.call].scratch_nbytes:
            continue
        call = program.calls[step.call]
        if call.kernel.contract is Contract.REDUCE:
            ends.setdefault(step.call, [index, index, step.scratch])[1] = index
        else:
            yield Occupant(call.name, call.layer, -1, step.scratch, call.scratch_nbytes, index, index, program.scratch_memory)
    for number, (first, last, offset) in ends.items():
        call = program.calls[number]
        yield Occupant(call.name, call.layer, -1, offset, call.scratch_nbytes, first, last, program.scratch_memory)


def _touched(program: Program, call: Call, rows: range) -> Iterator[tuple[str, int]]:
    """(buffer, row) of all that a step reads or writes."""
    for operand in call.inputs:
        for y in rows if operand.buffer else ():
            for row in operand.window.rows(y):
                if row >= 0:
                    yield from _rows(program, operand.buffer, operand.offset + row * operand.row_nbytes, operand.row_nbytes)
    if call.kernel.contract is Contract.REDUCE:
        if rows.stop == call.rows:
            yield from ((call.output, row) for row in range(program.buffers[call.output].rows))
        return
    yield from _rows(program, call.output, (call.first_row + rows.start) * call.row_nbytes, len(rows) * call.row_nbytes)


def _rows(program: Program, name: str, start: int, nbytes: int) -> Iterator[tuple[str, int]]:
    """(buffer, row) of bytes of a buffer, or of what it shows."""
    for piece in program.buffers[name].owners(start, nbytes):
        step = program.buffers[piece.buffer].row_nbytes
        yield from ((piece.buffer, row) for row in range(piece.start // step, -(-(piece.start + piece.nbytes) // step)))


def used(program: Program, scratch: bool = True, memory: str = "") -> list[int]:
    """Bytes of a memory ('' is the arena) in use at each step, the state kept between calls included; without the scratch of single steps if `scratch` is
    false. A row computed in place shares the bytes of the other."""
    kept = [(program.state_offset, program.state_offset + STATE_NBYTES)] if program.state_offset >= 0 and not memory else []
    spans = [list(kept) for _ in program.steps]
    for each in timeline(program):
        if (scratch or each.row >= 0) and each.memory == memory:
            for step in range(max(each.first, 0), min(each.last, len(spans) - 1) + 1):
                spans[step].append((each.offset, each.offset + each.nbytes))
    return [_covered(sorted(found)) for found in spans]


def peak_step(program: Program) -> int:
    """The step at which the most bytes of the arena are in use; -1 before the first. What the solver says is of one arena, before others took their part."""
    if not program.memories:
        return program.peak_step
    totals = used(program)
    return totals.index(max(totals)) if totals else -1


def _covered(spans: list[tuple[int, int]]) -> int:
    """Bytes that sorted spans cover together."""
    total = end = 0
    for low, high in spans:
        total += max(0, high - max(low, end))
        end = max(end, high)
    return total


def spare(program: Program, ram: int) -> dict[str, int]:
    """Value -> bytes of an arena of `ram` bytes that no row occupies while its layer runs: what its kernels may use as scratch."""
    found: dict[str, int] = {}
    for step, nbytes in zip(program.steps, used(program, scratch=False), strict=True):
        if step.call >= 0:
            value = program.layers[program.calls[step.call].layer].value
            found[value] = min(found.get(value, ram), ram - nbytes)
    return found


def may_save(fast: Program, lean: Program) -> bool:
    """Whether the scratch that `lean` does without is what makes the arena of `fast` as large as it is."""
    if len(fast.calls) != len(lean.calls):
        return True
    saved = [one.scratch_nbytes - other.scratch_nbytes for one, other in zip(fast.calls, lean.calls, strict=True)]
    without = [nbytes - (saved[step.call] if step.call >= 0 else 0) for step, nbytes in zip(fast.steps, used(fast), strict=True)]
    return any(saved) and max(without) < fast.lower_bound
