# SPDX-License-Identifier: Apache-2.0
"""Which integers each element of each activation can hold, for any input whatever.

    [low, high] of an operator's output from the [low, high] of its inputs, element by element

An operator that never decreases in any operand is its own reference, applied to the lows and to the highs: every rounding is the real one, so the ends are
exact. Conv2D and Dense take low with the positive and high with the negative weights, padding is exactly 0 after the zero_point is subtracted, and the ends
go through the requantization and the clamp. Mul takes four corners, a function of one element its extremes over low..high. Inputs of the graph, and
operators that have no rule here (Softmax), hold anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from midge.fixedpoint import activation_range, quantize_multipliers, requantize
from midge.ir import Array, DType, Graph, Node, TensorType
from midge.ops.binary import Add, Mul, Sub
from midge.ops.conv import Conv2D
from midge.ops.conv_kernels import effective_scales
from midge.ops.dense import Dense
from midge.ops.join import Concat, Slice
from midge.ops.mean import Mean
from midge.ops.move import Transpose
from midge.ops.pad import Pad
from midge.ops.pool import AveragePool, MaxPool
from midge.ops.prelu import PRelu
from midge.ops.resize import Resize
from midge.ops.unary import Unary
from midge.ops.view import Reshape

Mask = npt.NDArray[np.bool_]
BYTES = (DType.S8, DType.U8)
NEVER_DECREASING = (Add, AveragePool, Concat, MaxPool, Mean, Pad, Reshape, Resize, Slice, Transpose)


@dataclass(frozen=True)
class Interval:
    """`low` and `high` have the shape and element type of the value; both ends are included. Channels are the last axis."""

    low: Array
    high: Array

    @property
    def constant(self) -> Mask:
        """Channels (C) that hold one integer at each position, whatever the input; it may differ from position to position."""
        low, high = self._pixels()
        return np.asarray((low == high).all(axis=0))

    @property
    def uniform(self) -> Mask:
        """Channels (C) that hold one integer, the same at all positions."""
        low, high = self._pixels()
        return np.asarray((low == low[0]).all(axis=0) & (high == low[0]).all(axis=0))

    def _pixels(self) -> tuple[Array, Array]:
        """Both ends as (positions, C)."""
        channels = self.low.shape[-1] if self.low.ndim else 1
        return self.low.reshape(-1, channels), self.high.reshape(-1, channels)


Bounds = dict[str, Interval]


def intervals(graph: Graph) -> Bounds:
    """The Interval of every value stored in 8 bits; constants of any type are their own bounds."""
    found: Bounds = {name: Interval(value.data, value.data) for name, value in graph.values.items() if value.data is not None}
    found.update({name: anything(graph.type(name)) for name in graph.inputs if graph.type(name).dtype in BYTES})
    for node, types, out in graph.walk():
        rule = _rule(node)
        known = all(name in found for name in node.inputs) and all(kind.dtype in BYTES for kind in out)
        if rule is not None and known:
            found[node.outputs[0]] = rule(graph, node, [found[name] for name in node.inputs], types, out[0])
        else:
            found.update({name: anything(kind) for name, kind in zip(node.outputs, out, strict=True) if kind.dtype in BYTES})
    return found


def anything(kind: TensorType) -> Interval:
    """The whole range of an 8-bit type."""
    info = np.iinfo(kind.dtype.numpy)
    return Interval(np.full(kind.shape, info.min, kind.dtype.numpy), np.full(kind.shape, info.max, kind.dtype.numpy))


Rule = Callable[[Graph, Node, list[Interval], list[TensorType], TensorType], Interval]


def _rule(node: Node) -> Rule | None:
    rules: tuple[tuple[type | tuple[type, ...], Rule], ...] = (
        ((Conv2D, Dense), _linear),
        (NEVER_DECREASING, _ends),
        ((Sub, Mul), _corners),
        (PRelu, _prelu),
        (Unary, _function),
    )
    return next((rule for kinds, rule in rules if isinstance(node.op, kinds)), None)


def _evaluate(graph: Graph, node: Node, operands: list[Array], types: list[TensorType], out: TensorType) -> Array:
    return node.op.reference(operands, types, [out], graph.numerics)[0].reshape(out.shape)


def _ends(graph: Graph, node: Node, x: list[Interval], types: list[TensorType], out: TensorType) -> Interval:
    low, high = (_evaluate(graph, node, ends, types, out) for ends in ([i.low for i in x], [i.high for i in x]))
    return Interval(low, high)


def _extremes(results: list[Array]) -> Interval:
    return Interval(np.minimum.reduce(results), np.maximum.reduce(results))


def _corners(graph: Graph, node: Node, x: list[Interval], types: list[TensorType], out: TensorType) -> Interval:
    """A product or difference is linear in each operand, and its rounding never decreases."""
    corners = itertools.product(*((interval.low, interval.high) for interval in x))
    return _extremes([_evaluate(graph, node, list(corner), types, out) for corner in corners])


def _prelu(graph: Graph, node: Node, x: list[Interval], types: list[TensorType], out: TensorType) -> Interval:
    """Below the zero_point and from it on the function never turns, so its extremes are at the ends of these two parts of low..high."""
    low, high = x[0].low, x[0].high
    points = [low, high, *(np.clip(types[0].q.z + step, low, high).astype(low.dtype) for step in (-1, 0))]
    return _extremes([_evaluate(graph, node, [point, x[1].low], types, out) for point in points])


def _function(graph: Graph, node: Node, x: list[Interval], types: list[TensorType], out: TensorType) -> Interval:
    """The least and greatest entry between low and high of the table of 256 results."""
    info = np.iinfo(types[0].dtype.numpy)
    every = np.arange(info.min, info.max + 1).astype(types[0].dtype.numpy)
    table = _evaluate(graph, node, [every], [types[0].with_shape((256,))], out.with_shape((256,)))
    least, greatest = np.empty((256, 256), table.dtype), np.empty((256, 256), table.dtype)
    for first in range(256):
        least[first, first:] = np.minimum.accumulate(table[first:])
        greatest[first, first:] = np.maximum.accumulate(table[first:])
    at = tuple(end.astype(np.int64) - info.min for end in (x[0].low, x[0].high))
    return Interval(least[at], greatest[at])


def _linear(graph: Graph, node: Node, x: list[Interval], types: list[TensorType], out: TensorType) -> Interval:
    """acc_low = x_low * w+ + x_high * w- + b, acc_high mirrored; float64 holds every sum exactly."""
    assert isinstance(node.op, (Conv2D, Dense))
    op, shape = as_conv(node.op), types[1].shape
    low, high = (pixels(node, types[0], end).astype(np.float64) - types[0].q.z for end in (x[0].low, x[0].high))
    weights = x[1].low.reshape(shape[0], *(shape[1:] if len(shape) == 4 else (1, 1, shape[1]))).astype(np.float64)
    up, down = np.maximum(weights, 0), np.minimum(weights, 0)
    multiplier, shift = quantize_multipliers(effective_scales(types, out))
    act_min, act_max = activation_range(op.low, op.high, out.q.s, out.q.z)
    ends = []
    for a, b in ((low, high), (high, low)):
        acc = (op.accumulate(a, up) + op.accumulate(b, down)).astype(np.int64) + x[2].low.astype(np.int64)
        y = np.clip(requantize(acc, multiplier, shift, graph.numerics) + out.q.z, act_min, act_max)
        ends.append(y.astype(np.int8).reshape(out.shape))
    return Interval(*ends)


def as_conv(op: Conv2D | Dense) -> Conv2D:
    """The convolution that a Dense is on a column of pixels."""
    return Conv2D(low=op.low, high=op.high) if isinstance(op, Dense) else op


def pixels(node: Node, kind: TensorType, x: Array) -> Array:
    """An input of Conv2D or Dense as (H, W, C), that of a Dense as one column."""
    if isinstance(node.op, Conv2D) and node.op.planar:
        return np.asarray(x[0].transpose(1, 2, 0))
    return x.reshape(kind.hwc) if isinstance(node.op, Conv2D) else x.reshape(-1, 1, kind.shape[-1])
