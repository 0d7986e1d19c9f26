/* SPDX-License-Identifier: Apache-2.0 */
#include "pool_mve.h"

#include "arch/mve.h"

enum { MEAN_MVE_PIXELS = 255 }; /* whose sum fits in 16 bits */

static inline void mean_mve_add(const midge_pool_params *p, const int8_t *const *in_rows, unsigned rows, int32_t *sum) {
  for (unsigned row = 0; row < rows; ++row) {
    const int8_t *in = in_rows[row];
    for (int32_t left = p->in_width; left > 0; left -= MEAN_MVE_PIXELS, in += MEAN_MVE_PIXELS * p->channels) {
      int32_t pixels = left < MEAN_MVE_PIXELS ? left : MEAN_MVE_PIXELS;
      for (int32_t channel = 0; channel < p->channels; channel += 8) {
        int32_t count = p->channels - channel < 8 ? p->channels - channel : 8;
        midge_accumulate(sum + channel, in + channel, p->channels, count, pixels);
      }
    }
  }
}

void midge_mean_mve_s8_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                            unsigned rows, void *scratch) {
  midge_mean_s8_init(params, in_rows, constants, out_rows, rows, scratch);
}

void midge_mean_mve_s8_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                           unsigned rows, void *scratch) {
  (void)constants;
  (void)out_rows;
  mean_mve_add(params, in_rows, rows, scratch);
}

void midge_mean_mve_s8_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                              unsigned rows, void *scratch) {
  midge_mean_s8_finish(params, in_rows, constants, out_rows, rows, scratch);
}

void midge_mean_mve_s8_tflite_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch) {
  midge_mean_s8_tflite_init(params, in_rows, constants, out_rows, rows, scratch);
}

void midge_mean_mve_s8_tflite_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                                  unsigned rows, void *scratch) {
  (void)constants;
  (void)out_rows;
  mean_mve_add(params, in_rows, rows, scratch);
}

void midge_mean_mve_s8_tflite_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                     int8_t *const *out_rows, unsigned rows, void *scratch) {
  midge_mean_s8_tflite_finish(params, in_rows, constants, out_rows, rows, scratch);
}

void midge_mean_half_away_mve_s8_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                      int8_t *const *out_rows, unsigned rows, void *scratch) {
  midge_mean_half_away_s8_init(params, in_rows, constants, out_rows, rows, scratch);
}

void midge_mean_half_away_mve_s8_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                     int8_t *const *out_rows, unsigned rows, void *scratch) {
  (void)constants;
  (void)out_rows;
  mean_mve_add(params, in_rows, rows, scratch);
}

void midge_mean_half_away_mve_s8_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                        int8_t *const *out_rows, unsigned rows, void *scratch) {
  midge_mean_half_away_s8_finish(params, in_rows, constants, out_rows, rows, scratch);
}
