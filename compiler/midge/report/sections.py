# SPDX-License-Identifier: Apache-2.0
"""The sections of report.html, each a function from Facts to markup. Whatever comes from the model is escaped."""

from __future__ import annotations

import math

from midge.report.charts import layers as layers
from midge.report.facts import ArenaFacts, Facts, LayerFacts
from midge.report.markup import escape, name_cell, number, table, tag
from midge.report.signals import signals_table
from midge.report.trace_table import traceability as traceability

HALF_A_STEP = 0.5  # of a layer's output: what rounding alone may cost


def key_figures(facts: Facts) -> str:
    """The figures people look for first."""
    verified, stack, sizes = facts.verification, facts.stack, facts.build["sizes"]
    state, where = ("not verified", facts.missing.get("verification", ""))
    if verified is not None:
        state = "exact" if verified["exact"] else "DIFFERS"
        where = f"{verified['samples']} samples {verified['place']}, {number(verified['bytes_compared'])} bytes"
        where += "; files were changed" if verified["changed"] else ""
    flash = f"code and constants {number(sizes['text'] + sizes['rodata'])}" if sizes else "code not measured"
    entries = [
        _ram(facts),
        ("Weights and tables", f"{number(facts.weight_nbytes)} B", flash),
        ("Multiply-accumulates", number(facts.macs), "of one run"),
        ("Instructions", number(verified["instructions"]) if verified else "–", "of one run under QEMU, not cycles" + _unmarked(facts)),
        ("Cycles, estimated", number(facts.estimate["cycles"]) if facts.estimate else "–", "by a model of the core, not measured"),
        ("Stack", f"{number(stack['bound'])} B" if stack["bound"] is not None else "–", f"bound; painted {number(stack['painted'])}"),
        ("Against the integer reference", state, where),
        ("Worst SNR of a layer", *worst(facts)),
    ]
    cells = [tag("div", {}, tag("dt", {}, escape(a)) + tag("dd", {}, escape(b) + tag("small", {}, escape(c)))) for a, b, c in entries]
    return tag("dl", {"class": "key"}, "".join(cells))


def _ram(facts: Facts) -> tuple[str, str, str]:
    """The arena with its bound, or the sum of all memories with its parts."""
    plan = facts.arena
    if plan.lower_bound is None or plan.gap is None:
        parts = [f"arena {number(plan.nbytes)}"]
        parts += [
            f"{name} {number(m.nbytes)}" + (f" and constants {number(m.constants_nbytes)}" if m.constants_nbytes else "") for name, m in plan.memories.items()
        ]
        return "RAM of all memories", f"{number(plan.ram_nbytes)} B", " + ".join(parts)
    return "Arena (RAM)", f"{number(plan.nbytes)} B", f"lower bound {number(plan.lower_bound)}, gap {plan.gap:.1%}"


def _unmarked(facts: Facts) -> str:
    """Where labels between the layers change what is executed: how much it is without them."""
    found = facts.verification
    if found is None or not found["marked"] or found["instructions"] == found["instructions_unmarked"]:
        return ""
    return f"; {number(found['instructions_unmarked'])} without labels between layers"


def model(facts: Facts, bands: str) -> str:
    """The block diagram, and every signal as a table."""
    about = (
        "Every box is a node of the network as midge computes it, with the type of its output, then those of its constants; the number is that of the layer "
        "everywhere here. Shapes are NHWC inside the network; inputs and outputs have the order in which the library takes and gives them, that of the model "
        "unless another was asked for."
    )
    return tag("p", {}, about) + bands + signals_table(facts.signals, facts.constants)


def arena(facts: Facts, picture: str) -> str:
    """What the plan of the arena is, and `picture` of it."""
    plan = facts.arena
    parts = [f"{number(plan.nbytes)} bytes hold all inputs, outputs, rows in between and scratch" + (", as far as they lie in it." if plan.memories else ".")]
    if 0 <= plan.peak_step < plan.steps:
        alive = plan.used[plan.peak_step]
        rest = plan.nbytes - alive
        where = "while rows of input arrive or of output leave" if plan.peak_layer is None else f"in layer {plan.peak_layer}"
        parts.append(f"They are needed at step {number(plan.peak_step)} of the steps 0 to {number(plan.steps - 1)}, {where}:")
        parts.append(
            f"{number(alive)} bytes in use + {number(rest)} between them, for alignment or placement = {number(plan.nbytes)}." if rest else "all are in use."
        )
    else:
        parts.append("They are needed before the first step, when the inputs are written.")
    if plan.lower_bound is not None:
        parts.append(f"No order of the steps needs less than the lower bound of {number(plan.lower_bound)} bytes; the arena {_gap(plan)}.")
    for name, memory in plan.memories.items():
        held = f", and {number(memory.constants_nbytes)} of constants" if memory.constants_nbytes else ""
        parts.append(f"Beside it, not drawn, {name} holds {number(memory.nbytes)} bytes of rows and scratch{held}, of {number(memory.capacity)}.")
    return tag("p", {}, escape(" ".join(parts))) + picture


def _gap(plan: ArenaFacts) -> str:
    return f"is {plan.gap:.1%} above it" if plan.gap else "is no larger"


def worst(facts: Facts) -> tuple[str, str]:
    """(figure, what it is of): the layer with the least SNR. Errors below half a step are no more than rounding to the step."""
    compared = [layer for layer in facts.layers if layer.largest_error_steps is not None]
    beyond = [layer for layer in compared if (layer.largest_error_steps or 0.0) >= HALF_A_STEP]
    if not beyond:
        return ("–", "nothing was compared with float") if not compared else ("rounding only", "no error of any layer is above half a step")
    found = min(beyond, key=_by_error)
    where = f"against real arithmetic, layer {found.index} {found.kind}"
    return (f"{found.snr_db:.1f} dB", where) if found.snr_db is not None else ("no signal", f"but errors: {where}")


def _by_error(layer: LayerFacts) -> tuple[bool, bool, float]:
    """Worst first: errors above half a step before rounding, no signal at all before the least SNR, no error last."""
    rounding = (layer.largest_error_steps or 0.0) < HALF_A_STEP
    return rounding, layer.snr_db is not None or bool(layer.exact_in_float), layer.snr_db if layer.snr_db is not None else math.inf


def accuracy(facts: Facts) -> str:
    """SNR and errors of each layer, the worst first."""
    compared = sorted((layer for layer in facts.layers if layer.largest_error is not None), key=_by_error)
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
        "layers is included; a step is the scale of the layer's output. Layers without an error of half a step or more stand last: "
        "they only round. This is not accuracy on a task: only labelled data can tell that."
    )
    missing = [tag("li", {}, escape(f"{layer.index} {layer.kind}: {layer.not_compared}")) for layer in facts.layers if layer.not_compared is not None]
    rest = tag("p", {"class": "soft"}, "Not compared:") + tag("ul", {"class": "soft"}, "".join(missing)) if missing else ""
    return tag("p", {}, escape(about)) + table(columns, rows) + rest


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
    changed = facts.verification["changed"] if facts.verification else ()
    notes = [
        *([f"not as midge wrote them: {', '.join(changed)}"] if changed else []),
        *facts.warnings,
        *(f"{what} left out: {why}" for what, why in facts.missing.items()),
    ]
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
