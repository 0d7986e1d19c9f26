/* SPDX-License-Identifier: Apache-2.0 */
#include "conv2d_dsp.h"

#include <string.h>

#include "arch/dsp.h"
#include "fixedpoint.h"

/* Requantize twice the accumulator: see the stream in the header. */
static inline int8_t gemm_requantize(int32_t acc2, const int32_t *constants, int rounding) {
  int64_t product = (int64_t)acc2 * constants[0] + (rounding == MIDGE_ROUND_TWICE ? INT64_C(0x80000000) : 0);
  int32_t value = (int32_t)(product >> 32) + constants[1];
  if (rounding == MIDGE_ROUND_TWICE) {
    value += acc2 >> 31;
  }
  return (int8_t)midge_clamp(value >> constants[2], -128, 127);
}

/* Two accumulators of channel 0 and of channel 1, doubled, from packed weights; returns the weights' end. 256 * D1 + D0 is computed in one
 * sum, D0 in another, so D1 is their exact difference shifted. */
static inline const int32_t *gemm_p8_block(int32_t acc[4], const int32_t *acts, const int32_t *stream, int32_t depth) {
  int32_t both0 = acc[2], both1 = acc[3];
  for (int32_t k = 0; k < depth; k += 2, acts += 2, ++stream) {
    int32_t low = (int32_t)midge_sxtb16((uint32_t)*stream);
    acc[0] = midge_smlad(acts[0], low, acc[0]);
    acc[1] = midge_smlad(acts[1], low, acc[1]);
    both0 = midge_smlad(acts[0], *stream, both0);
    both1 = midge_smlad(acts[1], *stream, both1);
  }
  acc[2] = (int32_t)((uint32_t)both0 - (uint32_t)acc[0]) >> 7;
  acc[3] = (int32_t)((uint32_t)both1 - (uint32_t)acc[1]) >> 7;
  acc[0] = (int32_t)((uint32_t)acc[0] << 1);
  acc[1] = (int32_t)((uint32_t)acc[1] << 1);
  return stream;
}

/* The same from int16 weights that are doubled already. */
static inline const int32_t *gemm_i16_block(int32_t acc[4], const int32_t *acts, const int32_t *stream, int32_t depth) {
  for (int32_t k = 0; k < depth; k += 2, acts += 2, stream += 2) {
    acc[0] = midge_smlad(acts[0], stream[0], acc[0]);
    acc[1] = midge_smlad(acts[1], stream[0], acc[1]);
    acc[2] = midge_smlad(acts[0], stream[1], acc[2]);
    acc[3] = midge_smlad(acts[1], stream[1], acc[3]);
  }
  return stream;
}

static inline void gemm(const int32_t *acts, const int32_t *stream, int8_t *out, int32_t out_step, int packed, int rounding) {
  const int32_t *end = stream + 2 + stream[0] / 4;
  int32_t depth = stream[1];
  for (stream += 2; stream != end; stream += 6, out += 2) {
    int32_t acc[4] = {stream[0], stream[1], stream[2], stream[3]};
    stream = packed ? gemm_p8_block(acc, acts, stream + 4, depth) : gemm_i16_block(acc, acts, stream + 4, depth);
    out[0] = gemm_requantize(acc[0], stream, rounding);
    out[1] = gemm_requantize(acc[2], stream + 3, rounding);
    out[out_step] = gemm_requantize(acc[1], stream, rounding);
    out[out_step + 1] = gemm_requantize(acc[3], stream + 3, rounding);
  }
}

void midge_gemm_p8_s8(const int32_t *acts, const int32_t *stream, int8_t *out, int32_t out_step) { gemm(acts, stream, out, out_step, 1, MIDGE_ROUND_ONCE); }

void midge_gemm_p8_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *out, int32_t out_step) {
  gemm(acts, stream, out, out_step, 1, MIDGE_ROUND_TWICE);
}

void midge_gemm_i16_s8(const int32_t *acts, const int32_t *stream, int8_t *out, int32_t out_step) { gemm(acts, stream, out, out_step, 0, MIDGE_ROUND_ONCE); }

void midge_gemm_i16_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *out, int32_t out_step) {
  gemm(acts, stream, out, out_step, 0, MIDGE_ROUND_TWICE);
}

/* Copy a few bytes, four at a time. */
static inline int8_t *conv2d_dsp_copy(int8_t *to, const int8_t *from, int32_t nbytes) {
  for (; nbytes >= 4; nbytes -= 4, to += 4, from += 4) {
    uint32_t word = midge_load32(from);
    memcpy(to, &word, sizeof word);
  }
  for (; nbytes > 0; --nbytes) {
    *to++ = *from++;
  }
  return to;
}

/* The taps of the pixel at x0 one after another, zero points where they are outside, zeros up to a multiple of four. */
static inline void conv2d_dsp_gather(const midge_conv2d_params *p, const int8_t *const *in_rows, const int8_t *pad_row, int32_t x0, int whole, int8_t *to) {
  for (int32_t ky = 0; ky < p->kernel_height; ++ky) {
    if (whole) {
      to = conv2d_dsp_copy(to, in_rows[ky] + x0 * p->in_channels, p->kernel_width * p->in_channels);
      continue;
    }
    for (int32_t x = x0; x < x0 + p->kernel_width; ++x) {
      to = conv2d_dsp_copy(to, x >= 0 && x < p->in_width ? in_rows[ky] + x * p->in_channels : pad_row, p->in_channels);
    }
  }
  to[0] = to[1] = to[2] = 0;
}

/* Bytes of two pixels into acts; returns their end. */
static inline int32_t *conv2d_dsp_unpack(int32_t *acts, const int8_t *first, const int8_t *second, int32_t nbytes) {
  const int8_t *end = first + nbytes;
  for (; first != end; first += 4, second += 4, acts += 4) {
    uint32_t a = midge_load32(first), b = midge_load32(second);
    acts[0] = (int32_t)midge_sxtb16(a);
    acts[1] = (int32_t)midge_sxtb16(b);
    acts[2] = (int32_t)midge_sxtb16_odd(a);
    acts[3] = (int32_t)midge_sxtb16_odd(b);
  }
  return acts;
}

/* Acts of the pixels whose first taps are at x0 and x0 + stride. Rows are read in place where their bytes come in fours. */
static inline void conv2d_dsp_acts(const midge_conv2d_params *p, const int8_t *const *in_rows, const int8_t *pad_row, int32_t x0, int32_t depth,
                                   int32_t *acts) {
  int32_t run = p->kernel_width * p->in_channels, x1 = x0 + p->stride, last = p->in_width - p->kernel_width;
  int whole0 = x0 >= 0 && x0 <= last, whole1 = x1 >= 0 && x1 <= last;
  int8_t *window0 = (int8_t *)(acts + depth), *window1 = window0 + depth;
  int in_place0 = whole0 && run % 4 == 0, in_place1 = whole1 && run % 4 == 0;
  if (!in_place0) {
    conv2d_dsp_gather(p, in_rows, pad_row, x0, whole0, window0);
  }
  if (!in_place1) {
    conv2d_dsp_gather(p, in_rows, pad_row, x1, whole1, window1);
  }
  if (run % 4 != 0) {
    (void)conv2d_dsp_unpack(acts, window0, window1, depth);
    return;
  }
  for (int32_t ky = 0; ky < p->kernel_height; ++ky) {
    const int8_t *first = in_place0 ? in_rows[ky] + x0 * p->in_channels : window0 + ky * run;
    const int8_t *second = in_place1 ? in_rows[ky] + x1 * p->in_channels : window1 + ky * run;
    acts = conv2d_dsp_unpack(acts, first, second, run);
  }
}

void midge_conv2d_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_dsp_constants *constants, int8_t *const *out_rows,
                         unsigned rows, void *scratch) {
  const midge_conv2d_params *p = params;
  int32_t depth = constants->stream[1], channels = p->out_channels, odd = channels & 1;
  int32_t *acts = scratch;
  int8_t *spare = (int8_t *)(acts + depth) + 2 * depth + 4;
  for (unsigned row = 0; row < rows; ++row, in_rows += p->kernel_height) {
    for (int32_t x = 0; x < p->out_width; x += 2) {
      x -= x == p->out_width - 1; /* the last pixel of an odd width goes with the one before it, which is computed twice */
      int8_t *out = out_rows[row] + x * channels;
      conv2d_dsp_acts(p, in_rows, constants->pad_row, x * p->stride - p->pad, depth, acts);
      if (odd) {
        constants->gemm(acts, constants->stream, spare, channels + 1);
        memcpy(out, spare, (size_t)channels);
        memcpy(out + channels, spare + channels + 1, (size_t)channels);
      } else {
        constants->gemm(acts, constants->stream, out, channels);
      }
    }
  }
}
