# SPDX-License-Identifier: Apache-2.0
"""Measure what kernels cost on the layers of a model: each variant that a layer accepts is compiled, run on the emulated core and counted."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from midge.codegen.write import write_library
from midge.costs import Costs, Shape
from midge.ir import Graph
from midge.lower import Choice, lower, offers
from midge.program import Program
from midge.ptq.narrow import narrow_weights
from midge.run.qemu import run_qemu
from midge.schedule import place
from midge.targets import Target
from midge.toolchain import compile_objects, function_sizes

Progress = Callable[[int, int], None]


def tune(graph: Graph, target: Target, costs: Costs, progress: Progress | None = None) -> Costs:
    """Costs of every variant on every layer of an integer Graph that `costs` has no row for, in executed instructions under QEMU; of those
    for weights of four bits, too.

    Raises: ToolMissing without the cross compiler and the emulator.
    """
    wanted: dict[str, dict[str, Shape]] = {}
    narrow = narrow_weights(graph)[0]
    for offered in (offers(graph, target), offers(narrow, target, narrow=True)):
        for value, (names, shape) in offered.items():
            for name in names:
                if len(names) > 1 and shape not in costs.rows.get(name, {}):
                    wanted.setdefault(name, {})[value] = shape
    found = Costs()
    for done, (name, shapes) in enumerate(sorted(wanted.items())):
        four = name.endswith("-") or "_w4_" in name
        program = place(lower(narrow if four else graph, target, "tuned", "0" * 64, Choice("speed", prefer=name, narrow=four)))
        counts = _profile(program, target)
        layers = {layer.value: layer.index for layer in program.layers}
        for value, shape in shapes.items():
            found.add(name, shape, counts[layers[value]])
        if progress:
            progress(done + 1, len(wanted))
    return found


def _profile(program: Program, target: Target) -> dict[int, int]:
    """Instructions per layer of one run on random input."""
    rng = np.random.default_rng(0)
    inputs = [rng.integers(-128, 128, (1, port.type.nbytes)).astype(np.int8) for port in program.inputs]
    with tempfile.TemporaryDirectory() as folder:
        write_library(program, Path(folder) / "library")
        run = run_qemu(Path(folder) / "library", target, inputs, profile=True)
    assert run.layer_instructions is not None
    return run.layer_instructions


def code_sizes(sources: Path, target: Target) -> dict[str, int]:
    """Bytes of every kernel in `sources`, by C symbol, compiled alone with the recommended flags."""
    with tempfile.TemporaryDirectory() as folder:
        files = sorted(path for path in sources.glob("*.c") if not path.name.startswith("_"))
        objects = compile_objects(files, Path(folder), target, includes=[sources])
        return {symbol: nbytes for path in objects for symbol, nbytes in function_sizes(path).items() if symbol.startswith("midge_")}
