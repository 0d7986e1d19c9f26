/* SPDX-License-Identifier: Apache-2.0 */
/* Depthwise convolution on cores without the DSP extension: a few adjacent output pixels of one channel at a time, each tap loaded once for all of them. */
#ifndef MIDGE_DEPTHWISE_THUMB_H
#define MIDGE_DEPTHWISE_THUMB_H

#include <stdint.h>

#include "conv2d.h"

enum { MIDGE_STRIP_PIXELS = 6, MIDGE_STRIP_TAPS = 22, MIDGE_STRIP_WIDE_TAPS = 64, MIDGE_STRIP_RUN = 3 };

/* out[i][c] of the pixels i of a strip for all channels c.
 *
 * taps: pointers to channel 0. A row of a window is cut into runs of MIDGE_STRIP_RUN taps, the last one shorter: for each run, the
 * (pixels - 1) * stride + taps columns that the pixels have in it.
 * stream: { channels, pixels, stride, kernel_height, kernel_width, pieces of multipliers }, then for each channel
 *   t2: bias; weights, padded to 4 bytes; multiplier, C, n
 *   t1: bias; C, pieces, final shift; weights, padded
 * as in thumb_requantize.h. */
typedef void midge_strip(const int8_t *const *taps, const int32_t *stream, int8_t *const *out);

void midge_depthwise_t2_s8(const int8_t *const *taps, const int32_t *stream, int8_t *const *out);
void midge_depthwise_t2_s8_tflite(const int8_t *const *taps, const int32_t *stream, int8_t *const *out);
void midge_depthwise_t1_s8(const int8_t *const *taps, const int32_t *stream, int8_t *const *out);
void midge_depthwise_t1_s8_tflite(const int8_t *const *taps, const int32_t *stream, int8_t *const *out);

typedef struct {
  const int32_t *stream;
  midge_strip *strip;
  const int8_t *pad_row; /* in_channels times the input's zero point */
} midge_depthwise_thumb_constants;

/* out_channels is in_channels, dilation is 1. The stream's pixels lie beside each other in a row, which has no fewer; or, where rows are one pixel wide, they
 * are the rows of a call, which may have fewer, and kernel_height and kernel_width of the stream have changed places. */
void midge_depthwise_thumb_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_thumb_constants *constants,
                              int8_t *const *out_rows, unsigned rows, void *scratch);

/* The same for strips of more than MIDGE_STRIP_TAPS taps, whose pointers take more of the stack. */
void midge_depthwise_thumb_wide_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_thumb_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
