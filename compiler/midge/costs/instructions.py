# SPDX-License-Identifier: Apache-2.0
"""Instructions of Arm cores as objdump prints them: what kind they are, which registers they read and write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


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
    """One instruction as disassembled. count: words of a load or store multiple. narrow: of 16 bits."""

    kind: Kind
    count: int = 1
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    loads_pc: bool = False
    narrow: bool = False


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


def parse_instruction(name: str, operands: str = "", nbytes: int = 4) -> Instruction:
    """An instruction as objdump prints it: mnemonic and operands; nbytes is its size."""
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
    return Instruction(kind, count, frozenset(reads), frozenset(writes), kind in (Kind.LOAD, Kind.LOADS) and "pc" in writes, nbytes == 2)


def _words_listed(text: str) -> int:
    """Words in a list of registers such as 'r4, r5, lr' or 'd8-d15'."""
    count = 0
    for item in text.split(","):
        low, _, high = item.strip().partition("-")
        last = high or low
        span = int(last[1:]) - int(low[1:]) + 1 if high else 1
        count += span * {"d": 2, "q": 4}.get(low[0], 1)
    return count
