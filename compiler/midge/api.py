# SPDX-License-Identifier: Apache-2.0
"""From a model to a Library, in one call.

In short:

    import midge
    library = midge.compile("kws.onnx", target="cortex-m4", calibration="samples.npz")
    scores = library.run(x)
    library.write("kws_lib")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from midge.budget import within
from midge.changes import Attempt
from midge.codegen.c import emit
from midge.codegen.reference import reference_files
from midge.codegen.write import write_library
from midge.costs import Costs, load_costs, read
from midge.errors import UsageError
from midge.ir import Array, Graph
from midge.lower import Choice, lower
from midge.ops.build import dequantize
from midge.ops.build import quantize as quantize_data
from midge.package import package_files
from midge.passes import integerize
from midge.passes.dead_channels import DeadChannels, eliminate_dead_channels
from midge.passes.ports import LAYOUTS, from_port, to_port
from midge.prepare import Model, Progress, prepared, quantized_graph
from midge.program import Port, Program
from midge.ptq import quantize_model as quantize
from midge.ptq.narrow import Narrowed
from midge.report.summary import Report, summarize
from midge.run.interpreter import Interpreter
from midge.run.tune import tune as measure
from midge.schedule import Wish, may_save, parse_memories, place, spare
from midge.schedule.cells import Conflict
from midge.targets import Target, get_target

CUTS = range(0, 1025, 32)  # bytes of room that are tried as too much
IO = ("quantized", "model")
OPTIMIZE = ("size", "ram", "balanced", "speed")
SCHEDULES = ("rows", "layers")
WEIGHTS = ("int8", "int4")


@dataclass
class Library:
    """A compiled model: the integer Graph it means, the Program that computes it, what was left out of the model as dead, what has weights of four bits."""

    graph: Graph
    program: Program
    dead_channels: DeadChannels | None = None
    narrowed: Narrowed | None = None
    _interpreter: Interpreter | None = None

    def run(self, *inputs: Array, **named: Array) -> Array | list[Array]:
        """Outputs for one sample, computed by the library's own kernels on the host.

        Each input has the shape the model declares (a leading 1 may be left out) and either the element type of the port or float32, which is
        quantized on the way in; then outputs are dequantized on the way out. One output is returned as an array, several as a list.

        Raises: UsageError for a wrong number of inputs, shape or dtype.
        """
        arrays, real = self.prepare(*inputs, **named)
        if self._interpreter is None:
            self._interpreter = Interpreter(self.program)
        outputs = self._interpreter.run(arrays)
        outputs = [from_port(y, port.nhwc) for y, port in zip(outputs, self.program.outputs, strict=True)]
        if real:
            outputs = [dequantize(y, port.type.quant) if port.type.quant else y for y, port in zip(outputs, self.program.outputs, strict=True)]
        return outputs[0] if len(outputs) == 1 else outputs

    def prepare(self, *inputs: Array, **named: Array) -> tuple[list[Array], bool]:
        """Inputs as the ports want them, and whether any was given in real numbers."""
        ports = self.program.inputs
        given = list(inputs) or [named[port.name] for port in ports if port.name in named]
        if len(given) != len(ports) or len(inputs) + len(named) != len(ports):
            got = ", ".join([*(f"input {i}" for i in range(len(inputs))), *named]) or "none"
            raise UsageError(f"inputs wanted: {', '.join(port.name for port in ports)}; given: {got}")
        converted = [_to_port(np.asarray(array), port) for array, port in zip(given, ports, strict=True)]
        return [array for array, _ in converted], any(real for _, real in converted)

    def write(self, directory: str | Path, packages: Sequence[str] = (), more: Mapping[str, str] | None = None) -> Path:
        """Write the C library, its manifest and the reference that verify uses. An emitted directory is replaced as a whole.

        `packages`: names in midge.package.FORMATS; each adds a build system's files and an example. `more`: other files that belong to it, by path.

        Raises: UsageError if the directory holds something else, or for an unknown package.
        """
        emitted = emit(self.program)
        extra = reference_files(self.graph) | package_files(self.program, emitted, packages) | dict(more or {})
        return write_library(self.program, Path(directory), extra, emitted)

    def report(self) -> Report:
        """Sizes, MACs and the memory plan in numbers; `str()` of it is for people."""
        return summarize(self.program)


def _to_port(array: Array, port: Port) -> tuple[Array, bool]:
    """(array in the element type and shape of the port, whether it was converted from real numbers)."""
    kind = port.type
    wanted = from_port(np.empty(kind.shape, bool), port.nhwc).shape
    if [d for d in array.shape if d != 1] != [d for d in wanted if d != 1]:
        raise UsageError(f"input '{port.name}' has shape {array.shape}, the model wants {wanted}")
    array = to_port(array.reshape(wanted), port.nhwc)
    if array.dtype == kind.dtype.numpy or (kind.dtype.is_float and np.issubdtype(array.dtype, np.floating)):
        return array.astype(kind.dtype.numpy), False
    if kind.quant is None or not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"input '{port.name}' is {array.dtype}, the library wants {kind.dtype.numpy} or, where it is quantized, float32")
    if not np.isfinite(array).all():
        raise UsageError(f"input '{port.name}' has NaN or infinite values")
    return quantize_data(array, kind.dtype, kind.quant), True


def compile(
    model: Model,
    *,
    target: str = "host",
    name: str | None = None,
    io: str = "quantized",
    optimize: str = "balanced",
    ram: int | None = None,
    flash: int | None = None,
    cycles: int | None = None,
    schedule: str = "rows",
    stream_input: bool = False,
    stream_output: bool = False,
    stepwise: bool = False,
    input_layout: str = "model",
    output_layout: str = "model",
    memory: str = "",
    weights: str = "int8",
    costs: str | Path | None = None,
    require_fast: bool = False,
    keep_dead_channels: bool = False,
    **options: Any,
) -> Library:
    """Compile an ONNX model to a Library for `target` (see midge.targets.TARGETS).

    options: those of quantized_graph, such as calibration and numerics. name: of the library, by default the file's. stepwise: a run may be done in parts.
    optimize: "balanced" takes the fastest kernels that store no more bytes of weights than the model has, "speed" any, "size" the portable ones; each with
    all the RAM saved that costs no time. "ram" takes the kernels of "balanced", or slower ones of less scratch where that saves RAM, and the least RAM.
    ram: the arena has at most so many bytes, at the cost of time where needed. flash: at most so many bytes of code and constants; the fewest
    instructions within them are chosen. cycles: a run takes at most so many by estimate. What cannot be met fails with ways out (see midge.budget).
    schedule: "rows" computes rows of several layers in turn where that saves RAM, "layers" one layer after the other. costs: a table of `midge tune`.
    stream_input, stream_output: rows of the input are pushed into a run, those of outputs handed to a function of the caller's, and never all there.
    input_layout, output_layout: "nhwc" has the channels of a pixel together in C where the model has NCHW; Python and files keep to the model.
    weights: "int4" rounds those of large layers to four bits, two a byte (see midge.ptq.narrow); outputs change, the less for `calibration`, int8 models too.
    require_fast: fail if a layer is left to a portable kernel on a core that has better. keep_dead_channels: compute channels, too, that no output needs.
    io: ports have the network's integers ("quantized") or the model's own types ("model"). memory: those there are (see midge.schedule.memories).

    Raises: ImportFailed, Unsupported or UsageError, each with one message for people.
    """
    check_choices(io=io, optimize=optimize, schedule=schedule, weights=weights, input_layout=input_layout, output_layout=output_layout)
    machine, sides, samples = get_target(target), (input_layout == "nhwc", output_layout == "nhwc"), options.get("calibration")
    at = partial(prepared, quantized_graph(model, **options), name, io, keep_dead_channels, weights, samples)
    found, table = at(sides), load_costs(target, None if costs is None else Path(costs))
    kernels, layers, narrow = "balanced" if optimize == "ram" else optimize, schedule == "layers", weights == "int4"
    choice = Choice(kernels, table, flash, require_fast=require_fast, saved=found.saved, whole=layers, narrow=narrow)
    wish = Wish(optimize == "ram", ram, stream_input, stepwise, not layers, parse_memories(memory), stream_output)
    attempt = Attempt(found.graph, machine, found.digest, choice, wish, keep_dead_channels, cycles, samples, sides, lambda other: at(other).graph)
    request = _request(wish, choice, memory, weights, costs is not None)
    return Library(found.graph, replace(within(attempt, _placed), optimize=optimize, request=request), found.dead, found.narrowed)


def _request(wish: Wish, choice: Choice, memory: str, weights: str, own_costs: bool) -> dict[str, int | bool | str | None]:
    """What was asked for, as a written library keeps it."""
    return {**asdict(wish), "memories": memory, "flash": choice.flash, "saved": choice.saved, "weights": weights, "own_costs": own_costs}


def check_choices(**given: str) -> None:
    """Raises: UsageError for a value that its option does not know."""
    known = {"io": IO, "optimize": OPTIMIZE, "schedule": SCHEDULES, "weights": WEIGHTS, "input_layout": LAYOUTS, "output_layout": LAYOUTS}
    for option, value in given.items():
        if value not in known[option]:
            raise UsageError(f"no --{option.replace('_', '-')} named {value!r}; known: {', '.join(known[option])}")


def _placed(attempt: Attempt) -> Program:
    return placed(attempt.graph, attempt.target, attempt.digest, attempt.choice, attempt.wish)


def placed(graph: Graph, target: Target, digest: str, choice: Choice, wish: Wish) -> Program:
    """The placed Program of a Graph under its own name. If what its kernels need beside the tensors is too much for wish.ram, those that need less.
    Bytes that could stay where they are are moved where that makes the arena smaller and is what was asked for."""
    if wish.stream and wish.stepwise:
        raise UsageError("--stepwise: a run whose input is streamed is cut by its rows already; leave one of --stream-input and --stepwise out")
    if wish.stream and len(graph.inputs) != 1:
        raise UsageError(f"--stream-input: the model has {len(graph.inputs)} inputs; one is offered")
    try:
        found = (_lean if wish.least else _lowered)(graph, target, digest, choice, wish)
        if not wish.least or found.arena_nbytes == found.lower_bound or not any(buffer.pieces for buffer in found.buffers.values()):
            return found
        moved = _lean(graph, target, digest, choice, replace(wish, views=False))
        return moved if moved.arena_nbytes < found.arena_nbytes else found
    except (UsageError, Conflict) as error:
        if wish.views and (wish.ram is not None or isinstance(error, Conflict)):
            return placed(graph, target, digest, choice, replace(wish, views=False))
        if wish.ram is None:
            raise
        return _squeezed(graph, target, digest, choice, wish, wish.ram)


def _squeezed(graph: Graph, target: Target, digest: str, choice: Choice, wish: Wish, ram: int) -> Program:
    """The Program with the fastest kernels that have room beside the rows in `ram` bytes, or only portable ones.

    Rows move when kernels do, so that room which is there beside one choice may not be beside another: less of it is tried then.
    """
    portable = lower(graph, target, graph.name, digest, replace(choice, optimize="size", flash=None, require_fast=False))
    least = place(portable, replace(wish, least=True))
    floor, tried = dict[str, int](), list[list[str]]()  # what portable kernels need anyway
    for call in least.calls:
        value = least.layers[call.layer].value
        floor[value] = max(floor.get(value, 0), call.scratch_nbytes)
    for cut in CUTS:
        room = {value: max(nbytes, floor.get(value, 0)) for value, nbytes in spare(least, ram - cut).items()}
        program = lower(graph, target, graph.name, digest, replace(choice, room=room))
        kernels = [call.kernel.symbol for call in program.calls]
        if kernels not in tried:
            tried.append(kernels)
            with suppress(UsageError):
                return place(program, wish)
    if choice.flash is not None or choice.require_fast:
        raise UsageError(f"--ram {ram}: no kernels that are fast or small enough leave room")
    return least


def _lowered(graph: Graph, target: Target, digest: str, choice: Choice, wish: Wish) -> Program:
    return place(lower(graph, target, graph.name, digest, choice), wish)


def _lean(graph: Graph, target: Target, digest: str, choice: Choice, wish: Wish) -> Program:
    """The Program with the smallest arena: with the fastest kernels, or if that is smaller with those that need the least scratch, and the fastest again where
    their scratch costs nothing."""
    fast = _lowered(graph, target, digest, choice, wish)
    lean = lower(graph, target, graph.name, digest, replace(choice, least_scratch=True))
    if not may_save(fast, lean):
        return fast
    lean = place(lean, wish)
    if lean.arena_nbytes >= fast.arena_nbytes:
        return fast
    mixed = _lowered(graph, target, digest, replace(choice, room=spare(lean, lean.arena_nbytes)), wish)
    return mixed if mixed.arena_nbytes <= lean.arena_nbytes else lean


def tune(
    model: Model, *, target: str, costs: str | Path | None = None, keep_dead_channels: bool = False, progress: Progress | None = None, **options: Any
) -> Costs:
    """Measure, under QEMU, every kernel on every layer of a model whose shape the table does not know; `costs` is a file made before.

    Other options are those of quantized_graph. The result has what that file has and what was measured now.

    Raises: as compile; ToolMissing without cross compiler and emulator.
    """
    graph = integerize(quantized_graph(model, **options))
    graph = graph if keep_dead_channels else eliminate_dead_channels(graph)[0]
    found = measure(graph, get_target(target), load_costs(target, None if costs is None else Path(costs)), progress)
    for kernel, shape, instructions in [] if costs is None else read(Path(costs).read_text("utf-8"), str(costs)):
        found.add(kernel, shape, instructions)
    return found


__all__ = ["Library", "compile", "quantize", "quantized_graph", "tune"]
