# SPDX-License-Identifier: Apache-2.0
"""Weights, biases and constant operands as integers, once every activation has a Quant.

    w:  int8, symmetric, one scale per output channel:  s_w[o] = max |w[o]| / 127
    b:  int32 of scale s_x * s_w[o]
    constant operands of other operators: int8, asymmetric, per tensor

A bias that would not fit in int32 (weights of a channel near 0, bias not) raises s_w[o]; the weights then lose nothing that matters.

Source: TFLite 8-bit quantization specification; ONNX QLinearConv-10.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from midge.errors import IRError, Unsupported
from midge.ir import Array, DType, Graph, Node, Quant, TensorType
from midge.ops.build import dequantize, quantize
from midge.ptq.observers import activation_quant

WEIGHTED = ("Conv2D", "Dense")
BIAS_LIMIT = float(1 << 30)  # half of int32 stays free for the sum of products
SMALLEST_MULTIPLIER = 2.0**-24  # a weight step of less than this many output steps is never needed
SAME_SCALE = 1e-6  # float32 products in another order differ by a few 2**-24

Float64 = npt.NDArray[np.float64]


def finish_weights(graph: Graph) -> Graph:
    """The Graph with all float weights, biases and constant operands as integers. Integers that already fit are kept.

    Raises: IRError if a node has a float activation left, Unsupported for weights computed at run time.
    """
    graph = graph.copy()
    for node in graph.nodes:
        if graph.type(node.outputs[0]).quant is None:
            if graph.type(node.outputs[0]).dtype.is_float:
                raise IRError(f"{node.op.kind} '{node.name}': output has no scale yet; weights are quantized last")
            continue
        if node.op.kind in WEIGHTED:
            _finish_weighted(graph, node)
        else:
            _finish_operands(graph, node)
    graph.prune()
    return graph


def real(graph: Graph, name: str) -> Array:
    """The real numbers of a constant."""
    data, quant = graph.data(name), graph.type(name).quant
    if data is None:
        raise IRError(f"value '{name}' is not a constant")
    return data if quant is None else dequantize(data, quant)


def weight_scales(weights: Array, bias: Float64, x: Quant, y: Quant) -> Float64:
    """s_w[o] (float32 values in float64) for real weights (O, ...): wide enough for the weights, for the bias in int32, and for the
    factor s_x * s_w / s_y to stay a number worth multiplying by, channels of zeros included."""
    largest = np.abs(weights.astype(np.float64)).reshape(len(weights), -1).max(1, initial=0.0) / 127.0
    needed = np.maximum(largest, np.abs(bias) / (x.s * BIAS_LIMIT))
    return np.asarray(np.maximum(needed, y.s / x.s * SMALLEST_MULTIPLIER).astype(np.float32), np.float64)


def _finish_weighted(graph: Graph, node: Node) -> None:
    """Weights and bias of a Conv2D or Dense; a missing bias becomes zeros."""
    if not all(graph.is_constant(name) for name in node.inputs[1:]):
        raise Unsupported(f"{node.op.kind} '{node.name}': weights or bias are computed at run time; only constants are offered")
    x, w, y = (graph.type(name) for name in (node.inputs[0], node.inputs[1], node.outputs[0]))
    count = w.shape[0]
    if len(node.inputs) > 2 and graph.type(node.inputs[2]).dtype is DType.S32:
        keep = w.quant is not None and _bias_belongs(graph.type(node.inputs[2]), x.q.s * w.quant.scales(count))
        if keep and w.quant is not None:
            node.inputs[2] = _relabelled(graph, node.inputs[2], Quant.of(x.q.s * w.quant.scales(count), 0, 0))
            return
    bias = np.zeros(count) if len(node.inputs) < 3 else np.broadcast_to(real(graph, node.inputs[2]).astype(np.float64).reshape(-1), (count,))
    if w.quant is None or (np.abs(bias) > x.q.s * w.quant.scales(count) * (2**31 - 1)).any():
        weights = real(graph, node.inputs[1])
        quant = Quant.of(weight_scales(weights, bias, x.q, y.q), 0, 0)
        integers = np.clip(quantize(weights, DType.S8, quant), -127, 127).astype(np.int8)
        node.inputs[1] = graph.add_constant(f"{node.inputs[1]}_s8", integers, quant)
        w = graph.type(node.inputs[1])
    scales = x.q.s * w.q.scales(count)
    stem = node.inputs[2] if len(node.inputs) > 2 else f"{node.name}_bias"
    node.inputs[2:] = [graph.add_constant(f"{stem}_s32", np.rint(bias / scales).astype(np.int32), Quant.of(scales, 0, 0))]


def _bias_belongs(held: TensorType, scales: Float64) -> bool:
    """Whether an int32 bias has the scales s_x * s_w[o] up to float32 rounding (or, as in QLinearConv, states none)."""
    if held.shape != scales.shape:
        return False
    return held.quant is None or (not any(held.quant.zero_point) and np.allclose(held.quant.scales(scales.size), scales, rtol=SAME_SCALE, atol=0.0))


def _relabelled(graph: Graph, name: str, quant: Quant) -> str:
    """The same integers under another Quant: a new constant, as other nodes may read the old one."""
    data = graph.data(name)
    if data is None or graph.type(name).quant == quant:
        return name
    return graph.add_constant(name, data, quant)


def _finish_operands(graph: Graph, node: Node) -> None:
    """Float constant operands: int8 of their own range, or of the output's Quant where elements only move."""
    for i, name in enumerate(node.inputs):
        data = graph.data(name)
        if data is None or data.dtype.kind != "f":
            continue
        quant = graph.type(node.outputs[0]).q if node.op.moves_data else constant_quant(data)
        node.inputs[i] = graph.add_constant(f"{name}_s8", quantize(data, DType.S8, quant), quant)


def constant_quant(data: Array) -> Quant:
    """The Quant of a constant operand: its own range with 0; a constant of one value is represented exactly."""
    return activation_quant(float(data.min(initial=0.0)), float(data.max(initial=0.0)))
