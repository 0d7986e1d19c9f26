# SPDX-License-Identifier: Apache-2.0
"""The C of libraries whose runs are done in parts: as rows of input come, or so many steps at a time. Words between @ are filled in by steps.py.

Some hand out rows of their outputs meanwhile. While they run nothing is kept, so that calls from the function that takes the rows are refused, and a run
that it ends is over.
"""

from __future__ import annotations

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
STREAM = (
    _STATE
    + """\
/* Run until a row of input is wanted or nothing is left; returns the next step@LARGE@. */
UPPER_CODE_SECTION static uint32_t NAME_advance(int8_t *base, uint32_t i@TAKEN@) {
  for (; i < @TOTAL@u && NAME_steps[i].function != @ARRIVAL@u; ++i) {
    @STEP@
  }
  return i;
}

UPPER_CODE_SECTION int NAME_begin(void *arena) {
@CHECK@
  NAME_keep(base, 0, 0);
  return @ROWS@;
}

UPPER_CODE_SECTION int NAME_push_rows(void *arena, const @ELEMENT@ *rows, unsigned count@TAKEN@) {
@CHECK@
  NAME_state state;
  if (!NAME_kept(base, &state) || (rows == NULL && count > 0u)) {
    return UPPER_ERROR_ORDER;
  }
  uint32_t row = state.rows, step = state.step;
  if (count > @ROWS@u - row) {
    return UPPER_ERROR_ROWS;
  }
@SINK_CHECK@  memset(base + @STATE@, 0, sizeof state);
  step = NAME_advance(base, step@PASSED@);
  for (const uint32_t end = row + count; @UNREFUSED@row < end; ++row, rows += @ELEMENTS@) {
    memcpy(base + @PLACE@, rows, @ROW_NBYTES@u);
    step = NAME_advance(base, step + 1u@PASSED@);
  }
@REFUSED@  NAME_keep(base, step, row);
  return (int)(@ROWS@u - row);
}

UPPER_CODE_SECTION int NAME_finish(void *arena@TAKEN@) {
@CHECK@
  NAME_state state;
  if (!NAME_kept(base, &state)) {
    return UPPER_ERROR_ORDER;
  }
  if (state.rows != @ROWS@u) {
    return UPPER_ERROR_ROWS;
  }
@SINK_CHECK@  memset(base + @STATE@, 0, sizeof state);
  @LAST@NAME_advance(base, state.step@PASSED@);
@REFUSED@  return UPPER_OK;
}"""
)
STEPWISE = (
    _STATE
    + """\
UPPER_CODE_SECTION int NAME_begin(void *arena) {
@CHECK@
  NAME_keep(base, 0, 0);
  return @TOTAL@;
}

UPPER_CODE_SECTION int NAME_step(void *arena, unsigned budget@TAKEN@) {
@CHECK@
  NAME_state state;
  if (!NAME_kept(base, &state)) {
    return UPPER_ERROR_ORDER;
  }
@SINK_CHECK@  uint32_t i = state.step;
  const uint32_t end = budget < @TOTAL@u - i ? i + budget : @TOTAL@u;
  memset(base + @STATE@, 0, sizeof state);
  for (; i < end; ++i) {
    @STEP@
  }
  if (i < @TOTAL@u) {
    NAME_keep(base, i, 0);
  }
  return (int)(@TOTAL@u - i);
}

UPPER_CODE_SECTION int NAME_run(void *arena@TAKEN@) {
  int left = NAME_begin(arena);
  return left < 0 ? left : NAME_step(arena, (unsigned)left@PASSED@);
}"""
)
