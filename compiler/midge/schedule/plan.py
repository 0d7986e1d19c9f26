# SPDX-License-Identifier: Apache-2.0
"""How many rows a step computes, and with that the place of everything."""

from __future__ import annotations

from dataclasses import dataclass

from midge.program import Program
from midge.schedule.certify import certify
from midge.schedule.rows import WHOLE, apply_solution, make_rows, split
from midge.schedule.solve import solve


@dataclass(frozen=True)
class Wish:
    """grain: rows a step computes; 0 for whole tensors."""

    grain: int = 0
    stream: bool = False
    stepwise: bool = False


def place(program: Program, wish: Wish | None = None) -> Program:
    wish = wish or Wish()
    if wish.grain:
        program.calls = [split(call) for call in program.calls]
    rows = make_rows(program, [wish.grain or WHOLE for _ in program.calls], stream=wish.stream, stateful=wish.stepwise)
    apply_solution(program, rows, solve(rows.problem))
    certify(program)
    return program
