# SPDX-License-Identifier: Apache-2.0
"""Expressions with what is known of their parts: those that come to one number are written as that number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from midge.codegen.c_statements import Parser
from midge.codegen.c_syntax import ASSIGN, ATOM, BINARY, COMMA, COND, POSTFIX, UNARY, Node
from midge.codegen.expression import LONG, Out, literal, modulo, neutral, wide
from midge.codegen.facts import ANY_BOOL, Fact, Fields, Numbers, Range, Targets, combine, compare, join, through

SIGNED = re.compile(r"(const )*(int32_t|int)\s*")
UNSIGNED = re.compile(r"(const )*(uint32_t|unsigned)\s*")
_ZERO = Range(0, 0)
LOOPS = ("for", "while", "do")


@dataclass
class Simplifier:
    """Expressions of one function. `facts`: of its parameters; `enums`: values of enumerators. `calls`: (function, facts of its arguments) of what is left."""

    text: str
    parameters: Mapping[str, str]  # name -> type
    facts: Mapping[str, Fact]
    enums: Mapping[str, int]
    types: frozenset[str]
    returns: Mapping[str, str] = field(default_factory=dict)  # function -> what it returns
    calls: list[tuple[str, tuple[Fact, ...]]] = field(default_factory=list)
    mentions: set[str] = field(default_factory=set)
    astray: bool = False  # a function is called of which it is not known which one it is

    def __post_init__(self) -> None:
        self.aliases: dict[str, Out] = {}
        self.converted: set[int] = set()
        parser = Parser(self.text, self.types)
        self.tree = parser.statement()
        self.declared = Counter(list(self.parameters))
        self.declared.update(node.word for node in self.tree.walk() if node.kind == "declarator")
        self.limits = first_changes(self.tree)
        self.kinds = {name: kind.strip() for name, kind in self.parameters.items() if self.declared[name] == 1}
        self.spelled = dict.fromkeys(self.enums, "int") | dict(self.returns) | dict(self.parameters)  # name -> its type, or types
        for at, kid in ((node, kid) for node in self.tree.walk() if node.kind == "decl" for kid in node.kids if kid is not None):
            self.spelled[kid.word] = self.spelled.get(kid.word, "") + self.text[at.start : kid.start]
        self.known: dict[str, tuple[Fact, bool]] = {}
        for name, kind in self.parameters.items():
            fact, unsigned = through(self.facts.get(name), kind), bool(UNSIGNED.fullmatch(kind))
            plain = (unsigned and isinstance(fact, Range) and fact.low >= 0) or SIGNED.fullmatch(kind)
            if isinstance(fact, Range) and not (fact.fits and (fact.low == fact.high == 0 if "*" in kind else plain)):
                fact = None
            if fact is not None and self.declared[name] == 1:
                self.known[name] = (fact, unsigned)

    def expression(self, node: Node, *, truth: bool = False) -> Out:
        """`truth`: only whether it is 0 matters."""
        found: Out = getattr(self, f"_{node.kind}")(node, truth) if node.kind in ("binary", "paren", "cond") else getattr(self, f"_{node.kind}")(node)
        return found

    def _edited(self, node: Node, edits: Sequence[tuple[Node, str]]) -> str:
        parts, place = [], node.start
        for kid, text in sorted(edits, key=lambda edit: edit[0].start):
            parts += [self.text[place : kid.start], text]
            place = kid.end
        return "".join([*parts, self.text[place : node.end]])

    def _number(self, node: Node) -> Out:
        text = self.text[node.start : node.end]
        found = re.fullmatch(r"(0[xX][0-9a-fA-F]+|\d+)([uU]?)", text)
        value = int(found[1], 0) if found and (found[1] == "0" or found[1][0] != "0" or found[1][:2] in ("0x", "0X")) else None
        fact = Range(value, value) if value is not None else None
        return Out(text, ATOM, fact if fact is not None and fact.fits else None, unsigned=bool(found and found[2]))

    def _name(self, node: Node) -> Out:
        if node.word in self.enums and not self.declared[node.word]:
            value = self.enums[node.word]
            return Out(node.word, ATOM, Range(value, value))
        if not self.declared[node.word]:
            self.mentions.add(node.word)
        if node.word == "NULL":
            return Out("NULL", ATOM, Range(0, 0))
        if node.word in self.aliases:
            return self.aliases[node.word]
        fact, unsigned = self.known.get(node.word, (None, False))
        if fact is None or node.start >= self.limits.get(node.word, node.end):
            return Out(node.word, ATOM)
        if isinstance(fact, Range) and fact.one:
            if "*" in self.parameters.get(node.word, ""):
                return Out(node.word, ATOM, fact)
            return literal(fact.low, unsigned=unsigned)
        return Out(node.word, ATOM, fact, unsigned=unsigned)

    def _list(self, node: Node) -> Out:
        return self._several(node, [(kid, ASSIGN) for kid in node.kids if kid is not None], ATOM)

    def _sizeof(self, node: Node) -> Out:
        return Out(self.text[node.start : node.end], UNARY)

    def _several(self, node: Node, kids: Sequence[tuple[Node, int]], level: int) -> Out:
        outs = [self.expression(kid) for kid, _ in kids]
        return Out(
            self._edited(node, [(kid, out.within(least)) for (kid, least), out in zip(kids, outs, strict=True)]), level, pure=all(out.pure for out in outs)
        )

    def _comma(self, node: Node) -> Out:
        return self._several(node, [(kid, COMMA) for kid in node.kids if kid is not None], COMMA)

    def _call(self, node: Node) -> Out:
        function, *arguments = [kid for kid in node.kids if kid is not None]
        outs = [self.expression(kid) for kid in arguments]
        direct = function.kind == "name" and not self.declared[function.word]
        called = Out(function.word, ATOM) if direct else self.expression(function)
        names = called.fact.names if isinstance(called.fact, Targets) else frozenset((function.word,) if direct else ())
        self.astray = self.astray or not names
        self.calls += [(name, tuple(out.fact for out in outs)) for name in sorted(names)]
        edits = [(function, called.within(POSTFIX)), *((kid, out.within(ASSIGN)) for kid, out in zip(arguments, outs, strict=True))]
        return Out(self._edited(node, edits), POSTFIX, pure=False)

    def _index(self, node: Node) -> Out:
        base, index = (self.expression(kid) for kid in node.kids if kid is not None)
        fact = base.fact.at(index.range) if isinstance(base.fact, Numbers) else None
        pair = [kid for kid in node.kids if kid is not None]
        text = self._edited(node, [(pair[0], base.within(POSTFIX)), (pair[1], index.text if index.known is None else index.text.rstrip("u"))])
        return self._given(text, fact, base.pure and index.pure)

    def _member(self, node: Node) -> Out:
        (kid,) = node.kids
        assert kid is not None
        base = self.expression(kid)
        fact = base.fact.members.get(node.word[2:]) if isinstance(base.fact, Fields) and node.word.startswith("->") else None
        return self._given(self._edited(node, [(kid, base.within(POSTFIX))]), fact, base.pure)

    @staticmethod
    def _given(text: str, fact: Fact, pure: bool) -> Out:
        """What is read from a constant."""
        if isinstance(fact, Range):
            return literal(fact.low) if fact.one and fact.fits and pure else Out(text, POSTFIX, fact if fact.fits else None, pure)
        return Out(text, POSTFIX, fact, pure)

    def _unary(self, node: Node) -> Out:
        (kid,) = node.kids
        assert kid is not None
        if node.word in ("++", "--", "&"):
            inner = Out(kid.word, ATOM) if kid.kind == "name" else self.expression(kid)
            return Out(self._edited(node, [(kid, inner.within(UNARY))]), UNARY, pure=node.word == "&" and inner.pure)
        inner = self.expression(kid, truth=node.word == "!")
        value, known = inner.known, inner.range
        if value is not None and inner.pure and not inner.unsigned and node.word in ("-", "+", "!"):
            return literal({"-": -value, "+": value, "!": int(value == 0)}[node.word], truth=node.word == "!")
        fact: Fact = None
        if known is not None and not inner.unsigned and node.word in ("-", "~"):
            less = int(node.word == "~")
            fact = combine("-", Range(-less, -less), known)
        text = inner.within(UNARY)
        return Out(self._edited(node, [(kid, f"({text})" if text[0] == node.word else text)]), UNARY, fact, inner.pure, truth=node.word == "!")

    def _postfix(self, node: Node) -> Out:
        (kid,) = node.kids
        assert kid is not None
        inner = Out(kid.word, ATOM) if kid.kind == "name" else self.expression(kid)
        return Out(self._edited(node, [(kid, inner.within(POSTFIX))]), POSTFIX, pure=False)

    def _cast(self, node: Node) -> Out:
        (kid,) = node.kids
        assert kid is not None
        if node.word == "(void)" and kid.kind == "name":
            return Out(self.text[node.start : node.end], UNARY)
        inner = self.expression(kid)
        signed = re.fullmatch(r"\((int32_t|int)\)", node.word) is not None
        if signed and inner.known is not None and inner.pure:
            return literal(inner.known)
        fact = inner.range if signed and not inner.unsigned else None
        return Out(self._edited(node, [(kid, inner.within(UNARY))]), UNARY, fact, inner.pure)

    def _assign(self, node: Node) -> Out:
        left, right = (kid for kid in node.kids if kid is not None)
        to = Out(left.word, ATOM) if left.kind == "name" else self.expression(left)
        value = self.expression(right)
        return Out(self._edited(node, [(left, to.within(UNARY)), (right, value.within(ASSIGN))]), ASSIGN, pure=False)

    def _paren(self, node: Node, truth: bool) -> Out:
        (kid,) = node.kids
        assert kid is not None
        inner = self.expression(kid, truth=truth)
        if inner.level >= UNARY:
            return inner
        return Out(self._edited(node, [(kid, inner.text)]), ATOM, inner.fact, inner.pure, inner.unsigned, inner.truth, (inner.text, inner.level))

    def _cond(self, node: Node, truth: bool) -> Out:
        condition, first, second = (kid for kid in node.kids if kid is not None)
        mark = len(self.calls)
        test = self.expression(condition, truth=True)
        chosen, other = (first, second) if test.known else (second, first)
        alike = truth or id(node) in self.converted or wide(chosen, self.spelled, unknown=False) or not wide(other, self.spelled)
        if test.known is not None and test.pure and alike:
            del self.calls[mark:]
            return self.expression(chosen, truth=truth)
        a, b = self.expression(first, truth=truth), self.expression(second, truth=truth)
        if test.pure and a.pure and a.text == b.text:
            return a
        text = self._edited(node, [(condition, test.within(COND + 1)), (first, a.within(ASSIGN)), (second, b.within(COND))])
        fact = join(a.fact, b.fact) if not (a.unsigned or b.unsigned or wide(node, self.spelled)) or isinstance(a.fact, Targets) else None
        return Out(text, COND, fact, test.pure and a.pure and b.pure, truth=a.truth and b.truth)

    def _binary(self, node: Node, truth: bool) -> Out:
        left, right = (kid for kid in node.kids if kid is not None)
        if node.word in ("&&", "||"):
            return self._logical(node, left, right, truth)
        if node.word in ("+", "-") and right.kind == "paren" and wide(left, self.spelled, unknown=False, words=LONG):
            self.converted.add(id(right.kids[0]))  # whatever it is, becomes a number of 64 bits
        a, b = self.expression(left), self.expression(right)
        level, pure = BINARY[node.word], a.pure and b.pure
        unsigned = a.unsigned or b.unsigned
        comparing = node.word in ("==", "!=", "<", ">", "<=", ">=")
        fact: Range | None = ANY_BOOL if comparing else None
        if a.range is not None and b.range is not None:
            if comparing and (not unsigned or min(a.range.low, b.range.low) >= 0):
                fact = compare(node.word, a.range, b.range)
            elif not comparing and not unsigned:
                fact = combine(node.word, a.range, b.range)
        if fact is not None and fact.one and pure:
            return literal(fact.low, truth=comparing)
        if node.word == "*" and 0 in (a.known, b.known) and pure and not wide(node, self.spelled):
            return literal(0)
        kept = None if comparing or unsigned else neutral(node.word, a, b)
        if unsigned and not comparing and not wide(node, self.spelled, words=LONG):
            kept = modulo(node.word, a, b)
        if kept is not None:
            return kept
        word = node.word
        if word in ("+", "-") and b.known is not None and b.known < 0 and b.pure and not unsigned:
            word, b = "-" if word == "+" else "+", literal(-b.known)
        text = self._edited(node, [(left, a.within(level)), (right, b.within(level + 1))])
        if word != node.word:
            text = f"{a.within(level)} {word} {b.within(level + 1)}"
        truth = comparing or (word in ("&", "|") and a.truth and b.truth)
        return Out(text, level, fact, pure, unsigned and not comparing, truth)

    def _logical(self, node: Node, left: Node, right: Node, truth: bool) -> Out:
        decides = int(node.word == "||")
        mark = len(self.calls)
        a = self.expression(left, truth=True)
        if a.known is not None and a.pure:
            if bool(a.known) == bool(decides):
                del self.calls[mark:]
                return literal(decides, truth=True)
            b = self.expression(right, truth=True)
            if b.known is not None and b.pure:
                return literal(int(b.known != 0), truth=True)
            if truth or b.truth:
                return b
            return Out(
                self._edited(node, [(left, a.within(BINARY[node.word])), (right, b.within(BINARY[node.word] + 1))]),
                BINARY[node.word],
                ANY_BOOL,
                b.pure,
                truth=True,
            )
        mark = len(self.calls)
        b = self.expression(right, truth=True)
        if b.known is not None and b.pure:
            del self.calls[mark:]
            if bool(b.known) == bool(decides) and a.pure:
                return literal(decides, truth=True)
            if bool(b.known) != bool(decides) and (truth or a.truth):
                return a
        level, fact = BINARY[node.word], ANY_BOOL
        if a.range is not None and b.range is not None and a.pure and b.pure:
            fact = combine(node.word[0], compare("!=", a.range, _ZERO), compare("!=", b.range, _ZERO)) or ANY_BOOL
            if fact.one:
                del self.calls[mark:]
                return literal(fact.low, truth=True)
        return Out(self._edited(node, [(left, a.within(level)), (right, b.within(level + 1))]), level, fact, a.pure and b.pure, truth=True)


def changed(node: Node) -> list[str]:
    """The variable that an expression changes, or whose address it takes."""
    target = node.kids[0] if node.kind in ("assign", "postfix") or (node.kind == "unary" and node.word in ("++", "--", "&")) else None
    while target is not None and target.kind == "paren":
        target = target.kids[0]
    return [target.word] if target is not None and target.kind == "name" else []


def first_changes(tree: Node) -> dict[str, int]:
    """Name -> where it is changed first, or its address taken; the start of the outermost loop around that place."""
    found: dict[str, int] = {}

    def visit(node: Node, loop: int) -> None:
        for name in changed(node):
            found.setdefault(name, loop if loop >= 0 else node.start)
        inside = node.start if loop < 0 and node.kind in LOOPS else loop
        for kid in node.kids:
            if kid is not None:
                visit(kid, inside)

    visit(tree, -1)
    return found
