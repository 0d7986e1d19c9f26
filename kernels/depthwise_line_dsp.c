/* SPDX-License-Identifier: Apache-2.0 */
#include "depthwise_line_dsp.h"

#include "arch/dsp.h"
#include "fixedpoint.h"

static inline int32_t line_pair(int32_t low, int32_t high) { return (int32_t)(((uint32_t)low & 0xffffu) | (uint32_t)high << 16); }

/* Four channels of the pixels of a walk to the strip. */
static inline void line_spread(const int8_t *in, const int32_t *shape, int32_t *strip, int32_t depth) {
  int32_t pixel = -shape[MIDGE_LINE_LEFT], pixels = shape[MIDGE_LINE_PIXELS], pitch = shape[MIDGE_LINE_PITCH];
  int32_t zero = (int8_t)(shape[MIDGE_LINE_ZERO] & 0xff);
  for (int32_t pair = shape[MIDGE_LINE_FIRST] / 4; pixel < pixels; ++pair, pixel += 2) {
    for (int32_t c = 0; c < 4; ++c) {
      int32_t low = pixel >= 0 ? in[pixel * pitch + c] : zero;
      strip[c * depth + pair] = line_pair(low, pixel + 1 < pixels ? in[(pixel + 1) * pitch + c] : zero);
    }
  }
}

/* Weight `tap` of a channel. */
static inline int32_t line_weight(const int32_t *weights, int32_t tap) {
  int32_t place = (tap & ~3) + ((tap & 1) << 1) + ((tap & 2) >> 1);
  return (int8_t)(((uint32_t)weights[place / 4] >> (8 * (place % 4))) & 0xffu);
}

/* The output of one channel whose window begins at pixel `at`. constants: bias and weights; scaling: multiplier and C. `pitch` words from a pair of words to
 * the next. Requantization: acc holds twice the sum. */
static inline int8_t line_output(const int32_t *strip, int32_t pitch, const int32_t *constants, const int32_t *scaling, int32_t taps, int32_t at,
                                 int rounding) {
  const int32_t *weights = constants + 1;
  int32_t acc = constants[0], n = (int32_t)((uint32_t)weights[taps / 4] >> 24 & 31u);
  for (int32_t pixel = at; pixel < at + taps; ++pixel) {
    int32_t pair = strip[pixel / 4 * pitch + pixel / 2 % 2];
    acc += 2 * line_weight(weights, pixel - at) * (pixel % 2 != 0 ? midge_high16(pair) : midge_low16(pair));
  }
  return midge_requantize_upper(acc, scaling, n, rounding);
}

/* The last of the channels' fours begins at channels - 4. */
static inline int32_t line_next(int32_t channel, int32_t last) { return channel < last && channel + 4 > last ? last : channel + 4; }

static inline void line_walk(const int8_t *in, const int32_t *stream, int8_t *out, const int32_t *shape, int32_t *strip, int rounding) {
  int32_t taps = stream[MIDGE_LINE_TAPS], depth = stream[MIDGE_LINE_DEPTH], last = shape[MIDGE_LINE_CHANNELS] - 4;
  stream += MIDGE_LINE_HEAD;
  for (int32_t channel = 0; channel <= last; channel = line_next(channel, last)) {
    line_spread(in + channel, shape, strip, depth);
    for (int32_t c = 0; c < 4; ++c, stream += 4 + taps / 4) {
      for (int32_t x = 0; x < shape[MIDGE_LINE_OUTPUTS]; ++x) {
        int32_t at = x * shape[MIDGE_LINE_STRIDE];
        out[x * shape[MIDGE_LINE_PITCH] + channel + c] = line_output(strip + c * depth, 2, stream + 2, stream, taps, at, rounding);
      }
    }
  }
}

void midge_depthwise_line_s8(const int8_t *in, const int32_t *stream, int8_t *out, const int32_t *shape, int32_t *strip) {
  line_walk(in, stream, out, shape, strip, MIDGE_ROUND_ONCE);
}

void midge_depthwise_line_s8_tflite(const int8_t *in, const int32_t *stream, int8_t *out, const int32_t *shape, int32_t *strip) {
  line_walk(in, stream, out, shape, strip, MIDGE_ROUND_TWICE);
}

/* Pairs `from` to `to` of four channels hold padding only. */
static inline void line_pad(int32_t *strip, int32_t depth, int32_t from, int32_t to, int32_t zero) {
  for (int32_t pair = from; pair < to; ++pair) {
    strip[pair] = strip[depth + pair] = strip[2 * depth + pair] = strip[3 * depth + pair] = line_pair(zero, zero);
  }
}

/* Outputs whose windows begin at pixels at, at + stride * dilation, ...; those of a dilated line lie `dilation` apart. */
static inline void line_outputs(const midge_conv2d_params *p, const int8_t *in, int32_t at, const midge_depthwise_line_constants *c, int8_t *out,
                                int32_t outputs, int32_t *strip) {
  int32_t shape[MIDGE_LINE_SIZES], step = p->dilation, depth = c->stream[MIDGE_LINE_DEPTH];
  int32_t length = (outputs - 1) * p->stride + c->stream[MIDGE_LINE_TAPS];
  int32_t before = at < 0 ? (step - 1 - at) / step : 0, first = at + before * step;
  int32_t inside = first < p->in_width ? (p->in_width - first + step - 1) / step : 0, room = length - before;
  int32_t pixels = inside < room ? inside : room, zero = c->pad_row[0];
  if (pixels <= 0) { /* padding only */
    pixels = before = first = 0;
  }
  line_pad(strip, depth, 0, before / 2, zero);
  line_pad(strip, depth, (before + pixels + 1) / 2, (length + 1) / 2, zero);
  shape[MIDGE_LINE_FIRST] = before / 2 * 4;
  shape[MIDGE_LINE_LEFT] = before & 1;
  shape[MIDGE_LINE_PIXELS] = pixels;
  shape[MIDGE_LINE_ZERO] = (int32_t)(0x01010101u * ((uint32_t)zero & 0xffu));
  shape[MIDGE_LINE_OUTPUTS] = outputs;
  shape[MIDGE_LINE_PITCH] = step * p->in_channels;
  shape[MIDGE_LINE_CHANNELS] = p->in_channels;
  shape[MIDGE_LINE_STRIDE] = p->stride;
  c->line(in + first * p->in_channels, c->stream, out, shape, strip);
}

void midge_depthwise_line_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_line_constants *constants,
                                 int8_t *const *out_rows, unsigned rows, void *scratch) {
  const midge_conv2d_params *p = params;
  int32_t most = constants->stream[MIDGE_LINE_MOST], step = p->dilation;
  for (unsigned row = 0; row < rows; ++row) {
    for (int32_t phase = 0; phase < step && phase < p->out_width; ++phase) {
      for (int32_t x = phase, left; x < p->out_width; x += most * step) {
        left = (p->out_width - x + step - 1) / step;
        line_outputs(p, in_rows[row], x * p->stride - p->pad, constants, out_rows[row] + x * p->out_channels, left < most ? left : most, scratch);
      }
    }
  }
}

static inline void column_walk(const int8_t *const *in_rows, const int32_t *stream, int8_t *const *out_rows, const int32_t *shape, int32_t *strip,
                               int rounding) {
  int32_t taps = stream[MIDGE_LINE_TAPS], last = shape[MIDGE_COLUMN_CHANNELS] - 4, scaling = 2 + taps / 4;
  stream += MIDGE_LINE_HEAD;
  for (int32_t channel = 0; channel <= last; channel = line_next(channel, last)) {
    for (int32_t c = 0; c < 4; ++c, stream += scaling + 2) {
      int32_t *words = strip + 2 * c;
      for (int32_t row = 0; row < shape[MIDGE_COLUMN_ROWS]; row += 2) {
        int32_t low = in_rows[row][channel + c];
        words[row / 4 * 8 + row / 2 % 2] = line_pair(low, row + 1 < shape[MIDGE_COLUMN_ROWS] ? in_rows[row + 1][channel + c] : low);
      }
      for (int32_t y = 0; y < shape[MIDGE_COLUMN_OUTPUTS]; ++y) {
        out_rows[y][channel + c] = line_output(words, 8, stream, stream + scaling, taps, y * shape[MIDGE_COLUMN_STRIDE], rounding);
      }
    }
  }
}

void midge_depthwise_column_s8(const int8_t *const *in_rows, const int32_t *stream, int8_t *const *out_rows, const int32_t *shape, int32_t *strip) {
  column_walk(in_rows, stream, out_rows, shape, strip, MIDGE_ROUND_ONCE);
}

void midge_depthwise_column_s8_tflite(const int8_t *const *in_rows, const int32_t *stream, int8_t *const *out_rows, const int32_t *shape, int32_t *strip) {
  column_walk(in_rows, stream, out_rows, shape, strip, MIDGE_ROUND_TWICE);
}

void midge_depthwise_column_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_depthwise_column_constants *constants,
                                   int8_t *const *out_rows, unsigned rows, void *scratch) {
  int32_t shape[MIDGE_COLUMN_SIZES], outputs = (int32_t)rows;
  int8_t *const *outs = out_rows;
  int8_t *filled[MIDGE_COLUMN_MOST];
  shape[MIDGE_COLUMN_ROWS] = (outputs - 1) * params->stride + params->kernel_height;
  shape[MIDGE_COLUMN_OUTPUTS] = outputs;
  shape[MIDGE_COLUMN_CHANNELS] = params->in_channels;
  shape[MIDGE_COLUMN_STRIDE] = params->stride;
  if (outputs % 4 != 0) {
    for (int32_t y = 0; y < outputs || y % 4 != 0; ++y) {
      filled[y] = out_rows[y < outputs ? y : y - y % 4]; /* which is written last */
    }
    outs = filled;
  }
  constants->column(in_rows, constants->stream, outs, shape, scratch);
}
