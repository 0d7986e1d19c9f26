/* SPDX-License-Identifier: Apache-2.0 */
/* Dense layers, and convolutions of one window, on cores without the DSP extension: one pixel by several channels, so that a tap is loaded once for them. */
#ifndef MIDGE_DENSE_THUMB_H
#define MIDGE_DENSE_THUMB_H

#include <stdint.h>

#include "conv2d.h"

/* All channels of one pixel.
 *
 * stream: { channels, depth, channels of a block, bytes of all blocks (t2) or pieces of multipliers (t1) }, then for each block its first channel, so that
 * the last block may repeat channels of the one before it, and
 *   t2: biases; weights, all channels of a tap side by side, padded to 4 bytes; for each channel multiplier, C, n
 *   t1: for each channel bias, C, pieces, final shift; weights, all taps of a channel side by side, padded
 * as in thumb_requantize.h. */
typedef void midge_dense_block(const int8_t *in, const int32_t *stream, int8_t *out);

void midge_dense_t2_s8(const int8_t *in, const int32_t *stream, int8_t *out);
void midge_dense_t2_s8_tflite(const int8_t *in, const int32_t *stream, int8_t *out);
void midge_dense_t1_s8(const int8_t *in, const int32_t *stream, int8_t *out);
void midge_dense_t1_s8_tflite(const int8_t *in, const int32_t *stream, int8_t *out);

typedef struct {
  const int32_t *stream;
  midge_dense_block *dense;
  const int8_t *pad_row; /* not read */
} midge_dense_thumb_constants;

/* groups, kernel_height and dilation are 1, pad is 0. */
void midge_dense_thumb_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_dense_thumb_constants *constants,
                          int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
