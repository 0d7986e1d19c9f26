/* SPDX-License-Identifier: Apache-2.0 */
#include "pool_dsp.h"

#include "arch/dsp.h"
#include "fixedpoint.h"
#include "pool_window.h"

enum { POOL_DSP_PIXELS = 255 }; /* whose sum fits in 16 bits */

/* out[i] = the larger of a[i] and b[i], and of out[i] itself if `more`, for 4 or more channels; the last words may overlap. */
static inline void pool_larger(int8_t *out, const int8_t *a, const int8_t *b, int32_t channels, int more) {
  int32_t last = channels - 4;
  for (int32_t i = 0;; i = i + 4 < last ? i + 4 : last) {
    uint32_t word = midge_max8(midge_load32(a + i), midge_load32(b + i));
    midge_store32(out + i, more ? midge_max8(word, midge_load32(out + i)) : word);
    if (i == last) {
      return;
    }
  }
}

/* out[0..channels) = the largest of the taps of one output pixel, two taps at a time. */
static inline void pool_max_pixel(const midge_pool_params *p, const int8_t *const *in_rows, int8_t *out, int32_t x0) {
  const int8_t *held = 0;
  int32_t end = x0 + p->kernel_width * p->dilation, more = 0;
  while (p->pad > 0 && x0 < 0) {
    x0 += p->dilation;
  }
  if ((p->pad > 0 || (p->out_width - 1) * p->stride + p->kernel_width * p->dilation > p->in_width) && end > p->in_width) {
    end = p->in_width;
  }
  for (int32_t ky = 0; ky < p->kernel_height; ++ky) {
    for (int32_t x = x0; x < end; x += p->dilation) {
      const int8_t *in = in_rows[ky] + x * p->channels;
      if (held == 0) {
        held = in;
        continue;
      }
      pool_larger(out, held, in, p->channels, more);
      more = 1;
      held = 0;
    }
  }
  if (held != 0) {
    pool_larger(out, held, held, p->channels, more);
  }
}

void midge_max_pool_dsp_s8(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                           unsigned rows, void *scratch) {
  (void)constants;
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row, in_rows += params->kernel_height) {
    for (int32_t x = 0; x < params->out_width; ++x) {
      pool_max_pixel(params, in_rows, out_rows[row] + x * params->channels, x * params->stride - params->pad);
    }
  }
}

/* sum[0..4) += pairs of channels 0 and 2, 1 and 3. */
static inline void pool_widen(int32_t *sum, uint32_t even, uint32_t odd) {
  sum[0] += midge_low16((int32_t)even);
  sum[1] += midge_low16((int32_t)odd);
  sum[2] += midge_high16((int32_t)even);
  sum[3] += midge_high16((int32_t)odd);
}

/* sum[0..8) += eight neighbouring channels of `pixels` <= POOL_DSP_PIXELS pixels. */
static inline void pool_sum8(int32_t *sum, const int8_t *in, int32_t step, int32_t pixels) {
  uint32_t even0 = 0, odd0 = 0, even1 = 0, odd1 = 0;
  for (; pixels > 0; --pixels, in += step) {
    uint32_t first = midge_load32(in), second = midge_load32(in + 4);
    even0 = midge_sxtab16(even0, first);
    odd0 = midge_sxtab16_odd(odd0, first);
    even1 = midge_sxtab16(even1, second);
    odd1 = midge_sxtab16_odd(odd1, second);
  }
  pool_widen(sum, even0, odd0);
  pool_widen(sum + 4, even1, odd1);
}

static inline void pool_sum4(int32_t *sum, const int8_t *in, int32_t step, int32_t pixels) {
  uint32_t even = 0, odd = 0;
  for (; pixels > 0; --pixels, in += step) {
    uint32_t word = midge_load32(in);
    even = midge_sxtab16(even, word);
    odd = midge_sxtab16_odd(odd, word);
  }
  pool_widen(sum, even, odd);
}

static inline void pool_sum1(int32_t *sum, const int8_t *in, int32_t step, int32_t pixels) {
  for (; pixels > 0; --pixels, in += step) {
    *sum += *in;
  }
}

static inline void pool_mean_add(const midge_pool_params *p, const int8_t *const *in_rows, unsigned rows, int32_t *sum) {
  for (unsigned row = 0; row < rows; ++row) {
    const int8_t *in = in_rows[row];
    for (int32_t left = p->in_width; left > 0; left -= POOL_DSP_PIXELS, in += POOL_DSP_PIXELS * p->channels) {
      int32_t pixels = left < POOL_DSP_PIXELS ? left : POOL_DSP_PIXELS, eights = p->channels & ~7;
      for (int32_t channel = 0; channel < eights; channel += 8) {
        pool_sum8(sum + channel, in + channel, p->channels, pixels);
      }
      if ((p->channels & 4) != 0) {
        pool_sum4(sum + eights, in + eights, p->channels, pixels);
      }
      for (int32_t channel = p->channels & ~3; channel < p->channels; ++channel) {
        pool_sum1(sum + channel, in + channel, p->channels, pixels);
      }
    }
  }
}

/* As pool_quotient in pool.c, in 32 bits: the multiplier is in units of 2^-shift. */
static inline int32_t pool_short_quotient(int32_t sum, int32_t multiplier, int32_t shift, int away) {
  int32_t slack = sum < 0 ? -sum : sum, value = sum * multiplier + (int32_t)(1u << (shift - 1)) + slack, quotient = value >> shift;
  int32_t half = (value & (int32_t)((1u << shift) - 1u)) <= 2 * slack;
  return quotient - (half & (away ? quotient <= 0 : quotient & 1));
}

static inline void pool_average_pixel(const midge_pool_params *p, const int8_t *const *in_rows, const midge_pool_constants *c, int8_t *out,
                                      const pool_window *w, int away) {
  int32_t last = p->channels - 4, multiplier = c->multiplier[w->entry], shift = c->shift[w->entry];
  for (int32_t channel = 0;; channel = channel + 4 < last ? channel + 4 : last) {
    uint32_t even = 0, odd = 0;
    for (int32_t ky = 0; ky < w->height; ++ky) {
      const int8_t *in = in_rows[ky] + w->first * p->channels + channel;
      for (int32_t left = w->taps; left > 0; --left, in += p->channels) {
        uint32_t word = midge_load32(in);
        even = midge_sxtab16(even, word);
        odd = midge_sxtab16_odd(odd, word);
      }
    }
    int32_t sum[4] = {w->start, w->start, w->start, w->start};
    pool_widen(sum, even, odd);
    for (int32_t i = 0; i < 4; ++i) {
      int32_t value = pool_short_quotient(sum[i], multiplier, shift, away) + p->zero_point;
      out[channel + i] = (int8_t)midge_clamp(value, p->act_min, p->act_max);
    }
    if (channel == last) {
      return;
    }
  }
}

static inline void pool_average_rows(const midge_pool_params *p, const int8_t *const *in_rows, const midge_pool_constants *c, int8_t *const *out_rows,
                                     unsigned rows, int away) {
  pool_window window;
  for (unsigned row = 0; row < rows; ++row, in_rows += p->kernel_height) {
    int32_t above = pool_window_rows(p, in_rows, c, &window);
    for (int32_t x = 0; x < p->out_width; ++x) {
      pool_window_columns(p, x, &window);
      pool_average_pixel(p, in_rows + above, c, out_rows[row] + x * p->channels, &window, away);
    }
  }
}

void midge_average_pool_dsp_s8(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                               unsigned rows, void *scratch) {
  (void)scratch;
  pool_average_rows(params, in_rows, constants, out_rows, rows, 0);
}

void midge_average_pool_dsp_s8_tflite(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                      int8_t *const *out_rows, unsigned rows, void *scratch) {
  (void)scratch;
  pool_average_rows(params, in_rows, constants, out_rows, rows, 1);
}

void midge_mean_dsp_s8_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                            unsigned rows, void *scratch) {
  midge_mean_s8_init(params, in_rows, constants, out_rows, rows, scratch);
}

void midge_mean_dsp_s8_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                           unsigned rows, void *scratch) {
  (void)constants;
  (void)out_rows;
  pool_mean_add(params, in_rows, rows, scratch);
}

void midge_mean_dsp_s8_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                              unsigned rows, void *scratch) {
  midge_mean_s8_finish(params, in_rows, constants, out_rows, rows, scratch);
}

void midge_mean_dsp_s8_tflite_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch) {
  midge_mean_s8_tflite_init(params, in_rows, constants, out_rows, rows, scratch);
}

void midge_mean_dsp_s8_tflite_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants, int8_t *const *out_rows,
                                  unsigned rows, void *scratch) {
  (void)constants;
  (void)out_rows;
  pool_mean_add(params, in_rows, rows, scratch);
}

void midge_mean_dsp_s8_tflite_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                     int8_t *const *out_rows, unsigned rows, void *scratch) {
  midge_mean_s8_tflite_finish(params, in_rows, constants, out_rows, rows, scratch);
}

void midge_mean_half_away_dsp_s8_init(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                      int8_t *const *out_rows, unsigned rows, void *scratch) {
  midge_mean_half_away_s8_init(params, in_rows, constants, out_rows, rows, scratch);
}

void midge_mean_half_away_dsp_s8_add(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                     int8_t *const *out_rows, unsigned rows, void *scratch) {
  (void)constants;
  (void)out_rows;
  pool_mean_add(params, in_rows, rows, scratch);
}

void midge_mean_half_away_dsp_s8_finish(const midge_pool_params *params, const int8_t *const *in_rows, const midge_pool_constants *constants,
                                        int8_t *const *out_rows, unsigned rows, void *scratch) {
  midge_mean_half_away_s8_finish(params, in_rows, constants, out_rows, rows, scratch);
}
