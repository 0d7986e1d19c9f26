# SPDX-License-Identifier: Apache-2.0


cdef class Beam:
    """For each number of tasks done, the `width` best states found."""

    cdef Engine engine
    cdef Node *nodes
    cdef uint16_t *states
    cdef int32_t *held
    cdef int width

    def __cinit__(self, Engine engine, int width):
        cdef size_t room = <size_t>(engine.tasks + 1) * width
        self.engine, self.width = engine, width
        self.nodes = <Node *>malloc(room * sizeof(Node))
        self.states = <uint16_t *>malloc(room * (engine.width + 1))
        self.held = <int32_t *>calloc(engine.tasks + 1, sizeof(int32_t))
        if not (self.nodes and self.states and self.held):
            raise MemoryError

    def __dealloc__(self):
        free(self.nodes)
        free(self.states)
        free(self.held)

    cdef inline uint16_t *state(self, int node) noexcept nogil:
        return self.states + <size_t>node * self.engine.chains

    cdef inline bint better(self, const Node *a, const Node *b) noexcept nogil:
        if a.key != b.key:
            return a.key < b.key
        if a.alive != b.alive:
            return a.alive < b.alive
        return a.tie < b.tie

    cdef void add(self, const uint16_t *p, int64_t key, int64_t alive, int64_t tie, int parent, int via) noexcept nogil:
        """Keep the state if it is among the best of its number of tasks."""
        cdef int i, base, at = -1, worst
        cdef Node node
        node.key, node.alive, node.tie, node.parent, node.via = key, alive, tie, parent, via
        node.done, node.hash = self.engine.count(p), self.engine.hash(p)
        base = node.done * self.width
        worst = base
        for i in range(base, base + self.held[node.done]):
            if self.nodes[i].hash == node.hash and memcmp(self.state(i), p, self.engine.width) == 0:
                at = i
                break
            if self.better(&self.nodes[worst], &self.nodes[i]):
                worst = i
        if at < 0 and self.held[node.done] < self.width:
            at = base + self.held[node.done]
            self.held[node.done] += 1
        elif at < 0 or not self.better(&node, &self.nodes[at]):
            at = worst if at < 0 and self.better(&node, &self.nodes[worst]) else -1
        if at >= 0:
            self.nodes[at] = node
            memcpy(self.state(at), p, self.engine.width)

    cdef bint expand(self, int at, uint16_t *p, uint16_t *q) noexcept nogil:
        """Add what can follow a node, at most at its key for free; whether nothing is left to do."""
        cdef int c
        cdef int64_t left, peak, key = self.nodes[at].key, alive = self.nodes[at].alive
        memcpy(p, self.state(at), self.engine.width)
        if self.engine.close(p, &alive, key):
            self.add(p, key, alive, 0, at, CLOSURE)
            return False
        if self.engine.finished(p):
            return True
        for c in range(self.engine.chains):
            if self.engine.ready(c, p):
                memcpy(q, p, self.engine.width)
                left = alive
                peak = self.engine.step(c, q, &left)
                self.add(q, max(key, peak), left, peak * (self.engine.chains + 1) - c, at, c)
        return False


def beam(Engine engine, begin, int64_t key, int width):
    """An order from a state and its key, the most alive at once but at least `key`; found with `width` states for each number of tasks."""
    cdef Beam found = Beam(engine, width)
    cdef uint16_t *p = <uint16_t *>calloc(2 * engine.chains + 2, sizeof(uint16_t))
    cdef int64_t alive = engine.start(begin, p)
    cdef int done, at, best = -1
    found.add(p, max(key, alive), alive, 0, -1, CLOSURE)
    for done in range(engine.tasks + 1):
        for at in range(done * width, done * width + found.held[done]):
            if found.expand(at, p, p + engine.chains + 1) and (best < 0 or found.nodes[at].key < found.nodes[best].key):
                best = at
    free(p)
    key = found.nodes[best].key
    vias = []
    while found.nodes[best].parent >= 0:
        vias.append((found.nodes[best].via, found.nodes[best].key))
        best = found.nodes[best].parent
    return engine.replay(begin, vias[::-1]), key
