/* SPDX-License-Identifier: Apache-2.0 */
/* Pools on cores with the DSP extension, four channels a word; see pool.h for the rest. All want 4 or more channels. */
#ifndef MIDGE_POOL_DSP_H
#define MIDGE_POOL_DSP_H

#include <stdint.h>

#include "pool.h"

/* At most 255 taps. multiplier is in units of 2^-shift, 1 <= shift, such that sum * multiplier and what rounds it stay within 32 bits. */
void midge_average_pool_dsp_s8(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                               unsigned rows, void *scratch);
void midge_average_pool_dsp_s8_tflite(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                      int8_t *const *out_rows, unsigned rows, void *scratch);

/* Reads no constants. */
void midge_max_pool_dsp_s8(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                           unsigned rows, void *scratch);

void midge_mean_dsp_s8_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                            unsigned rows, void *scratch);
void midge_mean_dsp_s8_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                           unsigned rows, void *scratch);
void midge_mean_dsp_s8_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                              unsigned rows, void *scratch);
void midge_mean_dsp_s8_tflite_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch);
void midge_mean_dsp_s8_tflite_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                                  unsigned rows, void *scratch);
void midge_mean_dsp_s8_tflite_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                     int8_t *const *out_rows, unsigned rows, void *scratch);
void midge_mean_half_away_dsp_s8_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                      int8_t *const *out_rows, unsigned rows, void *scratch);
void midge_mean_half_away_dsp_s8_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                     int8_t *const *out_rows, unsigned rows, void *scratch);
void midge_mean_half_away_dsp_s8_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                        int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
