# SPDX-License-Identifier: Apache-2.0
"""Estimated cycles of a Program that was not run: instructions of its layers from the tables of costs, times what an instruction takes on a core.

An estimate, never a measurement. Layers that the table of costs has no shapes for (pools, additions, softmax, kernels of few shapes) are counted by
rates: instructions a unit of work, the middle of those measured under QEMU. Cycles an instruction are those that the model of each core gives for the
networks of bench/results/models.csv, with the lowest and the highest of them. Both are made by bench/estimates.py.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from midge.costs import FIELDS, LIKE, Costs, shape_of
from midge.errors import UsageError
from midge.program import Call, Layer, Program

FOLDER = Path(__file__).parent
SPREAD = 0.15  # how far estimated instructions may be off; networks of bench/run.py are within it


@dataclass(frozen=True)
class Factor:
    """Cycles an instruction takes on a core: the middle of several networks, the lowest and the highest."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Cycles:
    """Estimated instructions and cycles of one run. layers: instructions of each by index. guessed: names of layers whose kernel nothing is known of."""

    instructions: int
    factor: Factor
    layers: dict[int, int]
    guessed: tuple[str, ...]

    @property
    def middle(self) -> int:
        return round(self.instructions * self.factor.middle)

    def __str__(self) -> str:
        low, high = round(self.instructions * (1 - SPREAD) * self.factor.low), round(self.instructions * (1 + SPREAD) * self.factor.high)
        unknown = f"; without figures for {', '.join(self.guessed)}" if self.guessed else ""
        return f"about {self.middle:,} cycles, an estimate (from {low:,} to {high:,}; {self.instructions:,} instructions{unknown})"


@cache
def load_factors() -> dict[str, Factor]:
    """By target."""
    with (FOLDER / "cycles.csv").open(encoding="utf-8", newline="") as file:
        return {row["target"]: Factor(*(float(row[name]) for name in ("low", "middle", "high"))) for row in csv.DictReader(file)}


@cache
def load_rates(target: str) -> dict[str, float]:
    """C symbol of a kernel -> instructions a unit of work; none where nothing was measured."""
    path = FOLDER / f"rates-{LIKE.get(target, target)}.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["kernel"]: float(row["instructions_per_unit"]) for row in csv.DictReader(file)}


def offered() -> list[str]:
    """Targets that cycles are estimated for."""
    return [target for target in load_factors() if load_rates(target)]


def check_offered(target: str) -> None:
    """Raises: UsageError if there are no figures for a target."""
    if target not in offered():
        raise UsageError(f"--cycles: no table of costs has figures for {target}, so its cycles are not estimated; offered for {', '.join(offered())}")


def estimate_cycles(program: Program, costs: Costs) -> Cycles:
    """Cycles of one run.

    Raises: UsageError if there are no figures for the target.
    """
    check_offered(program.target)
    rates, layers, guessed = load_rates(program.target), dict[int, int](), []
    typical = sorted(rates.values())[len(rates) // 2]
    for layer in program.layers:
        calls = [call for call in program.calls if call.layer == layer.index]
        known = [_from_table(program, call, costs) for call in calls]
        if calls and all(count is not None for count in known):
            layers[layer.index] = sum(count or 0 for count in known)
            continue
        symbols = [symbol for call in calls for symbol in call.kernel.symbols(program.numerics)]
        rate = max((rates[symbol] for symbol in symbols if symbol in rates), default=None)
        if calls and rate is None:
            guessed.append(layer.name)
        layers[layer.index] = round(work(program, layer) * (typical if rate is None else rate)) if calls else 0
    return Cycles(sum(layers.values()), load_factors()[program.target], layers, tuple(guessed))


def work(program: Program, layer: Layer) -> int:
    """Units of work: multiply-accumulates, or the elements read or written if those are more."""
    read = {operand.buffer for call in program.calls if call.layer == layer.index for operand in call.inputs if operand.buffer}
    elements = [sum(program.buffers[name].nbytes // program.buffers[name].type.dtype.nbytes for name in names) for names in (read, {layer.buffer})]
    return max(layer.macs, *elements)


def _from_table(program: Program, call: Call, costs: Costs) -> int | None:
    """Instructions that the table of costs knows of, None for other kernels."""
    if not set(FIELDS) - {"rows"} <= call.params.keys():
        return None
    shape, name = shape_of(call.params, call.rows), call.kernel.symbol.removeprefix("midge_")
    kind = "-" if _is_narrow(program, call) else "+" if _is_wide(program, call) else ""
    found = costs.estimate(name + kind, shape)
    found = found or costs.estimate(name, shape) or costs.estimate(name + "+", shape)
    return found.instructions if found else None


def _is_narrow(program: Program, call: Call) -> bool:
    """Whether one of the call's routines reads weights of four bits."""
    return any(program.routines[name].family == "gemm_w4" for name in call.constants.values() if name in program.routines)


def _is_wide(program: Program, call: Call) -> bool:
    """Whether the call's weights take more bytes than they have values, as variants that spend flash store them."""
    p = call.params
    values = p["kernel_height"] * p["kernel_width"] * p["in_channels"] // p["groups"] * p["out_channels"]
    return max((program.constants[name].data.nbytes for name in call.constants.values() if name in program.constants), default=0) * 2 >= 3 * values
