/* SPDX-License-Identifier: Apache-2.0 */
/* Sum of two tensors of one shape on cores with the M-profile vector extension, int8: four elements at a time.
 *
 *   out[i] = clamp((a[i] * a_factor + b[i] * b_factor + offset) >> shift)
 *
 * One multiplication for each operand stands for their scaling and both roundings; whoever gives the factors has compared all 65536 pairs. */
#ifndef MIDGE_ELEMENTWISE_MVE_H
#define MIDGE_ELEMENTWISE_MVE_H

#include <stdint.h>

typedef struct {
  int32_t count;    /* elements of a row */
  int32_t a_factor; /* with b_factor and offset: no sum leaves 32 bits */
  int32_t b_factor;
  int32_t offset;   /* zero points and rounding */
  int32_t shift;    /* to the right, 1 to 31 */
  int32_t act_min;  /* fused clamp, in output integers */
  int32_t act_max;
} midge_linear_params;

/* in_rows: one row of a and one of b for each output row. May run in place. */
void midge_linear_mve_s8(const midge_linear_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                         void *scratch);

#endif
