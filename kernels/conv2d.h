/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution and dense layers, int8.
 *
 *   out[x, o] = clamp(requantize(bias[o] + sum over ky, kx, i of in[ky][x * stride + kx * dilation - pad, i] * weights[o, ky, kx, i]) + zero_point)
 *
 * bias holds the model's bias minus zero_point_in * sum(weights[o]); padding reads the input's zero point, so both cancel.
 * Rows are NHWC without the N and H. in_rows: kernel_height rows for each output row. A dense layer is a 1x1 convolution on one pixel. */
#ifndef MIDGE_CONV2D_H
#define MIDGE_CONV2D_H

#include <stdint.h>

typedef struct {
  int32_t in_width;        /* pixels of an input row */
  int32_t in_channels;     /* of all groups */
  int32_t out_width;       /* pixels of an output row */
  int32_t out_channels;    /* of all groups */
  int32_t groups;          /* divides both channel counts */
  int32_t kernel_height;   /* taps, = rows of input for a row of output */
  int32_t kernel_width;    /* taps */
  int32_t stride;          /* pixels, horizontal */
  int32_t dilation;        /* pixels, horizontal */
  int32_t pad;             /* pixels left of the row */
  int32_t zero_point;      /* of the output */
  int32_t act_min;         /* fused clamp, in output integers */
  int32_t act_max;
} midge_conv2d_params;

typedef struct {
  const int8_t *weights;     /* conv2d: [group][block of 4 channels][ky][kx][i][4]; planar: [block of 4][i][ky][kx][4]; depthwise: [block of 4][ky][kx][4] */
  const int32_t *bias;       /* one per channel, blocks of 4 padded with 0 */
  const int32_t *multiplier; /* likewise */
  const int8_t *shift;       /* likewise; positive to the left */
  const int8_t *pad_row;     /* in_channels times the input's zero point */
} midge_conv2d_constants;

void midge_conv2d_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_constants *constants, int8_t *const *out_rows,
                     unsigned rows, void *scratch);
void midge_conv2d_s8_tflite(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_constants *constants, int8_t *const *out_rows,
                            unsigned rows, void *scratch);

/* The same on planes, as cameras and PyTorch deliver them: in_rows holds, for each output row, kernel_height rows of plane 0, then those of plane 1...
 * groups is 1. */
void midge_conv2d_planar_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_constants *constants, int8_t *const *out_rows,
                            unsigned rows, void *scratch);
void midge_conv2d_planar_s8_tflite(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch);

/* groups == in_channels; output channel o reads input channel o / (out_channels / in_channels). */
void midge_depthwise_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_constants *constants, int8_t *const *out_rows,
                        unsigned rows, void *scratch);
void midge_depthwise_s8_tflite(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_constants *constants,
                               int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
