# SPDX-License-Identifier: Apache-2.0
"""Dead channels: leave out every channel that no output can depend on, without changing one byte of any output for any input.

    b'[o] = b[o] + sum over removed channels i and taps t of w[o, t, i] * (c[t, i] - zero_point)

A channel is removed if nothing reads it with a weight other than 0, or if it is one constant for all inputs (a clamp that saturates, weights of 0) and what
reads it can hold that constant in its bias. midge.passes.intervals finds the constants, midge.passes.live_channels what has to stay; here the Graph is
rewritten: weights lose rows and columns, constants and types follow, groups of grouped convolutions go as a whole, kernels lose the outer taps that
only ever meet padding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from midge.check import check
from midge.ir import Array, Graph, Node, Quant, Value
from midge.ops.binary import Binary
from midge.ops.conv import Conv2D
from midge.ops.dense import Dense
from midge.ops.join import Concat, Slice
from midge.ops.pad import Pad
from midge.ops.view import Reshape
from midge.passes.intervals import Mask, intervals
from midge.passes.live_channels import Liveness, concat_parts, find_live
from midge.passes.rewrite import bypass

Pair = tuple[int, int]


@dataclass(frozen=True)
class LayerChannels:
    """One Conv2D or Dense: (before, after) of its output channels, multiply-accumulates and bytes of weights. After is 0 if the layer is gone."""

    name: str
    kind: str
    channels: Pair
    macs: Pair
    weight_nbytes: Pair


@dataclass(frozen=True)
class DeadChannels:
    """What was removed. `kept` has, for each value that lost channels, the indices (in the old order) of those that are left."""

    layers: tuple[LayerChannels, ...]
    kept: dict[str, tuple[int, ...]]

    @property
    def macs(self) -> Pair:
        """Multiply-accumulates of one run, before and after."""
        return sum(layer.macs[0] for layer in self.layers), sum(layer.macs[1] for layer in self.layers)

    @property
    def weight_nbytes(self) -> Pair:
        """Bytes of the weights of Conv2D and Dense, before and after, without biases and padding."""
        return sum(layer.weight_nbytes[0] for layer in self.layers), sum(layer.weight_nbytes[1] for layer in self.layers)

    @property
    def saved(self) -> int:
        """Bytes of weights that need not be stored."""
        return self.weight_nbytes[0] - self.weight_nbytes[1]

    def __bool__(self) -> bool:
        return bool(self.kept) or self.macs[0] != self.macs[1]

    def __str__(self) -> str:
        (macs, macs_left), (nbytes, nbytes_left) = self.macs, self.weight_nbytes
        return f"dead channels: {macs:,} > {macs_left:,} MACs, {nbytes:,} > {nbytes_left:,} bytes of weights"


def eliminate_dead_channels(graph: Graph) -> tuple[Graph, DeadChannels]:
    """(a new Graph that computes the same outputs, what it lost) of a quantized Graph. Inputs and outputs keep all their channels."""
    state = find_live(graph, intervals(graph))
    small = graph.copy()
    for name, value in small.values.items():
        _slice_value(value, state.live[name])
    for node in list(small.nodes):
        if any(state.live[name].any() for name in node.outputs):
            _rewrite(small, state, node)
    for node in list(small.nodes):  # last, for it renames what the rules above look up
        if isinstance(node.op, Concat) and len(node.inputs) == 1:
            bypass(small, node)
    small.prune()
    check(small)
    lost = {name: live for name, live in state.live.items() if not (graph.is_constant(name) or live.all())}
    kept = {name: tuple(int(i) for i in np.flatnonzero(live)) for name, live in lost.items()}
    return small, DeadChannels(_compare(graph, small), kept)


def _slice_value(value: Value, live: Mask) -> None:
    """The value on its live channels. One without any is weights, or read by nobody; it stays for prune to take."""
    if not live.any() or live.all():
        return
    axis = len(value.type.shape) - 1
    value.type = dataclasses.replace(value.type.with_shape((*value.type.shape[:-1], int(live.sum()))), quant=_slice_quant(value.type.quant, axis, live))
    if value.data is not None:
        value.data = np.ascontiguousarray(value.data[..., live])


def _slice_quant(quant: Quant | None, axis: int, live: Mask) -> Quant | None:
    if quant is None or quant.axis != axis:
        return quant
    left = np.flatnonzero(live)
    scales, points = tuple(quant.scale[i] for i in left), tuple(quant.zero_point[i] for i in left)
    return Quant(scales, points, axis if len(left) > 1 else None)


def _rewrite(graph: Graph, state: Liveness, node: Node) -> None:
    """Adapt a node that stays to values that are sliced already. `state` knows the old ones."""
    rules: tuple[tuple[type | tuple[type, ...], Callable[[Graph, Liveness, Node], None]], ...] = (
        ((Conv2D, Dense), _linear),
        (Binary, _binary),
        (Concat, _concat),
        (Slice, _slice),
        (Pad, _pad),
        (Reshape, _reshape),
    )
    for kinds, rule in rules:
        if isinstance(node.op, kinds):
            return rule(graph, state, node)
    return None


def _linear(graph: Graph, state: Liveness, node: Node) -> None:
    """Weights on the live inputs and outputs; the bias takes what the constants among the others add."""
    live_in, live_out = state.live[node.inputs[0]], state.live[node.outputs[0]]
    weights, bias = state.graph.data(node.inputs[1]), state.graph.data(node.inputs[2])
    assert weights is not None and bias is not None
    if isinstance(node.op, Conv2D) and (node.op.groups > 1 or node.op.planar):
        alive = live_out.reshape(node.op.groups, -1).any(axis=1)
        node.op = dataclasses.replace(node.op, groups=int(alive.sum()))
        weights, bias = weights[live_out], bias[live_out]
    else:
        taps = state.taps_of(node)
        bias = taps.folded_bias(live_in, live_out).astype(bias.dtype)
        weights = taps.weights.astype(weights.dtype).reshape(weights.shape)[live_out][..., live_in]
    if isinstance(node.op, Conv2D):
        node.op, weights = crop(node.op, weights, node.op.hwc(graph.type(node.inputs[0]))[:2])
    node.inputs = [node.inputs[0], *(_replace(graph, state, name, data, live_out) for name, data in zip(node.inputs[1:], (weights, bias), strict=True))]


def _replace(graph: Graph, state: Liveness, name: str, data: Array, live_out: Mask) -> str:
    """The constant with other data; itself if nothing changed."""
    old = state.graph.values[name]
    if old.data is not None and np.array_equal(old.data, data):
        return name
    return graph.add_constant(name, np.ascontiguousarray(data), _slice_quant(old.type.quant, 0, live_out))


def crop(op: Conv2D, weights: Array, size: tuple[int, ...]) -> tuple[Conv2D, Array]:
    """Without the first and last taps of each axis of OHWI weights that meet only padding on an input of `size` (H, W)."""
    pads = list(op.pads)
    for axis in (0, 1):
        step, taps = op.dilations[axis], weights.shape[1 + axis]
        outputs = (size[axis] + pads[axis] + pads[axis + 2] - step * (taps - 1) - 1) // op.strides[axis] + 1
        places = np.arange(outputs)[None] * op.strides[axis] + step * np.arange(taps)[:, None] - pads[axis]
        inside = np.flatnonzero(((places >= 0) & (places < size[axis])).any(axis=1))
        first, last = (int(inside[0]), int(inside[-1])) if len(inside) else (0, 0)
        first, last = min(first, pads[axis] // step), max(last, taps - 1 - pads[axis + 2] // step)
        pads[axis], pads[axis + 2] = pads[axis] - first * step, pads[axis + 2] - (taps - 1 - last) * step
        weights = weights[:, first : last + 1] if axis == 0 else weights[:, :, first : last + 1]
    return dataclasses.replace(op, pads=(pads[0], pads[1], pads[2], pads[3])), weights


def _binary(graph: Graph, state: Liveness, node: Node) -> None:
    """An operand that is one number on each channel becomes (1, .., C) of data."""
    index, out = state.constant_operand(node), node.outputs[0]
    if index is None:
        return
    name = node.inputs[index]
    held = state.bounds[name].low.reshape(-1, state.live[name].size)[0]
    channels = held[state.live[out]] if held.size == state.live[out].size else held
    node.inputs[index] = graph.add_constant(name, channels.reshape((1,) * (len(graph.type(out).shape) - 1) + (-1,)), graph.type(name).quant)


def _concat(graph: Graph, state: Liveness, node: Node) -> None:
    assert isinstance(node.op, Concat)
    if node.op.axis != len(graph.type(node.outputs[0]).shape) - 1:
        return
    node.inputs = [name for name, part in concat_parts(state, node) if state.live[node.outputs[0]][part].any()]


def _slice(graph: Graph, state: Liveness, node: Node) -> None:
    assert isinstance(node.op, Slice)
    start, count = int(state.live[node.inputs[0]][: node.op.starts[-1]].sum()), int(state.live[node.outputs[0]].sum())
    if node.op.steps[-1] == 1:
        node.op = Slice((*node.op.starts[:-1], start), (*node.op.ends[:-1], start + count), node.op.steps)


def _pad(graph: Graph, state: Liveness, node: Node) -> None:
    assert isinstance(node.op, Pad)
    live, before = state.live[node.outputs[0]], node.op.pads[-1][0]
    after = before + state.live[node.inputs[0]].size
    node.op = dataclasses.replace(node.op, pads=(*node.op.pads[:-1], (int(live[:before].sum()), int(live[after:].sum()))))


def _reshape(graph: Graph, state: Liveness, node: Node) -> None:
    node.op = Reshape(graph.type(node.outputs[0]).shape)


def _compare(before: Graph, after: Graph) -> tuple[LayerChannels, ...]:
    left = {node.outputs[0]: node for node in after.nodes}
    layers = []
    for node in before.nodes:
        if isinstance(node.op, (Conv2D, Dense)):
            old, new = _measure(before, node), _measure(after, left.get(node.outputs[0]))
            layers.append(LayerChannels(node.name, node.op.kind, *zip(old, new, strict=True)))
    return tuple(layers)


def _measure(graph: Graph, node: Node | None) -> tuple[int, int, int]:
    """(output channels, MACs, bytes of weights)."""
    if node is None:
        return 0, 0, 0
    types, out = graph.types(node.inputs), graph.types(node.outputs)
    return out[0].shape[-1], node.op.macs(types, out), types[1].nbytes
