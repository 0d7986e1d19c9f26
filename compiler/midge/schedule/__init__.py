# SPDX-License-Identifier: Apache-2.0
"""Where and when buffers live: the planner (arena.py) and an independent checker (certify.py)."""

from __future__ import annotations

from midge.program import Program
from midge.schedule.arena import plan, spare
from midge.schedule.certify import certify


def place(program: Program) -> Program:
    """Plan the arena of `program` in place and have the result certified; returns it."""
    plan(program)
    certify(program)
    return program


__all__ = ["certify", "place", "plan", "spare"]
