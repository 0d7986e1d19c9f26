# SPDX-License-Identifier: Apache-2.0
"""index.html and evidence.json: one self-contained page over all parts, and the same as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from midge.evidence.part import FAILED, NOT_RUN, Cell, Part, Subject, Table, json_text
from midge.report.markup import escape, number, table, tag
from midge.report.style import CSS

INDEX, DATA = "index.html", "evidence.json"
FORMAT = 1
SHOWN_ROWS = 40  # of a table that is open at once
LONG = 14  # letters of a name in a column that is given room
CLASSES = {FAILED: "bad", NOT_RUN: "soft"}
FOOT = "One page, nothing is fetched. A part whose tool was missing says that it was not run; it is never shown as passed."


def overall(parts: Sequence[Part]) -> str:
    """FAILED if any part did, NOT_RUN if any was not run, else PASSED."""
    return min((part.status for part in parts), key=(FAILED, NOT_RUN, "passed").index, default=NOT_RUN)


def data(subject: Subject, parts: Sequence[Part]) -> str:
    """evidence.json as text."""
    known = ("name", "target", "numerics", "optimize", "model_digest", "midge")
    body: dict[str, Any] = {"format": FORMAT, **{key: subject.manifest.get(key) for key in known}}
    return json_text({**body, "samples": len(subject.samples), "status": overall(parts), "parts": [part.as_dict() for part in parts]})


def page(subject: Subject, parts: Sequence[Part]) -> str:
    """index.html as text."""
    manifest = subject.manifest
    about = f"for {manifest['target']}, {manifest['numerics']} numerics; compiled by midge {manifest['midge']}; {len(subject.samples)} samples were run"
    links = "".join(tag("a", {"href": f"#{part.key}"}, escape(part.title)) for part in parts)
    title = f"Evidence for {subject.name}"
    digest = tag("p", {"class": "soft mono"}, f"model {escape(manifest['model_digest'])}")
    header = tag("header", {}, tag("h1", {}, escape(title)) + tag("p", {}, escape(about)) + digest + tag("nav", {"aria-label": "Parts"}, links))
    body = header + tag("main", {}, _summary(parts) + "\n".join(_section(part) for part in parts)) + tag("footer", {"class": "soft"}, FOOT)
    return f"<!DOCTYPE html>\n{tag('html', {'lang': 'en'}, _head(title) + tag('body', {}, body))}\n"


def _head(title: str) -> str:
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; img-src data:"
    meta = [
        {"charset": "utf-8"},
        {"name": "viewport", "content": "width=device-width, initial-scale=1"},
        {"http-equiv": "Content-Security-Policy", "content": policy},
    ]
    icon = '<link rel="icon" href="data:,">'
    return tag("head", {}, "".join(tag("meta", item) for item in meta) + tag("title", {}, escape(title)) + icon + f"<style>{CSS}</style>")


def _status(status: str) -> str:
    return tag("span", {"class": CLASSES.get(status, "good")}, escape(status))


def _summary(parts: Sequence[Part]) -> str:
    rows = [(_status(part.status), tag("a", {"href": f"#{part.key}"}, escape(part.title)), escape(part.summary)) for part in parts]
    return table((("status", "nowrap"), ("part", ""), ("in short", "")), rows, label="All parts")


def _section(part: Part) -> str:
    content = [tag("h2", {}, escape(part.title)), tag("p", {}, _status(part.status) + ": " + escape(part.summary)), tag("p", {}, escape(part.about))]
    if part.limits:
        content.append(tag("p", {"class": "soft"}, escape(part.limits)))
    if part.files:
        links = ", ".join(tag("a", {"href": name}, escape(name)) for name in sorted(part.files))
        content.append(tag("p", {}, f"Beside this page: {links}"))
    content += [_table(item) for item in part.tables if item.rows]
    return tag("section", {"id": part.key}, "\n".join(content))


def _table(item: Table) -> str:
    """A table, folded away if it is long."""
    columns = [(name, _kind([row[i] for row in item.rows])) for i, name in enumerate(item.columns)]
    body = table(columns, [[_cell(cell) for cell in row] for row in item.rows], label=item.title)
    title = f"{item.title} ({len(item.rows)})"
    if len(item.rows) <= SHOWN_ROWS:
        return tag("h3", {}, escape(title)) + body
    return tag("details", {"class": "long"}, tag("summary", {}, escape(title)) + body)


def _kind(cells: Sequence[Cell]) -> str:
    """The class of a column: numbers to the right, room for names that are not to break every few letters."""
    if all(isinstance(cell, int) for cell in cells):
        return "n"
    return "wide" if any(len(str(cell)) > LONG for cell in cells) else ""


def _cell(cell: Cell) -> str:
    return number(cell) if isinstance(cell, int) else tag("span", {"class": "name"}, escape(cell))
