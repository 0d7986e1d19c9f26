# SPDX-License-Identifier: Apache-2.0
"""Fusion into producers: batch normalization and other per-channel affine steps, bias, activation, padding. Also constant folding.

A step is fused only if the value between the two is real-valued (the model does not round there) or the rounding changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from midge.ir import Array, DType, Graph, Node, Quant, TensorType
from midge.ops.binary import Add, Mul, Sub
from midge.ops.build import dequantize
from midge.ops.conv import Conv2D
from midge.ops.dense import Dense
from midge.ops.pad import Pad
from midge.ops.pool import AveragePool
from midge.ops.unary import Clip
from midge.ops.view import Reshape
from midge.passes.rewrite import bypass, hand_over, merges, producer_of


def real(graph: Graph, name: str) -> Array | None:
    """The real numbers of a constant in float64, None if the value is computed."""
    value = graph.values[name]
    if value.data is None:
        return None
    data = value.data if value.type.quant is None else dequantize(value.data, value.type.quant)
    return data.astype(np.float64)


def fold_constants(graph: Graph) -> Graph:
    """Nodes whose operands are all constant are computed now, in float."""
    for node in list(graph.nodes):
        operands = [real(graph, name) for name in node.inputs]
        if any(data is None for data in operands) or not operands:
            continue
        types = [TensorType(DType.F32, graph.type(name).shape) for name in node.inputs]
        out = [TensorType(DType.F32, graph.type(name).shape) for name in node.outputs]
        floats = [data.astype(np.float32) for data in operands if data is not None]
        for name, data, kind in zip(node.outputs, node.op.reference(floats, types, out, graph.numerics), out, strict=True):
            graph.values[name].data = np.asarray(data, np.float32).reshape(kind.shape)
            graph.values[name].type = kind
        graph.nodes.remove(node)
    graph.prune()
    return graph


def fuse_affine(graph: Graph) -> Graph:
    """conv or dense followed by y * factor + offset per channel: one conv or dense with other weights and bias."""
    changed = True
    while changed:
        changed = any(_fuse_affine_step(graph, node) for node in list(graph.nodes))
    graph.prune()
    return graph


def _fuse_affine_step(graph: Graph, node: Node) -> bool:
    position = next((i for i, name in enumerate(node.inputs) if not graph.is_constant(name)), None)
    if position is None or len(graph.activations(node)) != 1:
        return False
    view, source = None, producer_of(graph, node.inputs[position])
    if source is not None and isinstance(source.op, Reshape) and graph.type(node.inputs[position]).shape[-1:] == graph.type(source.inputs[0]).shape[-1:]:
        view, source = source, producer_of(graph, source.inputs[0])
    if source is None or not isinstance(source.op, (Conv2D, Dense)) or (source.op.low, source.op.high) != (-math.inf, math.inf):
        return False
    between = [name for stage in (source, view) if stage for name in stage.outputs]
    if any(not graph.type(name).dtype.is_float or graph.sole_consumer(name) is None for name in between):
        return False
    channels = graph.type(source.outputs[0]).shape[-1]
    affine = _as_affine(graph, node, position, channels)
    if affine is None:
        return False
    if isinstance(node.op, Add) and len(source.inputs) == 2 and _is_integer_bias(graph, node.inputs[1 - position], channels):
        _set_bias(
            graph,
            source,
            graph.add_constant(node.inputs[1 - position], _data(graph, node.inputs[1 - position]).reshape(-1), graph.type(node.inputs[1 - position]).quant),
        )
    else:
        _scale_weights(graph, source, *affine)
    source.op = replace(source.op, low=getattr(node.op, "low", -math.inf), high=getattr(node.op, "high", math.inf))
    if view is None:
        hand_over(graph, source, node)
        return True
    kind = graph.type(node.outputs[0])
    graph.values[source.outputs[0]].type = kind.with_shape(graph.type(source.outputs[0]).shape)
    view.outputs = list(node.outputs)
    graph.nodes.remove(node)
    return True


def _as_affine(graph: Graph, node: Node, position: int, channels: int) -> tuple[Array, Array] | None:
    """(factor, offset), each one per channel, if the node is y * factor + offset."""
    one, nothing = np.ones(channels), np.zeros(channels)
    if isinstance(node.op, Conv2D):
        weights = real(graph, node.inputs[1])
        if weights is None or node.op != replace(Conv2D(groups=channels), low=node.op.low, high=node.op.high) or weights.shape != (channels, 1, 1, 1):
            return None
        bias = real(graph, node.inputs[2]) if len(node.inputs) > 2 else nothing
        return weights.reshape(-1), nothing if bias is None else bias
    if not isinstance(node.op, (Add, Sub, Mul)) or graph.type(node.outputs[0]).shape != graph.type(node.inputs[position]).shape:
        return None
    constant = real(graph, node.inputs[1 - position])
    if constant is None or constant.size not in (1, channels) or (constant.size > 1 and constant.shape[-1] != channels):
        return None
    vector = np.broadcast_to(constant.reshape(-1), (channels,))
    if isinstance(node.op, Add):
        return one, vector
    if isinstance(node.op, Mul):
        return vector, nothing
    return (one, -vector) if position == 0 else (-one, vector)


def _data(graph: Graph, name: str) -> Array:
    data = graph.data(name)
    assert data is not None
    return data


def _is_integer_bias(graph: Graph, name: str, channels: int) -> bool:
    kind = graph.type(name)
    return kind.dtype is DType.S32 and kind.quant is not None and kind.count == channels


def _set_bias(graph: Graph, node: Node, bias: str) -> None:
    node.inputs = [*node.inputs[:2], bias]


def _scale_weights(graph: Graph, node: Node, factor: Array, offset: Array) -> None:
    """Weights w * factor and bias b * factor + offset. Integer weights keep their integers where only their scale or sign changes."""
    name = node.inputs[1]
    value = graph.values[name]
    if (factor != 1.0).any():
        channels = len(factor)
        quant = value.type.quant
        flips = np.where(factor < 0, -1, 1).reshape([-1] + [1] * (_data(graph, name).ndim - 1))
        integers = value.type.dtype is DType.S8 and quant is not None and set(quant.zero_point) == {0} and (factor != 0).all()
        if integers and quant is not None and (_data(graph, name).astype(np.int64) * flips <= 127).all():
            scaled = Quant.of(quant.scales(channels) * np.abs(factor), 0, 0)
            weights = graph.add_constant(name, (_data(graph, name) * flips).astype(np.int8), scaled)
        else:
            reals = real(graph, name)
            assert reals is not None
            weights = graph.add_constant(name, (reals * factor.reshape(flips.shape)).astype(np.float32))
        node.inputs = [node.inputs[0], weights, *node.inputs[2:]]
    bias = real(graph, node.inputs[2]) if len(node.inputs) > 2 else np.zeros(len(factor))
    assert bias is not None
    if (factor != 1.0).any() or offset.any():
        _set_bias(graph, node, graph.add_constant(f"{node.name}_bias", (bias * factor + offset).astype(np.float32)))


def fuse_activation(graph: Graph) -> Graph:
    """A clamp (Relu, Relu6, Clip) becomes bounds of the operator that computes its input."""
    for node in list(graph.nodes):
        if not isinstance(node.op, Clip):
            continue
        if (node.op.low, node.op.high) == (-math.inf, math.inf) and bypass(graph, node):
            continue
        source = producer_of(graph, node.inputs[0])
        if source is None or not hasattr(source.op, "low") or graph.sole_consumer(node.inputs[0]) is not node:
            continue
        inner, outer = graph.type(node.inputs[0]), graph.type(node.outputs[0])
        if not outer.dtype.is_float and not merges(graph, node.inputs[0], node.outputs[0]):
            continue
        if outer.dtype.is_float and not inner.dtype.is_float:
            graph.values[node.outputs[0]].type = inner
        source.op = _clamped(source.op, node.op)
        hand_over(graph, source, node)
    return graph


def _clamped(op: Any, clip: Clip) -> Any:
    """`op` with its bounds narrowed to what comes out of `clip` after it."""
    low, high = min(max(op.low, clip.low), clip.high), max(min(op.high, clip.high), clip.low)
    return replace(op, low=low, high=high)


def fuse_pad(graph: Graph) -> Graph:
    """Zero padding of height and width moves into the convolution or average pool that reads it."""
    for node in list(graph.nodes):
        consumer = graph.sole_consumer(node.outputs[0]) if isinstance(node.op, Pad) else None
        if not isinstance(node.op, Pad) or consumer is None or node.op.value != 0.0 or not merges(graph, node.inputs[0], node.outputs[0]):
            continue
        pads = node.op.pads
        inner = [pads[i] if i < len(pads) - 1 else (0, 0) for i in range(1, 3)] if len(pads) in (3, 4) else []
        if not inner or pads[0] != (0, 0) or pads[-1] != (0, 0) or min(min(p) for p in pads) < 0:
            continue
        (top, bottom), (left, right) = inner
        extra = (top, left, bottom, right)
        if isinstance(consumer.op, Conv2D):
            consumer.op = replace(consumer.op, pads=_sum(consumer.op.pads, extra))
        elif isinstance(consumer.op, AveragePool) and _pads_count(consumer.op, extra):
            consumer.op = replace(consumer.op, pads=_sum(consumer.op.pads, extra), count_include_pad=True)
        else:
            continue
        if graph.type(node.inputs[0]).dtype.is_float:
            graph.values[node.inputs[0]].type = graph.type(node.outputs[0]).with_shape(graph.type(node.inputs[0]).shape)
        consumer.inputs = [node.inputs[0] if name == node.outputs[0] else name for name in consumer.inputs]
        graph.nodes.remove(node)
    graph.prune()
    return graph


def _sum(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


def _pads_count(pool: AveragePool, extra: tuple[int, int, int, int]) -> bool:
    """Whether zeros around the input may become padding of the pool: they count, and no window lies wholly in them."""
    pads = _sum(pool.pads, extra)
    narrow = max(pads[0], pads[2]) < pool.kernel[0] and max(pads[1], pads[3]) < pool.kernel[1]
    return narrow and (pool.count_include_pad or not any(pool.pads)) and pool.extra == (0, 0)
