# SPDX-License-Identifier: Apache-2.0
"""What is scheduled: tasks that write and read objects in one arena. Nothing here knows kernels or tensors.

A chain is the tasks of one operator, run in their order; chains interleave freely. An object (a row of a tensor, an accumulator, a whole tensor) is
alive from its first writer until its last reader has run. With S the tasks done, the bytes alive are

    m(S) = sum of nbytes over objects that S has written or that were there initially, and that a task outside S still reads or writes, or that are final

and task t needs m(S) + (objects it is first to write, unless one takes the place of an object that dies) + scratch while it runs. Initial objects are
all there before the first task, even those that nobody reads. m is submodular on the sets that chains and reads allow, which is what the search relies on
(see search.py). Sizes are rounded up to the alignment that all addresses share (see tables.py).

A task that only reads an object runs after every task of other chains that writes it. One that reads and writes it (an accumulator, a change in place)
runs after every task of other chains that writes it without reading it. Within a chain, only its order counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Object:
    """Bytes that live together. Objects of one `group` keep their distances: each lies at the group's address plus `at`.

    A group's address is a multiple of the largest `align` in it, and every `at` of its object's own: the rows of one tensor may have align 1, all but the
    first. What a dead object of a group leaves may be used by others.
    """

    nbytes: int
    align: int = 4
    group: int = -1  # -1: placed on its own
    at: int = 0


@dataclass(frozen=True)
class Task:
    """One step of an operator: objects by index. An object that is both read and written is changed in place.

    `in_place`: (written, read) where the first may take the address of the second, if the second dies with this task, is as large and neither is in a group.
    """

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    scratch: int = 0
    in_place: tuple[int, int] | None = None


@dataclass(frozen=True)
class Problem:
    """Chains of tasks over objects. `initial` objects are there before the first task, `final` ones must be there after the last."""

    objects: tuple[Object, ...]
    chains: tuple[tuple[Task, ...], ...]
    initial: tuple[int, ...] = ()
    final: tuple[int, ...] = ()
    scratch_align: int = 4
    rows: frozenset[int] = frozenset()  # groups that are parts of one row: many, and small

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return sum(len(chain) for chain in self.chains)


@dataclass(frozen=True)
class Solution:
    """An order and a place for everything.

    order: the chain whose next task runs, step by step. addresses: of each object (-1 if it never lives). scratch: address of each step's scratch, -1
    if it has none. arena: bytes that suffice. peak: the most bytes alive at once in this order. bound: no order needs less; proven.
    """

    order: tuple[int, ...]
    addresses: tuple[int, ...]
    scratch: tuple[int, ...]
    arena: int
    peak: int
    bound: int
    binding: int = -1  # the step at which the peak is reached
    notes: tuple[str, ...] = field(default=())  # what was cut short, for people
