/* SPDX-License-Identifier: Apache-2.0 */
/* Pooling, int8: maximum and average over windows, mean over a whole tensor.
 *
 *   average: out[x, c] = clamp(round((count * counted_value + sum over real taps of in[ky][x * stride + kx - pad, c] - input_zero_point) * scale[count])
 *            + zero_point)
 *   max:     out[x, c] = max over ky, kx of in[ky][x * stride + kx * dilation - pad, c]
 *   mean:    the average whose window is the whole tensor, given row by row
 *
 * Rows are NHWC without the N and H. in_rows: kernel_height rows for each output row.
 * Average: a row of padding is known by its address, constants->pad_row; it adds nothing to the sum. `count` is the number of taps that the sum is
 * divided by: the real ones and, of the padding, at most count_top and count_bottom rows and count_left and count_right pixels (all 0 if the
 * average excludes padding; what a rounded-up output size reaches beyond is never counted). scale[count] holds s_in / (s_out * count).
 * Max: a row of padding holds -128, which never wins; horizontal padding is skipped.
 * Rounding of averages: half to even, or half away from zero (`_tflite` window average and mean_half_away), or twice (midge_mean_s8_tflite). */
#ifndef MIDGE_POOL_H
#define MIDGE_POOL_H

#include <stdint.h>

typedef struct {
  int32_t in_width;         /* pixels of an input row */
  int32_t channels;         /* of input and output */
  int32_t out_width;        /* pixels of an output row */
  int32_t kernel_height;    /* taps, = rows of input for a row of output; mean: rows in all */
  int32_t kernel_width;     /* taps */
  int32_t stride;           /* pixels, horizontal */
  int32_t dilation;         /* pixels, horizontal; 1 in an average */
  int32_t pad;              /* pixels left of the row */
  int32_t pad_rows;         /* the most rows of a window that are padding; 0 in a maximum and a mean */
  int32_t count_top;        /* padding that counts, see above */
  int32_t count_left;
  int32_t count_bottom;
  int32_t count_right;
  int32_t count_min;        /* what the first entry of `multiplier` and `shift` stands for */
  int32_t input_zero_point; /* taken from each real tap */
  int32_t counted_value;    /* added for each tap that counts: input_zero_point where the raw integers are averaged, else 0 */
  int32_t zero_point;       /* of the output; 0 where the raw integers are averaged */
  int32_t act_min;          /* fused clamp, in output integers */
  int32_t act_max;
} midge_pool_params;

typedef struct {
  const int32_t *multiplier; /* scale[count] for count = count_min, count_min + 1, ... */
  const int8_t *shift;       /* likewise; positive to the left */
  const int8_t *pad_row;     /* the row that in_rows holds in place of padding; only its address is read */
} midge_pool_constants;

void midge_average_pool_s8(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                           unsigned rows, void *scratch);
void midge_average_pool_s8_tflite(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                                  unsigned rows, void *scratch);

/* Reads no constants. */
void midge_max_pool_s8(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                       unsigned rows, void *scratch);

/* Mean: _init once, _add for each row of input, _finish writes one pixel. scratch: `channels` int32_t sums, kept from _init to _finish.
 * in_rows is read by _add only, out_rows by _finish only. */
void midge_mean_s8_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                        unsigned rows, void *scratch);
void midge_mean_s8_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                       unsigned rows, void *scratch);
void midge_mean_s8_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                          unsigned rows, void *scratch);
void midge_mean_s8_tflite_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                               unsigned rows, void *scratch);
void midge_mean_s8_tflite_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                              unsigned rows, void *scratch);
void midge_mean_s8_tflite_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                                 unsigned rows, void *scratch);
void midge_mean_half_away_s8_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                                  unsigned rows, void *scratch);
void midge_mean_half_away_s8_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                                 unsigned rows, void *scratch);
void midge_mean_half_away_s8_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                    int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
