# SPDX-License-Identifier: Apache-2.0
"""Bodies of functions without variables that nothing reads, without loops that do nothing, without arguments that nobody takes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from midge.codegen.c_statements import Parser
from midge.codegen.c_syntax import Node
from midge.codegen.simplify import changed
from midge.codegen.sources import blank


def without_unused(text: str, types: frozenset[str]) -> str:
    """A body without variables that nothing reads, as long as what they are given has no effects."""
    while True:
        tree = tree_of(text, types)
        found = next((edit for node in tree.walk() for edit in (_unused(node, text) if node.kind == "decl" else _idle(node, text))), None)
        found = found or next(_unread(tree, text), None)
        if found is None:
            return _without_last(tree, text)
        text = text[: found[0]] + text[found[1] :]


def _unread(tree: Node, text: str) -> Iterator[tuple[int, int]]:
    """Statements, as lines, that do nothing but assign to a variable that nothing reads."""
    declared = [kid.word for node in tree.walk() if node.kind == "decl" for kid in node.kids if kid is not None and kid.plain]
    given = [(node, name) for node in tree.walk() if node.kind == "expr" and (name := _assigned(node)) in declared]
    words = Counter(re.findall(r"\w+", blank(text)))
    for node, name in given:
        read = words[name] - 1 - sum(other == name for _, other in given)
        line = text[: node.start].rstrip(" ")
        if not read and declared.count(name) == 1 and line.endswith("\n") and not any(acts(kid) for kid in _assignment(node).kids if kid is not None):
            yield len(line) - 1, node.end


def _without_last(tree: Node, text: str) -> str:
    """What a function ends with is not kept in a variable."""
    last = tree.kids[-1] if tree.kids else None
    if last is None or last.kind != "expr" or not _assigned(last):
        return text
    value = _assignment(last).kids[1]
    assert value is not None
    return text[: last.start] + "(void)" + text[value.start :] if value.kind == "call" and _assignment(last).word == "=" else text


def _assignment(node: Node) -> Node:
    (inner,) = node.kids
    assert inner is not None
    return inner


def _assigned(node: Node) -> str:
    """The variable that a statement assigns to and does nothing else with, '' if it does not."""
    inner = _assignment(node)
    left = inner.kids[0] if inner.kind == "assign" else None
    return left.word if left is not None and left.kind == "name" else ""


def _unused(node: Node, text: str) -> Iterable[tuple[int, int]]:
    """Where a declaration has what is not used."""
    kids = [kid for kid in node.kids if kid is not None]
    for i, kid in enumerate(kids):
        if len(re.findall(rf"\b{kid.word}\b", blank(text))) > 1 or any(part is not None and acts(part) for part in kid.kids):
            continue
        if len(kids) > 1:
            yield (kid.start, kids[i + 1].start) if i == 0 else (kids[i - 1].end, kid.end)
        elif text[: node.start].rstrip(" ").endswith("\n"):
            yield len(text[: node.start].rstrip(" ")) - 1, node.end
        else:
            yield node.start, node.end - 1  # the first part of a for


def _idle(node: Node, text: str) -> Iterable[tuple[int, int]]:
    """A loop that counts and does nothing else, as a line."""
    if node.kind == "for" and node.kids[3] is not None and node.kids[3].kind == "block" and not node.kids[3].kids:
        first, test, step = node.kids[:3]
        own = {kid.word for kid in first.kids if kid is not None} if first is not None and first.kind == "decl" else set()
        parts = [] if step is None else [part for part in step.kids if part is not None] if step.kind == "comma" else [step]
        counted = all(set(changed(part)) & own and not any(acts(kid) for kid in part.kids if kid is not None) for part in parts)
        begins = first is not None and not any(acts(part) for part in first.kids if part is not None)
        if counted and begins and test is not None and not acts(test) and text[: node.start].rstrip(" ").endswith("\n"):
            yield len(text[: node.start].rstrip(" ")) - 1, node.end


def without_arguments(text: str, gone: Mapping[str, set[int]], types: frozenset[str]) -> str:
    """A body whose calls of the functions in `gone` do without these arguments."""
    edits = []
    for node in tree_of(text, types).walk():
        name = called(node)
        if name not in gone:
            continue
        given = [kid for kid in node.kids[1:] if kid is not None]
        left = [i for i in range(len(given)) if i not in gone[name]]
        if given and not left:
            edits.append((given[0].start, given[-1].end))
            continue
        for i in range(len(given)):
            if i in gone[name]:
                after = next((given[j].start for j in left if j > i), None)
                before = max((given[j].end for j in left if j < i), default=None)
                edits.append((before if before is not None and after is None else given[i].start, given[i].end if after is None else given[i + 1].start))
    for start, end in _merged(edits):
        text = text[:start] + text[end:]
    return text


def _merged(edits: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans without overlaps, last first."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(edits):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found[::-1]


def tree_of(text: str, types: frozenset[str]) -> Node:
    return Parser(text, types).statement()


def called(node: Node) -> str:
    function = node.kids[0] if node.kind == "call" else None
    return function.word if function is not None and function.kind == "name" else ""


def acts(node: Node) -> bool:
    """Whether computing it may do anything."""
    return any(part.kind in ("assign", "postfix", "call") or (part.kind == "unary" and part.word in ("++", "--")) for part in node.walk())
