/* SPDX-License-Identifier: Apache-2.0 */
/* Mean over a whole tensor on cores with the M-profile vector extension: pixels are added eight channels at a time; see pool.h for the rest. */
#ifndef MIDGE_POOL_MVE_H
#define MIDGE_POOL_MVE_H

#include <stdint.h>

#include "pool.h"

void midge_mean_mve_s8_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                            unsigned rows, void *scratch);
void midge_mean_mve_s8_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                           unsigned rows, void *scratch);
void midge_mean_mve_s8_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                              unsigned rows, void *scratch);
void midge_mean_mve_s8_tflite_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch);
void midge_mean_mve_s8_tflite_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                                  unsigned rows, void *scratch);
void midge_mean_mve_s8_tflite_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                     int8_t *const *out_rows, unsigned rows, void *scratch);
void midge_mean_half_away_mve_s8_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                      int8_t *const *out_rows, unsigned rows, void *scratch);
void midge_mean_half_away_mve_s8_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                     int8_t *const *out_rows, unsigned rows, void *scratch);
void midge_mean_half_away_mve_s8_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                        int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
