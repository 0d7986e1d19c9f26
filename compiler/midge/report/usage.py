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
    sink = ", take, context" if program.hands_out else ""
    outputs = [f"const {port.type.dtype.c} *output_{i} = {name}_output_{i}(arena);" for i, port in enumerate(program.outputs)]
    if program.hands_out:
        outputs = [f"/* take is a {name}_output_rows function of yours: it gets rows of output as soon as they are complete */"]
    if program.streams:
        call: tuple[str, ...] = (
            f"int left = {name}_begin(arena);",
            f"while (left > 0) {{ left = {name}_push_rows(arena, next_row(), 1{sink}); }} /* rows of {upper}_INPUT_0_ROW_BYTES bytes */",
            f"int error = {name}_finish(arena{sink}); /* 0, or a negative {upper}_ERROR_x */",
        )
    else:
        written = (f"memcpy({name}_input_{i}(arena), input_{i}, {upper}_INPUT_{i}_BYTES);" for i in range(len(program.inputs)))
        call = (*written, f"int error = {name}_run(arena{sink}); /* 0, or a negative {upper}_ERROR_x */")
    return (
        f'/* #include "{name}.h"; int8_t arena[{upper}_ARENA_BYTES], aligned to {upper}_ARENA_ALIGN bytes */',
        *call,
        *outputs,
    )
