# SPDX-License-Identifier: Apache-2.0
"""The few samples that a test bench stores, chosen among many so that layers give many different values: what is constant shows no fault."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from midge.ir import Array, DType, Graph
from midge.program import Program
from midge.run.reference import run_reference
from midge.run.samples import SEED, Sample, float_range, integer_range, random_samples

FEW, MANY, ROOM = 2, 8, 4096  # how many samples there are by default: what fits in so many bytes of inputs, within these bounds
CANDIDATES = 32
_WORK = 100_000_000  # multiply-accumulates of all candidates: half a second
_BLOCKS = (1, 1, 2, 4, 8, 1 << 30)  # how many neighbours along an axis have one value: noise, coarse patterns, stripes, planes
_CONTRASTS = (0.1, 0.25, 0.5, 1.0, 2.0)  # of the range of the input; beyond 1 its ends prevail
_BUCKETS = 256
Seen = NDArray[np.bool_]


def default_count(graph: Graph) -> int:
    """How many samples to store if nobody said."""
    nbytes = sum(graph.type(name).nbytes for name in graph.inputs)
    return min(MANY, max(FEW, ROOM // max(1, nbytes)))


def telling_samples(program: Program, graph: Graph, count: int) -> list[Sample]:
    """`count` samples, always the same ones: noise and coarser patterns, one after the other that under which layers come to give the most values.

    Measure: the sum over layers of log(1 + pairs of channel and value), so that the second value of a layer weighs more than its hundredth.
    """
    random = np.random.default_rng(SEED)
    number = max(count, min(CANDIDATES, _WORK // max(1, program.macs)))
    candidates = random_samples(graph, min(2, number))
    candidates += [[_pattern(random, graph, name) for name in graph.inputs] for _ in range(number - len(candidates))]
    if number == count:
        return candidates
    seen = [layer_values(program, graph, sample) for sample in candidates]
    covered, chosen = [np.zeros_like(layer) for layer in seen[0]], list[int]()
    for _ in range(count):
        scores = {
            i: sum(float(np.log1p(np.count_nonzero(a | b))) for a, b in zip(covered, each, strict=True)) for i, each in enumerate(seen) if i not in chosen
        }
        best = max(scores, key=lambda i: (scores[i], -i))
        chosen.append(best)
        covered = [a | b for a, b in zip(covered, seen[best], strict=True)]
    return [candidates[i] for i in chosen]


def constant_layers(program: Program, graph: Graph, samples: Sequence[Sequence[Array]]) -> list[int]:
    """The layers that give one value only in each channel (for a single sample: in all channels), whatever the sample."""
    seen = [layer_values(program, graph, sample) for sample in samples]
    together = [np.logical_or.reduce(layer) for layer in zip(*seen, strict=True)]
    if len(seen) == 1:
        together = [pairs.any(0, keepdims=True) for pairs in together]
    return [layer.index for layer, pairs in zip(program.layers, together, strict=True) if pairs.sum(1).max() == 1]


def layer_values(program: Program, graph: Graph, sample: Sequence[Array]) -> list[Seen]:
    """For each layer which values (hashed, where wider than a byte) each of its channels has: (C, 256)."""
    values = run_reference(graph, dict(zip(graph.inputs, sample, strict=True)))
    return [_pairs(values[layer.buffer]) for layer in program.layers]


def _pairs(value: Array) -> Seen:
    data = np.ascontiguousarray(value)
    channels = data.shape[-1] if data.ndim else 1
    bits = data.view(f"u{data.dtype.itemsize}").reshape(-1, channels)
    byte = bits if bits.itemsize == 1 else (bits.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(56)
    found = np.zeros((channels, _BUCKETS), bool)
    found[np.arange(channels), byte.astype(np.intp)] = True
    return found


def _pattern(random: np.random.Generator, graph: Graph, name: str) -> Array:
    """Blocks of random size around a random centre, of random contrast."""
    kind = graph.type(name)
    low, high = (0, 1) if kind.dtype is DType.BOOL else float_range(graph, name) if kind.dtype.is_float else integer_range(kind.dtype)
    sizes = [min(int(random.choice(_BLOCKS)), extent) for extent in kind.shape]
    blocks = random.uniform(-0.5, 0.5, [-(-extent // size) for extent, size in zip(kind.shape, sizes, strict=True)])
    for axis, (extent, size) in enumerate(zip(kind.shape, sizes, strict=True)):
        blocks = np.repeat(blocks, size, axis).take(range(extent), axis)
    value = low + (high - low) * np.clip(random.uniform() + random.choice(_CONTRASTS) * blocks, 0, 1)
    drawn: Array = (value if kind.dtype.is_float else np.rint(value)).astype(kind.dtype.numpy)
    return drawn
