# SPDX-License-Identifier: Apache-2.0
"""Spelling of C: identifiers, comments, numbers. Names come from models and people, so nothing about them is taken on trust."""

from __future__ import annotations

import re
import textwrap
import unicodedata

import numpy as np

from midge.errors import IRError, UsageError

WIDTH = 140
MAX_NAME = 40
MAX_COMMENT = 300

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_KEYWORDS = """
    alignas alignof and and_eq asm atomic_cancel auto bitand bitor bool break case catch char char8_t char16_t char32_t class compl concept const consteval
    constexpr constinit const_cast continue co_await co_return co_yield decltype default delete do double dynamic_cast else enum explicit export extern false
    float for friend goto if import inline int long main module mutable namespace new noexcept not not_eq null nullptr operator or or_eq private protected
    public register reinterpret_cast requires restrict return short signed sizeof static static_assert static_cast struct switch template this thread_local
    throw true try typedef typeid typename typeof union unsigned using virtual void volatile wchar_t while xor xor_eq
"""
# <name>.h would hide one of these headers from a compiler that searches the library's folder first; the last lines are midge's own files and Windows.
_HEADERS = """
    assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib
    stdnoreturn string strings tgmath threads time uchar unistd wchar wctype arm_neon arm_mve arm_acle cmsis_gcc malloc memory features alloca newlib
    midge_model midge_hooks port startup timer board hil_server golden_bench golden_hooks golden_size
    aux con nul prn
"""
# NAME_run, NAME_OK, NAME_H and the like would be names of midge's firmware, test bench or adapters; a test finds them all.
_OURS = "golden midge midge_hook midge_port midge_startup midge_timer model on result show status"
_RESERVED = frozenset((_KEYWORDS + _HEADERS + _OURS).split())


def c_identifier(text: str) -> str:
    """A library name made from any text: letters, digits and single underscores, no keyword, no name of a standard header, none that midge's files use.

    Accents are dropped, other characters become underscores; 'model' if nothing is left; '_net' is added to what is taken.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")[:MAX_NAME].rstrip("_") or "model"
    if name[0].isdigit():
        name = f"model_{name}"
    return f"{name}_net" if name.lower() in _RESERVED else name


def given_name(text: str) -> str:
    """`text` itself, the name that somebody chose for a library or an image.

    Raises: UsageError if its C symbols and files cannot have it.
    """
    fit = c_identifier(text)
    if fit != text:
        why = "is taken by C, a header or midge's own files" if fit == f"{text}_net" else "is no name for C symbols and files"
        raise UsageError(f"name '{plain_text(text)}': {why}; for example {fit}")
    return text


def check_identifier(text: str, what: str) -> str:
    """`text` itself.

    Raises: IRError if it is no C identifier.
    """
    if not _IDENTIFIER.match(text):
        raise IRError(f"{what} {text!r} is not a C identifier")
    return text


def plain_text(text: str) -> str:
    """`text` fit for the inside of a C comment: printable ASCII, no comment marks, no trigraphs, no backslashes, of bounded length."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "replace").decode()
    ascii_text = re.sub(r"[^ -~]", " ", ascii_text).replace("\\", "|")
    ascii_text = re.sub(r"\*(?=/)|/(?=\*)|\?(?=\?)", lambda mark: mark.group() + " ", ascii_text)
    return ascii_text if len(ascii_text) <= MAX_COMMENT else ascii_text[: MAX_COMMENT - 3] + "..."


def comment(lines: list[str], indent: str = "") -> str:
    """A block comment of trusted lines, wrapped; what comes from a model went through plain_text."""
    wrapped: list[str] = []
    for line in lines:
        lead = " " * (len(line) - len(line.lstrip()))
        wrapped += textwrap.wrap(line, WIDTH - 6 - len(indent), subsequent_indent=lead) or [""]
    body = f"\n{indent} * ".join(wrapped)
    return re.sub(r" +\n", "\n", f"{indent}/* {body} */")


def wrapped_list(items: list[str], indent: str, width: int = WIDTH) -> str:
    """Items with commas, as many on a line as fit."""
    lines, line = [], indent
    for item in items:
        if len(line) > len(indent) and len(line) + len(item) + 2 > width:
            lines.append(line.rstrip())
            line = indent
        line += f"{item}, "
    return "\n".join([*lines, line.rstrip()])


def signature(head: str, width: int = WIDTH) -> str:
    """A function's head (up to its closing bracket) on as few lines as fit, parameters aligned with the first one."""
    flat = " ".join(head.split())
    if len(flat) <= width or "(" not in flat:
        return flat
    start = flat.index("(") + 1
    lines, line = [], flat[:start]
    for parameter in flat[start:].split(", "):
        if line.strip() and not line.endswith("(") and len(line) + len(parameter) + 2 > width:
            lines.append(line.rstrip())
            line = " " * start
        line += f"{parameter}, "
    return "\n".join([*lines, line[:-2]])


def c_string(text: str) -> str:
    """A C string literal of printable ASCII."""
    escaped = re.sub(r'(["\\])', r"\\\1", re.sub(r"[^ -~]", "?", text))
    return '"' + re.sub(r"\?(?=\?)", '?""', escaped) + '"'


def c_float(value: float) -> str:
    """A float32 constant, shortest digits that give the value back; <math.h> has the names of the others."""
    single = np.float32(value)
    if not np.isfinite(single):
        return "NAN" if np.isnan(single) else "INFINITY" if single > 0 else "-INFINITY"
    digits = str(single)
    return digits + ("f" if "." in digits or "e" in digits else ".0f")


def c_integer(value: int, bits: int) -> str:
    """An integer constant; the smallest of a type has no literal in C."""
    if bits >= 32 and value == -(1 << (bits - 1)):
        return f"INT{bits}_MIN"
    return f"{value}LL" if bits == 64 else str(value)
