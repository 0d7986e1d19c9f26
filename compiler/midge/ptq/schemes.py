# SPDX-License-Identifier: Apache-2.0
"""From float to int8: every activation gets a Quant, then weights, biases and constants follow (weights.py).

Values joined by operators that only move data share one Quant, so that moving needs no requantization. Softmax and Sigmoid always
have scale 1/256 and zero_point -128, Tanh 1/128 and 0: their ranges are known. A partly quantized graph keeps every Quant it has.

Source: TFLite 8-bit quantization specification (fixed output ranges, shared scales).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from midge.errors import IRError, Unsupported
from midge.ir import DType, Graph, Op, Quant
from midge.passes.integer import unify
from midge.ptq.calibration import Progress, Sample, observe
from midge.ptq.intervals import bounded_quant
from midge.ptq.observers import activation_quant, make_observer, quant_range
from midge.ptq.weights import finish_weights

UNIT = Quant.of(1.0 / 256.0, -128)
FIXED = {"Softmax": UNIT, "Sigmoid": UNIT, "Tanh": Quant.of(1.0 / 128.0, 0)}
NAMES_SHOWN = 8


def fixed_quant(op: Op) -> Quant | None:
    """The Quant of an operator whose output range is known, or None."""
    return FIXED.get(op.kind)


def is_float(graph: Graph, name: str) -> bool:
    """Whether a value is a computed float that still needs a Quant."""
    return graph.type(name).dtype is DType.F32 and not graph.is_constant(name)


def float_activations(graph: Graph) -> list[str]:
    """Inputs and computed values that are still float, in execution order."""
    return [name for name in [*graph.inputs, *(name for node in graph.nodes for name in node.outputs)] if is_float(graph, name)]


def quantize(graph: Graph, samples: list[Sample], observer: str = "minmax", progress: Progress | None = None) -> Graph:
    """The Graph in int8, with the ranges of its float activations observed on `samples` (see load_calibration).

    Raises: UsageError for an unknown observer or samples that drive the model to NaN; Unsupported without samples.
    """
    make_observer(observer)
    return complete(graph, samples, observer, progress)


def complete(graph: Graph, samples: list[Sample] | None = None, observer: str = "minmax", progress: Progress | None = None) -> Graph:
    """The Graph with every float activation quantized, from what its Quants imply and, failing that, from calibration samples.

    In this order: Quants cross operators that move data; fixed output ranges; observed ranges if there are samples, else bounds
    from interval arithmetic where they are tight (elementwise, averages, BatchNormalization).

    Raises: Unsupported if floats remain and there are no samples.
    """
    graph = graph.copy()
    _keep_model_types(graph)
    whole = all(graph.type(name).quant is None for name in _activations(graph))
    if not whole:
        _spread(graph)
        if not samples:
            _bound(graph)
    left = float_activations(graph)
    if not whole and not samples:  # what nothing reads may stay as it is
        left = [name for name in left if name in graph.outputs or graph.consumers()[name]]
    if not left:
        return finish_weights(unify(graph))
    if not samples:
        raise Unsupported(_missing(graph, left, whole))
    observed = observe(graph, samples, set(left), observer, progress)
    return quantize_graph(graph, {name: activation_quant(low, high) for name, (low, high) in observed.items()})


def _keep_model_types(graph: Graph) -> None:
    for value, public in [*zip(graph.inputs, graph.inputs, strict=True), *zip(graph.outputs, graph.output_names or graph.outputs, strict=True)]:
        graph.model_types.setdefault(public, graph.type(value))


def _activations(graph: Graph) -> list[str]:
    return [*graph.inputs, *(name for node in graph.nodes for name in node.outputs)]


def _missing(graph: Graph, left: list[str], whole: bool) -> str:
    """Why calibration is needed."""
    if whole:
        return f"model '{graph.name}' is float32: pass --calibration with representative inputs (.npz) to quantize it to int8"
    producers = graph.producers()
    named = [f"'{name}' ({producers[name].op.kind} '{producers[name].name}')" if name in producers else f"'{name}' (input)" for name in left]
    more = f" and {len(named) - NAMES_SHOWN} more" if len(named) > NAMES_SHOWN else ""
    return (
        f"model '{graph.name}' is quantized only in part; still float: {', '.join(named[:NAMES_SHOWN])}{more}; "
        "pass --calibration with representative inputs (.npz), or quantize these values before export"
    )


def _spread(graph: Graph) -> None:
    """Quants cross data-moving nodes: forward always, backward where no other reader would see values clipped."""
    changed = True
    while changed:
        changed = False
        for node in [*graph.nodes, *reversed(graph.nodes)]:
            if not node.op.moves_data:
                continue
            held = {graph.type(name).quant for name in graph.activations(node)}
            out = graph.type(node.outputs[0]).quant
            if out is not None:
                for name in graph.activations(node):
                    if is_float(graph, name) and graph.sole_consumer(name) is node:
                        changed |= _set(graph, name, out)
            elif None not in held and held:
                quant = held.pop() if len(held) == 1 else _union([q for q in held if q is not None])
                for name in node.outputs:
                    if quant is not None and is_float(graph, name):
                        changed |= _set(graph, name, quant)


def _bound(graph: Graph) -> None:
    """Fixed ranges and interval arithmetic, in execution order, then across data-moving nodes again."""
    for node in graph.nodes:
        if len(node.outputs) != 1 or not is_float(graph, node.outputs[0]):
            continue
        quant = fixed_quant(node.op) or bounded_quant(graph, node)
        if quant is not None:
            _set(graph, node.outputs[0], quant)
            _spread(graph)


def _set(graph: Graph, name: str, quant: Quant) -> bool:
    value = graph.values[name]
    value.type = value.type.with_quant(DType.S8, quant)
    return True


def _union(quants: list[Quant]) -> Quant:
    """One Quant for the values of all."""
    if all(quant == quants[0] for quant in quants):
        return quants[0]
    bounds = [quant_range(quant) for quant in quants]
    return activation_quant(min(low for low, _ in bounds), max(high for _, high in bounds))


@dataclass
class Groups:
    """Union-find over value names: values joined by nodes that only move data."""

    parent: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> str:
        while (up := self.parent.setdefault(name, name)) != name:
            self.parent[name] = self.parent[up]
            name = up
        return name

    def join(self, a: str, b: str) -> None:
        self.parent[self.find(b)] = self.find(a)


def quantize_graph(graph: Graph, ranges: dict[str, Quant]) -> Graph:
    """The Graph in int8: every float activation takes its Quant from `ranges`, except where its range is fixed or shared.

    Raises: IRError if `ranges` lacks a value that nothing else determines.
    """
    graph = graph.copy()
    _keep_model_types(graph)
    floats = float_activations(graph)
    pinned = {name: graph.type(name).q for name in _activations(graph) if graph.type(name).quant is not None}
    for node in graph.nodes:
        fixed = fixed_quant(node.op)
        if fixed is not None and is_float(graph, node.outputs[0]):
            pinned[node.outputs[0]] = fixed
    groups = Groups()
    for node in graph.nodes:
        if node.op.moves_data:
            moved = [name for name in [*node.inputs, *node.outputs] if graph.type(name).dtype in (DType.F32, DType.S8)]
            for name in moved[1:]:
                groups.join(moved[0], name)
    members: dict[str, list[str]] = {}
    for name in [*_activations(graph), *(name for name in graph.values if graph.is_constant(name) and name in groups.parent)]:
        members.setdefault(groups.find(name), []).append(name)
    for group in members.values():
        if any(name in floats for name in group):
            _settle(graph, group, pinned, ranges)
    return finish_weights(unify(graph))


def _settle(graph: Graph, group: list[str], pinned: dict[str, Quant], ranges: dict[str, Quant]) -> None:
    """Quants for the float values of one group: the pinned Quant if one serves all, else one that covers everything."""
    held = [pinned[name] for name in group if name in pinned]
    seen = [ranges[name] for name in group if name in ranges and name not in pinned]
    for name in group:
        data = graph.data(name)
        if data is not None and data.dtype.kind == "f":
            seen.append(activation_quant(float(data.min(initial=0.0)), float(data.max(initial=0.0))))
    if not held and not seen:
        raise IRError(f"value '{group[0]}' has no calibrated range")
    one = bool(held) and all(quant == held[0] for quant in held)
    quant = held[0] if one and all(_covers(held[0], other) for other in seen) else _union([*held, *seen])
    for name in group:
        if is_float(graph, name):
            _set(graph, name, pinned.get(name, quant))


def _covers(wide: Quant, narrow: Quant) -> bool:
    """Whether values of `narrow` fit in `wide`, give or take one and a half of its steps."""
    (low, high), (inner_low, inner_high) = quant_range(wide), quant_range(narrow)
    return inner_low >= low - 1.5 * wide.s and inner_high <= high + 1.5 * wide.s
