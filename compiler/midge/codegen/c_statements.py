# SPDX-License-Identifier: Apache-2.0
"""Statements of the C that kernels are written in."""

from __future__ import annotations

from midge.codegen.c_syntax import Expressions, Node, NotUnderstood


class Parser(Expressions):
    """Recursive descent over one function's body."""

    def statement(self) -> Node:
        start, word = self.start, self.peek()
        if word == "{":
            self.take()
            kids = []
            while self.peek() != "}":
                kids.append(self.statement())
            self.take("}")
            return Node("block", start, self.end, tuple(kids))
        if word in ("if", "for", "while", "do"):
            return self._compound(word, start)
        if word in ("continue", "break"):
            self.take()
            self.take(";")
            return Node("jump", start, self.end, word=word)
        if word == "return":
            self.take()
            value = None if self.peek() == ";" else self.expression()
            self.take(";")
            return Node("return", start, self.end, (value,))
        if word in ("switch", "goto", "case", "default") or (self.kind() == "name" and self.peek(1) == ":"):
            raise NotUnderstood(word)
        return self.simple()

    def simple(self) -> Node:
        """A declaration or an expression, up to its semicolon."""
        start = self.start
        if self.peek() == ";":
            self.take()
            return Node("empty", start, self.end)
        if self.is_type():
            return self._declaration(start)
        inner = self.expression()
        self.take(";")
        return Node("expr", start, self.end, (inner,))

    def _compound(self, word: str, start: int) -> Node:
        return {"if": self._if, "for": self._for, "while": self._while, "do": self._do}[word](start)

    def _if(self, start: int) -> Node:
        self.take("if")
        condition = self._condition()
        then, other = self.statement(), None
        if self.peek() == "else":
            self.take()
            other = self.statement()
        return Node("if", start, self.end, (condition, then, other))

    def _condition(self) -> Node:
        self.take("(")
        found = self.expression()
        self.take(")")
        return found

    def _for(self, start: int) -> Node:
        self.take("for")
        self.take("(")
        begin = self.simple()
        condition = None if self.peek() == ";" else self.expression()
        self.take(";")
        step = None if self.peek() == ")" else self.expression()
        self.take(")")
        return self._loop("for", start, (begin, condition, step))

    def _loop(self, kind: str, start: int, kids: tuple[Node | None, ...]) -> Node:
        body = self.statement()
        return Node(kind, start, self.end, (*kids, body))

    def _while(self, start: int) -> Node:
        self.take("while")
        return self._loop("while", start, (self._condition(),))

    def _do(self, start: int) -> Node:
        self.take("do")
        body = self.statement()
        self.take("while")
        condition = self._condition()
        self.take(";")
        return Node("do", start, self.end, (condition, body))

    def _declaration(self, start: int) -> Node:
        while self.is_type():
            self.take()
        kids = []
        while True:
            kids.append(self._declarator())
            if self.peek() != ",":
                break
            self.take()
        self.take(";")
        return Node("decl", start, self.end, tuple(kids))

    def _declarator(self) -> Node:
        start, plain = self.start, True
        while self.peek() == "*" or self.is_type():
            self.take()
            plain = False
        if self.kind() != "name":
            raise NotUnderstood(self.peek())
        word = self.take()[1]
        kids: list[Node | None] = []
        while self.peek() == "[":
            plain = False
            self.take()
            kids.append(self.expression())
            self.take("]")
        value = None
        if self.peek() == "=":
            self.take()
            value = self._list() if self.peek() == "{" else self.assignment()
        return Node("declarator", start, self.end, (value, *kids), word, plain=plain)
