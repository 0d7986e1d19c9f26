# SPDX-License-Identifier: Apache-2.0
"""How far a network's outputs move when its weights get four bits.

    SNR = 10 log10(sum of r^2 / sum of (r - y)^2)  dB over all outputs and samples

r and y are the real numbers that the outputs with 8 and with 4 bits stand for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from midge.ir import Array, Graph
from midge.ops.build import dequantize
from midge.ptq.narrow import Narrowed
from midge.run.reference import run_reference


@dataclass(frozen=True)
class Distance:
    """SNR in dB (None if no output differs), samples whose largest output is the same, of how many, and whose they are."""

    snr_db: float | None
    same: int
    count: int
    data: str

    def __str__(self) -> str:
        how_far = "none differs" if self.snr_db is None else f"SNR {self.snr_db:.1f} dB"
        return f"{how_far}, the same largest one in {self.same} of {self.count} {self.data}"


def distance(narrowed: Narrowed, graph: Graph) -> Distance:
    """Of the outputs of `graph` from those of the Graph it was made of."""
    signal, noise, same = 0.0, 0.0, 0
    for sample in narrowed.samples:
        before, after = (_outputs(each, run_reference(each, sample)) for each in (narrowed.before, graph))
        signal, noise = signal + float(np.square(before).sum()), noise + float(np.square(before - after).sum())
        same += int(before.argmax()) == int(after.argmax())
    decibels = 10.0 * math.log10(max(signal, 1e-30) / noise) if noise > 0.0 else None
    return Distance(None if decibels is None else round(decibels, 2), same, len(narrowed.samples), narrowed.data)


def _outputs(graph: Graph, values: dict[str, Array]) -> Array:
    """All outputs as real numbers, one after the other."""
    found = []
    for name in graph.outputs:
        quant = graph.type(name).quant
        found.append((values[name] if quant is None else dequantize(values[name], quant)).astype(np.float64).reshape(-1))
    return np.concatenate(found)
