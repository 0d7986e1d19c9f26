# SPDX-License-Identifier: Apache-2.0
"""A test bench that a written library carries: inputs, expected outputs and a sum over each layer as C, built by a Makefile or CMake of its own.

The sum of a layer is that of its rows, modulo 2^32, and a row counts by the CRC-32 of its number (4 bytes, little-endian) and its bytes: rows come in the
order of the schedule, so the sum does not depend on it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from midge.codegen.layers import stepped_calls
from midge.codegen.manifest import manifest_text
from midge.codegen.names import c_string, comment, wrapped_list
from midge.codegen.steps import rows_shown
from midge.ir import Array, Graph
from midge.program import Buffer, Contract, Layer, Program, planar_order
from midge.run.firmware import adapter_header
from midge.run.reference import run_reference
from midge.toolchain import runtime_dir

FOLDER = "test"
_COPIED = {"golden_bench.c": "golden_bench.c", "golden_bench.h": "golden_bench.h", "golden_hooks.h": "golden_hooks.h", "main.c": "golden_main.c"}
_LICENCE = "/* SPDX-License-Identifier: 0BSD */\n"
_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class _Rows:
    """The rows that a layer shows: number -> (first byte, bytes) in its buffer. again: some show several times, the last counts. whole: none is shown for
    the last time before it is complete."""

    places: dict[int, tuple[int, int]]
    again: bool
    whole: bool

    @property
    def slots(self) -> int:
        return max(self.places) + 1 if self.again and self.whole else 0


def golden_files(program: Program, graph: Graph, samples: Sequence[Sequence[Array]]) -> dict[str, str]:
    """Relative path -> text of test/: everything but the library's own sources."""
    runtime = runtime_dir()
    files = {name: (runtime / source).read_text("utf-8") for name, source in _COPIED.items()}
    shown = [_rows(program, layer) for layer in program.layers]
    files["golden_size.h"] = f"{_LICENCE}#define GOLDEN_LAYERS {len(shown)}u\n#define GOLDEN_SLOTS {sum(rows.slots for rows in shown)}u\n"
    files["golden_data.c"] = _data(program, graph, samples, shown)
    files["midge_model.h"] = _LICENCE + adapter_header(json.loads(manifest_text(program, {})))
    files |= {"Makefile": _MAKEFILE, "CMakeLists.txt": _CMAKE.replace("@NAME@", program.name), "README.md": _README.replace("@NAME@", program.name)}
    return {f"{FOLDER}/{name}": text for name, text in sorted(files.items())}


def _shown(program: Program, layer: Layer) -> Iterator[tuple[int, int, int]]:
    """What MIDGE_HOOK_END tells of a layer, in the order it does: row, first byte, bytes."""
    stepped = stepped_calls(program)
    for step in program.steps:
        if step.call < 0:
            continue
        call = program.calls[step.call]
        if call.layer != layer.index or call.output != layer.buffer:
            continue
        buffer = program.buffer(call.output)
        if step.call not in stepped:
            rows = rows_shown(program, call)
            yield from [(row, row * buffer.row_nbytes, buffer.row_nbytes) for row in rows] if rows else [(0, 0, buffer.nbytes)]
        elif call.kernel.contract is Contract.REDUCE:
            if step.first + step.count == call.rows:
                yield 0, 0, buffer.nbytes
        else:
            for row in range(call.first_row + step.first, call.first_row + step.first + step.count):
                yield row, row * call.row_nbytes, call.row_nbytes


def _rows(program: Program, layer: Layer) -> _Rows:
    last: dict[int, tuple[int, int, int]] = {}  # row -> (when, first byte, bytes)
    events = list(_shown(program, layer))
    for when, (row, start, nbytes) in enumerate(events):
        last[row] = (when, start, nbytes)
    spoiled = any(
        later > when and start < other + count and other < start + nbytes for when, start, nbytes in last.values() for later, other, count in last.values()
    )
    return _Rows({row: place[1:] for row, place in last.items()}, len(events) > len(last), bool(events) and not spoiled)


def _in_arena(buffer: Buffer, value: Array) -> bytes:
    """A value as its buffer holds it."""
    data = np.ascontiguousarray(value).reshape(-1)
    if buffer.planar:
        _, width, channels = buffer.type.hwc
        rows = data.reshape(-1, width * channels)
        planar = np.empty_like(rows)
        planar[:, planar_order(width, channels)] = rows
        data = planar
    return data.tobytes()


def _sum(rows: _Rows, data: bytes) -> int:
    return sum(zlib.crc32(row.to_bytes(4, "little") + data[start : start + nbytes]) for row, (start, nbytes) in rows.places.items()) & _MASK


def _data(program: Program, graph: Graph, samples: Sequence[Sequence[Array]], shown: Sequence[_Rows]) -> str:
    """golden_data.c."""
    inputs, outputs, sums = b"", b"", []
    for sample in samples:
        values = run_reference(graph, dict(zip(graph.inputs, sample, strict=True)))
        inputs += b"".join(np.ascontiguousarray(values[name]).tobytes() for name in graph.inputs)
        outputs += b"".join(np.ascontiguousarray(values[name]).tobytes() for name in graph.outputs)
        sums += [_sum(rows, _in_arena(program.buffer(layer.buffer), values[layer.buffer])) for layer, rows in zip(program.layers, shown, strict=True)]
    table, first = [], 0
    for layer, rows in zip(program.layers, shown, strict=True):
        table.append(f"    {{{c_string(layer.name)}, {first}u, {rows.slots}u, {int(rows.whole)}}},")
        first += rows.slots
    return "\n".join(
        [
            _LICENCE + comment([f"What model {program.digest} gives for {len(samples)} samples."]),
            '#include "golden_bench.h"\n',
            f"const uint32_t golden_samples = {len(samples)}u, golden_layers = {len(shown)}u;\n",
            f"const uint8_t golden_inputs[] = {{\n{_bytes(inputs)}\n}};\n",
            f"const uint8_t golden_outputs[] = {{\n{_bytes(outputs)}\n}};\n",
            "const struct golden_layer golden_layer_table[] = {",
            *(table or ["    {0}"]),
            "};\n",
            f"const uint32_t golden_sums[] = {{\n{wrapped_list([f'0x{value:08X}u' for value in sums] or ['0'], '    ')}\n}};\n",
        ]
    )


def _bytes(data: bytes) -> str:
    return wrapped_list([str(byte) for byte in data] or ["0"], "    ")


_MAKEFILE = """\
# SPDX-License-Identifier: 0BSD
# `make check` builds the library of ../src with its layers shown, runs it on the stored inputs, and fails at the first difference.
# For another target: make CC=arm-none-eabi-gcc CFLAGS="-O2 -mcpu=..." LDFLAGS="..." RUN="an emulator or a loader"
# Sources of your own (start-up code): EXTRA.
CFLAGS ?= -O2
BUILD ?= build
EXTRA ?=
RUN ?=

SOURCES := $(wildcard ../src/*.c)
OBJECTS := $(patsubst ../src/%.c,$(BUILD)/library/%.o,$(SOURCES)) $(addprefix $(BUILD)/,golden_bench.o golden_data.o main.o)

$(BUILD)/golden: $(OBJECTS) $(EXTRA)
	$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(BUILD)/library/%.o: ../src/%.c golden_hooks.h $(wildcard ../src/*.h)
	@mkdir -p $(@D)
	$(CC) -std=c99 $(CFLAGS) -I../src -include golden_hooks.h -c $< -o $@

$(BUILD)/%.o: %.c golden_bench.h golden_hooks.h golden_size.h midge_model.h $(wildcard ../src/*.h)
	@mkdir -p $(@D)
	$(CC) -std=c99 $(CFLAGS) -I../src -I. -c $< -o $@

check: $(BUILD)/golden
	$(RUN) $(BUILD)/golden

clean:
	rm -rf $(BUILD)
.PHONY: check clean
"""

_CMAKE = """\
# SPDX-License-Identifier: 0BSD
# cmake -B build-cmake && cmake --build build-cmake && ctest --test-dir build-cmake
cmake_minimum_required(VERSION 3.13)
project(@NAME@_golden C)
enable_testing()
set(HERE ${CMAKE_CURRENT_SOURCE_DIR})
file(GLOB LIBRARY_SOURCES CONFIGURE_DEPENDS ${HERE}/../src/*.c)
add_executable(@NAME@_golden ${LIBRARY_SOURCES} golden_bench.c golden_data.c main.c)
# The library shows its layers through the hooks.
set_source_files_properties(${LIBRARY_SOURCES} PROPERTIES COMPILE_OPTIONS "-include;${HERE}/golden_hooks.h")
set_target_properties(@NAME@_golden PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF)
target_include_directories(@NAME@_golden PRIVATE ${HERE} ${HERE}/../src)
if(CMAKE_C_COMPILER_ID MATCHES "GNU|Clang" AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES AND NOT CMAKE_C_FLAGS MATCHES "-O")
  target_compile_options(@NAME@_golden PRIVATE -O2)
endif()
add_test(NAME golden COMMAND @NAME@_golden)
"""

_README = """\
<!-- SPDX-License-Identifier: 0BSD -->
# Golden test of @NAME@

Inputs, the outputs that the model gives for them, and a sum over the rows of every layer, as C. The test runs wherever C does:

    make check
    cmake -B build-cmake && cmake --build build-cmake && ctest --test-dir build-cmake --output-on-failure

It exits with 0 if all is as it should be; otherwise with the number of the first layer that differs plus 1 (outputs count behind the layers, 254 stands for
all that is higher), or with 255 if the library returned an error. It prints the name of the layer; with `-DGOLDEN_QUIET` it prints nothing and needs no
stdio. In a firmware of your own call `golden_run` of `golden_bench.h`.
"""
