# SPDX-License-Identifier: Apache-2.0
"""The C that kernels are written in, as trees over its text: a node keeps where it stands, so that what is not changed is copied as it was written.

No switch, goto, labels or directives within functions: text that has them is refused, and whoever wants to change it leaves it as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"\s+|/\*.*?\*/|//[^\n]*|(?P<number>(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)[uUlLfF]*)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<op>\.\.\.|<<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[-+*/%&|^~!<>=?:;,.(){}\[\]])",
    re.S,
)
_TYPES = {"void", "char", "short", "int", "long", "unsigned", "signed", "float", "double", "const", "volatile", "struct", "static", "register"}
_TYPE_NAME = re.compile(r"\w+_t|midge_\w+_(params|constants)|midge_\w+_routine")
_LEVELS = (("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", ">", "<=", ">="), ("<<", ">>"), ("+", "-"), ("*", "/", "%"))
BINARY = {op: level for level, ops in enumerate(_LEVELS, 3) for op in ops}
"""Operator -> how tightly it binds; COMMA, ASSIGN, COND below, UNARY, POSTFIX, ATOM above."""
COMMA, ASSIGN, COND, UNARY, POSTFIX, ATOM = 0, 1, 2, 13, 14, 15
_ASSIGNS = {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="}


class NotUnderstood(Exception):
    """Text that is none of the C described above."""


@dataclass(frozen=True)
class Node:
    """A statement or an expression: text[start:end]. `word` is its operator, name or member, `level` how tightly an expression binds.

    Kinds of expressions: number name list string sizeof call index member unary postfix binary cond assign cast paren comma; of statements: block if for while
    do return jump expr decl (its kids are declarators: `word` the name, one kid if it is initialized; `plain`: no pointer and no array) empty.
    """

    kind: str
    start: int
    end: int
    kids: tuple[Node | None, ...] = ()
    word: str = ""
    level: int = ATOM
    plain: bool = False

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for kid in self.kids:
            if kid is not None:
                yield from kid.walk()


@dataclass
class Expressions:
    """Recursive descent over the expressions of a text. `types`: names of types beyond those of the language."""

    text: str
    types: frozenset[str] = frozenset()
    tokens: list[tuple[str, str, int, int]] = field(default_factory=list)
    at: int = 0

    def __post_init__(self) -> None:
        place = 0
        while place < len(self.text):
            match = _TOKEN.match(self.text, place)
            if match is None:
                raise NotUnderstood(self.text[place : place + 20])
            if match.lastgroup:
                self.tokens.append((match.lastgroup, match.group(), match.start(), match.end()))
            place = match.end()

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead][1] if self.at + ahead < len(self.tokens) else ""

    def kind(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead][0] if self.at + ahead < len(self.tokens) else ""

    def take(self, wanted: str = "") -> tuple[str, str, int, int]:
        if self.at >= len(self.tokens) or (wanted and self.peek() != wanted):
            raise NotUnderstood(f"{wanted!r} wanted, {self.peek()!r} found")
        self.at += 1
        return self.tokens[self.at - 1]

    @property
    def start(self) -> int:
        if self.at >= len(self.tokens):
            raise NotUnderstood("the end came early")
        return self.tokens[self.at][2]

    @property
    def end(self) -> int:
        return self.tokens[self.at - 1][3]

    def is_type(self, ahead: int = 0) -> bool:
        word = self.peek(ahead)
        return self.kind(ahead) == "name" and (word in _TYPES or word in self.types or _TYPE_NAME.fullmatch(word) is not None)

    def _list(self) -> Node:
        start = self.start
        self.take("{")
        kids = []
        while self.peek() != "}":
            if self.peek() == ".":
                raise NotUnderstood("designated member")
            kids.append(self._list() if self.peek() == "{" else self.assignment())
            if self.peek() == ",":
                self.take()
        self.take("}")
        return Node("list", start, self.end, tuple(kids))

    def expression(self) -> Node:
        start = self.start
        left = self.assignment()
        while self.peek() == ",":
            self.take()
            right = self.assignment()
            left = Node("comma", start, self.end, (left, right), level=COMMA)
        return left

    def assignment(self) -> Node:
        start = self.start
        left = self._conditional()
        if self.peek() in _ASSIGNS:
            word = self.take()[1]
            right = self.assignment()
            return Node("assign", start, self.end, (left, right), word, ASSIGN)
        return left

    def _conditional(self) -> Node:
        start = self.start
        condition = self._binary(3)
        if self.peek() != "?":
            return condition
        self.take()
        first = self.expression()
        self.take(":")
        second = self.assignment()
        return Node("cond", start, self.end, (condition, first, second), level=COND)

    def _binary(self, least: int) -> Node:
        start = self.start
        left = self._unary()
        while BINARY.get(self.peek(), -1) >= least:
            word = self.take()[1]
            right = self._binary(BINARY[word] + 1)
            left = Node("binary", start, self.end, (left, right), word, BINARY[word])
        return left

    def _unary(self) -> Node:
        start, word = self.start, self.peek()
        if word == "sizeof":
            self.take()
            if self.peek() == "(" and self.is_type(1):
                self._type_in_parentheses()
                return Node("sizeof", start, self.end, level=UNARY)
            inner = self._unary()
            return Node("sizeof", start, self.end, (inner,), level=UNARY)
        if word in ("-", "+", "!", "~", "*", "&", "++", "--"):
            self.take()
            inner = self._unary()
            return Node("unary", start, self.end, (inner,), word, UNARY)
        if word == "(" and self.is_type(1):
            self._type_in_parentheses()
            name = self.text[start : self.end]
            if self.peek() == "{":
                raise NotUnderstood("compound literal")
            inner = self._unary()
            return Node("cast", start, self.end, (inner,), name, UNARY)
        return self._postfix()

    def _type_in_parentheses(self) -> None:
        self.take("(")
        while self.peek() == "*" or self.is_type():
            self.take()
        self.take(")")

    def _postfix(self) -> Node:
        start = self.start
        node = self._primary()
        while self.peek() in ("(", "[", ".", "->", "++", "--"):
            word = self.take()[1]
            if word == "(":
                kids = []
                while self.peek() != ")":
                    kids.append(self.assignment())
                    if self.peek() != ")":
                        self.take(",")
                self.take(")")
                node = Node("call", start, self.end, (node, *kids), level=POSTFIX)
            elif word == "[":
                index = self.expression()
                self.take("]")
                node = Node("index", start, self.end, (node, index), level=POSTFIX)
            elif word in (".", "->"):
                member = self.take()[1]
                node = Node("member", start, self.end, (node,), word + member, POSTFIX)
            else:
                node = Node("postfix", start, self.end, (node,), word, POSTFIX)
        return node

    def _primary(self) -> Node:
        kind, word, start, end = self.take()
        if kind in ("number", "name"):
            return Node(kind, start, end, word=word)
        if word != "(":
            raise NotUnderstood(word)
        inner = self.expression()
        self.take(")")
        return Node("paren", start, self.end, (inner,))
