/* SPDX-License-Identifier: Apache-2.0 */
/* Depthwise convolution on cores with the M-profile vector extension: 3x3 in blocks of two rows by two columns, or 16 channels of a pixel, each tap through a
 * pointer of its own.
 * The params are those of conv2d.h; what the generated routines need of them stands in the header of their stream. */
#ifndef MIDGE_DEPTHWISE_MVE_H
#define MIDGE_DEPTHWISE_MVE_H

#include <stdint.h>

#include "conv2d.h"

/* The pixels a routine computes: bytes from the pointers to the taps of the first, and how many. */
typedef struct {
  int32_t offset;
  int32_t count;
} midge_taps_mve_params;

/* out[p * channels + c] for pixels p = 0 .. count - 1, where tap k of pixel p is taps[k] + offset + p * (channels + skip).
 *
 * stream: { channels, skip, taps, taps before the bias, zero_point, act_min, act_max, 0 }, then for each block of 16 channels the weights of those
 * taps, 16 int8 each, 16 biases, the other taps' weights, and four times 4 multipliers and 4 shifts. Biases, multipliers and shifts are
 * those of channels 0, 4, 8, 12, then 2, 6, 10, 14, then 1, 5, 9, 13, then 3, 7, 11, 15: bytes widened twice. The last block ends with the last
 * channel, so that it overlaps the one before it if channels are no multiple of 16; fewer than 16 are filled up with zeros. */
typedef void midge_taps_mve(const int8_t *const *taps, const int32_t *stream, int8_t *out, const midge_taps_mve_params *run);

void midge_taps_mve_s8(const int8_t *const *taps, const int32_t *stream, int8_t *out, const midge_taps_mve_params *run);
void midge_taps_mve_s8_tflite(const int8_t *const *taps, const int32_t *stream, int8_t *out, const midge_taps_mve_params *run);

typedef struct {
  const int32_t *stream;
  midge_taps_mve *taps;
  const int8_t *pad_row; /* in_channels times the input's zero point */
} midge_depthwise_mve_constants;

/* One output channel for each input channel, 9 taps or fewer. No scratch. */
void midge_depthwise_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_mve_constants *constants,
                            int8_t *const *out_rows, unsigned rows, void *scratch);

/* The same for 25 taps or fewer, on more stack. */
void midge_depthwise_wide_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_mve_constants *constants,
                                 int8_t *const *out_rows, unsigned rows, void *scratch);

/* The same for 49 taps or fewer, on 100 bytes more. */
void midge_depthwise_widest_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_mve_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch);

/* The same for windows one column wide, without padding at their sides: the rows are the taps, 49 or fewer. */
void midge_depthwise_column_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_mve_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch);

/* Two rows of up to 6 output columns of a 3x3 window. */
typedef struct {
  int32_t between; /* bytes of input from the first to the last four columns that are not padding */
  int32_t out_row; /* bytes from the first to the second row; 0 if there is none */
  int32_t columns; /* of output */
} midge_strip_mve_params;

/* All channels of such rows.
 *
 * table: four rows of input, at the first column that is not padding; where in the strip this column and three more go; where the last four columns go; the
 * strip, [8 columns][4 channels][4 rows], whose columns of padding are filled in. The routine writes the others and moves the rows on.
 * stream: { channels, zero_point, act_min, act_max, the input's zero_point }, then for each channel weights by column, (kx, ky) = (0, 0), (0, 1), (0, 2), 0,
 * (1, 0)... as int8, bias, multiplier and shift. Channels come in blocks of 4, the last one ends with the last channel. A routine is made for a number of
 * columns. */
typedef void midge_strip_mve(const int8_t **table, const int32_t *stream, int8_t *out, const midge_strip_mve_params *run);

void midge_strip_mve_s8(const int8_t **table, const int32_t *stream, int8_t *out, const midge_strip_mve_params *run);
void midge_strip_mve_s8_tflite(const int8_t **table, const int32_t *stream, int8_t *out, const midge_strip_mve_params *run);

typedef struct {
  const int32_t *stream;
  midge_strip_mve *strip;
  const int8_t *pad_row; /* in_channels times the input's zero point */
} midge_depthwise_strip_mve_constants;

/* 3x3, stride 1, one output channel for each of 4 or more input channels, 4 columns or more, one column of padding at most on either side. Called with two
 * rows or one. scratch: the strip, 4-byte aligned, 16 * (min(out_width, 6) + 2) bytes. */
void midge_depthwise_strip_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_strip_mve_constants *constants,
                                  int8_t *const *out_rows, unsigned rows, void *scratch);

/* As midge_depthwise_mve_s8 for fewer than 16 channels that divide 16, 25 taps or fewer, stride 1: the stream holds 16 / in_channels pixels. scratch:
 * kernel_height rows of in_channels * max(out_width + reach, 16 / in_channels + reach) bytes, reach = (kernel_width - 1) * dilation. */
void midge_depthwise_narrow_mve_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_mve_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
