/* SPDX-License-Identifier: Apache-2.0 */
#include "strassen_dsp.h"

#include "arch/dsp.h"
#include "fixedpoint.h"

/* The seven factors at one channel of each half, of one pixel of the first pair and one of the second. */
static inline void strassen_combine(const int8_t *upper, const int8_t *lower, int32_t second, int32_t found[7]) {
  int32_t a11 = upper[0], a12 = upper[second], a21 = lower[0], a22 = lower[second], s2 = a21 + a22 - a11;
  found[0] = a21 + a22;
  found[1] = a11;
  found[2] = a12;
  found[3] = s2;
  found[4] = a11 - a21;
  found[5] = a22;
  found[6] = a12 - s2;
}

void midge_strassen_combine(const int8_t *pixels, int32_t *factors, int32_t channels) {
  int32_t half = (channels + 7) / 8 * 4, second = channels - half, low[7], high[7];
  for (int32_t i = 0; i < half; ++i) {
    const int8_t *upper = pixels + i % 2 * channels + i / 4 * 4 + i % 4 / 2, *lower = upper + 2 * channels;
    strassen_combine(upper, lower, second, low);
    strassen_combine(upper + 2, lower + 2, second, high);
    for (int32_t factor = 0; factor < 7; ++factor) {
      factors[factor * half + i] = (int32_t)(((uint32_t)low[factor] & 0xffffu) | (uint32_t)high[factor] << 16);
    }
  }
}

/* One product of blocks added to the sums: of channel 0 for both pixels, then of channel 1. Returns the weights' end. */
static inline const int32_t *strassen_product(int32_t sums[4], const int32_t *factors, const int32_t *weights, int32_t half) {
  for (int32_t k = 0; k < half; k += 2, weights += 2) {
    sums[0] = midge_smlad(factors[k], weights[0], sums[0]);
    sums[1] = midge_smlad(factors[k + 1], weights[0], sums[1]);
    sums[2] = midge_smlad(factors[k], weights[1], sums[2]);
    sums[3] = midge_smlad(factors[k + 1], weights[1], sums[3]);
  }
  return weights;
}

/* sums = a + b modulo 2^32. */
static inline void strassen_add(int32_t sums[4], const int32_t a[4], const int32_t b[4]) {
  for (int32_t i = 0; i < 4; ++i) {
    sums[i] = (int32_t)((uint32_t)a[i] + (uint32_t)b[i]);
  }
}

/* Two channels of two pixels; returns the end of the constants. */
static inline const int32_t *strassen_finish(const int32_t sums[4], const int32_t *constants, int8_t *const *outs, int32_t offset, int32_t pitch,
                                             int rounding) {
  for (int32_t i = 0; i < 4; ++i) {
    const int32_t *own = constants + i / 2 * 3;
    outs[i % 2][offset + i / 2 * pitch] = midge_requantize_upper(sums[i], own, own[2], rounding);
  }
  return constants + 6;
}

static inline void strassen_gemm(const int32_t *factors, const int32_t *stream, int8_t *const *outs, int rounding) {
  const int32_t *end = stream + 4 + stream[0] / 4;
  int32_t half = stream[1], second = stream[2], pitch = stream[3], offset = 0;
  for (stream += 4; stream != end; offset += 2 * pitch) {
    int32_t s1t1[4] = {stream[0], stream[1], stream[2], stream[3]};
    stream = strassen_product(s1t1, factors, stream + 4, half);
    int32_t sums[4] = {stream[0], stream[1], stream[2], stream[3]}, c12[4], c22[4];
    stream = strassen_product(sums, factors + half, stream + 4, half);
    int32_t c11[4] = {sums[0], sums[1], sums[2], sums[3]};
    stream = strassen_product(c11, factors + 2 * half, stream, half);
    stream = strassen_finish(c11, stream, outs, offset, pitch, rounding);
    stream = strassen_product(sums, factors + 3 * half, stream, half);
    strassen_add(c12, sums, s1t1);
    stream = strassen_product(sums, factors + 4 * half, stream, half);
    strassen_add(c22, sums, s1t1);
    stream = strassen_product(sums, factors + 5 * half, stream, half);
    stream = strassen_finish(sums, stream, outs + 2, offset, pitch, rounding);
    stream = strassen_finish(c22, stream, outs + 2, offset + second, pitch, rounding);
    stream = strassen_product(c12, factors + 6 * half, stream, half);
    stream = strassen_finish(c12, stream, outs, offset + second, pitch, rounding);
  }
}

void midge_strassen_gemm_s8(const int32_t *factors, const int32_t *stream, int8_t *const *outs) { strassen_gemm(factors, stream, outs, MIDGE_ROUND_ONCE); }

void midge_strassen_gemm_s8_tflite(const int32_t *factors, const int32_t *stream, int8_t *const *outs) {
  strassen_gemm(factors, stream, outs, MIDGE_ROUND_TWICE);
}

/* Where channel 0 of four pixels goes, `pixel` and those after it. */
static inline void strassen_outs(int8_t *out, int32_t pixel, int32_t channels, int32_t pitch, int8_t *outs[4]) {
  if (pitch == 1) {
    for (int32_t i = 0; i < 4; ++i) {
      outs[i] = out + (pixel + i) * channels;
    }
    return;
  }
  int32_t y = pixel / pitch, x = pixel - y * pitch, fours = pitch & ~3;
  out += y * pitch * channels;
  for (int32_t i = 0; i < 4; ++i) {
    outs[i] = out + (x < fours ? (x & ~3) | (x & 1) << 1 | (x >> 1 & 1) : x);
    if (++x == pitch) {
      x = 0;
      out += pitch * channels;
    }
  }
}

void midge_strassen_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_strassen_constants *constants, int8_t *const *out_rows,
                           unsigned rows, void *scratch) {
  int32_t last = params->out_width - 4;
  int8_t *outs[4];
  for (; rows > 0; --rows, ++in_rows, ++out_rows) {
    for (int32_t next = 0; next < params->out_width; next += 4) {
      int32_t x = next < last ? next : last;
      strassen_outs(*out_rows, x, params->out_channels, constants->stream[3], outs);
      constants->combine(*in_rows + x * params->in_channels, scratch, params->in_channels);
      constants->gemm(scratch, constants->stream, outs);
    }
  }
}
