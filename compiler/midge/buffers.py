# SPDX-License-Identifier: Apache-2.0
"""Tensors in the arena, and views of them that have no bytes of their own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from midge.ir import Array, TensorType


@dataclass(frozen=True)
class Piece:
    """Bytes [at, at + nbytes) of a view: those of `buffer` from `start` on."""

    at: int
    nbytes: int
    buffer: str
    start: int


@dataclass
class Buffer:
    """One tensor in the arena: `rows` rows of `row_nbytes`, HWC, or `planar`: see planar_order. The scheduler says where each row lies, and in which
    steps the tensor is alive (-1 is before the run). A row that is never written or read has offset -1. A view has no bytes of its own and is never
    written: `pieces`, in order, say whose its bytes are; no view is among those."""

    name: str
    type: TensorType
    rows: int
    row_nbytes: int
    align: int = 4
    offsets: tuple[int, ...] = ()
    live: tuple[int, int] = (0, 0)
    planar: bool = False
    memory: str = ""  # '' is the arena
    pieces: tuple[Piece, ...] = ()

    @property
    def nbytes(self) -> int:
        return self.rows * self.row_nbytes

    @property
    def offset(self) -> int:
        """Of row 0, -1 before it is placed."""
        return self.offsets[0] if self.offsets else -1

    @property
    def contiguous(self) -> bool:
        """Whether rows lie one after the other."""
        return all(offset == self.offset + row * self.row_nbytes for row, offset in enumerate(self.offsets))

    def put(self, offset: int) -> None:
        """Place all rows one after the other from `offset` on."""
        self.offsets = tuple(offset + row * self.row_nbytes for row in range(self.rows))

    def owners(self, start: int, nbytes: int) -> Iterator[Piece]:
        """Whose the bytes [start, start + nbytes) are: the buffer's own, or those that a view shows."""
        if not self.pieces:
            yield Piece(start, nbytes, self.name, start)
            return
        end = start + nbytes
        first = bisect_right(self.pieces, start, key=lambda piece: piece.at) - 1
        for index in range(first, len(self.pieces)):
            piece = self.pieces[index]
            low, high = max(start, piece.at), min(end, piece.at + piece.nbytes)
            if low >= high:
                return
            yield Piece(low, high - low, piece.buffer, piece.start + low - piece.at)

    def hwc(self, data: Array) -> Array:
        """The bytes of the buffer as HWC."""
        if not self.planar:
            return data
        _, width, channels = self.type.hwc
        return np.ascontiguousarray(data.reshape(self.rows, -1)[:, planar_order(width, channels)]).reshape(-1)


def planar_order(width: int, channels: int) -> Array:
    """Where in a planar row the bytes of an HWC row are. A planar row holds channel by channel the pixels of each, in fours in the order 0, 2, 1, 3, the
    last one to three as they are."""
    x = np.arange(width)
    place = np.where(x < width // 4 * 4, (x & ~3) | (x & 1) << 1 | (x >> 1 & 1), x)
    return np.asarray((np.arange(channels)[None] * width + place[:, None]).reshape(-1))
