/* SPDX-License-Identifier: Apache-2.0 */
#include "depthwise_mve.h"

#include <string.h>

#include "arch/mve.h"
#include "fixedpoint.h"

/* Up to 16 channels of one pixel, from `channel` on; returns the end of their stream. */
static inline const int32_t *taps_mve_block(const int8_t *const *taps, const int32_t *header, const int32_t *block, int32_t channel, int32_t width, int8_t *out,
                                            int rounding) {
  int32_t count = header[2], before = header[3];
  for (int32_t i = 0; i < width; ++i) {
    static const uint8_t order[4] = {0, 2, 1, 3};
    int32_t place = 4 * order[i % 4] + i / 4;
    int32_t acc = block[4 * before + place];
    for (int32_t k = 0; k < count; ++k) {
      const int8_t *weights = (const int8_t *)(block + 4 * k + (k < before ? 0 : 16));
      acc += taps[k][channel + i] * weights[i];
    }
    const int32_t *constants = block + 4 * count + 16 + 8 * (place / 4) + place % 4;
    int32_t value = midge_requantize(acc, constants[0], constants[4], rounding) + header[4];
    out[i] = (int8_t)midge_clamp(value, header[5], header[6]);
  }
  return block + 4 * count + 48;
}

static inline void taps_mve(const int8_t *const *taps, const int32_t *stream, int8_t *out, const midge_taps_mve_params *run, int rounding) {
  int32_t channels = stream[0], width = channels < 16 ? channels : 16;
  for (int32_t p = 0; p < run->count; ++p, out += channels) {
    const int32_t *block = stream + 8;
    for (int32_t c = 0; c < channels; c += 16) {
      int32_t start = c < channels - width ? c : channels - width;
      block = taps_mve_block(taps, stream, block, run->offset + p * (channels + stream[1]) + start, width, out + start, rounding);
    }
  }
}

void midge_taps_mve_s8(const int8_t *const *taps, const int32_t *stream, int8_t *out, const midge_taps_mve_params *run) {
  taps_mve(taps, stream, out, run, MIDGE_ROUND_ONCE);
}

void midge_taps_mve_s8_tflite(const int8_t *const *taps, const int32_t *stream, int8_t *out, const midge_taps_mve_params *run) {
  taps_mve(taps, stream, out, run, MIDGE_ROUND_TWICE);
}

enum { DEPTHWISE_MVE_TAPS = 9, DEPTHWISE_MVE_WIDE_TAPS = 25, DEPTHWISE_MVE_WIDEST_TAPS = 49, DEPTHWISE_MVE_NARROW_TAPS = 25 };

/* Column k of a window: the taps that far into the rows, or, outside, the row of zero points wherever `offset` leads. */
static inline void depthwise_mve_column(const midge_conv2d_params *p, const int8_t *const *in_rows, const int8_t **taps, int32_t k) {
  int32_t width = p->kernel_width, step = k * p->dilation * p->in_channels;
  const int8_t *const *end = in_rows + p->kernel_height;
  for (const int8_t **tap = taps + k; in_rows != end; ++in_rows, tap += width) {
    *tap = *in_rows + step;
  }
}

static inline void depthwise_mve_pad(const midge_conv2d_params *p, const int8_t *pad_row, int32_t offset, const int8_t **taps, int32_t k) {
  const int8_t *place = (const int8_t *)((uintptr_t)pad_row - (uintptr_t)(intptr_t)offset);
  const int8_t **end = taps + p->kernel_height * p->kernel_width;
  for (const int8_t **tap = taps + k; tap < end; tap += p->kernel_width) {
    *tap = place;
  }
}

/* One output row; taps is room for as many. Pixels whose taps are all inside are computed at once; `left` of them come before, which reach over the edge. */
static inline void depthwise_mve_line(const midge_conv2d_params *p, const int8_t *const *in_rows, const midge_depthwise_mve_constants *constants, int32_t left,
                                      int32_t inside, const int8_t **taps, int8_t *out) {
  int32_t width = p->kernel_width, out_width = p->out_width, in_width = p->in_width, dilation = p->dilation, channels = p->in_channels;
  for (int32_t k = 0; k < width; ++k) {
    depthwise_mve_column(p, in_rows, taps, k);
  }
  for (int32_t x = 0; x < out_width;) {
    int32_t x0 = x * p->stride - p->pad;
    midge_taps_mve_params run = {x0 * channels, x == left ? inside : 0};
    if (run.count > 0) {
      constants->taps(taps, constants->stream, out, &run);
    } else {
      run.count = 1;
      for (int32_t k = 0, tap = x0; k < width; ++k, tap += dilation) {
        if (tap < 0 || tap >= in_width) {
          depthwise_mve_pad(p, constants->pad_row, run.offset, taps, k);
        }
      }
      constants->taps(taps, constants->stream, out, &run);
      for (int32_t k = 0, tap = x0; k < width; ++k, tap += dilation) {
        if (tap < 0 || tap >= in_width) {
          depthwise_mve_column(p, in_rows, taps, k);
        }
      }
    }
    x += run.count;
    out += run.count * p->out_channels;
  }
}

static inline void depthwise_mve_rows(const midge_conv2d_params *p, const int8_t *const *in_rows, const midge_depthwise_mve_constants *constants,
                                      const int8_t **taps, int8_t *const *out_rows, unsigned rows) {
  int32_t room = p->in_width - (p->kernel_width - 1) * p->dilation - 1 + p->pad; /* the last pixel whose taps are inside, times stride */
  int32_t left = (p->pad + p->stride - 1) / p->stride, inside = room < 0 ? 0 : room / p->stride + 1 - left;
  inside = inside < p->out_width - left ? inside : p->out_width - left;
  for (unsigned row = 0; row < rows; ++row, in_rows += p->kernel_height) {
    depthwise_mve_line(p, in_rows, constants, left, inside, taps, out_rows[row]);
  }
}

void midge_depthwise_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_mve_constants *constants,
                            int8_t *const *out_rows, unsigned rows, void *scratch) {
  const int8_t *taps[DEPTHWISE_MVE_TAPS];
  (void)scratch;
  depthwise_mve_rows(params, in_rows, constants, taps, out_rows, rows);
}

void midge_depthwise_wide_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_mve_constants *constants,
                                 int8_t *const *out_rows, unsigned rows, void *scratch) {
  const int8_t *taps[DEPTHWISE_MVE_WIDE_TAPS];
  (void)scratch;
  depthwise_mve_rows(params, in_rows, constants, taps, out_rows, rows);
}

void midge_depthwise_widest_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_mve_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch) {
  const int8_t *taps[DEPTHWISE_MVE_WIDEST_TAPS];
  (void)scratch;
  depthwise_mve_rows(params, in_rows, constants, taps, out_rows, rows);
}

void midge_depthwise_column_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_mve_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch) {
  midge_taps_mve_params run = {0, params->out_width};
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row, in_rows += params->kernel_height) {
    constants->taps(in_rows, constants->stream, out_rows[row], &run);
  }
}

/* A row with its padding, at least 16 bytes beyond the reach of a window. */
static inline int8_t *depthwise_mve_row(const midge_conv2d_params *p, const int8_t *row, const int8_t *pad_row, int32_t width, int8_t *to) {
  int32_t x = -p->pad, channels = p->in_channels, end = width - p->pad;
  for (; x < 0 && x < end; ++x) {
    to = midge_copy(to, pad_row, channels);
  }
  int32_t inside = (end < p->in_width ? end : p->in_width) - x;
  if (inside > 0) {
    to = midge_copy(to, row + x * channels, inside * channels);
    x += inside;
  }
  for (; x < end; ++x) {
    to = midge_copy(to, pad_row, channels);
  }
  return to;
}

void midge_depthwise_narrow_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_mve_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch) {
  const midge_conv2d_params *p = params;
  int32_t channels = p->in_channels, nbytes = p->out_width * channels, reach = (p->kernel_width - 1) * p->dilation;
  int32_t width = (nbytes < 16 ? 16 / channels : p->out_width) + reach;
  for (unsigned row = 0; row < rows; ++row, in_rows += p->kernel_height) {
    const int8_t *taps[DEPTHWISE_MVE_NARROW_TAPS], **tap = taps;
    int8_t *copy = scratch, last[16];
    for (int32_t ky = 0; ky < p->kernel_height; ++ky) {
      for (int32_t k = 0; k <= reach; k += p->dilation) {
        *tap++ = copy + k * channels;
      }
      copy = depthwise_mve_row(p, in_rows[ky], constants->pad_row, width, copy);
    }
    int32_t blocks = (int32_t)((uint32_t)nbytes / 16u), tail = nbytes & 15, start = nbytes < 16 ? 0 : nbytes - 16;
    midge_taps_mve_params all = {0, blocks}, rest = {start, 1};
    if (blocks > 0) {
      constants->taps(taps, constants->stream, out_rows[row], &all);
    }
    if (tail != 0) {
      constants->taps(taps, constants->stream, last, &rest);
      memcpy(out_rows[row] + start, last, nbytes < 16 ? (size_t)nbytes : 16);
    }
  }
}

enum { STRIP_MVE_FIRST = 4, STRIP_MVE_LAST = 5, STRIP_MVE_STRIP = 6, STRIP_MVE_POINTERS = 7 };

/* One channel; pixels are read from the rows, not from the strip. */
static inline void strip_mve_channel(const int8_t *const *table, const int32_t *stream, const int32_t *entry, int32_t channel, int8_t *out,
                                     const midge_strip_mve_params *run, int rounding) {
  int32_t channels = stream[0], left = table[STRIP_MVE_FIRST] == table[STRIP_MVE_STRIP] ? 0 : 1;
  int32_t inside = (int32_t)(table[STRIP_MVE_LAST] - table[STRIP_MVE_FIRST]) / 16 + 4;
  const int8_t *weights = (const int8_t *)entry;
  for (int32_t i = 0; i < (run->out_row != 0 ? 2 : 1) * run->columns; ++i) {
    int32_t row = i < run->columns ? 0 : 1, x = i - row * run->columns, acc = entry[3];
    for (int32_t k = 0; k < 9; ++k) {
      int32_t kx = k / 3, ky = k % 3, column = x + kx - left;
      acc += weights[4 * kx + ky] * (column < 0 || column >= inside ? stream[4] : table[row + ky][column * channels + channel]);
    }
    int32_t value = midge_requantize(acc, entry[4], entry[5], rounding) + stream[1];
    out[row * run->out_row + x * channels + channel] = (int8_t)midge_clamp(value, stream[2], stream[3]);
  }
}

static inline void strip_mve(const int8_t *const *table, const int32_t *stream, int8_t *out, const midge_strip_mve_params *run, int rounding) {
  int32_t channels = stream[0];
  const int32_t *entry = stream + 5;
  for (int32_t block = 0; block < channels; block += 4) {
    int32_t start = block < channels - 4 ? block : channels - 4;
    for (int32_t i = 0; i < 4; ++i, entry += 6) {
      strip_mve_channel(table, stream, entry, start + i, out, run, rounding);
    }
  }
}

void midge_strip_mve_s8(const int8_t **table, const int32_t *stream, int8_t *out, const midge_strip_mve_params *run) {
  strip_mve(table, stream, out, run, MIDGE_ROUND_ONCE);
}

void midge_strip_mve_s8_tflite(const int8_t **table, const int32_t *stream, int8_t *out, const midge_strip_mve_params *run) {
  strip_mve(table, stream, out, run, MIDGE_ROUND_TWICE);
}

void midge_depthwise_strip_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_strip_mve_constants *constants,
                                  int8_t *const *out_rows, unsigned rows, void *scratch) {
  const midge_conv2d_params *p = params;
  const int8_t *const *last = in_rows + (rows > 1 ? 5 : 2);
  midge_strip_mve_params run = {0, rows > 1 ? (int32_t)((uintptr_t)out_rows[1] - (uintptr_t)out_rows[0]) : 0, p->out_width < 6 ? p->out_width : 6};
  for (int32_t x = 0; x < p->out_width; x += run.columns) {
    x = x < p->out_width - run.columns ? x : p->out_width - run.columns;
    int32_t first = x - p->pad, end = first + run.columns + 2, width = p->in_width;
    int8_t *to = scratch;
    if (first < 0) {
      to = midge_fill(to, constants->pad_row[0], 16);
      first = 0;
    }
    int32_t inside = (end < width ? end : width) - first, start = first * p->in_channels;
    if (end > width) {
      midge_fill(to + 16 * inside, constants->pad_row[0], 16);
    }
    const int8_t *table[STRIP_MVE_POINTERS] = {NULL, NULL, NULL, *last + start, to, to + 16 * (inside - 4), scratch};
    for (int32_t i = 0; i < 3; ++i) {
      table[i] = in_rows[i] + start;
    }
    run.between = (inside - 4) * p->in_channels;
    constants->strip(table, constants->stream, out_rows[0] + x * p->in_channels, &run);
  }
}
