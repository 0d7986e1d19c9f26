# SPDX-License-Identifier: Apache-2.0
"""The sections of report.html, each a function from Facts to markup. Whatever comes from the model is escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from midge.report.arena_picture import PORT_COLOUR, colour
from midge.report.facts import Facts, LayerFacts
from midge.report.markup import escape, name_cell, number, table, tag

LABEL = 22


def key_figures(facts: Facts) -> str:
    """The figures people look for first."""
    verified, stack, sizes = facts.verification, facts.stack, facts.build["sizes"]
    worst = min((layer.snr_db for layer in facts.layers if layer.snr_db is not None), default=None)
    state, where = ("not verified", facts.missing.get("verification", ""))
    if verified is not None:
        state = "exact" if verified["exact"] else "DIFFERS"
        where = f"{verified['samples']} samples on {_where(facts)}, {number(verified['bytes_compared'])} bytes"
    flash = f"code and constants {number(sizes['text'] + sizes['rodata'])}" if sizes else "code not measured"
    entries = [
        ("Arena (RAM)", f"{number(facts.arena.nbytes)} B", f"lower bound {number(facts.arena.lower_bound)}, gap {facts.arena.gap:.1%}"),
        ("Weights and tables", f"{number(facts.weight_nbytes)} B", flash),
        ("Multiply-accumulates", number(facts.macs), "of one run"),
        ("Instructions", number(verified["instructions"]) if verified else "–", "of one run under QEMU, not cycles"),
        ("Cycles, estimated", number(facts.estimate["cycles"]) if facts.estimate else "–", "by a model of the core, not measured"),
        ("Stack", f"{number(stack['bound'])} B" if stack["bound"] is not None else "–", f"bound; painted {number(stack['painted'])}"),
        ("Against the integer reference", state, where),
        ("Worst SNR of a layer", f"{worst:.1f} dB" if worst is not None else "–", "against real arithmetic"),
    ]
    cells = [tag("div", {}, tag("dt", {}, escape(a)) + tag("dd", {}, escape(b) + tag("small", {}, escape(c)))) for a, b, c in entries]
    return tag("dl", {"class": "key"}, "".join(cells))


def _where(facts: Facts) -> str:
    assert facts.verification is not None
    return "the host" if facts.verification["on"] == "host" else f"{facts.verification['target']}, emulated by QEMU"


def model(facts: Facts, bands: str) -> str:
    """The block diagram, and every signal as a table."""
    columns = [
        ("signal", "wide"),
        ("type", ""),
        ("shape", "nowrap"),
        ("scale", "n"),
        ("zero_point", "n"),
        ("bytes", "n"),
        ("made by", "wide"),
        ("read by", "wide"),
    ]
    rows = [
        [
            name_cell(s.name),
            escape(s.dtype),
            "×".join(map(str, s.shape)) or "scalar",
            "–" if s.scale is None else f"{s.scale:.6g}",
            "–" if s.zero_point is None else str(s.zero_point),
            number(s.nbytes),
            name_cell(s.producer),
            "<br>".join(map(name_cell, s.readers)) or "output",
        ]
        for s in facts.signals
    ]
    about = "Every box is a node of the network as midge computes it (NHWC), with the type of its output; the number is that of the layer everywhere here."
    signals = tag("details", {}, tag("summary", {}, f"All {len(rows)} signals as a table") + table(columns, rows))
    return tag("p", {}, about) + tag("div", {"class": "bands", "tabindex": "0"}, bands) + signals


def arena(facts: Facts, picture: str) -> str:
    """The picture of the arena and what its colours mean."""
    plan = facts.arena
    peak = "while the input arrives" if plan.peak_layer is None else f"in layer {plan.peak_layer}"
    gap = f"is {plan.gap:.1%} above it" if plan.nbytes > plan.lower_bound else "is no larger"
    about = (
        f"{number(plan.nbytes)} bytes hold all inputs, outputs, rows in between and scratch. In step {number(plan.peak_step)} of {number(plan.steps)}, {peak}, "
        f"{number(max(plan.used, default=0))} bytes are in use at once, the most of all. No placement of this order of steps can need less than the lower "
        f"bound of {number(plan.lower_bound)} bytes; the arena {gap}."
    )
    if plan.memories:
        about += " Not drawn: what lies in " + ", ".join(f"{name} ({number(nbytes)} bytes)" for name, nbytes in plan.memories.items()) + "."
    entries = [(PORT_COLOUR, "inputs")] + [(colour(layer.index), f"{layer.index} {layer.kind}") for layer in facts.layers]
    legend = [tag("li", {}, tag("span", {"class": "swatch", "style": f"background:{c}"}) + escape(text)) for c, text in entries]
    figure = tag(
        "figure", {"style": "margin:0"}, tag("div", {"class": "scroll", "tabindex": "0"}, picture) + tag("p", {"class": "pointed soft", "id": "pointed"})
    )
    return tag("p", {}, escape(about)) + figure + tag("ul", {"class": "legend"}, "".join(legend)) + tag("p", {"class": "soft"}, "Hatched: scratch of a layer.")


def layers(facts: Facts) -> str:
    """Bars of instructions, MACs, flash and RAM for each layer."""
    charts: list[tuple[str, Callable[[LayerFacts], int | None], str]] = [
        ("Instructions under QEMU", lambda layer: layer.instructions, "of one run; they are not cycles"),
        ("Estimated cycles", lambda layer: layer.estimated_cycles, "of one run; not measured, see below"),
        ("Multiply-accumulates", lambda layer: layer.macs, "of one run"),
        ("Flash (bytes)", lambda layer: layer.flash_nbytes, "constants; code is shared by layers, see the traceability table"),
        ("RAM (bytes)", lambda layer: layer.ram_nbytes, "the most of the arena in use while the layer runs"),
    ]
    found = []
    for title, value, unit in charts:
        values = [value(layer) for layer in facts.layers]
        if all(v is None for v in values):
            reason = facts.missing.get("estimated cycles" if title == "Estimated cycles" else "instructions", "not measured")
            found.append(tag("div", {}, tag("h3", {}, title) + tag("p", {"class": "soft"}, escape(f"Left out: {reason}"))))
        else:
            found.append(tag("div", {}, tag("h3", {}, f"{title} {tag('small', {'class': 'soft'}, escape(unit))}") + bars(facts.layers, values)))
    return tag("div", {"class": "charts"}, "\n".join(found)) + estimate(facts)


def estimate(facts: Facts) -> str:
    """What the estimate of cycles assumes, and how far such estimates were from boards."""
    if facts.estimate is None:
        return ""
    assumed, error = (facts.estimate[name] for name in ("assumptions", "error"))
    text = f"Cycles are estimated from the executed instructions by an in-order model of a {facts.target}, never measured: {assumed}. Error: {error}."
    return tag("p", {"class": "soft"}, escape(text))


def bars(of: Sequence[LayerFacts], values: Sequence[float | int | None]) -> str:
    """A row for each layer: its number and kind, a bar, the figure."""
    top = max((v for v in values if v is not None), default=0) or 1
    rows = []
    for layer, value in zip(of, values, strict=True):
        who = tag("td", {"class": "who", "title": layer.name}, escape(f"{layer.index} {layer.kind}"[:LABEL]))
        fill = tag("div", {"class": "fill", "style": f"width:{100 * max(value, 0) / top:.1f}%"}) if value else ""
        rows.append(tag("tr", {}, who + tag("td", {}, tag("div", {"class": "track"}, fill)) + tag("td", {"class": "n much"}, number(value))))
    return tag("table", {}, tag("tbody", {}, "\n".join(rows)))


def accuracy(facts: Facts) -> str:
    """Signal to noise ratio of every layer, worst first."""
    compared = sorted(
        (layer for layer in facts.layers if layer.not_compared is None), key=lambda layer: (layer.snr_db is None, layer.snr_db or 0.0, layer.index)
    )
    columns = [("layer", "nowrap"), ("SNR (dB)", "n"), ("largest error", "n"), ("in steps", "n"), ("name", "wide")]
    rows = [
        [
            escape(f"{layer.index} {layer.kind}"),
            f"{layer.snr_db:.1f}" if layer.snr_db is not None else "no error" if layer.exact_in_float else "no signal",
            f"{layer.largest_error:.4g}",
            f"{layer.largest_error_steps:.3g}",
            name_cell(layer.name),
        ]
        for layer in compared
    ]
    what = facts.comparison
    about = (
        f"Integers against {what['reference']}, on {what['samples']} samples: {what['data']}. Both start from the same quantized inputs, and noise of earlier "
        "layers is included; a step is the scale of the layer's output. This is not accuracy on a task: only labelled data can tell that."
    )
    missing = [tag("li", {}, escape(f"{layer.index} {layer.kind}: {layer.not_compared}")) for layer in facts.layers if layer.not_compared is not None]
    rest = tag("p", {"class": "soft"}, "Not compared:") + tag("ul", {"class": "soft"}, "".join(missing)) if missing else ""
    return tag("p", {}, escape(about)) + table(columns, rows) + rest


def traceability(facts: Facts) -> str:
    """From ONNX nodes to layers, C functions, bytes and what was verified."""
    columns = [
        ("ONNX nodes", "wide"),
        ("layer", "nowrap"),
        ("C functions", ""),
        ("kernels", ""),
        ("constants (B)", "n"),
        ("kernel code (B)", "n"),
        ("verified", "nowrap"),
    ]
    rows = [
        [
            "<br>".join(map(name_cell, layer.origin)) or tag("span", {"class": "soft"}, "made by midge"),
            escape(f"{layer.index} {layer.kind}"),
            "<br>".join(tag("code", {}, escape(name)) for name in layer.functions),
            "<br>".join(tag("code", {}, escape(name)) for name in layer.kernels),
            number(layer.flash_nbytes),
            number(layer.kernel_nbytes),
            _state(layer.state),
        ]
        for layer in facts.layers
    ]
    verified = facts.verification
    about = f"Not verified: {facts.missing.get('verification', 'nothing was run')}."
    if verified is not None:
        about = (
            f"Verified: every byte of every layer's output on {verified['samples']} samples, the emitted C on {_where(facts)}, against the integer reference. "
            "midge verify repeats it. Constants count at the first layer that uses them; kernels may serve several layers."
        )
    wrong = tag("p", {"class": "bad"}, escape(verified["difference"])) if verified and verified["difference"] else ""
    return tag("p", {}, escape(about)) + wrong + table(columns, rows)


def _state(state: str | None) -> str:
    return tag("span", {"class": "good" if state == "exact" else "bad" if state == "differs" else "soft"}, escape(state or "not run"))


def stack(facts: Facts) -> str:
    """The bound, its path, and the painted mark."""
    found = facts.stack
    if found["bound"] is None:
        text = tag("p", {"class": "soft"}, escape(f"No bound: {facts.missing.get('stack bound', 'not measured')}."))
    else:
        chain = " → ".join(tag("code", {}, escape(name)) for name in found["path"])
        text = tag("p", {}, f"At most {tag('strong', {}, number(found['bound']) + ' bytes')} besides the caller and interrupts, through {chain}.")
        text += tag("p", {"class": "soft"}, "Frames are those gcc states for each function, the pushes of generated routines those of their generators.")
        text += "".join(tag("p", {"class": "bad"}, escape(f"Not bounded: {end}.")) for end in found["open_ends"])
    painted = f"Painted stack under QEMU: {number(found['painted'])} bytes used." if found["painted"] is not None else ""
    return text + tag("p", {}, escape(painted or f"Painted stack: left out: {facts.missing.get('painted stack', 'not measured')}."))


def build(facts: Facts) -> str:
    """What the figures were made with, and the sizes of the objects."""
    made, sizes = facts.build, facts.build["sizes"]
    flags = tag("p", {}, tag("code", {}, escape(" ".join([made["command"], *made["flags"]]))))
    compiler = made["compiler"] or f"not run: {facts.missing.get('code size', '')}"
    rows = (
        [[escape(name), number(sizes[key])] for name, key in (("code", "text"), ("constants", "rodata"), ("initialised", "data"), ("zeroed", "bss"))]
        if sizes
        else []
    )
    text = flags + tag("p", {"class": "soft"}, escape(f"Compiler: {compiler}"))
    return text + (table([("section of all objects", ""), ("bytes", "n")], rows) if rows else "")


def warnings(facts: Facts) -> str:
    """Warnings, figures that are missing, and refused kernels by reason."""
    notes = [*facts.warnings, *(f"{what} left out: {why}" for what, why in facts.missing.items())]
    text = tag("ul", {}, "".join(tag("li", {}, escape(note)) for note in notes)) if notes else tag("p", {}, "No warnings.")
    reasons: dict[str, list[int]] = {}
    for layer in facts.layers:
        for reason in layer.refused:
            reasons.setdefault(reason, []).append(layer.index)
    rows = []
    for reason, indices in sorted(reasons.items()):
        kernel, _, why = reason.partition(": ")
        rows.append([tag("code", {}, escape(kernel)), escape(why), ", ".join(map(str, indices))])
    if not rows:
        return text + tag("p", {}, "No kernel was refused: there was no choice.")
    head = tag("summary", {}, f"Kernels that were considered and not taken: {len(rows)} reasons")
    return text + tag("details", {}, head + table([("kernel", ""), ("why not", "wide"), ("layers", "")], rows))
