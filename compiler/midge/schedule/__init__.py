# SPDX-License-Identifier: Apache-2.0
"""In which order rows are computed and where they lie: the problem (problem.py), what it is made from (rows.py), who solves it (solve.py), how much of the
work goes into one step (plan.py), and an independent checker (certify.py)."""

from __future__ import annotations

from midge.schedule.certify import certify
from midge.schedule.memories import parse_memories
from midge.schedule.plan import Wish, place
from midge.schedule.timeline import may_save, spare, used

__all__ = ["Wish", "certify", "may_save", "parse_memories", "place", "spare", "used"]
