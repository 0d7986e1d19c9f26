# SPDX-License-Identifier: Apache-2.0
"""A Program in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from midge.program import Layer, Program
from midge.schedule.timeline import peak_step


@dataclass(frozen=True)
class LayerLine:
    """One layer: what it is, its output bytes, MACs, the kernels that compute it, and why better ones were not taken."""

    index: int
    name: str
    kind: str
    text: str
    nbytes: int
    macs: int
    kernels: tuple[str, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """Bytes and MACs of a Program. `gap` is arena / lower_bound - 1; no order of the steps needs less than the bound. `memories`: bytes taken of those beside
    the arena; with any, neither bound nor gap says something of what remains, and both are None in as_dict."""

    name: str
    target: str
    numerics: str
    optimize: str
    digest: str
    macs: int
    weight_nbytes: int
    arena_nbytes: int
    lower_bound: int
    peak_layer: str
    layers: tuple[LayerLine, ...]
    warnings: tuple[str, ...]
    memories: dict[str, int]

    @property
    def gap(self) -> float:
        return self.arena_nbytes / self.lower_bound - 1.0 if self.lower_bound else 0.0

    @property
    def around(self) -> str:
        """The bound of the arena, or what lies beside it."""
        if self.memories:
            return "beside it " + ", ".join(f"{name} {nbytes:,}" for name, nbytes in self.memories.items())
        return f"lower bound {self.lower_bound:,}, gap {self.gap:.1%}"

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {**asdict(self), "gap": round(self.gap, 6)} | ({"lower_bound": None, "gap": None} if self.memories else {})

    def __str__(self) -> str:
        return (
            f"{self.name} for {self.target} ({self.numerics} numerics): {self.macs:,} MACs, {self.weight_nbytes:,} bytes of weights and tables, "
            f"arena {self.arena_nbytes:,} bytes ({self.around}; peak at {self.peak_layer})"
        )


def summarize(program: Program) -> Report:
    """The Report of a placed Program."""
    layers = tuple(_layer_line(program, layer) for layer in program.layers)
    return Report(
        program.name,
        program.target,
        program.numerics,
        program.optimize,
        program.digest,
        program.macs,
        program.weight_nbytes,
        program.arena_nbytes,
        program.lower_bound,
        _peak(program),
        layers,
        tuple(program.warnings),
        memory_bytes(program),
    )


def _layer_line(program: Program, layer: Layer) -> LayerLine:
    calls = [call for call in program.calls if call.layer == layer.index]
    kernels = tuple(dict.fromkeys(call.kernel.symbol for call in calls))
    refused = tuple(dict.fromkeys(reason for call in calls for reason in call.refused))
    return LayerLine(layer.index, layer.name, layer.kind, layer.text, program.buffers[layer.buffer].nbytes, layer.macs, kernels, refused)


def memory_bytes(program: Program) -> dict[str, int]:
    """Bytes taken of each memory beside the arena: rows, scratch and constants."""
    found = {memory.name: memory.nbytes for memory in program.memories}
    for symbol, name in program.constant_memory.items():
        found[name] += program.constants[symbol].data.nbytes
    return found


def _peak(program: Program) -> str:
    """The layer whose step has the most bytes alive."""
    peak = peak_step(program)
    if not 0 <= peak < len(program.steps):
        return "the input"
    step = program.steps[peak]
    return program.calls[step.call].name if step.call >= 0 else "the input" if step.output < 0 else "the output"
