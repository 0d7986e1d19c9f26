# SPDX-License-Identifier: Apache-2.0
"""The functions that run a library: layers one after the other, rows of several layers in turn by a table, and in parts as rows of input come."""

from __future__ import annotations

from midge.codegen.calls import base_of, offset_type, place, places_of
from midge.codegen.header import sink_element
from midge.codegen.layers import function_name, stepped_calls, table_region
from midge.codegen.names import wrapped_list
from midge.codegen.parts import STEPWISE, STREAM
from midge.errors import IRError
from midge.program import HAND_OUT, Buffer, Call, Program, Step

STATE_LIMIT = (1 << 16) - 1  # steps and rows that the state kept in the arena can count

CHECK = """\
  int8_t *base = arena;
  if (base == NULL || ((uintptr_t)base & (UPPER_ARENA_ALIGN - 1u)) != 0u) {
    return UPPER_ERROR_ARENA;
  }"""
_SINK_CHECK = """\
  if (take == NULL) {
    return UPPER_ERROR_OUTPUT;
  }"""


def run_source(program: Program) -> list[str]:
    """The table of steps if there is one, and NAME_run or the functions that run a part."""
    stepped = stepped_calls(program)
    tables, table = _tables(program, stepped), _table_steps(program)
    tables += [_any_step(program, stepped, table)] if _hands_out(table) else []
    if program.state_offset >= 0:
        if len(program.steps) > STATE_LIMIT or any(step.first > STATE_LIMIT for step in program.steps):
            raise IRError(f"{len(program.steps)} steps; a library that runs in parts counts to {STATE_LIMIT}")
        return [*tables, *_parts(program)]
    upper, sink = program.name.upper(), sink_parameters(program)
    checks = [CHECK.replace("UPPER", upper), *([_SINK_CHECK.replace("UPPER", upper)] if sink else [])]
    body = "\n".join([*checks, *_statements(program), f"  return {upper}_OK;"])
    return [*tables, f"{program.prefix.upper()}_CODE_SECTION int {program.name}_run(void *arena{sink}) {{\n{body}\n}}"]


def sink_parameters(program: Program) -> str:
    """What the functions that run take for handing out rows of output."""
    return f", {program.name}_output_rows *take, void *context" if program.hands_out else ""


def _tables(program: Program, stepped: dict[int, int]) -> list[str]:
    """What each step of the table runs: function, first row, number of rows, and where its scratch lies."""
    name, steps = program.name, _table_steps(program)
    if not steps:
        return []
    row = "uint8_t" if all(step.first < 256 for step in steps) else "uint16_t"
    number = "uint8_t" if len(stepped) + len(program.outputs) < 255 else "uint16_t"
    count = "uint8_t" if all(step.count < 256 for step in steps) else "uint16_t"
    functions = ",\n".join(f"    {function_name(program, index)}" for index in stepped)
    entries = wrapped_list([f"{{{_number(stepped, step)}, {step.first}, {step.count}}}" for step in steps], "    ")
    note = f" Function {len(stepped)} stands for rows of input that arrive." if program.streams else ""
    note += f" Function {len(stepped) + 1} + n stands for rows of output n that are handed out." if _hands_out(steps) else ""
    found = [
        f"/* The order in which rows are computed: function, first row, number of rows.{note} */\n"
        f"static const struct {{\n  {number} function;\n  {row} first;\n  {count} count;\n}} {name}_steps[{len(steps)}] = {{\n{entries}\n}};"
    ]
    if stepped:
        kind = f"typedef void {name}_function(int8_t *arena, int32_t first, int32_t count, int8_t *scratch);\n"
        found.insert(0, f"{kind}static {name}_function *const {name}_functions[{len(stepped)}] = {{\n{functions},\n}};")
    if any(step.scratch >= 0 for step in steps):
        places = wrapped_list([str(max(step.scratch, 0)) for step in steps], "    ")
        found.append(f"/* Where each step has its scratch. */\nstatic const {offset_type(program)} {name}_scratch[{len(steps)}] = {{\n{places}\n}};")
    return found


def _table_steps(program: Program) -> list[Step]:
    region = table_region(program)
    return program.steps[region.start : region.stop]


def _hands_out(steps: list[Step]) -> bool:
    return any(step.output >= 0 for step in steps)


def _number(stepped: dict[int, int], step: Step) -> int:
    """What stands for a step's function in the table: calls, then the arrival of rows, then the outputs."""
    return stepped[step.call] if step.call >= 0 else len(stepped) + 1 + step.output


def _one_step(program: Program, steps: list[Step]) -> str:
    """The statement that runs a call of the table."""
    name = program.name
    scratch = f"{base_of(program, program.scratch_memory, 'base')} + {name}_scratch[i]" if any(step.scratch >= 0 for step in steps) else "NULL"
    return f"{name}_functions[{name}_steps[i].function](base, {name}_steps[i].first, {name}_steps[i].count, {scratch});"


def _any_step(program: Program, stepped: dict[int, int], steps: list[Step]) -> str:
    """The function that runs a step of the table, be it a call or a hand-out."""
    name, cases = program.name, []
    for number in sorted({step.output for step in steps} - {-1}):
        buffer = program.buffer(program.outputs[number].buffer)
        cases += [
            f"    case {_number(stepped, Step(HAND_OUT - number, 0, 0))}:",
            f"      return take(context, {number}u, {_handed(program, buffer, f'{name}_steps[i].first')}, {name}_steps[i].first, {name}_steps[i].count);",
        ]
    calls = [f"      {_one_step(program, steps)}"] if stepped else []
    lines = ["/* Run a step. Rows of output that are complete are handed out; what the function for them returns is the result. */"]
    lines.append(f"{program.prefix.upper()}_CODE_SECTION static int {name}_one_step(int8_t *base, uint32_t i{sink_parameters(program)}) {{")
    return "\n".join([*lines, f"  switch ({name}_steps[i].function) {{", *cases, "    default:", *calls, "      return 0;", "  }", "}"])


def _handed(program: Program, buffer: Buffer, row: str) -> str:
    """Address of a row of an output."""
    base, element = base_of(program, buffer.memory, "base"), sink_element(program)
    if not buffer.contiguous:
        address = f"{base} + {places_of(program, buffer)}[{row}]"
    else:
        address = place(base, buffer.offset) + (f" + {row} * {buffer.row_nbytes}" if row != "0" else "")
    return address if element in ("void", "int8_t") else f"(const {element} *)(const void *)({address})"


def _statements(program: Program) -> list[str]:
    """Layers that run at once as calls, and the table as one loop, in the order of the steps."""
    lines: list[str] = []
    region = table_region(program)
    for index, step in enumerate(program.steps):
        if index in region:
            lines += _loop(program) if index == region.start else []
        elif step.output >= 0:
            buffer = program.buffer(program.outputs[step.output].buffer)
            lines += _refused(program, f"take(context, {step.output}u, {_handed(program, buffer, '0')}, 0u, {step.count}u)", "  ")
        else:
            call = program.calls[step.call]
            lines += [f"  MIDGE_HOOK_BEGIN({call.layer});", f"  {function_name(program, step.call)}(base);", *_hook_end(program, call)]
    return lines


def _hook_end(program: Program, call: Call) -> list[str]:
    """What a tracer is told of a call that ran at once: all of its layer's output, or row by row what rows_shown says."""
    buffer, base = program.buffer(call.output), base_of(program, program.buffer(call.output).memory, "base")
    shown = buffer.name == program.layers[call.layer].buffer
    rows = rows_shown(program, call)
    if not rows or not shown:
        return [f"  MIDGE_HOOK_END({call.layer}, 0, {place(base, buffer.offset)}, {buffer.nbytes if shown else 0});"]
    row = f"{place(base, buffer.offset)} + y * {buffer.row_nbytes}" if buffer.contiguous else f"{base} + {places_of(program, buffer)}[y]"
    hook = f"MIDGE_HOOK_END({call.layer}, y, {row}, {buffer.row_nbytes});"
    return [f"  for (int32_t y = {rows.start}; y < {rows.stop}; ++y) {{", f"    {hook}", "  }"]


def rows_shown(program: Program, call: Call) -> range:
    """The rows that a tracer is told one by one of a call that runs at once: all if they lie apart, its own if other calls of its layer run in steps; none
    if the output is told as a whole."""
    buffer, stepped = program.buffer(call.output), stepped_calls(program)
    if not buffer.contiguous:
        return range(buffer.rows)
    mixed = call.row_nbytes == buffer.row_nbytes and any(program.calls[i].layer == call.layer for i in stepped)
    return range(call.first_row, call.first_row + call.rows) if mixed else range(0)


def _loop(program: Program) -> list[str]:
    """The loop over the table."""
    steps = _table_steps(program)
    if _hands_out(steps):
        run = _refused(program, f"{program.name}_one_step(base, i, take, context)", "    ")
        return [f"  for (uint32_t i = 0; i < {len(steps)}u; ++i) {{", *run, "  }"]
    return [f"  for (int32_t i = 0; i < {len(steps)}; ++i) {{", f"    {_one_step(program, steps)}", "  }"]


def _refused(program: Program, give: str, indent: str) -> list[str]:
    """End the run unless what is given is taken."""
    return [f"{indent}if ({give} != 0) {{", f"{indent}  return {program.name.upper()}_ERROR_OUTPUT;", f"{indent}}}"]


def _handing_out(program: Program, steps: list[Step]) -> dict[str, str]:
    """What differs where rows of output are handed out meanwhile: words of parts.py. NAME_advance says by a step behind the last that some were refused."""
    if not program.hands_out:
        nothing = dict.fromkeys(("TAKEN", "PASSED", "SINK_CHECK", "LARGE", "UNREFUSED", "REFUSED"), "")
        return {"STEP": _one_step(program, steps), "LAST": "(void)", **nothing}
    refused = "UINT32_MAX" if program.streams else "UPPER_ERROR_OUTPUT"
    return {
        "STEP": f"if (NAME_one_step(base, i, take, context) != 0) {{\n      return {refused};\n    }}",
        "LAST": "const uint32_t step = ",
        "TAKEN": sink_parameters(program),
        "PASSED": ", take, context",
        "SINK_CHECK": f"{_SINK_CHECK}\n",
        "LARGE": ", a large number if rows of output were refused",
        "UNREFUSED": f"step <= {len(steps)}u && ",
        "REFUSED": f"  if (step > {len(steps)}u) {{\n    return UPPER_ERROR_OUTPUT;\n  }}\n",
    }


def _parts(program: Program) -> list[str]:
    """The functions of a library that stops and goes on."""
    stepped = stepped_calls(program)
    steps = _table_steps(program)
    text = STREAM if program.streams else STEPWISE
    port = program.inputs[0]
    buffer = program.buffer(port.buffer)
    values = {
        "TOTAL": len(steps),
        "ARRIVAL": len(stepped),
        "STATE": program.state_offset,
        "ROWS": buffer.rows,
        "ROW_NBYTES": buffer.row_nbytes,
        "ELEMENTS": buffer.row_nbytes // port.type.dtype.nbytes,
        "ELEMENT": port.type.dtype.c,
        "PLACE": f"{program.name}_rows_{list(program.buffers).index(buffer.name)}[row]"
        if not buffer.contiguous
        else f"{buffer.offset} + row * {buffer.row_nbytes}",
        "CHECK": CHECK,
        **_handing_out(program, steps),
    }
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    text = text.replace("UPPER_CODE", f"{program.prefix.upper()}_CODE")
    return text.replace("UPPER", program.name.upper()).replace("NAME", program.name).split("\n\n")
