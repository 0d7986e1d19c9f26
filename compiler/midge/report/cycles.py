# SPDX-License-Identifier: Apache-2.0
"""Estimated cycles of executed instructions: an in-order model of each core from public timing facts. An estimate, never a measurement.

A straight run of instructions costs the sum of its instructions by kind, plus stalls that follow from neighbours; a jump costs what refilling the
pipeline costs. What no model of one run can know is left out, so all of these make real figures larger: wait states of flash and RAM, caches,
mispredicted branches, stalls from one run into the next, interrupts.

Sources: Arm Cortex-M0+ TRM (DDI 0484) table 3-1; Cortex-M3 TRM (DDI 0337) table 3-1 and Cortex-M4 TRM (100166) tables 3-1 and 7-1, both for zero wait
states; for the M7, M33 and M55 Arm publishes no table for every instruction: what is said of their pipelines (issue width, width of the data bus, two
beats of a vector instruction per cycle, loop cache) is put into the same form, see ASSUMPTIONS.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from midge.errors import UsageError


class Kind(Enum):
    """What the cost of an instruction depends on."""

    ALU = "alu"
    MULTIPLY = "multiply"
    MAC = "mac"
    LONG = "long multiply"
    DIVIDE = "divide"
    LOAD = "load"
    STORE = "store"
    LOADS = "load multiple"
    STORES = "store multiple"
    BRANCH = "branch"
    CALL = "call"
    INDIRECT = "indirect branch"
    LOOP = "loop"
    FLOAT = "float"
    FLOAT_MAC = "float mac"
    FLOAT_DIVIDE = "float divide"
    VECTOR_MEMORY = "vector memory"
    VECTOR_MAC = "vector mac"
    VECTOR_ALU = "vector alu"


MEMORY = frozenset({Kind.LOAD, Kind.STORE})
VECTOR = frozenset({Kind.VECTOR_MEMORY, Kind.VECTOR_MAC, Kind.VECTOR_ALU})
JUMPS = frozenset({Kind.BRANCH, Kind.CALL, Kind.INDIRECT, Kind.LOOP})


@dataclass(frozen=True)
class Instruction:
    """One instruction as disassembled. count: words of a load or store multiple."""

    kind: Kind
    count: int = 1
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    loads_pc: bool = False


_DSP_MAC = r"(mla|mls|smla[bt]{2}|smlaw[bt]|smlad|smladx|smlsd|smlsdx|smmla|smmlar|smmls|smmlsr)"
_MULTIPLY = r"(muls?|smul[bt]{2}|smulw[bt]|smuad|smuadx|smusd|smusdx|smmul|smmulr)"
_PATTERNS: tuple[tuple[str, Kind], ...] = (
    (r"(le|letp|wls|wlstp|dls|dlstp)", Kind.LOOP),
    (r"(bl)", Kind.CALL),
    (r"(bx|blx|tbb|tbh|bxns)", Kind.INDIRECT),
    (r"(b|cbz|cbnz|b(eq|ne|cs|cc|hs|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le))", Kind.BRANCH),
    (r"(ldm\w*|pop|ldrd)", Kind.LOADS),
    (r"(stm\w*|push|strd)", Kind.STORES),
    (r"ldr\w*", Kind.LOAD),
    (r"str\w*", Kind.STORE),
    (r"[us]div", Kind.DIVIDE),
    (r"([us]mull|[us]mlal\w*|umaal|smlsld\w*)", Kind.LONG),
    (_MULTIPLY, Kind.MULTIPLY),
    (_DSP_MAC, Kind.MAC),
)
_VECTOR_MAC = re.compile(r"v(\w*m(ul|la|ls)\w*|fm[as])\Z")
_SUFFIX = re.compile(r"(eq|ne|cs|cc|hs|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)\Z")
_REGISTER = re.compile(r"\b(r\d+|s\d+|d\d+|q\d+|sl|fp|ip|sp|lr|pc|sb)\b")
_NO_RESULT = frozenset({"cmp", "cmn", "tst", "teq"})


def _kind(name: str, operands: str) -> Kind:
    if name.startswith("v"):
        return _vector_kind(name, operands)
    for text in (name, _SUFFIX.sub("", name)):
        for pattern, kind in _PATTERNS:
            if re.fullmatch(pattern, text):
                return kind
    return Kind.ALU


def _vector_kind(name: str, operands: str) -> Kind:
    """Of the FPU and of MVE; moving a single s or d register counts as a word, a list of them as a multiple."""
    stem = name.partition(".")[0]
    if re.match(r"v(ldm|pop)", stem):
        return Kind.LOADS
    if re.match(r"v(stm|push)", stem):
        return Kind.STORES
    if re.match(r"v(ld|st)", stem):
        return Kind.VECTOR_MEMORY if "q" in operands else Kind.LOAD if stem == "vldr" else Kind.STORE
    if re.search(r"\bq\d", operands):
        return Kind.VECTOR_MAC if _VECTOR_MAC.match(stem) else Kind.VECTOR_ALU
    if stem in ("vdiv", "vsqrt"):
        return Kind.FLOAT_DIVIDE
    return Kind.FLOAT_MAC if re.fullmatch(r"v(nml|ml|fm|fnm)[as]", stem) else Kind.FLOAT


def parse_instruction(name: str, operands: str = "") -> Instruction:
    """An instruction as objdump prints it: mnemonic and operands."""
    name = re.sub(r"\.([nw]|8|16|32|64)\Z", "", name)
    operands = operands.partition("@")[0].partition(";")[0].strip()
    kind = _kind(name, operands)
    listed = re.search(r"\{(.*?)\}", operands)
    multiple = kind in (Kind.LOADS, Kind.STORES)
    count = 1 if not multiple else _words_listed(listed[1]) if listed else 2  # LDRD and STRD have no list
    fields = [field.strip() for field in operands.split(",")]
    results = 0 if kind in JUMPS or kind in (Kind.STORE, Kind.STORES) or name in _NO_RESULT else 2 if kind is Kind.LONG else 1
    first, rest = ",".join(fields[:results]), ",".join(fields[results:])
    accumulates = kind in (Kind.MAC, Kind.LONG, Kind.VECTOR_MAC, Kind.FLOAT_MAC) or name.startswith(("movt", "bfi"))
    reads = _REGISTER.findall(operands if multiple or accumulates else rest)
    writes = _REGISTER.findall(listed[1] if kind is Kind.LOADS and listed else first)
    return Instruction(kind, count, frozenset(reads), frozenset(writes), kind in (Kind.LOAD, Kind.LOADS) and "pc" in writes)


def _words_listed(text: str) -> int:
    """Words in a list of registers such as 'r4, r5, lr' or 'd8-d15'."""
    count = 0
    for item in text.split(","):
        low, _, high = item.strip().partition("-")
        last = high or low
        span = int(last[1:]) - int(low[1:]) + 1 if high else 1
        count += span * {"d": 2, "q": 4}.get(low[0], 1)
    return count


@dataclass(frozen=True)
class Core:
    """Cycles of one core. costs: by kind, 1 if not named. per_word, of a load or store multiple, beside one cycle. jump, call, indirect: what a taken
    branch costs beside its own cycle; pop_pc: likewise. load_run: loads and stores that follow each other share their address phase, so one cycle is lost
    per group of loads; otherwise load_use cycles are lost where the next instruction needs the value. width: instructions that may issue together."""

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
    assumptions: str = ""


_M4 = Core(
    {Kind.DIVIDE: 7, Kind.FLOAT_MAC: 3, Kind.FLOAT_DIVIDE: 14},
    load_run=True,
    assumptions="TRM; LDR 2, or 1 behind another load or store; LDM 1+n; taken branch 1+1, indirect 1+2; division 7 of 2..12; zero wait states",
)
CORES: dict[str, Core] = {
    "cortex-m0": Core(
        {Kind.LOAD: 2, Kind.STORE: 2},
        jump=2.0,
        call=3.0,
        indirect=2.0,
        pop_pc=3.0,
        assumptions="TRM; LDR and STR 2; LDM 1+n; taken branch 3, BL 4; single-cycle multiplier; zero wait states",
    ),
    "cortex-m0plus": Core(
        {Kind.LOAD: 2, Kind.STORE: 2},
        jump=1.0,
        call=2.0,
        indirect=1.0,
        pop_pc=2.0,
        assumptions="TRM; LDR and STR 2; LDM 1+n; taken branch 2, BL 3; single-cycle multiplier; zero wait states",
    ),
    "cortex-m3": replace(_M4, costs={Kind.DIVIDE: 7, Kind.MAC: 2, Kind.LONG: 5}, assumptions="as the M4; MLA 2, long multiply 5 of 3..7"),
    "cortex-m4": _M4,
    "cortex-m33": replace(
        _M4, load_run=False, load_use=1.0, assumptions="no table is published: as the M4, but LDR 1, or 2 if the next needs it; no dual issue"
    ),
    "cortex-m7": Core(
        {Kind.DIVIDE: 7, Kind.FLOAT_DIVIDE: 14},
        per_word=0.5,
        jump=0.0,
        call=0.0,
        indirect=2.0,
        pop_pc=2.0,
        load_use=1.0,
        width=2,
        assumptions="no table is published: two independent instructions a cycle, one of them a load or store, a multiply or a branch; LDM two words a cycle; "
        "a stall of 1 behind a load; branches predicted; caches or TCM always hit",
    ),
    "cortex-m55": Core(
        {Kind.DIVIDE: 7, Kind.FLOAT_DIVIDE: 14, Kind.VECTOR_MEMORY: 2, Kind.VECTOR_MAC: 2, Kind.VECTOR_ALU: 2},
        per_word=0.5,
        jump=2.0,
        call=2.0,
        indirect=3.0,
        pop_pc=3.0,
        load_use=1.0,
        assumptions="no table is published: one instruction a cycle; a vector instruction takes 2, or 1 behind one of another kind (load or store, "
        "multiply, other); LDM and VLDM two words a cycle; loop ends are free; taken branch 3; TCM",
    ),
}


def core_of(target: str) -> Core:
    """The model of a target's core.

    Raises: UsageError if there is none.
    """
    if target not in CORES:
        raise UsageError(f"target '{target}': no estimate of cycles; there is one for {', '.join(CORES)}")
    return CORES[target]


def estimate_run(core: Core, instructions: Sequence[Instruction]) -> float:
    """Cycles of a straight run of instructions, executed once and not left by a jump."""
    total, index = 0.0, 0
    while index < len(instructions):
        pair = core.width == 2 and index + 1 < len(instructions) and _together(*instructions[index : index + 2])
        issued = instructions[index : index + 1 + pair]
        total += _own_cycles(core, issued[0], instructions[index - 1] if index else None)
        index += len(issued)
        after = instructions[index] if index < len(instructions) else None
        total += max(_stall(core, instruction, after) for instruction in issued)
    return total


def estimate_jump(core: Core, last: Instruction) -> float:
    """Cycles a run costs more when its last instruction jumps."""
    if last.loads_pc:
        return core.pop_pc
    costs = {Kind.CALL: core.call, Kind.INDIRECT: core.indirect, Kind.LOOP: core.loop}
    return costs.get(last.kind, core.jump)


def _own_cycles(core: Core, instruction: Instruction, before: Instruction | None) -> float:
    kind = instruction.kind
    if kind in (Kind.LOADS, Kind.STORES):
        return 1.0 + core.per_word * instruction.count
    cost = core.costs.get(kind, 1.0)
    if kind in VECTOR:
        overlap = 1.0 if before is not None and before.kind in VECTOR and before.kind is not kind else 0.0
        return cost - overlap
    return cost


def _stall(core: Core, instruction: Instruction, after: Instruction | None) -> float:
    """Cycles lost behind a load."""
    if instruction.kind is not Kind.LOAD:
        return 0.0
    if core.load_run:
        return 0.0 if after is not None and after.kind in MEMORY else 1.0
    return core.load_use if after is not None and after.reads & instruction.writes else 0.0


def _together(first: Instruction, second: Instruction) -> bool:
    """Whether a core of width 2 may issue both in one cycle."""
    simple = {Kind.ALU, Kind.MULTIPLY, Kind.MAC, Kind.LONG, Kind.LOAD, Kind.STORE, Kind.BRANCH, Kind.CALL}
    unit = {Kind.STORE: Kind.LOAD, Kind.MULTIPLY: Kind.MAC, Kind.LONG: Kind.MAC, Kind.CALL: Kind.BRANCH}
    units = unit.get(first.kind, first.kind), unit.get(second.kind, second.kind)
    if first.kind in JUMPS or not {first.kind, second.kind} <= simple or (units[0] is units[1] and units[0] is not Kind.ALU):
        return False
    return not first.writes & (second.reads | second.writes)
