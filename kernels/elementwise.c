/* SPDX-License-Identifier: Apache-2.0 */
#include "elementwise.h"

#include "arch/dsp.h"
#include "fixedpoint.h"

enum { ELEMENTWISE_ADD, ELEMENTWISE_SUB, ELEMENTWISE_MUL, ELEMENTWISE_PRODUCT };

/* value / 2^(32 + shift) rounded to nearest, ties to even: the high word plus a test of what is dropped. 0 <= shift <= 30. */
static inline int32_t elementwise_round_even(int64_t value, int32_t shift) {
  int64_t shifted = value + ((int64_t)1 << (31 + shift));
  int32_t high = (int32_t)(shifted >> 32);
  uint32_t dropped = (uint32_t)shifted | ((uint32_t)high & ((1u << shift) - 1u));
  return (high >> shift) & (-1 - (dropped == 0));
}

/* value * multiplier * 2^(shift - 31) with a rounding to 32 bits after each step; shift <= 0. */
static inline int32_t elementwise_scale_twice(int32_t value, int32_t multiplier, int32_t shift) {
  return midge_shift_right_half_away(midge_high_mul(value, multiplier), -shift);
}

/* The upper word of a product with a multiplier, rounded: SMMULR. */
static inline int32_t elementwise_upper(int32_t value, int32_t multiplier) { return (int32_t)(((int64_t)value * multiplier + INT64_C(0x80000000)) >> 32); }

/* a and b without their zero points; the result without that of the output. */
static inline int32_t elementwise_binary(const midge_binary_params *p, int32_t a, int32_t b, int operation, int rounding) {
  if (operation == ELEMENTWISE_PRODUCT && rounding == MIDGE_ROUND_ONCE) {
    return elementwise_upper(a * b, p->multiplier);
  }
  if (operation == ELEMENTWISE_PRODUCT) { /* halves away from zero: 1 less of negative products before the second rounding */
    int32_t upper = elementwise_upper(2 * a * b, p->multiplier) + (a * b >> 31);
    return (upper + (int32_t)(1u << (-p->shift - 1))) >> -p->shift;
  }
  if (operation == ELEMENTWISE_MUL && rounding == MIDGE_ROUND_ONCE) {
    int32_t left = p->shift >= 0 ? p->shift + 1 : 0;
    return elementwise_round_even((int64_t)(a * b * (1 << left)) * p->multiplier, left - p->shift - 1);
  }
  if (operation == ELEMENTWISE_MUL) {
    return midge_requantize(a * b, p->multiplier, p->shift, rounding);
  }
  if (rounding == MIDGE_ROUND_ONCE) {
    int64_t term_a = (int64_t)(a * (1 << p->shift)) * p->a_multiplier;
    int64_t term_b = (int64_t)(b * (1 << p->shift)) * p->b_multiplier;
    return elementwise_round_even(operation == ELEMENTWISE_ADD ? term_a + term_b : term_a - term_b, 0);
  }
  int32_t term_a = elementwise_scale_twice(a * (1 << 20), p->a_multiplier, p->a_shift);
  int32_t term_b = elementwise_scale_twice(b * (1 << 20), p->b_multiplier, p->b_shift);
  return elementwise_scale_twice(operation == ELEMENTWISE_ADD ? term_a + term_b : term_a - term_b, p->multiplier, p->shift);
}

/* One row. The parameters are a copy, so that stores to `out` cannot change them; a_step and b_step are the channel strides. */
static inline void elementwise_binary_row(const midge_binary_params p, const int8_t *a, int32_t a_step, const int8_t *b, int32_t b_step, int8_t *out,
                                          int operation, int rounding) {
  for (int32_t x = 0; x < p.width; ++x, a += p.a_pixel_stride, b += p.b_pixel_stride) {
    const int8_t *in_a = a, *in_b = b;
    for (int8_t *end = out + p.channels; out != end; ++out, in_a += a_step, in_b += b_step) {
      int32_t value = elementwise_binary(&p, *in_a - p.a_zero_point, *in_b - p.b_zero_point, operation, rounding) + p.zero_point;
      *out = (int8_t)midge_clamp(value, p.act_min, p.act_max);
    }
  }
}

static inline void elementwise_binary_rows(const midge_binary_params *p, const int8_t *const *in_rows, int8_t *const *out_rows, unsigned rows, int operation,
                                           int rounding) {
  for (unsigned row = 0; row < rows; ++row, in_rows += 2) {
    if (p->a_channel_stride == 1 && p->b_channel_stride == 1) {
      elementwise_binary_row(*p, in_rows[0], 1, in_rows[1], 1, out_rows[row], operation, rounding);
    } else {
      elementwise_binary_row(*p, in_rows[0], p->a_channel_stride, in_rows[1], p->b_channel_stride, out_rows[row], operation, rounding);
    }
  }
}

void midge_add_s8(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                  void *scratch) {
  (void)constants;
  (void)scratch;
  elementwise_binary_rows(params, in_rows, out_rows, rows, ELEMENTWISE_ADD, MIDGE_ROUND_ONCE);
}

void midge_add_s8_tflite(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                         void *scratch) {
  (void)constants;
  (void)scratch;
  elementwise_binary_rows(params, in_rows, out_rows, rows, ELEMENTWISE_ADD, MIDGE_ROUND_TWICE);
}

void midge_sub_s8(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                  void *scratch) {
  (void)constants;
  (void)scratch;
  elementwise_binary_rows(params, in_rows, out_rows, rows, ELEMENTWISE_SUB, MIDGE_ROUND_ONCE);
}

void midge_sub_s8_tflite(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                         void *scratch) {
  (void)constants;
  (void)scratch;
  elementwise_binary_rows(params, in_rows, out_rows, rows, ELEMENTWISE_SUB, MIDGE_ROUND_TWICE);
}

void midge_mul_s8(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                  void *scratch) {
  (void)constants;
  (void)scratch;
  elementwise_binary_rows(params, in_rows, out_rows, rows, ELEMENTWISE_MUL, MIDGE_ROUND_ONCE);
}

void midge_mul_s8_tflite(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                         void *scratch) {
  (void)constants;
  (void)scratch;
  elementwise_binary_rows(params, in_rows, out_rows, rows, ELEMENTWISE_MUL, MIDGE_ROUND_TWICE);
}

void midge_product_s8(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                      void *scratch) {
  (void)constants;
  (void)scratch;
  elementwise_binary_rows(params, in_rows, out_rows, rows, ELEMENTWISE_PRODUCT, MIDGE_ROUND_ONCE);
}

void midge_product_s8_tflite(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                             void *scratch) {
  (void)constants;
  (void)scratch;
  elementwise_binary_rows(params, in_rows, out_rows, rows, ELEMENTWISE_PRODUCT, MIDGE_ROUND_TWICE);
}

void midge_table_s8(const midge_table_params *params, const int8_t *const *in_rows, const midge_table_constants *constants, int8_t *const *out_rows,
                    unsigned rows, void *scratch) {
  const int8_t *middle = constants->table + 128;
  int32_t count = params->count;
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row) {
    const int8_t *in = in_rows[row];
    int8_t *out = out_rows[row];
    for (const int8_t *end = in + count; in != end; ++in, ++out) {
      *out = middle[*in];
    }
  }
}

static inline void elementwise_terms(const midge_terms_constants *constants, const int8_t *const *in_rows, int8_t *const *out_rows, unsigned rows,
                                     int32_t count, int clamped, int32_t low, int32_t high) {
  const int32_t *a_terms = constants->a_terms, *b_terms = constants->b_terms;
  for (unsigned row = 0; row < rows; ++row, in_rows += 2) {
    const int8_t *a = in_rows[0], *b = in_rows[1];
    int8_t *out = out_rows[row];
    for (const int8_t *end = a + count; a != end;) {
      int32_t value = midge_saturate8((a_terms[(uint8_t)*a++] + b_terms[(uint8_t)*b++]) >> 20);
      *out++ = (int8_t)(clamped ? midge_clamp(value, low, high) : value);
    }
  }
}

void midge_terms_s8(const midge_terms_params *params, const int8_t *const *in_rows, const midge_terms_constants *constants, int8_t *const *out_rows,
                    unsigned rows, void *scratch) {
  (void)scratch;
  elementwise_terms(constants, in_rows, out_rows, rows, params->count, 0, -128, 127);
}

void midge_terms_clamped_s8(const midge_terms_params *params, const int8_t *const *in_rows, const midge_terms_constants *constants, int8_t *const *out_rows,
                            unsigned rows, void *scratch) {
  (void)scratch;
  elementwise_terms(constants, in_rows, out_rows, rows, params->count, 1, params->act_min, params->act_max);
}

/* Rows; the parameters are a copy, as above. A sum with a half added that has no lower bits was a tie: its upper part is one too far if odd. */
static inline void elementwise_dyadic(const midge_dyadic_params p, const int8_t *const *in_rows, int8_t *const *out_rows, unsigned rows, int clamped) {
  int32_t offset = p.offset + (int32_t)(1u << (p.shift - 1)), mask = (int32_t)((1u << p.shift) - 1u);
  for (unsigned row = 0; row < rows; ++row, in_rows += 2) {
    const int8_t *a = in_rows[0], *b = in_rows[1];
    int8_t *out = out_rows[row];
    for (const int8_t *end = a + p.count; a != end;) {
      int32_t sum = *a++ * p.a_factor + *b++ * p.b_factor + offset, value = sum >> p.shift;
      if ((sum & mask) == 0) {
        value &= ~1;
      }
      value += p.zero_point;
      *out++ = (int8_t)(clamped ? midge_clamp(value, p.act_min, p.act_max) : midge_saturate8(value));
    }
  }
}

void midge_dyadic_s8(const midge_dyadic_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                     void *scratch) {
  (void)constants;
  (void)scratch;
  elementwise_dyadic(*params, in_rows, out_rows, rows, 0);
}

void midge_dyadic_clamped_s8(const midge_dyadic_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                             void *scratch) {
  (void)constants;
  (void)scratch;
  elementwise_dyadic(*params, in_rows, out_rows, rows, 1);
}

/* in without its zero point; the result without that of the output. */
static inline int32_t elementwise_prelu(const midge_prelu_params *p, int32_t in, int32_t slope, int rounding) {
  if (rounding == MIDGE_ROUND_ONCE) {
    return elementwise_round_even((int64_t)(in * (1 << p->identity_shift)) * (in < 0 ? slope : p->identity_multiplier), 0);
  }
  if (in < 0) {
    return midge_requantize(in * slope, p->multiplier, p->shift, rounding);
  }
  return midge_requantize(in, p->identity_multiplier, p->identity_shift, rounding);
}

static inline void elementwise_prelu_rows(const midge_prelu_params p, const int8_t *const *in_rows, const int32_t *slopes, int8_t *const *out_rows,
                                          unsigned rows, int rounding) {
  for (unsigned row = 0; row < rows; ++row) {
    const int8_t *in = in_rows[row];
    int8_t *out = out_rows[row];
    for (int32_t x = 0; x < p.width; ++x) {
      for (int32_t c = 0; c < p.channels; ++c, ++in, ++out) {
        int32_t value = elementwise_prelu(&p, *in - p.in_zero_point, slopes[c], rounding) + p.zero_point;
        *out = (int8_t)midge_clamp(value, -128, 127);
      }
    }
  }
}

void midge_prelu_s8(const midge_prelu_params *params, const int8_t *const *in_rows, const midge_prelu_constants *constants, int8_t *const *out_rows,
                    unsigned rows, void *scratch) {
  (void)scratch;
  elementwise_prelu_rows(*params, in_rows, constants->slope, out_rows, rows, MIDGE_ROUND_ONCE);
}

void midge_prelu_s8_tflite(const midge_prelu_params *params, const int8_t *const *in_rows, const midge_prelu_constants *constants, int8_t *const *out_rows,
                           unsigned rows, void *scratch) {
  (void)scratch;
  elementwise_prelu_rows(*params, in_rows, constants->slope, out_rows, rows, MIDGE_ROUND_TWICE);
}
