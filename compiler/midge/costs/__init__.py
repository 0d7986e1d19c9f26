# SPDX-License-Identifier: Apache-2.0
"""What a kernel costs on a layer: executed instructions measured under QEMU, kept as data; where a shape was not measured, a fit through those that were.

A table is a CSV file named after the target, one row per kernel and shape. `midge tune` measures the layers of a model and writes such a file. Only
tables that are named take part in a compilation, so that the same input and options give the same bytes on every machine.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from midge.errors import UsageError
from midge.ir import Array

FIELDS = ("in_width", "in_channels", "out_width", "out_channels", "groups", "kernel_height", "kernel_width", "stride", "dilation", "pad", "rows")
LIKE = {"cortex-m7": "cortex-m4", "cortex-m33": "cortex-m4", "cortex-m85": "cortex-m55", "cortex-m0plus": "cortex-m0"}  # same instructions, same counts
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Estimate:
    """Instructions of one run of a layer, and whether this very shape was measured."""

    instructions: int
    measured: bool


@dataclass
class Costs:
    """Measured instructions by kernel and shape (values of FIELDS)."""

    rows: dict[str, dict[Shape, int]] = field(default_factory=dict)

    def add(self, kernel: str, shape: Shape, instructions: int) -> None:
        self.rows.setdefault(kernel, {})[shape] = instructions

    def estimate(self, kernel: str, shape: Shape) -> Estimate | None:
        """What is known of a kernel on a shape: measured, fitted, or None if the table has fewer rows than the fit has terms."""
        known = self.rows.get(kernel, {})
        if shape in known:
            return Estimate(known[shape], True)
        terms = _terms([shape])
        if len(known) < terms.shape[1]:
            return None
        return Estimate(max(1, int(terms[0] @ self._fit(kernel))), False)

    def _fit(self, kernel: str) -> Array:
        """Coefficients of _terms that minimize the relative error over the measured shapes."""
        known = self.rows[kernel]
        counts = np.array(list(known.values()), np.float64)
        return np.asarray(np.linalg.lstsq(_terms(list(known)) / counts[:, None], np.ones(len(counts)), rcond=None)[0])

    def fit_error(self, kernel: str) -> float:
        """Largest relative error of the fit over the shapes it was made from."""
        shapes = list(self.rows[kernel])
        counts = np.array(list(self.rows[kernel].values()), np.float64)
        return float(np.abs(_terms(shapes) @ self._fit(kernel) / counts - 1.0).max())

    def text(self) -> str:
        """The table as CSV, sorted."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["kernel", *FIELDS, "instructions"])
        for kernel in sorted(self.rows):
            for shape in sorted(self.rows[kernel]):
                writer.writerow([kernel, *shape, self.rows[kernel][shape]])
        return out.getvalue()


def _terms(shapes: list[Shape]) -> Array:
    """What instructions grow with: MACs, outputs, values gathered for a pixel, pixels, rows, and 1."""
    found = []
    for shape in shapes:
        known = dict(zip(FIELDS, shape, strict=True))
        pixels = known["out_width"] * known["rows"]
        taps = known["kernel_height"] * known["kernel_width"]
        outputs = pixels * known["out_channels"]
        depth = taps * known["in_channels"] // known["groups"]
        found.append([outputs * depth, outputs, pixels * taps * known["in_channels"], pixels, known["rows"], 1])
    return np.array(found, np.float64)


def shape_of(params: Mapping[str, int], rows: int) -> Shape:
    """The key of a convolution from midge_conv2d_params and its output rows."""
    return tuple(rows if name == "rows" else int(params[name]) for name in FIELDS)


def read(text: str, where: str) -> Iterable[tuple[str, Shape, int]]:
    """(kernel, shape, instructions) rows of a table.

    Raises: UsageError if the file is no table of costs.
    """
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or rows[0] != ["kernel", *FIELDS, "instructions"]:
        raise UsageError(f"{where}: is no table of costs; the first line must name kernel, {', '.join(FIELDS)}, instructions")
    for number, row in enumerate(rows[1:], 2):
        try:
            yield row[0], tuple(int(v) for v in row[1:-1]), int(row[-1])
        except (ValueError, IndexError):
            raise UsageError(f"{where}: line {number} is not understood") from None


def load_costs(target: str, extra: Path | None = None) -> Costs:
    """The table that midge ships for a target, and a user's own file on top."""
    costs = Costs({kernel: dict(shapes) for kernel, shapes in _shipped(LIKE.get(target, target)).rows.items()})
    if extra is not None:
        try:
            text = extra.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{extra}: cannot be read: {error}") from None
        for kernel, shape, instructions in read(text, str(extra)):
            costs.add(kernel, shape, instructions)
    return costs


@cache
def _shipped(target: str) -> Costs:
    costs, path = Costs(), Path(__file__).parent / f"{target}.csv"
    if path.is_file():
        for kernel, shape, instructions in read(path.read_text("utf-8"), path.name):
            costs.add(kernel, shape, instructions)
    return costs


@cache
def load_code_sizes(target: str) -> dict[str, int]:
    """Bytes of code of each kernel, by C symbol, compiled alone with the recommended flags."""
    path = Path(__file__).parent / f"code-{LIKE.get(target, target)}.csv"
    if not path.is_file():
        return {}
    return {row["symbol"]: int(row["nbytes"]) for row in csv.DictReader(io.StringIO(path.read_text("utf-8")))}
