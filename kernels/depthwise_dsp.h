/* SPDX-License-Identifier: Apache-2.0 */
/* Depthwise convolution on cores with the DSP extension. Windows 3x3: two output rows by two output columns of one channel at a time.
 *
 * The rows of four channels become a strip of int16 pairs of adjacent pixels, so that SMLAD does two taps of a channel. Strip words, for column pair k,
 * channel c and row r, are at (4 * k + c) * depth + r: what a block reads stands together, and all layers share one loop. */
#ifndef MIDGE_DEPTHWISE_DSP_H
#define MIDGE_DEPTHWISE_DSP_H

#include <stdint.h>

#include "conv2d.h"

/* Words of `shape`: what the routines are told of a call. Assembly reads them by number. */
enum {
  MIDGE_DEPTHWISE_LINES,    /* input rows */
  MIDGE_DEPTHWISE_PIXEL,    /* bytes from a pixel to the next: the channels */
  MIDGE_DEPTHWISE_LEFT,     /* 1 if the first pair has a pixel on the right only */
  MIDGE_DEPTHWISE_FULL,     /* pairs of pixels that follow */
  MIDGE_DEPTHWISE_RIGHT,    /* 1 if another pair has a pixel on the left only */
  MIDGE_DEPTHWISE_ZERO,     /* the input's zero point in all four bytes */
  MIDGE_DEPTHWISE_SPAN,     /* bytes of the strip from the first block of two output columns to the end of the last */
  MIDGE_DEPTHWISE_ROUND,    /* 2 * zero_point + 1 of the output */
  MIDGE_DEPTHWISE_PAIRS,    /* pairs of output rows */
  MIDGE_DEPTHWISE_CHANNEL,  /* first channel to compute */
  MIDGE_DEPTHWISE_COUNT,    /* how many of them */
  MIDGE_DEPTHWISE_WIDTH,    /* output columns */
  MIDGE_DEPTHWISE_STRIDE,   /* pixels */
  MIDGE_DEPTHWISE_DEPTH,    /* rows of the strip */
  MIDGE_DEPTHWISE_WORDS
};

/* Four channels, from `channel` on, of rows of pixels to a strip that begins at the first pair with a pixel. */
typedef void midge_depthwise_fill(const int8_t *const *lines, int32_t *strip, const int32_t *shape, int32_t channel);

void midge_depthwise_spread_s8(const int8_t *const *lines, int32_t *strip, const int32_t *shape, int32_t channel);

/* Output rows, in pairs, of COUNT channels from a strip that begins at the first of them. A row without a partner is given twice.
 *
 * stream, five words a channel: for each kernel row the bytes w0, s or n or 0, w1, w2; the bias times 2^s; the multiplier. Weights are scaled by 2^s,
 * 1 <= s, on their way to pairs of int16; what remains to shift right is n = s - shift - 1. The output is limited to int8 and nothing narrower. */
typedef void midge_depthwise_taps(const int32_t *strip, const int32_t *stream, int8_t *const *out_rows, const int32_t *shape);

void midge_depthwise_taps_s8(const int32_t *strip, const int32_t *stream, int8_t *const *out_rows, const int32_t *shape);
void midge_depthwise_taps_s8_tflite(const int32_t *strip, const int32_t *stream, int8_t *const *out_rows, const int32_t *shape);

typedef struct {
  const int32_t *stream; /* { depth }, then five words a channel */
  midge_depthwise_fill *spread;
  midge_depthwise_taps *taps;
  const int8_t *pad_row; /* in_channels times the input's zero point */
} midge_depthwise_dsp_constants;

/* Kernel 3x3, dilation 1, stride 1 or 2, one output channel for each of 4 or more input channels, out_width 2 or more; at most 16 rows, 18 rows of input.
 * scratch: 4-byte aligned, 16 * depth bytes for each column pair. */
void midge_depthwise_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_dsp_constants *constants,
                            int8_t *const *out_rows, unsigned rows, void *scratch);

/* Windows 3x3 of planar rows, which hold channel by channel the pixels of each in fours in the order 0, 2, 1, 3, the last one to three as they are: one output
 * row, HWC, from three input rows. The output is limited to int8 and nothing narrower.
 *
 * stream: { bytes after the header, total, zero_point of the input << 16 }, then for each channel the biases of the first, of any, of the last output, the
 * weights, the multiplier, C, and n if total is 0. All channels are shifted by total or, if total is 0, by n = -shift >= 1.
 *
 * row, 16-bit weights: for each kernel row w1, w0 and w1, w2. Biases and weights are scaled by 2^s: s = total + 1 - n, C = (zero_point << total) + 2^(total -
 * 1), both roundings in one with 2^(s - 2) more; if total is 0 s = 1 and C = (zero_point << n) + 2^(n - 1).
 *
 * bytes, 8-bit weights: for each kernel row the bytes w2, w1, 0, w0. Biases are scaled by 256, weights on their way; the multiplier has lost 7 + n - total
 * bits, which the compiler has proven to make no difference. C as above, total is not 0. */
typedef void midge_depthwise_planar_row(const int8_t *const *in_rows, const int32_t *stream, int8_t *out, const midge_conv2d_params *params);

void midge_depthwise_planar_row_s8(const int8_t *const *in_rows, const int32_t *stream, int8_t *out, const midge_conv2d_params *params);
void midge_depthwise_planar_row_s8_tflite(const int8_t *const *in_rows, const int32_t *stream, int8_t *out, const midge_conv2d_params *params);
void midge_depthwise_planar_bytes_s8(const int8_t *const *in_rows, const int32_t *stream, int8_t *out, const midge_conv2d_params *params);

typedef struct {
  const int32_t *stream;
  midge_depthwise_planar_row *row;
} midge_depthwise_planar_constants;

/* Kernel 3x3, dilation 1, stride 1 or 2, at most one pixel of padding on each side, one output channel for each input channel; two columns or more. */
void midge_depthwise_planar_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_planar_constants *constants,
                               int8_t *const *out_rows, unsigned rows, void *scratch);

/* Any other window: one pixel, four channels at a time, from rows as they are. taps: where the pixel of each tap begins.
 *
 * stream: { taps, channels, 2 * zero_point + 1 of the output }, then for each four channels four biases, a word of four weights for each tap, and four times
 * multiplier, n - 1 with n = -shift >= 1. The last four begin at channels - 4. The output is limited to int8 and nothing narrower. */
typedef void midge_depthwise_pixel(const int8_t *const *taps, const int32_t *stream, int8_t *out);

void midge_depthwise_pixel_s8(const int8_t *const *taps, const int32_t *stream, int8_t *out);
void midge_depthwise_pixel_s8_tflite(const int8_t *const *taps, const int32_t *stream, int8_t *out);

typedef struct {
  const int32_t *stream;
  midge_depthwise_pixel *pixel;
  const int8_t *pad_row; /* in_channels times the input's zero point */
} midge_depthwise_direct_constants;

/* One output channel for each of 4 or more input channels; at most 49 taps, or any number of rows of one pixel without padding on the left. */
void midge_depthwise_direct_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_direct_constants *constants,
                               int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
