# SPDX-License-Identifier: Apache-2.0
"""The functions that run a library: layers one after the other, rows of several layers in turn by a table, and in parts as rows of input come."""

from __future__ import annotations

from midge.codegen.calls import base_of, offset_type, place
from midge.codegen.layers import function_name, stepped_calls
from midge.codegen.names import wrapped_list
from midge.errors import IRError
from midge.program import Program, Step

STATE_LIMIT = (1 << 16) - 1  # steps and rows that the state kept in the arena can count

CHECK = """\
  int8_t *base = arena;
  if (base == NULL || ((uintptr_t)base & (UPPER_ARENA_ALIGN - 1u)) != 0u) {
    return UPPER_ERROR_ARENA;
  }"""


def run_source(program: Program) -> list[str]:
    """The table of steps if there is one, and NAME_run or the functions that run a part."""
    stepped = stepped_calls(program)
    tables = _tables(program, stepped)
    if program.state_offset >= 0:
        if len(program.steps) > STATE_LIMIT or any(step.first > STATE_LIMIT for step in program.steps):
            raise IRError(f"{len(program.steps)} steps; a library that runs in parts counts to {STATE_LIMIT}")
        return [*tables, *_parts(program)]
    check = CHECK.replace("UPPER", program.name.upper())
    body = "\n".join(_statements(program, stepped))
    return [*tables, f"{program.prefix.upper()}_CODE_SECTION int {program.name}_run(void *arena) {{\n{check}\n{body}\n  return {program.name.upper()}_OK;\n}}"]


def _tables(program: Program, stepped: dict[int, int]) -> list[str]:
    """What each step of the table runs: function, first row, number of rows, and where its scratch lies."""
    if not stepped:
        return []
    name, steps = program.name, _table_steps(program, stepped)
    row = "uint8_t" if all(step.first < 256 for step in steps) else "uint16_t"
    number = "uint8_t" if len(stepped) < 256 else "uint16_t"
    count = "uint8_t" if all(step.count < 256 for step in steps) else "uint16_t"
    arrival = len(stepped)
    functions = ",\n".join(f"    {function_name(program, index)}" for index in stepped)
    entries = wrapped_list([f"{{{stepped.get(step.call, arrival)}, {step.first}, {step.count}}}" for step in steps], "    ")
    note = f" Function {arrival} stands for rows of input that arrive." if any(step.call < 0 for step in steps) else ""
    found = [
        f"typedef void {name}_function(int8_t *arena, int32_t first, int32_t count, int8_t *scratch);\n"
        f"static {name}_function *const {name}_functions[{len(stepped)}] = {{\n{functions},\n}};",
        f"/* The order in which rows are computed: function, first row, number of rows.{note} */\n"
        f"static const struct {{\n  {number} function;\n  {row} first;\n  {count} count;\n}} {name}_steps[{len(steps)}] = {{\n{entries}\n}};",
    ]
    if any(step.scratch >= 0 for step in steps):
        places = wrapped_list([str(max(step.scratch, 0)) for step in steps], "    ")
        found.append(f"/* Where each step has its scratch. */\nstatic const {offset_type(program)} {name}_scratch[{len(steps)}] = {{\n{places}\n}};")
    return found


def _table_steps(program: Program, stepped: dict[int, int]) -> list[Step]:
    return [step for step in program.steps if step.call in stepped or step.call < 0]


def _one_step(program: Program, steps: list[Step]) -> str:
    name = program.name
    scratch = f"{base_of(program, program.scratch_memory, 'base')} + {name}_scratch[i]" if any(step.scratch >= 0 for step in steps) else "NULL"
    return f"{name}_functions[{name}_steps[i].function](base, {name}_steps[i].first, {name}_steps[i].count, {scratch});"


def _statements(program: Program, stepped: dict[int, int]) -> list[str]:
    """Layers that run at once as calls, and the table as one loop, in the order of the steps."""
    lines: list[str] = []
    looped = False
    for step in program.steps:
        call = program.calls[step.call]
        if step.call in stepped:
            if not looped:
                steps = _table_steps(program, stepped)
                lines += [f"  for (int32_t i = 0; i < {len(steps)}; ++i) {{", f"    {_one_step(program, steps)}", "  }"]
            looped = True
        else:
            buffer, shown = program.buffer(call.output), program.layers[call.layer].buffer
            at, nbytes = place(base_of(program, buffer.memory, "base"), buffer.offset), buffer.nbytes if buffer.name == shown else 0
            lines += [
                f"  MIDGE_HOOK_BEGIN({call.layer});",
                f"  {function_name(program, step.call)}(base);",
                f"  MIDGE_HOOK_END({call.layer}, 0, {at}, {nbytes});",
            ]
    return lines


def _parts(program: Program) -> list[str]:
    """The functions of a library that stops and goes on."""
    stepped = stepped_calls(program)
    steps = _table_steps(program, stepped)
    arrival = any(step.call < 0 for step in program.steps)
    text = _STREAM if arrival else _STEPWISE
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
        "STEP": _one_step(program, steps),
        "CHECK": CHECK,
    }
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    text = text.replace("UPPER_CODE", f"{program.prefix.upper()}_CODE")
    return text.replace("UPPER", program.name.upper()).replace("NAME", program.name).split("\n\n")


_STATE = """\
/* Where a run stands is kept in the arena: the next step, the rows that came, and a check of both, so that nothing runs out of order. */
typedef struct {
  uint16_t step;
  uint16_t rows;
  uint32_t check;
} NAME_state;

UPPER_CODE_SECTION static void NAME_keep(int8_t *base, uint32_t step, uint32_t rows) {
  NAME_state state = {(uint16_t)step, (uint16_t)rows, UPPER_MAGIC ^ (step << 16 | rows)};
  memcpy(base + @STATE@, &state, sizeof state);
}

UPPER_CODE_SECTION static int NAME_kept(const int8_t *base, NAME_state *state) {
  memcpy(state, base + @STATE@, sizeof *state);
  return state->check == (UPPER_MAGIC ^ ((uint32_t)state->step << 16 | state->rows));
}

"""
_STREAM = (
    _STATE
    + """\
/* Run until a row of input is wanted or nothing is left; returns the next step. */
UPPER_CODE_SECTION static uint32_t NAME_advance(int8_t *base, uint32_t i) {
  for (; i < @TOTAL@u && NAME_steps[i].function != @ARRIVAL@u; ++i) {
    @STEP@
  }
  return i;
}

UPPER_CODE_SECTION int NAME_begin(void *arena) {
@CHECK@
  NAME_keep(base, NAME_advance(base, 0), 0);
  return @ROWS@;
}

UPPER_CODE_SECTION int NAME_push_rows(void *arena, const @ELEMENT@ *rows, unsigned count) {
@CHECK@
  NAME_state state;
  if (!NAME_kept(base, &state) || (rows == NULL && count > 0u)) {
    return UPPER_ERROR_ORDER;
  }
  uint32_t row = state.rows, step = state.step;
  if (count > @ROWS@u - row) {
    return UPPER_ERROR_ROWS;
  }
  for (const uint32_t end = row + count; row < end; ++row, rows += @ELEMENTS@) {
    memcpy(base + @PLACE@, rows, @ROW_NBYTES@u);
    step = NAME_advance(base, step + 1u);
  }
  NAME_keep(base, step, row);
  return (int)(@ROWS@u - row);
}

UPPER_CODE_SECTION int NAME_finish(void *arena) {
@CHECK@
  NAME_state state;
  if (!NAME_kept(base, &state)) {
    return UPPER_ERROR_ORDER;
  }
  if (state.rows != @ROWS@u) {
    return UPPER_ERROR_ROWS;
  }
  (void)NAME_advance(base, state.step);
  memset(base + @STATE@, 0, sizeof state);
  return UPPER_OK;
}"""
)
_STEPWISE = (
    _STATE
    + """\
UPPER_CODE_SECTION int NAME_begin(void *arena) {
@CHECK@
  NAME_keep(base, 0, 0);
  return @TOTAL@;
}

UPPER_CODE_SECTION int NAME_step(void *arena, unsigned budget) {
@CHECK@
  NAME_state state;
  if (!NAME_kept(base, &state)) {
    return UPPER_ERROR_ORDER;
  }
  uint32_t i = state.step;
  const uint32_t end = budget < @TOTAL@u - i ? i + budget : @TOTAL@u;
  for (; i < end; ++i) {
    @STEP@
  }
  NAME_keep(base, i, 0);
  if (i == @TOTAL@u) {
    memset(base + @STATE@, 0, sizeof state);
  }
  return (int)(@TOTAL@u - i);
}

UPPER_CODE_SECTION int NAME_run(void *arena) {
  int left = NAME_begin(arena);
  return left < 0 ? left : NAME_step(arena, (unsigned)left);
}"""
)
