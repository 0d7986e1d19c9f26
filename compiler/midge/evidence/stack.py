# SPDX-License-Identifier: Apache-2.0
"""Stack: the deepest path of the call tree by what the compiler and the generators state, held against the painted stack of a run on the emulated core.

The bound itself is midge.report.stack. Here assembly is read a second time, from the objects: what a routine pushes must be no more than its generator
states, and functions of the compiler's own library that the code calls get their frames so.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from midge.codegen.kernels import rename
from midge.errors import ToolMissing
from midge.evidence.part import FAILED, NOT_RUN, PASSED, Part, Subject, Table, run, version_of
from midge.program import Program, Routine
from midge.report.stack import FLAG, CallGraph, StackBound, bound, call_graph, entries, firmware_frame, plain
from midge.run.firmware import library_sources
from midge.run.qemu import run_qemu
from midge.targets import Target
from midge.toolchain import compile_objects, compiler_of, find_tool, function_aliases, link_relocatable

KEY, TITLE = "stack", "Stack bound"
ABOUT = (
    "The longest path through all functions of the library, in bytes below the caller of its functions: frames as gcc states them (-fcallgraph-info=su), "
    "frames of generated assembly as their generators state them, calls through pointers to every function they may reach. It holds if it is no less than the "
    "painted stack of a run on the emulated core, which it is compared with."
)
LIMITS = (
    "For this compiler, these flags. Interrupt handlers, and functions that take rows of output, need stack of their own. Painted stack is what the samples "
    "reached."
)
OPT = "-O2"
_STATED = re.compile(r"/\* Does what (\w+) does, on (\d+) bytes of stack\. \*/\n[^\n]*__attribute__\(\(naked\)\) \w+ (\w+)\(")
_FUNCTION = re.compile(r"^[0-9a-f]+ <(\w+)>:$")
_PUSH = re.compile(r"\t(?:push|stmdb\tsp!,|stmfd\tsp!,)\s*\{([^}]*)\}")
_VPUSH = re.compile(r"\tvpush\s*\{([^}]*)\}")
_SUB = re.compile(r"\tsubw?(?:\.w)?\tsp, (?:sp, )?#(\d+)")
_STORE = re.compile(r"\t(?:str|strd)(?:\.w)?\t[^\[]*\[sp, #-(\d+)\]!")
_CALL = re.compile(r"R_ARM_THM_(?:CALL|JUMP24)\s+(\w+)|\t(?:bl|b|b\.w|b\.n)\t[0-9a-f]+ <(\w+)>")


def prove(subject: Subject) -> Part:
    """The bound, the routines' frames stated and counted, and the painted stack.

    Raises: ToolMissing without cross compiler; VerifyFailed if the code crashes.
    """
    target = subject.target
    if not target.prefix.startswith("arm"):
        return Part(KEY, TITLE, NOT_RUN, f"not run: made for Cortex-M targets, this library is for {target.name}", ABOUT)
    routines = stated_routines(subject)
    with tempfile.TemporaryDirectory(prefix="midge-stack-") as name:
        work = Path(name)
        found, graph, counted = static_bound(subject, target, routines, work)
        wrapper = firmware_frame(subject.manifest, target, subject.source, work)
    frames = [(symbol, routine.stack_nbytes, counted.get(symbol, 0)) for symbol, routine in routines.items()]
    wrong = [symbol for symbol, stated, own in frames if own > stated]
    try:
        painted = run_qemu(subject.directory, target, subject.stacked(1), opt=OPT).stack_bytes
    except ToolMissing as error:
        return _part(subject, found, graph, frames, NOT_RUN, f"bound {found.nbytes:,} bytes; not compared with a run: {error}", None, wrapper)
    assert painted is not None
    holds = found.nbytes + wrapper >= painted and not found.open_ends and not wrong
    says = f"bound {found.nbytes:,} bytes, painted {max(0, painted - wrapper):,} bytes"
    if found.open_ends:
        says += f"; not bounded: {', '.join(found.open_ends)}"
    if wrong:
        says += f"; more pushed than stated by {', '.join(wrong)}"
    return _part(subject, found, graph, frames, PASSED if holds else FAILED, says, painted - wrapper, wrapper)


def stated_routines(subject: Subject) -> dict[str, Routine]:
    """Emitted name -> routine, from what the sources say of each."""
    path = subject.source / f"{subject.name}_routines.c"
    text = path.read_text("utf-8") if path.is_file() else ""
    return {symbol: Routine(symbol, twin, "", (), int(nbytes)) for twin, nbytes, symbol in _STATED.findall(text)}


def static_bound(subject: Subject, target: Target, routines: dict[str, Routine], work: Path) -> tuple[StackBound, CallGraph, dict[str, int]]:
    """The bound, the call graph it is of, and bytes pushed by each function of the objects as counted in their instructions."""
    objects = compile_objects(library_sources(subject.directory), work, target, opt=OPT, includes=(subject.source,), extra=(FLAG,))
    program = Program(subject.name, "", target.name, "", routines={rename(symbol, subject.name): routine for symbol, routine in routines.items()})
    graph = call_graph(program, work)
    joined = link_relocatable(objects, work / "joined.o", target)
    counted, calls = pushes(_disassembled(target, joined, work))
    for names in function_aliases(joined):
        shown = next((name for name in names if name in counted), names[0])
        for name in names:
            counted[name], calls[name] = counted.get(shown, 0), calls.get(shown, set())
    known = {plain(title) for title in graph.frames}
    pending = [(title, callee) for title in list(graph.frames) for callee in sorted(calls.get(plain(title), ()))]
    while pending:  # calls that the compiler made up: divisions, long products, tables of a switch
        title, callee = pending.pop()
        if callee in counted and callee not in known:
            graph.calls.setdefault(title, set()).add(callee)
            if callee not in graph.frames:
                graph.frames[callee] = counted[callee]
                pending += [(callee, other) for other in sorted(calls.get(callee, ())) if other != callee]
    found = bound(graph, entries(program))
    # Division by zero ends in a trap of the run-time library, which never returns.
    return replace(found, open_ends=tuple(end for end in found.open_ends if not end.startswith(("raise ", "abort ")))), graph, counted


def pushes(listing: str) -> tuple[dict[str, int], dict[str, set[str]]]:
    """(bytes pushed, functions called) of each function of a disassembly. Every push of a function counts, so that no path pushes more."""
    counted: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    function = ""
    for line in listing.splitlines():
        if match := _FUNCTION.match(line):
            function = match[1]
            counted.setdefault(function, 0)
            continue
        if not function:
            continue
        counted[function] += _pushed(line)
        if match := _CALL.search(line):
            callee = match[1] or match[2]
            if callee != function:
                calls.setdefault(function, set()).add(callee)
    return counted, calls


def _pushed(line: str) -> int:
    """Bytes that one instruction takes of the stack."""
    if match := _PUSH.search(line):
        return 4 * _registers(match[1])
    if match := _VPUSH.search(line):
        return (8 if "d" in match[1] else 4) * _registers(match[1])
    match = _SUB.search(line) or _STORE.search(line)
    return int(match[1]) if match else 0


def _registers(text: str) -> int:
    """How many registers a list like `r4-r7, lr` names; objdump writes all but ranges of d and s one by one."""
    names = {"sl": "r10", "fp": "r11", "ip": "r12", "sp": "r13", "lr": "r14", "pc": "r15"}
    count = 0
    for item in text.split(","):
        first, _, last = item.strip().partition("-")
        first, last = names.get(first, first), names.get(last, last)
        count += int(last[1:]) - int(first[1:]) + 1 if last else 1
    return count


def _disassembled(target: Target, joined: Path, work: Path) -> str:
    return run([find_tool(f"{target.prefix}objdump"), "-dr", joined], work).stdout


def _part(
    subject: Subject, found: StackBound, graph: CallGraph, frames: list[tuple[str, int, int]], status: str, says: str, painted: int | None, wrapper: int
) -> Part:
    path = tuple((name, max((nbytes for title, nbytes in graph.frames.items() if plain(title) == name), default=0)) for name in found.path)
    every = tuple(sorted(((plain(title), nbytes) for title, nbytes in graph.frames.items()), key=lambda row: (-row[1], row[0])))
    tables = [
        Table("the deepest path", ("function", "bytes"), path),
        Table("all functions", ("function", "frame, bytes"), every),
        Table("generated assembly", ("routine", "bytes stated", "bytes counted in its instructions"), tuple(frames)),
    ]
    figures: dict[str, Any] = {
        "bound": found.nbytes,
        "painted": painted,
        "path": list(found.path),
        "open_ends": list(found.open_ends),
        "test_firmware": wrapper,
    }
    figures["compiler"] = version_of(compiler_of(subject.target))
    figures["flags"] = [OPT, *subject.target.flags]
    return Part(KEY, TITLE, status, says, ABOUT, LIMITS, tuple(table for table in tables if table.rows), figures=figures)
