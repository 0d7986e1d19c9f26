/* SPDX-License-Identifier: Apache-2.0 */
/* Requantization by the constants that streams for cores without the DSP extension hold: the portable twins of a few instructions.
 *
 * All add C = (zero_point << n) + 2^(n - 1), n = -shift >= 1, before the last shift; the output is limited to int8 and nothing narrower. */
#ifndef MIDGE_THUMB_REQUANTIZE_H
#define MIDGE_THUMB_REQUANTIZE_H

#include <stdint.h>

#include "fixedpoint.h"

/* t2: { multiplier, C, n }. The accumulator is within 2^30. */
static inline int8_t thumb_t2_requantize(int32_t acc, const int32_t *constants, int rounding) {
  return midge_requantize_upper((int32_t)((uint32_t)acc << 1), constants, constants[2], rounding);
}

/* t1: { C, two words of pieces, final shift }. The product with a multiplier of 31 bits piece by piece, each sum shifted by the piece's width: floor is kept
 * and nothing passes 32 bits. Three pieces are 10, 10, 11 bits wide, four 8, 8, 8, 7, two a word, the lowest first; C has the weight of the last one. */
static inline int8_t thumb_t1_requantize(int32_t acc, const int32_t *constants, int32_t pieces, int rounding) {
  int32_t width = pieces == 3 ? 10 : 8, last = pieces == 3 ? 11 : 7, value = 0;
  for (int32_t i = 0; i < pieces; ++i) {
    value += acc * (int32_t)((uint32_t)constants[1 + i / 2] >> 16 * (i & 1) & 0xffffu);
    value >>= i + 1 < pieces ? width : 0;
  }
  if (rounding == MIDGE_ROUND_TWICE && acc < 0) {
    value -= 1 << last;
  }
  return (int8_t)midge_clamp((value + constants[0]) >> (constants[3] & 31), -128, 127);
}

#endif
