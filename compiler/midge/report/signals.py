# SPDX-License-Identifier: Apache-2.0
"""Every value of the network, computed or constant: as data, as short text, and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from midge.ir import Graph, Node, TensorType
from midge.report.markup import escape, fitted_names, name_cell, number, table, tag

ROLES = {"Conv2D": ("weights", "bias"), "Dense": ("weights", "bias"), "PRelu": ("slope",)}
"""What the operands after the first are to an operator."""


@dataclass(frozen=True)
class Signal:
    """A value: element type, shape, scale and zero_point (None where it has none), and what makes it: a node of the network, 'input' or 'constant'.

    With one scale for each index of `axis`, `scales` and `zero_points` have them; else these are empty.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None
    zero_point: int | None
    nbytes: int
    producer: str
    readers: tuple[str, ...]
    axis: int | None
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]


def signals(graph: Graph) -> list[Signal]:
    """Inputs and everything that nodes compute, in execution order."""
    made = {name: node.name for name, node in graph.producers().items()}
    return _signals(graph, [*graph.inputs, *(name for node in graph.nodes for name in node.outputs)], {**dict.fromkeys(graph.inputs, "input"), **made})


def constants(graph: Graph) -> list[Signal]:
    """Weights, biases and other constants that nodes read, in execution order."""
    names = [name for node in graph.nodes for name in node.inputs if graph.is_constant(name)]
    return _signals(graph, names, dict.fromkeys(names, "constant"))


def _signals(graph: Graph, names: Iterable[str], makers: dict[str, str]) -> list[Signal]:
    consumers, found = graph.consumers(), []
    for name in dict.fromkeys(names):
        kind = graph.type(name)
        scale, zero_point = quant_of(kind)
        readers = tuple(dict.fromkeys(node.name for node in consumers.get(name, [])))
        by_axis = kind.quant if kind.quant is not None and kind.quant.axis is not None else None
        axis, scales, points = (by_axis.axis, by_axis.scale, by_axis.zero_point) if by_axis else (None, (), ())
        found.append(Signal(name, kind.dtype.value, kind.shape, scale, zero_point, kind.nbytes, makers[name], readers, axis, scales, points))
    return found


def quant_of(kind: TensorType) -> tuple[float, int] | tuple[None, None]:
    """(scale, zero_point) of a value quantized per tensor."""
    if kind.quant is None or kind.quant.axis is not None:
        return None, None
    return kind.quant.s, kind.quant.z


def shape_text(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def scale_text(scales: Sequence[float], digits: int) -> str:
    """One scale, or how many there are and from where to where they go."""
    if not scales:
        return "not quantized"
    low, high = f"{min(scales):.{digits}g}", f"{max(scales):.{digits}g}"
    return f"scale {low}" if len(scales) == 1 else f"{len(scales)} scales {low}" + (f" to {high}" if low != high else "")


def type_lines(kind: TensorType) -> tuple[str, str]:
    """Element type and shape, then scale and zero_point; the zero_points of a scale per channel only if one is not 0."""
    quant = kind.quant
    text = scale_text(quant.scale if quant else (), 4 if quant and len(quant.scale) == 1 else 2)
    if quant is not None and quant.axis is None:
        text += f", zero_point {quant.z}"
    elif quant is not None and any(quant.zero_point):
        text += f", zero_points {min(quant.zero_point)} to {max(quant.zero_point)}"
    return f"{kind.dtype.value} {shape_text(kind.shape)}", text


def constant_lines(graph: Graph, node: Node) -> list[str]:
    """Two lines for each constant that a node reads: its role and type, then its scale."""
    found = []
    roles = ROLES.get(node.op.kind, ())
    for place, name in enumerate(node.inputs):
        if graph.is_constant(name):
            kind, scale = type_lines(graph.type(name))
            role = roles[place - 1] if 1 <= place <= len(roles) else "constant"
            found += [f"{role} {kind}", scale.removesuffix(", zero_point 0")]
    return found


COLUMNS = (
    ("signal, and what makes it", "full"),
    ("type", ""),
    ("shape", "nowrap"),
    ("scale", "some"),
    ("zero_point", "n"),
    ("bytes", "n"),
    ("read by", "some"),
)


def signals_table(computed: Sequence[Signal], constant: Sequence[Signal]) -> str:
    """Every signal, folded away on a screen. Names of signals and of their makers are in full: here they can be read on paper, too."""
    listed = [*computed, *constant]
    short = fitted_names((name for signal in listed for name in signal.readers), 18)
    rows = [
        [
            _name(s.name) + "<br>" + tag("span", {"class": "soft"}, escape(s.producer) if s.producer in ("input", "constant") else "by " + _name(s.producer)),
            escape(s.dtype),
            shape_text(s.shape),
            f"{s.scale:.6g}" if s.scale is not None else "–" if not s.scales else scale_text(s.scales, 6),
            str(s.zero_point) if s.zero_point is not None else _range(s.zero_points),
            number(s.nbytes),
            "<br>".join(name_cell(short[name]) for name in s.readers) or "output",
        ]
        for s in listed
    ]
    head = tag("summary", {}, f"All {len(rows)} signals as a table: {len(computed)} computed, {len(constant)} constant")
    return tag("details", {"class": "signals"}, head + table(COLUMNS, rows, label="Signals"))


def _name(text: str) -> str:
    return tag("span", {"class": "name"}, escape(text))


def _range(points: Sequence[int]) -> str:
    return "–" if not points else str(points[0]) if min(points) == max(points) else f"{min(points)} to {max(points)}"
