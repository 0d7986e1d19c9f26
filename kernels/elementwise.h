/* SPDX-License-Identifier: Apache-2.0 */
/* Elementwise operators on int8 rows, without the N and H of NHWC. All may run in place: an element is read before it is written.
 *
 *   add   out[x, c] = clamp(s_a * (a[x, c] - z_a) + s_b * (b[x, c] - z_b))   in units of the output's scale; sub and mul likewise
 *   table out[i] = table[in[i] + 128]                                        any function of one element
 *   terms out[i] = clamp((a_terms[a[i]] + b_terms[b[i]]) >> 20)              add and sub of two tensors
 *   dyadic out[i] = clamp(round((a[i] * a_factor + b[i] * b_factor + offset) / 2^shift) + z), ties to even
 *   prelu out[x, c] = in[x, c] < z ? slope[c] * (in[x, c] - z) : in[x, c] - z */
#ifndef MIDGE_ELEMENTWISE_H
#define MIDGE_ELEMENTWISE_H

#include <stdint.h>

/* An operand with pixel stride 0 is one pixel for the whole row, with channel stride 0 one element for all channels of a pixel.
 * Rounding once: `shift` scales both operands of add and sub to the left, a and b multipliers are in units of 2^-32; mul uses multiplier and shift.
 * Rounding twice: a and b are scaled by their multiplier and shift (<= 0) after 20 bits to the left, then their sum by multiplier and shift. */
typedef struct {
  int32_t width;            /* pixels of a row */
  int32_t channels;
  int32_t a_pixel_stride;   /* elements */
  int32_t a_channel_stride; /* elements, 0 or 1 */
  int32_t b_pixel_stride;
  int32_t b_channel_stride;
  int32_t a_zero_point;
  int32_t b_zero_point;
  int32_t a_multiplier;     /* add and sub; mul leaves a_ and b_ 0 */
  int32_t a_shift;
  int32_t b_multiplier;
  int32_t b_shift;
  int32_t multiplier;       /* of the sum or product */
  int32_t shift;            /* positive to the left */
  int32_t zero_point;       /* of the output */
  int32_t act_min;          /* fused clamp, in output integers */
  int32_t act_max;
} midge_binary_params;

typedef struct {
  int32_t count; /* elements of a row */
} midge_table_params;

typedef struct {
  const int8_t *table; /* 256 entries, for inputs -128 to 127; unsigned bytes are taken as signed ones */
} midge_table_constants;

typedef struct {
  int32_t count; /* elements of a row */
  int32_t act_min;
  int32_t act_max;
} midge_terms_params;

/* 256 entries each, for operands 0 to 127 and then -128 to -1, in units of 2^-20 of the output's integers, zero point and rounding included; below 2^30,
 * so that no sum overflows. */
typedef struct {
  const int32_t *a_terms;
  const int32_t *b_terms;
} midge_terms_constants;

typedef struct {
  int32_t count;    /* elements */
  int32_t a_factor; /* below 2^21, as b_factor, so that no sum overflows */
  int32_t b_factor;
  int32_t offset;
  int32_t shift;    /* 1 or more */
  int32_t zero_point;
  int32_t act_min;
  int32_t act_max;
} midge_dyadic_params;

/* Rounding once: factors in units of 2^-32 after `shift` bits to the left. Rounding twice: in-z is scaled by identity_multiplier and identity_shift,
 * the product of in-z and the integer slope by multiplier and shift. */
typedef struct {
  int32_t width;    /* pixels of a row */
  int32_t channels;
  int32_t in_zero_point;
  int32_t identity_multiplier;
  int32_t identity_shift;
  int32_t multiplier; /* rounding twice only */
  int32_t shift;
  int32_t zero_point; /* of the output */
} midge_prelu_params;

typedef struct {
  const int32_t *slope; /* one per channel; rounding once: slope * s_in / s_out * 2^(32 - shift), rounding twice: slope / s_slope */
} midge_prelu_constants;

/* in_rows: the row of a, then the row of b, for each output row. There are no constants. */
void midge_add_s8(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                  void *scratch);
void midge_add_s8_tflite(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                         void *scratch);
void midge_sub_s8(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                  void *scratch);
void midge_sub_s8_tflite(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                         void *scratch);
void midge_mul_s8(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                  void *scratch);
void midge_mul_s8_tflite(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                         void *scratch);

/* mul where no half is exact, its multiplier in units of 2^-32 (rounding once), or where the shift is to the right (rounding twice). */
void midge_product_s8(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                      void *scratch);
void midge_product_s8_tflite(const midge_binary_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                             void *scratch);

/* in_rows: the row of a, then the row of b, for each output row. The first takes act_min and act_max for -128 and 127. */
void midge_terms_s8(const midge_terms_params *params, const int8_t *const *in_rows, const midge_terms_constants *constants, int8_t *const *out_rows,
                    unsigned rows, void *scratch);
void midge_terms_clamped_s8(const midge_terms_params *params, const int8_t *const *in_rows, const midge_terms_constants *constants, int8_t *const *out_rows,
                            unsigned rows, void *scratch);

/* in_rows: the row of a, then the row of b, for each output row. The first takes act_min and act_max for -128 and 127. */
void midge_dyadic_s8(const midge_dyadic_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                     void *scratch);
void midge_dyadic_clamped_s8(const midge_dyadic_params *params, const int8_t *const *in_rows, const void *constants, int8_t *const *out_rows, unsigned rows,
                             void *scratch);

/* in_rows: one row for each output row. */
void midge_table_s8(const midge_table_params *params, const int8_t *const *in_rows, const midge_table_constants *constants, int8_t *const *out_rows,
                    unsigned rows, void *scratch);
void midge_prelu_s8(const midge_prelu_params *params, const int8_t *const *in_rows, const midge_prelu_constants *constants, int8_t *const *out_rows,
                    unsigned rows, void *scratch);
void midge_prelu_s8_tflite(const midge_prelu_params *params, const int8_t *const *in_rows, const midge_prelu_constants *constants, int8_t *const *out_rows,
                           unsigned rows, void *scratch);

#endif
