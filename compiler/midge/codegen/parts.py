# SPDX-License-Identifier: Apache-2.0
"""The C of libraries whose runs are done in parts: as rows of input come, or so many steps at a time. Words between @ are filled in by steps.py.

_OUT are those that hand out rows of their outputs meanwhile. While they run nothing is kept, so that calls from the function that takes the rows are
refused, and a run that it ends is over.
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
STREAM_OUT = (
    _STATE
    + """\
/* Run until a row of input is wanted or nothing is left, from step `*i` on. */
UPPER_CODE_SECTION static int NAME_advance(int8_t *base, uint32_t *i, NAME_output_rows *take, void *context) {
  for (; *i < @TOTAL@u && NAME_steps[*i].function != @ARRIVAL@u; ++*i) {
    if (NAME_one_step(base, *i, take, context) != 0) {
      return UPPER_ERROR_OUTPUT;
    }
  }
  return UPPER_OK;
}

UPPER_CODE_SECTION int NAME_begin(void *arena) {
@CHECK@
  NAME_keep(base, 0, 0);
  return @ROWS@;
}

UPPER_CODE_SECTION int NAME_push_rows(void *arena, const @ELEMENT@ *rows, unsigned count, NAME_output_rows *take, void *context) {
@CHECK@
  NAME_state state;
  if (!NAME_kept(base, &state) || (rows == NULL && count > 0u)) {
    return UPPER_ERROR_ORDER;
  }
  uint32_t row = state.rows, step = state.step;
  if (count > @ROWS@u - row) {
    return UPPER_ERROR_ROWS;
  }
  if (take == NULL) {
    return UPPER_ERROR_OUTPUT;
  }
  memset(base + @STATE@, 0, sizeof state);
  int error = NAME_advance(base, &step, take, context);
  for (const uint32_t end = row + count; error == UPPER_OK && row < end; ++row, rows += @ELEMENTS@) {
    memcpy(base + @PLACE@, rows, @ROW_NBYTES@u);
    ++step;
    error = NAME_advance(base, &step, take, context);
  }
  if (error != UPPER_OK) {
    return error;
  }
  NAME_keep(base, step, row);
  return (int)(@ROWS@u - row);
}

UPPER_CODE_SECTION int NAME_finish(void *arena, NAME_output_rows *take, void *context) {
@CHECK@
  NAME_state state;
  if (!NAME_kept(base, &state)) {
    return UPPER_ERROR_ORDER;
  }
  if (state.rows != @ROWS@u) {
    return UPPER_ERROR_ROWS;
  }
  if (take == NULL) {
    return UPPER_ERROR_OUTPUT;
  }
  uint32_t step = state.step;
  memset(base + @STATE@, 0, sizeof state);
  return NAME_advance(base, &step, take, context);
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
STEPWISE_OUT = (
    _STATE
    + """\
UPPER_CODE_SECTION int NAME_begin(void *arena) {
@CHECK@
  NAME_keep(base, 0, 0);
  return @TOTAL@;
}

UPPER_CODE_SECTION int NAME_step(void *arena, unsigned budget, NAME_output_rows *take, void *context) {
@CHECK@
  NAME_state state;
  if (!NAME_kept(base, &state)) {
    return UPPER_ERROR_ORDER;
  }
  if (take == NULL) {
    return UPPER_ERROR_OUTPUT;
  }
  uint32_t i = state.step;
  const uint32_t end = budget < @TOTAL@u - i ? i + budget : @TOTAL@u;
  memset(base + @STATE@, 0, sizeof state);
  for (; i < end; ++i) {
    if (NAME_one_step(base, i, take, context) != 0) {
      return UPPER_ERROR_OUTPUT;
    }
  }
  if (i < @TOTAL@u) {
    NAME_keep(base, i, 0);
  }
  return (int)(@TOTAL@u - i);
}

UPPER_CODE_SECTION int NAME_run(void *arena, NAME_output_rows *take, void *context) {
  int left = NAME_begin(arena);
  return left < 0 ? left : NAME_step(arena, (unsigned)left, take, context);
}"""
)
