# SPDX-License-Identifier: Apache-2.0
"""An upper bound of the stack a library needs: the deepest path of its call tree, from the frames the compiler states.

gcc writes frames and calls of each source (-fcallgraph-info=su). What it cannot know is added here: a generated routine's own pushes are what its
generator states, and a call through a pointer reaches any layer function (from the library's own file) or any routine (from a kernel), or its twin
where the assembly is not compiled in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midge.codegen.kernels import rename
from midge.program import Program
from midge.run.firmware import adapter_header
from midge.targets import Target
from midge.toolchain import compile_objects, runtime_dir

FLAG = "-fcallgraph-info=su"
_NODE = re.compile(r'^node: \{ title: "([^"]+)" label: "([^"]*)"')
_EDGE = re.compile(r'^edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')
_FRAME = re.compile(r"(\d+) bytes \((\w+)")
_INDIRECT = "__indirect_call"
LEAVES = {
    **dict.fromkeys(("memcpy", "memset", "memmove"), 32),
    **dict.fromkeys(("__aeabi_idiv", "__aeabi_uidiv", "__aeabi_idivmod", "__aeabi_uidivmod"), 8),
    "__aeabi_lmul": 28,
}
"""Stack of what C library and run-time library supply. newlib's copies need 8 to 20 bytes on a Cortex-M, 32 leaves room; the others are what libgcc of gcc 12
pushes for cores that cannot divide or multiply long."""


@dataclass(frozen=True)
class StackBound:
    """Bytes below the caller of NAME_run, the path that needs them, and what is not bounded (empty if the bound holds)."""

    nbytes: int
    path: tuple[str, ...]
    open_ends: tuple[str, ...] = ()


@dataclass
class CallGraph:
    """Frames in bytes and calls by function. A static function is `file.c:name`, so that equal names of two files stay apart."""

    frames: dict[str, int] = field(default_factory=dict)
    calls: dict[str, set[str]] = field(default_factory=dict)
    dynamic: set[str] = field(default_factory=set)

    def read(self, text: str) -> None:
        """Add the .ci file of one source."""
        for line in text.splitlines():
            if match := _NODE.match(line):
                frame = _FRAME.search(match[2])
                if frame is not None:
                    self.frames[match[1]] = int(frame[1])
                    if frame[2] != "static":
                        self.dynamic.add(match[1])
            elif match := _EDGE.match(line):
                self.calls.setdefault(match[1], set()).add(match[2])


def plain(title: str) -> str:
    """The name of a function as C spells it."""
    return title.rpartition(":")[2]


def call_graph(program: Program, folder: Path) -> CallGraph:
    """The call graph of the library compiled into `folder` with FLAG, calls through pointers included."""
    graph = CallGraph()
    for path in sorted(folder.glob("*.ci")):
        graph.read(path.read_text("utf-8", "replace"))
    routines = {rename(routine.symbol, program.name): routine for routine in program.routines.values()}
    compiled = {plain(title) for title in graph.frames}
    twins = {rename(routine.twin, program.name) for symbol, routine in routines.items() if symbol not in compiled}
    own = re.compile(rf"{re.escape(program.name)}_layer\d+(_\d+)?\Z")
    layers = {title for title in graph.frames if own.match(plain(title))}
    inner = {title for title in graph.frames if plain(title) in routines or plain(title) in twins}
    for title in inner:
        if plain(title) in routines:
            graph.frames[title] = max(graph.frames[title], routines[plain(title)].stack_nbytes)
    public, main = entries(program), f"{program.name}.c:"
    drivers = {title for title in graph.calls if plain(title) in public or main in title}
    for source, targets in graph.calls.items():
        if _INDIRECT in targets:
            targets.discard(_INDIRECT)
            targets |= layers if source in drivers else inner
    return graph


def firmware_frame(manifest: dict[str, Any], target: Target, source: Path, work: Path) -> int:
    """Bytes of the test firmware's own function around NAME_run, which painted stack includes.

    Raises: ToolMissing without cross compiler.
    """
    folder, runtime = work / "firmware", runtime_dir()
    folder.mkdir()
    (folder / "midge_model.h").write_text(adapter_header(manifest), "utf-8")
    compile_objects([runtime / "bench_main.c"], folder, target, includes=(source, runtime, folder), extra=(FLAG,))
    graph = CallGraph()
    for path in folder.glob("*.ci"):
        graph.read(path.read_text("utf-8", "replace"))
    return max((nbytes for title, nbytes in graph.frames.items() if plain(title) == "model_run"), default=0)


def bound(graph: CallGraph, entries: list[str]) -> StackBound:
    """The deepest path from any of the entry functions."""
    known: dict[str, tuple[int, tuple[str, ...]]] = {}
    open_ends: set[str] = {f"{plain(title)} has a frame of unknown size" for title in graph.dynamic}

    def depth(title: str, above: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
        if title in above:
            open_ends.add(f"{plain(title)} calls itself")
            return 0, ()
        if title not in known:
            if title not in graph.frames and title not in LEAVES:
                open_ends.add(f"{plain(title)} is not part of the library")
            deepest = max((depth(target, (*above, title)) for target in sorted(graph.calls.get(title, ()))), default=(0, ()))
            known[title] = (graph.frames.get(title, LEAVES.get(title, 0)) + deepest[0], (plain(title), *deepest[1]))
        return known[title]

    found = [depth(title, ()) for title in sorted(graph.frames) if plain(title) in entries]
    nbytes, path = max(found, default=(0, ()))
    return StackBound(nbytes, path, tuple(sorted(open_ends)))


def entries(program: Program) -> list[str]:
    """The functions of a library that firmware calls and that run layers."""
    return [f"{program.name}_{name}" for name in ("run", "step", "begin", "push_rows", "finish")]
