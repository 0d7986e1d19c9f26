/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution and dense layers with weights of four bits, -8 to 7, two a byte.
 *
 *   out[x, o] = clamp(requantize(bias[o] + sum over ky, kx, i of in[ky][x * stride + kx * dilation - pad, i] * weights[o, ky, kx, i]) + zero_point)
 *
 * Everything but the weights is as in conv2d.h; groups is 1. */
#ifndef MIDGE_CONV2D_W4_H
#define MIDGE_CONV2D_W4_H

#include <stdint.h>

#include "conv2d.h"

typedef struct {
  const uint8_t *weights;    /* [block of 4 channels][ky][kx][i][2]: channels 0 and 1 of the block, then 2 and 3; of two the first in the lower half */
  const int32_t *bias;       /* one per channel, blocks of 4 padded with 0 */
  const int32_t *multiplier; /* likewise */
  const int8_t *shift;       /* likewise; positive to the left */
  const int8_t *pad_row;     /* in_channels times the input's zero point */
} midge_conv2d_w4_constants;

void midge_conv2d_w4_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_w4_constants *constants, int8_t *const *out_rows,
                        unsigned rows, void *scratch);
void midge_conv2d_w4_s8_tflite(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_w4_constants *constants,
                               int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
