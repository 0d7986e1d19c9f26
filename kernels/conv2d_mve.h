/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution on cores with the M-profile vector extension: two output pixels by four output channels at a time, or one pixel by eight.
 * Generated routines walk a packed stream: biases, weights in the order the loop reads them, and the
 * constants of requantization. The params are those of conv2d.h; what the routines need of them stands in the stream's header. */
#ifndef MIDGE_CONV2D_MVE_H
#define MIDGE_CONV2D_MVE_H

#include <stdint.h>

#include "conv2d.h"

/* The pairs of pixels a routine computes: bytes from a pair's first pixel to its second, and from a pair to the next; how many. */
typedef struct {
  int32_t between;
  int32_t step;
  int32_t out_between;
  int32_t out_step;
  int32_t count;
} midge_gemm_mve_params;

/* out[p * out_step + i * out_between + c] for pairs p = 0 .. count - 1, their pixels i = 0 and 1, and all channels c of the stream. The two may be one.
 *
 * x: the taps of a pixel, 16 a step: step 0 reads `first` bytes at x, step i > 0 reads 16 at x + first + 16 * (i - 1).
 * stream: { bytes after the header, steps, first, 16, zero_point, act_min, act_max, channels }, then for each four channels (eight in
 * `midge_dense`) 8 biases (those of four channels twice), for each step 16 int8 weights of each channel, multipliers, and shifts (-1 and less).
 * midge_gemm: two pixels at a time. midge_dense: one pixel, the run is not read. */
typedef void midge_gemm_mve(const int8_t *x, const int32_t *stream, int8_t *out, const midge_gemm_mve_params *run);

void midge_gemm_mve_s8(const int8_t *x, const int32_t *stream, int8_t *out, const midge_gemm_mve_params *run);
void midge_gemm_mve_s8_tflite(const int8_t *x, const int32_t *stream, int8_t *out, const midge_gemm_mve_params *run);
void midge_dense_mve_s8(const int8_t *x, const int32_t *stream, int8_t *out, const midge_gemm_mve_params *run);
void midge_dense_mve_s8_tflite(const int8_t *x, const int32_t *stream, int8_t *out, const midge_gemm_mve_params *run);

typedef struct {
  const int32_t *stream;
  midge_gemm_mve *gemm;
  const int8_t *pad_row; /* in_channels times the input's zero point */
} midge_conv2d_mve_constants;

/* One tap, no padding; stride may be more than 1. Called with two rows or one, any pixel of a row goes with that of the other. No scratch. */
void midge_pointwise_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_mve_constants *constants,
                            int8_t *const *out_rows, unsigned rows, void *scratch);

/* Any window, groups is 1. scratch: 4-byte aligned, 8 * depth + 16 bytes, 4 * depth + 16 if depth (taps * in_channels
 * rounded up to 16) is more than 128, 2 * depth + 16 if it is more than 256. */
void midge_conv2d_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_mve_constants *constants, int8_t *const *out_rows,
                         unsigned rows, void *scratch);

/* The pairs of pixels a routine computes: how many, bytes from one pixel to the next in the output, and from one pair's taps to the next one's. */
typedef struct {
  int32_t count;
  int32_t out_step;
  int32_t step;
} midge_window_mve_params;

/* Two pixels by four channels, for pair after pair, each column of taps read where it is.
 *
 * table: for each kernel row a pointer to every column of the first pair's two windows, then NULL; the routine may move the pointers.
 * stream: { bytes after the header, zero_point, act_min, act_max, channels, kernel rows, kernel columns, blocks of 16 input channels, blocks that are read at
 * once, dilation, stride, columns of a pair, five places of these in pixels }, then for each four channels the biases twice, weights by kernel row, blocks,
 * kernel column, block, channel, 16 int8 each, multipliers and shifts (-1 and less). */
typedef void midge_window_mve(const int8_t **table, const int32_t *stream, int8_t *out, const midge_window_mve_params *run);

void midge_window_mve_s8(const int8_t **table, const int32_t *stream, int8_t *out, const midge_window_mve_params *run);
void midge_window_mve_s8_tflite(const int8_t **table, const int32_t *stream, int8_t *out, const midge_window_mve_params *run);

typedef struct {
  const int32_t *stream;
  midge_window_mve *window;
  midge_window_mve *inner; /* for pairs without padding; may be the same */
  const int8_t *pad_row; /* in_channels times the input's zero point */
} midge_conv2d_window_mve_constants;

/* in_channels a multiple of 16, out_channels of 4, groups is 1, out_width 2 or more; two neighbouring windows have 5 columns or fewer, times kernel_height 20
 * or fewer. No scratch. */
void midge_conv2d_window_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_window_mve_constants *constants,
                                int8_t *const *out_rows, unsigned rows, void *scratch);

typedef struct {
  const int32_t *stream; /* taps in the order kx, ky, channel */
  midge_gemm_mve *gemm;
  const uint8_t *places; /* 16: byte i / in_channels * pitch + i % in_channels */
  const int8_t *pad_row; /* in_channels times the input's zero point */
} midge_conv2d_columns_mve_constants;

/* 16 channels or fewer, dilation and groups are 1, out_width 2 or more. Rows are rearranged so that a column of taps, pitch = kernel_height * in_channels
 * bytes, is one run, and so is a window. Called with two rows or one. scratch: 4-byte aligned, pitch * columns + 16 bytes: the columns under the pixels that
 * are computed at once, 2 or more, as many as 272 bytes hold, or those of two whole rows if these hold them and out_width is odd. */
void midge_conv2d_columns_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_columns_mve_constants *constants,
                                 int8_t *const *out_rows, unsigned rows, void *scratch);

/* out_width is 1, groups is 1. scratch: depth bytes, none if there is one tap. */
void midge_conv2d_pixel_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_mve_constants *constants,
                               int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
