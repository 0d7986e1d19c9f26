/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include "fixedpoint.h"
#include "pool_window.h"

enum { POOL_HALF_EVEN, POOL_HALF_AWAY, POOL_TWICE };

/* sum * multiplier * 2^(shift - 31), rounded. The multiplier is a rounded reciprocal, so an exact half is known only to within |sum| units of
 * the product: whatever lies so close to a half is one, because other quotients by less than 2^20 taps keep further away. */
static inline int32_t pool_quotient(int32_t sum, int32_t multiplier, int32_t shift, int rounding) {
  if (rounding == POOL_TWICE) {
    return midge_requantize(sum, multiplier, shift, MIDGE_ROUND_TWICE);
  }
  if (shift > 0) {
    int32_t limit = (int32_t)(1u << (30 - shift));
    sum = midge_clamp(sum, -limit, limit);
  }
  int32_t total = 31 - shift, slack = sum < 0 ? -sum : sum;
  int64_t value = (int64_t)sum * multiplier + ((int64_t)1 << (total - 1)) + slack;
  int32_t high = (int32_t)(value >> 32), rest, quotient;
  if (total >= 32) { /* most pools: 64-bit shifts by a variable are slow */
    quotient = high >> (total - 32);
    rest = high & (int32_t)((1u << (total - 32)) - 1u);
  } else {
    quotient = (int32_t)(value >> total);
    value &= ((int64_t)1 << total) - 1;
    rest = 0;
  }
  int32_t half = (rest == 0) & ((uint32_t)(value & 0xffffffff) <= 2u * (uint32_t)slack);
  return quotient - (half & (rounding == POOL_HALF_EVEN ? quotient & 1 : quotient <= 0));
}

/* sum[0..3] += four neighbouring channels of `taps` pixels that are `step` bytes apart. */
static inline void pool_add4(int32_t sum[4], const int8_t *in, int32_t step, int32_t taps) {
  int32_t s0 = sum[0], s1 = sum[1], s2 = sum[2], s3 = sum[3];
  for (; taps > 0; --taps, in += step) {
    s0 += in[0];
    s1 += in[1];
    s2 += in[2];
    s3 += in[3];
  }
  sum[0] = s0;
  sum[1] = s1;
  sum[2] = s2;
  sum[3] = s3;
}

/* sum[0..count) += `count` <= 4 neighbouring channels. */
static inline void pool_add(int32_t *sum, const int8_t *in, int32_t step, int32_t taps, int32_t count) {
  if (count == 4) {
    pool_add4(sum, in, step, taps);
    return;
  }
  for (int32_t i = 0; i < count; ++i) {
    const int8_t *tap = in + i;
    for (int32_t left = taps; left > 0; --left, tap += step) {
      sum[i] += *tap;
    }
  }
}

static inline void pool_store(const midge_pool_params *p, const midge_pool_constants *c, int8_t *out, const int32_t *sum, int32_t entry, int32_t count,
                              int rounding) {
  for (int32_t i = 0; i < count; ++i) {
    int32_t value = pool_quotient(sum[i], c->multiplier[entry], c->shift[entry], rounding) + p->zero_point;
    out[i] = (int8_t)midge_clamp(value, p->act_min, p->act_max);
  }
}

static inline void average_pixel(const midge_pool_params *p, const int8_t *const *in_rows, const midge_pool_constants *c, int8_t *out, const pool_window *w,
                                 int rounding) {
  for (int32_t channel = 0; channel < p->channels; channel += 4) {
    int32_t sum[4] = {w->start, w->start, w->start, w->start};
    int32_t count = (p->channels & 3) == 0 ? 4 : pool_min(p->channels - channel, 4);
    for (int32_t ky = 0; ky < w->height; ++ky) {
      pool_add(sum, in_rows[ky] + w->first * p->channels + channel, p->channels, w->taps, count);
    }
    pool_store(p, c, out + channel, sum, w->entry, count, rounding);
  }
}

static inline void average_rows(const midge_pool_params *p, const int8_t *const *in_rows, const midge_pool_constants *c, int8_t *const *out_rows, unsigned rows,
                                int rounding) {
  pool_window window;
  for (unsigned row = 0; row < rows; ++row, in_rows += p->kernel_height) {
    int32_t above = pool_window_rows(p, in_rows, c, &window);
    for (int32_t x = 0; x < p->out_width; ++x) {
      pool_window_columns(p, x, &window);
      average_pixel(p, in_rows + above, c, out_rows[row] + x * p->channels, &window, rounding);
    }
  }
}

void midge_average_pool_s8(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                           unsigned rows, void *scratch) {
  (void)scratch;
  average_rows(params, in_rows, constants, out_rows, rows, POOL_HALF_EVEN);
}

void midge_average_pool_s8_tflite(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                                  unsigned rows, void *scratch) {
  (void)scratch;
  average_rows(params, in_rows, constants, out_rows, rows, POOL_HALF_AWAY);
}

/* out[0..channels) = the largest of the taps of one output pixel. */
static inline void max_pixel(const midge_pool_params *p, const int8_t *const *in_rows, int8_t *out, int32_t x0) {
  int32_t taps = p->kernel_width;
  while (x0 < 0) {
    x0 += p->dilation;
    --taps;
  }
  for (int32_t channel = 0; channel < p->channels; ++channel) {
    out[channel] = -128;
  }
  for (int32_t ky = 0; ky < p->kernel_height; ++ky) {
    int32_t x = x0;
    for (int32_t kx = 0; kx < taps && x < p->in_width; ++kx, x += p->dilation) {
      const int8_t *in = in_rows[ky] + x * p->channels;
      for (int32_t channel = 0; channel < p->channels; ++channel) {
        if (in[channel] > out[channel]) {
          out[channel] = in[channel];
        }
      }
    }
  }
}

void midge_max_pool_s8(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                       unsigned rows, void *scratch) {
  (void)constants;
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row, in_rows += params->kernel_height) {
    for (int32_t x = 0; x < params->out_width; ++x) {
      max_pixel(params, in_rows, out_rows[row] + x * params->channels, x * params->stride - params->pad);
    }
  }
}

static inline void mean_init(const midge_pool_params *p, int32_t *sum) {
  int32_t start = (p->counted_value - p->input_zero_point) * p->kernel_height * p->kernel_width;
  for (int32_t channel = 0; channel < p->channels; ++channel) {
    sum[channel] = start;
  }
}

static inline void mean_add(const midge_pool_params *p, const int8_t *const *in_rows, unsigned rows, int32_t *sum) {
  for (unsigned row = 0; row < rows; ++row) {
    for (int32_t channel = 0; channel < p->channels; channel += 4) {
      pool_add(sum + channel, in_rows[row] + channel, p->channels, p->in_width, (p->channels & 3) == 0 ? 4 : pool_min(p->channels - channel, 4));
    }
  }
}

void midge_mean_s8_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                        unsigned rows, void *scratch) {
  (void)in_rows;
  (void)constants;
  (void)out_rows;
  (void)rows;
  mean_init(params, scratch);
}

void midge_mean_s8_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                       unsigned rows, void *scratch) {
  (void)constants;
  (void)out_rows;
  mean_add(params, in_rows, rows, scratch);
}

void midge_mean_s8_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                          unsigned rows, void *scratch) {
  (void)in_rows;
  (void)rows;
  pool_store(params, constants, out_rows[0], scratch, 0, params->channels, POOL_HALF_EVEN);
}

void midge_mean_s8_tflite_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                               unsigned rows, void *scratch) {
  (void)in_rows;
  (void)constants;
  (void)out_rows;
  (void)rows;
  mean_init(params, scratch);
}

void midge_mean_s8_tflite_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                              unsigned rows, void *scratch) {
  (void)constants;
  (void)out_rows;
  mean_add(params, in_rows, rows, scratch);
}

void midge_mean_s8_tflite_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                                 unsigned rows, void *scratch) {
  (void)in_rows;
  (void)rows;
  pool_store(params, constants, out_rows[0], scratch, 0, params->channels, POOL_TWICE);
}

void midge_mean_half_away_s8_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                                  unsigned rows, void *scratch) {
  (void)in_rows;
  (void)constants;
  (void)out_rows;
  (void)rows;
  mean_init(params, scratch);
}

void midge_mean_half_away_s8_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                                 unsigned rows, void *scratch) {
  (void)constants;
  (void)out_rows;
  mean_add(params, in_rows, rows, scratch);
}

void midge_mean_half_away_s8_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                    int8_t *const *out_rows, unsigned rows, void *scratch) {
  (void)in_rows;
  (void)rows;
  pool_store(params, constants, out_rows[0], scratch, 0, params->channels, POOL_HALF_AWAY);
}
