# SPDX-License-Identifier: Apache-2.0
"""The planner: an offset in one arena for every buffer and every call's scratch.

A Slot is bytes that live from one call to another (both inclusive); slots whose lives meet must not overlap. The lower bound is the
largest sum of bytes alive at once; any placement that reaches it is optimal for the given order of calls.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from midge.program import Call, Program

TRIES = 400  # orders of placement tried beyond the fixed ones; the first that reaches the lower bound wins


@dataclass
class Slot:
    """Bytes alive from call `first` to call `last`. `buffers` share it one after another, in place; `scratch` is the call it serves."""

    nbytes: int
    align: int
    first: int
    last: int
    buffers: list[str] = field(default_factory=list)
    scratch: int | None = None
    offset: int = -1

    def meets(self, other: Slot) -> bool:
        return self.first <= other.last and other.first <= self.last


def plan(program: Program) -> None:
    """Set Buffer.live and .offset, Program.scratch_offsets, .arena_nbytes and .lower_bound."""
    set_lives(program)
    slots = make_slots(program)
    program.lower_bound = lower_bound(slots)
    best = min((pack(order) for order in _orders(slots, program.lower_bound)), key=_height)
    for slot in best:
        for name in slot.buffers:
            program.buffers[name].offset = slot.offset
        if slot.scratch is not None:
            program.scratch_offsets[slot.scratch] = slot.offset
    program.arena_nbytes = max(program.arena_align, round_up(_height(best), program.arena_align))


def set_lives(program: Program) -> None:
    """Buffer.live from the calls: inputs are alive before the first, outputs after the last."""
    count = len(program.calls)
    first: dict[str, int] = {port.buffer: -1 for port in program.inputs}
    last: dict[str, int] = {port.buffer: -1 for port in program.inputs}
    for index, call in enumerate(program.calls):
        first.setdefault(call.output, index)
        for name in [call.output] + [operand.buffer for operand in call.inputs if operand.buffer]:
            last[name] = index
    last.update({port.buffer: count for port in program.outputs})
    for name, buffer in program.buffers.items():
        buffer.live = (first.get(name, -1), last.get(name, -1))


def make_slots(program: Program) -> list[Slot]:
    """One slot per buffer, buffers that are computed in place merged into the slot of the operand they replace, one per scratch."""
    slots: dict[str, Slot] = {name: Slot(b.nbytes, b.align, *b.live, [name]) for name, b in program.buffers.items()}
    for index, call in enumerate(program.calls):
        source = _replaced(program, call, index)
        if source is None or slots[source] is slots[call.output]:
            continue
        slot, joined = slots[source], slots[call.output]
        slot.last, slot.align = max(slot.last, joined.last), max(slot.align, joined.align)
        slot.buffers += joined.buffers
        for name in joined.buffers:
            slots[name] = slot
    unique = list({id(slot): slot for slot in slots.values()}.values())
    scratch = [Slot(call.scratch_nbytes, 4, i, i, scratch=i) for i, call in enumerate(program.calls) if call.scratch_nbytes]
    return unique + scratch


def _replaced(program: Program, call: Call, index: int) -> str | None:
    """The buffer that `call` may overwrite with its output: dead after it, at least as large, and not written in part before."""
    if call.in_place is None:
        return None
    source, output = program.buffers.get(call.inputs[call.in_place].buffer), program.buffers[call.output]
    if source is None or source.live[1] != index or output.live[0] != index or source.nbytes < output.nbytes:
        return None
    return source.name


def lower_bound(slots: list[Slot]) -> int:
    """The largest sum of slot bytes alive at one call."""
    moments = {slot.first for slot in slots}
    step = min((slot.align for slot in slots), default=1)  # every slot starts, and so the next one, at a multiple of it
    return max((sum(round_up(s.nbytes, step) for s in slots if s.first <= t <= s.last) for t in moments), default=0)


def spare(program: Program) -> dict[int, int]:
    """Layer -> bytes of the placed arena that nothing occupies while the layer runs, its own scratch not counted: what other kernels may use."""
    slots, found = make_slots(program), dict[int, int]()
    for index, call in enumerate(program.calls):
        alive = sum(round_up(slot.nbytes, 4) for slot in slots if slot.first <= index <= slot.last and slot.scratch != index)
        found[call.layer] = min(program.arena_nbytes - alive, found.get(call.layer, program.arena_nbytes))
    return found


def pack(order: list[Slot]) -> list[Slot]:
    """First fit: each slot at the lowest offset free among the slots placed before it."""
    placed: list[Slot] = []
    for slot in order:
        offset = 0
        for other in sorted((p for p in placed if p.meets(slot)), key=lambda p: p.offset):
            if offset + slot.nbytes <= other.offset:
                break
            offset = max(offset, round_up(other.offset + other.nbytes, slot.align))
        placed.append(Slot(slot.nbytes, slot.align, slot.first, slot.last, slot.buffers, slot.scratch, offset))
    return placed


def _orders(slots: list[Slot], bound: int):  # type: ignore[no-untyped-def]
    """Orders worth trying, stopping after one that reaches the bound: by size, by length of life, by area, then shuffles near those."""
    keys = (
        lambda s: (-s.nbytes, s.first),
        lambda s: (s.first, -s.nbytes),
        lambda s: (-(s.last - s.first + 1) * s.nbytes, s.first),
        lambda s: (-(s.last - s.first), -s.nbytes),
        lambda s: (-s.last, -s.nbytes),
    )
    generator = random.Random(0)
    for key in keys:
        order = sorted(slots, key=key)
        yield order
        if _height(pack(order)) <= bound:
            return
    for _ in range(TRIES):
        order = sorted(slots, key=lambda s: -s.nbytes * generator.uniform(0.5, 2.0))
        yield order
        if _height(pack(order)) <= bound:
            return


def _height(slots: list[Slot]) -> int:
    return max((slot.offset + slot.nbytes for slot in slots), default=0)


def round_up(value: int, step: int) -> int:
    return -(-value // step) * step
