/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution on cores with the DSP extension: two output pixels by two output channels at a time, fed from one packed stream.
 *
 * The taps of two pixels are unpacked once into pairs of int16 ("acts") and used by all channels. A GEMM routine, generated for the depth,
 * walks the stream: for each pair of channels the biases, the weights in the order the loop reads them, and the constants of requantization. */
#ifndef MIDGE_CONV2D_DSP_H
#define MIDGE_CONV2D_DSP_H

#include <stdint.h>

#include "conv2d.h"

/* first[c * step] and second[c * step], the output of pixels 0 and 1, for all channels c of the stream in turn; an even number of them.
 *
 * acts: for each 4 taps, in pairs of int16: taps 0, 2 of pixel 0, of pixel 1, taps 1, 3 of pixel 0, of pixel 1.
 * stream: { bytes after the header, depth, step, total, pitch }, then for each channel pair
 *   p8:  bias0 twice, 256 * bias1 + bias0 twice; for each 2 taps a pair of 256 * w1 + w0; multiplier0, C0, n0, multiplier1, C1, n1
 *   i16: 2 * bias0 twice, 2 * bias1 twice; for each 4 taps 2 * w0, 2 * w1 of taps 0, 2 and of taps 1, 3; likewise
 * with C = (zero_point << n) + 2^(n - 1) and n = -shift >= 1. If total is not 0, all channels are shifted by it after sums are scaled by 2^s,
 * s = total + 1 - n, instead of 2: p8 has s0 and 8 - s1 for n0 and n1, i16 has scaled weights, and C = (zero_point << total) + 2^(total - 1), both
 * roundings in one with 2^(s - 2) more. The output is limited to int8 and nothing narrower. */
typedef void midge_gemm(const int32_t *acts, const int32_t *stream, int8_t *first, int8_t *second);

void midge_gemm_p8_s8(const int32_t *acts, const int32_t *stream, int8_t *first, int8_t *second);
void midge_gemm_p8_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *first, int8_t *second);
void midge_gemm_i16_s8(const int32_t *acts, const int32_t *stream, int8_t *first, int8_t *second);
void midge_gemm_i16_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *first, int8_t *second);

/* Unpack two windows: kernel_height runs of kernel_width * in_channels bytes, at `offset` bytes in their rows. The order of taps: of each run the bytes
 * that come in fours; after those of all runs what is left of each. */
typedef void midge_unpack(const int8_t *const *first_rows, const int8_t *const *second_rows, int32_t *acts, int32_t first_offset, int32_t second_offset,
                          const midge_conv2d_params *params);

void midge_unpack_s8(const int8_t *const *first_rows, const int8_t *const *second_rows, int32_t *acts, int32_t first_offset, int32_t second_offset,
                     const midge_conv2d_params *params);

/* The pitch of the stream is the bytes from a channel to the next in a row. Outputs are HWC if it is 1. Rows are planar if it is more, out_width: channel by
 * channel, the pixels of each in fours in the order 0, 2, 1, 3, the last one to three as they are. The step is the pitch. */
typedef struct {
  const int32_t *stream;
  const int32_t *last; /* if out_channels is odd, the last one, which `stream` is without: step 0, the second of a pair whose first it overwrites */
  midge_gemm *gemm;
  midge_unpack *unpack;
  const int8_t *pad_row; /* in_channels times the input's zero point */
} midge_conv2d_dsp_constants;

/* groups and dilation are 1. Pixels are computed in twos, from the last one of an odd row on to the first of the next; one that is left at the end is
 * computed twice. Rows are 4-byte aligned if in_channels is a multiple of 4; padded ones of windows of four bytes or more have four bytes at least.
 * scratch: 4-byte aligned, 4 * depth bytes, where depth is kernel_height * kernel_width * in_channels rounded up to 4. */
void midge_conv2d_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_dsp_constants *constants, int8_t *const *out_rows,
                         unsigned rows, void *scratch);

/* Pairs of neighbouring pixels of a pointwise layer of four or eight input channels, 4-byte aligned: all output channels of each.
 *
 * stream: { bytes after the header, depth, out_channels, pitch, total }, then for each channel 2 * bias; for each 4 taps 2 * w of taps 0, 2 and of taps 1, 3;
 * multiplier, C, n as above, scaled otherwise and without n if total is not 0. A pitch above 1, a multiple of four, makes planar rows. */
typedef void midge_pointwise(const int8_t *in, const int32_t *stream, int8_t *out, int32_t pairs);

void midge_pointwise_s8(const int8_t *in, const int32_t *stream, int8_t *out, int32_t pairs);
void midge_pointwise_s8_tflite(const int8_t *in, const int32_t *stream, int8_t *out, int32_t pairs);

typedef struct {
  const int32_t *stream;
  midge_pointwise *pointwise;
} midge_pointwise_dsp_constants;

/* Pointwise, of stride 1 without padding; rows of two pixels or more. Rows that follow each other in memory are computed as one. The last pixel of an odd
 * row is computed together with the one before it. */
void midge_pointwise_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_pointwise_dsp_constants *constants,
                            int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
