/* SPDX-License-Identifier: Apache-2.0 */
#include "softmax.h"

#include "fixedpoint.h"

static inline int32_t softmax_max(const int8_t *in, int32_t channels) {
  int32_t max = in[0];
  for (int32_t i = 1; i < channels; ++i) {
    max = in[i] > max ? in[i] : max;
  }
  return max;
}

/* exp of a difference d >= 0 from the maximum. */
static inline uint32_t softmax_exp(const midge_softmax_params *p, const midge_softmax_constants *c, int32_t d) {
  return p->table_size > 255 || d < p->table_size ? (uint32_t)c->table[d] : 0u;
}

/* floor(numerator * 2^32 / denominator) for numerator < denominator. */
static inline uint32_t softmax_divide(uint32_t numerator, uint32_t denominator) {
  uint32_t quotient = 0;
  for (int32_t bit = 0; bit < 32; ++bit) {
    uint32_t carry = numerator >> 31;
    numerator <<= 1;
    quotient <<= 1;
    if (carry || numerator >= denominator) {
      numerator -= denominator;
      quotient |= 1u;
    }
  }
  return quotient;
}

/* One pixel. The sum is brought to [2^31, 2^32) by `down` shifts; factor is 2^32 / (s_out * sum). */
static inline void softmax_pixel(const midge_softmax_params *p, const midge_softmax_constants *c, const int8_t *in, int8_t *out) {
  int32_t max = softmax_max(in, p->channels);
  uint64_t sum = 0;
  for (int32_t i = 0; i < p->channels; ++i) {
    sum += softmax_exp(p, c, max - in[i]);
  }
  int32_t down = 0;
  for (int32_t most = p->channels; most > 0; most >>= 1) { /* as often as the largest sum needs, so that time does not depend on data */
    int32_t over = sum >> 32 != 0;
    sum >>= over;
    down += over;
  }
  uint32_t factor = softmax_divide((uint32_t)p->multiplier, (uint32_t)sum);
  int32_t total = 63 + down - p->shift;
  for (int32_t i = 0; i < p->channels; ++i) {
    uint64_t product = (uint64_t)softmax_exp(p, c, max - in[i]) * factor;
    int32_t value = 0;
    if ((p->shift >= 0 && p->channels >> 1 >> (p->shift & 31) == 0) || total < 64) { /* the first, so for most models, bounds `down` by `shift` */
      uint64_t rounded = (product >> (total - 1)) + 1u;
      value = p->shift < 30 || rounded >> 1 <= 255u ? (int32_t)(rounded >> 1) : 255;
    }
    out[i] = (int8_t)midge_clamp(value + p->zero_point, -128, 127);
  }
}

void midge_softmax_s8(const midge_softmax_params *params, const int8_t *const *in_rows, const midge_softmax_constants *constants, int8_t *const *out_rows,
                      unsigned rows, void *scratch) {
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row) {
    for (int32_t x = 0; x < params->width; ++x) {
      softmax_pixel(params, constants, in_rows[row] + x * params->channels, out_rows[row] + x * params->channels);
    }
  }
}

/* a * 2^2, saturated. */
static inline int32_t softmax_times4(int32_t a) {
  int32_t limit = (int32_t)(1u << 29);
  return a >= limit ? INT32_MAX : a < -limit ? INT32_MIN : (int32_t)((uint32_t)a << 2);
}

/* 1 / (1 + a) for a in [0, 1), both with 31 fraction bits: three steps of Newton from 48/17 - 32/17 * (1 + a) / 2, with 29 fraction bits. */
static inline int32_t softmax_reciprocal(int32_t a) {
  int32_t half = (int32_t)(((int64_t)a + INT32_MAX + 1) / 2);
  int32_t x = 1515870810 + midge_high_mul(half, -1010580540);
  for (int32_t step = 0; step < 3; ++step) {
    int32_t rest = (1 << 29) - midge_high_mul(half, x);
    x += softmax_times4(midge_high_mul(x, rest));
  }
  return x >= (1 << 30) ? INT32_MAX : (int32_t)((uint32_t)x << 1);
}

/* One pixel as TFLite's reference computes it: exps with 31 fraction bits, their sum with 19, its reciprocal with 31. */
static inline void softmax_pixel_tflite(const midge_softmax_params *p, const midge_softmax_constants *c, const int8_t *in, int8_t *out) {
  int32_t max = softmax_max(in, p->channels);
  uint32_t sum = 0;
  for (int32_t i = 0; i < p->channels; ++i) {
    sum += (uint32_t)midge_shift_right_half_away((int32_t)softmax_exp(p, c, max - in[i]), 12);
  }
  int32_t right = 12 + 31 - 8;
  for (; sum >> 31 == 0; --right) {
    sum <<= 1;
  }
  int32_t factor = softmax_reciprocal((int32_t)(sum - (1u << 31)));
  for (int32_t i = 0; i < p->channels; ++i) {
    int32_t product = midge_high_mul(factor, (int32_t)softmax_exp(p, c, max - in[i]));
    int32_t value = right > 31 ? 0 : midge_shift_right_half_away(product, right);
    out[i] = (int8_t)midge_clamp(value - 128, -128, 127);
  }
}

void midge_softmax_s8_tflite(const midge_softmax_params *params, const int8_t *const *in_rows, const midge_softmax_constants *constants,
                             int8_t *const *out_rows, unsigned rows, void *scratch) {
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row) {
    for (int32_t x = 0; x < params->width; ++x) {
      softmax_pixel_tflite(params, constants, in_rows[row] + x * params->channels, out_rows[row] + x * params->channels);
    }
  }
}
