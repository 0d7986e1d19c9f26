# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""First fit of rigid items, the inner loop of placement.py. All in integers, so that results are the same everywhere."""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc, qsort

import numpy as np

cdef struct Taken:  # addresses begin <= a < end are not free
    int32_t begin
    int32_t end


cdef struct Ranked:  # items with low ranks are placed first
    int64_t rank
    int32_t item


cdef enum:
    NEAR = 1 << 10  # ranks between two neighbours of the order to begin with
    NO_LIMIT = 0x7FFFFFFF


cdef int by_rank(const void *a, const void *b) noexcept nogil:
    cdef const Ranked *one = <const Ranked *>a
    cdef const Ranked *other = <const Ranked *>b
    if one.rank != other.rank:
        return -1 if one.rank < other.rank else 1
    return one.item - other.item


cdef inline int64_t below(uint64_t *state, int64_t limit) noexcept nogil:
    """A pseudorandom number from 0 to limit - 1."""
    state[0] = state[0] * 6364136223846793005ULL + 1442695040888963407ULL
    return <int64_t>((state[0] >> 33) % <uint64_t>limit)


cdef inline void sort(Taken *taken, int count) noexcept nogil:
    """By insertion: there are few, and mostly in order."""
    cdef int i, at
    cdef Taken moved
    for i in range(1, count):
        moved, at = taken[i], i
        while at and taken[at - 1].begin > moved.begin:
            taken[at] = taken[at - 1]
            at -= 1
        taken[at] = moved


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
    cdef Ranked *ranked
    cdef readonly int items, pairs

    def __cinit__(self, at, other, low, high, align, span):
        self.align, self.span, self.items = align, span, len(span)
        owner = np.repeat(np.arange(len(span)), np.diff(at))
        order = np.lexsort((low, other, owner))
        self.at, self.other, self.low, self.high = at.copy(), other[order], low[order], high[order]
        self.pairs = self.merge()
        self.taken = <Taken *>malloc((max(np.diff(self.at), default=0) + 1) * sizeof(Taken))
        self.ranked = <Ranked *>malloc((self.items + 1) * sizeof(Ranked))
        if not self.taken or not self.ranked:
            raise MemoryError

    def __dealloc__(self):
        free(self.taken)
        free(self.ranked)

    cdef int merge(self):
        """Make those of one pair of items that overlap into one, such as of rows that lie side by side; returns how many are left."""
        cdef int count = 0, begin = 0, first, item, i
        for item in range(self.items):
            first = count
            for i in range(begin, self.at[item + 1]):
                if count > first and self.other[i] == self.other[count - 1] and self.low[i] < self.high[count - 1]:
                    self.high[count - 1] = max(self.high[count - 1], self.high[i])
                else:
                    self.other[count], self.low[count], self.high[count] = self.other[i], self.low[i], self.high[i]
                    count += 1
            begin, self.at[item + 1] = self.at[item + 1], count
        return count

    cdef int32_t place(self, int item, const int32_t *address, int32_t align, int32_t top, bint tight) noexcept nogil:
        """An address free of the items that have one; near `top` if that is above 0 and something is free below it."""
        cdef int count = 0, i
        cdef int32_t found = -1
        for i in range(self.at[item], self.at[item + 1]):
            if address[self.other[i]] >= 0:
                self.taken[count] = Taken(address[self.other[i]] + self.low[i] + 1, address[self.other[i]] + self.high[i])
                count += 1
        sort(self.taken, count)
        if top > 0:
            found = highest(self.taken, count, align, top - self.span[item])
        return lowest(self.taken, count, align, tight) if found < 0 else found

    def first_fit(self, int32_t[::1] order, int32_t[::1] top, int32_t[::1] align, bint tight, int32_t stop):
        """(addresses, arena) of the items placed in an order; (None, stop) if that takes `stop` bytes or more.

        top: for each item the height below which it is placed as high as possible, 0 or less for as low as possible.
        """
        address = np.full(self.items, -1, np.int32)
        cdef int32_t[::1] view = address
        cdef int32_t arena = 0
        cdef int i, item
        for i in range(self.items):
            item = order[i]
            view[item] = self.place(item, &view[0], align[item], top[item], tight)
            arena = max(arena, view[item] + self.span[item])
            if arena >= stop:
                return None, stop
        return address, arena

    def squeak(self, int32_t[::1] order, int32_t[:, ::1] tops, int32_t[::1] align, int32_t target, int odds, int patience, uint64_t seed):
        """(addresses, arena, tries) of the best of many: what sticks out of `target` is moved forward in the order, until that helps no more.

        A try that sticks out further than the one before is gone back from, but for one in `odds`. It ends after `patience` tries without a smaller arena.
        tops: ways to put rigid items, one of which is taken by chance for each try; as `top` of first_fit, with -1 for items that wait for their turn.
        """
        cdef int32_t[:, ::1] places = np.full((3, self.items), -1, np.int32)  # of this try, of the one that is gone on from, and of the best
        cdef int64_t[:, ::1] ranks = np.zeros((2, self.items), np.int64)  # of this try, and of the one that is gone on from
        cdef int32_t arena = NO_LIMIT, used
        cdef int64_t over, least = 1 << 62
        cdef int i, tries = 0, stalled = 0
        for i in range(self.items):
            ranks[0, order[i]] = <int64_t>i * NEAR
        while stalled <= patience and arena > target and self.items:
            places[0, :] = -1
            used = self.fill(&places[0, 0], &ranks[0, 0], &tops[below(&seed, tops.shape[0]), 0], align)
            tries, stalled = tries + 1, stalled + 1
            if used < arena:
                arena, stalled = used, 0
                places[2] = places[0]
            over = 0
            for i in range(self.items):
                over += max(0, places[0, i] + self.span[i] - target)
            if over <= least or below(&seed, odds) == 0:
                least = over
                ranks[1], places[1] = ranks[0], places[0]
            else:
                ranks[0], places[0] = ranks[1], places[1]
            self.shake(&places[0, 0], &ranks[0, 0], target, &seed)
        return np.asarray(places[2]).copy(), arena, tries

    cdef int32_t fill(self, int32_t *address, const int64_t *rank, const int32_t *top, int32_t[::1] align) noexcept nogil:
        """Place everything, pinned items first; returns the bytes taken."""
        cdef int i, item
        cdef int32_t used = 0
        for i in range(self.items):
            self.ranked[i] = Ranked(rank[i] if top[i] < 0 else -(<int64_t>1 << 60), i)
        qsort(self.ranked, self.items, sizeof(Ranked), by_rank)
        for i in range(self.items):
            item = self.ranked[i].item
            address[item] = self.place(item, address, align[item], top[item], False)
            used = max(used, address[item] + self.span[item])
        return used

    cdef void shake(self, const int32_t *address, int64_t *rank, int32_t target, uint64_t *seed) noexcept nogil:
        """Move what sticks out forward by up to 30 % of the items, and at most three others up to 10 % either way."""
        cdef int64_t all = <int64_t>self.items * NEAR
        cdef int i, item
        for i in range(self.items):
            if address[i] + self.span[i] > target:
                rank[i] -= below(seed, all * 3 // 10 + 1) + NEAR
        for i in range(below(seed, 4)):
            item = below(seed, self.items)
            rank[item] += below(seed, all // 5 + 1) - all // 10
