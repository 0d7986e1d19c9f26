# SPDX-License-Identifier: Apache-2.0
"""report.html and report.json: one self-contained page, and the same as data.

The page fetches nothing and works without its script; the content security policy in it allows nothing else, even if a name got past the escaping.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from midge.errors import UsageError
from midge.ir import Graph
from midge.program import Program
from midge.report import arena_picture, diagram, sections
from midge.report.facts import Facts
from midge.report.markup import escape, tag
from midge.report.style import CSS, SCRIPT

PAGE, DATA = "report.html", "report.json"
TITLES = {
    "model": "Model",
    "arena": "Arena over time",
    "layers": "Layers",
    "accuracy": "Comparison with float",
    "traceability": "From ONNX to bytes",
    "stack": "Stack",
    "build": "Build",
    "warnings": "Warnings and refused kernels",
}


def page(facts: Facts, graph: Graph, program: Program) -> str:
    """report.html as text."""
    content = {
        "model": sections.model(facts, diagram.draw(graph, program)),
        "arena": sections.arena(facts, arena_picture.figure(program)),
        "layers": sections.layers(facts),
        "accuracy": sections.accuracy(facts),
        "traceability": sections.traceability(facts),
        "stack": sections.stack(facts),
        "build": sections.build(facts),
        "warnings": sections.warnings(facts),
    }
    links = "".join(tag("a", {"href": f"#{name}"}, escape(title)) for name, title in TITLES.items())
    about = f"for {facts.target}, {facts.numerics} numerics, optimized for {facts.optimize}; compiled by midge {facts.midge}"
    digest = tag("p", {"class": "soft mono"}, f"model {escape(facts.digest)}")
    header = tag("header", {}, tag("h1", {}, escape(facts.name)) + tag("p", {}, escape(about)) + digest + tag("nav", {"aria-label": "Sections"}, links))
    body = [tag("section", {"id": name}, tag("h2", {}, escape(TITLES[name])) + text) for name, text in content.items()]
    main = tag("main", {}, sections.key_figures(facts) + "\n".join(body))
    footer = tag(
        "footer", {"class": "soft"}, "One file, nothing is fetched. Figures that could not be had are named with the reason; what is estimated says so."
    )
    return f"<!DOCTYPE html>\n{tag('html', {'lang': 'en'}, _head(facts) + tag('body', {}, header + main + footer + f'<script>{SCRIPT}</script>'))}\n"


def _head(facts: Facts) -> str:
    script = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script}'; img-src data:; base-uri 'none'; form-action 'none'"
    return tag(
        "head",
        {},
        tag("meta", {"charset": "utf-8"})
        + tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"})
        + tag("meta", {"http-equiv": "Content-Security-Policy", "content": policy})
        + tag("link", {"rel": "icon", "href": "data:,"}).removesuffix("</link>")
        + tag("title", {}, escape(f"{facts.name} for {facts.target}"))
        + f"<style>{CSS}</style>",
    )


def data(facts: Facts) -> str:
    """report.json as text."""
    return json.dumps(facts.as_dict(), indent=1, allow_nan=False) + "\n"


def files(facts: Facts, graph: Graph, program: Program) -> dict[str, str]:
    """Both files by name."""
    return {PAGE: page(facts, graph, program), DATA: data(facts)}


def places(output: Path) -> dict[str, Path]:
    """Where the two files go: into a folder, or, if `output` ends in .html, under that name with the data beside it."""
    if output.suffix == ".html" and not output.is_dir():
        return {PAGE: output, DATA: output.with_suffix(".json")}
    return {PAGE: output / PAGE, DATA: output / DATA}


def write(texts: dict[str, str], output: Path) -> dict[str, Path]:
    """Write both files; returns where they are.

    Raises: UsageError if they cannot be written.
    """
    where = places(output)
    try:
        for name, path in where.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[name], "utf-8")
    except OSError as error:
        raise UsageError(f"{output}: cannot be written: {error.strerror or error}") from None
    return where
