# SPDX-License-Identifier: Apache-2.0
"""Does the emitted C compute what the model says? Builds a written library and runs it on the host or an emulated core, or runs it on a board that holds
it, and compares every byte of every layer with the numpy reference of the Graph it came from. Constants are compared themselves, by a digest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from midge.codegen.manifest import changed_files, load_manifest
from midge.codegen.reference import REFERENCE, load_reference
from midge.errors import IRError, ToolMissing, UsageError, VerifyFailed
from midge.ir import Array, Graph
from midge.program import planar_order
from midge.run.constants import WrongConstant, compare_constants
from midge.run.executed import Executed, executed
from midge.run.firmware import RunResult
from midge.run.host import run_host
from midge.run.qemu import run_qemu
from midge.run.reference import run_reference
from midge.run.serial import BoardResult, run_serial
from midge.toolchain import Sizes

NO_LIST = "the manifest does not list their CRC-32; compile the model again to have it"
OUTPUTS_ONLY = "use --layers to find the first layer that does"
PLACES = ("host", "qemu", "serial:PORT[:BAUD]")


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
    """What was run, what was compared, and the first difference if there is one.

    layers: how many were compared; 0 if only outputs were. layer_count: how many there are. instructions, layer_instructions: under QEMU. sizes: of the
    library's objects as built for the emulated core. board: what a board on a serial line said and counted. estimated: cycles that the executed instructions
    may take by a model of the core, which is no measurement; not_estimated: why there are none. constant_bytes: of all constants, compared in the program
    itself; None if they were not, as the manifest was written before it listed what that takes. wrong_constants: those that differ.
    """

    on: str
    target: str
    samples: int
    layers: int
    layer_count: int
    bytes_compared: int
    difference: Difference | None
    changed: tuple[str, ...]
    outputs: tuple[Array, ...]
    instructions: int | None = None
    layer_instructions: dict[int, int] | None = None
    stack_bytes: int | None = None
    sizes: Sizes | None = None
    board: BoardResult | None = None
    estimated: Executed | None = None
    not_estimated: str = ""
    constant_bytes: int | None = None
    wrong_constants: tuple[WrongConstant, ...] = ()

    @property
    def exact(self) -> bool:
        return self.difference is None and not self.wrong_constants

    @property
    def said(self) -> str:
        """What was compared, and whether it was equal."""
        what = f"of {self.layers} layers" if self.layers else f"of outputs only, none of {self.layer_count} layers,"
        also = "; constants were not compared: " + NO_LIST if self.constant_bytes is None else ""
        constants = "" if self.constant_bytes is None else f" and {self.constant_bytes:,} bytes of constants"
        return f"{self.bytes_compared:,} bytes {what}{constants} compared: {'all equal' if self.exact else 'not equal'}{also}"

    @property
    def wrong(self) -> str:
        """What differs, a line each; empty if nothing does."""
        lines = [] if self.difference is None else [f"{self.difference}; {'nothing before it differs' if self.layers else OUTPUTS_ONLY}"]
        return "\n".join([*lines, *map(str, self.wrong_constants)])


@dataclass(frozen=True)
class _Runs:
    """The run to compare, and what was counted in others."""

    run: RunResult
    where: str
    counted: RunResult | None = None
    layer_instructions: dict[int, int] | None = None
    board: BoardResult | None = None
    estimated: Executed | None = None
    not_estimated: str = ""


def verify(
    directory: Path,
    samples: Sequence[Sequence[Array]],
    *,
    on: str = "host",
    target: str | None = None,
    sanitize: bool = False,
    layers: bool = True,
    hertz: float | None = None,
) -> Verification:
    """Run a written library on `samples` (each a list of input arrays in port types) and compare every layer and output.

    `on`: "host", "qemu", or "serial:PORT[:BAUD]" for a board that holds the library. `target`: which core to emulate, by default the one the library was
    compiled for. layers: compare layers, not only outputs. hertz: send samples to a board at this rate, and compare outputs.

    Raises: UsageError for an unknown place, or if the C was edited and does not build; VerifyFailed if the code crashes or leaves its arena, or the reference
    was edited; ToolMissing without compiler or emulator.
    """
    _check_place(on, hertz)
    manifest = load_manifest(directory)
    graph = load_reference(directory)
    layers = layers and hertz is None
    stacked = [np.stack([np.asarray(sample[i]).reshape(graph.type(name).shape) for sample in samples]) for i, name in enumerate(graph.inputs)]
    changed = _changed(directory)
    with _blame(changed):
        runs = _run(directory, manifest, on, target or str(manifest["target"]), stacked, sanitize, layers, hertz)
    shown = manifest["layers"] if layers else []
    compared, difference = _compare(graph, shown, samples, runs.run, len(manifest["layers"]))
    constants = compare_constants(manifest, runs.run.constants or ())
    return Verification(
        on,
        runs.where,
        len(samples),
        len(shown),
        len(manifest["layers"]),
        compared,
        difference,
        changed,
        tuple(runs.run.outputs),
        runs.counted.instructions if runs.counted else None,
        runs.layer_instructions,
        runs.counted.stack_bytes if runs.counted else runs.board.stack_bytes if runs.board else None,
        runs.counted.sizes if runs.counted else None,
        runs.board,
        runs.estimated,
        runs.not_estimated,
        *constants,
    )


def _check_place(on: str, hertz: float | None) -> None:
    if on not in PLACES and not on.startswith("serial:"):
        raise UsageError(f"cannot verify on {on!r}; known: {', '.join(PLACES)}")
    if hertz is not None and not on.startswith("serial:"):
        raise UsageError(f"time on {on} is not a board's; samples at a fixed rate need --on serial:PORT")


def _changed(directory: Path) -> tuple[str, ...]:
    """Files that are not as midge wrote them. Sources may be: what they compute is compared, with the reference, which must not be."""
    changed = tuple(changed_files(directory))
    if REFERENCE in changed:
        raise VerifyFailed(f"{directory / REFERENCE}: is not as midge wrote it, so it does not say what the model computes; compile the model again")
    return changed


@contextmanager
def _blame(changed: Sequence[str]) -> Iterator[None]:
    """A refusal of compiler or linker is midge's fault only if the files are as midge wrote them."""
    try:
        yield
    except IRError as error:
        if not changed:
            raise
        what, *lines = str(error).splitlines()
        first = next((line for line in lines if "error" in line or "undefined" in line), "no message")
        raise UsageError(f"{', '.join(changed)}: not as midge wrote {'it' if len(changed) == 1 else 'them'}; {what} {first.strip()}") from None


def _run(directory: Path, manifest: dict[str, Any], on: str, core: str, stacked: Sequence[Array], sanitize: bool, layers: bool, hertz: float | None) -> _Runs:
    """Run all samples where they are to run, and count there what can be counted."""
    if on == "host":
        return _Runs(run_host(directory, stacked, trace=layers, constants=True, sanitize=sanitize), "host")
    if on == "qemu":
        return _run_emulated(directory, core, stacked, layers)
    board = run_serial(manifest, on, stacked, layers=layers, hertz=hertz)
    return _Runs(board.run, core, board=board)


def _run_emulated(directory: Path, core: str, stacked: Sequence[Array], layers: bool) -> _Runs:
    """All samples, then the first one alone to count; without a model of the core or a plugin for the emulator, layers are counted by the board's timer."""
    first = [array[:1] for array in stacked]
    runs = _Runs(run_qemu(directory, core, stacked, trace=layers, constants=True), core, run_qemu(directory, core, first))
    try:
        found = executed(directory, core, first)
    except (ToolMissing, UsageError, VerifyFailed) as error:
        counts = run_qemu(directory, core, first, profile=True).layer_instructions if layers else None
        return replace(runs, layer_instructions=counts, not_estimated=str(error))
    return replace(runs, layer_instructions={index: cost.instructions for index, cost in found.layers.items()} if layers else None, estimated=found)


def _compare(graph: Graph, layers: list[dict[str, Any]], samples: Sequence[Sequence[Array]], run: RunResult, end: int) -> tuple[int, Difference | None]:
    """(bytes compared, first difference by layer, then sample). Outputs count as layer `end`."""
    compared, found = 0, []
    for number, sample in enumerate(samples):
        values = run_reference(graph, dict(zip(graph.inputs, sample, strict=True)))
        for layer in layers:
            index = int(layer["index"])
            expected = np.ascontiguousarray(values[str(layer["buffer"])]).reshape(-1)
            if run.layers is None or (number, index) not in run.layers:
                raise VerifyFailed(f"layer {index} '{layer['name']}', sample {number}: nothing of it came back, so it was not compared")
            got = np.frombuffer(run.layers[(number, index)], np.uint8)
            if layer["planar"] and got.nbytes == expected.nbytes:
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
            difference = _difference(number, end, name, "output", expected, run.outputs[index][number].reshape(-1))
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
