# SPDX-License-Identifier: Apache-2.0
"""What the calls of a Program give its kernels, for kernels to be cut to it."""

from __future__ import annotations

from midge.codegen.blocks import block_rows
from midge.codegen.facts import Fact, Fields, Range, Targets, numbers
from midge.codegen.kernels import declare
from midge.codegen.tailor import Use
from midge.program import Program


def uses_of(program: Program) -> list[Use]:
    """What the calls of a Program give its kernels."""
    found = []
    for call in program.calls:
        members: dict[str, Fact] = {}
        for member, symbol in call.constants.items():
            routine, constant = program.routines.get(symbol), program.constants.get(symbol)
            members[member] = Targets(frozenset((routine.twin,))) if routine is not None else None if constant is None else numbers(constant.data)
        rows = block_rows(program, call)
        known: dict[str, Fact] = {
            "params": Fields({member: Range(int(value), int(value)) for member, value in call.params.items()}),
            "constants": Fields(members),
            "rows": Range(rows, rows) if rows else None,
        }
        for symbol in call.kernel.symbols(program.numerics):
            found.append(Use(symbol, tuple(known.get(parameter) for parameter in declare(call.kernel, symbol).parameters)))
    return found
