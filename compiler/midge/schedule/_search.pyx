# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Searches over states: how many tasks each chain has done. What they find and why it is right is said in search.py."""

from libc.stdint cimport int32_t, int64_t, uint16_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy

import numpy as np

cdef enum:
    CLOSURE = -1  # a node reached by free tasks, not by one that was chosen
    REPORT = 512  # states between two calls of progress

cdef struct Node:
    int64_t key  # the most bytes alive on the way here
    int64_t alive  # bytes alive here
    int64_t tie
    int32_t parent
    int32_t via  # the chain whose task led here
    int32_t done  # number of tasks
    uint64_t hash


cdef inline bint before(const Node *a, const Node *b) noexcept nogil:
    """The order of the queue: least key, then furthest, then the cheapest last step."""
    if a.key != b.key:
        return a.key < b.key
    if a.done != b.done:
        return a.done > b.done
    return a.tie < b.tie


cdef class Engine:
    """The tables of a problem as C pointers, and the arithmetic of one step."""

    cdef readonly int chains, tasks, objects
    cdef list arrays
    cdef int32_t *first
    cdef int32_t *touched_at
    cdef int32_t *touched
    cdef int32_t *written_at
    cdef int32_t *written
    cdef int32_t *needs_at
    cdef int32_t *needs
    cdef int32_t *uses_at
    cdef int32_t *uses
    cdef int32_t *weight
    cdef int32_t *scratch
    cdef int32_t *initial
    cdef int32_t *final
    cdef int32_t *in_place
    cdef int32_t *lazy
    cdef int32_t *log  # chains stepped since `logged` was set to 0, -1: nobody asks
    cdef int logged
    cdef size_t width  # bytes of a state
    cdef uint16_t *trial

    def __cinit__(self, tables):
        self.arrays = []
        self.chains, self.tasks, self.objects = tables.chains, tables.tasks, len(tables.weight)
        self.first, self.weight, self.scratch = self.take(tables.first), self.take(tables.weight), self.take(tables.scratch)
        self.touched_at, self.touched = self.take(tables.touched_at), self.take(tables.touched)
        self.written_at, self.written = self.take(tables.written_at), self.take(tables.written)
        self.needs_at, self.needs = self.take(tables.needs_at), self.take(tables.needs)
        self.uses_at, self.uses = self.take(tables.uses_at), self.take(tables.uses)
        self.initial, self.final, self.in_place, self.lazy = (self.take(tables.initial), self.take(tables.final), self.take(tables.in_place),
                                                              self.take(tables.lazy))
        self.width = self.chains * sizeof(uint16_t)
        self.log = <int32_t *>calloc(self.tasks + 1, sizeof(int32_t))
        self.trial = <uint16_t *>calloc(self.chains + 1, sizeof(uint16_t))
        self.logged = -1
        if not self.log or not self.trial:
            raise MemoryError

    def __dealloc__(self):
        free(self.log)
        free(self.trial)

    cdef int32_t *take(self, array) except NULL:
        cdef int32_t[::1] view = np.append(np.ravel(array), 0).astype(np.int32)
        self.arrays.append(view)
        return &view[0]

    cdef inline bint begun(self, int o, const uint16_t *p) noexcept nogil:
        cdef int i
        if self.initial[o]:
            return True
        for i in range(self.uses_at[o], self.uses_at[o + 1], 3):
            if p[self.uses[i]] > self.uses[i + 1]:
                return True
        return False

    cdef inline bint needed(self, int o, const uint16_t *p) noexcept nogil:
        cdef int i
        if self.final[o]:
            return True
        for i in range(self.uses_at[o], self.uses_at[o + 1], 3):
            if p[self.uses[i]] < self.uses[i + 2]:
                return True
        return False

    cdef int64_t touched_alive(self, int task, const uint16_t *p) noexcept nogil:
        cdef int i, o
        cdef int64_t total = 0
        for i in range(self.touched_at[task], self.touched_at[task + 1]):
            o = self.touched[i]
            if self.begun(o, p) and self.needed(o, p):
                total += self.weight[o]
        return total

    cdef int64_t run(self, int c, uint16_t *p, int64_t *alive) noexcept nogil:
        """Do the next task of a chain; returns what is in use meanwhile."""
        cdef int i, o, task = self.first[c] + p[c]
        cdef int64_t use = alive[0] + self.scratch[task]
        cdef int64_t old = self.touched_alive(task, p)
        cdef int32_t new = self.in_place[2 * task]
        for i in range(self.written_at[task], self.written_at[task + 1]):
            o = self.written[i]
            if not self.begun(o, p):
                use += self.weight[o]
            elif o == new:
                new = -1
        p[c] += 1
        alive[0] += self.touched_alive(task, p) - old
        if new >= 0 and not self.needed(self.in_place[2 * task + 1], p):
            use -= self.weight[new]
        if self.logged >= 0:
            self.log[self.logged] = c
            self.logged += 1
        return use

    cdef inline bint ready(self, int c, const uint16_t *p) noexcept nogil:
        cdef int i, d, task = self.first[c] + p[c]
        if task >= self.first[c + 1] or self.lazy[c]:
            return False
        for i in range(self.needs_at[task], self.needs_at[task + 1], 2):
            d = self.needs[i]
            if p[d] < self.needs[i + 1] and not self.lazy[d]:
                return False
        return True

    cdef int64_t step(self, int c, uint16_t *p, int64_t *alive) noexcept nogil:
        """The next task of a chain, after those of lazy chains that it needs; returns the most in use."""
        cdef int i, d, task = self.first[c] + p[c]
        cdef int64_t peak = 0
        for i in range(self.needs_at[task], self.needs_at[task + 1], 2):
            d = self.needs[i]
            while p[d] < self.needs[i + 1]:
                peak = max(peak, self.run(d, p, alive))
        return max(peak, self.run(c, p, alive))

    cdef bint close(self, uint16_t *p, int64_t *alive, int64_t key) noexcept nogil:
        """Run every task that fits under the key and leaves no more alive than before. Whether any was found."""
        cdef int c = self.chains - 1, mark
        cdef bint changed = False
        cdef int64_t left
        while c >= 0:
            if self.ready(c, p):
                memcpy(self.trial, p, self.width)
                left, mark = alive[0], self.logged
                if self.step(c, self.trial, &left) <= key and left <= alive[0]:
                    memcpy(p, self.trial, self.width)
                    alive[0], changed, c = left, True, self.chains
                else:
                    self.logged = mark
            c -= 1
        return changed

    cdef bint finished(self, const uint16_t *p) noexcept nogil:
        cdef int c
        for c in range(self.chains):
            if not self.lazy[c] and p[c] < self.first[c + 1] - self.first[c]:
                return False
        return True

    cdef int64_t total(self, const uint16_t *p) noexcept nogil:
        """Bytes alive in a state."""
        cdef int o
        cdef int64_t sum = 0
        for o in range(self.objects):
            if self.begun(o, p) and self.needed(o, p):
                sum += self.weight[o]
        return sum

    cdef int64_t start(self, begin, uint16_t *p) except -1:
        for c in range(self.chains):
            p[c] = begin[c]
        return self.total(p)

    cdef inline int count(self, const uint16_t *p) noexcept nogil:
        cdef int c, n = 0
        for c in range(self.chains):
            n += p[c]
        return n

    cdef inline uint64_t hash(self, const uint16_t *p) noexcept nogil:
        cdef int c
        cdef uint64_t h = 1469598103934665603ULL
        for c in range(self.chains):
            h = (h ^ p[c]) * 1099511628211ULL
        return h ^ (h >> 29)

    def usage(self, begin, order):
        """What is in use at each step of an order from a state: one number a step."""
        cdef uint16_t *p = <uint16_t *>calloc(self.chains + 1, sizeof(uint16_t))
        cdef int64_t alive = self.start(begin, p)
        cdef list found = []
        for c in order:
            found.append(self.run(c, p, &alive))
        free(p)
        return found

    def replay(self, begin, vias):
        """The chains stepped along (chain or CLOSURE, key) pairs from a state, lazy ones included."""
        cdef uint16_t *p = <uint16_t *>calloc(self.chains + 1, sizeof(uint16_t))
        cdef int64_t alive = self.start(begin, p)
        self.logged = 0
        for c, key in vias:
            if c == CLOSURE:
                self.close(p, &alive, key)
            else:
                self.step(c, p, &alive)
        order = [self.log[i] for i in range(self.logged)]
        self.logged = -1
        free(p)
        return order


include "_best_first.pxi"
include "_beam.pxi"
