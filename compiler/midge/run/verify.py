# SPDX-License-Identifier: Apache-2.0
"""Does the emitted C compute what the model says? Builds a written library, runs it on the host or an emulated core, and compares every byte
of every layer with the numpy reference of the Graph it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from midge.codegen.manifest import changed_files, load_manifest
from midge.codegen.reference import load_reference
from midge.errors import UsageError, VerifyFailed
from midge.ir import Array, Graph
from midge.program import planar_order
from midge.run.firmware import RunResult
from midge.run.host import run_host
from midge.run.qemu import run_qemu
from midge.run.reference import run_reference

PLACES = ("host", "qemu")


@dataclass(frozen=True)
class Difference:
    """The first layer that differs: in which sample, how many of its bytes, and the first of them."""

    sample: int
    layer: int
    name: str
    kind: str
    bytes_differing: int
    nbytes: int
    position: int
    expected: str
    got: str

    def __str__(self) -> str:
        return (
            f"layer {self.layer} '{self.name}' ({self.kind}), sample {self.sample}: {self.bytes_differing} of {self.nbytes} bytes differ, "
            f"first at byte {self.position}: expected {self.expected}, got {self.got}"
        )


@dataclass(frozen=True)
class Verification:
    """What was run, what was compared, and the first difference if there is one."""

    on: str
    target: str
    samples: int
    layers: int
    bytes_compared: int
    difference: Difference | None
    changed: tuple[str, ...]
    outputs: tuple[Array, ...]
    instructions: int | None = None
    layer_instructions: dict[int, int] | None = None
    stack_bytes: int | None = None

    @property
    def exact(self) -> bool:
        return self.difference is None


def verify(directory: Path, samples: Sequence[Sequence[Array]], *, on: str = "host", target: str | None = None, sanitize: bool = False) -> Verification:
    """Run a written library on `samples` (each a list of input arrays in port types) and compare every layer and output.

    `on`: "host" or "qemu". `target`: which core to emulate, by default the one the library was compiled for.

    Raises: UsageError for an unknown place, VerifyFailed if the code crashes or leaves its arena, ToolMissing without compiler or emulator.
    """
    if on not in PLACES:
        raise UsageError(f"cannot verify on {on!r}; known: {', '.join(PLACES)}")
    manifest = load_manifest(directory)
    graph = load_reference(directory)
    core = target or str(manifest["target"])
    stacked = [np.stack([np.asarray(sample[i]).reshape(graph.type(name).shape) for sample in samples]) for i, name in enumerate(graph.inputs)]
    if on == "host":
        run, counted, profile = run_host(directory, stacked, trace=True, sanitize=sanitize), None, None
    else:
        run = run_qemu(directory, core, stacked, trace=True)
        counted = run_qemu(directory, core, [array[:1] for array in stacked])
        profile = run_qemu(directory, core, [array[:1] for array in stacked], profile=True)
    compared, difference = _compare(graph, manifest["layers"], samples, run)
    return Verification(
        on,
        "host" if on == "host" else core,
        len(samples),
        len(manifest["layers"]),
        compared,
        difference,
        tuple(changed_files(directory)),
        tuple(run.outputs),
        counted.instructions if counted else None,
        profile.layer_instructions if profile else None,
        counted.stack_bytes if counted else None,
    )


def _compare(graph: Graph, layers: list[dict[str, object]], samples: Sequence[Sequence[Array]], run: RunResult) -> tuple[int, Difference | None]:
    """(bytes compared, first difference by layer, then sample)."""
    compared, found = 0, []
    assert run.layers is not None
    for number, sample in enumerate(samples):
        values = run_reference(graph, dict(zip(graph.inputs, sample, strict=True)))
        for layer in layers:
            index = int(str(layer["index"]))
            expected = np.ascontiguousarray(values[str(layer["buffer"])]).reshape(-1)
            got = np.frombuffer(run.layers[(number, index)], np.uint8)
            if layer["planar"]:
                _, width, channels = graph.type(str(layer["buffer"])).hwc
                got = np.ascontiguousarray(got.reshape(-1, width * channels)[:, planar_order(width, channels)]).reshape(-1)
            compared += expected.nbytes
            difference = _difference(number, index, str(layer["name"]), str(layer["kind"]), expected, got)
            if difference is not None:
                found.append(difference)
                break  # later layers of this sample inherit the error
        for index, name in enumerate(graph.outputs):
            expected = np.ascontiguousarray(values[name]).reshape(-1)
            compared += expected.nbytes
            difference = _difference(number, len(layers), name, "output", expected, run.outputs[index][number].reshape(-1))
            if difference is not None:
                found.append(difference)
    return compared, min(found, key=lambda d: (d.layer, d.sample), default=None)


def _difference(sample: int, layer: int, name: str, kind: str, expected: Array, raw: Array) -> Difference | None:
    """The difference between expected elements and the bytes that came, None if there is none."""
    if expected.nbytes != raw.nbytes:
        raise VerifyFailed(f"layer {layer} '{name}': {raw.nbytes} bytes came back, {expected.nbytes} were expected")
    got = np.ascontiguousarray(raw).view(expected.dtype)
    wrong = np.flatnonzero(expected.view(np.uint8) != raw)
    if not wrong.size:
        return None
    first = int(wrong[0]) // expected.itemsize
    return Difference(sample, layer, name, kind, int(wrong.size), expected.nbytes, int(wrong[0]), str(expected[first]), str(got[first]))
