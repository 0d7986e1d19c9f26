/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution on cores with the DSP extension: two output pixels by two output channels at a time, fed from one packed stream.
 *
 * The taps of two pixels are unpacked once into pairs of int16 ("acts") and used by all channels. A GEMM routine, generated for the depth,
 * walks the stream: for each pair of channels the biases, the weights in the order the loop reads them, and the constants of requantization. */
#ifndef MIDGE_CONV2D_DSP_H
#define MIDGE_CONV2D_DSP_H

#include <stdint.h>

#include "conv2d.h"

/* out[p * out_step + c] for pixels p = 0, 1 and all channels c of the stream.
 *
 * acts: for each 4 taps, in pairs of int16: taps 0, 2 of pixel 0, of pixel 1, taps 1, 3 of pixel 0, of pixel 1.
 * stream: { bytes after the header, depth }, then for each channel pair
 *   p8:  bias0 twice, 256 * bias1 + bias0 twice; for each 2 taps a pair of 256 * w1 + w0; multiplier0, C0, n0, multiplier1, C1, n1
 *   i16: 2 * bias0 twice, 2 * bias1 twice; for each 4 taps 2 * w0, 2 * w1 of taps 0, 2 and of taps 1, 3; likewise
 * with C = (zero_point << n) + 2^(n - 1) and n = -shift >= 1. The output is limited to int8 and nothing narrower. */
typedef void midge_gemm(const int32_t *acts, const int32_t *stream, int8_t *out, int32_t out_step);

void midge_gemm_p8_s8(const int32_t *acts, const int32_t *stream, int8_t *out, int32_t out_step);
void midge_gemm_p8_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *out, int32_t out_step);
void midge_gemm_i16_s8(const int32_t *acts, const int32_t *stream, int8_t *out, int32_t out_step);
void midge_gemm_i16_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *out, int32_t out_step);

typedef struct {
  const int32_t *stream;
  midge_gemm *gemm;
  const int8_t *pad_row; /* in_channels times the input's zero point */
} midge_conv2d_dsp_constants;

/* groups and dilation are 1, out_width is 2 or more. scratch: 4-byte aligned, 6 * depth + 8 + 2 * (out_channels + 1) bytes, where depth is
 * kernel_height * kernel_width * in_channels rounded up to 4. */
void midge_conv2d_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_dsp_constants *constants, int8_t *const *out_rows,
                         unsigned rows, void *scratch);

#endif
