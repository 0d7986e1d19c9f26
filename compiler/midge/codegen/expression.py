# SPDX-License-Identifier: Apache-2.0
"""An expression as it is written now, with what is known of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from midge.codegen.c_syntax import ATOM, UNARY, Node
from midge.codegen.facts import Fact, Range, combine


@dataclass(frozen=True)
class Out:
    """An expression as it is written now. `pure`: it has no effects; `unsigned`: arithmetic on it is modulo 2^32; `truth`: it is 0 or 1."""

    text: str
    level: int
    fact: Fact = None
    pure: bool = True
    unsigned: bool = False
    truth: bool = False
    bare: tuple[str, int] | None = None  # text and level without the parentheses around it

    @property
    def range(self) -> Range | None:
        return self.fact if isinstance(self.fact, Range) else None

    @property
    def known(self) -> int | None:
        """The one number it is."""
        return self.fact.low if isinstance(self.fact, Range) and self.fact.one else None

    def within(self, level: int) -> str:
        return self.text if self.level >= level else f"({self.text})"


def literal(value: int, *, unsigned: bool = False, truth: bool = False) -> Out:
    return Out(f"{value}u" if unsigned else str(value), ATOM if value >= 0 else UNARY, Range(value, value), True, unsigned, truth)


_WIDE = re.compile(r"unsigned|uint32_t|int64_t|uint64_t|size_t|ptrdiff_t|long|float|double")
LONG = re.compile(r"int64_t")


def wide(node: Node, kinds: Mapping[str, str], *, unknown: bool = True, words: re.Pattern[str] = _WIDE) -> bool:
    """Whether an expression is unsigned or of more than 32 bits, so that what it is combined with is converted; `unknown` where that cannot be said.

    kinds: types of variables, and what functions return. words: of the types that are meant.
    """
    kids = [kid for kid in node.kids if kid is not None]
    if node.kind == "sizeof":
        return words is _WIDE
    if node.kind == "number":
        return words is _WIDE and re.fullmatch(r"(0[xX][0-7]?)?[0-9a-fA-F]{1,7}|[01]?\d{1,9}", node.word) is None
    if node.kind == "name":
        return words.search(kinds[node.word]) is not None if node.word in kinds else unknown
    if node.kind == "cast" and "*" not in node.word:
        return words.search(node.word) is not None
    if node.kind == "binary" and node.word in ("==", "!=", "<", ">", "<=", ">=", "&&", "||"):
        return False
    if node.kind in ("call", "index") or (node.kind == "binary" and node.word in ("<<", ">>")):
        kids = kids[:1]
    elif node.kind == "cond":
        kids = kids[1:]
    return not (node.kind == "unary" and node.word == "!") and any(wide(kid, kinds, unknown=unknown, words=words) for kid in kids)


def modulo(word: str, a: Out, b: Out) -> Out | None:
    """An operation on uint32_t whose result is known, or one of its operands: on small numbers, or with 0."""
    if not (a.pure and b.pure):
        return None
    if a.unsigned and a.range is not None and b.range is not None and min(a.range.low, b.range.low) >= 0:
        fact = combine(word, a.range, b.range)
        if fact is not None and fact.one and 0 <= fact.low < 1 << 31:
            return literal(fact.low, unsigned=True)
    if word == "&" and 0 in (a.known, b.known):
        return literal(0, unsigned=True)
    return a if word in ("|", "+") and b.known == 0 and (a.unsigned or a.text.startswith("(uint32_t)")) else None


def neutral(word: str, a: Out, b: Out) -> Out | None:
    """The operand that the other, which has no effects, leaves as it is."""
    kept = None
    if (
        word == "&"
        and a.range is not None
        and b.known is not None
        and b.known < 0
        and b.range is not None
        and a.range.divisor % b.range.divisor == 0
        and -b.known == b.range.divisor
    ):
        kept = a
    elif word in ("&", "|"):
        for one, other in ((a, b), (b, a)):
            if one.known in (0, 1) and other.truth and kept is None:
                gone = other if one.known == int(word == "|") else one
                kept = None if not gone.pure else other if gone is one else literal(one.known, truth=True)
    elif b.pure and ((word in ("+", "-", "<<", ">>") and b.known == 0) or (word in ("*", "/") and b.known == 1)):
        kept = a
    elif a.pure and ((word == "+" and a.known == 0) or (word == "*" and a.known == 1)):
        kept = b
    return kept if kept is None or kept.bare is None or word in ("&", "|") else replace(kept, text=kept.bare[0], level=kept.bare[1], bare=None)
