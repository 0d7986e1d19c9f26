# SPDX-License-Identifier: Apache-2.0
"""Writing HTML and SVG: every text and attribute that comes from a model goes through escape, and `tag` escapes attributes itself."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import takewhile

VOID = frozenset({"meta", "br", "col"})
KEPT = 7  # letters of what names share that stay, so that one sees where they part
NARROW, WIDE = frozenset("fijlrtI.,:;'|!()[]/\\- "), frozenset("mwMW@%…×—")


def printable(text: object) -> str:
    """`text` with what does not print written as an escape of Python's."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in str(text))


def escape(text: object) -> str:
    """Text for the inside of an element: markup is escaped, and what does not print is written as an escape of Python's."""
    return html.escape(printable(text))


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


def breadth(text: str) -> float:
    """How wide a text of printable letters is, in units of its font size: an estimate that holds for wide fonts, too."""
    return sum(_breadth(letter) for letter in text)


def _breadth(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF" or letter in WIDE:
        return 1.0
    return 0.4 if letter in NARROW else 0.75 if letter.isupper() else 0.64


def fitted(text: str, width: float) -> str:
    """`text` with what does not print escaped, and its middle left out until it is no wider than `width` font sizes."""
    text = printable(text)
    if breadth(text) <= width:
        return text
    return next((short for length in range(len(text) - 1, 1, -1) if breadth(short := shortened(text, length)) <= width), "…")


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Names without the first parts of their paths that all of them with a path share; converters join several names with ';'."""
    listed = list(dict.fromkeys(names))
    paths = [piece.split("/")[:-1] for name in listed for piece in name.split(";") if "/" in piece]
    shared = 0
    while len(paths) > 1 and all(len(path) > shared for path in paths) and len({path[shared] for path in paths}) == 1:
        shared += 1
    return {name: ";".join("/".join(piece.split("/")[shared:]) if "/" in piece else piece for piece in name.split(";")) for name in listed}


def fitted_names(names: Iterable[str], width: float) -> dict[str, str]:
    """Names as short as `width` font sizes ask for, and still apart: where they would read the same, what these share in front goes, too."""
    long = {name: printable(text) for name, text in short_names(names).items()}
    for _ in range(3):
        alike: dict[str, list[str]] = {}
        for name, text in long.items():
            alike.setdefault(fitted(text, width), []).append(name)
        for group in alike.values():
            same = len(list(takewhile(lambda letters: len(set(letters)) == 1, zip(*(long[name] for name in group), strict=False))))
            for name in group if len(group) > 1 and same > KEPT else ():
                long[name] = "…" + long[name][same - KEPT :]
    return {name: fitted(text, width) for name, text in long.items()}


def name_cell(text: str, length: int = 44) -> str:
    """A name from the model, shortened to what a table has room for, in full on hover."""
    return tag("span", {"class": "name", **({"title": text} if len(text) > length else {})}, escape(shortened(text, length)))


def table(columns: Iterable[tuple[str, str]], rows: Iterable[Iterable[str]], caption: str = "", kind: str = "", label: str = "") -> str:
    """A table that scrolls sideways where the screen is narrow. `columns` are (heading, class of its cells); cells are markup already.

    `label` is what a screen reader calls the scrolling region, by default the caption, or the headings.
    """
    columns = list(columns)
    head = tag("tr", {}, "".join(tag("th", {"scope": "col", "class": css}, escape(text)) for text, css in columns))
    body = "\n".join(tag("tr", {}, "".join(tag("td", {"class": css}, cell) for (_, css), cell in zip(columns, row, strict=True))) for row in rows)
    above = tag("caption", {}, escape(caption)) if caption else ""
    named = label or caption or "Table: " + ", ".join(text for text, _ in columns if text)
    return region(tag("table", {}, f"{above}<thead>{head}</thead>\n<tbody>{body}</tbody>"), named, f"scroll {kind}".strip())


def region(content: str, label: str, kind: str = "scroll") -> str:
    """What scrolls sideways where the screen is narrow, so that a keyboard reaches it and a screen reader names it."""
    return tag("div", {"class": kind, "role": "region", "aria-label": label, "tabindex": "0"}, content)
