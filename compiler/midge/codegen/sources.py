# SPDX-License-Identifier: Apache-2.0
"""The C sources in kernels/ as a list of top-level items: what each defines, what it mentions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from midge.errors import IRError
from midge.kernels import SOURCES

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
_STRING = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'')
_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Item:
    """One definition, declaration or preprocessor block. `comment` is shared by the items below it up to the next comment or blank line."""

    text: str
    names: frozenset[str]
    words: frozenset[str]
    comment: str = ""

    @property
    def is_function(self) -> bool:
        """Whether this is a function's definition."""
        return bool(re.match(r"[^{;=#]*\([^{;]*\)\s*\{", blank(self.text))) and not self.text.startswith("typedef")


@dataclass(frozen=True)
class Source:
    """One file: `path` relative to kernels/, its includes, the comment at its top, its items in order."""

    path: str
    system_includes: tuple[str, ...]
    local_includes: tuple[str, ...]
    comment: str
    items: tuple[Item, ...]


def blank(text: str) -> str:
    """The text with comments and strings overwritten by spaces; lines and columns stay."""

    def spaces(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match.group())

    return _STRING.sub(spaces, _COMMENT.sub(spaces, text))


def words_of(text: str) -> frozenset[str]:
    """All names in code, whatever they name."""
    return frozenset(_WORD.findall(_COMMENT.sub(" ", text)))


@cache
def read_source(path: str) -> Source | None:
    """A file of kernels/ by its relative path, None if there is none."""
    file = SOURCES / path
    return parse(path, file.read_text(encoding="utf-8")) if file.is_file() else None


def parse(path: str, text: str) -> Source:
    """Split a source at its top level. The include guard and the licence line are left out; the emitter writes its own."""
    text = re.sub(r"\A/\* SPDX[^\n]*\n", "", text)
    guard = re.search(r"^#ifndef (\w+)\n#define \1\n", text, re.M)
    if guard:
        end = text.rstrip().rfind("#endif")
        text = text[: guard.start()] + "\n" + text[guard.end() : end]
    system = tuple(re.findall(r"^#include <(.+?)>", text, re.M))
    local = tuple(_beside(path, name) for name in re.findall(r'^#include "(.+?)"', text, re.M))
    text = re.sub(r"^#include .*\n?", "", text, flags=re.M)
    top, items = _split(path, text)
    return Source(path, system, local, top, tuple(items))


def _beside(path: str, name: str) -> str:
    """The path of an include relative to kernels/."""
    return name if (SOURCES / name).is_file() else str(Path(path).parent / name)


def _split(path: str, text: str) -> tuple[str, list[Item]]:
    """(comment at the top, items)."""
    lines, code = text.split("\n"), blank(text).split("\n")
    items: list[Item] = []
    top, note, at = "", "", 0
    while at < len(lines):
        if not lines[at].strip():
            top, note = (top or note if not items else top), ""
            at += 1
        elif not code[at].strip():
            end = at + 1
            while end < len(lines) and lines[end].strip() and not code[end].strip() and not lines[end].lstrip().startswith("/*"):
                end += 1
            note, at = "\n".join(lines[at:end]), end
        else:
            end = _item_end(path, code, at)
            items.append(_item("\n".join(lines[at:end]), note))
            at = end
    return top, items


def _item_end(path: str, code: list[str], start: int) -> int:
    """The line after the item that starts at `start`: a directive, a balanced #if block, or code up to ';' or '}' outside brackets."""
    depth, conditional, end = 0, 0, start
    directive = code[start].lstrip().startswith("#")
    while end < len(code):
        line = code[end].rstrip()
        conditional += bool(re.match(r"\s*#\s*if", line)) - bool(re.match(r"\s*#\s*endif", line))
        depth += line.count("{") + line.count("(") - line.count("}") - line.count(")")
        end += 1
        if directive and not conditional and not line.endswith("\\"):
            return end
        if not directive and depth == 0 and line.endswith((";", "}")):
            return end
    raise IRError(f"kernels/{path}: the item at '{code[start].strip()}' has no end")


def _item(text: str, note: str) -> Item:
    return Item(text, frozenset(_names(blank(text))), words_of(text), note)


def _names(code: str) -> list[str]:
    """What an item defines or declares."""
    if re.match(r"\s*#\s*if", code):
        inner = "\n".join(line for line in code.split("\n") if not re.match(r"\s*#\s*(if|el|endif)", line))
        return [name for item in _split("", inner)[1] for name in item.names]
    if code.lstrip().startswith("#"):
        found = re.match(r"\s*#\s*define\s+(\w+)", code)
        return [found[1]] if found else []
    names = re.findall(r"\b(?:struct|union|enum)\s+(\w+)\s*\{", code)
    if re.match(r"\s*(typedef\s+)?enum\b", code) and "{" in code:
        body = code[code.index("{") + 1 : code.rindex("}")]
        names += re.findall(r"(\w+)\s*(?:=[^,]*)?(?:,|$)", body.strip())
        code = code[code.rindex("}") :]
    if code.lstrip().startswith("typedef") or code.startswith("}"):
        pointer = re.search(r"\(\s*\*\s*(\w+)\s*\)", code) or re.match(r"\s*typedef\b[^({]*?(\w+)\s*\(", code)
        tail = _WORD.findall(code[code.rindex("}") + 1 :] if "}" in code else code)
        return names + ([pointer[1]] if pointer and "{" not in code else tail[-1:])
    found = re.search(r"(\w+)\s*[(\[=;]", code.split("{")[0])
    return names + ([found[1]] if found and not names else [])
