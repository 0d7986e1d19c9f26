# SPDX-License-Identifier: Apache-2.0
"""Estimated cycles of executed instructions: an in-order model of each core from public timing facts. An estimate, never a measurement.

A straight run of instructions costs the sum of its instructions by kind, plus stalls that follow from neighbours; a jump costs what refilling the
pipeline costs. What no model of one run can know is left out, so all of these make real figures larger: wait states of flash and RAM, caches,
mispredicted branches, stalls from one run into the next, interrupts. Each row of CORES says what it assumes and where that is from.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from midge.costs.instructions import JUMPS, MEMORY, Instruction, Kind
from midge.errors import UsageError

PUBLISHED = Path(__file__).parent / "published.csv"
"""Published cycles, beside what is estimated for the same code; made by bench/published.py."""


@dataclass(frozen=True)
class Core:
    """Cycles of one core. costs: by kind, 1 if not named. per_word, of a load or store multiple, beside one cycle. jump, call, indirect: what a taken
    branch costs beside its own cycle; pop_pc: likewise; loop: of an end of a loop. load_run: loads and stores that follow each other share their address
    phase, so one cycle is lost per group of loads; otherwise load_use cycles are lost where the next instruction needs the value. width: instructions
    that may issue together; narrow: only those of 16 bits. units: kinds that occupy a unit for their cycles but issue in one, so that other kinds go on
    meanwhile. latency: cycles until a result of such a kind can be read, 1 if not named."""

    assumptions: str
    source: str
    costs: dict[Kind, float] = field(default_factory=dict)
    per_word: float = 1.0
    jump: float = 1.0
    call: float = 1.0
    indirect: float = 2.0
    pop_pc: float = 2.0
    loop: float = 0.0
    load_run: bool = False
    load_use: float = 0.0
    width: int = 1
    narrow: bool = False
    units: dict[Kind, str] = field(default_factory=dict)
    latency: dict[Kind, float] = field(default_factory=dict)


_M4 = Core(
    "LDR 2, or 1 behind another load or store; LDM 1+n; taken branch 1+1, indirect 1+2; division 7 of 2..12; zero wait states",
    "Arm Cortex-M4 TRM (100166) tables 3-1 and 7-1",
    {Kind.DIVIDE: 7, Kind.FLOAT_MAC: 3, Kind.FLOAT_DIVIDE: 14},
    load_run=True,
)
CORES: dict[str, Core] = {
    "cortex-m0": Core(
        "LDR and STR 2; LDM 1+n; taken branch 3, BL 4; single-cycle multiplier; zero wait states",
        "Arm Cortex-M0 TRM (DDI 0432) table 3-1",
        {Kind.LOAD: 2, Kind.STORE: 2},
        jump=2.0,
        call=3.0,
        pop_pc=3.0,
    ),
    "cortex-m0plus": Core(
        "LDR and STR 2; LDM 1+n; taken branch 2, BL 3; single-cycle multiplier; zero wait states",
        "Arm Cortex-M0+ TRM (DDI 0484) table 3-1",
        {Kind.LOAD: 2, Kind.STORE: 2},
        call=2.0,
        indirect=1.0,
    ),
    "cortex-m3": replace(
        _M4,
        costs={Kind.DIVIDE: 7, Kind.MAC: 2, Kind.LONG: 5},
        assumptions="as the M4; MLA 2, long multiply 5 of 3..7",
        source="Arm Cortex-M3 TRM (DDI 0337) table 3-1",
    ),
    "cortex-m4": _M4,
    "cortex-m33": replace(
        _M4,
        load_run=False,
        load_use=1.0,
        width=2,
        narrow=True,
        assumptions="as the M4, but LDR 1, or 2 if the next instruction needs it; two independent instructions of 16 bits a cycle, one of them a load or "
        "store, a multiply or a branch",
        source="no table is published; Arm on the Cortex-M33: three stages, branches resolved in the second, limited dual issue of 16-bit instructions",
    ),
    "cortex-m7": Core(
        "two independent instructions a cycle, one of them a load or store, a multiply or a branch; LDM two words a cycle; a stall of 1 behind a load; "
        "branches predicted; caches or TCM always hit",
        "no table is published; Arm Cortex-M7 TRM (DDI 0489): six stages, dual issue in order, 64-bit buses, branch prediction",
        {Kind.DIVIDE: 7, Kind.FLOAT_DIVIDE: 14},
        per_word=0.5,
        jump=0.0,
        call=0.0,
        load_use=1.0,
        width=2,
    ),
    "cortex-m55": Core(
        "one instruction a cycle, or two as on the M33; taken branch 2, ends of loops free; LDR can be read after 2 cycles; a vector instruction occupies its "
        "unit (load and store, multiply, other) for 2 cycles, two beats a cycle, while others issue; vector products can be read after 2 cycles, their sums "
        "after 3; LDM and VLDM two words a cycle; TCM",
        "no table is published; Arm on the Cortex-M55: in order, decodes one or two, two beats a cycle, 64-bit data bus, cache of loop ends, no slower at "
        "scalar code than the M33; units and latencies as in the model of SLOTHY (eprint.iacr.org/2022/1303), cortex_m55r1.py",
        {Kind.DIVIDE: 7, Kind.FLOAT_DIVIDE: 14, Kind.VECTOR_MEMORY: 2, Kind.VECTOR_MAC: 2, Kind.VECTOR_ALU: 2},
        per_word=0.5,
        loop=-1.0,
        width=2,
        narrow=True,
        units={Kind.VECTOR_MEMORY: "memory", Kind.VECTOR_MAC: "multiply", Kind.VECTOR_ALU: "other"},
        latency={Kind.LOAD: 2, Kind.VECTOR_MAC: 2},
    ),
}


@dataclass(frozen=True)
class Compared:
    """What a published figure is to what is estimated for the same code."""

    target: str
    code: str
    board: str
    cycles: int
    instructions: int
    estimated_cycles: int

    @property
    def text(self) -> str:
        """'AES-128 block (CM3_1T), STM32F4: 600 cycles estimated, 626 published (-4.2%)'."""
        error = self.estimated_cycles / self.cycles - 1
        return f"{self.code}, {self.board}: {self.estimated_cycles:,} cycles estimated, {self.cycles:,} published ({error:+.1%})"


def core_of(target: str) -> Core:
    """The model of a target's core.

    Raises: UsageError if there is none.
    """
    if target not in CORES:
        raise UsageError(f"target '{target}': no estimate of cycles; there is one for {', '.join(CORES)}")
    return CORES[target]


@cache
def compared() -> tuple[Compared, ...]:
    """All published figures and their estimates."""
    if not PUBLISHED.is_file():
        return ()
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(Compared(row["target"], row["code"], row["board"], int(row["cycles"]), int(row["instructions"]), int(row["estimated_cycles"])) for row in rows)


def error_of(target: str) -> str:
    """One line about how far estimates of a target were from published figures."""
    known = [row.text for row in compared() if row.target == target]
    return "; ".join(known) or "unknown, no published cycles of code that can be rebuilt are known for this core"


def estimate_run(core: Core, instructions: Sequence[Instruction]) -> float:
    """Cycles of a straight run of instructions, executed once and not left by a jump."""
    return _overlapped(core, instructions) if core.units else _one_by_one(core, instructions)


def estimate_jump(core: Core, last: Instruction) -> float:
    """Cycles a run costs more when its last instruction jumps."""
    if last.loads_pc:
        return core.pop_pc
    costs = {Kind.CALL: core.call, Kind.INDIRECT: core.indirect, Kind.LOOP: core.loop}
    return costs.get(last.kind, core.jump)


def _one_by_one(core: Core, instructions: Sequence[Instruction]) -> float:
    total, index = 0.0, 0
    while index < len(instructions):
        pair = index + 1 < len(instructions) and _together(core, *instructions[index : index + 2])
        issued = instructions[index : index + 1 + pair]
        total += _own_cycles(core, issued[0])
        index += len(issued)
        after = instructions[index] if index < len(instructions) else None
        total += max(_stall(core, instruction, after) for instruction in issued)
    return total


def _overlapped(core: Core, instructions: Sequence[Instruction]) -> float:
    """An instruction issues when the one before it has, its unit is free, and what it reads is there; the run ends when its first could begin again."""
    now, free, ready, alone = 0.0, dict[str, float](), dict[str, float](), None
    for instruction in instructions:
        unit, cost = core.units.get(instruction.kind, ""), _own_cycles(core, instruction)
        needed = max((ready.get(register, 0.0) for register in instruction.reads), default=0.0)
        joins = alone is not None and _together(core, alone, instruction) and needed <= now - 1.0
        start = now - 1.0 if joins else max(now, free.get(unit, 0.0), needed)
        now = start + (1.0 if unit else cost)
        alone = None if joins else instruction
        if unit:
            free[unit] = start + cost
        summed = instruction.kind is Kind.VECTOR_MAC and not any(register.startswith("q") for register in instruction.writes)
        for register in instruction.writes:
            ready[register] = start + core.latency.get(instruction.kind, 1.0) + summed
    return max(now, free.get(core.units.get(instructions[0].kind, ""), 0.0)) if instructions else 0.0


def _own_cycles(core: Core, instruction: Instruction) -> float:
    kind = instruction.kind
    return 1.0 + core.per_word * instruction.count if kind in (Kind.LOADS, Kind.STORES) else core.costs.get(kind, 1.0)


def _stall(core: Core, instruction: Instruction, after: Instruction | None) -> float:
    """Cycles lost behind a load."""
    if instruction.kind is not Kind.LOAD:
        return 0.0
    if core.load_run:
        return 0.0 if after is not None and after.kind in MEMORY else 1.0
    return core.load_use if after is not None and after.reads & instruction.writes else 0.0


def _together(core: Core, first: Instruction, second: Instruction) -> bool:
    """Whether a core may issue both in one cycle."""
    if core.width < 2 or (core.narrow and not (first.narrow and second.narrow)):
        return False
    simple = {Kind.ALU, Kind.MULTIPLY, Kind.MAC, Kind.LONG, Kind.LOAD, Kind.STORE, Kind.BRANCH, Kind.CALL}
    unit = {Kind.STORE: Kind.LOAD, Kind.MULTIPLY: Kind.MAC, Kind.LONG: Kind.MAC, Kind.CALL: Kind.BRANCH}
    units = unit.get(first.kind, first.kind), unit.get(second.kind, second.kind)
    if first.kind in JUMPS or not {first.kind, second.kind} <= simple or (units[0] is units[1] and units[0] is not Kind.ALU):
        return False
    return not first.writes & (second.reads | second.writes)
