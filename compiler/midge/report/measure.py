# SPDX-License-Identifier: Apache-2.0
"""What can only be had by building and running a written library: exactness, instructions, stack, bytes of code. What a missing tool leaves out, it says."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from midge.codegen.manifest import load_manifest
from midge.errors import ToolMissing, Unsupported, UsageError
from midge.ir import Array
from midge.program import Program
from midge.report.stack import FLAG, StackBound, bound, call_graph, entries, firmware_frame
from midge.report.trace import Symbol, symbols_of
from midge.run.firmware import library_sources
from midge.run.verify import Verification, verify
from midge.targets import Target, get_target
from midge.toolchain import LIBRARY_FLAGS, Sizes, compile_objects, compiler_of, section_sizes

OPT = "-O2"


@dataclass(frozen=True)
class Built:
    """A library as the target's compiler built it: sizes of all objects and of the functions and tables in them, the bound of its stack."""

    compiler: str
    sizes: Sizes
    symbols: tuple[Symbol, ...]
    stack: StackBound | None
    firmware_frame: int = 0  # bytes of painted stack that are the test firmware's


@dataclass(frozen=True)
class Measured:
    """Results, and for each that is missing the reason by its name."""

    verification: Verification | None = None
    built: Built | None = None
    missing: dict[str, str] = field(default_factory=dict)


def build_flags(target: Target) -> tuple[str, ...]:
    """The flags that figures of a report were made with."""
    return (*LIBRARY_FLAGS, OPT, *target.flags)


def measure(directory: Path, program: Program, samples: Sequence[Sequence[Array]]) -> Measured:
    """Verify the library in `directory` on its emulated core, or on the host if there is none; build it and look at the objects.

    Raises: VerifyFailed if the code crashes. A difference in bytes is no error here: it stands in the result.
    """
    target, missing = get_target(program.target), dict[str, str]()
    verification = built = None
    try:
        if target.board is None:
            raise UsageError(f"nothing emulates the target {target.name}")
        verification = verify(directory, samples, on="qemu", target=target.name)
    except (ToolMissing, UsageError, Unsupported) as error:
        missing["instructions"] = missing["estimated cycles"] = missing["painted stack"] = str(error)
    if verification is not None and verification.estimated is None:
        missing["estimated cycles"] = verification.not_estimated
    if verification is None:
        try:
            verification = verify(directory, samples, on="host")
        except ToolMissing as error:
            missing["verification"] = str(error)
    try:
        built = build(directory, program, target)
    except ToolMissing as error:
        missing["code size"] = missing["stack bound"] = str(error)
    if built is not None and built.stack is None:
        missing["stack bound"] = "it is made for Cortex-M targets, where gcc states the frames of every function"
    return Measured(verification, built, missing)


def build(directory: Path, program: Program, target: Target) -> Built:
    """Compile the library for its target.

    Raises: ToolMissing.
    """
    compiler, arm = compiler_of(target), target.prefix.startswith("arm")
    with tempfile.TemporaryDirectory(prefix="midge-report-") as name:
        work = Path(name)
        sources = library_sources(directory)
        objects = compile_objects(sources, work, target, opt=OPT, includes=(directory / "src",), extra=(FLAG,) if arm else ())
        each = [section_sizes(path) for path in objects]
        sizes = Sizes(sum(s.text for s in each), sum(s.rodata for s in each), sum(s.data for s in each), sum(s.bss for s in each))
        symbols = symbols_of(objects, sources)
        stack = bound(call_graph(program, work), entries(program)) if arm else None
        own = firmware_frame(load_manifest(directory), target, directory / "src", work) if arm else 0
    return Built(_version(compiler), sizes, symbols, stack, own)


def _version(compiler: str) -> str:
    """The compiler's own first line about itself, without its path."""
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    return (done.stdout.splitlines() or [Path(compiler).name])[0]
