# SPDX-License-Identifier: Apache-2.0
"""The independent checker: plays a Program on an arena of owners and shares no code with the planner.

Every byte of the arena knows which buffer's data it holds. A call may only read bytes that still belong to the buffer it names, and
may write where it likes: overwriting something still needed shows at the next read, or at the end for outputs.
"""

from __future__ import annotations

import numpy as np

from midge.errors import IRError
from midge.program import Call, Program

NOBODY = -1


def certify(program: Program) -> None:
    """Check that each read finds what was written, that nothing leaves the arena and everything is aligned.

    Raises: IRError naming the call and the buffer.
    """
    ids = {name: number for number, name in enumerate(program.buffers)}
    owner = np.full(program.arena_nbytes, NOBODY, np.int64)
    for buffer in program.buffers.values():
        if buffer.offset < 0 or buffer.offset % buffer.align or buffer.offset + buffer.nbytes > program.arena_nbytes:
            raise IRError(f"buffer '{buffer.name}' at {buffer.offset} (+{buffer.nbytes}) is outside the arena of {program.arena_nbytes} bytes or misaligned")
    for port in program.inputs:
        buffer = program.buffers[port.buffer]
        region = owner[buffer.offset : buffer.offset + buffer.nbytes]
        if (region != NOBODY).any():
            raise IRError(f"input '{port.name}' overlaps another input")
        region[:] = ids[port.buffer]
    for index, call in enumerate(program.calls):
        _play(program, ids, owner, index, call)
    for port in program.outputs:
        _must_own(program, ids, owner, port.buffer, "after the run")


def _play(program: Program, ids: dict[str, int], owner: np.ndarray, index: int, call: Call) -> None:
    where = f"at call {index} ('{call.name}')"
    reads = [operand.buffer for operand in call.inputs if operand.buffer]
    for name in reads:
        _must_own(program, ids, owner, name, where)
    output = program.buffers[call.output]
    start = output.offset + call.first_row * call.row_nbytes
    stop = start + _rows_written(call, output.rows) * call.row_nbytes
    if stop > output.offset + output.nbytes:
        raise IRError(f"{where}: writes {stop - output.offset} bytes into '{output.name}' of {output.nbytes}")
    for position, operand in enumerate(call.inputs):
        source = program.buffers.get(operand.buffer)
        if source is None or source.offset >= stop or start >= source.offset + source.nbytes:
            continue
        if position != call.in_place or source.offset != output.offset:
            raise IRError(f"{where}: output '{output.name}' overlaps input '{source.name}'")
    if call.scratch_nbytes:
        scratch = program.scratch_offsets[index]
        end = scratch + call.scratch_nbytes
        touched = [(b.offset, b.offset + b.nbytes, b.name) for b in (program.buffers[name] for name in [*reads, call.output])]
        for low, high, name in touched:
            if scratch < high and low < end:
                raise IRError(f"{where}: scratch overlaps '{name}'")
        if scratch < 0 or end > program.arena_nbytes:
            raise IRError(f"{where}: scratch leaves the arena")
        owner[scratch:end] = NOBODY
    owner[start:stop] = ids[call.output]


def _rows_written(call: Call, rows: int) -> int:
    """A REDUCE call counts the rows it reads; it writes all of its output."""
    return rows if call.kernel.contract.value == "reduce" else call.rows


def _must_own(program: Program, ids: dict[str, int], owner: np.ndarray, name: str, where: str) -> None:
    buffer = program.buffers[name]
    region = owner[buffer.offset : buffer.offset + buffer.nbytes]
    if (region != ids[name]).any():
        at = int(np.argmax(region != ids[name]))
        raise IRError(f"{where}: byte {at} of '{name}' is not there any more")
