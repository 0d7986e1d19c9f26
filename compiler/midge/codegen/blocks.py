# SPDX-License-Identifier: Apache-2.0
"""How many rows calls of kernels compute at a time, and which input rows these are."""

from __future__ import annotations

from midge.program import Call, Contract, Operand, Program


def step_counts(program: Program, call: Call) -> set[int]:
    """How many rows the steps of a call have."""
    return {step.count for step in program.steps if step.call >= 0 and program.calls[step.call] is call}


def block_rows(program: Program, call: Call) -> int:
    """The number of rows that a kernel is told in all of a call's blocks, 0 if not all are full."""
    if call.block == 1 or call.rows == 1 or call.kernel.contract is not Contract.ROWS:
        return 1
    counts = step_counts(program, call)
    block = min(call.block, max(counts))
    return 0 if any(count % block for count in counts) else block


def row_index(operand: Operand, loop: bool, tap: bool) -> str:
    """Window.rows as a C expression of y and k."""
    window = operand.window
    if window.up > 1:
        return f"y / {window.up}" if loop else "0"
    terms = [("y", window.stride if loop else 0), ("k", window.dilation if tap else 0)]
    text = " + ".join(name if factor == 1 else f"{name} * {factor}" for name, factor in terms if factor)
    if not text:
        return str(-window.pad)
    return text + (f" - {window.pad}" if window.pad > 0 else f" + {-window.pad}" if window.pad < 0 else "")
