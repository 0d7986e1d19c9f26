# SPDX-License-Identifier: Apache-2.0
"""Everything a report says, as plain data: report.json is this, report.html shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from midge.codegen.kernels import rename
from midge.codegen.layers import function_name
from midge.codegen.manifest import midge_version
from midge.ir import Graph, TensorType
from midge.program import Call, Layer, Program
from midge.report.accuracy import Accuracy
from midge.report.arena_picture import Block, blocks
from midge.report.measure import Measured, build_flags
from midge.report.verification import estimate_dict
from midge.schedule.timeline import used
from midge.targets import get_target

FORMAT = 1
MEASURED = "instructions under QEMU, not cycles"


@dataclass(frozen=True)
class Signal:
    """A value: element type, shape, scale and zero_point (None where it has none), and what makes it: a node of the network, or 'input'."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None
    zero_point: int | None
    nbytes: int
    producer: str
    readers: tuple[str, ...]


@dataclass(frozen=True)
class LayerFacts:
    """One layer, from the ONNX nodes it came from to the C functions that compute it and what was compared.

    flash_nbytes: its constants, each counted at the first layer that uses it. ram_nbytes: the most bytes of the arena in use while it runs.
    state: "exact", "differs", "not compared" (behind a difference), or None if nothing was run.
    """

    index: int
    name: str
    kind: str
    text: str
    value: str
    origin: tuple[str, ...]
    functions: tuple[str, ...]
    kernels: tuple[str, ...]
    kernel_nbytes: int | None
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


@dataclass(frozen=True)
class ArenaFacts:
    """The plan of the arena; `used` is bytes in use at each step, `memories` bytes taken of memories beside the arena."""

    nbytes: int
    align: int
    lower_bound: int
    gap: float
    steps: int
    peak_step: int
    peak_layer: int | None
    used: tuple[int, ...]
    blocks: tuple[Block, ...]
    memories: dict[str, int]


@dataclass(frozen=True)
class Facts:
    """A report. estimate: of the cycles of one run, what it assumes and its error (see midge.costs.cores). `missing` says why a figure that should be here
    is not."""

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
    layers: tuple[LayerFacts, ...]
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
        tuple(_layer(program, layer, flash, ram, accuracy, measured) for layer in program.layers),
        _arena(program),
        {"reference": accuracy.reference, "data": accuracy.data, "samples": accuracy.samples},
        _verification(measured),
        estimate_dict(measured.verification) if measured.verification and measured.verification.estimated else None,
        _stack(measured),
        _build(program, measured),
        tuple(program.warnings),
        measured.missing,
    )


def signals(graph: Graph) -> list[Signal]:
    """Inputs and everything that nodes compute, in execution order."""
    consumers, producers = graph.consumers(), graph.producers()
    found = []
    for name in dict.fromkeys([*graph.inputs, *(name for node in graph.nodes for name in node.outputs)]):
        kind = graph.type(name)
        scale, zero_point = quant_of(kind)
        producer = producers[name].name if name in producers else "input"
        readers = tuple(dict.fromkeys(node.name for node in consumers.get(name, [])))
        found.append(Signal(name, kind.dtype.value, kind.shape, scale, zero_point, kind.nbytes, producer, readers))
    return found


def quant_of(kind: TensorType) -> tuple[float, int] | tuple[None, None]:
    """(scale, zero_point) of a value quantized per tensor."""
    if kind.quant is None or kind.quant.axis is not None:
        return None, None
    return kind.quant.s, kind.quant.z


def calls_of(program: Program, layer: Layer) -> dict[int, Call]:
    """The calls of a layer by their index."""
    return {index: call for index, call in enumerate(program.calls) if call.layer == layer.index}


def flash_by_layer(program: Program) -> dict[int, int]:
    """Bytes of constants by layer, rows of padding included; each constant once, at the first layer that uses it."""
    seen: set[str] = set()
    found: dict[int, int] = {}
    for call in program.calls:
        operands = [name for operand in call.inputs for name in (operand.pad_row, operand.constant) if name]
        fresh = {name for name in [*call.constants.values(), *operands] if name in program.constants} - seen
        found[call.layer] = found.get(call.layer, 0) + sum(program.constants[name].data.nbytes for name in fresh)
        seen |= fresh
    return found


def ram_by_layer(program: Program) -> dict[int, int]:
    """The most bytes in use at any step of a layer."""
    found: dict[int, int] = {}
    for step, nbytes in zip(program.steps, used(program), strict=True):
        if step.call >= 0:
            layer = program.calls[step.call].layer
            found[layer] = max(found.get(layer, 0), nbytes)
    return found


def _layer(program: Program, layer: Layer, flash: Mapping[int, int], ram: Mapping[int, int], accuracy: Accuracy, measured: Measured) -> LayerFacts:
    calls, verified = calls_of(program, layer), measured.verification
    kernels = tuple(dict.fromkeys(symbol for call in calls.values() for symbol in call.kernel.symbols(program.numerics)))
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
        functions=tuple(function_name(program, index) for index in calls),
        kernels=kernels,
        kernel_nbytes=_kernel_nbytes(program, calls, kernels, measured),
        refused=tuple(dict.fromkeys(reason for call in calls.values() for reason in call.refused)),
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
    )


def _kernel_nbytes(program: Program, calls: Mapping[int, Call], kernels: tuple[str, ...], measured: Measured) -> int | None:
    """Bytes of code of the kernels and routines a layer uses, which other layers may use too."""
    if measured.built is None:
        return None
    sizes = measured.built.functions
    routines = [program.routines[name].symbol for call in calls.values() for name in call.constants.values() if name in program.routines]
    return sum(sizes.get(rename(symbol, program.name), 0) for symbol in dict.fromkeys([*kernels, *routines]))


def _state(index: int, measured: Measured) -> str | None:
    if measured.verification is None:
        return None
    difference = measured.verification.difference
    if difference is None or index < difference.layer:
        return "exact"
    return "differs" if index == difference.layer else "not compared"


def _arena(program: Program) -> ArenaFacts:
    step = program.steps[program.peak_step] if 0 <= program.peak_step < len(program.steps) else None
    layer = program.calls[step.call].layer if step is not None and step.call >= 0 else None
    gap = round(program.arena_nbytes / program.lower_bound - 1.0, 6) if program.lower_bound else 0.0
    totals, beside = tuple(used(program)), {memory.name: memory.nbytes for memory in program.memories}
    return ArenaFacts(
        program.arena_nbytes,
        program.arena_align,
        program.lower_bound,
        gap,
        len(program.steps),
        program.peak_step,
        layer,
        totals,
        tuple(blocks(program)),
        beside,
    )


def _verification(measured: Measured) -> dict[str, Any] | None:
    found = measured.verification
    if found is None:
        return None
    facts = {key: getattr(found, key) for key in ("on", "target", "samples", "bytes_compared", "exact", "changed", "instructions")}
    return {**facts, "difference": None if found.difference is None else str(found.difference), "unit": MEASURED if found.on == "qemu" else None}


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
