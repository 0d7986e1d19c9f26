# SPDX-License-Identifier: Apache-2.0
"""One function with what is known of its parameters: conditions that are decided go, and so do the branches that are never taken."""

from __future__ import annotations

import re
from dataclasses import replace

from midge.codegen.c_syntax import ASSIGN, Node
from midge.codegen.expression import Out
from midge.codegen.facts import Range, through
from midge.codegen.simplify import LOOPS, SIGNED, UNSIGNED, Simplifier, changed
from midge.codegen.tidy import acts


class Specialiser(Simplifier):
    """Statements of one function."""

    def body(self) -> str:
        """The function's body as it is written now."""
        text, _ = self._block(self.tree, loop=False, outermost=True)
        return text

    # statements: each is given as (text, whether what follows is not reached); '' if nothing is left of it

    def _block(self, node: Node, *, loop: bool, outermost: bool = False) -> tuple[str, bool]:
        inner, stops = self._inside(node, loop=loop, outermost=outermost)
        close = re.search(r"\s*\}\Z", self.text[node.start : node.end])
        assert close is not None
        return ("{" + inner + close.group() if inner else "{}"), stops

    def _inside(self, node: Node, *, loop: bool = False, outermost: bool = False) -> tuple[str, bool]:
        """What stands between the braces. The last `continue` of a loop, the last `return` of a function are not needed."""
        parts: list[str] = []
        place, stops = node.start + 1, False
        for kid in node.kids:
            assert kid is not None
            before, newline, gap = self.text[place : kid.start].partition("\n")
            parts.append(before)
            place = kid.end
            text, stops = self._statement(kid)
            if text:
                parts.append(newline + gap + text)
            else:
                place += len(self._rest_of_line(place))
            if stops:
                break
        parts.append(self._rest_of_line(place))
        text = "".join(parts).rstrip()
        if stops and (loop or outermost):
            text = re.sub(r"\s*\bcontinue;\Z" if loop else r"\s*\breturn;\Z", "", text)
        return text, stops

    def _part(self, node: Node) -> tuple[str, bool]:
        """What stands behind a condition: one statement."""
        text, stops = self._statement(node)
        return f"{{ {text} }}" if text and node.kind in ("if", *LOOPS) else text or "{}", stops

    def _rest_of_line(self, place: int) -> str:
        """A comment behind a statement."""
        found = re.match(r"[ \t]*/\*[^\n]*\*/(?=\n)", self.text[place:])
        return found.group() if found else ""

    def _statement(self, node: Node) -> tuple[str, bool]:
        if node.kind == "block":
            return self._block(node, loop=False)
        if node.kind == "if":
            return self._if(node)
        if node.kind in LOOPS:
            return self._once(node) or (self._loop(node), False)
        if node.kind == "decl":
            return self._declaration(node), False
        edits = []
        for kid in node.kids:
            if kid is not None:
                edits.append((kid, self.expression(kid).text))
        return self._edited(node, edits), node.kind in ("return", "jump")

    def _if(self, node: Node) -> tuple[str, bool]:
        condition, then, other = node.kids
        assert condition is not None
        assert then is not None
        test = self.expression(condition, truth=True)
        if test.known is not None and test.pure:
            chosen = then if test.known else other
            return self._alone(chosen) if chosen is not None else ("", False)
        first, stops = self._part(then)
        second, also = self._branch(other) if other is not None else ("", False)
        if test.pure and second in ("", "{}") and first == "{}":
            return "", False
        edits = [(condition, test.text), (then, first)]
        if other is None:
            return self._edited(node, edits), False
        if second in ("", "{}"):
            return self._edited(Node("if", node.start, then.end), edits), False
        return self._edited(node, [*edits, (other, second)]), stops and also

    def _branch(self, node: Node) -> tuple[str, bool]:
        """What comes behind an else."""
        if node.kind != "if":
            return self._part(node)
        condition, then, other = node.kids
        assert condition is not None
        mark = len(self.calls)
        test = self.expression(condition, truth=True)
        if test.known is None or not test.pure:
            del self.calls[mark:]
            return self._if(node)
        chosen = then if test.known else other
        return ("", False) if chosen is None else self._branch(chosen)

    def _alone(self, node: Node) -> tuple[str, bool]:
        """A branch that is always taken, without its braces unless its names would be declared twice."""
        if node.kind != "block":
            return self._statement(node)
        names = [kid.word for part in node.kids if part is not None and part.kind == "decl" for kid in part.kids if kid is not None]
        if any(self.declared[name] > 1 for name in names):
            return self._block(node, loop=False)
        text, stops = self._inside(node)
        return re.sub(r"^  ", "", text, flags=re.M).lstrip(), stops

    def _once(self, node: Node) -> tuple[str, bool] | None:
        """A loop of one turn as what it does, if it is `for (T i = a; i < a + 1; ++i)` and what else it steps is not used behind it."""
        first, test, step, body = node.kids if node.kind == "for" else (None,) * 4
        if first is None or test is None or step is None or body is None or first.kind != "decl" or len(first.kids) != 1 or test.word != "<":
            return None
        (variable,), (left, right) = first.kids, test.kids
        if variable is not None and left is not None and right is not None and variable.kids[0] is not None and left.word == variable.word:
            mark = len(self.calls)
            start, end = self.expression(variable.kids[0]), self.expression(right)
            del self.calls[mark:]
            kind = self.text[first.start : variable.start]
            unsigned = end.unsigned or UNSIGNED.fullmatch(kind) is not None
            if not (unsigned or SIGNED.fullmatch(kind)) or (unsigned and any(out.range is not None and out.range.low < 0 for out in (start, end))):
                return None
            if start.pure and end.pure and (start.text == end.text or (start.range and end.range and start.range.low >= end.range.high)):
                return "", False
        steps = [part for part in step.kids if part is not None] if step.kind == "comma" else [step]
        names = [name for part in steps for name in changed(part) if not any(acts(kid) for kid in part.kids if kid is not None)]
        assert variable is not None
        assert left is not None
        assert right is not None
        if left.word != variable.word or variable.kids[0] is None or not steps or steps[0].word != "++" or len(names) != len(steps) or names[0] != left.word:
            return None
        if (
            body.kind != "block"
            or any(part.kind == "declarator" and part.word == left.word for part in body.walk())
            or any(part.kind in ("jump", "return") for part in body.walk())
        ):
            return None
        behind = {part.word for part in self.tree.walk() if part.start >= node.end}
        around = any(part.kind in LOOPS and part.start < node.start and node.end <= part.end for part in self.tree.walk())
        inner = {target for part in body.walk() for target in changed(part)}
        shared = {name for part in self.tree.walk() if part.kind == "unary" and part.word == "&" for name in changed(part)}
        if inner & set(names) or (len(names) > 1 and (around or (behind | shared) & set(names[1:]))):
            return None
        mark = len(self.calls)
        start, end = self.expression(variable.kids[0]), self.expression(right)
        del self.calls[mark:]
        if start.known is None or end.known != start.known + 1 or not (start.pure and end.pure):
            return None
        known, limits = dict(self.known), dict(self.limits)
        self.known[left.word] = (Range(start.known, start.known), "unsigned" in self.text[first.start : variable.start])
        self.limits.pop(left.word, None)
        self.limits |= {name: node.end for name in names[1:] if self.limits.get(name, node.end) == node.start}
        found = self._alone(body)
        self.known, self.limits = known, limits
        return found

    def _loop(self, node: Node) -> str:
        *head, body = node.kids
        assert body is not None
        edits: list[tuple[Node, str]] = []
        never = False
        for index, kid in enumerate(head):
            if kid is None:
                continue
            if node.kind == "for" and index == 0:
                text, _ = self._statement(kid)
                edits.append((kid, text or ";"))
                continue
            out = self.expression(kid, truth=node.kind != "for" or index == 1)
            test = node.kind == "while" or index == 1
            if test and out.known == 0 and out.pure and node.kind != "do":
                never = True
                break
            edits.append((kid, out.text))
        if never:
            first = head[0]
            kept = node.kind == "for" and first is not None and first.kind == "expr"
            if not kept and first is not None and acts(first):
                return f"{{ {edits[0][1]} }}"
            return edits[0][1] if kept else ""
        if body.kind == "block":
            edits.append((body, self._block(body, loop=True)[0]))
        else:
            edits.append((body, self._part(body)[0]))
        return self._edited(node, edits)

    def _declaration(self, node: Node) -> str:
        """Without the variables that are constants."""
        kids = [kid for kid in node.kids if kid is not None]
        kind = self.text[node.start : kids[0].start]
        kept = []
        for kid in kids:
            text, gone = self._declarator(kid, kind)
            if not gone and kid.plain and self.declared[kid.word] == 1:
                self.kinds[kid.word] = kind.strip()
            if not gone:
                kept.append((kid, text))
        if not kept:
            return ""
        if len(kept) == len(kids):
            return self._edited(node, kept)
        return kind + ", ".join(text for _, text in kept) + ";"

    def _declarator(self, kid: Node, kind: str) -> tuple[str, bool]:
        value, *sizes = kid.kids
        edits = [(size, self.expression(size).text) for size in sizes if size is not None]
        if value is None:
            return self._edited(kid, edits), False
        out = self.expression(value)
        text = self._edited(kid, [*edits, (value, out.within(ASSIGN))])
        out = replace(out, fact=through(out.fact, kind + self.text[kid.start : kid.end].partition("=")[0]))
        if self.declared[kid.word] > 1 or "static" in kind:
            return text, False
        if kid.word not in self.limits and value.kind != "name" and self._copies(out, kind, kid):
            self.aliases[kid.word] = out
            return text, True
        fact, unsigned = out.fact, bool(UNSIGNED.fullmatch(kind))
        if isinstance(fact, Range) and not (kid.plain and fact.fits and (SIGNED.fullmatch(kind) or (unsigned and fact.low >= 0))):
            return text, False
        if fact is not None:
            self.known[kid.word] = (fact, unsigned)
        return text, out.known is not None and out.pure and kid.word not in self.limits

    def _copies(self, out: Out, kind: str, kid: Node) -> bool:
        """Whether a new variable is another name for one that keeps its value."""
        name = out.text
        return kid.plain and re.fullmatch(r"[A-Za-z_]\w*", name) is not None and self.kinds.get(name) == kind.strip() and name not in self.limits
