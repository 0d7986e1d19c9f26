/* SPDX-License-Identifier: Apache-2.0 */
#include "move.h"

#include <string.h>

/* dim_4 runs of nbytes. Single bytes, as in a transpose, are not worth a call of memcpy each. */
static inline void move_runs(const midge_move_params *p, const int8_t *in, int8_t *out) {
  int32_t in_stride = p->in_stride_4, out_stride = p->out_stride_4;
  if (p->nbytes == 1) {
    for (int32_t i = 0; i < p->dim_4; ++i) {
      out[i * out_stride] = in[i * in_stride];
    }
    return;
  }
  for (int32_t i = 0; i < p->dim_4; ++i) {
    memcpy(out + i * out_stride, in + i * in_stride, (size_t)p->nbytes);
  }
}

/* The block of dim_0 ... dim_3 times dim_4 runs. Places are computed, not stepped to, so that no pointer leaves its row. */
static inline void move_block(const midge_move_params *p, const int8_t *in, int8_t *out) {
  in += p->in_offset;
  out += p->out_offset;
  for (int32_t a = 0; a < p->dim_0; ++a) {
    for (int32_t b = 0; b < p->dim_1; ++b) {
      int32_t in_b = a * p->in_stride_0 + b * p->in_stride_1, out_b = a * p->out_stride_0 + b * p->out_stride_1;
      for (int32_t c = 0; c < p->dim_2; ++c) {
        int32_t in_c = in_b + c * p->in_stride_2, out_c = out_b + c * p->out_stride_2;
        for (int32_t d = 0; d < p->dim_3; ++d) {
          move_runs(p, in + in_c + d * p->in_stride_3, out + out_c + d * p->out_stride_3);
        }
      }
    }
  }
}

void midge_copy_s8(const midge_move_params *params, const int8_t *const *in_rows, const midge_move_constants *constants, int8_t *const *out_rows, unsigned rows,
                   void *scratch) {
  (void)constants;
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row) {
    move_block(params, in_rows[row], out_rows[row]);
  }
}

void midge_pad_s8(const midge_move_params *params, const int8_t *const *in_rows, const midge_move_constants *constants, int8_t *const *out_rows, unsigned rows,
                  void *scratch) {
  (void)constants;
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row) {
    memset(out_rows[row], (int)params->value, (size_t)params->out_nbytes);
    move_block(params, in_rows[row], out_rows[row]);
  }
}

void midge_gather_s8(const midge_move_params *params, const int8_t *const *in_rows, const midge_move_constants *constants, int8_t *const *out_rows,
                     unsigned rows, void *scratch) {
  (void)scratch;
  int32_t nbytes = params->nbytes;
  for (unsigned row = 0; row < rows; ++row) {
    const int8_t *in = in_rows[row];
    int8_t *out = out_rows[row];
    for (int32_t x = 0; x < params->dim_4; ++x, out += nbytes) {
      memcpy(out, in + constants->columns[x] * nbytes, (size_t)nbytes);
    }
  }
}
