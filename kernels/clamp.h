/* SPDX-License-Identifier: Apache-2.0 */
/* Clamp of int8 elements: out[i] = min(max(in[i], low), high). For layers whose kernel limits its output to int8 and nothing narrower. */
#ifndef MIDGE_CLAMP_H
#define MIDGE_CLAMP_H

#include <stdint.h>

typedef struct {
  int32_t count; /* elements of a row */
  int32_t low;   /* -128..127 */
  int32_t high;  /* low..127 */
} midge_clamp_params;

/* in_rows: one row for each output row, which may be the same. There are no constants. */
void midge_clamp_s8(const midge_clamp_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                    void *scratch);

#endif
