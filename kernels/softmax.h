/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax over the channels of each pixel, int8.
 *
 *   out[x, c] = clamp(round(exp(-s_in * d[c]) / (s_out * sum over i of exp(-s_in * d[i]))) + zero_point)   with d[c] = max over i of in[x, i] - in[x, c]
 *
 * exp comes from a table over d, made when compiling; the sum is exact, its reciprocal takes 32 steps of long division for each pixel.
 * Rows are NHWC without the N and H; in_rows: one row for each output row. out may be in. */
#ifndef MIDGE_SOFTMAX_H
#define MIDGE_SOFTMAX_H

#include <stdint.h>

typedef struct {
  int32_t width;      /* pixels of a row */
  int32_t channels;   /* of a pixel, at most 2^20; `_tflite`: at most 4095 */
  int32_t table_size; /* entries; exp is 0 beyond */
  int32_t multiplier; /* 1 / s_out = multiplier * 2^(shift - 31); unused by `_tflite`, whose s_out is 1 / 256 */
  int32_t shift;
  int32_t zero_point; /* of the output; unused by `_tflite`, where it is -128 */
} midge_softmax_params;

typedef struct {
  const int32_t *table; /* bits of exp(-s_in * d) * 2^31 as uint32_t; `_tflite`: limited to 2^31 - 1, as gemmlowp computes it */
} midge_softmax_constants;

void midge_softmax_s8(const midge_softmax_params *params, const int8_t *const *in_rows, const midge_softmax_constants *constants, int8_t *const *out_rows,
                      unsigned rows, void *scratch);
void midge_softmax_s8_tflite(const midge_softmax_params *params, const int8_t *const *in_rows, const midge_softmax_constants *constants,
                             int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
