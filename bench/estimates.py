# SPDX-License-Identifier: Apache-2.0
"""Data for estimates of cycles: what an instruction takes on each core, and what kernels execute for a unit of work.

    python bench/estimates.py [--rates] [--check] [--target CORE ...]

cycles.csv comes from bench/results/models.csv. With --rates, the networks that bench/run.py measures are compiled and profiled under QEMU for each core of
TARGETS, which gives rates-*.csv. --check writes nothing and prints how far estimates are from what was measured.
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from figures import RESULTS
from run import find_sources

import midge
from midge.codegen.reference import reference_files
from midge.codegen.write import write_library
from midge.costs import LIKE, load_costs
from midge.costs.cycles import FOLDER, estimate_cycles, load_rates, work
from midge.program import Program
from midge.run.qemu import run_qemu
from midge.run.samples import random_samples

TARGETS = ("cortex-m4", "cortex-m55")
"""Cores with tables of costs. Without one, rates alone were up to 31 % off on a Cortex-M3 and M0+, so those are left out."""
PLANS: tuple[dict[str, Any], ...] = (
    {"optimize": "size"},
    {"optimize": "balanced"},
    {"optimize": "balanced", "schedule": "layers"},
    {"optimize": "speed"},
    {"numerics": "tflite"},
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make the data that estimates of cycles are made from.")
    parser.add_argument("--rates", action="store_true", help="measure rates under QEMU, too")
    parser.add_argument("--check", action="store_true", help="compare estimates with what is measured, and write nothing")
    parser.add_argument("--target", action="append", choices=TARGETS, help=f"a core, may be repeated; by default {', '.join(TARGETS)}")
    options = parser.parse_args(arguments)
    if not options.check:
        write(FOLDER / "cycles.csv", ("target", "low", "middle", "high"), factors())
    for target in options.target or TARGETS if options.rates or options.check else ():
        measured = profiles(target)
        if not options.check:
            write(FOLDER / f"rates-{LIKE.get(target, target)}.csv", ("kernel", "instructions_per_unit"), rates(measured))
            load_rates.cache_clear()
        for program, counts in measured:
            found, real = estimate_cycles(program, load_costs(target)), sum(counts.values())
            print(f"{target} {program.name}: {real:,} instructions, estimated {found.instructions:,} ({found.instructions / real - 1:+.1%})", flush=True)


def factors() -> list[tuple[object, ...]]:
    """Target, lowest, middle and highest cycles an instruction of code compiled for speed."""
    found = defaultdict(list)
    with (RESULTS / "models.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["flags"] == "-O2":
                found[row["target"]].append(int(row["estimated_cycles"]) / int(row["instructions"]))
    return [(target, *(round(value, 3) for value in (min(all_of), statistics.median(all_of), max(all_of)))) for target, all_of in sorted(found.items())]


def profiles(target: str) -> list[tuple[Program, dict[int, int]]]:
    """Programs, and the instructions of each of their layers."""
    found = []
    for source in find_sources([]):
        for options in PLANS:
            library = midge.compile(source.path, target=target, calibration=source.calibration, **options)
            with TemporaryDirectory(prefix="midge-rates-") as folder:
                write_library(library.program, Path(folder) / "library", reference_files(library.graph))
                inputs = [np.asarray(array)[None] for array in random_samples(library.graph, 1)[0]]
                counts = run_qemu(Path(folder) / "library", target, inputs, profile=True).layer_instructions
            assert counts is not None
            found.append((library.program, counts))
    return found


def rates(measured: list[tuple[Program, dict[int, int]]]) -> list[tuple[object, ...]]:
    """Kernel, instructions a unit of work: the middle of all layers that this kernel computes alone."""
    found = defaultdict(list)
    for program, counts in measured:
        for layer in program.layers:
            kernels = {call.kernel for call in program.calls if call.layer == layer.index}
            if len(kernels) == 1 and layer.index in counts:
                for symbol in kernels.pop().symbols(program.numerics):
                    found[symbol].append(counts[layer.index] / work(program, layer))
    return [(kernel, f"{statistics.median(each):.4g}") for kernel, each in sorted(found.items())]


def write(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    path.write_text(out.getvalue(), "utf-8")


if __name__ == "__main__":
    main()
