# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""First fit of rigid items, the inner loop of placement.py."""

from libc.stdint cimport int32_t
from libc.stdlib cimport free, malloc, qsort

import numpy as np

cdef struct Taken:  # addresses begin <= a < end are not free
    int32_t begin
    int32_t end


cdef int by_begin(const void *a, const void *b) noexcept nogil:
    return (<const Taken *>a).begin - (<const Taken *>b).begin


cdef int32_t lowest(const Taken *taken, int count, int32_t align, bint tight) noexcept nogil:
    """The lowest free address; if `tight`, that in the smallest gap which ends."""
    cdef int32_t at = 0, best = -1, gap = 0
    cdef int i
    for i in range(count):
        if taken[i].begin > at:
            if not tight:
                return at
            if best < 0 or taken[i].begin - at < gap:
                best, gap = at, taken[i].begin - at
        if taken[i].end > at:
            at = (taken[i].end + align - 1) // align * align
    return at if best < 0 else best


cdef int32_t highest(const Taken *taken, int count, int32_t align, int32_t limit) noexcept nogil:
    """The highest free address up to `limit`, -1 if there is none."""
    cdef int32_t at = limit // align * align
    cdef int i
    cdef bint moved = True
    while moved and at >= 0:
        moved = False
        for i in range(count):
            if taken[i].begin <= at < taken[i].end:
                at = taken[i].begin - 1
                at = at // align * align if at >= 0 else -1
                moved = True
    return at


cdef class Conflicts:
    """Which items may not lie how: item i at address a and item other at b meet if low < a - b < high."""

    cdef int32_t[::1] at, other, low, high, align, span
    cdef Taken *taken
    cdef readonly int items, pairs

    def __cinit__(self, at, other, low, high, align, span):
        self.at, self.other, self.low, self.high, self.align, self.span = at, other, low, high, align, span
        self.items, self.pairs = len(align), len(other)
        self.taken = <Taken *>malloc((max(np.diff(at), default=0) + 1) * sizeof(Taken))
        if not self.taken:
            raise MemoryError

    def __dealloc__(self):
        free(self.taken)

    cdef int32_t place(self, int item, const int32_t *address, int32_t top, bint tight) noexcept nogil:
        """An address free of the items that have one; near `top` if that is not 0 and something is free below it."""
        cdef int count = 0, i
        cdef int32_t found = -1
        for i in range(self.at[item], self.at[item + 1]):
            if address[self.other[i]] >= 0:
                self.taken[count] = Taken(address[self.other[i]] + self.low[i] + 1, address[self.other[i]] + self.high[i])
                count += 1
        qsort(self.taken, count, sizeof(Taken), by_begin)
        if top:
            found = highest(self.taken, count, self.align[item], top - self.span[item])
        return lowest(self.taken, count, self.align[item], tight) if found < 0 else found

    def first_fit(self, int32_t[::1] order, int32_t[::1] top, bint tight, int32_t stop):
        """(addresses, arena) of the items placed in an order; (None, stop) if that takes `stop` bytes or more.

        top: for each item the height below which it is placed as high as possible, 0 for as low as possible.
        """
        address = np.full(self.items, -1, np.int32)
        cdef int32_t[::1] view = address
        cdef int32_t arena = 0
        cdef int i, item
        for i in range(self.items):
            item = order[i]
            view[item] = self.place(item, &view[0], top[item], tight)
            arena = max(arena, view[item] + self.span[item])
            if arena >= stop:
                return None, stop
        return address, arena
