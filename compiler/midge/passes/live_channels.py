# SPDX-License-Identifier: Apache-2.0
"""Which channels of each value have to exist, found from the outputs backwards.

Channels are the last axis. Inputs and outputs of the graph have all of theirs. Of what a Conv2D or Dense reads, a channel has to exist if a channel that
exists in the output has a weight other than 0 on it, unless the channel is constant and its products go into the bias. Most other operators read the
channels they write, so that the two values have the same ones; a group of a grouped convolution exists as a whole. An operand of Add, Sub or Mul that
is constant on all channels of the output becomes data and is not read at all. What no rule covers reads and writes all its channels.

Masks only grow, in sweeps over the nodes until none does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from midge.ir import Array, Graph, Node
from midge.ops.binary import Binary
from midge.ops.conv import Conv2D
from midge.ops.dense import Dense
from midge.ops.join import Concat, Slice
from midge.ops.mean import Mean
from midge.ops.move import Transpose
from midge.ops.pad import Pad
from midge.ops.pool import AveragePool, MaxPool, windows
from midge.ops.prelu import PRelu
from midge.ops.resize import Resize
from midge.ops.unary import Unary
from midge.ops.view import Reshape
from midge.passes.intervals import Bounds, Mask, as_conv, pixels

SAME_CHANNELS = (AveragePool, MaxPool, Mean, Resize, Unary)
ACC_LIMIT = 1 << 31
SETTLED_LIMIT = 1 << 30  # leaves room for the requantization's own headroom


@dataclass(frozen=True)
class Taps:
    """An ungrouped Conv2D or Dense, and what its taps read from the constant channels of its input, minus the zero_point.

    `weights` is (O, taps, C), `bias` (O). An output that is constant has weights of 0 and a bias that gives the constant. `steady` (taps, C) is where
    a tap reads the same number for every output position, padding included; `values` (taps, C) is that number.
    """

    weights: Array
    bias: Array
    steady: Mask
    values: Array
    nonzero: Array  # (O, taps * C), 0 or 1

    def folds(self, live_out: Mask) -> Mask:
        """Channels (C) whose products are the same for every output position."""
        return np.asarray((self.steady | ~self.used(live_out)).all(axis=0))

    def used(self, live_out: Mask) -> Mask:
        """(taps, C): whether a live output has a weight other than 0 there."""
        return np.asarray(live_out.astype(np.float32) @ self.nonzero > 0).reshape(self.steady.shape)

    def folded_bias(self, live_in: Mask, live_out: Mask) -> Array:
        """The bias of the live outputs with the products of the channels that do not exist, in int64."""
        gone = self.weights[live_out][:, :, ~live_in] * self.values[:, ~live_in]
        return np.asarray(self.bias[live_out] + gone.sum(axis=(1, 2)))


@dataclass
class Liveness:
    """`live` is a mask (C) for each value; a value without a live channel is read by nobody."""

    graph: Graph
    bounds: Bounds
    live: dict[str, Mask]
    taps: dict[str, Taps] = field(default_factory=dict)
    changed: bool = True

    def grow(self, name: str, mask: Mask) -> None:
        if (mask & ~self.live[name]).any():
            self.live[name] = self.live[name] | mask
            self.changed = True

    def read(self, name: str) -> None:
        """A value that is read keeps one channel at least."""
        if not self.live[name].any():
            self.grow(name, np.arange(self.live[name].size) == 0)

    def grow_whole(self, names: list[str]) -> None:
        for name in names:
            self.grow(name, np.ones_like(self.live[name]))

    def same(self, names: list[str]) -> None:
        """All these values have the same channels."""
        union = np.logical_or.reduce([self.live[name] for name in names])
        for name in names:
            self.grow(name, union)

    def constant_operand(self, node: Node) -> int | None:
        """The operand of a Binary that is one integer on each live channel of the output; the other one then has the output's shape."""
        out = node.outputs[0]
        for index in (1, 0):
            name, other = node.inputs[index], node.inputs[1 - index]
            if self.graph.is_constant(name) or self.graph.is_constant(other) or name == other or self.graph.type(other).shape != self.graph.type(out).shape:
                continue
            uniform = self.bounds[name].uniform if name in self.bounds else np.zeros(1, np.bool_)
            if np.broadcast_to(uniform, self.live[out].shape)[self.live[out]].all():
                return index
        return None

    def taps_of(self, node: Node) -> Taps:
        """The Taps of an ungrouped Conv2D or a Dense. Of channels that are not constant nothing is steady."""
        if node.outputs[0] not in self.taps:
            self.taps[node.outputs[0]] = _make_taps(self.graph, self.bounds, node)
        return self.taps[node.outputs[0]]


def _make_taps(graph: Graph, bounds: Bounds, node: Node) -> Taps:
    assert isinstance(node.op, (Conv2D, Dense))
    op, kind, weights, bias = as_conv(node.op), graph.type(node.inputs[0]), graph.data(node.inputs[1]), graph.data(node.inputs[2])
    assert weights is not None and bias is not None
    x, y = bounds[node.inputs[0]], bounds[node.outputs[0]]
    weights = weights.reshape(weights.shape[0], *(weights.shape[1:] if weights.ndim == 4 else (1, 1, weights.shape[1])))
    low = pixels(node, kind, x.low).astype(np.int64) - kind.q.z
    # every accumulator within bounds gives the one integer that a constant output is; that of `low` is as good as any
    acc = op.accumulate(low.astype(np.float64), weights.astype(np.float64))[0, 0].astype(np.int64) + bias
    settled = y.uniform & (np.abs(acc) < SETTLED_LIMIT)
    flat = np.where(settled[:, None, None], 0, weights.reshape(weights.shape[0], -1, weights.shape[-1])).astype(np.int64)
    steady, values = np.zeros(flat.shape[1:], np.bool_), np.zeros(flat.shape[1:], np.int64)
    if x.constant.any():
        read = windows(low[:, :, x.constant], (weights.shape[1], weights.shape[2]), op.strides, op.dilations, op.pads, 0)
        steady[:, x.constant], values[:, x.constant] = (read == read[:, :1, :1]).all(axis=(1, 2)), read[:, 0, 0]
    return Taps(flat, np.where(settled, acc, bias).astype(np.int64), steady, values, (flat != 0).astype(np.float32).reshape(len(flat), -1))


def find_live(graph: Graph, bounds: Bounds) -> Liveness:
    """The least masks that satisfy every node."""
    sizes = {name: value.type.shape[-1] if value.type.shape else 1 for name, value in graph.values.items()}
    state = Liveness(graph, bounds, {name: np.zeros(size, np.bool_) for name, size in sizes.items()})
    state.grow_whole([*graph.inputs, *graph.outputs])
    while state.changed:
        state.changed = False
        for node in reversed(graph.nodes):
            if any(state.live[name].any() for name in node.outputs):
                _rule(node)(state, node)
    return state


def _rule(node: Node) -> Callable[[Liveness, Node], None]:
    rules: tuple[tuple[type | tuple[type, ...], Callable[[Liveness, Node], None]], ...] = (
        ((Conv2D, Dense), _linear),
        (SAME_CHANNELS, _same),
        (Binary, _binary),
        (PRelu, _prelu),
        (Concat, _concat),
        (Slice, _slice),
        (Pad, _pad),
        (Reshape, _reshape),
        (Transpose, _transpose),
    )
    return next((rule for kinds, rule in rules if isinstance(node.op, kinds)), _whole)


def _whole(state: Liveness, node: Node) -> None:
    state.grow_whole([*node.inputs, *node.outputs])


def _same(state: Liveness, node: Node) -> None:
    state.same([*node.inputs, *node.outputs])


def _linear(state: Liveness, node: Node) -> None:
    x, out = node.inputs[0], node.outputs[0]
    groups = node.op.groups if isinstance(node.op, Conv2D) else 1
    if isinstance(node.op, Conv2D) and node.op.planar:
        return state.grow_whole([x])
    if groups > 1:
        alive = np.asarray(state.live[x].reshape(groups, -1).any(axis=1) | state.live[out].reshape(groups, -1).any(axis=1))
        for name in (x, out):
            state.grow(name, np.asarray(np.repeat(alive, state.live[name].size // groups), np.bool_))
        return None
    taps = state.taps_of(node)
    used = np.asarray(taps.used(state.live[out]).any(axis=0))
    state.grow(x, np.asarray(used & ~taps.folds(state.live[out])))
    state.read(x)
    if not _bias_fits(state, node, taps):  # then nothing goes into it
        state.grow(x, used)
    return None


def _bias_fits(state: Liveness, node: Node, taps: Taps) -> bool:
    """Whether no partial sum of the smaller layer, from the bias with the zero_point folded in, can leave 32 bits."""
    live_in, live_out = state.live[node.inputs[0]], state.live[node.outputs[0]]
    kept, zero_point = taps.weights[live_out][:, :, live_in], state.graph.type(node.inputs[0]).q.z
    bias = taps.folded_bias(live_in, live_out)
    most = np.maximum(np.abs(bias), np.abs(bias - zero_point * kept.sum(axis=(1, 2)))) + 255 * np.abs(kept).sum(axis=(1, 2))
    return bool((most < ACC_LIMIT).all())


def _binary(state: Liveness, node: Node) -> None:
    out, data = node.outputs[0], state.constant_operand(node)
    read = [name for index, name in enumerate(node.inputs) if index != data]
    state.same([out, *(name for name in read if state.live[name].size == state.live[out].size)])
    for name in read:
        state.read(name)


def _prelu(state: Liveness, node: Node) -> None:
    """The steepest slope stays: it decides how finely all of them are represented."""
    slope = state.graph.data(node.inputs[1])
    if slope is None:
        return _whole(state, node)
    kind = state.graph.type(node.inputs[1])
    real = slope.astype(np.float64) - (kind.q.z if kind.quant is not None else 0)
    state.grow(node.inputs[1], np.arange(slope.size) == np.abs(real).argmax())
    return _same(state, node)


def _concat(state: Liveness, node: Node) -> None:
    """Along channels an input none of whose channels is wanted is left out."""
    assert isinstance(node.op, Concat)
    out = node.outputs[0]
    if node.op.axis != len(state.graph.type(out).shape) - 1:
        return _same(state, node)
    for name, part in concat_parts(state, node):
        if not state.live[out][part].any():
            continue
        union = state.live[out][part] | state.live[name]
        state.grow(name, union)
        whole = np.zeros_like(state.live[out])
        whole[part] = union
        state.grow(out, whole)
    return None


def concat_parts(state: Liveness, node: Node) -> list[tuple[str, slice]]:
    """Each input of a Concat along channels with the channels of the output that it becomes."""
    ends = np.cumsum([state.live[name].size for name in node.inputs])
    return [(name, slice(int(end) - state.live[name].size, int(end))) for name, end in zip(node.inputs, ends, strict=True)]


def _slice(state: Liveness, node: Node) -> None:
    assert isinstance(node.op, Slice)
    x, out, taken = node.inputs[0], node.outputs[0], node.op.ranges()[-1]
    if taken.step != 1:
        return _whole(state, node)
    wanted = np.zeros_like(state.live[x])
    wanted[taken.start : taken.stop] = state.live[out]
    state.grow(x, wanted)
    state.grow(out, state.live[x][taken.start : taken.stop])
    return None


def _pad(state: Liveness, node: Node) -> None:
    assert isinstance(node.op, Pad)
    x, out, before = node.inputs[0], node.outputs[0], node.op.pads[-1][0]
    inside = slice(before, before + state.live[x].size)
    state.grow(x, state.live[out][inside])
    state.read(x)
    wanted = np.zeros_like(state.live[out])
    wanted[inside] = state.live[x]
    state.grow(out, wanted)


def _reshape(state: Liveness, node: Node) -> None:
    """If one number of channels divides the other, the larger axis repeats the channels of the smaller: (1, H, W, C) as (1, H * W * C), or back."""
    few, many = sorted([node.inputs[0], node.outputs[0]], key=lambda name: state.live[name].size)
    size, copies = state.live[few].size, state.live[many].size // state.live[few].size
    if size * copies != state.live[many].size:
        return _whole(state, node)
    state.grow(few, np.asarray(state.live[many].reshape(copies, size).any(axis=0)))
    state.grow(many, np.tile(state.live[few], copies))
    return None


def _transpose(state: Liveness, node: Node) -> None:
    assert isinstance(node.op, Transpose)
    (_same if node.op.perm[-1] == len(node.op.perm) - 1 else _whole)(state, node)


__all__ = ["Liveness", "concat_parts", "find_live"]
