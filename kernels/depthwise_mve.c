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

enum { DEPTHWISE_MVE_TAPS = 49 };

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

/* One output row. Pixels whose taps are all inside are computed at once; `left` of them come before, which reach over the edge. */
static inline void depthwise_mve_line(const midge_conv2d_params *p, const int8_t *const *in_rows, const midge_depthwise_mve_constants *constants, int32_t left,
                                      int32_t inside, int8_t *out) {
  const int8_t *taps[DEPTHWISE_MVE_TAPS];
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

void midge_depthwise_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_mve_constants *constants,
                            int8_t *const *out_rows, unsigned rows, void *scratch) {
  const midge_conv2d_params *p = params;
  int32_t room = p->in_width - (p->kernel_width - 1) * p->dilation - 1 + p->pad; /* the last pixel whose taps are inside, times stride */
  int32_t left = (p->pad + p->stride - 1) / p->stride, inside = room < 0 ? 0 : room / p->stride + 1 - left;
  inside = inside < p->out_width - left ? inside : p->out_width - left;
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row, in_rows += p->kernel_height) {
    depthwise_mve_line(p, in_rows, constants, left, inside, out_rows[row]);
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
    const int8_t *taps[DEPTHWISE_MVE_TAPS], **tap = taps;
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
