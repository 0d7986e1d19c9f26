# SPDX-License-Identifier: Apache-2.0
"""What `midge verify` found, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from midge.costs.cores import compared, core_of, error_of
from midge.report.tables import layer_name, make_table
from midge.run.executed import Cost
from midge.run.serial import RealTime
from midge.run.verify import Verification


def print_verification(console: Console, found: Verification, layers: Sequence[dict[str, Any]]) -> None:
    """Every layer, exact up to the first that differs, and what was counted. `layers` are those of the manifest."""
    columns = ["#", "layer", "operator", "bytes", "against the reference"]
    extra = _counts(found)[0]
    if extra:
        columns.append(extra.replace("_", " ").replace("qemu", "QEMU"))
    if found.estimated is not None and found.layers:
        columns.append("estimated cycles")
    rows = [[value if key != "name" else layer_name(value) for key, value in list(line.items())[: len(columns)]] for line in _checked(found, layers)]
    console.print(make_table(f"{found.samples} samples on {_where(found)}", columns, rows))
    for line in _summary(found):
        console.print(Text(line), soft_wrap=True)


def _where(found: Verification) -> str:
    if found.board is not None:
        return f"the board at {found.on.removeprefix('serial:')}"
    return "the host" if found.on == "host" else f"{found.target}, emulated by QEMU"


def _summary(found: Verification) -> list[str]:
    lines = [found.said]
    if found.instructions is not None:
        lines.append(f"one run: {found.instructions:,} instructions under QEMU, {found.stack_bytes or 0:,} bytes of stack")
        between = between_layers(found)
        if between is not None and found.estimated is not None:
            lines.append(
                f"layers were counted in a build with a label at each end of a layer: it executes {found.estimated.total.instructions:,} instructions, "
                f"{between.instructions:,} of them between layers"
            )
        lines += _estimate(found)
    if found.sizes is not None:
        lines.append(
            f"objects of the library: {found.sizes.text:,} bytes of code, {found.sizes.rodata:,} constants, {found.sizes.data:,} data, {found.sizes.bss:,} bss"
        )
    board = found.board
    if board is not None:
        if board.ticks is not None:
            clock = f" at {board.hello.tick_hz:,} Hz" if board.hello.tick_hz else ""
            lines.append(f"one run: {board.ticks:,} ticks{clock}" + ("" if board.stack_bytes is None else f", {board.stack_bytes:,} bytes of stack"))
        if board.real_time is not None:
            lines += _real_time(board.real_time)
        traffic = board.traffic
        lines.append(
            f"{traffic.requests:,} requests, {traffic.resent:,} sent again, {traffic.damaged:,} damaged answers, {traffic.restarts:,} resets of the board"
        )
    return lines


def _estimate(found: Verification) -> list[str]:
    if found.estimated is None:
        return [f"cycles are not estimated: {found.not_estimated}"]
    return [
        f"one run: about {found.estimated.total.cycles:,} cycles, an estimate and no measurement: {core_of(found.target).assumptions}",
        f"error of such estimates: {error_of(found.target)}",
    ]


def between_layers(found: Verification) -> Cost | None:
    """What the build that layers were counted in executes outside of all layers; None if they were not, or by the board's timer."""
    if found.estimated is None or found.layer_instructions is None:
        return None
    total, layers = found.estimated.total, found.estimated.layers.values()
    return Cost(total.instructions - sum(cost.instructions for cost in layers), total.cycles - sum(cost.cycles for cost in layers))


def estimate_dict(found: Verification) -> dict[str, Any] | None:
    """What an estimate of cycles assumes and how good it is; None where nothing was emulated."""
    if found.on != "qemu":
        return None
    if found.estimated is None:
        return {"missing": found.not_estimated}
    core = core_of(found.target)
    between = between_layers(found)
    facts = {
        "cycles": found.estimated.total.cycles,
        "between_layers": between.cycles if between else None,
        "measured": False,
        "assumptions": core.assumptions,
        "source": core.source,
    }
    return {**facts, "error": error_of(found.target), "compared": [asdict(row) for row in compared() if row.target == found.target]}


def _real_time(timing: RealTime) -> list[str]:
    latency = [1000 * value for value in timing.latency]
    load = "not counted by the board" if timing.load is None else f"{timing.load:.1%} of a period"
    return [
        f"{len(latency)} samples at {timing.hertz:g} Hz: {timing.missed} deadlines missed; computing {load}, with the line {timing.line_load:.1%}",
        f"latency {min(latency):.2f} to {max(latency):.2f} ms, mean {sum(latency) / len(latency):.2f} ms, jitter {1000 * timing.jitter:.2f} ms, "
        f"begun up to {1000 * max(timing.late):.2f} ms late",
    ]


def verification_dict(found: Verification, layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The same in plain types, for JSON."""
    facts = {key: getattr(found, key) for key in ("on", "target", "samples", "bytes_compared", "constant_bytes", "exact", "changed", "stack_bytes")}
    difference = None if found.difference is None else asdict(found.difference)
    sizes = None if found.sizes is None else asdict(found.sizes)
    lines = _checked(found, layers)
    body = {
        **facts,
        "instructions_under_qemu": found.instructions,
        "counted": _counted(found),
        "estimate": estimate_dict(found),
        "sizes": sizes,
        "difference": difference,
        "wrong_constants": [asdict(constant) for constant in found.wrong_constants],
        "layers": lines,
    }
    if found.board is not None:
        body["board"] = {"ticks": found.board.ticks, "hello": asdict(found.board.hello), "line": asdict(found.board.traffic)}
        timing = found.board.real_time
        if timing is not None:
            numbers = {key: getattr(timing, key) for key in ("hertz", "missed", "jitter", "load", "line_load")}
            body["real_time"] = {**numbers, "latency": list(timing.latency), "late": list(timing.late)}
    return body


def _counted(found: Verification) -> dict[str, int] | None:
    """What the build that layers were counted in executes, and how much of it between layers."""
    between = between_layers(found)
    return None if between is None or found.estimated is None else {"instructions": found.estimated.total.instructions, "between_layers": between.instructions}


def _counts(found: Verification) -> tuple[str, dict[int, int]]:
    """(what was counted for each layer, the counts)."""
    if found.board is not None:
        return ("ticks", found.board.layer_ticks) if found.board.layer_ticks is not None else ("", {})
    return ("instructions_under_qemu", found.layer_instructions) if found.layer_instructions is not None else ("", {})


def _checked(found: Verification, layers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each layer: "exact", "differs", "constant differs", or "not compared": behind the first difference, or if only outputs were."""
    wrong = {index for constant in found.wrong_constants for index in constant.layers}
    name, counts = _counts(found)
    lines = []
    for layer in layers:
        index = int(layer["index"])
        first = 0 if not found.layers else found.layer_count if found.difference is None else found.difference.layer
        state = "exact" if index < first else "differs" if found.layers and index == first else "not compared"
        state = "constant differs" if index in wrong and state != "differs" else state
        facts = {key: layer[key] for key in ("index", "name", "kind", "nbytes")}
        cost = None if found.estimated is None or not found.layers else found.estimated.layers.get(index)
        lines.append({**facts, "state": state, name or "instructions_under_qemu": counts.get(index), "estimated_cycles": cost.cycles if cost else None})
    return lines
