/* SPDX-License-Identifier: Apache-2.0 */
/* Between float and 8-bit integers, at the inputs and outputs of a network. Rows without the N and H of NHWC.
 *
 *   quantize   out[i] = saturate(round_half_even(in[i] / scale) + zero_point), NaN as 0
 *   dequantize out[i] = scale * (in[i] - zero_point) */
#ifndef MIDGE_EDGE_H
#define MIDGE_EDGE_H

#include <stdint.h>

typedef struct {
  int32_t count; /* elements of a row */
  int32_t zero_point;
} midge_edge_params;

typedef struct {
  const float *scale; /* one */
} midge_edge_constants;

void midge_quantize_f32_s8(const midge_edge_params *params, const float *const *in_rows, const midge_edge_constants *constants, int8_t *const *out_rows,
                           unsigned rows, void *scratch);
void midge_quantize_f32_u8(const midge_edge_params *params, const float *const *in_rows, const midge_edge_constants *constants, uint8_t *const *out_rows,
                           unsigned rows, void *scratch);
void midge_dequantize_s8_f32(const midge_edge_params *params, const int8_t *const *in_rows, const midge_edge_constants *constants, float *const *out_rows,
                             unsigned rows, void *scratch);
void midge_dequantize_u8_f32(const midge_edge_params *params, const uint8_t *const *in_rows, const midge_edge_constants *constants, float *const *out_rows,
                             unsigned rows, void *scratch);

#endif
