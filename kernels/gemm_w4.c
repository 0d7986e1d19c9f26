/* SPDX-License-Identifier: Apache-2.0 */
#include "gemm_w4.h"

#include <string.h>

#include "arch/dsp.h"
#include "fixedpoint.h"

/* The field of each lane that is its lowest. */
#define GEMM_W4_LOW 0x000f000fu

/* Requantize the accumulator times 2^up, or times 2^s if a total shift is given. */
static inline int8_t gemm_w4_requantize(int32_t acc, const int32_t *constants, int32_t total, int rounding) {
  return total != 0 ? midge_requantize_upper(acc, constants, total, MIDGE_ROUND_ONCE) : midge_requantize_upper(acc, constants, constants[2], rounding);
}

/* What of every other sum comes from one that has 2^bits times less; sums are modulo 2^32. */
static inline int32_t gemm_w4_part(int32_t both, int32_t low, int32_t bits) { return (int32_t)((uint32_t)both - (uint32_t)low) >> bits; }

/* Sums of two pixels and two channels, not scaled; acc comes with the biases. */
static inline void gemm_w4_block(int32_t acc[4], const int32_t *acts, const int32_t *weights, int32_t depth) {
  for (int32_t k = 0; k < depth; k += 4, acts += 4) {
    uint32_t word = (uint32_t)*weights++;
    for (int32_t odd = 0; odd < 2; ++odd) {
      int32_t both = (int32_t)(odd != 0 ? midge_sxtb16_odd(word) : midge_sxtb16(word)), low = (int32_t)(word >> 8 * odd & GEMM_W4_LOW);
      for (int32_t pixel = 0; pixel < 2; ++pixel) {
        acc[pixel] = midge_smlad(acts[2 * odd + pixel], low, acc[pixel]);
        acc[2 + pixel] = midge_smlad(acts[2 * odd + pixel], both, acc[2 + pixel]);
      }
    }
  }
  acc[2] = gemm_w4_part(acc[2], acc[0], 4);
  acc[3] = gemm_w4_part(acc[3], acc[1], 4);
}

static inline void gemm_w4(const int32_t *acts, const int32_t *stream, int8_t *first, int8_t *second, int rounding) {
  const int32_t *end = stream + 6 + stream[0] / 4;
  int32_t depth = stream[1], step = stream[2], total = stream[3], up = stream[5], sums[2] = {0, 0};
  for (int32_t k = 0; k < depth; ++k) {
    sums[k & 1] = midge_smlad(acts[k], 0x00080008, sums[k & 1]);
  }
  for (stream += 6; stream != end; stream += 6, first += 2 * step, second += 2 * step) {
    int32_t acc[4];
    for (int32_t i = 0; i < 4; ++i) {
      acc[i] = (int32_t)((uint32_t)stream[i / 2] - (uint32_t)sums[i & 1]);
    }
    gemm_w4_block(acc, acts, stream + 2, depth);
    stream += 2 + depth / 4;
    for (int32_t i = 0; i < 4; ++i) {
      const int32_t *constants = stream + i / 2 * 3;
      int32_t scaled = (int32_t)((uint32_t)acc[i] << (total != 0 ? constants[2] : up));
      ((i & 1) != 0 ? second : first)[i / 2 * step] = gemm_w4_requantize(scaled, constants, total, rounding);
    }
  }
}

void midge_gemm_w4_s8(const int32_t *acts, const int32_t *stream, int8_t *first, int8_t *second) { gemm_w4(acts, stream, first, second, MIDGE_ROUND_ONCE); }

void midge_gemm_w4_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *first, int8_t *second) {
  gemm_w4(acts, stream, first, second, MIDGE_ROUND_TWICE);
}

/* Pair k of the taps: unpacked already, or from bytes. */
static inline int32_t dense_w4_pair(const int32_t *acts, const int8_t *bytes, int32_t k) {
  if (bytes == NULL) {
    return acts[k];
  }
  uint32_t word = midge_load32(bytes + k / 2 * 4);
  return (int32_t)(k % 2 != 0 ? midge_sxtb16_odd(word) : midge_sxtb16(word));
}

static inline void dense_w4(const int32_t *acts, const int8_t *bytes, const int32_t *stream, int8_t *out, int rounding) {
  const int32_t *end = stream + 3 + stream[0] / 4;
  int32_t depth = stream[1], up = stream[2], sum = 0;
  for (int32_t k = 0; k < depth / 2; ++k) {
    sum = midge_smlad(dense_w4_pair(acts, bytes, k), 0x00080008, sum);
  }
  uint32_t sum0 = (uint32_t)sum, sum1 = 17 * sum0, sum2 = 273 * sum0;
  for (stream += 3; stream != end; out += 4) {
    int32_t acc[4] = {(int32_t)((uint32_t)stream[0] - sum0), (int32_t)((uint32_t)stream[1] - sum1), (int32_t)((uint32_t)stream[2] - sum2),
                      (int32_t)((uint32_t)stream[3] - sum2)};
    stream += 4;
    for (int32_t k = 0; k < depth / 2; ++k) {
      int32_t act = dense_w4_pair(acts, bytes, k);
      uint32_t word = (uint32_t)*stream++;
      acc[3] = midge_smlad(act, (int32_t)word, acc[3]);
      acc[2] = midge_smlad(act, (int32_t)(word & 0x0fff0fffu), acc[2]);
      acc[1] = midge_smlad(act, (int32_t)(word & 0x00ff00ffu), acc[1]);
      acc[0] = midge_smlad(act, (int32_t)(word & GEMM_W4_LOW), acc[0]);
    }
    acc[3] = gemm_w4_part(acc[3], acc[2], 12);
    acc[2] = gemm_w4_part(acc[2], acc[1], 8);
    acc[1] = gemm_w4_part(acc[1], acc[0], 4);
    for (int32_t c = 0; c < 4; ++c, stream += 3) {
      out[c] = gemm_w4_requantize((int32_t)((uint32_t)acc[c] << up), stream, 0, rounding);
    }
  }
}

void midge_dense_w4_s8(const int32_t *acts, const int32_t *stream, int8_t *out) { dense_w4(acts, NULL, stream, out, MIDGE_ROUND_ONCE); }

void midge_dense_w4_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *out) { dense_w4(acts, NULL, stream, out, MIDGE_ROUND_TWICE); }

void midge_dense_w4_bytes_s8(const int8_t *in, const int32_t *stream, int8_t *out) { dense_w4(NULL, in, stream, out, MIDGE_ROUND_ONCE); }

void midge_dense_w4_bytes_s8_tflite(const int8_t *in, const int32_t *stream, int8_t *out) { dense_w4(NULL, in, stream, out, MIDGE_ROUND_TWICE); }
