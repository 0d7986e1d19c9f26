# SPDX-License-Identifier: Apache-2.0
"""RAM against time: the schedules of a model between layer by layer, which is fastest, and single rows, which need the least RAM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from midge.api import Library, check_choices, placed
from midge.codegen.reference import reference_files
from midge.codegen.write import write_library
from midge.costs import load_costs
from midge.errors import ToolMissing
from midge.lower import Choice
from midge.prepare import Model, prepared, quantized_graph
from midge.program import Program
from midge.run.qemu import run_qemu
from midge.run.samples import random_samples
from midge.schedule import Wish
from midge.targets import get_target

BETWEEN = 3  # budgets tried between the least RAM and the RAM that costs no time
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Point:
    """One schedule: how it came about, its RAM in bytes, what no schedule of its steps can do without, its steps, and what a run executes under QEMU."""

    name: str
    library: Library
    instructions: int | None

    @property
    def program(self) -> Program:
        return self.library.program

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        program = self.program
        facts = {"arena_bytes": program.arena_nbytes, "lower_bound": program.lower_bound, "steps": len(program.steps)}
        return {"name": self.name, **facts, "instructions_under_qemu": self.instructions}


def front(
    model: Model,
    *,
    target: str = "cortex-m4",
    name: str | None = None,
    optimize: str = "balanced",
    stream_input: bool = False,
    stream_output: bool = False,
    input_layout: str = "model",
    output_layout: str = "model",
    weights: str = "int8",
    keep_dead_channels: bool = False,
    costs: str | Path | None = None,
    measure: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> list[Point]:
    """Schedules of one choice of kernels, most RAM first; those that another beats in RAM and in steps are left out.

    measure: count instructions under QEMU, where compiler and emulator are installed. Other options are those of midge.compile.
    """
    check_choices(optimize=optimize, weights=weights, input_layout=input_layout, output_layout=output_layout)
    quantized, nhwc = quantized_graph(model, **options), (input_layout == "nhwc", output_layout == "nhwc")
    ready = prepared(quantized, name, "quantized", keep_dead_channels, weights, options.get("calibration"), nhwc)
    machine, table = get_target(target), load_costs(target, None if costs is None else Path(costs))
    choice = Choice("balanced" if optimize == "ram" else optimize, table, saved=ready.saved, narrow=weights == "int4")

    def at(wish: Wish) -> Program:
        return placed(ready.graph, machine, ready.digest, replace(choice, whole=not wish.by_rows), wish)

    base = Wish(stream=stream_input, hand_out=stream_output)
    found = {"layer by layer": at(replace(base, by_rows=False)), "rows that cost no time": at(base), "least RAM": at(replace(base, least=True))}
    low, high = found["least RAM"].arena_nbytes, found["rows that cost no time"].arena_nbytes
    for budget in sorted({low + (high - low) * i // (BETWEEN + 1) for i in range(1, BETWEEN + 1)}) if high - low > BETWEEN * 16 else []:
        found[f"within {budget:,} bytes"] = at(replace(base, least=False, ram=budget))
    points, chosen = [], _best(found)
    for done, (title, program) in enumerate(chosen.items()):
        library = Library(ready.graph, program, ready.dead, ready.narrowed)
        points.append(Point(title, library, _count(library, target) if measure else None))
        if progress is not None:
            progress(done + 1, len(chosen))
    return points


def _best(found: dict[str, Program]) -> dict[str, Program]:
    """By RAM, most first, without those that need no less RAM than another of as few steps."""
    order = sorted(found.items(), key=lambda item: (-item[1].arena_nbytes, len(item[1].steps)))
    return {name: program for name, program in order if not any(_beats(other, program) and other_name != name for other_name, other in found.items())}


def _beats(a: Program, b: Program) -> bool:
    return (a.arena_nbytes, len(a.steps)) != (b.arena_nbytes, len(b.steps)) and a.arena_nbytes <= b.arena_nbytes and len(a.steps) <= len(b.steps)


def _count(library: Library, target: str) -> int | None:
    """Instructions of one run under QEMU, None without compiler or emulator."""
    with TemporaryDirectory(prefix="midge-front-") as folder:
        directory = write_library(library.program, Path(folder) / "library", reference_files(library.graph))
        sample = random_samples(library.graph, 1)[0]
        try:
            return run_qemu(directory, target, [np.asarray(array)[None] for array in sample]).instructions
        except ToolMissing:
            return None
