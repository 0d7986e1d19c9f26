# SPDX-License-Identifier: Apache-2.0
"""Program -> C: every file of the emitted library as text."""

from __future__ import annotations

import re

from midge.codegen.calls import offset_type, pads, place
from midge.codegen.header import internal_header, public_header
from midge.codegen.kernels import LICENCE, emit_kernels, file_name
from midge.codegen.layers import PLACED_ROW_HELPER, ROW_HELPER, Stage, places_source, stage_source, stages, stepped_calls
from midge.codegen.manifest import manifest_text
from midge.codegen.names import check_identifier, comment, plain_text
from midge.codegen.routines import routine_files
from midge.codegen.steps import run_source
from midge.codegen.uses import uses_of
from midge.codegen.weights import weights_source
from midge.errors import IRError
from midge.ir import DType
from midge.program import Port, Program


def emit(program: Program) -> dict[str, str]:
    """Relative path -> text of every file: src/*.h, src/*.c and manifest.json. The same Program gives the same bytes.

    Raises: IRError if the Program is not placed, or a name in it is no C identifier.
    """
    check_program(program)
    name, steps = program.name, stages(program)
    kernels = emit_kernels([call.kernel for call in program.calls], program.numerics, name, program.routines.values(), uses_of(program))
    own = {
        f"{name}.h": public_header(program),
        f"{name}_internal.h": internal_header(program),
        f"{name}.c": main_source(program, steps),
        f"{name}_weights.c": weights_source(program),
    }
    if program.routines:
        own |= routine_files(program)
    clash = own.keys() & kernels.keys()
    if clash:
        raise IRError(f"a family of kernels is named like a file of every library: {', '.join(sorted(clash))}")
    files = {f"src/{path}": text for path, text in sorted({**own, **kernels}.items())}
    return {**files, "manifest.json": manifest_text(program, files)}


def check_program(program: Program) -> None:
    """What the emitted text relies on.

    Raises: IRError.
    """
    check_identifier(program.name, "library name")
    if program.arena_align < 1 or program.arena_align & (program.arena_align - 1):
        raise IRError(f"arena_align {program.arena_align} is no power of two")
    sizes = {"": program.arena_nbytes} | {memory.name: memory.nbytes for memory in program.memories}
    for buffer in program.buffers.values():
        if len(buffer.offsets) != buffer.rows or min(buffer.offsets) < 0 or max(buffer.offsets) + buffer.row_nbytes > sizes.get(buffer.memory, 0):
            raise IRError(f"buffer '{buffer.name}' at {buffer.offset}, {buffer.nbytes} bytes, is not placed in the arena of {program.arena_nbytes} bytes")
    for port in program.inputs + program.outputs:
        if port.type.nbytes > program.buffer(port.buffer).nbytes:
            raise IRError(f"port '{port.name}' has {port.type.nbytes} bytes, its buffer {program.buffer(port.buffer).nbytes}")
    for step in program.steps:
        if step.call >= 0 and program.calls[step.call].scratch_nbytes and step.scratch < 0:
            raise IRError(f"call {step.call} ('{program.calls[step.call].name}') has no place for its scratch")


def main_source(program: Program, steps: list[Stage]) -> str:
    """NAME.c: the layers and the interface."""
    name, prefix = program.name, program.prefix
    families = dict.fromkeys(call.kernel.family for call in program.calls)
    headers = sorted(
        [f"{prefix}_internal.h", *(file_name(f"{family}.h", prefix) for family in families), *([f"{prefix}_routines.h"] if program.routines else [])]
    )
    blocks = [
        f"{LICENCE}\n" + comment(_head(program)),
        f'#include "{name}.h"',
        "#include <stddef.h>" + ("\n#include <string.h>" if program.state_offset >= 0 else ""),
        "\n".join(f'#include "{header}"' for header in headers),
    ]
    meets = [program.buffers.get(operand.buffer) for call in program.calls for operand in call.inputs if pads(call, operand)]
    for helper, wanted in ((ROW_HELPER, any(b is None or b.contiguous for b in meets)), (PLACED_ROW_HELPER, any(b and not b.contiguous for b in meets))):
        if wanted:
            text = helper.replace("NAME_", f"{prefix.upper()}_").replace("OFFSET", offset_type(program))
            blocks.append(re.sub(r"\bname(?=_)", name, text))
    blocks += memories_source(program)
    blocks += places_source(program)
    stepped = stepped_calls(program)
    blocks += [stage_source(program, step, stepped) for step in steps]
    blocks += [_accessor(program, port, f"input_{i}", "") for i, port in enumerate(program.inputs) if not program.streams]
    blocks += [_accessor(program, port, f"output_{i}", "const ") for i, port in enumerate(program.outputs) if not program.hands_out]
    return "\n\n".join([*blocks, *run_source(program)]) + "\n"


def memories_source(program: Program) -> list[str]:
    """The arrays of memories beside the arena."""
    upper, align = program.name.upper(), f"{program.prefix.upper()}_ALIGN4"
    return [
        f"/* {m.nbytes} bytes that are touched most often. */\n"
        f"{upper}_{m.name.upper()}_SECTION {align} static int8_t {program.name}_{m.name}[{upper}_{m.name.upper()}_BYTES];"
        for m in program.memories
        if m.nbytes
    ]


def _head(program: Program) -> list[str]:
    name, upper = program.name, program.name.upper()
    lines = [
        f"{name}: a neural network, compiled by midge.",
        "",
        f"Model {plain_text(program.digest)}; target {plain_text(program.target)}; numerics {plain_text(program.numerics)}.",
        f"Arena {program.arena_nbytes:,} bytes, weights {program.weight_nbytes:,} bytes, {program.macs:,} multiply-accumulates a run.",
        "",
    ]
    sink = ", take, context" if program.hands_out else ""
    if program.streams:
        lines += [
            f"  int wanted = {name}_begin(arena);",
            f"  while (wanted > 0) {{ wanted = {name}_push_rows(arena, row, 1{sink}); }}",
            f"  int error = {name}_finish(arena{sink});",
        ]
    else:
        if program.inputs:
            lines.append(f"  memcpy({name}_input_0(arena), samples, {upper}_INPUT_0_BYTES);")
        lines.append(f"  int error = {name}_run(arena{sink});")
    if program.outputs and not program.hands_out:
        lines.append(f"  const {program.outputs[0].type.dtype.c} *result = {name}_output_0(arena);")
    return lines


def _accessor(program: Program, port: Port, suffix: str, const: str) -> str:
    offset, element = program.buffer(port.buffer).offset, port.type.dtype
    address = place(f"({const}int8_t *)arena", offset)
    if element is not DType.S8:
        address = f"({const}{element.c} *)({const}void *)({address})"
    head = f"{program.prefix.upper()}_CODE_SECTION {const}{element.c} *{program.name}_{suffix}({const}void *arena)"
    return f"{head} {{ return {address}; }}"
