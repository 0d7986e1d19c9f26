# SPDX-License-Identifier: Apache-2.0
"""Everything a report says, as plain data: report.json is this, report.html shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from midge.codegen.manifest import midge_version
from midge.ir import Graph
from midge.program import Layer, Program
from midge.report.accuracy import Accuracy
from midge.report.blocks import Block, blocks
from midge.report.measure import Measured, build_flags
from midge.report.signals import Signal, constants, signals
from midge.report.summary import memory_bytes
from midge.report.trace import KERNEL, LAYER, ROUTINE, TWIN, Function, Share, elsewhere, flash_by_layer, functions_of, of_layer
from midge.report.verification import between_layers, estimate_dict
from midge.run.verify import Verification
from midge.schedule.timeline import peak_step, used
from midge.targets import get_target

FORMAT = 2
MEASURED = "instructions under QEMU, not cycles"


@dataclass(frozen=True)
class LayerFacts:
    """One layer, from the ONNX nodes it came from to the C functions that compute it and what was compared.

    functions, kernels, routines: names in the emitted C, which Facts.code has with source and bytes; routines are generated assembly, or their portable
    twins where that is not compiled in. code_nbytes: of the functions that only this layer uses; shared_nbytes: of those that others use, too.
    flash_nbytes: its constants, each counted at the first layer that uses it. ram_nbytes: the most bytes in use while it runs, of all memories.
    state: "exact", "differs", "not compared" (behind a difference), or None if nothing was run. test: what was compared with what, and where.
    """

    index: int
    name: str
    kind: str
    text: str
    value: str
    origin: tuple[str, ...]
    functions: tuple[str, ...]
    kernels: tuple[str, ...]
    routines: tuple[str, ...]
    code_nbytes: int | None
    shared_nbytes: int | None
    refused: tuple[str, ...]
    macs: int
    flash_nbytes: int
    ram_nbytes: int
    output_nbytes: int
    instructions: int | None
    estimated_cycles: int | None
    snr_db: float | None
    exact_in_float: bool | None
    largest_error: float | None
    largest_error_steps: float | None
    not_compared: str | None
    state: str | None
    test: str | None


@dataclass(frozen=True)
class MemoryFacts:
    """A memory beside the arena: bytes taken by tensors and scratch, by constants, and those in use at each step."""

    nbytes: int
    constants_nbytes: int
    capacity: int
    used: tuple[int, ...]


@dataclass(frozen=True)
class ArenaFacts:
    """The plan of the arena; `used` is bytes in use at each step, counted from 0. `memories`: those beside the arena by name; with any, no lower bound is known
    of what remains. ram_nbytes: the arena and all that is taken of these."""

    nbytes: int
    align: int
    lower_bound: int | None
    gap: float | None
    steps: int
    peak_step: int
    peak_layer: int | None
    used: tuple[int, ...]
    blocks: tuple[Block, ...]
    memories: dict[str, MemoryFacts]
    ram_nbytes: int


@dataclass(frozen=True)
class Facts:
    """A report. code: every C function, elsewhere: bytes that are no single layer's; with code_nbytes and flash_nbytes of the layers these sum to code,
    constants and initialised data of the objects. estimate: of the cycles of one run, what it assumes and its error (see midge.costs.cores). `missing` says
    why a figure that should be here is not."""

    format: int
    midge: str
    name: str
    target: str
    numerics: str
    optimize: str
    digest: str
    macs: int
    weight_nbytes: int
    signals: tuple[Signal, ...]
    constants: tuple[Signal, ...]
    layers: tuple[LayerFacts, ...]
    code: tuple[Function, ...]
    elsewhere: tuple[Share, ...]
    arena: ArenaFacts
    comparison: dict[str, Any]
    verification: dict[str, Any] | None
    estimate: dict[str, Any] | None
    stack: dict[str, Any]
    build: dict[str, Any]
    warnings: tuple[str, ...]
    missing: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


def gather(graph: Graph, program: Program, accuracy: Accuracy, measured: Measured) -> Facts:
    """The Facts of a placed Program and the Graph it came from."""
    flash, ram = flash_by_layer(program), ram_by_layer(program)
    built, verified = measured.built, measured.verification
    code = functions_of(program, built.symbols if built else ())
    return Facts(
        FORMAT,
        midge_version(),
        program.name,
        program.target,
        program.numerics,
        program.optimize,
        program.digest,
        program.macs,
        program.weight_nbytes,
        tuple(signals(graph)),
        tuple(constants(graph)),
        tuple(_layer(program, layer, flash, ram, code, accuracy, measured) for layer in program.layers),
        code,
        elsewhere(program, code, built.symbols, built.sizes) if built else (),
        _arena(program),
        {"reference": accuracy.reference, "data": accuracy.data, "samples": accuracy.samples},
        _verification(measured),
        estimate_dict(verified) if verified and verified.estimated else None,
        _stack(measured),
        _build(program, measured),
        tuple(program.warnings),
        measured.missing,
    )


def ram_by_layer(program: Program) -> dict[int, int]:
    """The most bytes in use at any step of a layer, of all memories together."""
    found: dict[int, int] = {}
    memories = [used(program, memory=name) for name in ("", *(memory.name for memory in program.memories))]
    for step, *parts in zip(program.steps, *memories, strict=True):
        if step.call >= 0:
            layer = program.calls[step.call].layer
            found[layer] = max(found.get(layer, 0), sum(parts))
    return found


def _layer(
    program: Program, layer: Layer, flash: Mapping[int, int], ram: Mapping[int, int], code: Sequence[Function], accuracy: Accuracy, measured: Measured
) -> LayerFacts:
    calls, verified = [call for call in program.calls if call.layer == layer.index], measured.verification
    mine = [each for each in code if layer.index in each.layers]
    own, shared = of_layer(code, layer.index) if measured.built else (None, None)
    distance = accuracy.distances.get(layer.value)
    counts = (verified.layer_instructions or {}) if verified else {}
    cost = verified.estimated.layers.get(layer.index) if verified and verified.estimated else None
    return LayerFacts(
        index=layer.index,
        name=layer.name,
        kind=layer.kind,
        text=layer.text,
        value=layer.value,
        origin=layer.origin,
        functions=tuple(each.name for each in mine if each.kind == LAYER),
        kernels=tuple(each.name for each in mine if each.kind == KERNEL),
        routines=tuple(each.name for each in mine if each.kind in (ROUTINE, TWIN)),
        code_nbytes=own,
        shared_nbytes=shared,
        refused=tuple(dict.fromkeys(reason for call in calls for reason in call.refused)),
        macs=layer.macs,
        flash_nbytes=flash.get(layer.index, 0),
        ram_nbytes=ram.get(layer.index, 0),
        output_nbytes=program.buffer(layer.buffer).nbytes,
        instructions=counts.get(layer.index),
        estimated_cycles=cost.cycles if cost else None,
        snr_db=distance.snr_db if distance else None,
        exact_in_float=distance.exact if distance else None,
        largest_error=distance.largest_error if distance else None,
        largest_error_steps=distance.largest_steps if distance else None,
        not_compared=None if distance else accuracy.left_out.get(layer.value, "its output is not quantized per tensor"),
        state=_state(layer.index, measured),
        test=_test(program.buffer(layer.buffer).nbytes, measured),
    )


def _state(index: int, measured: Measured) -> str | None:
    if measured.verification is None:
        return None
    difference = measured.verification.difference
    if any(index in constant.layers for constant in measured.verification.wrong_constants):
        return "differs"
    if difference is None or index < difference.layer:
        return "exact"
    return "differs" if index == difference.layer else "not compared"


def _test(nbytes: int, measured: Measured) -> str | None:
    """What a layer's output was held against."""
    found = measured.verification
    return None if found is None else f"integer reference, {found.samples} samples of {nbytes:,} bytes, {place_of(found)}"


def place_of(found: Verification) -> str:
    """Where a library was run."""
    return "on the host" if found.on == "host" else f"on {get_target(found.target).board or found.target} under QEMU"


def _arena(program: Program) -> ArenaFacts:
    peak, beside = peak_step(program), _memories(program)
    step = program.steps[peak] if 0 <= peak < len(program.steps) else None
    bound = None if beside else program.lower_bound
    return ArenaFacts(
        program.arena_nbytes,
        program.arena_align,
        bound,
        round(program.arena_nbytes / bound - 1.0, 6) if bound else None if beside else 0.0,
        len(program.steps),
        peak,
        program.calls[step.call].layer if step is not None and step.call >= 0 else None,
        tuple(used(program)),
        tuple(blocks(program)),
        beside,
        program.arena_nbytes + sum(memory.nbytes + memory.constants_nbytes for memory in beside.values()),
    )


def _memories(program: Program) -> dict[str, MemoryFacts]:
    taken = memory_bytes(program)
    return {m.name: MemoryFacts(m.nbytes, taken[m.name] - m.nbytes, m.capacity, tuple(used(program, memory=m.name))) for m in program.memories}


def _verification(measured: Measured) -> dict[str, Any] | None:
    """What was compared and counted. Where layers were counted, `instructions` is their sum and what lies between them; a build without labels between the
    layers executes `instructions_unmarked`."""
    found = measured.verification
    if found is None:
        return None
    between, marked = between_layers(found), found.estimated is not None
    return {
        **{key: getattr(found, key) for key in ("on", "target")},
        "place": place_of(found),
        **{key: getattr(found, key) for key in ("samples", "bytes_compared", "constant_bytes", "exact", "changed")},
        "instructions": found.estimated.total.instructions if found.estimated else found.instructions,
        "instructions_between_layers": between.instructions if between else None,
        "instructions_unmarked": found.instructions,
        "marked": marked,
        "difference": found.wrong or None,
        "unit": MEASURED if found.on == "qemu" else None,
    }


def _stack(measured: Measured) -> dict[str, Any]:
    """The bound and the measured high-water mark, in bytes."""
    stated = measured.built.stack if measured.built else None
    painted = measured.verification.stack_bytes if measured.verification else None
    return {
        "bound": stated.nbytes if stated else None,
        "path": list(stated.path) if stated else [],
        "open_ends": list(stated.open_ends) if stated else [],
        "painted": None if painted is None else painted - (measured.built.firmware_frame if measured.built else 0),
    }


def _build(program: Program, measured: Measured) -> dict[str, Any]:
    built, target = measured.built, get_target(program.target)
    sizes = asdict(built.sizes) if built else None
    return {"compiler": built.compiler if built else None, "command": f"{target.prefix}gcc", "flags": list(build_flags(target)), "sizes": sizes}
