# SPDX-License-Identifier: Apache-2.0


cdef class BestFirst:
    """Nodes in one growing pool, a hash table from state to its best node, and a heap of those not yet looked at."""

    cdef Engine engine
    cdef Node *nodes
    cdef uint16_t *states
    cdef int32_t *heap
    cdef int32_t *table  # node + 1
    cdef int size, room, waiting, slots, limit

    def __cinit__(self, Engine engine, int limit):
        self.engine, self.limit, self.room, self.slots = engine, limit, 1024, 4096
        self.nodes = <Node *>malloc(self.room * sizeof(Node))
        self.states = <uint16_t *>malloc(self.room * (engine.width + 1))
        self.heap = <int32_t *>malloc(self.room * sizeof(int32_t))
        self.table = <int32_t *>calloc(self.slots, sizeof(int32_t))
        if not (self.nodes and self.states and self.heap and self.table):
            raise MemoryError

    def __dealloc__(self):
        free(self.nodes)
        free(self.states)
        free(self.heap)
        free(self.table)

    cdef inline uint16_t *state(self, int node) noexcept nogil:
        return self.states + <size_t>node * self.engine.chains

    cdef int grow(self) except -1:
        cdef int node
        if self.size == self.room:
            self.room *= 2
            self.nodes = <Node *>realloc(self.nodes, self.room * sizeof(Node))
            self.states = <uint16_t *>realloc(self.states, self.room * (self.engine.width + 1))
            self.heap = <int32_t *>realloc(self.heap, self.room * sizeof(int32_t))
        if 2 * self.size >= self.slots:
            free(self.table)
            self.slots *= 4
            self.table = <int32_t *>calloc(self.slots, sizeof(int32_t))
            if self.table:
                for node in range(self.size):
                    self.enter(node)
        if not (self.nodes and self.states and self.heap and self.table):
            raise MemoryError
        return 0

    cdef bint enter(self, int node) noexcept nogil:
        """Make the node the one of its state, unless there is one with a key as low."""
        cdef int slot = self.find(node)
        if self.table[slot] and self.nodes[self.table[slot] - 1].key <= self.nodes[node].key:
            return False
        self.table[slot] = node + 1
        return True

    cdef int find(self, int node) noexcept nogil:
        """The slot of the table where the node's state is or belongs."""
        cdef int slot = self.nodes[node].hash & (self.slots - 1)
        while self.table[slot]:
            if self.nodes[self.table[slot] - 1].hash == self.nodes[node].hash:
                if memcmp(self.state(self.table[slot] - 1), self.state(node), self.engine.width) == 0:
                    break
            slot = (slot + 1) & (self.slots - 1)
        return slot

    cdef int add(self, const uint16_t *p, int64_t key, int64_t alive, int64_t tie, int parent, int via) except -2:
        """A new node, or -1 if its state was reached with this key or a lower one before."""
        cdef int node
        self.grow()
        node = self.size
        memcpy(self.state(node), p, self.engine.width)
        self.nodes[node] = Node(key, alive, tie, parent, via, self.engine.count(p), self.engine.hash(p))
        if not self.enter(node):
            return -1
        self.size += 1
        return node

    cdef void put(self, int node) noexcept nogil:
        cdef int at = self.waiting
        self.waiting += 1
        while at and before(&self.nodes[node], &self.nodes[self.heap[(at - 1) // 2]]):
            self.heap[at] = self.heap[(at - 1) // 2]
            at = (at - 1) // 2
        self.heap[at] = node

    cdef int get(self) noexcept nogil:
        cdef int top = self.heap[0], node, at = 0, child
        self.waiting -= 1
        node = self.heap[self.waiting]
        while 2 * at + 1 < self.waiting:
            child = 2 * at + 1
            if child + 1 < self.waiting and before(&self.nodes[self.heap[child + 1]], &self.nodes[self.heap[child]]):
                child += 1
            if not before(&self.nodes[self.heap[child]], &self.nodes[node]):
                break
            self.heap[at] = self.heap[child]
            at = child
        self.heap[at] = node
        return top

    cdef int expand(self, int node, const uint16_t *p, int64_t alive, int64_t key, int64_t below) except -1:
        """Add every state one task further on; `key` is that of the node, and those at `below` or more are not wanted."""
        cdef int c, child
        cdef int64_t left, peak
        cdef uint16_t *q = self.engine.trial
        for c in range(self.engine.chains - 1, -1, -1):
            if self.engine.ready(c, p):
                memcpy(q, p, self.engine.width)
                left = alive
                peak = self.engine.step(c, q, &left)
                if max(key, peak) < below:
                    child = self.add(q, max(key, peak), left, peak * (self.engine.chains + 1) - c, node, c)
                    if child >= 0:
                        self.put(child)
        return 0

    cdef path(self, int node):
        vias = []
        while self.nodes[node].parent >= 0:
            vias.append((self.nodes[node].via, self.nodes[node].key))
            node = self.nodes[node].parent
        return vias[::-1]


def best_first(Engine engine, begin, int64_t key, int64_t below, int cap, report=None):
    """(order or None, key, states looked at, complete) from a state.

    The order, if there is one, never has more than `key` alive, and no order has less, given that the key it was called with is a bound.
    Without an order: none has less than `key`; complete tells that this is for want of states below `below`, not because of the cap.
    """
    cdef BestFirst queue = BestFirst(engine, 4 * cap)
    cdef uint16_t *p = <uint16_t *>calloc(engine.chains + 1, sizeof(uint16_t))
    cdef int64_t alive = engine.start(begin, p)
    cdef int node, closed, states = 0
    key = max(key, alive)
    try:
        queue.put(queue.add(p, key, alive, 0, -1, CLOSURE))
        while queue.waiting:
            node = queue.get()
            if queue.table[queue.find(node)] != node + 1:
                continue
            key = max(key, queue.nodes[node].key)
            if states >= cap or queue.size >= queue.limit:
                return None, key, states, False
            states += 1
            if report is not None and states % REPORT == 0:
                report(states, key)
            memcpy(p, queue.state(node), engine.width)
            alive = queue.nodes[node].alive
            if engine.close(p, &alive, key):
                closed = queue.add(p, key, alive, 0, node, CLOSURE)
                if closed < 0:
                    continue
                node = closed
            if engine.finished(p):
                return engine.replay(begin, queue.path(node)), key, states, True
            queue.expand(node, p, alive, key, below)
        return None, max(key, below), states, True
    finally:
        free(p)
