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
    const int8_t *from = x;
    int32_t taps = first;
    for (int32_t i = 0; i < steps; ++i, weights += 16 * width) {
      for (int32_t k = 0; k < taps; ++k) {
        acc += *from++ * weights[k];
      }
      taps = 16;
    }
    int32_t value = midge_requantize(acc, constants[0], constants[width], rounding) + header[4];
    out[c] = (int8_t)midge_clamp(value, header[5], header[6]);
    if (lane == width - 1) {
      group += 8 + 4 * width * steps + 2 * width;
    }
  }
}

static inline void gemm_mve(const int8_t *x, const int32_t *stream, int8_t *out, const midge_gemm_mve_params *run, int rounding) {
  for (int32_t p = 0; p < run->count; ++p, x += run->step, out += run->out_step) {
    gemm_mve_pixel(x, stream, out, 4, rounding);
    gemm_mve_pixel(x + run->between, stream, out + run->out_between, 4, rounding);
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

/* Pixels of one row: those of its first half, each with that of its second; the middle one of an odd number is in both. */
static inline midge_gemm_mve_params gemm_mve_line(int32_t step, int32_t out_step, int32_t pixels) {
  int32_t half = pixels >> 1;
  midge_gemm_mve_params run = {half * step, step, half * out_step, out_step, pixels - half};
  return run;
}

/* Pixels of two rows, as far apart as these. */
static inline midge_gemm_mve_params gemm_mve_rows(const midge_gemm_mve_params *line, const int8_t *first, const int8_t *second, int8_t *const *out_rows,
                                                  int32_t pixels) {
  int32_t between = (int32_t)((uintptr_t)second - (uintptr_t)first), out_between = (int32_t)((uintptr_t)out_rows[1] - (uintptr_t)out_rows[0]);
  midge_gemm_mve_params run = {between, line->step, out_between, line->out_step, pixels};
  return run;
}

void midge_pointwise_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_mve_constants *constants,
                            int8_t *const *out_rows, unsigned rows, void *scratch) {
  midge_gemm_mve_params run = gemm_mve_line(params->stride * params->in_channels, params->out_channels, params->out_width);
  (void)scratch;
  if (rows == 2) {
    run = gemm_mve_rows(&run, in_rows[0], in_rows[1], out_rows, params->out_width);
  }
  constants->gemm(in_rows[0], constants->stream, out_rows[0], &run);
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

/* Pixels that are gathered before they are computed: what 1024 bytes hold, but 2 and no more than 8. */
static inline int32_t conv2d_mve_batch(int32_t depth) { return depth > 256 ? 2 : depth > 128 ? 4 : 8; }

void midge_conv2d_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_mve_constants *constants, int8_t *const *out_rows,
                         unsigned rows, void *scratch) {
  const midge_conv2d_params *p = params;
  const int8_t *pad_row = constants->pad_row;
  int32_t depth = 16 * constants->stream[1], batch = conv2d_mve_batch(depth), taps = p->kernel_height, stride = p->stride;
  int32_t channels = p->in_channels, nbytes = p->kernel_width * channels, last = p->dilation == 1 ? p->in_width - p->kernel_width : -1;
  for (unsigned row = 0; row < rows; ++row, in_rows += taps) {
    for (int32_t x = 0; x < p->out_width; x += batch) {
      int32_t count = p->out_width - x < batch ? p->out_width - x : batch, x0 = x * stride - p->pad, end = x0 + count * stride;
      midge_gemm_mve_params run = gemm_mve_line(depth, p->out_channels, count);
      int8_t *to = scratch;
      for (; x0 != end; x0 += stride, to += depth) {
        if (x0 < 0 || x0 > last) {
          conv2d_mve_gather(p, in_rows, pad_row, x0, to);
          continue;
        }
        midge_gather(to, in_rows, taps, x0 * channels, nbytes);
      }
      constants->gemm(scratch, constants->stream, out_rows[row] + x * p->out_channels, &run);
    }
  }
}

/* The column of a pair that tap k of its first or second pixel is in. */
static inline int32_t window_mve_column(const int32_t *header, int32_t k, int32_t second) {
  int32_t column = 0;
  while (header[12 + column] != k * header[9] + second * header[10]) {
    ++column;
  }
  return column;
}

/* One channel of a pixel, `offset` bytes from where the table leads. */
static inline int32_t window_mve_sum(const int8_t *const *table, const int32_t *header, const int8_t *weights, int32_t second, int32_t offset) {
  int32_t rows = header[5], taps = header[6], together = header[8], acc = 0;
  for (int32_t row = 0; row < rows; ++row, table += header[11]) {
    for (int32_t block = 0; block < header[7]; block += together) {
      for (int32_t k = 0; k < taps; ++k, weights += 64 * together) {
        const int8_t *x = table[window_mve_column(header, k, second)] + offset + 16 * block;
        for (int32_t i = 0; i < 16 * together; ++i) {
          acc += x[i] * weights[i / 16 * 64 + i % 16];
        }
      }
    }
  }
  return acc;
}

static inline void window_mve(const int8_t **table, const int32_t *stream, int8_t *out, const midge_window_mve_params *run, int rounding) {
  int32_t steps = stream[5] * stream[6] * stream[7];
  for (int32_t p = 0; p < 2 * run->count; ++p, out += run->out_step) {
    const int32_t *group = stream + 17;
    for (int32_t c = 0; c < stream[4]; ++c) {
      int32_t lane = c & 3, acc = group[lane] + window_mve_sum(table, stream, (const int8_t *)(group + 8) + 16 * lane, p & 1, (p >> 1) * run->step);
      const int32_t *constants = group + 8 + 16 * steps + lane;
      out[c] = (int8_t)midge_clamp(midge_requantize(acc, constants[0], constants[4], rounding) + stream[1], stream[2], stream[3]);
      group += lane == 3 ? 16 + 16 * steps : 0;
    }
  }
}

void midge_window_mve_s8(const int8_t **table, const int32_t *stream, int8_t *out, const midge_window_mve_params *run) {
  window_mve(table, stream, out, run, MIDGE_ROUND_ONCE);
}

void midge_window_mve_s8_tflite(const int8_t **table, const int32_t *stream, int8_t *out, const midge_window_mve_params *run) {
  window_mve(table, stream, out, run, MIDGE_ROUND_TWICE);
}

enum { WINDOW_MVE_ENTRIES = 20 };

/* How many pairs from the one whose windows begin at x0 on have no column in the padding, `pairs` at most. */
static inline int32_t window_mve_count(const midge_conv2d_params *p, int32_t x0, int32_t reach, int32_t pairs) {
  int32_t room = p->in_width - 1 - reach - x0;
  int32_t inside = x0 < 0 || room < 0 ? 0 : (int32_t)((uint32_t)room / (uint32_t)(2 * p->stride)) + 1;
  return inside < pairs ? inside : pairs;
}

void midge_conv2d_window_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_window_mve_constants *constants,
                                int8_t *const *out_rows, unsigned rows, void *scratch) {
  const midge_conv2d_params *p = params;
  const int32_t *stream = constants->stream, *places = stream + 12;
  int32_t columns = stream[11], channels = p->in_channels, out_width = p->out_width;
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row, in_rows += p->kernel_height) {
    for (int32_t x = 0; x < out_width;) {
      const int8_t *table[WINDOW_MVE_ENTRIES + 1], **entry = table;
      x -= x == out_width - 1; /* the last of an odd number goes with the one before it, which is computed twice */
      int32_t x0 = x * p->stride - p->pad, pairs = (out_width - x) >> 1;
      midge_window_mve_params run = {window_mve_count(p, x0, places[columns - 1], pairs), p->out_channels, 2 * p->stride * channels};
      for (const int8_t *const *in = in_rows, *const *end = in_rows + p->kernel_height; in != end; ++in) {
        for (int32_t i = 0; i < columns; ++i) {
          int32_t column = x0 + places[i];
          *entry++ = column >= 0 && column < p->in_width ? *in + column * channels : constants->pad_row;
        }
      }
      *entry = NULL;
      midge_window_mve *routine = run.count > 0 ? constants->inner : constants->window;
      run.count += run.count == 0;
      routine(table, stream, out_rows[row] + x * p->out_channels, &run);
      x += 2 * run.count;
    }
  }
}

/* Columns first .. first + columns - 1 of all rows, each one run of bytes. */
static inline void conv2d_mve_columns(const midge_conv2d_params *p, const int8_t *const *in_rows, const midge_conv2d_columns_mve_constants *constants,
                                      int32_t first, int32_t columns, int8_t *to) {
  int32_t channels = p->in_channels, taps = p->kernel_height, pitch = taps * channels;
  int32_t left = midge_clamp(-first, 0, columns), inside = midge_clamp(p->in_width - first, left, columns) - left, right = columns - left - inside;
  int32_t each = (int32_t)(16u / (uint32_t)channels), step = each * channels, nbytes = inside * channels;
  int32_t turns = nbytes > 16 ? (int32_t)((uint32_t)(nbytes - 17 + step) / (uint32_t)step) : 0, rest = nbytes - turns * step,
          zero_point = constants->pad_row[0];
  if (left > 0) {
    to = midge_fill(to, (int8_t)zero_point, left * pitch);
  }
  if (right > 0) {
    midge_fill(to + inside * pitch, (int8_t)zero_point, right * pitch);
  }
  int32_t offset = (first + left) * channels;
  for (const int8_t *const *end = in_rows + taps; in_rows != end; ++in_rows, to += channels) {
    midge_spread(to, *in_rows + offset, constants->places, step, each * pitch, turns, rest);
  }
}

void midge_conv2d_columns_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_columns_mve_constants *constants,
                                 int8_t *const *out_rows, unsigned rows, void *scratch) {
  const midge_conv2d_params *p = params;
  int32_t pitch = p->kernel_height * p->in_channels, step = p->stride * pitch, spare = 272 - p->kernel_width * pitch, batch = 2;
  if (spare > 0) {
    batch = (int32_t)((uint32_t)spare / (uint32_t)step) & ~1;
    batch = batch < 2 ? 2 : batch;
  }
  for (int32_t x = 0; x < p->out_width; x += batch) {
    int32_t count = p->out_width - x < batch ? p->out_width - x : batch, columns = (count - 1) * p->stride + p->kernel_width;
    int8_t *to = scratch;
    midge_gemm_mve_params run = gemm_mve_line(step, p->out_channels, count);
    conv2d_mve_columns(p, in_rows, constants, x * p->stride - p->pad, columns, to);
    if (rows == 2) {
      int8_t *second = to + ((columns * pitch + 3) & ~3);
      conv2d_mve_columns(p, in_rows + p->kernel_height, constants, -p->pad, columns, second);
      run = gemm_mve_rows(&run, to, second, out_rows, count);
    }
    constants->gemm(to, constants->stream, out_rows[0] + x * p->out_channels, &run);
  }
}

void midge_conv2d_pixel_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_mve_constants *constants,
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
