# SPDX-License-Identifier: Apache-2.0
"""What compiled models cost on a Cortex-M4: bytes, instructions, seconds of compiling.

    python bench/footprint.py [--csv FILE] [--target NAME] [MODEL.onnx[=CALIBRATION.npz] ...]

Without models: the example network, calibrated on its training images. Float models need calibration data after `=`; what they cost does not
depend on which, so `=random` will do here. What does not compile is listed with the reason, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

import midge
from midge.errors import MidgeError
from midge.importers.onnx import load
from midge.report.tables import make_console
from midge.run.qemu import image_sizes, run_qemu

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
RANDOM = "random"
RANDOM_SAMPLES, EXAMPLE_SAMPLES = 8, 300


@dataclass(frozen=True)
class Footprint:
    """One model on one target. instructions: one run at -O2 under QEMU. flash and code: bytes at -Os, of the smallest firmware and of the library's
    objects. weights: constants and tables. arena, lower_bound, stack: bytes of RAM. seconds: from file to C sources, calibration included."""

    model: str
    target: str
    numerics: str
    macs: int
    instructions: int
    arena: int
    lower_bound: int
    stack: int
    flash: int
    code: int
    weights: int
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what compiled models cost.")
    parser.add_argument("models", nargs="*", metavar="MODEL.onnx[=CALIBRATION]", help="by default the example network")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table there")
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--numerics", default="onnx")
    options = parser.parse_args()
    rows, failed = [], []
    for model, calibration in sources(options.models):
        try:
            data = random_inputs(model) if isinstance(calibration, str) and calibration == RANDOM else calibration
            rows.append(measure(model, data, options.target, options.numerics))
        except MidgeError as error:
            failed.append((model.name, str(error)))
    names = [field.name for field in fields(Footprint)]
    show(f"{options.target}, {options.numerics} numerics", rows)
    for name, reason in failed:
        print(f"{name}: {reason}", file=sys.stderr)
    if options.csv:
        write_csv(options.csv, names, rows)
    return 1 if failed else 0


def show(title: str, rows: list[Footprint]) -> None:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    shown = [field.name for field in fields(Footprint) if field.name not in ("target", "numerics")]
    for name in shown:
        table.add_column(name.replace("_", " "), justify="left" if name == "model" else "right")
    for row in rows:
        values = (getattr(row, name) for name in shown)
        table.add_row(*(f"{value:,}" if isinstance(value, int | float) else escape(value) for value in values))
    make_console().print(table)


def sources(named: list[str]) -> Iterator[tuple[Path, object]]:
    """(model, calibration data or None) for each argument."""
    if not named:
        sys.path.append(str(EXAMPLES))
        from mnist_data import load as load_digits

        yield EXAMPLES / "mnist_cnn.onnx", load_digits().x_train[:EXAMPLE_SAMPLES]
    for argument in named:
        path, _, data = argument.partition("=")
        yield Path(path), data or None


def random_inputs(model: Path) -> dict[str, np.ndarray]:
    """Samples between 0 and 1 in the shapes of the model's inputs."""
    graph, rng = load(model), np.random.default_rng(0)
    return {name: rng.random((RANDOM_SAMPLES, *graph.model_types.get(name, graph.type(name)).shape), np.float32) for name in graph.inputs}


def measure(model: Path, calibration: object, target: str, numerics: str) -> Footprint:
    """Compile, build for the target's board, run once on random integers."""
    with tempfile.TemporaryDirectory(prefix="midge-bench-") as folder:
        started = time.monotonic()
        library = midge.compile(model, target=target, calibration=calibration, numerics=numerics, name="net")
        directory = library.write(Path(folder) / "net")
        seconds = time.monotonic() - started
        rng = np.random.default_rng(0)
        inputs = [rng.integers(0, 256, (1, port.type.nbytes), np.uint8) for port in library.program.inputs]
        run, sizes, report = run_qemu(directory, target, inputs), image_sizes(directory, target), library.report()
    assert run.instructions is not None
    assert run.stack_bytes is not None
    memory = (report.arena_nbytes, report.lower_bound, run.stack_bytes)
    flash = (sizes.total_flash, sizes.library.text, report.weight_nbytes)
    return Footprint(model.stem, target, numerics, report.macs, run.instructions, *memory, *flash, round(seconds, 1))


def write_csv(path: Path, names: list[str], rows: list[Footprint]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(list(asdict(row).values()) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
