# SPDX-License-Identifier: Apache-2.0
"""The example network, compiled for a Cortex-M4, run on the host and on an emulated core, and measured. Every figure printed is computed here.

`make demo` runs it, with everything it needs installed before.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mnist_data import Split, load
from rich.console import Console

import midge
from midge.errors import MidgeError
from midge.importers.onnx import load as load_model
from midge.passes import canonicalize
from midge.ptq.calibration import run_float
from midge.report.summary import Report
from midge.report.tables import make_console, make_table
from midge.report.usage import build_command, call_lines
from midge.run.host import run_host
from midge.run.qemu import image_sizes, run_qemu
from midge.run.verify import Verification, verify
from midge.targets import get_target

EXAMPLES = Path(__file__).resolve().parent
MODEL = EXAMPLES / "mnist_cnn.onnx"
OUTPUT = EXAMPLES.parent / "build" / "demo" / "digits"
TARGET = "cortex-m4"
CALIBRATION_IMAGES = 300
HOST_LAYERS, QEMU_LAYERS = 50, 5
"""Images of which every byte of every layer is compared with the integer reference."""
QEMU_SECONDS = 25.0
"""Emulation takes as many test images as fit in about this time."""
PROBE = 20


@dataclass(frozen=True)
class Results:
    """Scores of the test images: one row of 10 an image. qemu has as many as were emulated."""

    real: np.ndarray
    host: np.ndarray
    qemu: np.ndarray

    @property
    def same(self) -> int:
        """Emulated images whose scores are those of the host."""
        return int((self.host[: len(self.qemu)] == self.qemu).all(1).sum())


def main() -> int:
    """Returns the exit code: 0 only if everything compared was equal."""
    console = make_console()
    try:
        data = load()
        console.print(f"Compiling {MODEL.name} for {TARGET}: {CALIBRATION_IMAGES} training images for calibration...")
        library = midge.compile(MODEL, target=TARGET, calibration=data.x_train[:CALIBRATION_IMAGES], name="digits")
        library.write(OUTPUT)
        images = np.stack([library.prepare(x)[0][0] for x in data.x_test])
        host, emulated = verify_both(console, images)
        console.print("Running the test images: in float32, int8 in C on this machine, int8 in C on an emulated core...")
        results = Results(float_scores(data.x_test), scores(run_host(OUTPUT, [images]).outputs), emulate(images))
    except (MidgeError, ImportError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    show_accuracy(console, data, results)
    show_agreement(console, results, host, emulated)
    show_sizes(console, library.report(), emulated)
    show_use(console, library)
    return 0 if host.exact and emulated.exact and results.same == len(results.qemu) else 1


def verify_both(console: Console, images: np.ndarray) -> tuple[Verification, Verification]:
    """Every byte of every layer against the integer reference, on the host and on the emulated core."""
    console.print("Comparing every layer with the integer reference, on this machine and on the emulated core...")
    samples = [[image] for image in images[:HOST_LAYERS]]
    return verify(OUTPUT, samples, on="host"), verify(OUTPUT, samples[:QEMU_LAYERS], on="qemu")


def float_scores(images: np.ndarray) -> np.ndarray:
    """Scores (N, 10) of the float model, by midge's float reference executor."""
    graph = canonicalize(load_model(MODEL))
    found = []
    for image in images:
        values: dict[str, np.ndarray] = {}
        run_float(graph, {graph.inputs[0]: image}, values.__setitem__)
        found.append(values[graph.outputs[0]].reshape(-1))
    return np.stack(found)


def scores(outputs: list[np.ndarray]) -> np.ndarray:
    """The first output as int8 (N, 10)."""
    return outputs[0].view(np.int8)


def emulate(images: np.ndarray) -> np.ndarray:
    """Scores of as many images as fit in QEMU_SECONDS, judged by the time a few take."""
    started = time.monotonic()
    run_qemu(OUTPUT, TARGET, [images[:1]])
    building = time.monotonic() - started
    started = time.monotonic()
    run_qemu(OUTPUT, TARGET, [images[:PROBE]])
    each = max(1e-4, (time.monotonic() - started - building) / (PROBE - 1))
    count = min(len(images), max(PROBE, int((QEMU_SECONDS - building) / each) // 10 * 10))
    return scores(run_qemu(OUTPUT, TARGET, [images[:count]]).outputs)


def show_accuracy(console: Console, data: Split, results: Results) -> None:
    def row(what: str, found: np.ndarray) -> tuple[str, int, int, str]:
        labels = data.y_test[: len(found)]
        right = int((found.argmax(1) == labels).sum())
        return what, len(found), right, f"{right / len(found):.1%}"

    rows = [
        row("float32, midge's float reference", results.real),
        row("int8, C on this machine", results.host),
        row(f"int8, C on {TARGET} (QEMU)", results.qemu),
    ]
    console.print(make_table("accuracy on test images", ("network", "count", "right", "accuracy"), rows))


def show_agreement(console: Console, results: Results, host: Verification, emulated: Verification) -> None:
    def layers(what: str, found: Verification) -> tuple[str, str, str]:
        equal = "yes" if found.exact else f"no: {found.difference}"
        return what, f"{found.samples} images, {found.layers} layers, {found.bytes_compared:,} bytes", equal

    count = len(results.qemu)
    equal = "yes" if results.same == count else f"no: {count - results.same} images differ"
    rows = [
        layers("C on this machine = integer reference", host),
        layers(f"C on {TARGET} = integer reference", emulated),
        (f"C on {TARGET} = C on this machine", f"{count} images, scores", equal),
    ]
    console.print(make_table("bit-exact", ("", "compared", "equal"), rows))


def show_sizes(console: Console, report: Report, emulated: Verification) -> None:
    sizes = image_sizes(OUTPUT, TARGET)
    rows = [
        ("multiply-accumulates", report.macs, "an image"),
        ("instructions", emulated.instructions or 0, "an image at -O2, counted by QEMU: not cycles"),
        ("weights and tables", report.weight_nbytes, "bytes of flash"),
        ("code", sizes.library.text, "bytes of flash at -Os, the library alone"),
        ("firmware", sizes.total_flash, "bytes of flash at -Os: library, weights, start-up code, a main that runs it"),
        ("arena", report.arena_nbytes, f"bytes of RAM; no placement for this order of layers takes less than {report.lower_bound:,}"),
        ("stack", emulated.stack_bytes or 0, "bytes of RAM, measured"),
    ]
    console.print(make_table(f"what it costs on {TARGET}", ("", "count", "of"), rows))
    counts = emulated.layer_instructions or {}
    lines = [(line.index, line.text, line.macs, counts.get(line.index, 0)) for line in report.layers]
    console.print(make_table("layers", ("#", "layer (NHWC)", "MACs", "instructions under QEMU"), lines))


def show_use(console: Console, library: midge.Library) -> None:
    place = OUTPUT.relative_to(EXAMPLES.parent)
    console.print(f"The library lies in {place}, with its sources in {place / 'src'}. To call it:\n")
    for line in call_lines(library.program):
        print(f"    {line}")
    print(f"\nTo build it:\n\n    {build_command(str(place), get_target(TARGET))}")


if __name__ == "__main__":
    sys.exit(main())
