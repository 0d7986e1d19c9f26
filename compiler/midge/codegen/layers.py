# SPDX-License-Identifier: Apache-2.0
"""C functions that drive the kernels of a layer, one for each of its calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from midge.codegen.calls import CallWriter, offset_type, places_of
from midge.codegen.names import comment, plain_text, wrapped_list
from midge.errors import IRError
from midge.program import Layer, Program, Step

ROW_HELPER = """\
/* Row `row` of a tensor of `height` rows, or the row of padding if there is none. */
NAME_CODE_SECTION static inline const void *name_row(const int8_t *first, int32_t row, int32_t height, int32_t row_nbytes, const void *pad_row) {
  return (uint32_t)row < (uint32_t)height ? first + row * row_nbytes : pad_row; /* rows above are large numbers */
}"""

PLACED_ROW_HELPER = """\
/* The same of a tensor whose rows lie where `places` says. */
NAME_CODE_SECTION static inline const void *name_placed_row(const int8_t *arena, const OFFSET *places, int32_t row, int32_t height, const void *pad_row) {
  return (uint32_t)row < (uint32_t)height ? arena + places[row] : pad_row;
}"""


@dataclass(frozen=True)
class Stage:
    """A layer with its calls, by index into Program.calls."""

    layer: Layer
    calls: tuple[int, ...]


def stages(program: Program) -> list[Stage]:
    """Layers in the order they run.

    Raises: IRError if calls of a layer are apart or belong to none.
    """
    layers = {layer.index: layer for layer in program.layers}
    found: list[tuple[int, list[int]]] = []
    for index, call in enumerate(program.calls):
        if found and found[-1][0] == call.layer:
            found[-1][1].append(index)
        elif call.layer not in layers or any(call.layer == layer for layer, _ in found):
            raise IRError(f"call {index} ('{call.name}'): layer {call.layer} is not listed or was left before")
        else:
            found.append((call.layer, [index]))
    return [Stage(layers[layer], tuple(calls)) for layer, calls in found]


def places_source(program: Program) -> list[str]:
    """A table for each buffer whose rows are not one after the other."""
    found = []
    for buffer in program.buffers.values():
        if not buffer.contiguous:
            values = wrapped_list([str(max(offset, 0)) for offset in buffer.offsets], "    ")
            head = f"static const {offset_type(program)} {places_of(program, buffer)}[{buffer.rows}] = {{"
            about = f"Where the {buffer.rows} rows of {plain_text(buffer.name)} lie, {buffer.row_nbytes} bytes each."
            found.append("\n".join([comment([about]), head, values, "};"]))
    return found


def table_region(program: Program) -> range:
    """The steps that one loop runs by a table: those from the first that is a part of its layer to the last, and all where a run is cut."""
    inner = [i for i, step in enumerate(program.steps) if not _whole(program, step)]
    if program.state_offset >= 0:
        return range(len(program.steps))
    return range(inner[0], inner[-1] + 1) if inner else range(0)


def _whole(program: Program, step: Step) -> bool:
    """Whether a step is all of a call, or of an output that is handed out."""
    if step.call >= 0:
        return step.count == program.calls[step.call].rows
    return step.output >= 0 and step.count == program.buffer(program.outputs[step.output].buffer).rows


def stepped_calls(program: Program) -> dict[int, int]:
    """Call -> its number in the table of functions: the calls that run in several steps or between those of others, and all where a run is cut."""
    calls = {program.steps[i].call for i in table_region(program)}
    return {call: number for number, call in enumerate(sorted(call for call in calls if call >= 0))}


def function_name(program: Program, index: int) -> str:
    """The C function of a call."""
    return f"{program.name}_{_stem(program, index)}"


def _stem(program: Program, index: int) -> str:
    layer = program.calls[index].layer
    same = [i for i, call in enumerate(program.calls) if call.layer == layer]
    return f"layer{layer}" + (f"_{same.index(index)}" if len(same) > 1 else "")


def stage_source(program: Program, stage: Stage, stepped: Mapping[int, int]) -> str:
    """The params and constants of a layer, and a function for each of its calls."""
    section = f"{program.prefix.upper()}_CODE_SECTION static void"
    blocks, functions = [stage_comment(program, stage)], []
    for index in stage.calls:
        call = CallWriter(program, index, _stem(program, index), index in stepped)
        blocks += call.structs()
        if index in stepped:
            head = f"{section} {function_name(program, index)}(int8_t *arena, int32_t first, int32_t count, int8_t *scratch) {{"
            functions.append("\n".join([head, *call.unused(), call.body(), "}"]))
        else:
            functions.append("\n".join([f"{section} {function_name(program, index)}(int8_t *arena) {{", *call.unused(), call.body(), "}"]))
    return "\n".join([*blocks, "\n\n".join(functions)])


def stage_comment(program: Program, stage: Stage) -> str:
    """Name, shapes, and where the operands live."""
    layer, calls = stage.layer, [program.calls[index] for index in stage.calls]
    lines = [f"Layer {layer.index}: {plain_text(layer.name)}", plain_text(layer.text) + (f", {layer.macs:,} MACs" if layer.macs else "")]
    read = dict.fromkeys(operand.buffer for call in calls for operand in call.inputs if operand.buffer)
    lines += [f"  reads  {_whereabouts(program, name)}" for name in read]
    lines += [f"  writes {_whereabouts(program, name)}" for name in dict.fromkeys(call.output for call in calls)]
    for index, call in zip(stage.calls, calls, strict=True):
        places = sorted({step.scratch for step in program.steps if step.call == index})
        if call.scratch_nbytes and places:
            lines.append(f"  scratch at {places[0]}" + (f" to {places[-1]}" if len(places) > 1 else "") + f", {call.scratch_nbytes} bytes")
    return comment(lines)


def _whereabouts(program: Program, name: str) -> str:
    buffer = program.buffer(name)
    end = buffer.live[1]
    until = "the run starts" if end < 0 else _reader(program, end)
    if buffer.memory:
        return f"{plain_text(name)} in {buffer.memory}"
    if buffer.pieces:
        return f"{plain_text(name)}, which is a view of {', '.join(plain_text(shown) for shown in dict.fromkeys(piece.buffer for piece in buffer.pieces))}"
    if buffer.contiguous:
        return f"{plain_text(name)} at {buffer.offset}, {buffer.nbytes} bytes, kept until {until}"
    low, high = min(buffer.offsets), max(buffer.offsets) + buffer.row_nbytes
    return f"{plain_text(name)}, {buffer.rows} rows of {buffer.row_nbytes} bytes between {low} and {high}"


def _reader(program: Program, step: int) -> str:
    """What a buffer is kept for that is last read at a step."""
    if step >= len(program.steps):
        return "after the run"
    call = program.steps[step].call
    return f"layer {program.calls[call].layer}" if call >= 0 else "it is handed out"
