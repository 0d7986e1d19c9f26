# SPDX-License-Identifier: Apache-2.0
"""The test firmware as Python sees it: the header that adapts it to a library, the files it reads and writes, the results.

Files, all little-endian:

- input.bin: samples one after the other, each the bytes of all inputs in order; output.bin: the outputs likewise.
- result.bin: 11 words (magic, status, sample, return code, ticks low, ticks high, ticks of an empty measurement, stack bytes, layers, calibration pairs,
  calibration ticks), then per layer 3 words (ticks low, ticks high, number of END hooks).
- layers.bin: per END hook 4 words (sample, layer, row, nbytes) and the bytes. constants.bin: midge.run.constants.
- fault.bin: 6 words (exception number, pc, lr, whether the stack pointer was outside the stack, CFSR, BFAR).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midge.errors import UsageError, VerifyFailed
from midge.run.adapter import STREAMED_INPUT, STREAMED_RUN, handed_out
from midge.run.constants import constants_code
from midge.toolchain import Sizes

Bytes = NDArray[np.uint8]

_MAGIC = 0x6567646D
_HEADER = struct.Struct("<3Ii7I")
_LAYER = struct.Struct("<3I")
_RECORD = struct.Struct("<4I")
_STATUS = (
    "ok",
    "{name}_run returned {code}",
    "{name}_run wrote before the start of its arena",
    "{name}_run wrote past the end of its arena ({arena} bytes)",
    "the stack overflowed",
    "a file could not be read or written",
)


@dataclass(frozen=True)
class Model:
    """What the manifest of an emitted library says and running it needs."""

    name: str
    arena_bytes: int
    input_bytes: tuple[int, ...]
    output_bytes: tuple[int, ...]
    layer_names: Mapping[int, str]

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Model:
        """Take the fields out of the parsed manifest.json."""
        return cls(
            name=manifest["name"],
            arena_bytes=manifest["arena_bytes"],
            input_bytes=tuple(int(tensor["nbytes"]) for tensor in manifest["inputs"]),
            output_bytes=tuple(int(tensor["nbytes"]) for tensor in manifest["outputs"]),
            layer_names={int(layer["index"]): str(layer["name"]) for layer in manifest["layers"]},
        )


@dataclass(frozen=True)
class RunResult:
    """What running a library on some samples gave.

    outputs: per model output the raw bytes, (N, nbytes). layers: (sample, layer) -> bytes of the layer's output in row order, when traced.
    instructions: of one run, hooks excluded. layer_instructions: per layer of one run, when profiled. stack_bytes: high-water mark of the run.
    sizes: of the library's objects, whether used or not; None on the host. constants: the CRC-32 of each constant as it lies in the program, if looked at.
    """

    outputs: list[Bytes]
    layers: dict[tuple[int, int], bytes] | None = None
    instructions: int | None = None
    layer_instructions: dict[int, int] | None = None
    stack_bytes: int | None = None
    sizes: Sizes | None = None
    constants: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Measurement:
    """result.bin, parsed."""

    status: int
    sample: int
    code: int
    ticks: int
    empty_ticks: int
    stack_bytes: int
    calibration_pairs: int
    calibration_ticks: int
    layers: tuple[tuple[int, int], ...]  # (ticks, ENDs) per layer


def read_model(directory: Path) -> Model:
    """The Model of an emitted library's folder.

    Raises:
        UsageError: the folder holds no emitted library.
    """
    path = directory / "manifest.json"
    if not path.is_file():
        raise UsageError(f"{directory}: has no manifest.json; name a folder written by midge compile")
    return Model.from_manifest(json.loads(path.read_text(encoding="utf-8")))


def library_sources(directory: Path) -> list[Path]:
    """C sources of an emitted library, sorted by name."""
    return sorted((directory / "src").glob("*.c"))


def adapter_header(manifest: Mapping[str, Any]) -> str:
    """Text of midge_model.h: one model's API under names the test firmware knows."""
    model = Model.from_manifest(manifest)
    name, upper = model.name, model.name.upper()
    sink = ", model_take, model_next" if manifest.get("hands_out") else ""
    inputs, run = _pointer_function("void *model_input(void *arena", f"(void *){name}_input_", len(model.input_bytes)), f"    return {name}_run(arena{sink});"
    if manifest.get("runs") == "stream":
        inputs, run = STREAMED_INPUT.replace("UPPER", upper), STREAMED_RUN.replace("UPPER", upper).replace("NAME", name).replace("SINK", sink)
    outputs = _pointer_function("const void *model_output(const void *arena", f"(const void *){name}_output_", len(model.output_bytes))
    if sink:
        run = "    for (unsigned i = 0; i < MODEL_OUTPUT_COUNT; ++i) {\n        model_next[i] = 0;\n    }\n" + run
        outputs = ""
        inputs = f"{handed_out(manifest, upper)}\n{inputs}"
    return f"""\
/* Generated: the API of {name} under the names the test firmware uses. */
#ifndef MIDGE_MODEL_H
#define MIDGE_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "{name}.h"

#define MODEL_NAME "{name}"
#define MODEL_DIGEST {upper}_MODEL_DIGEST
#define MODEL_ARENA_BYTES ((uint32_t){upper}_ARENA_BYTES)
#define MODEL_ARENA_ALIGN {manifest["arena_align"]}u
#define MODEL_INPUT_COUNT {len(model.input_bytes)}
#define MODEL_OUTPUT_COUNT {len(model.output_bytes)}
#define MODEL_LAYER_COUNT {max(model.layer_names, default=-1) + 1}u

{inputs}
static inline int model_run(void *arena) {{
{run}
}}

{_size_function("model_input_bytes", model.input_bytes)}
{outputs}
{_size_function("model_output_bytes", model.output_bytes)}
{constants_code(manifest)}
#endif
"""


def _pointer_function(head: str, call: str, count: int) -> str:
    cases = "".join(f"    case {i}:\n        return {call}{i}(arena);\n" for i in range(count))
    return f"static inline {head}, uint32_t index) {{\n    switch (index) {{\n{cases}    default:\n        return (void *)0;\n    }}\n}}\n"


def _size_function(name: str, sizes: Sequence[int]) -> str:
    cases = "".join(f"    case {i}:\n        return {size}u;\n" for i, size in enumerate(sizes))
    return f"static inline size_t {name}(uint32_t index) {{\n    switch (index) {{\n{cases}    default:\n        return 0;\n    }}\n}}\n"


def pack_inputs(model: Model, inputs: Sequence[NDArray[Any]]) -> bytes:
    """Contents of input.bin: one array (N, ...) per model input, bytes taken as they are.

    Raises:
        UsageError: the number of arrays, of samples, or of bytes in a sample is not the model's.
    """
    if len(inputs) != len(model.input_bytes):
        raise UsageError(f"{model.name}: got {len(inputs)} input arrays, the model has {len(model.input_bytes)} inputs")
    if not inputs:
        return b""
    columns = []
    for index, (array, nbytes) in enumerate(zip(inputs, model.input_bytes, strict=True)):
        count = len(inputs[0])
        if array.ndim == 0 or len(array) != count or array.nbytes != count * nbytes:
            got = f"{array.dtype}{list(array.shape)}"
            raise UsageError(f"{model.name}: input {index} is {got}, {array.nbytes} bytes; wanted {count} samples of {nbytes} bytes")
        columns.append(np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8).reshape(count, nbytes))
    return np.concatenate(columns, axis=1).tobytes()


def read_outputs(path: Path, model: Model, samples: int) -> list[Bytes]:
    """output.bin as one (N, nbytes) array per model output.

    Raises:
        VerifyFailed: the firmware wrote fewer or more bytes than the samples have.
    """
    data = np.frombuffer(path.read_bytes(), np.uint8)
    row = sum(model.output_bytes)
    if data.size != samples * row:
        raise VerifyFailed(f"{model.name}: {data.size} bytes of output from {samples} samples of {row} bytes; not every sample was run")
    table = data.reshape(samples, row)
    ends = np.cumsum(model.output_bytes)
    return [table[:, end - size : end].copy() for size, end in zip(model.output_bytes, ends, strict=True)]


def read_layers(path: Path) -> dict[tuple[int, int], bytes]:
    """layers.bin as (sample, layer) -> the bytes of its rows, in row order."""
    data = path.read_bytes()
    rows: dict[tuple[int, int], dict[int, bytes]] = {}
    position = 0
    while position < len(data):
        sample, layer, row, nbytes = _RECORD.unpack_from(data, position)
        position += _RECORD.size
        rows.setdefault((sample, layer), {})[row] = data[position : position + nbytes]  # a row that several calls complete: the last
        position += nbytes
    return {key: b"".join(parts[row] for row in sorted(parts)) for key, parts in rows.items()}


def read_measurement(path: Path) -> Measurement:
    """result.bin, parsed.

    Raises:
        VerifyFailed: there is none, or it is cut short: the firmware did not reach its end.
    """
    data = path.read_bytes() if path.is_file() else b""
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[0] != _MAGIC:
        raise VerifyFailed("the test firmware ended without a result")
    _, status, sample, code, low, high, empty, stack, layers, pairs, ticks = _HEADER.unpack_from(data)
    costs = [_LAYER.unpack_from(data, _HEADER.size + index * _LAYER.size) for index in range(layers)]
    return Measurement(status, sample, code, low | high << 32, empty, stack, pairs, ticks, tuple((a | b << 32, ends) for a, b, ends in costs))


def check_measurement(measured: Measurement, model: Model, where: str) -> None:
    """Raise VerifyFailed with the firmware's own finding, if it had one."""
    if measured.status != 0:
        text = _STATUS[measured.status].format(name=model.name, code=measured.code, arena=model.arena_bytes)
        raise VerifyFailed(f"{model.name} on {where}: sample {measured.sample}: {text}")


def total_instructions(measured: Measurement, ticks_per_instruction: Fraction) -> int:
    """Instructions of the run of sample 0."""
    return round((measured.ticks - measured.empty_ticks) / ticks_per_instruction)


def layer_instructions(measured: Measurement, ticks_per_instruction: Fraction) -> dict[int, int]:
    """Instructions per layer of sample 0, less what the hooks themselves took; layers without an END are left out."""
    overhead = Fraction(measured.calibration_ticks, max(1, measured.calibration_pairs))
    return {index: max(0, round((ticks - ends * overhead) / ticks_per_instruction)) for index, (ticks, ends) in enumerate(measured.layers) if ends}
