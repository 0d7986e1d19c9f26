# SPDX-License-Identifier: Apache-2.0
"""How far the integers are from real arithmetic, value by value.

    SNR = 10 log10(sum of r^2 / sum of (r - scale (q - zero_point))^2)  dB over all elements of a value and all samples

r is what the same network gives in float32 from the same quantized inputs, so the noise of all layers before is in it. If the float model is at hand,
that is the reference; else it is real_graph: the weights dequantized, every value clipped to what its type can hold, nothing rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from midge.ir import Array, DType, Graph, TensorType, Value
from midge.ops.build import dequantize
from midge.ops.quantize import Dequantize, Quantize
from midge.passes.ports import from_port
from midge.run.reference import run_reference

Sample = list[Array]
SAMPLES = 8
FLOAT_MODEL = "the float32 model"
OWN_REFERENCE = "the network's own weights in real arithmetic (dequantized, clipped to the range of each type, not rounded)"


@dataclass(frozen=True)
class Distance:
    """Of one value: SNR in dB (None if there is no noise at all, or no signal), the largest error in real units, and in steps of its scale."""

    snr_db: float | None
    exact: bool
    largest_error: float
    largest_steps: float


@dataclass(frozen=True)
class Accuracy:
    """Distances by value, what was compared with what, and why some values are missing."""

    reference: str
    data: str
    samples: int
    distances: dict[str, Distance]
    left_out: dict[str, str]


def compare(
    graph: Graph, samples: Sequence[Sample], data: str, float_graph: Graph | None = None, kept: Mapping[str, tuple[int, ...]] | None = None
) -> Accuracy:
    """The distance of every quantized value that a node of `graph` computes. `data` says what the samples are; `kept` has the channels that are left of a
    value of the float graph (see midge.passes.dead_channels)."""
    reference = float_graph if float_graph is not None and _same_inputs(graph, float_graph) else None
    sums: dict[str, list[float]] = {}
    left_out: dict[str, str] = {}
    for sample in samples[:SAMPLES]:
        feeds = dict(zip(graph.inputs, sample, strict=True))
        integers = run_reference(graph, feeds)
        reals = _float_values(graph, reference, feeds)
        for node in graph.nodes:
            for name in node.outputs:
                kind, real = graph.type(name), reals.get(name)
                if kind.quant is None or kind.quant.axis is not None:
                    continue
                if real is None or _channels(real, name, kept).size != kind.count:
                    left_out[name] = "the float model has no value of this name and shape" if reference else "it is not computed in real arithmetic"
                    continue
                if not np.isfinite(real).all():
                    left_out[name] = "in real arithmetic it is not finite"
                    continue
                _add(sums.setdefault(name, [0.0, 0.0, 0.0]), _channels(real, name, kept), dequantize(integers[name], kind.q))
    distances = {name: _distance(*values, scale=graph.type(name).q.s) for name, values in sums.items()}
    return Accuracy(FLOAT_MODEL if reference else OWN_REFERENCE, data, min(len(samples), SAMPLES), distances, left_out)


def _same_inputs(graph: Graph, float_graph: Graph) -> bool:
    counts = [[g.type(name).count for name in g.inputs] for g in (graph, float_graph)]
    return graph.inputs == float_graph.inputs and counts[0] == counts[1]


def _float_values(graph: Graph, reference: Graph | None, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every value of the reference, from the real numbers that the inputs stand for."""
    real = {name: _real(array, graph.type(name)) for name, array in feeds.items()}
    if reference is None:
        return run_real(graph, real)
    declared = {name: from_port(array, name in graph.nhwc) for name, array in real.items()}
    return run_reference(reference, {name: array.reshape(reference.type(name).shape) for name, array in declared.items()})


def _real(array: Array, kind: TensorType) -> Array:
    return array if kind.quant is None else dequantize(array.reshape(kind.shape), kind.quant)


def _channels(real: Array, name: str, kept: Mapping[str, tuple[int, ...]] | None) -> Array:
    """The channels that the integer graph still computes."""
    if not kept or name not in kept or real.ndim == 0 or max(kept[name], default=0) >= real.shape[-1]:
        return real
    return np.asarray(real[..., list(kept[name])])


def _add(sums: list[float], real: Array, got: Array) -> None:
    wanted, error = real.astype(np.float64).reshape(-1), np.abs(real.astype(np.float64).reshape(-1) - got.astype(np.float64).reshape(-1))
    sums[0] += float(np.square(wanted).sum())
    sums[1] += float(np.square(error).sum())
    sums[2] = max(sums[2], float(error.max(initial=0.0)))


def _distance(signal: float, noise: float, largest: float, *, scale: float) -> Distance:
    decibels = 10.0 * math.log10(signal / noise) if signal > 0.0 and noise > 0.0 else None
    finite = decibels is not None and math.isfinite(decibels)
    return Distance(round(decibels, 2) if finite and decibels is not None else None, noise == 0.0, float(f"{largest:.6g}"), float(f"{largest / scale:.4g}"))


def real_type(kind: TensorType) -> TensorType:
    """The float type of a quantized one."""
    return kind if kind.quant is None else replace(kind, dtype=DType.F32, quant=None)


def real_graph(graph: Graph) -> Graph:
    """The same nodes over float values: constants dequantized, biases by the product of the scales of input and weights."""
    copy = Graph(graph.name, list(graph.inputs), list(graph.outputs), list(graph.output_names), list(graph.nodes), {}, graph.numerics)
    biases = {node.inputs[2]: node for node in graph.nodes if node.op.kind in ("Conv2D", "Dense") and len(node.inputs) > 2}
    for name, value in graph.values.items():
        kind, data = value.type, value.data
        if data is not None and kind.quant is not None:
            data = dequantize(data, kind.quant)
        elif data is not None and name in biases and kind.dtype is DType.S32:
            x, w = (graph.type(operand).q for operand in biases[name].inputs[:2])
            data, kind = (data * (x.s * w.scales(data.size).reshape(data.shape))).astype(np.float32), replace(kind, dtype=DType.F32)
        copy.values[name] = Value(name, real_type(kind), data)
    return copy


def run_real(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every value of real_graph(graph), each clipped to the range of its quantized type. A value that has no float meaning is left out, and what reads it."""
    real = real_graph(graph)
    values: dict[str, Array] = {name: value.data for name, value in real.values.items() if value.data is not None}
    values.update(feeds)
    for node, types, out in real.walk():
        if any(name not in values for name in node.inputs):
            continue
        inputs = [values[name] for name in node.inputs]
        results = inputs if isinstance(node.op, Quantize | Dequantize) else node.op.reference(inputs, types, out, graph.numerics)
        for name, result in zip(node.outputs, results, strict=True):
            values[name] = _clipped(graph.type(name))(result)
    return values


def _clipped(kind: TensorType) -> Callable[[Array], Array]:
    if kind.quant is None or kind.quant.axis is not None or kind.dtype.is_float:
        return lambda array: array
    info, quant = np.iinfo(kind.dtype.numpy), kind.quant
    low, high = ((int(bound) - quant.z) * quant.s for bound in (info.min, info.max))
    return lambda array: np.clip(array, np.float32(low), np.float32(high))
