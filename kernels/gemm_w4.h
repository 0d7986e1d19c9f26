/* SPDX-License-Identifier: Apache-2.0 */
/* Inner loops on cores with the DSP extension for weights of four bits, eight a word. The drivers are those of conv2d_dsp.h and dense_dsp.h.
 *
 * A field of four bits that is not the uppermost of its lane holds w + 8, so that a mask takes it out; the sum of products is 8 * sum(x) too large for
 * that, and the sum of a pixel's taps is made once for all channels. The uppermost field holds w itself and gives the lane its sign. */
#ifndef MIDGE_GEMM_W4_H
#define MIDGE_GEMM_W4_H

#include <stdint.h>

/* As midge_gemm of conv2d_dsp.h, with the same acts and the same header of the stream and a word `up` more, then for each channel pair
 *   bias0, 16 * bias1 + bias0; for each 4 taps a word, of which byte k is tap k: 16 * w1 + w0 + 8; multiplier0, C0, n0, multiplier1, C1, n1.
 * Sums are taken times 2^up, which is 1 or, so that no n = up - 1 - shift is below 1, more. If total is not 0, the scales s0 and s1 stand for n0 and n1. */
void midge_gemm_w4_s8(const int32_t *acts, const int32_t *stream, int8_t *first, int8_t *second);
void midge_gemm_w4_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *first, int8_t *second);

/* As midge_dense and midge_dense_bytes of dense_dsp.h, with the same header and a word `up` more, then for each four channels
 *   B0 = bias0, B1 = 16 * bias1 + B0, B2 = 256 * bias2 + B1, B3 = 4096 * bias3 + B2; for each 4 taps the pair of taps 0, 2 and that of taps 1, 3, each tap
 *   4096 * w3 + 256 * (w2 + 8) + 16 * (w1 + 8) + w0 + 8; multiplier, C, n of each. */
void midge_dense_w4_s8(const int32_t *acts, const int32_t *stream, int8_t *out);
void midge_dense_w4_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *out);
void midge_dense_w4_bytes_s8(const int8_t *in, const int32_t *stream, int8_t *out);
void midge_dense_w4_bytes_s8_tflite(const int8_t *in, const int32_t *stream, int8_t *out);

#endif
