# SPDX-License-Identifier: Apache-2.0
"""Weights of four bits: int8 weights w of scale s become q in -7..7 of scale s * a, with its own a for each output channel.

    a minimizes the sum of (w - a q)^2 with q rounded to the nearest; then
    q minimizes the sum over samples and output pixels of ((w - a q) . x)^2 = (w - a q)' H (w - a q),  H = sum of x x'

x are the taps of a pixel, minus the zero point, as the int8 network computes them. H = L D L' turns the sum into one of squares, tap by tap from the last:
each tap is rounded to what is nearest once the errors of the taps before are made up for. With samples of the user's, H is that of x minus its mean, and
the bias takes the mean error. Without, samples are random, which says roughly how taps go together, but not what their mean is.

Only layers are changed that store two weights a byte afterwards (midge.ops.conv_w4.is_offered); weights that have four bits already stay as they are.
Sums of products of integers are exact in float64 and everything else is done element by element, so that every machine finds the same weights.

Source: Babai, On Lovasz' lattice reduction and the nearest lattice point problem (1986), the nearest plane; Frantar et al., GPTQ (2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from midge.check import check
from midge.ir import Array, Graph, Node, Quant
from midge.microkernels.gemm_w4 import fits
from midge.ops.build import dequantize, quantize
from midge.ops.conv import Conv2D
from midge.ops.conv_w4 import is_offered
from midge.ops.dense import Dense
from midge.passes.ports import to_port
from midge.ptq.calibration import Calibration, Sample, load_calibration, sample_types

MOST = 7
GUESSES = tuple(n / 20 for n in range(20, 9, -1))  # of the scale that clips nothing
DAMPING = 0.01  # of the mean square of taps, added to each
DOUBT = 0.3  # of each tap's own square, added where samples are random
ROOM = 2.0**30  # the magnitude of a bias that a smaller scale makes larger, at most
DEEPEST = 1024  # taps of a layer that are rounded together
SAMPLES, RANDOM = 64, 8  # of the user's, at most; of none


@dataclass
class Moments:
    """Sums over the windows (N, K) of a layer: x, x x' (its diagonal where taps are many), and their number."""

    mean: Array
    square: Array
    count: int = 0

    def add(self, windows: Array) -> None:
        self.mean = self.mean + windows.sum(0)
        self.square = self.square + (windows.T @ windows if self.square.ndim == 2 else (windows * windows).sum(0))
        self.count += len(windows)


@dataclass(frozen=True)
class Narrowed:
    """Names of the layers that have weights of four bits, the Graph before, and some samples to compare both on: whose they are."""

    layers: tuple[str, ...]
    before: Graph
    samples: tuple[Sample, ...]
    data: str


def narrow_weights(graph: Graph, calibration: Calibration | None = None) -> tuple[Graph, Narrowed]:
    """(a new Graph with weights of four bits, what became of it) of a quantized Graph. calibration: see load_calibration.

    Raises: UsageError for calibration data that does not fit the inputs.
    """
    small, known = graph.copy(), calibration is not None
    layers = {node.outputs[0]: weights for node in small.nodes if (weights := _weights(small, node)) is not None}
    chosen = _random(graph) if calibration is None else _given(graph, calibration)
    moments = _observe(graph, {value for value, weights in layers.items() if not fits(weights)}, chosen)
    for node in small.nodes:
        if node.outputs[0] in moments:
            _requantize(small, node, layers[node.outputs[0]], moments[node.outputs[0]], known)
    small.prune()
    shown = chosen[:: -(-len(chosen) // RANDOM)]
    return check(small), Narrowed(
        tuple(node.name for node in small.nodes if node.outputs[0] in layers), graph, tuple(shown), "calibration samples" if known else "random samples"
    )


def _weights(graph: Graph, node: Node) -> Array | None:
    """The weights of a layer that may have four bits."""
    if not isinstance(node.op, (Conv2D, Dense)):
        return None
    weights = graph.data(node.inputs[1])
    groups, planar = (node.op.groups, node.op.planar) if isinstance(node.op, Conv2D) else (1, False)
    return weights if weights is not None and weights.dtype == np.int8 and is_offered(weights, groups, planar) else None


def _given(graph: Graph, calibration: Calibration) -> list[Sample]:
    """Samples of the user's in the layout and the element types of the inputs, evenly spaced ones of many."""
    wanted = sample_types(graph)
    samples = load_calibration(calibration, wanted, SAMPLES)
    return [{name: _feed(graph, name, to_port(array.reshape(wanted[name].shape), name in graph.nhwc)) for name, array in sample.items()} for sample in samples]


def _random(graph: Graph) -> list[Sample]:
    """Noise over the whole range of the integers; of float inputs over that of what they are quantized to."""
    random, found = np.random.default_rng(0), []
    for _ in range(RANDOM):
        sample = {}
        for name in graph.inputs:
            kind = graph.type(name)
            quants = [graph.type(node.outputs[0]).quant for node in graph.nodes if name in node.inputs] if kind.dtype.is_float else []
            noise = random.integers(-128, 128, kind.shape).astype(np.int8)
            quant = next((quant for quant in quants if quant is not None), Quant.of(1 / 64, 0))
            sample[name] = dequantize(noise, quant) if kind.dtype.is_float else _in_range(noise, kind.dtype.numpy)
        found.append(sample)
    return found


def _in_range(noise: Array, dtype: np.dtype[Any]) -> Array:
    return (noise.astype(np.int16) + (128 if dtype == np.uint8 else 0)).astype(dtype)


def _observe(graph: Graph, wanted: set[str], samples: list[Sample]) -> dict[str, Moments]:
    """The moments of the layers that compute the values wanted, over all samples."""
    found: dict[str, Moments] = {}
    for sample in samples if wanted else ():
        values: dict[str, Array] = {name: value.data for name, value in graph.values.items() if value.data is not None}
        values |= sample
        for node, types, out in graph.walk():
            if node.outputs[0] in wanted:
                windows = windows_of(graph, node, values[node.inputs[0]])
                depth = windows.shape[1]
                shape = (depth, depth) if depth <= DEEPEST else (depth,)
                found.setdefault(node.outputs[0], Moments(np.zeros(depth), np.zeros(shape))).add(windows)
            results = node.op.reference([values[name] for name in node.inputs], types, out, graph.numerics)
            values |= dict(zip(node.outputs, results, strict=True))
    return found


def _feed(graph: Graph, name: str, array: Array) -> Array:
    """A sample in the element type and shape of an input."""
    kind = graph.type(name)
    if array.dtype.kind == "f" and kind.quant is not None:
        array = quantize(array.astype(np.float32), kind.dtype, kind.quant)
    return array.astype(kind.dtype.numpy).reshape(kind.shape)


def windows_of(graph: Graph, node: Node, x: Array) -> Array:
    """Taps minus the zero point (N, K) of every output pixel, in the order of the weights; padding is 0."""
    kind, weights = graph.type(node.inputs[0]), graph.type(node.inputs[1])
    values = x.astype(np.float64) - kind.q.z
    if not isinstance(node.op, Conv2D):
        return values.reshape(-1, weights.shape[1])
    (top, left, bottom, right), (sh, sw), (dh, dw) = node.op.pads, node.op.strides, node.op.dilations
    values = np.pad(values.reshape(kind.hwc), ((top, bottom), (left, right), (0, 0)))
    _, kh, kw, depth = weights.shape
    rows, cols = (values.shape[0] - dh * (kh - 1) - 1) // sh + 1, (values.shape[1] - dw * (kw - 1) - 1) // sw + 1
    taps = [
        values[ky * dh : ky * dh + (rows - 1) * sh + 1 : sh, kx * dw : kx * dw + (cols - 1) * sw + 1 : sw].reshape(-1, depth)
        for ky in range(kh)
        for kx in range(kw)
    ]
    return np.stack(taps, 1).reshape(rows * cols, -1)


def _requantize(graph: Graph, node: Node, weights: Array, moments: Moments, known: bool) -> None:
    """`known`: the mean of the taps is that of the network's own data."""
    x, w, bias = graph.type(node.inputs[0]), graph.type(node.inputs[1]), graph.data(node.inputs[2])
    assert bias is not None
    flat, mean = weights.reshape(len(weights), -1), moments.mean / moments.count
    square = moments.square / moments.count
    if known:
        square = square - (mean[:, None] * mean[None] if square.ndim == 2 else mean * mean)
    elif square.ndim == 2:
        square = square + np.diag(np.diag(square) * DOUBT)
    integers, factor = rounded(flat, square, np.minimum(np.abs(bias.astype(np.float64)) / ROOM, 1.0))
    error = ((flat - factor[:, None] * integers) * mean).sum(1) if known else np.zeros(len(flat))
    old = w.q.scales(len(weights))
    scales = (old * factor).astype(np.float32).astype(np.float64)
    node.inputs[1] = graph.add_constant(f"{node.inputs[1]}_s4", integers.reshape(weights.shape), Quant.of(scales, 0, 0))
    node.inputs[2] = graph.add_constant(f"{node.inputs[2]}_s4", np.rint((bias + error) * (old / scales)).astype(np.int32), Quant.of(x.q.s * scales, 0, 0))


def rounded(weights: Array, square: Array, least: Array | float = 0.0) -> tuple[Array, Array]:
    """(q int8 (O, K), a (O)) for integer weights (O, K) and H (K, K), or its diagonal (K); a is `least` or more."""
    order = np.argsort(np.diag(square) if square.ndim == 2 else square, kind="stable")  # what matters most is rounded first
    lower = _factors(square[np.ix_(order, order)] if square.ndim == 2 else square[order])
    w = weights.astype(np.float64)[:, order]
    factor = np.maximum(factors_of(w), least)
    integers = np.empty(weights.shape, np.int8)
    integers[:, order] = _nearest(w, factor, lower)
    return integers, factor


def factors_of(w: Array) -> Array:
    """a (O) of integer weights (O, K): of several first guesses, each better by a step of least squares, that of the least sum of (w - a q)^2."""
    top = np.maximum(np.abs(w).max(1, initial=0.0), 1.0) / MOST
    least, taken = np.full(len(w), np.inf), np.array(top)
    for guess in GUESSES:
        q = _round(w, top * guess)
        squares, products = (q * q).sum(1), (w * q).sum(1)
        factor = np.asarray(np.where(squares > 0, products / np.maximum(squares, 1.0), top))
        q = _round(w, factor)
        error = factor**2 * (q * q).sum(1) - 2 * factor * (w * q).sum(1)
        better = error < least
        least[better], taken[better] = error[better], factor[better]
    return taken


def _round(w: Array, factor: Array) -> Array:
    return np.asarray(np.clip(np.rint(w / factor[:, None]), -MOST, MOST))


def _factors(square: Array) -> Array | None:
    """L below its diagonal of ones with H + damping = L D L', None for a diagonal H."""
    if square.ndim == 1:
        return None
    left = square + np.eye(len(square)) * (DAMPING * max(float(np.diag(square).mean()), 1.0))
    for k in range(len(left) - 1):
        column = left[k + 1 :, k] / left[k, k]
        left[k + 1 :, k + 1 :] -= column[:, None] * left[k + 1 :, k][None]
        left[k + 1 :, k] = column
    return np.asarray(np.tril(left, -1))


def _nearest(w: Array, factor: Array, lower: Array | None) -> Array:
    """q of each row for its factor: taps from the last on, each making up for the errors of those after it."""
    aim, q = w.copy(), np.zeros_like(w)
    for k in range(w.shape[1] - 1, -1, -1):
        q[:, k] = np.clip(np.rint(aim[:, k] / factor), -MOST, MOST)
        if lower is not None and k:
            aim[:, :k] += (w[:, k] - factor * q[:, k])[:, None] * lower[k, :k][None]
    return q


__all__ = ["Narrowed", "narrow_weights", "rounded", "windows_of"]
