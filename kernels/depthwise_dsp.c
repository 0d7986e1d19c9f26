/* SPDX-License-Identifier: Apache-2.0 */
#include "depthwise_dsp.h"

#include "arch/dsp.h"
#include "fixedpoint.h"

/* Output and input rows of one call on a strip, and taps of a window, at most. */
enum { MIDGE_DEPTHWISE_ROWS = 8, MIDGE_DEPTHWISE_IN_ROWS = 10, MIDGE_DEPTHWISE_TAPS = 49 };

/* Two pixels of four channels, as pairs, into row 0 of one column pair of the strip. */
static inline void depthwise_spread_pair(int32_t *strip, int32_t depth, uint32_t first, uint32_t second) {
  uint32_t even0 = midge_sxtb16(first), even1 = midge_sxtb16(second), odd0 = midge_sxtb16_odd(first), odd1 = midge_sxtb16_odd(second);
  strip[0] = (int32_t)((even0 & 0xffffu) | even1 << 16);
  strip[depth] = (int32_t)((odd0 & 0xffffu) | odd1 << 16);
  strip[2 * depth] = (int32_t)(even0 >> 16 | (even1 & 0xffff0000u));
  strip[3 * depth] = (int32_t)(odd0 >> 16 | (odd1 & 0xffff0000u));
}

void midge_depthwise_spread_s8(const int8_t *const *lines, int32_t *strip, const int32_t *shape, int32_t channel) {
  int32_t depth = shape[MIDGE_DEPTHWISE_DEPTH], pixel = shape[MIDGE_DEPTHWISE_PIXEL];
  uint32_t zero = (uint32_t)shape[MIDGE_DEPTHWISE_ZERO];
  for (int32_t line = 0; line < shape[MIDGE_DEPTHWISE_LINES]; ++line) {
    const int8_t *in = lines[line] + channel;
    int32_t *to = strip + line;
    if (shape[MIDGE_DEPTHWISE_LEFT]) {
      depthwise_spread_pair(to, depth, zero, midge_load32(in));
      in += pixel;
      to += 4 * depth;
    }
    for (int32_t pair = 0; pair < shape[MIDGE_DEPTHWISE_FULL]; ++pair, in += 2 * pixel, to += 4 * depth) {
      depthwise_spread_pair(to, depth, midge_load32(in), midge_load32(in + pixel));
    }
    if (shape[MIDGE_DEPTHWISE_RIGHT]) {
      depthwise_spread_pair(to, depth, midge_load32(in), zero);
    }
  }
}

/* Byte i of a word of the stream. */
static inline int32_t depthwise_byte(int32_t word, int32_t i) { return (int8_t)(((uint32_t)word >> (8 * i)) & 0xffu); }

/* Requantize the accumulator times 2^s; what remains to shift right is n. The first of two roundings adds half of 2^(s - 1) behind the product's upper
 * word, and takes 2^(s - 1) from negative sums so that the second one rounds half away from zero. round is 2 * zero_point + 1. */
static inline int8_t depthwise_requantize(int32_t acc, int32_t multiplier, int32_t round, int32_t s, int32_t n, int rounding) {
  int64_t product = (int64_t)acc * multiplier + (rounding == MIDGE_ROUND_TWICE ? INT64_C(0x40000000) << s : 0);
  int32_t value = (int32_t)(product >> 32) + round * (int32_t)(1u << (n - 1));
  if (rounding == MIDGE_ROUND_TWICE && acc < 0) {
    value -= (int32_t)(1u << (s - 1));
  }
  return (int8_t)midge_clamp(value >> n, -128, 127);
}

/* One output row of one channel, whose strip begins at the first of its input rows. */
static inline void depthwise_taps_row(const int32_t *strip, const int32_t *stream, int8_t *out, const int32_t *shape, int rounding) {
  int32_t depth = shape[MIDGE_DEPTHWISE_DEPTH], s = depthwise_byte(stream[0], 1), n = depthwise_byte(stream[1], 1);
  for (int32_t x = 0; x < shape[MIDGE_DEPTHWISE_WIDTH]; ++x, out += shape[MIDGE_DEPTHWISE_PIXEL]) {
    int32_t acc = stream[3];
    for (int32_t ky = 0; ky < 3; ++ky) {
      for (int32_t kx = 0; kx < 3; ++kx) {
        int32_t column = x * shape[MIDGE_DEPTHWISE_STRIDE] + kx, pair = strip[column / 2 * 4 * depth + ky];
        acc += (1 << s) * depthwise_byte(stream[ky], kx == 0 ? 0 : kx + 1) * (column % 2 != 0 ? midge_high16(pair) : midge_low16(pair));
      }
    }
    *out = depthwise_requantize(acc, stream[4], shape[MIDGE_DEPTHWISE_ROUND], s, n, rounding);
  }
}

static inline void depthwise_taps(const int32_t *strip, const int32_t *stream, int8_t *const *out_rows, const int32_t *shape, int rounding) {
  int32_t stride = shape[MIDGE_DEPTHWISE_STRIDE], first = shape[MIDGE_DEPTHWISE_CHANNEL];
  for (int32_t channel = first; channel < first + shape[MIDGE_DEPTHWISE_COUNT]; ++channel, stream += 5, strip += shape[MIDGE_DEPTHWISE_DEPTH]) {
    for (int32_t row = 0; row < 2 * shape[MIDGE_DEPTHWISE_PAIRS]; ++row) {
      if (row % 2 == 0 || out_rows[row] != out_rows[row - 1]) {
        depthwise_taps_row(strip + row * stride, stream, out_rows[row] + channel, shape, rounding);
      }
    }
  }
}

void midge_depthwise_taps_s8(const int32_t *strip, const int32_t *stream, int8_t *const *out_rows, const int32_t *shape) {
  depthwise_taps(strip, stream, out_rows, shape, MIDGE_ROUND_ONCE);
}

void midge_depthwise_taps_s8_tflite(const int32_t *strip, const int32_t *stream, int8_t *const *out_rows, const int32_t *shape) {
  depthwise_taps(strip, stream, out_rows, shape, MIDGE_ROUND_TWICE);
}

/* Column pairs `from` to `to` hold padding only. */
static inline void depthwise_pad(int32_t *strip, int32_t depth, int32_t from, int32_t to, int32_t zero_point) {
  uint32_t half = (uint32_t)zero_point & 0xffffu;
  for (int32_t i = from * 4 * depth; i < to * 4 * depth; ++i) {
    strip[i] = (int32_t)(half | half << 16);
  }
}

/* What the routines are told, and padding at both ends of the strip; returns where the first pair with a pixel begins. */
static inline int32_t *depthwise_plan(const midge_conv2d_params *p, int32_t depth, int32_t zero_point, int32_t shape[MIDGE_DEPTHWISE_WORDS], int32_t *strip) {
  int32_t before = p->pad / 2, left = p->pad & 1, inside = p->in_width - left;
  int32_t used = before + left + inside / 2 + (inside & 1);
  int32_t pairs = p->stride == 1 ? (p->out_width + 1) / 2 + 1 : p->out_width + 1;
  shape[MIDGE_DEPTHWISE_PIXEL] = p->in_channels;
  shape[MIDGE_DEPTHWISE_LEFT] = left;
  shape[MIDGE_DEPTHWISE_FULL] = inside / 2;
  shape[MIDGE_DEPTHWISE_RIGHT] = inside & 1;
  shape[MIDGE_DEPTHWISE_ZERO] = (int32_t)(0x01010101u * ((uint32_t)zero_point & 0xffu));
  shape[MIDGE_DEPTHWISE_SPAN] = p->out_width / 2 * p->stride * 16 * depth;
  shape[MIDGE_DEPTHWISE_ROUND] = 2 * p->zero_point + 1;
  shape[MIDGE_DEPTHWISE_WIDTH] = p->out_width;
  shape[MIDGE_DEPTHWISE_STRIDE] = p->stride;
  shape[MIDGE_DEPTHWISE_DEPTH] = depth;
  depthwise_pad(strip, depth, 0, before, zero_point);
  depthwise_pad(strip, depth, used, pairs, zero_point);
  return strip + before * 4 * depth;
}

void midge_depthwise_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_dsp_constants *constants,
                            int8_t *const *out_rows, unsigned rows, void *scratch) {
  const midge_conv2d_params *p = params;
  const int32_t *stream = constants->stream + 1;
  const int8_t *lines[MIDGE_DEPTHWISE_IN_ROWS] = {in_rows[0], in_rows[1], in_rows[2]};
  int8_t *outs[MIDGE_DEPTHWISE_ROWS];
  int32_t shape[MIDGE_DEPTHWISE_WORDS], *strip = scratch, depth = constants->stream[0];
  int32_t *inside = depthwise_plan(p, depth, constants->pad_row[0], shape, strip);
  shape[MIDGE_DEPTHWISE_LINES] = 3;
  for (unsigned row = 0; row < rows; ++row) {
    outs[row] = outs[row | 1u] = out_rows[row];
    for (int32_t tap = 3 - p->stride; row > 0 && tap < 3; ++tap) {
      lines[shape[MIDGE_DEPTHWISE_LINES]++] = in_rows[3 * row + (unsigned)tap];
    }
  }
  shape[MIDGE_DEPTHWISE_PAIRS] = (int32_t)((rows + 1) / 2);
  for (int32_t channel = 0; channel < p->in_channels; channel += 4) {
    int32_t four =
        (p->in_channels & 3) == 0 || channel <= p->in_channels - 4 ? channel : p->in_channels - 4; /* the last ones come with some that are done already */
    constants->spread(lines, inside, shape, four);
    shape[MIDGE_DEPTHWISE_CHANNEL] = channel;
    shape[MIDGE_DEPTHWISE_COUNT] = four + 4 - channel;
    constants->taps(strip + (channel - four) * depth, stream + 5 * channel, outs, shape);
  }
}

/* Sum of one output from column `left` on, without padding, scaled. */
static inline int32_t depthwise_planar_sum(const int8_t *const *in_rows, int32_t channel, const int32_t *weights, int32_t left, int32_t width, int bytes) {
  uint32_t acc = 0;
  for (int32_t ky = 0; ky < 3; ++ky) {
    const int8_t *row = in_rows[ky] + channel * width;
    const int32_t *at = weights + (bytes ? ky : 2 * ky);
    const int32_t taps[3] = {bytes ? 256 * depthwise_byte(at[0], 3) : midge_high16(at[0]), bytes ? 256 * depthwise_byte(at[0], 1) : midge_low16(at[0]),
                             bytes ? 256 * depthwise_byte(at[0], 0) : midge_high16(at[1])};
    for (int32_t kx = 0; kx < 3; ++kx) {
      int32_t x = left + kx;
      if (x >= 0 && x < width) {
        acc += (uint32_t)(taps[kx] * row[x < (width & ~3) ? (x & ~3) | (x & 1) << 1 | (x >> 1 & 1) : x]);
      }
    }
  }
  return (int32_t)acc;
}

static inline void depthwise_planar(const int8_t *const *in_rows, const int32_t *stream, int8_t *out, const midge_conv2d_params *p, int bytes, int rounding) {
  int32_t total = stream[1], taps = bytes ? 3 : 6, step = total != 0 ? taps + 5 : taps + 6;
  stream += 3;
  for (int32_t channel = 0; channel < p->in_channels; ++channel, stream += step) {
    const int32_t *last = stream + 3 + taps;
    for (int32_t x = 0; x < p->out_width; ++x) {
      uint32_t bias = (uint32_t)stream[x == 0 ? 0 : x == p->out_width - 1 ? 2 : 1];
      int32_t acc = (int32_t)(bias + (uint32_t)depthwise_planar_sum(in_rows, channel, stream + 3, x * p->stride - p->pad, p->in_width, bytes));
      int32_t n = total != 0 ? total : last[2];
      out[x * p->out_channels + channel] = midge_requantize_upper(acc, last, n, total != 0 ? MIDGE_ROUND_ONCE : rounding);
    }
  }
}

void midge_depthwise_planar_row_s8(const int8_t *const *in_rows, const int32_t *stream, int8_t *out, const midge_conv2d_params *params) {
  depthwise_planar(in_rows, stream, out, params, 0, MIDGE_ROUND_ONCE);
}

void midge_depthwise_planar_row_s8_tflite(const int8_t *const *in_rows, const int32_t *stream, int8_t *out, const midge_conv2d_params *params) {
  depthwise_planar(in_rows, stream, out, params, 0, MIDGE_ROUND_TWICE);
}

void midge_depthwise_planar_bytes_s8(const int8_t *const *in_rows, const int32_t *stream, int8_t *out, const midge_conv2d_params *params) {
  depthwise_planar(in_rows, stream, out, params, 1, MIDGE_ROUND_ONCE);
}

void midge_depthwise_planar_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_planar_constants *constants,
                               int8_t *const *out_rows, unsigned rows, void *scratch) {
  (void)scratch;
  for (; rows > 0; --rows, in_rows += 3) {
    constants->row(in_rows, constants->stream, *out_rows++, params);
  }
}

/* Four channels of one pixel from `channel` on; returns where the stream goes on. */
static inline const int32_t *depthwise_direct_four(const int8_t *const *taps, const int32_t *stream, int32_t count, int32_t channel, int32_t round, int8_t *out,
                                                   int rounding) {
  int32_t acc[4] = {stream[0], stream[1], stream[2], stream[3]};
  stream += 4;
  for (int32_t tap = 0; tap < count; ++tap, ++stream) {
    for (int32_t i = 0; i < 4; ++i) {
      acc[i] += taps[tap][channel + i] * depthwise_byte(*stream, i);
    }
  }
  for (int32_t i = 0; i < 4; ++i, stream += 2) {
    out[channel + i] = depthwise_requantize((int32_t)((uint32_t)acc[i] << 1), stream[0], round, 1, stream[1] + 1, rounding);
  }
  return stream;
}

static inline void depthwise_direct(const int8_t *const *taps, const int32_t *stream, int8_t *out, int rounding) {
  int32_t count = stream[0], last = stream[1] - 4, round = stream[2];
  stream += 3;
  for (int32_t channel = 0; channel < last; channel += 4) {
    stream = depthwise_direct_four(taps, stream, count, channel, round, out, rounding);
  }
  (void)depthwise_direct_four(taps, stream, count, last, round, out, rounding);
}

void midge_depthwise_pixel_s8(const int8_t *const *taps, const int32_t *stream, int8_t *out) { depthwise_direct(taps, stream, out, MIDGE_ROUND_ONCE); }

void midge_depthwise_pixel_s8_tflite(const int8_t *const *taps, const int32_t *stream, int8_t *out) { depthwise_direct(taps, stream, out, MIDGE_ROUND_TWICE); }

void midge_depthwise_direct_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_direct_constants *constants,
                               int8_t *const *out_rows, unsigned rows, void *scratch) {
  const midge_conv2d_params *p = params;
  const int8_t *taps[MIDGE_DEPTHWISE_TAPS];
  (void)scratch;
  for (unsigned row = 0; row < rows; ++row, in_rows += p->kernel_height) {
    if (p->in_width == 1 && p->kernel_width == 1 && p->out_width == 1 && p->pad == 0) { /* a column: its taps are the rows */
      constants->pixel(in_rows, constants->stream, out_rows[row]);
      continue;
    }
    for (int32_t x = 0; x < p->out_width; ++x) {
      const int8_t **to = taps;
      for (int32_t ky = 0; ky < p->kernel_height; ++ky) {
        for (int32_t kx = 0, at = x * p->stride - p->pad; kx < p->kernel_width; ++kx, at += p->dilation) {
          *to++ = at >= 0 && at < p->in_width ? in_rows[ky] + at * p->in_channels : constants->pad_row;
        }
      }
      constants->pixel(taps, constants->stream, out_rows[row] + x * p->out_channels);
    }
  }
}
