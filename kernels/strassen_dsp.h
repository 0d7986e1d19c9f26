/* SPDX-License-Identifier: Apache-2.0 */
/* Pointwise convolution by one level of Strassen's multiplication in Winograd's form, in integers and exact, on cores with the DSP extension: 7 products of
 * blocks for 8.
 *
 * Of four pixels, the first two are block row 1 of a, the others row 2; in_channels [0, half) are column 1, [in_channels - half, in_channels) column 2, with
 * half = (in_channels + 7) / 8 * 4. Likewise output channels, whose halves are (out_channels + 3) / 4 * 2. Where halves overlap, weights of the second one
 * are 0, and outputs are written twice.
 *
 *   s1 = a21 + a22   s2 = s1 - a11   s3 = a11 - a21   s4 = a12 - s2
 *   t1 = b12 - b11   t2 = b22 - t1   t3 = b22 - b12   t4 = t2 - b21
 *   c11 = a11 b11 + a12 b21                  c12 = a11 b11 + s2 t2 + s1 t1 + s4 b22
 *   c21 = a11 b11 + s2 t2 + s3 t3 - a22 t4   c22 = a11 b11 + s2 t2 + s3 t3 + s1 t1
 *
 * Source: Strassen, Gaussian Elimination is not Optimal; Higham, Accuracy and Stability of Numerical Algorithms, section 23.1. */
#ifndef MIDGE_STRASSEN_DSP_H
#define MIDGE_STRASSEN_DSP_H

#include <stdint.h>

#include "conv2d.h"

/* s1, a11, a12, s2, s3, a22, s4 of four neighbouring pixels of `channels` bytes; each has `half` words: for each 4 channels, in pairs of int16, channels
 * 0, 2 of the first pixel, of the second, channels 1, 3 of the first, of the second. */
typedef void midge_strassen_combiner(const int8_t *pixels, int32_t *factors, int32_t channels);

void midge_strassen_combine(const int8_t *pixels, int32_t *factors, int32_t channels);

/* All output channels of four pixels: channel c of pixel i at outs[i] + c * pitch.
 *
 * stream: { bytes after the header, half of in_channels, pitch * (out_channels less their half), pitch }, then for each channel pair of a half, 0 and 1, and
 * its counterparts 2 and 3 in the other: 2 * (bias2 - bias0) twice, 2 * (bias3 - bias1) twice; t1; 2 * bias0 twice, 2 * bias1 twice; b11; b21; multiplier0,
 * C0, n0, multiplier1, C1, n1; t2; t3; -t4; the same six again; those of channels 2 and 3; b22; these again.
 * A matrix is, for each 4 channels of the half, 2 * w0, 2 * w1 of channels 0, 2 and of channels 1, 3, in pairs of int16.
 * C = (zero_point << n) + 2^(n - 1) and n = -shift >= 1. The output is limited to int8. */
typedef void midge_strassen_gemm(const int32_t *factors, const int32_t *stream, int8_t *const *outs);

void midge_strassen_gemm_s8(const int32_t *factors, const int32_t *stream, int8_t *const *outs);
void midge_strassen_gemm_s8_tflite(const int32_t *factors, const int32_t *stream, int8_t *const *outs);

typedef struct {
  const int32_t *stream;
  midge_strassen_combiner *combine;
  midge_strassen_gemm *gemm;
} midge_strassen_constants;

/* Pointwise, of stride 1 without padding; rows of four pixels or more, in_channels at least 4, out_channels at least 2. The last four pixels of a row are
 * computed together, some of them again. Where the pitch is more than 1, it is the width of the image, all of which is one row here, and its rows are written
 * planar: see conv2d_dsp.h. scratch: 4-byte aligned, 28 bytes for each input channel of a half. */
void midge_strassen_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_strassen_constants *constants, int8_t *const *out_rows,
                           unsigned rows, void *scratch);

#endif
