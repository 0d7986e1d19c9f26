/* SPDX-License-Identifier: Apache-2.0 */
#include "conv2d_dsp.h"

#include <string.h>

#include "arch/dsp.h"
#include "fixedpoint.h"

/* Requantize the accumulator times 2, or times 2^s if a total shift is given: see the stream in the header. */
static inline int8_t gemm_requantize(int32_t acc, const int32_t *constants, int32_t total, int rounding) {
  return total != 0 ? midge_requantize_upper(acc, constants, total, MIDGE_ROUND_ONCE) : midge_requantize_upper(acc, constants, constants[2], rounding);
}

/* Two accumulators of channel 0 and of channel 1, scaled, from packed weights; returns the weights' end. 256 * D1 + D0 is computed in one
 * sum, D0 in another, so 256 * D1 is their exact difference. */
static inline const int32_t *gemm_p8_block(int32_t acc[4], const int32_t *acts, const int32_t *stream, int32_t depth, int32_t total) {
  int32_t both0 = acc[2], both1 = acc[3];
  for (int32_t k = 0; k < depth; k += 2, acts += 2, ++stream) {
    int32_t low = (int32_t)midge_sxtb16((uint32_t)*stream);
    acc[0] = midge_smlad(acts[0], low, acc[0]);
    acc[1] = midge_smlad(acts[1], low, acc[1]);
    both0 = midge_smlad(acts[0], *stream, both0);
    both1 = midge_smlad(acts[1], *stream, both1);
  }
  int32_t up = total != 0 ? stream[2] : 1, down = total != 0 ? stream[5] : 7;
  acc[2] = (int32_t)((uint32_t)both0 - (uint32_t)acc[0]) >> down;
  acc[3] = (int32_t)((uint32_t)both1 - (uint32_t)acc[1]) >> down;
  acc[0] = (int32_t)((uint32_t)acc[0] << up);
  acc[1] = (int32_t)((uint32_t)acc[1] << up);
  return stream;
}

/* The same from int16 weights that are scaled already. */
static inline const int32_t *gemm_i16_block(int32_t acc[4], const int32_t *acts, const int32_t *stream, int32_t depth) {
  for (int32_t k = 0; k < depth; k += 2, acts += 2, stream += 2) {
    acc[0] = midge_smlad(acts[0], stream[0], acc[0]);
    acc[1] = midge_smlad(acts[1], stream[0], acc[1]);
    acc[2] = midge_smlad(acts[0], stream[1], acc[2]);
    acc[3] = midge_smlad(acts[1], stream[1], acc[3]);
  }
  return stream;
}

static inline void gemm(const int32_t *acts, const int32_t *stream, int8_t *first, int8_t *second, int packed, int rounding) {
  const int32_t *end = stream + 5 + stream[0] / 4;
  int32_t depth = stream[1], step = stream[2], total = stream[3];
  for (stream += 5; stream != end; stream += 6, first += 2 * step, second += 2 * step) {
    int32_t acc[4] = {stream[0], stream[1], stream[2], stream[3]};
    stream = packed ? gemm_p8_block(acc, acts, stream + 4, depth, total) : gemm_i16_block(acc, acts, stream + 4, depth);
    first[0] = gemm_requantize(acc[0], stream, total, rounding);
    first[step] = gemm_requantize(acc[2], stream + 3, total, rounding);
    second[0] = gemm_requantize(acc[1], stream, total, rounding);
    second[step] = gemm_requantize(acc[3], stream + 3, total, rounding);
  }
}

void midge_gemm_p8_s8(const int32_t *acts, const int32_t *stream, int8_t *first, int8_t *second) { gemm(acts, stream, first, second, 1, MIDGE_ROUND_ONCE); }

void midge_gemm_p8_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *first, int8_t *second) {
  gemm(acts, stream, first, second, 1, MIDGE_ROUND_TWICE);
}

void midge_gemm_i16_s8(const int32_t *acts, const int32_t *stream, int8_t *first, int8_t *second) { gemm(acts, stream, first, second, 0, MIDGE_ROUND_ONCE); }

void midge_gemm_i16_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *first, int8_t *second) {
  gemm(acts, stream, first, second, 0, MIDGE_ROUND_TWICE);
}

/* Tap `tap` of one pixel. */
static inline void conv2d_dsp_put(int32_t *acts, int32_t tap, int8_t value) {
  int16_t wide = value;
  memcpy((int8_t *)(acts + tap / 4 * 4 + (tap & 1) * 2) + (tap & 2), &wide, sizeof wide);
}

static inline int32_t conv2d_dsp_clamp(int32_t value, int32_t low, int32_t high) { return value < low ? low : value > high ? high : value; }

/* Taps of one pixel from the same four bytes at `at` in all rows, `acts` being the first of their words. Bytes before and after the row's `nbytes`, four
 * or more, read as `outside`: the nearest whole word is shifted to its place, two half shifts making 32 a legal number. */
static inline void conv2d_dsp_four(const int8_t *const *rows, int32_t count, int32_t at, int32_t nbytes, uint32_t outside, int32_t *acts, int32_t step) {
  int32_t from = conv2d_dsp_clamp(at, 0, nbytes - 4), away = conv2d_dsp_clamp(at - from, -4, 4) * 4;
  int32_t up = -away * (away < 0), down = away * (away > 0);
  uint32_t filled = outside & ~(UINT32_MAX << up << up >> down >> down);
  for (; count > 0; --count, ++rows, acts += step) {
    uint32_t word = (midge_load32(*rows + from) << up << up >> down >> down) | filled;
    acts[0] = (int32_t)midge_sxtb16(word);
    acts[2] = (int32_t)midge_sxtb16_odd(word);
  }
}

/* The window of one pixel, `acts` being the first of its words. */
static inline void conv2d_dsp_window(const midge_conv2d_params *p, const int8_t *const *rows, int32_t offset, int8_t outside, int32_t *acts) {
  int32_t run = p->kernel_width * p->in_channels, fours = run & ~3, nbytes = p->in_width * p->in_channels, height = p->kernel_height;
  int32_t *rest = acts + height * fours;
  int32_t low = conv2d_dsp_clamp((3 - offset) & ~3, 0, fours), high = conv2d_dsp_clamp((nbytes - offset) & ~3, low, fours);
  for (int32_t ky = 0; ky < height; ++ky) {
    int32_t *to = acts + ky * fours;
    for (int32_t i = low; i < high; i += 4) {
      uint32_t word = midge_load32(rows[ky] + offset + i);
      to[i] = (int32_t)midge_sxtb16(word);
      to[i + 2] = (int32_t)midge_sxtb16_odd(word);
    }
  }
  for (int32_t n = 0, i; n < fours - (high - low); n += 4) { /* those before `low`, then those from `high` on */
    i = n + (high - low) * (n >= low);
    conv2d_dsp_four(rows, height, offset + i, nbytes, (uint32_t)(uint8_t)outside * 0x01010101u, acts + i, fours);
  }
  for (int32_t ky = 0, tap = 0; ky < height; ++ky) {
    for (int32_t i = fours; i < run; ++i) {
      int32_t at = offset + i;
      conv2d_dsp_put(rest, tap++, ((at >= 0) & (at < nbytes)) ? rows[ky][at] : outside);
    }
  }
}

/* The same of a pixel that meets no edge. */
static inline void conv2d_dsp_whole(const midge_conv2d_params *p, const int8_t *const *rows, int32_t offset, int32_t *acts) {
  int32_t run = p->kernel_width * p->in_channels, fours = run & ~3, tap = 0;
  int32_t *rest = acts + p->kernel_height * fours;
  for (int32_t ky = 0; ky < p->kernel_height; ++ky, acts += fours) {
    const int8_t *in = rows[ky] + offset;
    for (int32_t i = 0; i < fours; i += 4) {
      uint32_t word = midge_load32(in + i);
      acts[i] = (int32_t)midge_sxtb16(word);
      acts[i + 2] = (int32_t)midge_sxtb16_odd(word);
    }
    for (int32_t i = fours; i < run; ++i) {
      conv2d_dsp_put(rest, tap++, in[i]);
    }
  }
}

void midge_unpack_s8(const int8_t *const *first_rows, const int8_t *const *second_rows, int32_t *acts, int32_t first_offset, int32_t second_offset,
                     const midge_conv2d_params *params) {
  conv2d_dsp_whole(params, first_rows, first_offset, acts);
  conv2d_dsp_whole(params, second_rows, second_offset, acts + 1);
}

/* Input rows of a pixel, and where in them its window begins, in bytes. */
typedef struct {
  const int8_t *const *rows;
  int32_t offset;
} conv2d_dsp_pixel;

/* Acts of two pixels. One that meets an edge lends the routine the other's window, and is put in its place afterwards. */
static inline void conv2d_dsp_acts(const midge_conv2d_params *p, const midge_conv2d_dsp_constants *constants, conv2d_dsp_pixel first, conv2d_dsp_pixel second,
                                   int32_t *acts) {
  int32_t last = (p->in_width - p->kernel_width) * p->in_channels;
  int never = (p->pad == 0) & ((p->out_width - 1) * p->stride <= p->in_width - p->kernel_width); /* meets an edge */
  int inside0 = never | ((first.offset >= 0) & (first.offset <= last)), inside1 = never | ((second.offset >= 0) & (second.offset <= last));
  const conv2d_dsp_pixel pixels[2] = {first, second};
  if (inside0 | inside1) {
    conv2d_dsp_pixel left = pixels[!inside0], right = pixels[inside1];
    constants->unpack(left.rows, right.rows, acts, left.offset, right.offset, p);
  }
  for (int32_t i = never ? 2 : 0; i < 2; ++i) {
    if (((inside0 | inside1 << 1) >> i & 1) == 0) {
      conv2d_dsp_window(p, pixels[i].rows, pixels[i].offset, constants->pad_row[0], acts + i);
    }
  }
}

/* All channels of two pixels. */
static inline void conv2d_dsp_channels(const midge_conv2d_params *p, const midge_conv2d_dsp_constants *constants, const int32_t *acts, int8_t *first,
                                       int8_t *second) {
  if (p->out_channels > 1) {
    constants->gemm(acts, constants->stream, first, second);
  }
  if ((p->out_channels & 1) != 0) {
    int32_t last = (p->out_channels - 1) * constants->stream[4];
    constants->gemm(acts, constants->last, first + last, second + last);
  }
}

/* Where pixel x of an output row begins. */
static inline int32_t conv2d_dsp_place(const midge_conv2d_params *p, int32_t pitch, int32_t x) {
  if (pitch == 1) {
    return x * p->out_channels;
  }
  return x < (p->out_width & ~3) ? (x & ~3) | (x & 1) << 1 | (x >> 1 & 1) : x;
}

/* Pairs of neighbouring pixels whose windows are whole, from x to `end`; in planar rows within whole fours. */
static inline void conv2d_dsp_inside(const midge_conv2d_params *p, const midge_conv2d_dsp_constants *constants, const int8_t *const *rows, int8_t *out,
                                     int32_t x, int32_t end, int32_t *acts) {
  int32_t pitch = constants->stream[4];
  int planar = pitch != 1;
  int32_t step = p->stride * p->in_channels, offset = x * step - p->pad * p->in_channels, other = planar ? 2 : p->out_channels;
  out += conv2d_dsp_place(p, pitch, x);
  for (; x < end; x += 2, offset += 2 * step) {
    constants->unpack(rows, rows, acts, offset, offset + step, p);
    conv2d_dsp_channels(p, constants, acts, out, out + other);
    out += planar ? 1 + (x & 2) : 2 * other;
  }
}

void midge_conv2d_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_dsp_constants *constants, int8_t *const *out_rows,
                         unsigned rows, void *scratch) {
  const midge_conv2d_params *p = params;
  int32_t pitch = constants->stream[4], step = p->stride * p->in_channels, start = -p->pad * p->in_channels;
  int32_t whole = (p->in_width - p->kernel_width + p->pad) / p->stride, x = 0; /* the last pixel with a whole window */
  int32_t *acts = scratch;
  for (; rows > 0; --rows, in_rows += p->kernel_height, ++out_rows) {
    for (; x < p->out_width; x += 2) {
      int32_t width = pitch == 1 ? p->out_width : p->out_width & ~3;
      int32_t end = (whole < width ? whole : width - 1) - 1; /* the last pixel that begins a pair of them */
      if ((p->out_width > 1) & (x <= end) & (x * p->stride >= p->pad) & ((pitch == 1) | ((x & 1) == 0))) {
        end = x + ((end - x) & ~1) + 2;
        conv2d_dsp_inside(p, constants, in_rows, *out_rows, x, end, acts);
        x = end - 2;
        continue;
      }
      int8_t *out = *out_rows + conv2d_dsp_place(p, pitch, x), *other;
      conv2d_dsp_pixel first = {in_rows, start + x * step}, second = first;
      if ((p->out_width & 1) == 0 || (p->out_width > 1 && x + 1 < p->out_width)) {
        second.offset += step;
        other = *out_rows + conv2d_dsp_place(p, pitch, x + 1);
      } else if (rows > 1) {
        second.rows = in_rows + p->kernel_height;
        second.offset = start;
        other = out_rows[1];
      } else {
        other = out;
      }
      conv2d_dsp_acts(p, constants, first, second, acts);
      conv2d_dsp_channels(p, constants, acts, out, other);
    }
    x -= p->out_width;
  }
}

/* Runs of pixels of one row, or of rows that follow each other if not planar. */
static inline void pointwise(const int8_t *in, const int32_t *stream, int8_t *out, int32_t pairs, int rounding) {
  int32_t depth = stream[1], channels = stream[2], pitch = stream[3], total = stream[4];
  for (int32_t pixel = 0; pixel < 2 * pairs; ++pixel, in += depth) {
    const int32_t *walk = stream + 5;
    int8_t *to = out + (pitch == 1 ? pixel * channels : (pixel & ~3) | (pixel & 1) << 1 | (pixel >> 1 & 1));
    for (int32_t c = 0; c < channels; ++c, walk += total != 0 ? 2 : 3, to += pitch) {
      int32_t acc2 = *walk++;
      for (int32_t k = 0; k < depth; k += 4, walk += 2) {
        uint32_t word = midge_load32(in + k);
        acc2 = midge_smlad((int32_t)midge_sxtb16(word), walk[0], acc2);
        acc2 = midge_smlad((int32_t)midge_sxtb16_odd(word), walk[1], acc2);
      }
      *to = gemm_requantize(acc2, walk, total, rounding);
    }
  }
}

void midge_pointwise_s8(const int8_t *in, const int32_t *stream, int8_t *out, int32_t pairs) { pointwise(in, stream, out, pairs, MIDGE_ROUND_ONCE); }

void midge_pointwise_s8_tflite(const int8_t *in, const int32_t *stream, int8_t *out, int32_t pairs) { pointwise(in, stream, out, pairs, MIDGE_ROUND_TWICE); }

void midge_pointwise_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_pointwise_dsp_constants *constants,
                            int8_t *const *out_rows, unsigned rows, void *scratch) {
  int32_t in_bytes = params->out_width * params->in_channels, out_bytes = params->out_width * params->out_channels;
  (void)scratch;
  for (unsigned run = 1; rows > 0; rows -= run, in_rows += run, out_rows += run, run = 1) {
    int32_t width = params->out_width;
    for (; constants->stream[3] == 1 && run < rows && in_rows[run] == in_rows[run - 1] + in_bytes && out_rows[run] == out_rows[run - 1] + out_bytes; ++run) {
      width += params->out_width;
    }
    constants->pointwise(*in_rows, constants->stream, *out_rows, width >> 1);
    if (width & 1) {
      constants->pointwise(*in_rows + (width - 2) * params->in_channels, constants->stream, *out_rows + (width - 2) * params->out_channels, 1);
    }
  }
}
