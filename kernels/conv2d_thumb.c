/* SPDX-License-Identifier: Apache-2.0 */
#include "conv2d_thumb.h"

#include "arch/thumb.h"
#include "thumb_requantize.h"

enum { QUADS_T1_PAIR = 26, QUADS_T2_PAIR = 28 };

/* Four sums of one channel, from its chunks on; returns the end of the weights. All arithmetic is modulo 2^32. */
static inline const uint8_t *quads_channel(int32_t acc[4], const int32_t *acts, const int32_t *record, const uint8_t *weights, int32_t pair) {
  uint32_t lower[2] = {(uint32_t)record[0], (uint32_t)record[0]};
  int32_t upper[2] = {record[1], record[1]};
  for (int32_t skip = *weights++; skip <= 8 * pair; skip = *weights++) {
    uint32_t sum[2] = {0x8000u, 0x8000u};
    for (int32_t taps = 16 - 2 * (skip / pair); taps > 0; --taps, acts += 2) {
      uint32_t weight = (uint32_t)(int32_t)(int8_t)*weights++;
      sum[0] += (uint32_t)acts[0] * weight;
      sum[1] += (uint32_t)acts[1] * weight;
    }
    for (int i = 0; i < 2; ++i) {
      lower[i] += sum[i];
      upper[i] += (int32_t)sum[i] >> 16;
    }
  }
  for (int i = 0; i < 2; ++i) {
    acc[2 * i] = (int32_t)(lower[i] - ((uint32_t)upper[i] << 16));
    acc[2 * i + 1] = upper[i];
  }
  return weights;
}

static inline void quads_t2(const int32_t *acts, const int32_t *stream, int8_t *const *out, int rounding) {
  int32_t channels = stream[0];
  const int32_t *record = stream + 2;
  for (int32_t channel = 0; channel < channels; ++channel) {
    int32_t acc[4];
    const uint8_t *end = quads_channel(acc, acts, record, (const uint8_t *)(record + 5), QUADS_T2_PAIR);
    for (int i = 0; i < 4; ++i) {
      out[i][channel] = thumb_t2_requantize(acc[i], record + 2, rounding);
    }
    record += (end - (const uint8_t *)record + 3) / 4;
  }
}

void midge_quads_t2_s8(const int32_t *acts, const int32_t *stream, int8_t *const *out) { quads_t2(acts, stream, out, MIDGE_ROUND_ONCE); }

void midge_quads_t2_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *const *out) { quads_t2(acts, stream, out, MIDGE_ROUND_TWICE); }

static inline void quads_t1(const int32_t *acts, const int32_t *stream, int8_t *const *out, int rounding) {
  int32_t channels = stream[0], pieces = stream[1];
  const int32_t *record = stream + 2;
  for (int32_t channel = 0; channel < channels; ++channel) {
    int32_t acc[4];
    const uint8_t *end = quads_channel(acc, acts, record, (const uint8_t *)(record + 6), QUADS_T1_PAIR);
    for (int i = 0; i < 4; ++i) {
      out[i][channel] = thumb_t1_requantize(acc[i], record + 2, pieces, rounding);
    }
    record += (end - (const uint8_t *)record + 3) / 4;
  }
}

void midge_quads_t1_s8(const int32_t *acts, const int32_t *stream, int8_t *const *out) { quads_t1(acts, stream, out, MIDGE_ROUND_ONCE); }

void midge_quads_t1_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *const *out) { quads_t1(acts, stream, out, MIDGE_ROUND_TWICE); }

/* A pixel to be computed: column of its first tap, its input rows, its output. */
typedef struct {
  int32_t x;
  const int8_t *const *rows;
  int8_t *out;
} conv2d_thumb_pixel;

/* Acts of n adjacent bytes of four pixels. */
static inline int32_t *conv2d_thumb_run(int32_t *acts, const int8_t *const from[4], int32_t n) {
  const int8_t *a = from[0], *b = from[1], *c = from[2], *d = from[3], *end = a + n;
  while (a != end) {
    acts[0] = *a++ + *b++ * 65536;
    acts[1] = *c++ + *d++ * 65536;
    acts += 2;
  }
  return acts;
}

/* Acts of four windows, run by run or, where one of them meets an edge or is dilated, column by column. */
static inline void conv2d_thumb_acts(const midge_conv2d_params *p, const int8_t *pad_row, const conv2d_thumb_pixel pixels[4], int32_t *acts) {
  int32_t channels = p->in_channels, last = p->in_width - p->kernel_width, whole = (p->dilation == 1) | (p->kernel_width == 1);
  for (int i = 0; i < 4; ++i) {
    whole &= (pixels[i].x >= 0) & (pixels[i].x <= last);
  }
  for (int32_t ky = 0; ky < p->kernel_height; ++ky) {
    for (int32_t kx = 0; kx < (whole ? 1 : p->kernel_width); ++kx) {
      const int8_t *from[4];
      for (int i = 0; i < 4; ++i) {
        int32_t x = pixels[i].x + kx * p->dilation;
        from[i] = ((x >= 0) & (x < p->in_width)) ? pixels[i].rows[ky] + x * channels : pad_row;
      }
      acts = conv2d_thumb_run(acts, from, whole ? p->kernel_width * channels : channels);
    }
  }
}

void midge_conv2d_thumb_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_thumb_constants *constants,
                           int8_t *const *out_rows, unsigned rows, void *scratch) {
  conv2d_thumb_pixel next = {-params->pad, in_rows, *out_rows};
  int32_t end = params->out_width * params->stride - params->pad;
  for (int32_t left = (int32_t)rows * params->out_width; left > 0; left -= 4) {
    conv2d_thumb_pixel pixels[4];
    int8_t *out[4];
    for (int i = 0; i < 4; ++i) {
      pixels[i] = next;
      out[i] = next.out;
      if (i + 1 >= left) {
        continue;
      }
      next.x += params->stride;
      next.out += params->out_channels;
      if (next.x == end) {
        ++out_rows;
        next.x = -params->pad;
        next.rows += params->kernel_height;
        next.out = *out_rows;
      }
    }
    conv2d_thumb_acts(params, constants->pad_row, pixels, scratch);
    constants->quads(scratch, constants->stream, out);
  }
}
