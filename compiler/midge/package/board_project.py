# SPDX-License-Identifier: Apache-2.0
"""The files of a project that serves `midge verify --on serial:PORT` from a board: the server, the board's UART and counter, and a build file.

Start-up code, linker script and headers of the chip stay in its maker's package; the build file asks for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from midge.errors import UsageError
from midge.package.boards import BoardProject
from midge.run.firmware import adapter_header
from midge.targets import get_target
from midge.toolchain import runtime_dir

MODEL = "model"
ADAPTER = "midge_model.h"
_COMMON = ("board.h", "hil_server.c", "hil_server.h", "midge_hooks.h")
_SPDX = "SPDX-License-Identifier: "


def project_files(board: BoardProject, manifest: Mapping[str, Any] | None) -> dict[str, str]:
    """Relative path -> text of everything but the library, which lies in model/. manifest: of that library, if there is one."""
    runtime = runtime_dir()
    files = {name: runtime / name for name in (*_COMMON, *board.extra)} | {"board.c": runtime / board.source, "main.c": runtime / "board_main.c"}
    found = {name: path.read_text("utf-8").replace(f"{_SPDX}Apache-2.0", f"{_SPDX}0BSD", 1) for name, path in files.items()}
    found["README.md"] = _readme(board)
    found.update({"CMakeLists.txt": _cmake(board)} if board.build == "pico" else {"Makefile": _makefile(board)})
    if manifest is not None:
        found[ADAPTER] = f"/* {_SPDX}0BSD */\n" + adapter_header(manifest)
    return found


def write_project(files: Mapping[str, str], directory: Path) -> None:
    """Write the files; those that are there already must be the same, but for the one that depends on the model.

    Raises: UsageError if a file was changed by somebody, or cannot be written.
    """
    changed = [name for name, text in files.items() if name != ADAPTER and (directory / name).exists() and (directory / name).read_bytes() != text.encode()]
    if changed:
        raise UsageError(f"{directory / changed[0]}: is there already and was changed; name another folder, or remove the file to have it written again")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_bytes(text.encode())
    except OSError as error:
        raise UsageError(f"{directory}: cannot be written: {error.strerror or error}") from None


def _makefile(board: BoardProject) -> str:
    flags = " ".join(get_target(board.target).flags)
    defines = " ".join(f"-D{define}" for define in (*board.defines, f"MIDGE_HIL_STACK_BYTES={board.stack_bytes}u"))
    own = bool(board.script)
    return (
        _MAKEFILE.replace("@TITLE@", board.title)
        .replace("@VENDOR@", board.vendor)
        .replace("@SOURCES@", " ".join(board.start))
        .replace("@INCLUDES@", ".")
        .replace("@SCRIPT@", board.script)
        .replace("@FLAGS@", flags)
        .replace("@DEFINES@", defines)
        .replace("@LINK@", "-nostartfiles -Wl,--no-warn-rwx-segments -L." if own else "")
    )


_MAKEFILE = """\
# SPDX-License-Identifier: 0BSD
# Firmware for @TITLE@ that serves `midge verify --on serial:PORT`.
#
# From elsewhere: @VENDOR@. Name the files here or on the command line.
VENDOR_SOURCES ?= @SOURCES@
VENDOR_INCLUDES ?= @INCLUDES@
LINKER_SCRIPT ?= @SCRIPT@

CC := arm-none-eabi-gcc
FLAGS := @FLAGS@
CFLAGS := -std=gnu11 -O2 -g -ffunction-sections -fdata-sections -Wall @DEFINES@ $(addprefix -I,. model/src $(VENDOR_INCLUDES))
LDFLAGS := --specs=nano.specs --specs=nosys.specs -Wl,--gc-sections @LINK@

MODEL := $(patsubst model/src/%.c,build/model/%.o,$(wildcard model/src/*.c))
OBJECTS := build/main.o build/board.o build/hil_server.o $(patsubst %,build/vendor/%.o,$(notdir $(VENDOR_SOURCES)))

build/firmware.elf: $(OBJECTS) $(MODEL)
	$(if $(LINKER_SCRIPT),,$(error LINKER_SCRIPT is not set: see README.md))
	$(CC) $(FLAGS) $(LDFLAGS) -T$(LINKER_SCRIPT) $^ -o $@

# The library shows its layers through the hooks.
build/model/%.o: model/src/%.c midge_hooks.h
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(CFLAGS) -include midge_hooks.h -c $< -o $@

build/%.o: %.c board.h hil_server.h midge_model.h
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(CFLAGS) -c $< -o $@

define vendor_rule
build/vendor/$(notdir $(1)).o: $(1)
	@mkdir -p $$(@D)
	$$(CC) $$(FLAGS) $$(CFLAGS) -w -c $$< -o $$@
endef
$(foreach source,$(VENDOR_SOURCES),$(eval $(call vendor_rule,$(source))))

midge_model.h:
	$(error there is no model here yet: run midge board again with one)

clean:
	rm -rf build
.PHONY: clean
"""


def _cmake(board: BoardProject) -> str:
    return _CMAKE.replace("@TITLE@", board.title).replace("@BOARD@", board.pico_board).replace("@STACK@", str(board.stack_bytes))


_CMAKE = """\
# SPDX-License-Identifier: 0BSD
# Firmware for @TITLE@ that serves `midge verify --on serial:PORT`. PICO_SDK_PATH names the Pico SDK.
cmake_minimum_required(VERSION 3.13)
set(PICO_BOARD @BOARD@)
include($ENV{PICO_SDK_PATH}/external/pico_sdk_import.cmake)
project(midge_board C CXX ASM)
set(CMAKE_C_STANDARD 11)
if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/midge_model.h)
  message(FATAL_ERROR "there is no model here yet: run midge board again with one")
endif()
pico_sdk_init()

file(GLOB MODEL_SOURCES CONFIGURE_DEPENDS model/src/*.c)
# The library shows its layers through the hooks.
set_source_files_properties(${MODEL_SOURCES} PROPERTIES COMPILE_OPTIONS "-O2;-include;${CMAKE_CURRENT_SOURCE_DIR}/midge_hooks.h")
add_executable(firmware main.c board.c hil_server.c ${MODEL_SOURCES})
target_include_directories(firmware PRIVATE . model/src)
target_compile_definitions(firmware PRIVATE MIDGE_HIL_STACK_BYTES=@STACK@u PICO_STACK_SIZE=0x1000)
target_link_libraries(firmware pico_stdlib hardware_clocks)
pico_enable_stdio_usb(firmware 1)
pico_enable_stdio_uart(firmware 0)
pico_add_extra_outputs(firmware)
"""


def _readme(board: BoardProject) -> str:
    build = _BUILD_PICO if board.build == "pico" else _BUILD_OWN if board.script else _BUILD_VENDOR.format(vendor=board.vendor)
    return _README.format(title=board.title, name=board.name, line=board.line, port=board.port, build=build, stack=board.stack_bytes)


_BUILD_PICO = """\
    PICO_SDK_PATH=/path/to/pico-sdk cmake -B build && cmake --build build

and copy `build/firmware.uf2` to the board's drive (hold BOOTSEL while you plug it in)."""
_BUILD_OWN = """\
    make
    qemu-system-arm -M mps2-an386 -display none -monitor none -serial pty -kernel build/firmware.elf

QEMU says which device its serial line became."""
_BUILD_VENDOR = """\
From the maker's package you need: {vendor}.

    make VENDOR_SOURCES="..." VENDOR_INCLUDES="..." LINKER_SCRIPT=...

and flash `build/firmware.elf` with the maker's tool. If your clock set-up is not that of `SystemInit`, call it at the start of `main`, before
`board_init`."""

_README = """\
<!-- SPDX-License-Identifier: 0BSD -->
# Verify a library on the {title}

This project serves `midge verify --on serial:PORT`: it runs the library in `model/` on the board and hands over every layer, which your computer compares
byte by byte with what the model says. The serial line is {line}.

To put a model here, or another one:

    midge board {name} -o . model.onnx

To build:

{build}

To verify:

    midge verify model --on serial:{port}
    midge verify model --on serial:{port} --real-time 10 --samples 100

`main.c` starts the server, `board.c` is the UART and the cycle counter, `hil_server.c` is the same on every board. The server paints {stack} bytes
below its stack pointer to see how deep a run goes: they must belong to the stack (`MIDGE_HIL_STACK_BYTES`). Interrupts that come meanwhile are counted in.
Hooks that show layers cost a call for each row; a library built without them is a little faster.
"""
