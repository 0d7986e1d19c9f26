# SPDX-License-Identifier: Apache-2.0
"""How to build a written library and how to call it: the last thing `midge compile` says."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from midge.program import Program
from midge.targets import Target


def build_command(directory: str, target: Target) -> str:
    """The shell command that compiles every source of a library into objects."""
    folder = shlex.quote(directory.rstrip("/") or "/")
    return " ".join([f"{target.prefix}gcc", "-c", "-std=c99", "-O2", *target.flags, "-I", f"{folder}/src", f"{folder}/src/*.c"])


def call_lines(program: Program) -> Sequence[str]:
    """The C that calls a library: where its arena comes from, and for one input and one output three lines."""
    name, upper = program.name, program.name.upper()
    outputs = [f"const {port.type.dtype.c} *output_{i} = {name}_output_{i}(arena);" for i, port in enumerate(program.outputs)]
    if any(step.call < 0 for step in program.steps):
        call: tuple[str, ...] = (
            f"int left = {name}_begin(arena);",
            f"while (left > 0) {{ left = {name}_push_rows(arena, next_row(), 1); }} /* rows of {upper}_INPUT_0_ROW_BYTES bytes */",
            f"int error = {name}_finish(arena); /* 0, or a negative {upper}_ERROR_x */",
        )
    else:
        written = (f"memcpy({name}_input_{i}(arena), input_{i}, {upper}_INPUT_{i}_BYTES);" for i in range(len(program.inputs)))
        call = (*written, f"int error = {name}_run(arena); /* 0, or a negative {upper}_ERROR_x */")
    return (
        f'/* #include "{name}.h"; int8_t arena[{upper}_ARENA_BYTES], aligned to {upper}_ARENA_ALIGN bytes */',
        *call,
        *outputs,
    )
