# SPDX-License-Identifier: Apache-2.0
"""What is known of a value in the kernels of one library: between which numbers it lies, or what lies where it points to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np

from midge.ir import Array

HEAD = 8  # entries at the start of an array that are known one by one
INT_MAX = (1 << 31) - 1


MOST = 1 << 16  # the largest power of two that is looked for


@dataclass(frozen=True)
class Range:
    """A number from low to high, both included, that `step` divides, a power of two; that of a null pointer is 0.

    by: what it is in each use of the kernels, as far as it is known use by use: (number of the use, value) in order.
    """

    low: int
    high: int
    step: int = 1
    by: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, cases: Mapping[int, int]) -> Range:
        """Of the values in each use."""
        values = cases.values()
        step = min(min(value & -value or MOST, MOST) for value in values)
        return cls(min(values), max(values), step, tuple(sorted(cases.items())))

    @property
    def divisor(self) -> int:
        """A power of two that divides it."""
        return min(self.low & -self.low or MOST, MOST) if self.one else self.step

    @property
    def one(self) -> bool:
        return self.low == self.high

    @property
    def fits(self) -> bool:
        """Whether it is a number of 32 bits that can be written down and negated."""
        return self.low >= -INT_MAX and self.high <= INT_MAX


@dataclass(frozen=True)
class Numbers:
    """A pointer to constants: the first ones, and all of them. element: their type."""

    head: tuple[Range, ...]
    every: Range
    element: str

    def at(self, index: Range | None) -> Range:
        return self.head[index.low] if index is not None and index.one and 0 <= index.low < len(self.head) else self.every


@dataclass(frozen=True)
class Fields:
    """A pointer to a struct, by member."""

    members: Mapping[str, Fact]


@dataclass(frozen=True)
class Targets:
    """A pointer to one of these functions."""

    names: frozenset[str]


Fact = Range | Numbers | Fields | Targets | None
ANY_BOOL = Range(0, 1)
_COMPARISONS = ("==", "!=", "<", ">", "<=", ">=")


def numbers(data: Array) -> Numbers | None:
    """Of the data of a constant; None for what are no signed integers of at most 32 bits."""
    if data.dtype.kind != "i" or data.dtype.itemsize > 4 or not data.size:
        return None
    flat = np.ascontiguousarray(data).reshape(-1)
    return Numbers(tuple(Range(int(value), int(value)) for value in flat[:HEAD]), Range(int(flat.min()), int(flat.max())), f"{data.dtype.name}_t")


def join(a: Fact, b: Fact) -> Fact:
    """What holds in both cases."""
    if isinstance(a, Range) and isinstance(b, Range):
        return _hull(a, b)
    if isinstance(a, Numbers) and isinstance(b, Numbers) and a.element == b.element:
        return Numbers(tuple(_hull(x, y) for x, y in zip(a.head, b.head, strict=False)), _hull(a.every, b.every), a.element)
    if isinstance(a, Fields) and isinstance(b, Fields):
        return Fields({name: join(a.members[name], b.members[name]) for name in a.members if name in b.members})
    if isinstance(a, Targets) and isinstance(b, Targets):
        return Targets(a.names | b.names)
    return None


def join_all(facts: list[Fact]) -> Fact:
    return reduce(join, facts) if facts else None


def _hull(a: Range, b: Range) -> Range:
    one, other = dict(a.by), dict(b.by)
    if one and other and all(other.get(use, value) == value for use, value in one.items()):
        return Range.of(one | other)
    return Range(min(a.low, b.low), max(a.high, b.high), min(a.divisor, b.divisor))


def tagged(fact: Fact, use: int) -> Fact:
    """What is known of a value in one use, marked as such."""
    if isinstance(fact, Range):
        return Range.of({use: fact.low}) if fact.one else fact
    if isinstance(fact, Numbers):
        return Numbers(tuple(Range.of({use: item.low}) for item in fact.head), fact.every, fact.element)
    if isinstance(fact, Fields):
        return Fields({name: tagged(member, use) for name, member in fact.members.items()})
    return fact


def through(fact: Fact, kind: str) -> Fact:
    """What a pointer of this type says of what it points to."""
    same = kind.count("*") == 1 and (not isinstance(fact, Numbers) or fact.element in kind.split())
    return fact if isinstance(fact, Range) or (same and not re.search(r"\bvoid\b", kind)) else None


def _each(op: str, a: Range, b: Range) -> Range | None:
    """a op b use by use, None if that cannot be said."""
    uses = [use for use, _ in a.by or b.by]
    one, other = dict(a.by), dict(b.by)
    if not uses or any((bool(side.by) and [use for use, _ in side.by] != uses) or not (side.by or side.one) for side in (a, b)):
        return None
    cases = {}
    for use in uses:
        x, y = one.get(use, a.low), other.get(use, b.low)
        found = _plain(op, Range(x, x), Range(y, y))
        if found is None or not found.one:
            return None
        cases[use] = found.low
    return Range.of(cases)


def compare(op: str, a: Range, b: Range) -> Range:
    """a op b, as far as it is decided."""
    return _each(op, a, b) or _compare(op, a, b)


def _compare(op: str, a: Range, b: Range) -> Range:
    if op in (">", ">="):
        return _compare({">": "<", ">=": "<="}[op], b, a)
    if op == "<":
        return Range(int(a.high < b.low), int(a.low < b.high))
    if op == "<=":
        return Range(int(a.high <= b.low), int(a.low <= b.high))
    equal = Range(int(a.one and a == b), int(a.low <= b.high and b.low <= a.high))
    return equal if op == "==" else Range(1 - equal.high, 1 - equal.low)


def combine(op: str, a: Range, b: Range) -> Range | None:
    """a op b of 32-bit integers; None if nothing is known of it."""
    return _each(op, a, b) or _plain(op, a, b)


def _plain(op: str, a: Range, b: Range) -> Range | None:
    if op in _COMPARISONS:
        return _compare(op, a, b)
    found: Range | None = None
    least = min(a.divisor, b.divisor)
    if op in ("+", "-"):
        found = Range(a.low + b.low, a.high + b.high, least) if op == "+" else Range(a.low - b.high, a.high - b.low, least)
    elif op == "*":
        products = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
        found = Range(min(products), max(products), min(MOST, a.divisor * b.divisor))
    elif op == "/" and a.low >= 0 and b.low > 0:
        found = Range(a.low // b.high, a.high // b.low)
    elif op == "%" and a.low >= 0 and b.low > 0:
        found = Range(a.low % b.low, a.low % b.low) if a.one and b.one else Range(0, 0) if b.one and a.divisor % b.low == 0 else Range(0, b.high - 1)
    elif op == "<<" and a.low >= 0 and b.one and 0 <= b.low < 31:
        found = Range(a.low << b.low, a.high << b.low, min(MOST, a.divisor << b.low))
    elif op == ">>" and b.one and 0 <= b.low < 32:
        found = Range(a.low >> b.low, a.high >> b.low, max(1, a.divisor >> b.low))
    elif op in ("&", "|") and a.one and b.one:
        value = a.low & b.low if op == "&" else a.low | b.low
        found = Range(value, value)
    elif op == "&" and b.one and 0 <= b.low < a.divisor and not a.one:
        found = Range(0, 0)
    elif op == "&" and b.low >= 0:
        found = Range(0, b.high)
    elif op == "&" and a.low >= 0 and b.one:
        found = Range(0, a.high, max(a.divisor, b.divisor))
    return found if found is not None and found.fits else None
