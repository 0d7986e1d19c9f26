/* SPDX-License-Identifier: Apache-2.0 */
#include "conv2d_w4.h"

#include "fixedpoint.h"

/* The lower and the upper four bits of a byte, as int32. */
static inline int32_t conv2d_w4_low(uint8_t pair) { return (int32_t)((uint32_t)pair << 28) >> 28; }

static inline int32_t conv2d_w4_high(uint8_t pair) { return (int32_t)((uint32_t)pair << 24) >> 28; }

/* acc[0..3] += in . four interleaved filters of n taps; returns the filters' end. */
static inline const uint8_t *conv2d_w4_dot4(int32_t acc[4], const int8_t *in, const uint8_t *weights, int32_t n) {
  int32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
  for (const int8_t *end = in + n; in != end; weights += 2) {
    int32_t x = *in++;
    uint8_t first = weights[0], second = weights[1];
    a0 += x * conv2d_w4_low(first);
    a1 += x * conv2d_w4_high(first);
    a2 += x * conv2d_w4_low(second);
    a3 += x * conv2d_w4_high(second);
  }
  acc[0] = a0;
  acc[1] = a1;
  acc[2] = a2;
  acc[3] = a3;
  return weights;
}

/* One output pixel whose leftmost tap is input pixel x0. `whole`: all taps of a row are inside and adjacent, one run of bytes. */
static inline void conv2d_w4_pixel(const midge_conv2d_params *p, const int8_t *const *in_rows, const midge_conv2d_w4_constants *c, int8_t *out, int32_t x0,
                                   int whole, int rounding) {
  int32_t depth = p->in_channels;
  const uint8_t *weights = c->weights;
  for (int32_t block = 0; block < p->out_channels; block += 4) {
    int32_t acc[4] = {c->bias[block], c->bias[block + 1], c->bias[block + 2], c->bias[block + 3]};
    for (int32_t ky = 0; ky < p->kernel_height; ++ky) {
      if (whole) {
        weights = conv2d_w4_dot4(acc, in_rows[ky] + x0 * depth, weights, p->kernel_width * depth);
        continue;
      }
      for (int32_t kx = 0; kx < p->kernel_width; ++kx) {
        int32_t x = x0 + kx * p->dilation;
        weights = conv2d_w4_dot4(acc, x >= 0 && x < p->in_width ? in_rows[ky] + x * depth : c->pad_row, weights, depth);
      }
    }
    int32_t left = p->out_channels - block, count = left < 4 ? left : 4;
    for (int32_t i = block; i < block + count; ++i) {
      int32_t value = midge_requantize(acc[i - block], c->multiplier[i], c->shift[i], rounding) + p->zero_point;
      out[i] = (int8_t)midge_clamp(value, p->act_min, p->act_max);
    }
  }
}

static inline void conv2d_w4_rows(const midge_conv2d_params *p, const int8_t *const *in_rows, const midge_conv2d_w4_constants *c, int8_t *const *out_rows,
                                  unsigned rows, int rounding) {
  int adjacent = p->dilation == 1 || p->kernel_width == 1;
  int32_t reach = (p->kernel_width - 1) * p->dilation;
  for (unsigned row = 0; row < rows; ++row, in_rows += p->kernel_height) {
    int8_t *out = out_rows[row];
    int32_t x0 = -p->pad;
    for (int32_t x = 0; x < p->out_width; ++x, x0 += p->stride, out += p->out_channels) {
      conv2d_w4_pixel(p, in_rows, c, out, x0, adjacent && x0 >= 0 && x0 + reach < p->in_width, rounding);
    }
  }
}

void midge_conv2d_w4_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_w4_constants *constants, int8_t *const *out_rows,
                        unsigned rows, void *scratch) {
  (void)scratch;
  conv2d_w4_rows(params, in_rows, constants, out_rows, rows, MIDGE_ROUND_ONCE);
}

void midge_conv2d_w4_s8_tflite(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_w4_constants *constants,
                               int8_t *const *out_rows, unsigned rows, void *scratch) {
  (void)scratch;
  conv2d_w4_rows(params, in_rows, constants, out_rows, rows, MIDGE_ROUND_TWICE);
}
