/* SPDX-License-Identifier: Apache-2.0 */
/* Dense layers, and convolutions of one output pixel, on cores with the DSP extension: four output channels at a time, fed from one packed stream.
 * The taps are unpacked once into pairs of int16 ("acts") and used by all channels; a routine walks the stream. */
#ifndef MIDGE_DENSE_DSP_H
#define MIDGE_DENSE_DSP_H

#include <stdint.h>

#include "conv2d.h"

/* out[c] for all channels c of the stream, a multiple of four.
 *
 * acts: for each 4 taps the pairs of taps 0, 2 and of taps 1, 3.
 * stream: { bytes after the header, depth }, then for each four channels
 *   p8:  bias0, 256 * bias1 + bias0, bias2, 256 * bias3 + bias2; for each 2 taps pairs of 256 * w1 + w0 and of 256 * w3 + w2
 *   i16: 2 * bias of each; for each 2 taps pairs of 2 * w of each
 *   and multiplier, C, n of each, with C = (zero_point << n) + 2^(n - 1) and n = -shift >= 1. The output is limited to int8 and nothing narrower. */
typedef void midge_dense(const int32_t *acts, const int32_t *stream, int8_t *out);

void midge_dense_p8_s8(const int32_t *acts, const int32_t *stream, int8_t *out);
void midge_dense_p8_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *out);
void midge_dense_i16_s8(const int32_t *acts, const int32_t *stream, int8_t *out);
void midge_dense_i16_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *out);

typedef struct {
  const int32_t *stream;
  midge_dense *dense;
} midge_dense_dsp_constants;

/* The same of p8 streams and taps as they come, which need no room beside the tensors; depth is a multiple of four. */
typedef void midge_dense_bytes(const int8_t *in, const int32_t *stream, int8_t *out);

void midge_dense_bytes_s8(const int8_t *in, const int32_t *stream, int8_t *out);
void midge_dense_bytes_s8_tflite(const int8_t *in, const int32_t *stream, int8_t *out);

typedef struct {
  const int32_t *stream;
  midge_dense_bytes *dense;
} midge_dense_bytes_constants;

/* Of each row of input the first kernel_width * in_channels bytes, kernel_height rows, give the first pixel of the row of output; groups is 1.
 * scratch: 4-byte aligned, 2 * depth bytes, where depth is kernel_height * kernel_width * in_channels rounded up to 4; depth more if
 * kernel_width * in_channels is no multiple of 4; out_channels rounded up to 4 more if it is none. */
void midge_dense_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_dense_dsp_constants *constants, int8_t *const *out_rows,
                        unsigned rows, void *scratch);

/* As midge_dense_dsp_s8, for a kernel_height of 1 and kernel_width * in_channels a multiple of four.
 * scratch: out_channels rounded up to 4 if it is no multiple of four, else none. */
void midge_dense_bytes_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_dense_bytes_constants *constants,
                              int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
