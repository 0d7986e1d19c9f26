# SPDX-License-Identifier: Apache-2.0
"""Tables for people. Every name that comes from a model is escaped: neither rich's markup nor a terminal's control sequences pass."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import midge.ops  # noqa: F401 - registers every operator
from midge.importers.qoperator import FORMS, MICROSOFT_ONLY
from midge.ops.build import ONNX_OPS
from midge.report.inspect import Inspection, NodeLine, PortLine
from midge.report.markup import shortened
from midge.report.summary import Report

WIDTH = 120  # where the output is no terminal and nothing says how wide it is
RIGHT = frozenset({"#", "count", "MACs", "weights", "bytes", "zero_point", "instructions under QEMU", "estimated cycles", "ticks"})
NAME = 32  # letters of a layer's name in a table; converters write names of hundreds
SHORTENED = frozenset({"what"})


def printable(text: str, keep: str = "") -> str:
    """`text` with everything a terminal would not print as itself, except the characters in `keep`, written as an escape."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def make_console(*, stderr: bool = False) -> Console:
    """A Console on the standard output or error of now: plain text and 120 columns wide if that is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def make_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table of plain text; numbers get thousands separators, None is left empty."""
    table = Table(title=Text(printable(title), "bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, expand=not SHORTENED.isdisjoint(columns))
    for column in columns:
        shortened = column in SHORTENED
        table.add_column(
            Text(column),
            justify="right" if column in RIGHT else "left",
            overflow="ellipsis" if shortened else "fold",
            no_wrap=shortened,
            ratio=1 if shortened else None,
        )
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    return table


def cell(value: Any) -> str:
    """The text of one cell."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))


def print_inspection(console: Console, found: Inspection) -> None:
    """What `midge inspect` shows."""
    console.print(Text(f"{printable(found.name)}: {found.form} ONNX model, opset {found.opset}", "bold"))
    ports = [*_ports("input", found.inputs), *_ports("output", found.outputs)]
    console.print(make_table("inputs and outputs", ("", "name", "type", "shape", "scale", "zero_point"), ports))
    operators = [(line.op, line.domain or "ai.onnx", line.count, line.offered) for line in found.operators]
    console.print(make_table("operators", ("operator", "domain", "count", "offered"), operators))
    if found.layers:
        console.print(nodes_table("layers after fusing", found.layers))
        console.print(Text(f"{found.macs:,} MACs, {found.weights:,} weights in {found.weight_nbytes:,} bytes"))
    missing = f"missing to compile: {printable(found.problem, keep=chr(10))}" if found.problem else "nothing is missing to compile it"
    console.print(Text(missing), soft_wrap=True)


def nodes_table(title: str, nodes: Iterable[NodeLine]) -> Table:
    """The nodes of a Graph."""
    rows = [(node.index, layer_name(node.name), node.kind, node.output, node.scale, _plain(node.zero_point), node.macs, node.weights) for node in nodes]
    return make_table(title, ("#", "layer", "operator", "output", "scale", "zero_point", "MACs", "weights"), rows)


def layer_name(name: str) -> str:
    """A layer's name as a table shows it: of the names that a converter joined with ';' when it fused layers, the first."""
    first = name.split(";")[0] + (";…" if ";" in name else "")
    return shortened(first, NAME)


def _plain(number: int | None) -> str | None:
    """A number without thousands separators."""
    return None if number is None else str(number)


def _ports(role: str, ports: Iterable[PortLine]) -> list[tuple[Any, ...]]:
    def shape(port: PortLine) -> str:
        return "unknown" if port.shape is None else ", ".join(str(d) or "?" for d in port.shape)

    return [(role, port.name, port.dtype, shape(port), port.scale, _plain(port.zero_point)) for port in ports]


def print_report(console: Console, report: Report) -> None:
    """What `midge compile` shows of a library: its layers, then its sizes."""
    layers = [(line.index, layer_name(line.name), line.text, line.nbytes, line.macs, ", ".join(line.kernels)) for line in report.layers]
    console.print(make_table(f"{report.name} for {report.target}", ("#", "layer", "types", "bytes", "MACs", "kernels"), layers))
    sizes = [
        ("numerics", report.numerics),
        ("optimized for", report.optimize),
        ("MACs", report.macs),
        ("weights and tables", f"{report.weight_nbytes:,} bytes"),
        ("arena", f"{report.arena_nbytes:,} bytes, highest at {report.peak_layer}"),
    ]
    if report.memories:
        sizes += [(f"memory {name}", f"{nbytes:,} bytes beside the arena") for name, nbytes in report.memories.items()]
        sizes.append(("RAM of all memories", f"{report.arena_nbytes + sum(report.memories.values()):,} bytes"))
    else:
        sizes.append(("lower bound of the arena", f"{report.lower_bound:,} bytes, gap {report.gap:.1%}"))
    grid = Table.grid(padding=(0, 2))
    for name, value in sizes:
        grid.add_row(Text(name), Text(cell(value)))
    console.print(grid)
    for warning in report.warnings:
        console.print(Text(f"warning: {printable(warning)}", "yellow"), soft_wrap=True)


def operator_rows() -> list[tuple[str, str, str, str]]:
    """(family, operator, domain, one line about it) of every ONNX operator offered."""
    rows = []
    for name, function in ONNX_OPS.items():
        module = sys.modules[function.__module__]
        about = f"{FORMS[name].op} on integers, with scales and zero points as inputs" if name in FORMS else function.__doc__ or module.__doc__ or ""
        line = re.split(r"\.\s|\.?\n\n|\.$", about.strip())[0]
        rows.append((module.__name__.rpartition(".")[2], name, "com.microsoft" if name in MICROSOFT_ONLY else "ai.onnx", " ".join(line.split())))
    return sorted(rows)
