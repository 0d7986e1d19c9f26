/* SPDX-License-Identifier: Apache-2.0 */
#include "conv2d.h"

#include "fixedpoint.h"

/* acc[0..3] += in . four interleaved filters of n taps; returns the filters' end. Two taps a turn halve the loop's own cost. */
static inline const int8_t *conv2d_dot4(int32_t acc[4], const int8_t *in, const int8_t *weights, int32_t n) {
  int32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
  const int8_t *end = in + (n & ~1);
  while (in != end) {
    int32_t x = in[0], y = in[1];
    a0 += x * weights[0];
    a1 += x * weights[1];
    a2 += x * weights[2];
    a3 += x * weights[3];
    a0 += y * weights[4];
    a1 += y * weights[5];
    a2 += y * weights[6];
    a3 += y * weights[7];
    in += 2;
    weights += 8;
  }
  if (n & 1) {
    int32_t x = in[0];
    a0 += x * weights[0];
    a1 += x * weights[1];
    a2 += x * weights[2];
    a3 += x * weights[3];
    weights += 4;
  }
  acc[0] = a0;
  acc[1] = a1;
  acc[2] = a2;
  acc[3] = a3;
  return weights;
}

/* Requantize and store up to four channels. */
static inline void conv2d_store(const midge_conv2d_params *p, const midge_conv2d_constants *c, int32_t block, const int32_t acc[4], int8_t *out, int32_t count,
                                int rounding) {
  for (int32_t i = 0; i < count; ++i) {
    int32_t value = midge_requantize(acc[i], c->multiplier[block + i], c->shift[block + i], rounding) + p->zero_point;
    out[i] = (int8_t)midge_clamp(value, p->act_min, p->act_max);
  }
}

/* One output pixel whose leftmost tap is input pixel x0. `whole`: all taps of a row are inside and adjacent, one run of bytes. */
static inline void conv2d_pixel(const midge_conv2d_params *p, const int8_t *const *in_rows, const midge_conv2d_constants *c, int8_t *out, int32_t x0, int whole,
                                int rounding) {
  int32_t depth = p->in_channels / p->groups, width = p->out_channels / p->groups;
  const int8_t *weights = c->weights;
  int32_t block = 0;
  for (int32_t group = 0; group < p->groups; ++group) {
    for (int32_t left = width; left > 0; left -= 4, block += 4) {
      int32_t acc[4] = {c->bias[block], c->bias[block + 1], c->bias[block + 2], c->bias[block + 3]};
      for (int32_t ky = 0; ky < p->kernel_height; ++ky) {
        if (whole) {
          weights = conv2d_dot4(acc, in_rows[ky] + x0 * depth, weights, p->kernel_width * depth);
          continue;
        }
        for (int32_t kx = 0; kx < p->kernel_width; ++kx) {
          int32_t x = x0 + kx * p->dilation;
          const int8_t *in = ((x >= 0) & (x < p->in_width)) ? in_rows[ky] + x * p->in_channels : c->pad_row;
          weights = conv2d_dot4(acc, in + group * depth, weights, depth);
        }
      }
      int32_t count = (p->groups == 1 && (p->out_channels & 3) == 0) || left >= 4 ? 4 : left;
      conv2d_store(p, c, block, acc, out, count, rounding);
      out += count;
    }
  }
}

static inline void conv2d_rows(const midge_conv2d_params *p, const int8_t *const *in_rows, const midge_conv2d_constants *c, int8_t *const *out_rows,
                               unsigned rows, int rounding) {
  int adjacent = (p->groups == 1) & ((p->dilation == 1) | (p->kernel_width == 1));
  int32_t reach = (p->kernel_width - 1) * p->dilation;
  int always = (p->pad == 0) & ((p->out_width - 1) * p->stride + reach < p->in_width); /* no pixel meets an edge */
  for (unsigned row = 0; row < rows; ++row, in_rows += p->kernel_height) {
    int8_t *out = out_rows[row];
    int32_t x0 = -p->pad;
    for (int32_t x = 0; x < p->out_width; ++x, x0 += p->stride, out += p->out_channels) {
      conv2d_pixel(p, in_rows, c, out, x0, adjacent & (always | ((x0 >= 0) & (x0 + reach < p->in_width))), rounding);
    }
  }
}

void midge_conv2d_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_constants *constants, int8_t *const *out_rows,
                     unsigned rows, void *scratch) {
  (void)scratch;
  conv2d_rows(params, in_rows, constants, out_rows, rows, MIDGE_ROUND_ONCE);
}

void midge_conv2d_s8_tflite(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_constants *constants, int8_t *const *out_rows,
                            unsigned rows, void *scratch) {
  (void)scratch;
  conv2d_rows(params, in_rows, constants, out_rows, rows, MIDGE_ROUND_TWICE);
}

/* One output pixel from planes. `whole`: all taps of a row are inside and adjacent. */
static inline void conv2d_planar_pixel(const midge_conv2d_params *p, const int8_t *const *in_rows, const midge_conv2d_constants *c, int8_t *out, int32_t x0,
                                       int whole, int rounding) {
  int32_t planes = p->in_channels * p->kernel_height;
  const int8_t *weights = c->weights;
  for (int32_t block = 0; block < p->out_channels; block += 4) {
    int32_t acc[4] = {c->bias[block], c->bias[block + 1], c->bias[block + 2], c->bias[block + 3]};
    for (int32_t plane = 0; plane < planes; ++plane) {
      if (whole) {
        weights = conv2d_dot4(acc, in_rows[plane] + x0, weights, p->kernel_width);
        continue;
      }
      for (int32_t kx = 0; kx < p->kernel_width; ++kx) {
        int32_t x = x0 + kx * p->dilation;
        weights = conv2d_dot4(acc, ((x >= 0) & (x < p->in_width)) ? in_rows[plane] + x : c->pad_row, weights, 1);
      }
    }
    conv2d_store(p, c, block, acc, out + block, (p->out_channels & 3) == 0 || p->out_channels - block >= 4 ? 4 : p->out_channels - block, rounding);
  }
}

static inline void conv2d_planar_rows(const midge_conv2d_params *p, const int8_t *const *in_rows, const midge_conv2d_constants *c, int8_t *const *out_rows,
                                      unsigned rows, int rounding) {
  int adjacent = (p->dilation == 1) | (p->kernel_width == 1);
  int32_t reach = (p->kernel_width - 1) * p->dilation;
  int always = (p->pad == 0) & ((p->out_width - 1) * p->stride + reach < p->in_width);
  for (unsigned row = 0; row < rows; ++row, in_rows += p->kernel_height * p->in_channels) {
    int8_t *out = out_rows[row];
    int32_t x0 = -p->pad;
    for (int32_t x = 0; x < p->out_width; ++x, x0 += p->stride, out += p->out_channels) {
      conv2d_planar_pixel(p, in_rows, c, out, x0, adjacent & (always | ((x0 >= 0) & (x0 + reach < p->in_width))), rounding);
    }
  }
}

void midge_conv2d_planar_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_constants *constants, int8_t *const *out_rows,
                            unsigned rows, void *scratch) {
  (void)scratch;
  conv2d_planar_rows(params, in_rows, constants, out_rows, rows, MIDGE_ROUND_ONCE);
}

void midge_conv2d_planar_s8_tflite(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch) {
  (void)scratch;
  conv2d_planar_rows(params, in_rows, constants, out_rows, rows, MIDGE_ROUND_TWICE);
}

/* Where tap x of a row starts: the pixel itself, or zero points if it lies outside. */
static inline const int8_t *depthwise_tap(const midge_conv2d_params *p, const midge_conv2d_constants *c, const int8_t *row, int32_t x) {
  return ((x >= 0) & (x < p->in_width)) ? row + x * p->in_channels : c->pad_row;
}

/* Four adjacent channels, from `channel` on, of one pixel; one output channel for each input channel. `whole`: every tap is inside. */
static inline const int8_t *depthwise_four(const midge_conv2d_params *p, const int8_t *const *in_rows, const midge_conv2d_constants *c, int32_t acc[4],
                                           const int8_t *weights, int32_t x0, int32_t channel, int whole) {
  int32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
  int32_t step = p->dilation * p->in_channels;
  for (int32_t ky = 0; ky < p->kernel_height; ++ky) {
    const int8_t *in = in_rows[ky] + x0 * p->in_channels + channel;
    for (int32_t kx = 0; kx < p->kernel_width; ++kx, in += step, weights += 4) {
      const int8_t *tap = whole ? in : depthwise_tap(p, c, in_rows[ky], x0 + kx * p->dilation) + channel;
      a0 += tap[0] * weights[0];
      a1 += tap[1] * weights[1];
      a2 += tap[2] * weights[2];
      a3 += tap[3] * weights[3];
    }
  }
  acc[0] = a0;
  acc[1] = a1;
  acc[2] = a2;
  acc[3] = a3;
  return weights;
}

/* Up to four output channels of one pixel, `multiplier` of them for each input channel. */
static inline const int8_t *depthwise_some(const midge_conv2d_params *p, const int8_t *const *in_rows, const midge_conv2d_constants *c, int32_t acc[4],
                                           const int8_t *weights, int32_t x0, int32_t block, int32_t count, int32_t multiplier) {
  for (int32_t ky = 0; ky < p->kernel_height; ++ky) {
    for (int32_t kx = 0; kx < p->kernel_width; ++kx, weights += 4) {
      const int8_t *tap = depthwise_tap(p, c, in_rows[ky], x0 + kx * p->dilation);
      for (int32_t i = 0; i < count; ++i) {
        acc[i] += tap[(block + i) / multiplier] * weights[i];
      }
    }
  }
  return weights;
}

static inline void depthwise_pixel(const midge_conv2d_params *p, const int8_t *const *in_rows, const midge_conv2d_constants *c, int8_t *out, int32_t x0,
                                   int32_t multiplier, int whole, int rounding) {
  const int8_t *weights = c->weights;
  for (int32_t block = 0; block < p->out_channels; block += 4) {
    int32_t count = (p->out_channels & 3) == 0 || p->out_channels - block >= 4 ? 4 : p->out_channels - block;
    int32_t acc[4] = {c->bias[block], c->bias[block + 1], c->bias[block + 2], c->bias[block + 3]};
    if (multiplier != 1 || count < 4) {
      weights = depthwise_some(p, in_rows, c, acc, weights, x0, block, count, multiplier);
    } else if (whole) {
      weights = depthwise_four(p, in_rows, c, acc, weights, x0, block, 1);
    } else {
      weights = depthwise_four(p, in_rows, c, acc, weights, x0, block, 0);
    }
    conv2d_store(p, c, block, acc, out + block, count, rounding);
  }
}

static inline void depthwise_rows(const midge_conv2d_params *p, const int8_t *const *in_rows, const midge_conv2d_constants *c, int8_t *const *out_rows,
                                  unsigned rows, int rounding) {
  int32_t multiplier = p->out_channels / p->in_channels, reach = (p->kernel_width - 1) * p->dilation;
  int always = (p->pad == 0) & ((p->out_width - 1) * p->stride + reach < p->in_width);
  for (unsigned row = 0; row < rows; ++row, in_rows += p->kernel_height) {
    int8_t *out = out_rows[row];
    int32_t x0 = -p->pad;
    for (int32_t x = 0; x < p->out_width; ++x, x0 += p->stride, out += p->out_channels) {
      depthwise_pixel(p, in_rows, c, out, x0, multiplier, always | ((x0 >= 0) & (x0 + reach < p->in_width)), rounding);
    }
  }
}

void midge_depthwise_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_constants *constants, int8_t *const *out_rows,
                        unsigned rows, void *scratch) {
  (void)scratch;
  depthwise_rows(params, in_rows, constants, out_rows, rows, MIDGE_ROUND_ONCE);
}

void midge_depthwise_s8_tflite(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_constants *constants,
                               int8_t *const *out_rows, unsigned rows, void *scratch) {
  (void)scratch;
  depthwise_rows(params, in_rows, constants, out_rows, rows, MIDGE_ROUND_TWICE);
}
