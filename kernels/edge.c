/* SPDX-License-Identifier: Apache-2.0 */
#include "edge.h"

#include "fixedpoint.h"

/* round_half_even(x / scale) + zero_point. Adding 1.5 * 2^23 makes the unit of the sum 1, so the addition itself rounds, and the low bits of the
 * sum are the integer; above 2^22 they still grow with the sum, which saturates. Below, the ratio is limited to -2^20; NaN becomes 0. */
static inline int32_t edge_quantize(float x, float scale, int32_t zero_point) {
  union {
    float value;
    int32_t bits;
  } sum;
  float ratio = x / scale;
  if (!(ratio > -1048576.0f)) {
    ratio = ratio <= -1048576.0f ? -1048576.0f : 0.0f;
  }
  sum.value = ratio + 12582912.0f;
  return sum.bits - 0x4B400000 + zero_point;
}

void midge_quantize_f32_s8(const midge_edge_params *params, const float *const *in_rows, const midge_edge_constants *constants, int8_t *const *out_rows,
                           unsigned rows, void *scratch) {
  float scale = *constants->scale;
  int32_t count = params->count, zero_point = params->zero_point;
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row) {
    const float *in = in_rows[row];
    int8_t *out = out_rows[row];
    for (int32_t i = 0; i < count; ++i) {
      out[i] = (int8_t)midge_clamp(edge_quantize(in[i], scale, zero_point), -128, 127);
    }
  }
}

void midge_quantize_f32_u8(const midge_edge_params *params, const float *const *in_rows, const midge_edge_constants *constants, uint8_t *const *out_rows,
                           unsigned rows, void *scratch) {
  float scale = *constants->scale;
  int32_t count = params->count, zero_point = params->zero_point;
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row) {
    const float *in = in_rows[row];
    uint8_t *out = out_rows[row];
    for (int32_t i = 0; i < count; ++i) {
      out[i] = (uint8_t)midge_clamp(edge_quantize(in[i], scale, zero_point), 0, 255);
    }
  }
}

void midge_dequantize_s8_f32(const midge_edge_params *params, const int8_t *const *in_rows, const midge_edge_constants *constants, float *const *out_rows,
                             unsigned rows, void *scratch) {
  float scale = *constants->scale;
  int32_t count = params->count, zero_point = params->zero_point;
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row) {
    const int8_t *in = in_rows[row];
    float *out = out_rows[row];
    for (int32_t i = 0; i < count; ++i) {
      out[i] = (float)(in[i] - zero_point) * scale;
    }
  }
}

void midge_dequantize_u8_f32(const midge_edge_params *params, const uint8_t *const *in_rows, const midge_edge_constants *constants, float *const *out_rows,
                             unsigned rows, void *scratch) {
  float scale = *constants->scale;
  int32_t count = params->count, zero_point = params->zero_point;
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row) {
    const uint8_t *in = in_rows[row];
    float *out = out_rows[row];
    for (int32_t i = 0; i < count; ++i) {
      out[i] = (float)(in[i] - zero_point) * scale;
    }
  }
}
