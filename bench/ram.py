# SPDX-License-Identifier: Apache-2.0
"""The RAM that models need under every schedule, beside what others need and what no schedule can do without.

    python bench/ram.py [--check] [MODEL.onnx[=CALIBRATION] ...]

Without models: the example network, the quantized models of the collection if it lies beside the checkout, and networks from image to image, as they are
and with ports that are NHWC, whose rows may come and go. The figures go to bench/results/ram.csv;
--check writes nothing and exits with 1 if any arena grew.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import images
import run
from figures import BASELINES, RESULTS, merge_rows, read_figures, read_rows, write_rows
from measure import Source, example_source
from run import COLLECTION, TFLM

import midge
from midge.prepare import Model
from midge.report.tables import make_console, make_table

RAM_CSV = RESULTS / "ram.csv"
ZOO = ("tflm_person_detect", "tflm_micro_speech_quantized", "tinymaix_cifar10_q", "tinymaix_mnist_dw_q", "tinymaix_mnist_resnet_q", "micro_kws_m_qdq")
WAYS: dict[str, dict[str, object]] = {
    "layers": {"optimize": "balanced", "schedule": "layers"},
    "balanced": {"optimize": "balanced"},
    "ram": {"optimize": "ram"},
    "ram, streamed": {"optimize": "ram", "stream_input": True},
    "speed": {"optimize": "speed"},
}
IMAGE_WAYS: dict[str, dict[str, object]] = {
    "layers": WAYS["layers"],
    "ram": WAYS["ram"],
    "ram, streamed": WAYS["ram, streamed"],
    "ram, handed out": {"optimize": "ram", "stream_output": True},
    "ram, both": {"optimize": "ram", "stream_input": True, "stream_output": True},
}
NHWC: dict[str, object] = {"input_layout": "nhwc", "output_layout": "nhwc"}
IMAGES = {"denoiser 96x96x1": (images.denoiser, 1, 96), "upscaler 48x48x1": (images.upscaler, 1, 48)}
TARGETS = ("host", "cortex-m4", "cortex-m55")
LEAST = "Bosch HALE"


@dataclass(frozen=True)
class RamRow:
    """Bytes of one arena and of its proven lower bound, and the steps of its schedule."""

    model: str
    target: str
    schedule: str
    arena: int
    bound: int
    steps: int

    @property
    def key(self) -> tuple[object, ...]:
        return (self.model, self.target, self.schedule)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure the RAM of schedules, beside others.")
    parser.add_argument("models", nargs="*", metavar="MODEL.onnx[=CALIBRATION]", help="by default the example network and the model collection")
    parser.add_argument("--check", action="store_true", help="compare with bench/results instead of writing there")
    options = parser.parse_args(arguments)
    rows = [row for source in find_sources(options.models) for row in measure(source.name, source.path, source.calibration, WAYS)]
    shown = [] if options.models else [row for name in IMAGES for row in measure_images(name)]
    for target in TARGETS:
        print_table(f"bytes of arena, {target}", [row for row in rows if row.target == target], WAYS)
        if shown:
            print_table(f"bytes of arena from image to image, {target}", [row for row in shown if row.target == target], IMAGE_WAYS)
    rows += shown
    known = {row.key: row for row in read_rows(RAM_CSV, RamRow)}
    if options.check:
        return 1 if any(row.key in known and row.arena > known[row.key].arena for row in rows) else 0
    if not options.models:
        write_rows(RAM_CSV, merge_rows(known.values(), rows))
    return 0


def find_sources(named: Iterable[str]) -> Iterator[Source]:
    """The models to measure."""
    if named:
        yield from run.find_sources(named)
    else:
        yield example_source()
        for path in sorted(COLLECTION.glob("models/mlperf_tiny/*_int8_qdq.onnx")):
            yield Source(path, None, path.stem.removesuffix("_int8_qdq"))
        yield from (Source(path, None, name) for name in ZOO if (path := COLLECTION / "models" / "zoo" / f"{name}.onnx").is_file())
        yield from (Source(path, None, "mnist5k_mbv2") for path in COLLECTION.glob("models/trained/mnist5k_mbv2*qdq*.onnx"))


def measure(model: str, path: Model, calibration: Any, ways: Mapping[str, Mapping[str, object]], **ports: object) -> Iterator[RamRow]:
    """Every schedule of one model on every target."""
    for target in TARGETS:
        for name, way in ways.items():
            program = midge.compile(path, target=target, numerics="tflite", calibration=calibration, **way, **ports).program  # type: ignore[arg-type]
            yield RamRow(model, target, name, program.arena_nbytes, program.lower_bound, len(program.steps))


def measure_images(name: str) -> Iterator[RamRow]:
    """One of IMAGES, as it is and with ports that are NHWC."""
    build, channels, size = IMAGES[name]
    model, calibration = build(channels, size), images.noise(channels, size)
    yield from measure(name, model, calibration, IMAGE_WAYS)
    yield from measure(f"{name}, NHWC", model, calibration, IMAGE_WAYS, **NHWC)


def print_table(title: str, rows: Sequence[RamRow], ways: Iterable[str]) -> None:
    """One line for each model."""
    others = {(f.peer, f.model): f.value for f in read_figures(BASELINES) if f.quantity in ("arena bytes", "RAM bytes") and f.peer in (TFLM, LEAST)}
    others |= {(f.peer, f.model): f.value for f in read_figures(BASELINES) if f.quantity == "arena bytes" and f.peer == TFLM}
    lines = []
    for model in dict.fromkeys(row.model for row in rows):
        found = {row.schedule: row for row in rows if row.model == model}
        gap = max(row.arena / row.bound - 1 for row in found.values())
        cells = [found[way].arena if way in found else None for way in ways]
        peers = [int(others[peer, model]) if (peer, model) in others else None for peer in (TFLM, LEAST)]
        lines.append((model, *peers, *cells, f"{gap:.1%}"))
    columns = ("model", TFLM, f"{LEAST}, published", *ways, "largest gap to the bound")
    make_console().print(make_table(title, columns, lines))


if __name__ == "__main__":
    raise SystemExit(main())
