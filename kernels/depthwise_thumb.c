/* SPDX-License-Identifier: Apache-2.0 */
#include "depthwise_thumb.h"

#include "arch/thumb.h"
#include "thumb_requantize.h"

enum { STRIP_HEADER = 6 };

static inline int32_t strip_least(int32_t a, int32_t b) { return a < b ? a : b; }

/* Sums of one channel, which start at the bias. */
static inline void strip_channel(int32_t *acc, const int8_t *const *taps, const int32_t *stream, const int8_t *weights, int32_t channel) {
  int32_t pixels = stream[1], stride = stream[2], width = stream[4];
  for (int32_t ky = 0; ky < stream[3]; ++ky) {
    for (int32_t first = 0; first < width; first += MIDGE_STRIP_RUN) {
      int32_t run = strip_least(width - first, MIDGE_STRIP_RUN);
      for (int32_t pixel = 0; pixel < pixels; ++pixel) {
        for (int32_t k = 0; k < run; ++k) {
          acc[pixel] += taps[pixel * stride + k][channel] * weights[k];
        }
      }
      taps += (pixels - 1) * stride + run;
      weights += run;
    }
  }
}

static inline void strip_t2(const int8_t *const *taps, const int32_t *stream, int8_t *const *out, int rounding) {
  int32_t size = (stream[3] * stream[4] + 3) / 4;
  const int32_t *record = stream + STRIP_HEADER;
  for (int32_t channel = 0; channel < stream[0]; ++channel, record += 4 + size) {
    int32_t acc[MIDGE_STRIP_PIXELS] = {record[0], record[0], record[0], record[0], record[0], record[0]};
    strip_channel(acc, taps, stream, (const int8_t *)(record + 1), channel);
    for (int32_t pixel = 0; pixel < stream[1]; ++pixel) {
      out[pixel][channel] = thumb_t2_requantize(acc[pixel], record + 1 + size, rounding);
    }
  }
}

void midge_depthwise_t2_s8(const int8_t *const *taps, const int32_t *stream, int8_t *const *out) { strip_t2(taps, stream, out, MIDGE_ROUND_ONCE); }

void midge_depthwise_t2_s8_tflite(const int8_t *const *taps, const int32_t *stream, int8_t *const *out) { strip_t2(taps, stream, out, MIDGE_ROUND_TWICE); }

static inline void strip_t1(const int8_t *const *taps, const int32_t *stream, int8_t *const *out, int rounding) {
  int32_t size = (stream[3] * stream[4] + 3) / 4;
  const int32_t *record = stream + STRIP_HEADER;
  for (int32_t channel = 0; channel < stream[0]; ++channel, record += 5 + size) {
    int32_t acc[MIDGE_STRIP_PIXELS] = {record[0], record[0], record[0], record[0], record[0], record[0]};
    strip_channel(acc, taps, stream, (const int8_t *)(record + 5), channel);
    for (int32_t pixel = 0; pixel < stream[1]; ++pixel) {
      out[pixel][channel] = thumb_t1_requantize(acc[pixel], record + 1, stream[5], rounding);
    }
  }
}

void midge_depthwise_t1_s8(const int8_t *const *taps, const int32_t *stream, int8_t *const *out) { strip_t1(taps, stream, out, MIDGE_ROUND_ONCE); }

void midge_depthwise_t1_s8_tflite(const int8_t *const *taps, const int32_t *stream, int8_t *const *out) { strip_t1(taps, stream, out, MIDGE_ROUND_TWICE); }

/* Taps of pixels that lie beside each other, the leftmost tap being column x0. */
static inline void strip_across(const midge_conv2d_params *p, const int8_t *const *in_rows, const int8_t *pad_row, int32_t x0, int32_t pixels,
                                const int8_t **taps) {
  int32_t channels = p->in_channels, reach = (pixels - 1) * p->stride;
  for (int32_t ky = 0; ky < p->kernel_height; ++ky) {
    for (int32_t first = 0; first < p->kernel_width; first += MIDGE_STRIP_RUN) {
      int32_t x = x0 + first, end = x + reach + strip_least(p->kernel_width - first, MIDGE_STRIP_RUN);
      for (const int8_t *from = in_rows[ky] + x * channels; x < end; ++x, from += channels) {
        *taps++ = x >= 0 && x < p->in_width ? from : pad_row;
      }
    }
  }
}

/* Taps of pixels below each other, one a row; the first `missing` pixels read anything. */
static inline void strip_down(const int8_t *const *in_rows, int32_t height, int32_t missing, int32_t pixels, int32_t stride, const int8_t **taps) {
  for (int32_t first = 0; first < height; first += MIDGE_STRIP_RUN) {
    int32_t start = first - missing * stride;
    for (int32_t y = start; y < start + (pixels - 1) * stride + strip_least(height - first, MIDGE_STRIP_RUN); ++y) {
      *taps++ = in_rows[y < 0 ? 0 : y];
    }
  }
}

static inline void strip_rows(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_thumb_constants *constants,
                              int8_t *const *out_rows, unsigned rows, const int8_t **taps) {
  int32_t pixels = constants->stream[1];
  int8_t *out[MIDGE_STRIP_PIXELS];
  if (params->in_width == 1) {
    int32_t missing = pixels - (int32_t)rows;
    for (int32_t pixel = 0; pixel < pixels; ++pixel) {
      out[pixel] = out_rows[pixel < missing ? 0 : pixel - missing];
    }
    strip_down(in_rows, params->kernel_height, missing, pixels, constants->stream[2], taps);
    constants->strip(taps, constants->stream, out);
    return;
  }
  for (; rows > 0; --rows, in_rows += params->stride, ++out_rows) {
    for (int32_t left = params->out_width; left > 0; left -= pixels) {
      int32_t x = params->out_width - (left < pixels ? pixels : left);
      out[0] = *out_rows + x * params->out_channels;
      for (int32_t pixel = 1; pixel < pixels; ++pixel) {
        out[pixel] = out[pixel - 1] + params->out_channels;
      }
      strip_across(params, in_rows, constants->pad_row, x * params->stride - params->pad, pixels, taps);
      constants->strip(taps, constants->stream, out);
    }
  }
}

void midge_depthwise_thumb_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_thumb_constants *constants,
                              int8_t *const *out_rows, unsigned rows, void *scratch) {
  const int8_t *taps[MIDGE_STRIP_TAPS];
  (void)scratch;
  strip_rows(params, in_rows, constants, out_rows, rows, taps);
}

void midge_depthwise_thumb_wide_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_thumb_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch) {
  const int8_t *taps[MIDGE_STRIP_WIDE_TAPS];
  (void)scratch;
  strip_rows(params, in_rows, constants, out_rows, rows, taps);
}
