/* SPDX-License-Identifier: Apache-2.0 */
#include "dense_thumb.h"

#include "arch/thumb.h"
#include "thumb_requantize.h"

enum { DENSE_HEADER = 4 };

/* Sum of n products; weights lie `step` bytes apart. */
static inline int32_t dense_thumb_dot(int32_t acc, const int8_t *in, const int8_t *weights, int32_t n, int32_t step) {
  for (const int8_t *end = in + n; in != end; ++in, weights += step) {
    acc += *in * *weights;
  }
  return acc;
}

static inline void dense_t2(const int8_t *in, const int32_t *stream, int8_t *out, int rounding) {
  int32_t depth = stream[1], block = stream[2];
  const int32_t *record = stream + DENSE_HEADER;
  for (int32_t left = stream[0]; left > 0; left -= block) {
    const int32_t *bias = record + 1, *weights = bias + block, *constants = weights + (depth * block + 3) / 4;
    for (int32_t i = 0; i < block; ++i) {
      int32_t acc = dense_thumb_dot(bias[i], in, (const int8_t *)weights + i, depth, block);
      out[record[0] + i] = thumb_t2_requantize(acc, constants + 3 * i, rounding);
    }
    record = constants + 3 * block;
  }
}

void midge_dense_t2_s8(const int8_t *in, const int32_t *stream, int8_t *out) { dense_t2(in, stream, out, MIDGE_ROUND_ONCE); }

void midge_dense_t2_s8_tflite(const int8_t *in, const int32_t *stream, int8_t *out) { dense_t2(in, stream, out, MIDGE_ROUND_TWICE); }

static inline void dense_t1(const int8_t *in, const int32_t *stream, int8_t *out, int rounding) {
  int32_t depth = stream[1], block = stream[2];
  const int32_t *record = stream + DENSE_HEADER;
  for (int32_t left = stream[0]; left > 0; left -= block) {
    const int32_t *constants = record + 1, *weights = constants + 5 * block;
    for (int32_t i = 0; i < block; ++i, constants += 5) {
      int32_t acc = dense_thumb_dot(constants[0], in, (const int8_t *)weights + i * depth, depth, 1);
      out[record[0] + i] = thumb_t1_requantize(acc, constants + 1, stream[3], rounding);
    }
    record = weights + (depth * block + 3) / 4;
  }
}

void midge_dense_t1_s8(const int8_t *in, const int32_t *stream, int8_t *out) { dense_t1(in, stream, out, MIDGE_ROUND_ONCE); }

void midge_dense_t1_s8_tflite(const int8_t *in, const int32_t *stream, int8_t *out) { dense_t1(in, stream, out, MIDGE_ROUND_TWICE); }

void midge_dense_thumb_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_dense_thumb_constants *constants,
                          int8_t *const *out_rows, unsigned rows, void *scratch) {
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row) {
    const int8_t *in = in_rows[row];
    int8_t *out = out_rows[row];
    for (int32_t x = 0; x < params->out_width; ++x, in += params->stride * params->in_channels, out += params->out_channels) {
      constants->dense(in, constants->stream, out);
    }
  }
}
