# SPDX-License-Identifier: Apache-2.0
"""Bars for each layer: instructions, cycles, MACs, flash and RAM, each with its share of the whole where shares have one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from midge.report.facts import Facts, LayerFacts
from midge.report.markup import escape, number, tag

LABEL = 22
INSTRUCTIONS, CYCLES = "instructions", "estimated cycles"  # names in Facts.missing


@dataclass(frozen=True)
class Chart:
    """`between`: what is executed outside of layers; None where that is not known or there is no such thing. `sums`: whether layers sum to a total."""

    title: str
    unit: str
    value: Callable[[LayerFacts], int | None]
    between: int | None = None
    sums: bool = True
    missing: str = ""


def charts(facts: Facts) -> list[Chart]:
    """All of them, in the order of the page."""
    counted, cycles = facts.verification or {}, facts.estimate or {}
    between = counted.get("instructions_between_layers")
    unit = "the most in use while the layer runs" + (", all memories together" if facts.arena.memories else ", of the arena")
    return [
        Chart("Instructions under QEMU", "of one run; they are not cycles", lambda layer: layer.instructions, between, missing=INSTRUCTIONS),
        Chart("Estimated cycles", "of one run; not measured, see below", lambda layer: layer.estimated_cycles, cycles.get("between_layers"), missing=CYCLES),
        Chart("Multiply-accumulates", "of one run", lambda layer: layer.macs),
        Chart("Flash (bytes)", "constants; for code see From ONNX to bytes", lambda layer: layer.flash_nbytes),
        Chart("RAM (bytes)", unit, lambda layer: layer.ram_nbytes, sums=False),
    ]


def layers(facts: Facts) -> str:
    """The charts, what was counted, and what an estimate of cycles assumes."""
    found = []
    for chart in charts(facts):
        head = tag("h3", {}, f"{chart.title} {tag('small', {'class': 'soft'}, escape(chart.unit))}")
        if all(chart.value(layer) is None for layer in facts.layers):
            reason = facts.missing.get(chart.missing, "not measured")
            found.append(tag("div", {}, tag("h3", {}, chart.title) + tag("p", {"class": "soft"}, escape(f"Left out: {reason}"))))
        else:
            found.append(tag("div", {}, head + bars(facts.layers, chart)))
    return tag("div", {"class": "charts"}, "\n".join(found)) + counted(facts) + estimate(facts)


def bars(of: Sequence[LayerFacts], chart: Chart) -> str:
    """A row for each layer: its number and kind, a bar, the figure and its share; then what lies between layers, and the total."""
    values = [chart.value(layer) or 0 for layer in of]
    total, top = sum(values) + (chart.between or 0), max([*values, chart.between or 0], default=0) or 1
    share = chart.sums and total > 0
    rows = [_row(f"{layer.index} {layer.kind}"[:LABEL], layer.name, value, top, total if share else 0) for layer, value in zip(of, values, strict=True)]
    if chart.between is not None:
        rows.append(_row("between layers", "", chart.between, top, total if share else 0))
    if share:
        rows.append(_row("total" if chart.between is not None or not chart.missing else "layers together", "", total, 0, total))
    return tag("table", {}, tag("tbody", {}, "\n".join(rows)))


def _row(text: str, name: str, value: int, top: int, total: int) -> str:
    """One row; no bar without `top`, no share without `total`."""
    who = tag("th", {"class": "who", "scope": "row", **({"title": name} if name else {})}, escape(text))
    fill = tag("div", {"class": "fill", "style": f"width:{100 * max(value, 0) / top:.1f}%"}) if value and top else ""
    share = tag("td", {"class": "n soft", "style": "width:3.2rem"}, f"{100 * value / total:.0f} %") if total else ""
    return tag("tr", {}, who + tag("td", {}, tag("div", {"class": "track"}, fill)) + tag("td", {"class": "n much"}, number(value)) + share)


def counted(facts: Facts) -> str:
    """Which build the instructions and cycles are of."""
    found = facts.verification
    if found is None or found["unit"] is None:
        return ""
    unmarked, total = found["instructions_unmarked"], found["instructions"]
    if found["marked"]:
        same = "which executes as many without them" if unmarked == total else f"which executes {number(unmarked)} without them"
        text = f"Instructions and cycles, here and above, are of a build with a label at both ends of each layer, {number(total)} instructions in all, {same}."
    else:
        text = f"Instructions of layers are by the board's timer, read around each layer, so they do not sum to the {number(total)} of a run without that."
    return tag("p", {"class": "soft"}, escape(text))


def estimate(facts: Facts) -> str:
    """What the estimate of cycles assumes, and how far such estimates were from boards."""
    if facts.estimate is None:
        return ""
    assumed, error = (facts.estimate[name] for name in ("assumptions", "error"))
    text = f"Cycles are estimated from the executed instructions by an in-order model of a {facts.target}, never measured: {assumed}. Error: {error}."
    return tag("p", {"class": "soft"}, escape(text))
