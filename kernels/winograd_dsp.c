/* SPDX-License-Identifier: Apache-2.0 */
#include "winograd_dsp.h"

#include <string.h>

#include "arch/dsp.h"
#include "fixedpoint.h"

/* The inverse of 9 modulo 2^32. */
#define MIDGE_WINOGRAD_NINTH UINT32_C(954437177)

/* The three forms: pixels from one tile's input to the next along one axis, of its input and of the tile, as the digits of a number. */
enum { MIDGE_WINOGRAD4 = 0x464, MIDGE_WINOGRAD2 = 0x242, MIDGE_WINOGRAD2_HALF = 0x452 };

static inline int32_t winograd_tile(int form) { return form & 15; }

static inline int32_t winograd_size(int form) { return form >> 4 & 15; }

static inline int32_t winograd_step(int form) { return form >> 8; }

/* Input columns of two tiles, and words of the work space before v. */
static inline int32_t winograd_columns(int form) { return winograd_step(form) + winograd_size(form); }

static inline int32_t winograd_room(int form) { return 2 * winograd_columns(form) * (1 + winograd_size(form)); }

/* Where row i of a transformed tile is kept, and row i of an input tile among the pixels of a column: in the order 1, 2... size - 2, 0, size - 1, or 2, 0, 1,
 * 4, 3. */
static inline int32_t winograd_slot(int32_t i, int form) {
  int32_t last = winograd_size(form) - 1;
  if (form == MIDGE_WINOGRAD2_HALF) {
    return i == 2 ? 0 : i < 2 ? i + 1 : 7 - i;
  }
  return i == 0 ? last - 1 : i == last ? i : i - 1;
}

/* B^T d of one column or row; of inputs 0 to 255 no result of two such steps exceeds 17,340. */
static inline void winograd_forward(const int32_t d[6], int32_t out[6], int form) {
  if (form == MIDGE_WINOGRAD2_HALF) {
    out[0] = d[0] - d[2];
    out[1] = d[1];
    out[2] = d[2];
    out[3] = d[3];
    out[4] = d[4] - d[2];
    return;
  }
  if (form == MIDGE_WINOGRAD2) {
    out[0] = d[0] - d[2];
    out[1] = d[1] + d[2];
    out[2] = d[2] - d[1];
    out[3] = d[1] - d[3];
    return;
  }
  out[0] = 4 * d[0] - 5 * d[2] + d[4];
  out[1] = d[3] + d[4] - 4 * (d[1] + d[2]);
  out[2] = d[4] - d[3] + 4 * (d[1] - d[2]);
  out[3] = d[4] - d[2] + 2 * (d[3] - d[1]);
  out[4] = d[4] - d[2] - 2 * (d[3] - d[1]);
  out[5] = 4 * d[1] - 5 * d[3] + d[5];
}

/* A^T m of one column or row, modulo 2^32. For 4x4 the results are scaled by 24, 12, 6, 6. */
static inline void winograd_back(const uint32_t m[6], uint32_t out[4], int form) {
  if (form == MIDGE_WINOGRAD2_HALF) {
    out[0] = m[0] + m[1] + m[2];
    out[1] = m[2] + m[3] + m[4];
    return;
  }
  if (form == MIDGE_WINOGRAD2) {
    out[0] = m[0] + m[1] + m[2];
    out[1] = m[1] - m[2] + m[3];
    return;
  }
  out[0] = m[0] + 4 * (m[1] + m[2]) + m[3] + m[4];
  out[1] = 2 * (m[1] - m[2]) + m[3] - m[4];
  out[2] = m[1] + m[2] + m[3] + m[4];
  out[3] = m[1] - m[2] + 2 * (m[3] - m[4]) + m[5];
}

/* One channel of one tile, whose columns have these places, in the order of v. */
static inline void winograd_place(const int8_t *const *rows, const int32_t *places, int32_t channel, int32_t transformed[36], int form) {
  int32_t size = winograd_size(form), lines[6][6], d[6], out[6];
  for (int32_t x = 0; x < size; ++x) {
    for (int32_t y = 0; y < size; ++y) {
      d[y] = rows[places[2 * x] + winograd_slot(y, form)][places[2 * x + 1] + channel] + 128;
    }
    winograd_forward(d, out, form);
    for (int32_t i = 0; i < size; ++i) {
      lines[i][x] = out[i];
    }
  }
  for (int32_t i = 0; i < size; ++i) {
    winograd_forward(lines[i], out, form);
    for (int32_t j = 0; j < size; ++j) {
      transformed[j * size + winograd_slot(i, form)] = out[j];
    }
  }
}

static inline void winograd_transform(const int8_t *const *rows, int32_t channels, int32_t *work, int form) {
  int32_t low[36], high[36], places = winograd_size(form) * winograd_size(form), *v = work + winograd_room(form);
  for (int32_t k = 0; k < channels; ++k) {
    const int32_t *tile = work + k % 2 * winograd_step(form) * 2;
    int32_t channel = k / 4 * 4 + k % 4 / 2;
    winograd_place(rows, tile, channel, low, form);
    winograd_place(rows, tile, channel + 2, high, form);
    for (int32_t i = 0; i < places; ++i) {
      v[i * channels + k] = (int32_t)(((uint32_t)low[i] & 0xffffu) | (uint32_t)high[i] << 16);
    }
  }
}

void midge_winograd4_transform(const int8_t *const *rows, int32_t channels, int32_t *work) { winograd_transform(rows, channels, work, MIDGE_WINOGRAD4); }

void midge_winograd2_transform(const int8_t *const *rows, int32_t channels, int32_t *work) { winograd_transform(rows, channels, work, MIDGE_WINOGRAD2); }

void midge_winograd2_half_transform(const int8_t *const *rows, int32_t channels, int32_t *work) {
  winograd_transform(rows, channels, work, MIDGE_WINOGRAD2_HALF);
}

/* The sum over channels at one place of the transformed tile: for channel 0 of both tiles, then for channel 1. */
static inline void winograd_products(const int32_t *v, const int32_t *weights, int32_t channels, int32_t sums[4]) {
  sums[0] = sums[1] = sums[2] = sums[3] = 0;
  for (int32_t k = 0; k < channels; k += 2) {
    sums[0] = midge_smlad(v[k], weights[k], sums[0]);
    sums[1] = midge_smlad(v[k + 1], weights[k], sums[1]);
    sums[2] = midge_smlad(v[k], weights[k + 1], sums[2]);
    sums[3] = midge_smlad(v[k + 1], weights[k + 1], sums[3]);
  }
}

/* From the scaled sum to the output; scale is 9 * 2^power, or 2^power for 2x2. */
static inline int8_t winograd_requantize(uint32_t sum, int32_t power, const int32_t *constants, int form, int rounding) {
  int32_t acc2 = ((int32_t)(form == MIDGE_WINOGRAD4 ? sum * MIDGE_WINOGRAD_NINTH : sum) >> (power - 1)) + constants[0];
  return midge_requantize_upper(acc2, constants + 1, constants[3], rounding);
}

/* The output tile of one channel and one tile from half-transformed columns. */
static inline void winograd_finish(uint32_t columns[6][4], const int32_t *constants, int8_t *const *out_rows, int32_t offset, int32_t out_step, int form,
                                   int rounding) {
  int32_t tile = winograd_tile(form);
  uint32_t m[6], out[4];
  for (int32_t y = tile - 1; y >= 0; --y) {
    for (int32_t j = 0; j < winograd_size(form); ++j) {
      m[j] = columns[j][y];
    }
    winograd_back(m, out, form);
    for (int32_t x = 0; x < tile; ++x) {
      int32_t power = form == MIDGE_WINOGRAD2 ? 2 : form == MIDGE_WINOGRAD2_HALF ? 1 : 6 - (y > 2 ? 2 : y) - (x > 2 ? 2 : x);
      out_rows[y][offset + x * out_step] = winograd_requantize(out[x], power, constants, form, rounding);
    }
  }
}

static inline void winograd_gemm(const int32_t *work, const int32_t *stream, int8_t *const *out_rows, int32_t out_step, int form, int rounding) {
  const int32_t *end = stream + 2 + stream[0] / 4, *v = work + winograd_room(form);
  int32_t channels = stream[1], size = winograd_size(form);
  stream += 2;
  for (int32_t c = 0; stream != end; c += 2) {
    uint32_t m[4][6], columns[4][6][4];
    int32_t sums[4];
    for (int32_t j = 0; j < size; ++j) {
      for (int32_t i = 0; i < size; ++i) {
        int32_t place = (j * size + winograd_slot(i, form)) * channels;
        winograd_products(v + place, stream + place, channels, sums);
        for (int32_t lane = 0; lane < 4; ++lane) {
          m[lane][i] = (uint32_t)sums[lane];
        }
      }
      for (int32_t lane = 0; lane < 4; ++lane) {
        winograd_back(m[lane], columns[lane][j], form);
      }
    }
    stream += size * size * channels;
    for (int32_t lane = 0; lane < 4; ++lane) {
      int32_t offset = lane % 2 * winograd_tile(form) * out_step + c + lane / 2;
      winograd_finish(columns[lane], stream + lane / 2 * 4, out_rows, offset, out_step, form, rounding);
    }
    stream += 8;
  }
}

void midge_winograd4_gemm_s8(int32_t *work, const int32_t *stream, int8_t *const *out_rows, int32_t out_step) {
  winograd_gemm(work, stream, out_rows, out_step, MIDGE_WINOGRAD4, MIDGE_ROUND_ONCE);
}

void midge_winograd4_gemm_s8_tflite(int32_t *work, const int32_t *stream, int8_t *const *out_rows, int32_t out_step) {
  winograd_gemm(work, stream, out_rows, out_step, MIDGE_WINOGRAD4, MIDGE_ROUND_TWICE);
}

void midge_winograd2_gemm_s8(int32_t *work, const int32_t *stream, int8_t *const *out_rows, int32_t out_step) {
  winograd_gemm(work, stream, out_rows, out_step, MIDGE_WINOGRAD2, MIDGE_ROUND_ONCE);
}

void midge_winograd2_gemm_s8_tflite(int32_t *work, const int32_t *stream, int8_t *const *out_rows, int32_t out_step) {
  winograd_gemm(work, stream, out_rows, out_step, MIDGE_WINOGRAD2, MIDGE_ROUND_TWICE);
}

void midge_winograd2_half_gemm_s8(int32_t *work, const int32_t *stream, int8_t *const *out_rows, int32_t out_step) {
  winograd_gemm(work, stream, out_rows, out_step, MIDGE_WINOGRAD2_HALF, MIDGE_ROUND_ONCE);
}

void midge_winograd2_half_gemm_s8_tflite(int32_t *work, const int32_t *stream, int8_t *const *out_rows, int32_t out_step) {
  winograd_gemm(work, stream, out_rows, out_step, MIDGE_WINOGRAD2_HALF, MIDGE_ROUND_TWICE);
}

/* A pixel with as many channels as v has, zeros behind its own. */
static inline void winograd_copy(const int8_t *from, int32_t in_channels, int32_t channels, int8_t *to) {
  for (int32_t c = 0; c < channels; ++c) {
    to[c] = (int8_t)(c < in_channels ? from[c] : 0);
  }
}

/* Rows of input from taps of output rows, in the order of slots; a row that no output needs repeats the last one. Behind them, as many times, what stands
 * for pixels outside; behind these, room for a column of pixels in `channels` channels, if the input has less. */
static inline void winograd_rows(const int8_t *const *in_rows, int32_t rows, int32_t stride, const int8_t *outside, const int8_t *copies, int32_t channels,
                                 const int8_t **found, int form) {
  int32_t size = winograd_size(form);
  for (int32_t i = 0; i < size; ++i) {
    int32_t y = i < 3 ? 0 : (i - 3 + stride) / stride;
    found[winograd_slot(i, form)] = y < rows ? in_rows[3 * y + i - y * stride] : in_rows[3 * rows - 1];
    found[size + i] = outside;
    found[2 * size + i] = copies + i * channels;
  }
}

/* Places of the columns of two tiles from pixel x0 on. Where channels do not come in fours, the word at a pixel's end holds bytes of the next pixel,
 * which have weights of 0; the last pixel of a row is copied, there may be nothing behind it. */
static inline void winograd_places(const midge_conv2d_params *p, int32_t x0, int32_t channels, const int8_t *const *rows, int8_t *copies, int32_t *places,
                                   int form) {
  int32_t size = winograd_size(form);
  for (int32_t x = x0; x < x0 + winograd_columns(form); ++x, places += 2) {
    int inside = x >= 0 && x < p->in_width, copied = x == p->in_width - 1 && channels != p->in_channels;
    places[0] = copied ? 2 * size : inside ? 0 : size;
    places[1] = inside && !copied ? x * p->in_channels : 0;
    for (int32_t y = 0; copied && y < size; ++y) {
      winograd_copy(rows[y] + x * p->in_channels, p->in_channels, channels, copies + y * channels);
    }
  }
}

/* A pair of tiles goes to the output itself: the last one of a row is moved left to end with it, and output rows that do not exist go to row 0, which is
 * written last. Narrow rows and odd channels are written apart and copied. */
static inline void winograd(const midge_conv2d_params *p, const int8_t *const *in_rows, const midge_winograd_constants *k, int8_t *const *out_rows,
                            int32_t rows, void *scratch, int form) {
  int8_t *outs[4];
  int32_t tile = winograd_tile(form), size = winograd_size(form), channels = p->out_channels, even = channels + (channels & 1), width = 2 * tile;
  int32_t pixels = p->out_width < width ? p->out_width : width, inputs = k->stream[1];
  int apart = even != channels || p->out_width < width;
  int8_t *spare = (int8_t *)scratch + 4 * (winograd_room(form) + size * size * inputs), *after = spare + (apart ? width * tile * even : 0);
  const int8_t **taps = (const int8_t **)(void *)(after + 8 - ((uintptr_t)after & 7u)); /* 18 of them, in scratch to spare the stack */
  int8_t *copies = after + 8 + 18 * sizeof *taps;
  winograd_rows(in_rows, rows, p->stride, k->pad_row, copies, inputs, taps, form);
  for (int32_t next = 0; next < p->out_width; next += width) {
    int32_t x = next + pixels <= p->out_width ? next : p->out_width - pixels;
    for (int32_t y = 0; y < tile; ++y) {
      outs[y] = apart ? spare + y * width * even : out_rows[y < rows ? y : 0] + x * channels;
    }
    winograd_places(p, x * p->stride - p->pad, inputs, taps, copies, scratch, form);
    k->transform(taps, inputs, scratch);
    k->gemm(scratch, k->stream, outs, apart ? even : channels);
    for (int32_t y = 0; apart && y < rows; ++y) {
      for (int32_t i = 0; i < pixels; ++i) {
        memcpy(out_rows[y] + (x + i) * channels, outs[y] + i * even, (size_t)channels);
      }
    }
  }
}

void midge_winograd4_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_winograd_constants *constants, int8_t *const *out_rows,
                        unsigned rows, void *scratch) {
  winograd(params, in_rows, constants, out_rows, (int32_t)rows, scratch, MIDGE_WINOGRAD4);
}

void midge_winograd2_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_winograd_constants *constants, int8_t *const *out_rows,
                        unsigned rows, void *scratch) {
  winograd(params, in_rows, constants, out_rows, (int32_t)rows, scratch, MIDGE_WINOGRAD2);
}

void midge_winograd2_half_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_winograd_constants *constants,
                             int8_t *const *out_rows, unsigned rows, void *scratch) {
  winograd(params, in_rows, constants, out_rows, (int32_t)rows, scratch, MIDGE_WINOGRAD2_HALF);
}
