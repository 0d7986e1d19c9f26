# SPDX-License-Identifier: Apache-2.0
"""The table from ONNX nodes to layers, C functions, bytes and tests. Its rows sum to the code and constants that Build states."""

from __future__ import annotations

from midge.report.facts import Facts, LayerFacts
from midge.report.markup import escape, name_cell, number, table, tag
from midge.report.trace import HELPER, KERNEL, LAYER, ROUTINE, TWIN, Function

COLUMNS = [
    ("ONNX nodes", "wide"),
    ("layer", "nowrap"),
    ("C functions", "wide"),
    ("constants (B)", "n"),
    ("own code (B)", "n"),
    ("tested", ""),
]
ORDER = (LAYER, KERNEL, ROUTINE, TWIN, HELPER)  # of the functions of a layer
SHOWN = 6  # layers that are named of those that share a function


def traceability(facts: Facts) -> str:
    """The table, and what its columns mean."""
    rows = [_row(facts, layer) for layer in facts.layers]
    built = facts.build["sizes"] is not None
    for share in facts.elsewhere:
        rows.append(["", "", tag("span", {"class": "soft"}, escape(share.what)), number(share.constants or None), number(share.code or None), ""])
    constants = sum(layer.flash_nbytes for layer in facts.layers) + sum(share.constants for share in facts.elsewhere)
    code = sum(layer.code_nbytes or 0 for layer in facts.layers) + sum(share.code for share in facts.elsewhere)
    total = f"total, {number(constants + code)} bytes as Build says" if built else "total"
    rows.append(["", "", tag("strong", {}, total), tag("strong", {}, number(constants)), tag("strong", {}, number(code if built else None)), ""])
    about = (
        f"Functions are those of the emitted C, with the file of src/ they stand in{', and their bytes as compiled' if built else ''}. Constants count at the "
        "first layer that uses them. Own code is what only this layer uses; what several use counts once, below."
    )
    return tag("p", {}, escape(_tested(facts))) + tag("p", {}, escape(about)) + _wrong(facts) + table(COLUMNS, rows)


def _row(facts: Facts, layer: LayerFacts) -> list[str]:
    built = facts.build["sizes"] is not None
    mine = [each for each in facts.code if layer.index in each.layers]
    return [
        "<br>".join(map(name_cell, layer.origin)) or tag("span", {"class": "soft"}, "made by midge"),
        escape(f"{layer.index} {layer.kind}"),
        "<br>".join(_function(each, layer.index, built) for each in sorted(mine, key=lambda each: ORDER.index(each.kind))),
        number(layer.flash_nbytes),
        number(layer.code_nbytes),
        _state(layer.state) + (tag("small", {"class": "soft"}, "<br>" + escape(layer.test)) if layer.test else ""),
    ]


def _function(each: Function, layer: int, built: bool) -> str:
    """Name, source, bytes, and the other layers that use it."""
    notes = [each.file]
    if built:
        notes.append("inlined where it is called" if each.nbytes is None else f"{number(each.nbytes)} B")
    others = [str(other) for other in each.layers if other != layer]
    if others:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        notes.append(f"also layer{'s' if len(others) > 1 else ''} {', '.join(others[:SHOWN])}{more}")
    return tag("code", {}, escape(each.name)) + " " + tag("small", {"class": "soft"}, escape(", ".join(notes)))


def _tested(facts: Facts) -> str:
    verified = facts.verification
    if verified is None:
        return f"Not verified: {facts.missing.get('verification', 'nothing was run')}."
    constants = "" if verified["constant_bytes"] is None else f", and {number(verified['constant_bytes'])} bytes of constants by their CRC-32"
    return (
        f"Verified: every byte of every layer's output on {verified['samples']} samples, the emitted C {verified['place']}, against the integer reference "
        f"(reference.txt in the library's folder){constants}. midge verify repeats it."
    )


def _wrong(facts: Facts) -> str:
    """The first difference, and files that are not as they were written."""
    verified = facts.verification
    if verified is None:
        return ""
    found = verified["difference"].splitlines() if verified["difference"] else []
    found += [f"Not as midge wrote them: {', '.join(verified['changed'])}"] if verified["changed"] else []
    return "".join(tag("p", {"class": "bad"}, escape(text)) for text in found)


def _state(state: str | None) -> str:
    return tag("span", {"class": "good" if state == "exact" else "bad" if state == "differs" else "soft"}, escape(state or "not run"))
