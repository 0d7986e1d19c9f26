/* SPDX-License-Identifier: Apache-2.0 */
/* 3x3 convolution by Winograd's minimal filtering, in integers and exact, on cores with the DSP extension.
 *
 *   y = A^T ((G w G^T) . (B^T (x + 128) B)) A / scale
 *
 *   form             output tile  input tile  multiplications  scale
 *   winograd4        4x4          6x6         36 for 144       9 * 2^p, 2 <= p <= 6
 *   winograd2        2x2          4x4         16 for 36        4
 *   winograd2_half   2x2          5x5         25 for 36        1 (2 with doubled weights); stride 2: even and odd inputs are filters of two and one tap
 *
 * The rows of G are scaled to integers, so the sum over channels is a multiple of the accumulator. All sums are modulo 2^32; the division by 9 is a
 * multiplication by its inverse. Two tiles side by side are computed at a time.
 *
 * Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, section 4. */
#ifndef MIDGE_WINOGRAD_DSP_H
#define MIDGE_WINOGRAD_DSP_H

#include <stdint.h>

#include "conv2d.h"

/* The transformed input of two tiles. channels is a multiple of 4.
 *
 * work: for each of the 10 (6, 9) input columns, where its pixels are: rows[first + i] + offset of row i, as two words { first, offset }; then room for the
 * columns, 12 (8, 10) words each; then v. Rows are in the order 1, 2... size - 2, 0, size - 1 (winograd2_half: 2, 0, 1, 4, 3).
 * v: for each column j of the transformed tile, each row in the order above and each 4 channels, in pairs of int16: channels 0, 2 of tile 0, of tile 1,
 * channels 1, 3 of tile 0, of tile 1. */
typedef void midge_winograd_transform(const int8_t *const *rows, int32_t channels, int32_t *work);

void midge_winograd4_transform(const int8_t *const *rows, int32_t channels, int32_t *work);
void midge_winograd2_transform(const int8_t *const *rows, int32_t channels, int32_t *work);
void midge_winograd2_half_transform(const int8_t *const *rows, int32_t channels, int32_t *work);

/* out_rows[y][x * out_step + c] for the tile * 2 tile pixels of two tiles and all channels c of the stream, the last row first. work: as above, what is before
 * v is overwritten.
 *
 * stream: { bytes after the header, channels of v }, then for each channel pair the transformed weights in the order of v (pairs of channel 0, of channel
 * 1) and for both channels 2 * bias, multiplier, C, n
 *   with C = (zero_point << n) + 2^(n - 1) and n = -shift >= 1; the bias belongs to inputs raised by 128. The output is limited to int8. */
typedef void midge_winograd_gemm(int32_t *work, const int32_t *stream, int8_t *const *out_rows, int32_t out_step);

void midge_winograd4_gemm_s8(int32_t *work, const int32_t *stream, int8_t *const *out_rows, int32_t out_step);
void midge_winograd4_gemm_s8_tflite(int32_t *work, const int32_t *stream, int8_t *const *out_rows, int32_t out_step);
void midge_winograd2_gemm_s8(int32_t *work, const int32_t *stream, int8_t *const *out_rows, int32_t out_step);
void midge_winograd2_gemm_s8_tflite(int32_t *work, const int32_t *stream, int8_t *const *out_rows, int32_t out_step);
void midge_winograd2_half_gemm_s8(int32_t *work, const int32_t *stream, int8_t *const *out_rows, int32_t out_step);
void midge_winograd2_half_gemm_s8_tflite(int32_t *work, const int32_t *stream, int8_t *const *out_rows, int32_t out_step);

typedef struct {
  const int32_t *stream;
  midge_winograd_transform *transform;
  midge_winograd_gemm *gemm;
  const int8_t *pad_row; /* the input's zero point, in_channels rounded up to 4 times */
} midge_winograd_constants;

/* kernel 3x3, stride 1 (winograd2_half: 2), dilation and groups 1. rows is at most 4 (2, 2).
 *
 * scratch, 4-byte aligned: 560 (240, 432) bytes; v, 4 bytes for each place of the transformed tile and channel of v; if out_width < 2 * tile or out_channels is
 * odd, an output of 2 * tile * tile * (out_channels rounded up to 2) bytes; if in_channels is no multiple of 4, a column of input in channels of v. */
void midge_winograd4_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_winograd_constants *constants, int8_t *const *out_rows,
                        unsigned rows, void *scratch);
void midge_winograd2_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_winograd_constants *constants, int8_t *const *out_rows,
                        unsigned rows, void *scratch);
void midge_winograd2_half_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_winograd_constants *constants,
                             int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
