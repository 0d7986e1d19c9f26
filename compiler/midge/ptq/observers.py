# SPDX-License-Identifier: Apache-2.0
"""Which range of real numbers an activation needs, learned from calibration arrays, and the int8 Quant that covers it.

    scale = (high - low) / 255,  zero_point = round(-128 - low / scale),  with [low, high] extended to contain 0

Source: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, section 3;
Wu et al., Integer Quantization for Deep Learning Inference, section 5 (max, percentile and mean squared error calibration).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from midge.errors import UsageError
from midge.ir import Array, Quant

BINS = 8192
SMALLEST_SPAN = 1e-9  # below this a tensor counts as constant zero and is given the range [0, 1]


class Observer(Protocol):
    """Sees arrays of real numbers, then says which range is worth representing."""

    def update(self, array: Array) -> None: ...

    def range(self) -> tuple[float, float]: ...


@dataclass
class MinMax:
    """The smallest and the largest value seen: nothing seen in calibration is clipped."""

    low: float = math.inf
    high: float = -math.inf

    def update(self, array: Array) -> None:
        if array.size:
            self.low, self.high = min(self.low, float(array.min())), max(self.high, float(array.max()))

    def range(self) -> tuple[float, float]:
        """(low, high); (0, 0) if nothing was seen."""
        return (self.low, self.high) if self.low <= self.high else (0.0, 0.0)


@dataclass
class Histogram:
    """Counts over BINS equal bins of [-limit, limit). `limit` is a power of two that doubles when a value lies outside; pairs of
    bins then merge, so the counts are exact whatever the order of the arrays."""

    limit: float = 2.0**-60
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    seen: MinMax = field(default_factory=MinMax)

    def update(self, array: Array) -> None:
        self.seen.update(array)
        low, high = self.seen.range()
        while max(-low, high) >= self.limit:
            self._double()
        index = np.floor((array.reshape(-1).astype(np.float64) + self.limit) * (BINS / (2 * self.limit))).astype(np.int64)
        self.counts += np.bincount(np.clip(index, 0, BINS - 1), minlength=BINS)

    def _double(self) -> None:
        merged = self.counts.reshape(-1, 2).sum(1)
        self.counts = np.zeros(BINS, np.int64)
        self.counts[BINS // 4 : BINS // 4 + BINS // 2] = merged
        self.limit *= 2

    def edges(self) -> npt.NDArray[np.float64]:
        """The BINS + 1 bounds of the bins."""
        return np.linspace(-self.limit, self.limit, BINS + 1)


@dataclass
class Percentile:
    """The range that leaves out (100 - percent) / 2 percent of the values at each end, to the width of a histogram bin."""

    percent: float = 99.99
    histogram: Histogram = field(default_factory=Histogram)

    def update(self, array: Array) -> None:
        self.histogram.update(array)

    def range(self) -> tuple[float, float]:
        low, high = self.histogram.seen.range()
        counts, edges = self.histogram.counts, self.histogram.edges()
        total = counts.sum()
        tail = total * (100.0 - self.percent) / 200.0
        below = np.cumsum(counts)
        first, last = int(np.searchsorted(below, tail, "right")), int(np.searchsorted(below, total - tail, "left"))
        return max(low, float(edges[min(first, BINS - 1)])), min(high, float(edges[min(last, BINS - 1) + 1]))


@dataclass
class MSE:
    """The range whose int8 quantization has the least squared error over a histogram: each bound in turn is shrunk towards 0 in
    `steps` steps while the other stays."""

    steps: int = 64
    histogram: Histogram = field(default_factory=Histogram)

    def update(self, array: Array) -> None:
        self.histogram.update(array)

    def range(self) -> tuple[float, float]:
        low, high = (min(self.histogram.seen.low, 0.0), max(self.histogram.seen.high, 0.0)) if self.histogram.counts.any() else (0.0, 0.0)
        filled = np.flatnonzero(self.histogram.counts)
        edges = self.histogram.edges()
        centers = np.clip((edges[filled] + edges[filled + 1]) / 2, low, high)
        counts = self.histogram.counts[filled].astype(np.float64)

        def error(bounds: tuple[float, float]) -> float:
            quant = activation_quant(*bounds)
            q = np.clip(np.rint(centers / quant.s) + quant.z, -128, 127)
            return float(counts @ (centers - (q - quant.z) * quant.s) ** 2)

        fractions = 1.0 - np.arange(self.steps) / self.steps
        for _ in range(2):
            high = min(((low, high * float(f)) for f in fractions), key=error)[1]
            low = min(((low * float(f), high) for f in fractions), key=error)[0]
        return low, high


OBSERVERS: dict[str, Callable[[], Observer]] = {"minmax": MinMax, "percentile": Percentile, "mse": MSE}


def make_observer(name: str) -> Observer:
    """A fresh observer by name.

    Raises: UsageError for an unknown name.
    """
    if name not in OBSERVERS:
        raise UsageError(f"no observer named '{name}'; choose one of {', '.join(OBSERVERS)}")
    return OBSERVERS[name]()


def activation_quant(low: float, high: float) -> Quant:
    """The asymmetric int8 Quant of the range [low, high], extended to contain 0, which is represented exactly.

    Raises: UsageError for a bound that is not finite or beyond float32.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or high - low > float(np.finfo(np.float32).max):
        raise UsageError(f"activation range [{low}, {high}] is not finite: the calibration data drives the model to infinity or NaN")
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < SMALLEST_SPAN:
        low, high = 0.0, 1.0
    scale = float(np.float32((high - low) / 255.0))
    return Quant.of(scale, int(np.clip(np.rint(-128.0 - low / scale), -128, 127)))


def quant_range(quant: Quant) -> tuple[float, float]:
    """The real numbers that int8 values of a per-tensor Quant reach."""
    return (-128 - quant.z) * quant.s, (127 - quant.z) * quant.s
