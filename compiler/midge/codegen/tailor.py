# SPDX-License-Identifier: Apache-2.0
"""Kernels cut to one library: what is the same in all of its calls is written down as a number, and code that then cannot run is left out.

A kernel serves all shapes; a library has the few of its layers. Facts go from the calls of a Program down through the functions: a parameter that every caller
gives the same number becomes that number and leaves the list of parameters. Structs of parameters keep their layout, which generated assembly relies on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from midge.codegen.c_syntax import NotUnderstood
from midge.codegen.facts import Fact, Targets, join_all, tagged
from midge.codegen.sources import Item, blank, words_of
from midge.codegen.specialise import Specialiser
from midge.codegen.tidy import acts, called, tree_of, without_arguments, without_unused
from midge.errors import IRError

Items = dict[str, list[Item]]
_CALLED = {"if", "for", "while", "switch", "return", "sizeof", "memcpy", "memset", "memmove", "memcmp"}  # what stands before a parenthesis, too


@dataclass(frozen=True)
class Use:
    """One call of a kernel: what its arguments are, in the order of its parameters."""

    symbol: str
    arguments: tuple[Fact, ...]


@dataclass
class _Function:
    """A definition: `head` up to the parenthesis of its parameters, these as (type, name, brackets), and its body."""

    path: str
    index: int
    head: str
    parameters: list[tuple[str, str, str]]
    body: str
    indirect: bool  # calls functions through pointers
    sites: list[tuple[Fact, ...]] = field(default_factory=list)

    @property
    def static(self) -> bool:
        return self.head.startswith("static")

    def text(self) -> str:
        listed = ", ".join("".join(parts) for parts in self.parameters) or "void"
        return f"{self.head}({listed}) {self.body}"


def tailor(items: Items, uses: Iterable[Use], roots: Iterable[str]) -> Items:
    """The items by file, without what no call of `uses` reaches. `roots`: names that stay as they are reached from elsewhere."""
    work = _Work(items, list(uses), frozenset(roots))
    work.specialise()
    work.tidy()
    return work.result()


class _Work:
    def __init__(self, items: Items, uses: list[Use], roots: frozenset[str]) -> None:
        self.items, self.uses = items, [Use(use.symbol, tuple(tagged(fact, i) for fact in use.arguments)) for i, use in enumerate(uses)]
        every = [item for group in items.values() for item in group]
        self.types = frozenset(name for item in every if item.text.startswith("typedef") for name in item.names)
        self.enums = _enumerators(every)
        self.returns = {name: item.text.partition("(")[0] for item in every if item.is_function for name in item.names}
        self.functions: dict[str, _Function] = {}
        self.entries = {use.symbol for use in uses}
        self.twins = {name for use in uses for fact in use.arguments for name in _targets(fact)}
        self.roots = roots | self.entries
        self.fixed: set[str] = set()  # functions that are called by what is not looked at
        often = Counter(name for item in every if item.is_function for name in item.names)
        for path, group in items.items():
            for index, item in enumerate(group):
                function = _parsed(path, index, item, self.types)
                if function is not None and all(often[name] == 1 for name in item.names):
                    self.functions |= dict.fromkeys(item.names, function)
                elif not _declares(item):
                    self.fixed |= item.words
                    if item.is_function and set(re.findall(r"(\w+|[])])\s*\(", blank(item.text))) - often.keys() - _CALLED:
                        self.fixed |= self.twins
        self.kept = self.entries | self.twins | {name for name, function in self.functions.items() if not function.static}

    def specialise(self) -> None:
        """Rewrite every body, callers first."""
        for use in self.uses:
            if use.symbol in self.functions:
                self.functions[use.symbol].sites.append(use.arguments)
        done: set[str] = set()
        for name in self._order():
            function = self.functions[name]
            known = [None] * len(function.parameters) if name in self.fixed else [join_all(list(group)) for group in zip(*function.sites, strict=True)]
            facts = {parameter: fact for (_, parameter, _), fact in zip(function.parameters, known or [None] * len(function.parameters), strict=True)}
            if not function.sites and name not in self.fixed | self.twins:
                continue  # nothing that is left calls it
            found = Specialiser(function.body, {n: kind + size for kind, n, size in function.parameters}, facts, self.enums, self.types, self.returns)
            function.body = found.body()
            done.add(name)
            for callee, arguments in found.calls:
                if callee in self.functions:
                    self.functions[callee].sites.append(arguments)
            reached = found.mentions | {callee for callee, _ in found.calls} | (self.twins if found.astray else set())
            if reached & done:
                raise IRError(f"kernels: {name} calls {', '.join(sorted(reached & done))}, which was cut before it")
            self.fixed |= (found.mentions & self.functions.keys()) | (self.twins if found.astray else set())

    def _order(self) -> list[str]:
        """Names, callers before those they call."""
        order: list[str] = []
        done: set[str] = set()

        def visit(name: str) -> None:
            if name in done:
                return
            done.add(name)
            callees = words_of(self.functions[name].body) | (self.twins if name in self.entries or self.functions[name].indirect else set())
            for callee in sorted(callees & self.functions.keys()):
                visit(callee)
            order.append(name)

        for name in sorted(self.functions):
            visit(name)
        return order[::-1]

    def tidy(self) -> None:
        """Leave out variables and parameters that nothing uses any more."""
        while True:
            for function in self.functions.values():
                function.body = without_unused(function.body, self.types)
            gone = self._unused_parameters()
            if not gone:
                break
            for function in self.functions.values():
                function.body = without_arguments(function.body, gone, self.types)
            for name, places in gone.items():
                function = self.functions[name]
                function.parameters = [parts for i, parts in enumerate(function.parameters) if i not in places]
        for name, function in self.functions.items():
            if name in self.kept | self.fixed:
                function.body = _voided(function)

    def _unused_parameters(self) -> dict[str, set[int]]:
        """Function -> numbers of parameters that may go: unused, and whatever is given for them has no effects."""
        found = {}
        for name, function in self.functions.items():
            if name not in self.fixed | self.kept:
                words = words_of(function.body)
                places = {i for i, (_, parameter, _) in enumerate(function.parameters) if parameter not in words}
                if places:
                    found[name] = places
        for function in self.functions.values():
            for node in tree_of(function.body, self.types).walk():
                name = called(node)
                if name in found:
                    found[name] -= {i for i, kid in enumerate(node.kids[1:]) if kid is not None and acts(kid)}
        return {name: places for name, places in found.items() if places}

    def result(self) -> Items:
        """The items with their new bodies, as far as roots reach them."""
        changed = {(function.path, function.index): function for function in self.functions.values()}
        fresh: Items = {}
        for path, group in self.items.items():
            fresh[path] = [
                replace(item, text=changed[path, i].text(), words=words_of(changed[path, i].text())) if (path, i) in changed else item
                for i, item in enumerate(group)
            ]
        by_name: dict[str, list[Item]] = {}
        for item in (item for group in fresh.values() for item in group):
            for name in item.names:
                by_name.setdefault(name, []).append(item)
        reached: set[str] = set()
        pending = [name for name in self.roots | self.twins if name in by_name]
        while pending:
            name = pending.pop()
            if name not in reached:
                reached.add(name)
                pending += [word for item in by_name[name] for word in item.words if word in by_name]
        return {path: [item for item in group if item.names & reached] for path, group in fresh.items()}


def _voided(function: _Function) -> str:
    """The body of a function whose parameters others count on, the unused ones cast to void."""
    words = words_of(function.body)
    lines = [f"  (void){name};" for _, name, _ in function.parameters if name not in words]
    if not lines:
        return function.body
    inner = function.body[1:-1].strip("\n").rstrip()
    if "\n" not in function.body:
        inner = f"  {inner.strip()}"
    return "\n".join(["{", *lines, *([inner] if inner.strip() else []), "}"])


def _targets(fact: Fact) -> frozenset[str]:
    if isinstance(fact, Targets):
        return fact.names
    members = getattr(fact, "members", {})
    return frozenset(name for member in members.values() for name in _targets(member))


def _declares(item: Item) -> bool:
    """Whether an item only says what functions or types look like."""
    return re.match(r"typedef\b|enum\b|struct\b|[^{=#]*\)\s*;\s*\Z", item.text) is not None


def _parsed(path: str, index: int, item: Item, types: frozenset[str]) -> _Function | None:
    if not item.is_function or len(item.names) != 1:
        return None
    bare = blank(item.text)
    brace, start = bare.index("{"), bare.index("(")
    inside = bare[start + 1 : bare.rindex(")", 0, brace)]
    parameters = []
    for text in inside.split(",") if inside.strip() != "void" else []:
        match = re.fullmatch(r"\s*(.*?)(\w+)((?:\[\w*\])*)\s*", text, re.S)
        if match is None or "(" in text:
            return None
        parameters.append((" ".join(match[1].split()) + (" " if not match[1].rstrip().endswith("*") else ""), match[2], match[3]))
    try:
        nodes = list(tree_of(item.text[brace:], types).walk())
    except NotUnderstood:
        return None
    own = {name for _, name, _ in parameters} | {node.word for node in nodes if node.kind == "declarator"}
    indirect = any(node.kind == "call" and called(node) in own | {""} for node in nodes)
    return _Function(path, index, " ".join(item.text[:start].split()), parameters, item.text[brace:], indirect)


def _enumerators(items: Sequence[Item]) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in items:
        match = re.fullmatch(r"(?:typedef )?enum[^{]*\{([^}]*)\}[^;]*;", blank(item.text).strip(), re.S)
        value = 0
        for entry in match[1].split(",") if match else ():
            name, _, given = (part.strip() for part in entry.partition("="))
            if not name:
                continue
            if given and not re.fullmatch(r"-?(0|[1-9]\d*|0[xX][\da-fA-F]+)", given):
                break
            value = int(given, 0) if given else value
            found[name] = value
            value += 1
    return found
