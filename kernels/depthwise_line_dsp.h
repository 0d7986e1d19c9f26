/* SPDX-License-Identifier: Apache-2.0 */
/* Depthwise convolution along a line of pixels on cores with the DSP extension: windows 1xk, and columns kx1 of a tensor one pixel wide, whose rows may lie
 * anywhere or, if the window is dilated, one behind the other as a line.
 *
 * Four channels of the line become a strip of int16 pairs of adjacent pixels, so that SMLAD does two taps of a channel; an output that begins within a pair
 * uses weights paired one tap later. The word of channel c for pair j of a line is at c * depth + j, of a column at j / 2 * 8 + c * 2 + j % 2. */
#ifndef MIDGE_DEPTHWISE_LINE_DSP_H
#define MIDGE_DEPTHWISE_LINE_DSP_H

#include <stdint.h>

#include "conv2d.h"

/* Words at the head of a stream. */
enum {
  MIDGE_LINE_TAPS,
  MIDGE_LINE_DEPTH, /* words of the strip for a channel */
  MIDGE_LINE_MOST,  /* outputs of one walk over the channels */
  MIDGE_LINE_HEAD
};

/* Words of `shape`: what the routine is told of a walk. Assembly reads them by number. */
enum {
  MIDGE_LINE_FIRST,    /* bytes of the strip before the pair with the first pixel */
  MIDGE_LINE_LEFT,     /* 1 if that pixel is on the right of its pair */
  MIDGE_LINE_PIXELS,   /* 1 or more */
  MIDGE_LINE_ZERO,     /* the input's zero point in all four bytes */
  MIDGE_LINE_OUTPUTS,  /* at most MIDGE_LINE_MOST */
  MIDGE_LINE_PITCH,    /* bytes from a pixel to the next, and from an output to the next */
  MIDGE_LINE_CHANNELS, /* 4 or more */
  MIDGE_LINE_STRIDE,   /* pixels, 1 or 2 */
  MIDGE_LINE_SIZES
};

/* Outputs of all channels. in and out: channel 0 of the first pixel and output. strip: depth words for each of four channels, pairs without a pixel
 * filled by the caller, then 3 words and one for each weight.
 *
 * stream: after its head, for each channel, the last four of which begin at channels - 4: multiplier, C = (zero_point << n) + 2^(n-1) with n = -shift >= 1,
 * the bias times 2, weights w0, w2, w1, w3, w4, w6, w5, w7... in bytes to a whole word of which the last byte is n.
 * The output is limited to int8 and nothing narrower. */
typedef void midge_depthwise_line(const int8_t *in, const int32_t *stream, int8_t *out, const int32_t *shape, int32_t *strip);

void midge_depthwise_line_s8(const int8_t *in, const int32_t *stream, int8_t *out, const int32_t *shape, int32_t *strip);
void midge_depthwise_line_s8_tflite(const int8_t *in, const int32_t *stream, int8_t *out, const int32_t *shape, int32_t *strip);

typedef struct {
  const int32_t *stream;
  midge_depthwise_line *line;
  const int8_t *pad_row; /* in_channels times the input's zero point */
} midge_depthwise_line_constants;

/* kernel_height 1, kernel_width 2 or more; stride 1 or 2, dilated at stride 1 only; one output channel for each of 4 or more input channels.
 * scratch: 4-byte aligned, the strip. */
void midge_depthwise_line_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_line_constants *constants,
                                 int8_t *const *out_rows, unsigned rows, void *scratch);

/* Words of `shape` for a column. Assembly reads them by number. */
enum {
  MIDGE_COLUMN_ROWS,     /* of input */
  MIDGE_COLUMN_OUTPUTS,  /* at most MIDGE_COLUMN_MOST */
  MIDGE_COLUMN_CHANNELS, /* 4 or more */
  MIDGE_COLUMN_STRIDE,   /* rows, 1 or 2 */
  MIDGE_COLUMN_SIZES
};

#define MIDGE_COLUMN_MOST 16 /* output rows of a call */

/* Outputs of all channels of rows of one pixel. stream: as for a line, but multiplier and C follow a channel's weights, and the upper bits of the byte with n
 * are the routine's. strip: its words for whole fours of rows, all filled by the routine. Outputs are computed four at a time: beyond OUTPUTS there are
 * pointers to the first row of the four, which is written after the others. */
typedef void midge_depthwise_column(const int8_t *const *in_rows, const int32_t *stream, int8_t *const *out_rows, const int32_t *shape, int32_t *strip);

void midge_depthwise_column_s8(const int8_t *const *in_rows, const int32_t *stream, int8_t *const *out_rows, const int32_t *shape, int32_t *strip);
void midge_depthwise_column_s8_tflite(const int8_t *const *in_rows, const int32_t *stream, int8_t *const *out_rows, const int32_t *shape, int32_t *strip);

typedef struct {
  const int32_t *stream;
  midge_depthwise_column *column;
} midge_depthwise_column_constants;

/* kernel_width 1, rows of one pixel, kernel_height 2 or more, undilated, stride 1 or 2; one output channel for each of 4 or more input channels.
 * in_rows: each input row once, from the first tap of the first output row to the last tap of the last. stride: of rows. rows: at most MIDGE_COLUMN_MOST.
 * scratch: 4-byte aligned, the strip: 32 bytes for every four input rows of as many whole fours of output rows, 28 for one or two. */
void midge_depthwise_column_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_column_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
