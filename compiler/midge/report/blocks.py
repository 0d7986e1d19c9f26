# SPDX-License-Identifier: Apache-2.0
"""What lies in the arena as rectangles of addresses and steps, and a colour for each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from midge.ir import Array
from midge.program import Program
from midge.schedule.rows import STATE_NBYTES
from midge.schedule.timeline import Occupant, timeline

PALETTE = (
    "#2d96ff", "#d25a1e", "#00a55a", "#b478e1", "#c38700", "#6987c3", "#f06969", "#69873c", "#d25ac3", "#b46978", "#8769e1", "#9678a5",
)  # fmt: skip
"""Contrast of 3 or more to a white page and a dark one, 4.5 to the numbers on them; the first are the easiest to tell apart, with any kind of colour vision."""
PORT_COLOUR = "#8a9098"


@dataclass(frozen=True)
class Block:
    """Rows of one buffer, or scratch, as one rectangle: bytes [offset, offset + nbytes) from step `first` to step `last`. `layer` is -1 for an input."""

    name: str
    layer: int
    scratch: bool
    offset: int
    nbytes: int
    first: int
    last: int


def blocks(program: Program) -> list[Block]:
    """Occupants with neighbouring rows of equal lifetime joined, in the order in which they come to life, and the state that is kept between calls."""
    found: list[Block] = []
    order = sorted((each for each in timeline(program) if not each.memory), key=lambda each: (each.first, each.last, each.name, each.row < 0, each.offset))
    for each in order:
        last = found[-1] if found else None
        if last and _joins(last, each):
            found[-1] = Block(last.name, last.layer, last.scratch, last.offset, last.nbytes + each.nbytes, last.first, last.last)
        elif each.nbytes:
            found.append(Block(each.name, each.layer, each.row < 0, each.offset, each.nbytes, each.first, each.last))
    if program.state_offset >= 0:
        nbytes = min(STATE_NBYTES, program.arena_nbytes - program.state_offset)
        found.append(Block("state kept between calls", -1, True, program.state_offset, nbytes, 0, len(program.steps) - 1))
    return found


def _joins(block: Block, each: Occupant) -> bool:
    """Whether an occupant goes on where a block ends."""
    same = (block.name, block.scratch, block.first, block.last) == (each.name, each.row < 0, each.first, each.last)
    return same and block.offset + block.nbytes == each.offset


def colours(found: Sequence[Block]) -> dict[int, str]:
    """Layer -> colour; -1 is inputs and state. Greedy, by number: while the palette lasts, layers whose blocks touch differ, and then those alive at once."""
    alive, touching = _neighbours(found)
    chosen: dict[int, int] = {}
    for layer in sorted(alive):
        near, at_once, often = ([0] * len(PALETTE) for _ in range(3))
        for other, which in chosen.items():
            near[which] += other in touching[layer]
            at_once[which] += other in alive[layer]
            often[which] += 1
        chosen[layer] = min(range(len(PALETTE)), key=lambda which: (near[which], at_once[which], often[which], which))
    return {-1: PORT_COLOUR, **{layer: PALETTE[which] for layer, which in chosen.items()}}


def _neighbours(found: Sequence[Block]) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
    """Layer -> layers with a block alive at the same step, and those with a block that shares an edge in the picture."""
    table = np.array([(b.layer, b.offset, b.offset + b.nbytes, b.first, b.last + 1) for b in found], np.int64).reshape(-1, 5)
    layer, low, high, first, end = table.T
    alive: dict[int, set[int]] = {each.layer: set() for each in found if each.layer >= 0}
    touching: dict[int, set[int]] = {each: set() for each in alive}

    def others(of: int, where: Array) -> set[int]:
        return {int(other) for other in layer[where]} - {of, -1}

    for b in found:
        if b.layer >= 0:
            in_time, meets = (first <= b.last) & (end > b.first), (first <= b.last + 1) & (end >= b.first)
            across, beside = (low < b.offset + b.nbytes) & (high > b.offset), (low <= b.offset + b.nbytes) & (high >= b.offset)
            alive[b.layer] |= others(b.layer, in_time)
            touching[b.layer] |= others(b.layer, (in_time & beside) | (meets & across))
    return alive, touching
