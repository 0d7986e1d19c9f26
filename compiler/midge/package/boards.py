# SPDX-License-Identifier: Apache-2.0
"""Boards that `midge board` writes a project for: data only."""

from __future__ import annotations

from dataclasses import dataclass

from midge.errors import UsageError


@dataclass(frozen=True)
class BoardProject:
    """A board with a server that `midge verify --on serial:PORT` talks to.

    source: its board.c, in runtime_c. extra: more files of runtime_c that it needs. target: key of TARGETS. build: "make" or "pico". defines: for the
    compiler. stack_bytes: how far below the stack pointer the server paints. vendor: where start-up code and headers come from. line: how the serial line
    reaches the computer. port: an example of what it is called there.
    """

    name: str
    title: str
    source: str
    target: str
    build: str
    stack_bytes: int
    vendor: str
    line: str
    port: str = "/dev/ttyACM0"
    defines: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    start: tuple[str, ...] = ()  # what VENDOR_SOURCES holds
    script: str = ""
    pico_board: str = ""


_PICO_SDK = "the Pico SDK (PICO_SDK_PATH)"

BOARD_PROJECTS: dict[str, BoardProject] = {
    board.name: board
    for board in (
        BoardProject(
            "nucleo-l4r5zi",
            "ST Nucleo-L4R5ZI (STM32L4R5ZI, Cortex-M4)",
            "board_nucleo_l4r5zi.c",
            "cortex-m4",
            "make",
            8192,
            "ST's STM32CubeL4: CMSIS headers, startup_stm32l4r5xx.s, system_stm32l4xx.c and a linker script",
            "LPUART1 through the ST-LINK's virtual COM port",
            defines=("STM32L4R5xx",),
        ),
        BoardProject(
            "nucleo-f446re",
            "ST Nucleo-F446RE (STM32F446RE, Cortex-M4)",
            "board_nucleo_f446re.c",
            "cortex-m4",
            "make",
            8192,
            "ST's STM32CubeF4: CMSIS headers, startup_stm32f446xx.s, system_stm32f4xx.c and a linker script",
            "USART2 through the ST-LINK's virtual COM port",
            defines=("STM32F446xx",),
        ),
        BoardProject(
            "pico",
            "Raspberry Pi Pico (RP2040, Cortex-M0+)",
            "board_pico.c",
            "cortex-m0plus",
            "pico",
            2048,
            _PICO_SDK,
            "the board's own USB socket",
            pico_board="pico",
        ),
        BoardProject(
            "pico2",
            "Raspberry Pi Pico 2 (RP2350, Cortex-M33)",
            "board_pico.c",
            "cortex-m33",
            "pico",
            2048,
            _PICO_SDK,
            "the board's own USB socket",
            pico_board="pico2",
        ),
        BoardProject(
            "nrf52840-dk",
            "Nordic nRF52840-DK (nRF52840, Cortex-M4)",
            "board_nrf52840_dk.c",
            "cortex-m4",
            "make",
            8192,
            "Nordic's nrfx with CMSIS: gcc_startup_nrf52840.S, system_nrf52840.c and nrf52840_xxaa.ld",
            "UART0 through the J-Link's virtual COM port",
            defines=("NRF52840_XXAA",),
        ),
        BoardProject(
            "mps2-an386",
            "Arm MPS2 with AN386 (Cortex-M4), as QEMU emulates it",
            "board_mps2.c",
            "cortex-m4",
            "make",
            16384,
            "nothing: start-up code and linker script are here",
            "UART 0, which `qemu-system-arm -serial pty` connects to a device of your computer",
            port="/dev/pts/N",
            defines=("TIMER_CMSDK=1", "TIMER_BASE=0x40000000u"),
            extra=("startup_cortexm.c", "startup.h", "timer.h", "mps2.ld", "sections.ld"),
            start=("startup_cortexm.c",),
            script="mps2.ld",
        ),
    )
}


def get_board_project(name: str) -> BoardProject:
    """The board of that name.

    Raises: UsageError if there is none; the message lists the names.
    """
    if name not in BOARD_PROJECTS:
        raise UsageError(f"board '{name}': not known; the boards are {', '.join(BOARD_PROJECTS)}")
    return BOARD_PROJECTS[name]
