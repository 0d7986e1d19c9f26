# SPDX-License-Identifier: Apache-2.0
"""Several memories: what is touched most often, for the bytes it takes, goes to the fast ones.

The order of steps is that of one arena. Units are whole buffers, all rows of them, and all scratch. The densest unit, bytes touched in a run over bytes
it ever has alive, is taken into a fast memory as long as that can be placed; ports stay in the arena, which the caller gives, and so do tensors that a
view shows together with others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from midge.errors import UsageError
from midge.program import Memory, Program
from midge.schedule.lifetimes import make_items
from midge.schedule.placement import Placer
from midge.schedule.problem import Object, Problem, Solution, Task
from midge.schedule.rows import Rows
from midge.schedule.tables import make_tables
from midge.schedule.timeline import timeline

SCRATCH = ""  # the unit of all scratch; buffers have names
STATE = "\0state"  # what is kept between calls; no buffer is called so
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20}


def parse_memories(text: str) -> tuple[Memory, ...]:
    """`dtcm:64K@fast,sram:256K`: name, size, and whether it is fast (`@fast+weights`: constants may go there, too). The last slow one is the arena's.

    Raises: UsageError for anything else.
    """
    found: list[Memory] = []
    for part in text.split(",") if text else ():
        match = re.fullmatch(r"([a-z][a-z0-9_]*):(\d+)([KM]?)(@fast(\+weights)?)?", part.strip())
        if match is None or any(memory.name == match[1] for memory in found):
            raise UsageError(f"--memory '{part}': wanted NAME:SIZE or NAME:SIZE@fast, each name once, for example dtcm:64K@fast,sram:256K")
        found.append(Memory(match[1], int(match[2]) * UNITS[match[3]], match[4] is not None, match[5] is not None))
    if found and not any(not memory.fast for memory in found):
        raise UsageError(f"--memory '{text}': one memory without @fast holds the arena; name it, too")
    return tuple(found)


def divide(program: Program, rows: Rows, solution: Solution, memories: Sequence[Memory]) -> None:
    """Move units of a placed Program to the fast memories and place the rest of the arena anew.

    Raises: UsageError if the rest does not fit in the memory of the arena.
    """
    left, arena = _units(program), [memory for memory in memories if not memory.fast][-1]
    for memory in sorted(memories, key=lambda memory: not memory.fast):
        if memory is arena:
            continue
        taken: list[str] = []
        for unit in left:
            if _place(rows, solution, {*taken, unit}, memory.capacity) is not None:
                taken.append(unit)
        left = [unit for unit in left if unit not in taken]
        _move(program, rows, solution, taken, memory)
    stay = {*left, *_bound(program)}
    program.arena_nbytes = max(4, _settle(program, rows, solution, stay, "", None))
    if program.arena_nbytes > arena.capacity:
        raise UsageError(f"--memory {arena.name}: {program.arena_nbytes} bytes remain for it, it has {arena.capacity}; try --optimize ram")
    if any(memory.weights for memory in memories):
        _move_constants(program, [memory for memory in memories if memory.weights])


def _units(program: Program) -> list[str]:
    """Everything that may move, the densest first."""
    touched: dict[str, int] = {}
    alive: dict[str, int] = {}
    bound = _bound(program)
    for each in timeline(program):
        unit = SCRATCH if each.row < 0 else each.name
        if unit not in bound:
            reads = sum(1 for step in program.steps[max(each.first, 0) : each.last + 1] if step.call >= 0 and _touches(program, step.call, each.name))
            touched[unit] = touched.get(unit, 0) + each.nbytes * max(2, reads)
            alive[unit] = max(alive.get(unit, 0), each.nbytes) if unit == SCRATCH else alive.get(unit, 0) + each.nbytes
    return sorted(touched, key=lambda unit: (-touched[unit] / max(1, alive[unit]), unit))


def _bound(program: Program) -> set[str]:
    """What stays in the arena: ports, what they show, and what views show together."""
    found = {port.buffer for port in program.inputs + program.outputs}
    for view in program.buffers.values():
        shown = {piece.buffer for piece in view.pieces}
        if len(shown) > 1 or view.name in found:
            found |= shown
    return found


def _touches(program: Program, call: int, name: str) -> bool:
    read = [program.buffers[operand.buffer] for operand in program.calls[call].inputs if operand.buffer]
    return program.calls[call].output == name or any(buffer.name == name or any(piece.buffer == name for piece in buffer.pieces) for buffer in read)


def _part(rows: Rows, units: set[str]) -> Problem:
    """The Problem of some units: the other objects are never touched."""
    kept = {o for name in rows.cells.first if name in units for o in rows.cells.all_of(name)}
    if SCRATCH in units:
        kept |= set(rows.scratch.values())
    if rows.state >= 0 and STATE in units:
        kept.add(rows.state)

    def part(task: Task) -> Task:
        pair = task.in_place if task.in_place and kept.issuperset(task.in_place) else None
        reads, writes = (tuple(o for o in each if o in kept) for each in (task.reads, task.writes))
        return Task(reads, writes, task.scratch if SCRATCH in units else 0, pair)

    whole = rows.problem
    objects = tuple(each if o in kept else Object(each.nbytes, each.align) for o, each in enumerate(whole.objects))
    chains = tuple(tuple(part(task) for task in chain) for chain in whole.chains)
    return Problem(objects, chains, tuple(o for o in whole.initial if o in kept), tuple(o for o in whole.final if o in kept), whole.scratch_align, whole.rows)


@dataclass(frozen=True)
class _Places:
    addresses: dict[int, int]
    scratch: dict[int, int]
    nbytes: int


def _place(rows: Rows, solution: Solution, units: set[str], capacity: int | None) -> _Places | None:
    """Addresses in the order that was found, None if they do not fit."""
    problem = _part(rows, units)
    items = make_items(problem, list(solution.order))
    placer = Placer(items, capacity or 0, make_tables(problem).unit)
    placer.quick()
    if capacity is None:
        placer.thorough()
    if capacity is not None and placer.best.arena > capacity:
        return None
    addresses, scratch = dict[int, int](), dict[int, int]()
    for item, address in zip(items, placer.best.addresses.tolist(), strict=True):
        addresses |= {o: address + at for o, at in item.objects}
        if item.step >= 0:
            scratch[item.step] = address
    return _Places(addresses, scratch, placer.best.arena if items else 0)


def _move(program: Program, rows: Rows, solution: Solution, units: list[str], memory: Memory) -> None:
    if units:
        nbytes = _settle(program, rows, solution, set(units), memory.name, memory.capacity)
        program.memories.append(replace(memory, nbytes=nbytes))


def _settle(program: Program, rows: Rows, solution: Solution, units: set[str], name: str, capacity: int | None) -> int:
    """Write the places of some units into the Program; returns the bytes they take."""
    places = _place(rows, solution, units | ({STATE} if not name else set()), capacity)
    assert places is not None
    addresses = [places.addresses.get(o, 0) for o in range(len(rows.problem.objects))]
    for buffer in (program.buffers[unit] for unit in sorted(units) if unit in rows.cells.first):
        buffer.memory = name
        rows.cells.place(buffer.name, addresses)
    program.settle_views()
    if SCRATCH in units:
        program.scratch_memory = name
        held = {call: places.addresses.get(o, -1) for call, o in rows.scratch.items()}
        program.steps = [replace(step, scratch=held.get(step.call, places.scratch.get(i, -1))) for i, step in enumerate(program.steps)]
    if not name and rows.state >= 0:
        program.state_offset = places.addresses[rows.state]
    return places.nbytes


def _move_constants(program: Program, memories: Sequence[Memory]) -> None:
    """Constants that are read most often for their size to the room that is left in fast memories."""
    reads: dict[str, int] = {}
    for step in program.steps:
        for symbol in program.calls[step.call].constants.values() if step.call >= 0 else ():
            reads[symbol] = reads.get(symbol, 0) + step.count
    room = {memory.name: memory.capacity - next((m.nbytes for m in program.memories if m.name == memory.name), 0) for memory in memories}
    for symbol in sorted((s for s in reads if s in program.constants), key=lambda s: (-reads[s], s)):
        nbytes = -(-program.constants[symbol].data.nbytes // 4) * 4
        name = next((name for name, free in room.items() if nbytes <= free), None)
        if name is not None:
            room[name] -= nbytes
            program.constant_memory[symbol] = name
    known = {memory.name for memory in program.memories}
    program.memories += [memory for memory in memories if memory.name not in known and memory.name in program.constant_memory.values()]
