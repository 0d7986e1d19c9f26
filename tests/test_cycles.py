# SPDX-License-Identifier: Apache-2.0
"""The model of cycles: what disassembled instructions are taken for, and runs small enough to be counted by hand from the manuals' tables."""

from __future__ import annotations

import pytest

from midge.costs.cores import CORES, Compared, compared, core_of, error_of, estimate_jump, estimate_run
from midge.costs.instructions import Kind, parse_instruction
from midge.errors import UsageError

KINDS = {
    Kind.ALU: (
        "adds r0, #1",
        "ssat r0, #8, r1, asr #4",
        "mov.w r0, r1, lsl #2",
        "it ne",
        "bic.w r3, r9, #15",
        "sxtb16 r0, r1",
        "bfi r0, r1, #0, #8",
        "lsls r0, r1, #2",
    ),
    Kind.MULTIPLY: ("mul.w r0, r1, r2", "muls r0, r1", "smulbb r0, r1, r2", "smmulr r0, r1, r2", "mulne r0, r1"),
    Kind.MAC: ("mla r0, r1, r2, r3", "smlad r0, r1, r2, r0", "smmlar r0, r1, r2, r3", "smlatb r0, r1, r2, r0", "mls r0, r1, r2, r3"),
    Kind.LONG: ("smull r0, r1, r2, r3", "smlal r0, r1, r2, r3"),
    Kind.DIVIDE: ("udiv r0, r1, r2", "sdiv r0, r1, r2"),
    Kind.LOAD: ("ldr.w r0, [r1, #4]", "ldrsb.w r0, [r1], #1", "ldrbne r0, [r1]", "vldr s0, [r0]"),
    Kind.STORE: ("strb.w r0, [r1]", "strh r0, [r1]", "vstr s0, [r0]"),
    Kind.LOADS: ("ldmia.w r0!, {r4, r5}", "pop {r4, pc}", "ldrd r0, r1, [r2]", "vldmia r0!, {d0-d3}", "vpop {d8}"),
    Kind.STORES: ("stmdb sp!, {r4, lr}", "push {r4}", "strd r0, r1, [r2]", "vpush {d8-d9}"),
    Kind.BRANCH: ("b.n 8120 <f>", "bne.w 8120 <f>", "cbz r0, 8120 <f>", "bls.n 8120 <f>", "ble.n 8120 <f>"),
    Kind.CALL: ("bl 8120 <f>",),
    Kind.INDIRECT: ("bx lr", "blx r3", "tbb [pc, r0]"),
    Kind.LOOP: ("le lr, 8120 <f>", "dlstp.8 lr, r2", "wls lr, r2, 8120 <f>"),
    Kind.FLOAT: ("vadd.f32 s0, s1, s2", "vmov r0, s0", "vmrs APSR_nzcv, fpscr"),
    Kind.FLOAT_MAC: ("vfma.f32 s0, s1, s2", "vmla.f32 s0, s1, s2"),
    Kind.FLOAT_DIVIDE: ("vdiv.f32 s0, s1, s2",),
    Kind.VECTOR_MEMORY: ("vldrb.u8 q1, [r0, #0]", "vldrwt.u32 q1, [r0]", "vstrw.32 q2, [r1]", "vld20.8 {q0, q1}, [r0]"),
    Kind.VECTOR_MAC: ("vmladava.s8 r0, q3, q2", "vmlavat.s8 r0, q3, q2", "vqrdmulh.s32 q2, q1, r0", "vmul.i32 q0, q1, r2", "vfma.f32 q0, q1, q2"),
    Kind.VECTOR_ALU: ("vadd.i8 q1, q1, q1", "vrshl.s32 q2, q2, q2", "vmax.s8 q0, q1, q2", "vmov.i32 q0, #0", "vmvn q0, q1"),
}


def run(*lines: str):  # type: ignore[no-untyped-def]
    """Instructions as objdump prints them, `.n` on those of 16 bits."""
    split = [line.split(" ", 1) for line in lines]
    return [parse_instruction(name, operands, 2 if name.endswith(".n") else 4) for name, operands in split]


@pytest.mark.parametrize("kind", Kind)
def test_kinds_of_instructions(kind: Kind) -> None:
    assert {line: instruction.kind for line, instruction in zip(KINDS[kind], run(*KINDS[kind]), strict=True)} == dict.fromkeys(KINDS[kind], kind)


@pytest.mark.parametrize(
    ("line", "words"),
    [("ldmia.w r0!, {r4, r5, r6, lr}", 4), ("ldrd r0, r1, [r2]", 2), ("vldmia r0!, {d0-d3}", 8), ("push {r4-r7, lr}", 5), ("vldm r0, {s0-s2}", 3)],
)
def test_words_of_a_multiple(line: str, words: int) -> None:
    assert run(line)[0].count == words


@pytest.mark.parametrize(
    ("core", "lines", "cycles"),
    [
        ("cortex-m4", ["add r0, r1", "smlad r0, r1, r2, r0"], 2),
        ("cortex-m4", ["ldr r0, [r1]", "add r2, r3"], 3),
        ("cortex-m4", ["ldr r0, [r1]", "ldr r2, [r3]", "add r0, r2"], 4),
        ("cortex-m4", ["ldr r0, [r1]", "str r0, [r2]"], 2),
        ("cortex-m4", ["ldmia.w r0!, {r4, r5, r6, r7}", "smlad r0, r1, r2, r0"], 6),
        ("cortex-m4", ["vdiv.f32 s0, s1, s2", "vmla.f32 s0, s1, s2"], 17),
        ("cortex-m3", ["mla r0, r1, r2, r3", "smull r0, r1, r2, r3"], 7),
        ("cortex-m0plus", ["ldr r0, [r1]", "ldr r2, [r3]", "str r0, [r1]", "muls r0, r1"], 7),
        ("cortex-m33", ["ldr r0, [r1]", "add r2, r3", "ldr r4, [r1]", "add r2, r4"], 5),
        ("cortex-m33", ["adds.n r0, #1", "ldr.n r4, [r1]", "adds.n r2, #1", "adds.n r3, #1"], 2),
        ("cortex-m33", ["adds.n r0, #1", "ldr.w r4, [r1]"], 2),
        ("cortex-m33", ["adds.n r0, #1", "adds.n r2, r0"], 2),
        ("cortex-m33", ["ldr.n r4, [r1]", "str.n r5, [r1]"], 2),
        ("cortex-m7", ["add r0, r1", "add r2, r3", "add r4, r5"], 2),
        ("cortex-m7", ["add r0, r1, r2", "add r2, r0, r3"], 2),
        ("cortex-m7", ["ldr r0, [r1]", "smlad r2, r3, r4, r2", "add r5, r0, r5"], 3),
        ("cortex-m7", ["smlad r2, r3, r4, r2", "smlad r5, r6, r7, r5"], 2),
        ("cortex-m55", ["add r0, r1", "ldr r2, [r0]", "add r3, r4", "add r3, r2"], 4),
        ("cortex-m55", ["ldr r2, [r0]", "add r3, r2"], 3),
        ("cortex-m55", ["adds.n r0, #1", "ldr.n r4, [r1]", "adds.n r2, #1", "adds.n r3, r4"], 3),
        ("cortex-m55", ["ldr r2, [r0]", "add r0, r4", "ldr r3, [r0]"], 3),
        ("cortex-m55", ["vldrb.u8 q0, [r0]", "vmladava.s8 r2, q0, q1", "vldrb.u8 q0, [r1]", "vmladava.s8 r4, q0, q1"], 4),
        ("cortex-m55", ["vldrb.u8 q0, [r0]", "vldrb.u8 q1, [r0]", "add r0, r1"], 4),
        ("cortex-m55", ["vldrb.u8 q0, [r0]", "add r0, r1"], 2),
        ("cortex-m55", ["vldrb.u8 q0, [r0]"], 2),
        ("cortex-m55", ["vmladava.s8 r2, q0, q1", "vmladava.s8 r4, q0, q1", "add r5, r4"], 6),
        ("cortex-m55", ["vmul.i32 q0, q1, r2", "vadd.i32 q3, q0, q1", "vadd.i32 q4, q3, q1"], 5),
        ("cortex-m55", ["vldmia r0!, {d0-d7}", "vmladava.s8 r2, q0, q1"], 10),
    ],
)
def test_runs_counted_by_hand(core: str, lines: list[str], cycles: int) -> None:
    assert estimate_run(core_of(core), run(*lines)) == cycles


@pytest.mark.parametrize(
    ("core", "line", "cycles"),
    [
        ("cortex-m4", "bne.n 8120 <f>", 1),
        ("cortex-m4", "bx lr", 2),
        ("cortex-m4", "pop {r4, pc}", 2),
        ("cortex-m0plus", "bl 8120 <f>", 2),
        ("cortex-m0", "b.n 8120 <f>", 2),
        ("cortex-m55", "le lr, 8120 <f>", -1),
    ],
)
def test_jumps(core: str, line: str, cycles: int) -> None:
    assert estimate_jump(core_of(core), run(line)[0]) == cycles


def test_every_core_says_what_it_assumes() -> None:
    assert all(core.assumptions and core.source for core in CORES.values())
    with pytest.raises(UsageError, match=r"'riscv32': no estimate of cycles; there is one for .*cortex-m4"):
        core_of("riscv32")


def test_the_error_of_every_core_is_said() -> None:
    """Estimates are within 10 % of what boards measured on the same code, within 20 % of rates that Arm states for another compiler's code."""
    assert {row.target for row in compared()} == set(CORES)
    for row in compared():
        allowed = 0.2 if "compiler" in row.board else 0.1
        assert row.instructions < row.estimated_cycles and abs(row.estimated_cycles / row.cycles - 1) < allowed, row.text
    line = Compared("cortex-m4", "AES-128 block (X)", "a board", 1000, 700, 1015).text
    assert line == "AES-128 block (X), a board: 1,015 cycles estimated, 1,000 published (+1.5%)"
    assert "STM32F4" in error_of("cortex-m4") and "; Dhrystone" in error_of("cortex-m4") and error_of("riscv32").startswith("unknown")
