/* SPDX-License-Identifier: Apache-2.0 */
/* Which taps of an average pool's window are inside, and how many count. */
#ifndef MIDGE_POOL_WINDOW_H
#define MIDGE_POOL_WINDOW_H

#include "pool.h"

static inline int32_t pool_max(int32_t a, int32_t b) { return a > b ? a : b; }

static inline int32_t pool_min(int32_t a, int32_t b) { return a < b ? a : b; }

/* The window of one output pixel. */
typedef struct {
  int32_t height;  /* real rows */
  int32_t count_y; /* rows that count */
  int32_t first;   /* leftmost real pixel */
  int32_t taps;    /* real pixels of a row */
  int32_t entry;   /* of multiplier and shift */
  int32_t start;   /* of the sum */
} pool_window;

/* The rows of a window; returns how many rows of padding are above. */
static inline int32_t pool_window_rows(const midge_pool_params *p, const int8_t *const *in_rows, const midge_pool_constants *c, pool_window *w) {
  int32_t above = 0, below = 0;
  if (p->pad_rows > 0) {
    while (above < p->pad_rows && in_rows[above] == c->pad_row) {
      ++above;
    }
    while (above + below < p->pad_rows && in_rows[p->kernel_height - 1 - below] == c->pad_row) {
      ++below;
    }
  }
  w->height = p->kernel_height - above - below;
  w->count_y = w->height + pool_min(above, p->count_top) + pool_min(below, p->count_bottom);
  return above;
}

/* The columns for output pixel x, and what follows from both. */
static inline void pool_window_columns(const midge_pool_params *p, int32_t x, pool_window *w) {
  int32_t x0 = x * p->stride - p->pad, x1 = x0 + p->kernel_width;
  int32_t count_x = pool_min(x1, p->in_width + p->count_right) - pool_max(x0, -p->count_left);
  w->first = pool_max(x0, 0);
  w->taps = pool_min(x1, p->in_width) - w->first;
  w->entry = count_x * w->count_y - p->count_min;
  w->start = p->counted_value * count_x * w->count_y - p->input_zero_point * w->taps * w->height;
}

#endif
