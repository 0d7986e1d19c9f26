/* SPDX-License-Identifier: Apache-2.0 */
/* The one definition of integer arithmetic in C; compiler/midge/fixedpoint.py is its twin. Right shifts of negative
 * numbers are arithmetic on every compiler midge knows; everything else is plain C99. */
#ifndef MIDGE_FIXEDPOINT_H
#define MIDGE_FIXEDPOINT_H

#include <stdint.h>

enum { MIDGE_ROUND_ONCE, MIDGE_ROUND_TWICE };

static inline int32_t midge_clamp(int32_t value, int32_t low, int32_t high) { return value < low ? low : value > high ? high : value; }

/* value / 2^shift rounded to nearest, ties away from zero. 0 <= shift <= 31. */
static inline int32_t midge_shift_right_half_away(int32_t value, int32_t shift) {
  int32_t mask = (int32_t)((1u << shift) - 1u);
  int32_t threshold = (mask >> 1) + (value < 0);
  return (value >> shift) + ((value & mask) > threshold);
}

/* (a * b + 2^30) >> 31. No case overflows: b is a multiplier, so b < 2^31 and b >= 0. */
static inline int32_t midge_high_mul(int32_t a, int32_t b) { return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31); }

/* acc * multiplier * 2^(shift - 31). With shift > 0 acc is first limited to +-2^(30 - shift): an 8-bit output is saturated beyond. */
static inline int32_t midge_requantize(int32_t acc, int32_t multiplier, int32_t shift, int rounding) {
  if (shift > 0) {
    int32_t limit = (int32_t)(1u << (30 - shift));
    acc = midge_clamp(acc, -limit, limit);
    if (rounding == MIDGE_ROUND_TWICE) {
      return midge_high_mul((int32_t)((uint32_t)acc << shift), multiplier);
    }
  }
  if (rounding == MIDGE_ROUND_ONCE) {
    int32_t total = 31 - shift;
    return (int32_t)(((int64_t)acc * multiplier + ((int64_t)1 << (total - 1))) >> total);
  }
  return midge_shift_right_half_away(midge_high_mul(acc, multiplier), -shift);
}

/* acc2 * multiplier * 2^(-32 - n) + zero_point, limited to int8, from { multiplier, C } with C = (zero_point << n) + 2^(n - 1), n >= 1: only the upper word
 * of the product counts. acc2 is an accumulator times a power of 2: times 2 where rounded twice. */
static inline int8_t midge_requantize_upper(int32_t acc2, const int32_t *constants, int32_t n, int rounding) {
  int64_t product = (int64_t)acc2 * constants[0] + (rounding == MIDGE_ROUND_TWICE ? INT64_C(0x80000000) : 0);
  int32_t value = (int32_t)(product >> 32) + constants[1];
  if (rounding == MIDGE_ROUND_TWICE) {
    value += acc2 >> 31;
  }
  return (int8_t)midge_clamp(value >> n, -128, 127);
}

/* value / 2^shift rounded to nearest, ties to even, as a float rounding does. 1 <= shift <= 62. */
static inline int32_t midge_shift_right_half_even(int64_t value, int32_t shift) {
  int64_t half = (int64_t)1 << (shift - 1);
  int64_t rounded = (value + half) >> shift;
  int64_t tie = (value & (((int64_t)1 << shift) - 1)) == half;
  return (int32_t)(rounded - (tie & rounded & 1));
}

#endif
