/* SPDX-License-Identifier: Apache-2.0 */
#include "elementwise_mve.h"

#include "arch/mve.h"

void midge_linear_mve_s8(const midge_linear_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                         void *scratch) {
  const midge_linear_params *p = params;
  int32_t factors[6] = {p->a_factor, p->b_factor, p->offset, p->shift, p->act_min, p->act_max};
  (void)constants;
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row, in_rows += 2) {
    midge_scaled_sum(in_rows[0], in_rows[1], out_rows[row], p->count, factors);
  }
}
