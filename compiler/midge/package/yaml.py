# SPDX-License-Identifier: Apache-2.0
"""The part of YAML that packages are written in: block mappings and lists of plain or double-quoted scalars. Anything else is refused.

Source: YAML 1.2.2, chapters 7.3 and 8.2.
"""

from __future__ import annotations

import re

from midge.errors import UsageError

_PAIR = re.compile(r"([\w.-]+):(?: +(.*))?\Z")
_PLAIN = re.compile(r"[^\s\[\]{}&*!|>%@`\"',#?:-](?:(?!: | #).)*\Z")


def read_yaml(text: str) -> object:
    """A document as dicts, lists and strings.

    Raises: UsageError naming the line that is not of this form.
    """
    lines: list[tuple[int, int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        body = line.rstrip()
        if "\t" in body:
            raise UsageError(f"line {number}: a tab")
        if body and not body.lstrip().startswith("#"):
            lines.append((number, len(body) - len(body.lstrip()), body.lstrip()))
    value, rest = _block(lines, lines[0][1] if lines else 0)
    if rest:
        raise UsageError(f"line {rest[0][0]}: is indented otherwise than what it belongs to")
    return value


def _block(lines: list[tuple[int, int, str]], indent: int) -> tuple[object, list[tuple[int, int, str]]]:
    """(the mapping or list at this indentation, lines after it)."""
    items: list[object] = []
    pairs: dict[str, object] = {}
    while lines and lines[0][1] == indent:
        number, _, text = lines[0]
        if items and not text.startswith("- "):
            break  # the mapping that holds this list goes on
        if text.startswith("- "):
            if pairs:
                raise UsageError(f"line {number}: a list and a mapping in one place")
            inner = text[2:].lstrip()
            depth = indent + len(text) - len(inner)
            if _PAIR.match(inner):
                value, lines = _block([(number, depth, inner), *lines[1:]], depth)
            else:
                value, lines = _scalar(inner, number), lines[1:]
            items.append(value)
        else:
            key, value, lines = _pair(lines, indent)
            if key in pairs:
                raise UsageError(f"line {number}: {key} is there twice")
            pairs[key] = value
    return items or pairs, lines


def _pair(lines: list[tuple[int, int, str]], indent: int) -> tuple[str, object, list[tuple[int, int, str]]]:
    number, _, text = lines[0]
    match = _PAIR.match(text)
    if match is None:
        raise UsageError(f"line {number}: '{text}' is no 'key: value'")
    if match[2]:
        return match[1], _scalar(match[2], number), lines[1:]
    rest = lines[1:]
    if rest and (rest[0][1] > indent or (rest[0][1] == indent and rest[0][2].startswith("- "))):
        value, rest = _block(rest, rest[0][1])
        return match[1], value, rest
    return match[1], "", rest


def _scalar(text: str, number: int) -> str:
    if re.match(r'"[^"\\]*"\Z', text):
        return text[1:-1]
    if not _PLAIN.match(text):
        raise UsageError(f"line {number}: {text!r} is no plain scalar")
    return text
