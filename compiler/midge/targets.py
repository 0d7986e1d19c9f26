# SPDX-License-Identifier: Apache-2.0
"""What midge compiles for: rows of data. Code asks a Target for a feature, never for the name of a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from midge.errors import UsageError

NANOSECONDS_PER_INSTRUCTION = 64
"""Emulated time of one instruction: QEMU's `-icount shift=6`. A smaller shift would let one timer tick cover several instructions."""


@dataclass(frozen=True)
class Memory:
    """One memory of a board: where the linker script puts things."""

    name: str
    origin: int
    nbytes: int


@dataclass(frozen=True)
class Timer:
    """The board's clock that counts instructions: which access code of timer.h, where, how fast."""

    kind: str  # TIMER_CMSDK, TIMER_SSE or TIMER_NRF51
    base: int
    hertz: int

    @property
    def ticks_per_instruction(self) -> Fraction:
        """Exact, so that counts convert without rounding twice."""
        return Fraction(self.hertz * NANOSECONDS_PER_INSTRUCTION, 10**9)


@dataclass(frozen=True)
class Board:
    """An emulated board: how QEMU is asked for it, and what lies where."""

    name: str
    qemu_args: tuple[str, ...]
    linker_script: str  # in runtime_c
    memories: tuple[Memory, ...]
    timer: Timer


@dataclass(frozen=True)
class Target:
    """What code is generated and compiled for.

    features: subset of {dsp, mve, fpu, unaligned, thumb1, thumb2}; the last two are cores without the first two. flags: for `<prefix>gcc`.
    board: key of BOARDS, or None where nothing emulates it.
    """

    name: str
    cpu: str
    features: frozenset[str]
    flags: tuple[str, ...]
    board: str | None
    prefix: str
    note: str = ""


_K, _M = 1024, 1024 * 1024
_MPS2_MEMORIES = (Memory("SSRAM1", 0x00000000, 4 * _M), Memory("SSRAM23", 0x20000000, 4 * _M))
_MPS2_TIMER = Timer("TIMER_CMSDK", 0x40000000, 25_000_000)


def _mps2(name: str) -> Board:
    return Board(f"mps2-{name}", ("-M", f"mps2-{name}"), "mps2.ld", _MPS2_MEMORIES, _MPS2_TIMER)


BOARDS: dict[str, Board] = {
    board.name: board
    for board in (
        # mps2-an385 would silently execute Thumb-2, which an M0 lacks; the micro:bit has a real M0, and takes larger memories than it is sold with.
        Board(
            "microbit",
            ("-M", "microbit", "-global", "nrf51-soc.sram-size=0x100000", "-global", "nrf51-soc.flash-size=0x200000"),
            "microbit.ld",
            (Memory("FLASH", 0x00000000, 2 * _M), Memory("SRAM", 0x20000000, 1 * _M)),
            Timer("TIMER_NRF51", 0x40008000, 16_000_000),
        ),
        _mps2("an385"),
        _mps2("an386"),
        _mps2("an500"),
        Board(
            "mps2-an505",
            ("-M", "mps2-an505"),
            "an505.ld",
            (Memory("SSRAM1", 0x10000000, 4 * _M), Memory("SSRAM23", 0x38000000, 4 * _M)),
            Timer("TIMER_CMSDK", 0x50000000, 20_000_000),
        ),
        Board(
            "mps3-an547",
            ("-M", "mps3-an547"),
            "an547.ld",
            (Memory("ITCM", 0x00000000, 512 * _K), Memory("SRAM", 0x01000000, 2 * _M), Memory("ISRAM", 0x31000000, 4 * _M)),
            Timer("TIMER_SSE", 0x58100000, 32_000_000),
        ),
    )
}

_ARM = "arm-none-eabi-"
_THUMB_SOFT = ("-mthumb", "-mfloat-abi=soft")
_THUMB_HARD = ("-mthumb", "-mfloat-abi=hard")


def _features(*names: str) -> frozenset[str]:
    return frozenset(names)


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("host", "host", _features(), (), None, "", "portable kernels only, run by the host itself"),
        Target("cortex-m0", "cortex-m0", _features("thumb1"), ("-mcpu=cortex-m0", *_THUMB_SOFT), "microbit", _ARM),
        Target("cortex-m0plus", "cortex-m0plus", _features("thumb1"), ("-mcpu=cortex-m0plus", *_THUMB_SOFT), "microbit", _ARM, "emulated as a Cortex-M0"),
        Target("cortex-m3", "cortex-m3", _features("thumb2", "unaligned"), ("-mcpu=cortex-m3", *_THUMB_SOFT), "mps2-an385", _ARM),
        Target(
            "cortex-m4",
            "cortex-m4",
            _features("dsp", "fpu", "unaligned"),
            ("-mcpu=cortex-m4", *_THUMB_HARD, "-mfpu=fpv4-sp-d16"),
            "mps2-an386",
            _ARM,
        ),
        Target(
            "cortex-m7",
            "cortex-m7",
            _features("dsp", "fpu", "unaligned"),
            ("-mcpu=cortex-m7", *_THUMB_HARD, "-mfpu=fpv5-d16"),
            "mps2-an500",
            _ARM,
        ),
        Target(
            "cortex-m33",
            "cortex-m33",
            _features("dsp", "fpu", "unaligned"),
            ("-mcpu=cortex-m33", *_THUMB_HARD, "-mfpu=fpv5-sp-d16"),
            "mps2-an505",
            _ARM,
        ),
        Target("cortex-m55", "cortex-m55", _features("dsp", "mve", "fpu", "unaligned"), ("-mcpu=cortex-m55", *_THUMB_HARD), "mps3-an547", _ARM),
        # gcc 12 and QEMU 7.2 do not know the M85: compiled for its architecture, run on the M55 board.
        Target(
            "cortex-m85",
            "cortex-m85",
            _features("dsp", "mve", "fpu", "unaligned"),
            ("-march=armv8.1-m.main+mve.fp+fp.dp", *_THUMB_HARD),
            "mps3-an547",
            _ARM,
            "compiled for armv8.1-m.main+mve.fp+fp.dp, emulated as a Cortex-M55",
        ),
        Target(
            "riscv32",
            "rv32imc",
            _features(),
            ("-march=rv32imc", "-mabi=ilp32", "--specs=picolibc.specs"),
            None,
            "riscv64-unknown-elf-",
            "compile only: no board and no runner",
        ),
    )
}


def get_target(name: str) -> Target:
    """The target of that name.

    Raises:
        UsageError: there is none; the message lists the names.
    """
    if name not in TARGETS:
        raise UsageError(f"target '{name}': not known; the targets are {', '.join(TARGETS)}")
    return TARGETS[name]


def get_board(target: Target) -> Board:
    """The board that emulates a target.

    Raises:
        UsageError: the target has none.
    """
    if target.board is None:
        boards = ", ".join(t.name for t in TARGETS.values() if t.board is not None)
        raise UsageError(f"target '{target.name}': has no emulated board ({target.note}); targets with one are {boards}")
    return BOARDS[target.board]
