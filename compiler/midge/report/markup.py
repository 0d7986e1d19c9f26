# SPDX-License-Identifier: Apache-2.0
"""Writing HTML and SVG: every text and attribute that comes from a model goes through escape, and `tag` escapes attributes itself."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping

VOID = frozenset({"meta", "br", "col"})


def escape(text: object) -> str:
    """Text for the inside of an element: markup is escaped, and what does not print is written as an escape of Python's."""
    return html.escape("".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in str(text)))


def tag(name: str, attributes: Mapping[str, str] | None = None, content: str = "") -> str:
    """One element. `content` is markup already."""
    given = "".join(f' {key}="{escape(value)}"' for key, value in (attributes or {}).items())
    if name in VOID:
        return f"<{name}{given}>"
    return f"<{name}{given}>{content}</{name}>" if content or name not in ("path", "rect", "circle") else f"<{name}{given}/>"


def number(value: float | int | None, digits: int = 1) -> str:
    """With thousands separators; a dash for None."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def shortened(text: str, length: int) -> str:
    """`text`, its middle left out if it is longer than `length`."""
    if len(text) <= length:
        return text
    head = (length - 1) * 2 // 3
    return text[:head] + "…" + text[len(text) - (length - 1 - head) :]


def name_cell(text: str, length: int = 44) -> str:
    """A name from the model, shortened to what a table has room for, in full on hover."""
    return tag("span", {"class": "name", **({"title": text} if len(text) > length else {})}, escape(shortened(text, length)))


def table(columns: Iterable[tuple[str, str]], rows: Iterable[Iterable[str]], caption: str = "", kind: str = "") -> str:
    """A table that scrolls sideways where the screen is narrow. `columns` are (heading, class of its cells); cells are markup already."""
    columns = list(columns)
    head = tag("tr", {}, "".join(tag("th", {"scope": "col", "class": css}, escape(text)) for text, css in columns))
    body = "\n".join(tag("tr", {}, "".join(tag("td", {"class": css}, cell) for (_, css), cell in zip(columns, row, strict=True))) for row in rows)
    above = tag("caption", {}, escape(caption)) if caption else ""
    return tag("div", {"class": f"scroll {kind}".strip(), "tabindex": "0"}, tag("table", {}, f"{above}<thead>{head}</thead>\n<tbody>{body}</tbody>"))
