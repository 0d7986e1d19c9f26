# SPDX-License-Identifier: Apache-2.0
"""An expression as it is written now, with what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from midge.codegen.c_syntax import ATOM, UNARY
from midge.codegen.facts import Fact, Range


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


def neutral(word: str, a: Out, b: Out) -> Out | None:
    """The operand that the other leaves as it is, or 0."""
    if word == "*" and 0 in (a.known, b.known) and a.pure and b.pure:
        return literal(0)
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
                kept = other if one.known == int(word == "&") else literal(one.known, truth=True) if other.pure else None
    elif (word in ("+", "-", "<<", ">>") and b.known == 0) or (word in ("*", "/") and b.known == 1):
        kept = a
    elif (word == "+" and a.known == 0) or (word == "*" and a.known == 1):
        kept = b
    return kept if kept is None or kept.bare is None or word in ("&", "|") else replace(kept, text=kept.bare[0], level=kept.bare[1], bare=None)
