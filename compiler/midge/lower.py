# SPDX-License-Identifier: Apache-2.0
"""Graph + Target -> Program: every node becomes kernel calls on buffers, every constant is packed, the arena is planned and certified."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import midge.ops  # noqa: F401  (registers every operator)
from midge.costs import Costs, Shape, load_code_sizes
from midge.errors import IRError, Unsupported
from midge.ir import Graph, TensorType
from midge.ops.lowering import SPENDING, Lowering, Variant
from midge.program import Port, Program, Routine
from midge.select import Candidate, select
from midge.targets import Target

UNMEASURED = 1000  # bytes of code of a kernel that the table does not have


@dataclass(frozen=True)
class Choice:
    """How kernels are chosen: the objective ("size", "balanced" or "speed"), measured costs, a budget of flash in bytes, a variant to take
    wherever it is accepted (for measuring it), and whether a refusal of every fast kernel is an error. `saved` are bytes of weights that the
    model has and the Graph does not, because its channels are dead: "balanced" may spend them on wider weights."""

    optimize: str = "balanced"
    costs: Costs = field(default_factory=Costs)
    flash: int | None = None
    prefer: str = ""
    require_fast: bool = False
    saved: int = 0
    least_scratch: bool = False  # of kernels of the target's own, the one that needs the least scratch if it takes at most 1.3 times as long
    whole: bool = False  # layers will run one after the other, so kernels may take whole tensors
    room: dict[str, int] | None = None  # value -> bytes of scratch that a kernel may use for it; None for any
    narrow: bool = False  # weights of four bits are stored at two a byte


def lower(graph: Graph, target: Target, name: str, digest: str, choice: Choice | None = None) -> Program:
    """The Program of a canonical, fully quantized Graph, not yet placed (see midge.schedule.place).

    Raises: Unsupported listing what no kernel serves or what does not fit in the budget, IRError if the Graph breaks its rules.
    """
    choice = choice or Choice()
    ctx = _lower(graph, target, name, digest, choice, {})
    spending = choice.optimize == "balanced" and choice.saved > 0 and not choice.least_scratch
    if spending or choice.flash is not None:
        stored = sum(_stored(offered.taken, offered.geometry) for offered in ctx.options.values()) + choice.saved if spending else None
        wide = replace(choice, optimize=SPENDING) if spending else choice
        ctx = _lower(graph, target, name, digest, wide, {})
        ctx = _lower(graph, target, name, digest, wide, within(ctx, choice.flash, stored, load_code_sizes(target.name)))
        ctx.program.optimize = choice.optimize
    if choice.require_fast:
        _refuse_slow(ctx)
    return ctx.program


def _lower(graph: Graph, target: Target, name: str, digest: str, choice: Choice, decided: dict[int, str]) -> Lowering:
    program = Program(name, graph.numerics, target.name, digest, choice.optimize)
    ctx = Lowering(graph, program, target.features, choice.optimize, choice.costs, choice.prefer, decided, choice.room, choice.least_scratch, choice.whole)
    ctx.narrow = choice.narrow
    for value in graph.inputs:
        ctx.buffer(value)
    refused: list[str] = []
    for node, types, out in graph.walk():
        first, ctx.value = len(program.calls), node.outputs[0]
        try:
            node.op.lower(ctx, node)  # type: ignore[attr-defined]
        except Unsupported as error:
            refused.append(f"{node.op.kind.lower()} '{node.name}': {error}")
            continue
        if len(program.calls) > first:
            ctx.finish_layer(node, node.outputs[0], node.op.macs(types, out), describe(node.op.kind, types, out))
    if refused:
        raise Unsupported("\n".join(refused))
    ctx.finish_pad_rows()
    ctx.share_routines()
    program.inputs = [_port(ctx, graph, value, value) for value in graph.inputs]
    program.outputs = [_port(ctx, graph, value, public) for value, public in zip(graph.outputs, output_names(graph), strict=True)]
    _outputs_are_distinct(program)
    ctx.values = [layer.value for layer in program.layers]
    return ctx


def offers(graph: Graph, target: Target, narrow: bool = False) -> dict[str, tuple[tuple[str, ...], Shape]]:
    """For each value of a layer with a choice of kernels: the names of the variants that serve it, and its shape in the table of costs."""
    found: dict[str, tuple[tuple[str, ...], Shape]] = {}
    for prefer in ("", "rows that are not planar"):
        ctx = _lower(graph, target, "offers", "", Choice("speed", prefer=prefer, narrow=narrow), {})
        for layer, offered in ctx.options.items():
            value = ctx.values[layer]
            known = found[value][0] if value in found else ()
            found[value] = (tuple(dict.fromkeys((*known, *(variant.name for variant in offered.accepted)))), offered.shape)
    return found


def _stored(variant: Variant, geometry: Any) -> int:
    """Bytes of the constants that a variant packs for a layer; equal ones are stored once."""
    return sum(map(len, {data.tobytes() for data in variant.pack(geometry).values() if not isinstance(data, Routine)}))


def within(ctx: Lowering, flash: int | None, stored: int | None, code: dict[str, int]) -> dict[int, str]:
    """The variant of each layer at the fewest instructions, with code and constants within `flash` bytes and the layers' constants within
    `stored`. Code of kernels that were not measured counts as UNMEASURED bytes, a routine as four bytes an instruction. Where the table lacks an estimate for a
    variant of a layer, its variants rank by their order."""
    program, layers, sizes, own = ctx.program, dict[int, list[Candidate]](), dict[str, int](), set[str]()
    for layer, offered in ctx.options.items():
        layers[layer] = []
        packed = offered.taken.pack(offered.geometry)
        own |= {symbol for call in program.calls if call.layer == layer for name, symbol in call.constants.items() if name in packed}
        found = [ctx.costs.estimate(variant.name, offered.shape) for variant in offered.accepted]
        counts = [estimate.instructions for estimate in found if estimate is not None]
        counts = counts if len(counts) == len(found) else list(range(len(found)))
        for variant, count in zip(offered.accepted, counts, strict=True):
            routines = [data for data in variant.pack(offered.geometry).values() if isinstance(data, Routine)]
            symbols = {symbol: code.get(symbol, UNMEASURED) for symbol in variant.kernel.symbols(program.numerics)}
            sizes |= symbols | {routine.symbol: 4 * sum(not line.endswith(":") for line in routine.lines) for routine in routines}
            nbytes = _stored(variant, offered.geometry)
            layers[layer].append(Candidate(variant.name, count, nbytes, frozenset(symbols), tuple((r.symbol, *r.others) for r in routines)))
    chosen = {symbol for found in layers.values() for c in found for symbol in c.units}
    others = {symbol for call in program.calls for symbol in call.kernel.symbols(program.numerics)} - chosen
    fixed = sum(constant.data.nbytes for symbol, constant in program.constants.items() if symbol not in own)
    fixed += sum(code.get(symbol, UNMEASURED) for symbol in others)
    return select(layers, sizes, fixed, flash, stored).names


def _refuse_slow(ctx: Lowering) -> None:
    """Raises: Unsupported naming each layer that no kernel of the target's own serves, and why."""
    slow = []
    for call in ctx.program.calls:
        reasons = [reason for reason in call.refused if "instructions" not in reason]
        if reasons and not call.kernel.features:
            slow.append(f"layer {call.layer} '{call.name}': {'; '.join(reasons)}")
    if slow:
        raise Unsupported("--require-fast: these layers run on portable kernels:\n" + "\n".join(slow))


def output_names(graph: Graph) -> list[str]:
    """Names of the outputs as the model declared them."""
    return graph.output_names or list(graph.outputs)


def _port(ctx: Lowering, graph: Graph, value: str, public: str) -> Port:
    kind = graph.type(value)
    return Port(public, ctx.buffer(value).name, kind, graph.model_types.get(public, kind), public in graph.nhwc)


def _outputs_are_distinct(program: Program) -> None:
    used = [port.buffer for port in program.inputs + program.outputs]
    if len(set(used)) != len(used):
        raise IRError(f"ports share buffers: {used}; the edges pass must copy them apart")


def describe(kind: str, types: list[TensorType], out: list[TensorType]) -> str:
    """One line for people: 'Conv2D s8[1,49,10,1] -> s8[1,25,5,64]'."""

    def short(t: TensorType) -> str:
        return f"{t.dtype.value}[{','.join(map(str, t.shape))}]"

    return f"{kind} {short(types[0])} -> {', '.join(short(t) for t in out)}"
