# SPDX-License-Identifier: Apache-2.0
"""Tables for people. Every name that comes from a model is escaped: neither rich's markup nor a terminal's control sequences pass."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from midge.report.inspect import Inspection, PortLine
from midge.report.summary import Report
from midge.run.verify import Verification

WIDTH = 120  # where the output is no terminal and nothing says how wide it is
RIGHT = frozenset({"#", "count", "MACs", "weights", "bytes", "instructions under QEMU"})


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
    table = Table(title=Text(printable(title), "bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(Text(column), justify="right" if column in RIGHT else "left", overflow="fold")
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
        layers = [(line.index, line.name, line.kind, line.output, line.macs, line.weights) for line in found.layers]
        console.print(make_table("layers after fusing", ("#", "name", "operator", "output (NHWC)", "MACs", "weights"), layers))
        console.print(Text(f"{found.macs:,} MACs, {found.weights:,} weights in {found.weight_nbytes:,} bytes"))
    console.print(Text(f"missing to compile: {printable(found.problem, keep=chr(10))}" if found.problem else "nothing is missing to compile it"))


def _ports(role: str, ports: Iterable[PortLine]) -> list[tuple[Any, ...]]:
    def shape(port: PortLine) -> str:
        return "unknown" if port.shape is None else ", ".join(str(d) or "?" for d in port.shape)

    return [(role, port.name, port.dtype, shape(port), port.scale, None if port.zero_point is None else str(port.zero_point)) for port in ports]


def print_report(console: Console, report: Report) -> None:
    """What `midge compile` shows of a library: its layers, then its sizes."""
    layers = [(line.index, line.name, line.text, line.nbytes, line.macs, ", ".join(line.kernels)) for line in report.layers]
    console.print(make_table(f"{report.name} for {report.target}", ("#", "layer", "types", "bytes", "MACs", "kernels"), layers))
    sizes = [
        ("numerics", report.numerics),
        ("MACs", report.macs),
        ("weights and tables", f"{report.weight_nbytes:,} bytes"),
        ("arena", f"{report.arena_nbytes:,} bytes, highest at {report.peak_layer}"),
        ("lower bound of the arena", f"{report.lower_bound:,} bytes, gap {report.gap:.1%}"),
    ]
    grid = Table.grid(padding=(0, 2))
    for name, value in sizes:
        grid.add_row(Text(name), Text(cell(value)))
    console.print(grid)
    for warning in report.warnings:
        console.print(Text(f"warning: {printable(warning)}", "yellow"))


def print_verification(console: Console, found: Verification, layers: Sequence[dict[str, Any]]) -> None:
    """What `midge verify` shows: every layer, exact up to the first that differs. `layers` are those of the manifest."""
    counts = found.layer_instructions
    columns = ["#", "layer", "operator", "bytes", "against the reference", *(["instructions under QEMU"] if counts is not None else [])]
    rows = []
    for layer in layers:
        index = int(layer["index"])
        row = [index, layer["name"], layer["kind"], layer["nbytes"], layer_state(found, index)]
        rows.append([*row, counts.get(index)] if counts is not None else row)
    console.print(make_table(f"{found.samples} samples on {found.on} ({found.target})", columns, rows))
    console.print(Text(f"{found.layers} layers, {found.bytes_compared:,} bytes compared: " + ("all equal" if found.exact else "not equal")))
    if found.instructions is not None:
        console.print(Text(f"one run: {found.instructions:,} instructions under QEMU, {found.stack_bytes or 0:,} bytes of stack"))


def layer_state(found: Verification, index: int) -> str:
    """ "exact", "differs", or "not compared" behind the first difference."""
    if found.difference is None or index < found.difference.layer:
        return "exact"
    return "differs" if index == found.difference.layer else "not compared"
