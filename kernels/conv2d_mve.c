/* SPDX-License-Identifier: Apache-2.0 */
#include "conv2d_mve.h"

#include <string.h>

#include "arch/mve.h"
#include "fixedpoint.h"

/* One pixel; `width` channels stand side by side in the stream. */
static inline void gemm_mve_pixel(const int8_t *x, const int32_t *stream, int8_t *out, int32_t width, int rounding) {
  const int32_t *header = stream, *group = stream + 8;
  int32_t steps = header[1], first = header[2], channels = header[7];
  for (int32_t c = 0; c < channels; ++c) {
    int32_t lane = c % width, acc = group[lane];
    const int8_t *weights = (const int8_t *)(group + 8) + 16 * lane;
    const int32_t *constants = group + 8 + 4 * width * steps + lane;
    for (int32_t i = 0; i < steps; ++i, weights += 16 * width) {
      const int8_t *taps = x + (i == 0 ? 0 : first - 16 + i * header[3]);
      for (int32_t k = 0; k < (i == 0 ? first : 16); ++k) {
        acc += taps[k] * weights[k];
      }
    }
    int32_t value = midge_requantize(acc, constants[0], constants[width], rounding) + header[4];
    out[c] = (int8_t)midge_clamp(value, header[5], header[6]);
    if (lane == width - 1) {
      group += 8 + 4 * width * steps + 2 * width;
    }
  }
}

static inline void gemm_mve(const int8_t *x, const int32_t *stream, int8_t *out, const midge_gemm_mve_params *run, int rounding) {
  int32_t woven = stream[3] == 32, depth = 16 * stream[1];
  for (int32_t p = 0; p < run->count; ++p) {
    gemm_mve_pixel(x + (woven ? (p & ~1) * depth + 16 * (p & 1) : p * run->x_step), stream, out + p * run->out_step, 4, rounding);
  }
}

void midge_gemm_mve_s8(const int8_t *x, const int32_t *stream, int8_t *out, const midge_gemm_mve_params *run) {
  gemm_mve(x, stream, out, run, MIDGE_ROUND_ONCE);
}

void midge_gemm_mve_s8_tflite(const int8_t *x, const int32_t *stream, int8_t *out, const midge_gemm_mve_params *run) {
  gemm_mve(x, stream, out, run, MIDGE_ROUND_TWICE);
}

void midge_dense_mve_s8(const int8_t *x, const int32_t *stream, int8_t *out, const midge_gemm_mve_params *run) {
  (void)run;
  gemm_mve_pixel(x, stream, out, 8, MIDGE_ROUND_ONCE);
}

void midge_dense_mve_s8_tflite(const int8_t *x, const int32_t *stream, int8_t *out, const midge_gemm_mve_params *run) {
  (void)run;
  gemm_mve_pixel(x, stream, out, 8, MIDGE_ROUND_TWICE);
}

void midge_pointwise_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_mve_constants *constants,
                            int8_t *const *out_rows, unsigned rows, void *scratch) {
  midge_gemm_mve_params run = {params->stride * params->in_channels, params->out_channels, params->out_width};
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row) {
    constants->gemm(in_rows[row], constants->stream, out_rows[row], &run);
  }
}

/* The taps of the pixel at x0 one after another, zero points where they are outside. */
static inline void conv2d_mve_gather(const midge_conv2d_params *p, const int8_t *const *in_rows, const int8_t *pad_row, int32_t x0, int8_t *to) {
  int32_t channels = p->in_channels, width = p->in_width, taps = p->kernel_width, dilation = p->dilation, end = x0 + taps * dilation;
  const int8_t *const *end_rows = in_rows + p->kernel_height;
  if (dilation > 1) {
    for (; in_rows != end_rows; ++in_rows) {
      for (int32_t x = x0; x < end; x += dilation) {
        to = midge_copy(to, x >= 0 && x < width ? *in_rows + x * channels : pad_row, channels);
      }
    }
    return;
  }
  int32_t left = midge_clamp(-x0, 0, taps), right = midge_clamp(end - width, 0, taps);
  int32_t first = (x0 + left) * channels, nbytes = (taps - left - right) * channels;
  int8_t zero_point = pad_row[0];
  for (; in_rows != end_rows; ++in_rows) {
    to = midge_fill(to, zero_point, left * channels);
    to = midge_copy(to, *in_rows + first, nbytes);
    to = midge_fill(to, zero_point, right * channels);
  }
}

/* The taps of the pixels at x0 and x0 + stride, 16 bytes of each in turns. */
static inline void conv2d_mve_weave(const midge_conv2d_params *p, const int8_t *const *in_rows, const int8_t *pad_row, int32_t x0, int8_t *to) {
  int32_t channels = p->in_channels, width = p->in_width, stride = p->stride, dilation = p->dilation;
  int32_t blocks = (int32_t)((uint32_t)channels / 16u), end = x0 + p->kernel_width * dilation;
  const int8_t *const *end_rows = in_rows + p->kernel_height;
  for (; in_rows != end_rows; ++in_rows) {
    for (int32_t x = x0; x < end; x += dilation) {
      const int8_t *first = x >= 0 && x < width ? *in_rows + x * channels : pad_row;
      const int8_t *second = x + stride >= 0 && x + stride < width ? *in_rows + (x + stride) * channels : pad_row;
      to = midge_interleave(to, first, second, blocks);
    }
  }
}

/* Pixels that are gathered before they are computed: what 1024 bytes hold, but 2 and no more than 8. */
static inline int32_t conv2d_mve_batch(int32_t depth) { return depth > 256 ? 2 : depth > 128 ? 4 : 8; }

/* How many pixels from x on to compute at once. They come in twos: the last one of an odd number goes with the one before it, which is computed twice. */
static inline int32_t conv2d_mve_count(int32_t *x, int32_t width, int32_t batch) {
  int32_t count = width - *x < batch ? width - *x : batch;
  if (count == 1) {
    --*x;
    return 2;
  }
  return count;
}

void midge_conv2d_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_mve_constants *constants, int8_t *const *out_rows,
                         unsigned rows, void *scratch) {
  const midge_conv2d_params *p = params;
  const int8_t *pad_row = constants->pad_row;
  int32_t depth = 16 * constants->stream[1], batch = conv2d_mve_batch(depth), taps = p->kernel_height, stride = p->stride;
  int32_t channels = p->in_channels, nbytes = p->kernel_width * channels, last = p->dilation == 1 ? p->in_width - p->kernel_width : -1;
  for (unsigned row = 0; row < rows; ++row, in_rows += taps) {
    for (int32_t x = 0; x < p->out_width;) {
      midge_gemm_mve_params run = {depth, p->out_channels, conv2d_mve_count(&x, p->out_width, batch)};
      int32_t x0 = x * stride - p->pad, end = x0 + run.count * stride;
      int8_t *to = scratch;
      for (; x0 != end; x0 += stride, to += depth) {
        if (x0 < 0 || x0 > last) {
          conv2d_mve_gather(p, in_rows, pad_row, x0, to);
          continue;
        }
        midge_gather(to, in_rows, taps, x0 * channels, nbytes);
      }
      constants->gemm(scratch, constants->stream, out_rows[row] + x * p->out_channels, &run);
      x += run.count;
    }
  }
}

void midge_conv2d_woven_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_mve_constants *constants,
                               int8_t *const *out_rows, unsigned rows, void *scratch) {
  const midge_conv2d_params *p = params;
  const int8_t *pad_row = constants->pad_row;
  int32_t depth = 16 * constants->stream[1], batch = conv2d_mve_batch(depth), taps = p->kernel_height, stride = p->stride;
  int32_t channels = p->in_channels, last = p->dilation == 1 ? p->in_width - p->kernel_width - stride : -1;
  int32_t blocks = p->kernel_width * (int32_t)((uint32_t)channels / 16u);
  for (unsigned row = 0; row < rows; ++row, in_rows += taps) {
    for (int32_t x = 0; x < p->out_width;) {
      midge_gemm_mve_params run = {depth, p->out_channels, conv2d_mve_count(&x, p->out_width, batch) & ~1};
      int32_t x0 = x * stride - p->pad, end = x0 + run.count * stride;
      int8_t *to = scratch;
      for (; x0 != end; x0 += 2 * stride, to += 2 * depth) {
        if (x0 < 0 || x0 > last) {
          conv2d_mve_weave(p, in_rows, pad_row, x0, to);
          continue;
        }
        int8_t *window = to;
        int32_t first = x0 * channels, second = first + stride * channels;
        for (const int8_t *const *in = in_rows, *const *in_end = in + taps; in != in_end; ++in) {
          window = midge_interleave(window, *in + first, *in + second, blocks);
        }
      }
      constants->gemm(scratch, constants->stream, out_rows[row] + x * p->out_channels, &run);
      x += run.count;
    }
  }
}

void midge_dense_mve_s8_row(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_mve_constants *constants,
                            int8_t *const *out_rows, unsigned rows, void *scratch) {
  const midge_conv2d_params *p = params;
  int in_place = p->kernel_height * p->kernel_width == 1 && p->pad == 0;
  for (unsigned row = 0; row < rows; ++row, in_rows += p->kernel_height) {
    if (!in_place) {
      conv2d_mve_gather(p, in_rows, constants->pad_row, -p->pad, scratch);
    }
    constants->gemm(in_place ? in_rows[0] : (const int8_t *)scratch, constants->stream, out_rows[row], NULL);
  }
}
