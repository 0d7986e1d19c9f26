# SPDX-License-Identifier: Apache-2.0
"""What of a Program is placed: cells, runs of bytes of one buffer that live together, and which of them keep their distances.

A buffer that calls go through by rows has a cell for each row; where a view shows a part of a row, or several views different rows, that part is a cell
of its own. Cells keep their distances where a kernel or a caller takes them in one piece: in a row, of a view too, and in a tensor that something sees as
a whole.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from midge.errors import IRError
from midge.program import Buffer, Call, Contract, Program
from midge.schedule.problem import Object


class Conflict(IRError):
    """Why buffers and their views cannot be placed."""


@dataclass
class Cells:
    """Cells by number: `objects`, the same in the order of a Problem's. `starts`: where those of a buffer begin, the first of them is number `first`.
    `rows`: groups of what lies in one row."""

    buffers: Mapping[str, Buffer]
    objects: list[Object] = field(default_factory=list)
    starts: dict[str, list[int]] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    rows: frozenset[int] = frozenset()

    def of_bytes(self, name: str, start: int, nbytes: int) -> list[tuple[int, int, int]]:
        """(cell, where in it, where in [start, start + nbytes)) of what holds bytes of a buffer, in order."""
        found = []
        for piece in self.buffers[name].owners(start, nbytes):
            starts, end = self.starts[piece.buffer], piece.start + piece.nbytes
            index = bisect_right(starts, piece.start) - 1
            while index < len(starts) and starts[index] < end:
                low = max(piece.start, starts[index])
                found.append((self.first[piece.buffer] + index, low - starts[index], piece.at - start + low - piece.start))
                index += 1
        return found

    def touched(self, name: str, start: int, nbytes: int) -> tuple[int, ...]:
        """The cells of bytes of a buffer."""
        return tuple(cell for cell, _, _ in self.of_bytes(name, start, nbytes))

    def all_of(self, name: str) -> tuple[int, ...]:
        """The cells of a buffer."""
        return tuple(dict.fromkeys(self.touched(name, 0, self.buffers[name].nbytes)))

    def place(self, name: str, addresses: Mapping[int, int] | Sequence[int]) -> None:
        """Write the places of a buffer's rows, from the addresses of its cells; -1 without."""
        buffer, found = self.buffers[name], []
        for row in range(buffer.rows):
            cell, at, _ = self.of_bytes(name, row * buffer.row_nbytes, 1)[0]
            address = addresses[cell]
            found.append(address + at if address >= 0 else -1)
        buffer.offsets = tuple(found)


def by_rows(program: Program, partial: Collection[int]) -> set[str]:
    """The buffers that the calls in `partial` go through by rows."""
    found: set[str] = set()
    for index in partial:
        call = program.calls[index]
        if call.rows > 1:
            found |= {operand.buffer for operand in call.inputs if operand.buffer}
            found |= {call.output} if call.kernel.contract is Contract.ROWS else set()
    return found


def in_one_piece(program: Program, calls: Sequence[Call], ports: Collection[str]) -> dict[str, int]:
    """The buffers of which something takes more than a row, ports and those that a call sees with other rows, and how their first byte is aligned."""
    found = {name: program.buffers[name].align for name in ports}

    def see(name: str, rows: int, row_nbytes: int, offset: int) -> None:
        buffer = program.buffers[name]
        if row_nbytes != buffer.row_nbytes or offset:
            found[name] = max(found.get(name, 1), buffer.align if rows == 1 else math.gcd(buffer.align, row_nbytes))

    for call in calls:
        if call.kernel.contract is Contract.ROWS:
            see(call.output, call.rows, call.row_nbytes, 0)
        for operand in call.inputs:
            if operand.buffer:
                see(operand.buffer, operand.window.height, operand.row_nbytes, operand.offset)
    return found


def make_cells(buffers: Mapping[str, Buffer], rows: Collection[str], whole: Mapping[str, int]) -> Cells:
    """Cells of buffers, of which some are gone through by `rows`. `whole`: see in_one_piece.

    Raises: Conflict if bytes would have to lie in two places, or misaligned.
    """
    cells = Cells(buffers)
    cuts: dict[str, set[int]] = {name: {0} for name, buffer in buffers.items() if not buffer.pieces}
    for name, buffer in buffers.items():
        step = buffer.row_nbytes if name in rows else buffer.nbytes
        for start in range(0, buffer.nbytes, step):
            for piece in buffer.owners(start, step):
                cuts[piece.buffer] |= {piece.start, piece.start + piece.nbytes}
    sizes: list[int] = []
    for name, found in cuts.items():
        end = buffers[name].nbytes
        cells.starts[name], cells.first[name] = sorted(found - {end} | {0}), len(sizes)
        sizes += [high - low for low, high in pairwise([*cells.starts[name], end])]
    _Glue(cells, sizes, whole).finish()
    return cells


class _Glue:
    """Groups of cells that keep their distances: each cell has a leader and a distance from it."""

    def __init__(self, cells: Cells, sizes: list[int], whole: Mapping[str, int]) -> None:
        self.cells, self.sizes, self.whole = cells, sizes, whole
        self.leader = list(range(len(sizes)))
        self.distance = [0] * len(sizes)
        for name, buffer in cells.buffers.items():
            if name not in whole and not buffer.pieces and not any(start % buffer.row_nbytes for start in cells.starts[name]):
                continue  # rows without cuts
            step = buffer.nbytes if name in whole else buffer.row_nbytes
            for start in range(0, buffer.nbytes, step):
                self.join(name, start, step)

    def join(self, name: str, start: int, nbytes: int) -> None:
        """Bytes of a buffer lie in one piece."""
        found = self.cells.of_bytes(name, start, nbytes)
        cell, at, begin = found[0]
        for other, other_at, other_begin in found[1:]:
            self.unite(cell, other, other_begin - other_at - begin + at, name)

    def find(self, cell: int) -> int:
        """The leader of a cell, which afterwards is its own."""
        path = []
        while self.leader[cell] != cell:
            path.append(cell)
            cell = self.leader[cell]
        for each in reversed(path[:-1]):
            self.distance[each] += self.distance[self.leader[each]]
            self.leader[each] = cell
        return cell

    def unite(self, cell: int, other: int, distance: int, name: str) -> None:
        """`other` begins `distance` bytes behind `cell`."""
        one, two = self.find(cell), self.find(other)
        distance += self.distance[cell] - self.distance[other]
        if one != two:
            self.leader[two], self.distance[two] = one, distance
        elif distance:
            raise Conflict(f"'{name}' would need bytes in two places")

    def finish(self) -> None:
        """The objects of the cells."""
        groups: dict[int, list[int]] = {}
        for cell in range(len(self.sizes)):
            groups.setdefault(self.find(cell), []).append(cell)
        owner = [buffer for name in self.cells.first for buffer in [self.cells.buffers[name]] * len(self.cells.starts[name])]
        aligns, at, number = [buffer.align for buffer in owner], [0] * len(owner), [-1] * len(owner)
        bases: list[int] = []  # alignment of each group
        together = [members for members in groups.values() if len(members) > 1]
        for index, members in enumerate(sorted(together, key=min)):
            places = {cell: self.distance[cell] for cell in members}
            base, align = min(places.values()), math.lcm(*(owner[cell].align for cell in members))
            for cell, place in places.items():
                at[cell], number[cell], aligns[cell] = place - base, index, 1 if place > base else align
            bases.append(align)
            self.check_apart(sorted(members, key=at.__getitem__), at)
        whole = {self.find(cell) for name in self.whole for cell in self.cells.all_of(name)}
        self.cells.rows = frozenset(number[cell] for cell in range(len(owner)) if number[cell] >= 0 and self.find(cell) not in whole)
        self.cells.objects = [Object(*each) for each in zip(self.sizes, aligns, number, at, strict=True)]
        for name, buffer in self.cells.buffers.items():
            self.check_aligned(name, buffer, bases)

    def check_apart(self, members: list[int], at: list[int]) -> None:
        for before, after in pairwise(members):
            if at[before] + self.sizes[before] > at[after]:
                raise Conflict("bytes of two tensors would have to share a place")

    def check_aligned(self, name: str, buffer: Buffer, bases: list[int]) -> None:
        """Rows lie at multiples of what divides their size and the alignment, one row of pixels at those of the alignment."""
        pixels = buffer.rows == 1 and buffer.type.hwc[1] > 1
        wanted = max(self.whole.get(name, 1), buffer.align if pixels else math.gcd(buffer.align, buffer.row_nbytes))
        for row in range(1 if name in self.whole else buffer.rows):
            cell, inside, _ = self.cells.of_bytes(name, row * buffer.row_nbytes, 1)[0]
            thing = self.cells.objects[cell]
            base = thing.align if thing.group < 0 else bases[thing.group]
            if math.gcd(base, thing.at + inside) % wanted:
                raise Conflict(f"row {row} of '{name}' would not be aligned to {wanted} bytes")
