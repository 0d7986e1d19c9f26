/* SPDX-License-Identifier: Apache-2.0 */
#include "dense_dsp.h"

#include <stddef.h>

#include "arch/dsp.h"
#include "fixedpoint.h"

/* One weight in a lane; two, the taps in `acts`; two, the taps as `bytes`. */
enum { DENSE_ONE, DENSE_TWO, DENSE_TWO_BYTES };

/* Pair k of the taps: unpacked already, or from bytes. */
static inline int32_t dense_pair(const int32_t *acts, const int8_t *bytes, int32_t k, int form) {
  if (form == DENSE_TWO_BYTES) {
    uint32_t word = midge_load32(bytes + k / 2 * 4);
    return (int32_t)(k % 2 != 0 ? midge_sxtb16_odd(word) : midge_sxtb16(word));
  }
  return acts[k];
}

/* Accumulators of channels c and c + 1, doubled, from lanes that hold both weights. */
static inline void dense_p8(int32_t acc[2], const int32_t *acts, const int8_t *bytes, const int32_t *stream, int32_t depth, int form) {
  int32_t both = acc[1];
  for (int32_t k = 0; k < depth / 2; ++k, stream += 2) {
    int32_t act = dense_pair(acts, bytes, k, form);
    acc[0] = midge_smlad(act, (int32_t)midge_sxtb16((uint32_t)*stream), acc[0]);
    both = midge_smlad(act, *stream, both);
  }
  acc[1] = (int32_t)((uint32_t)both - (uint32_t)acc[0]) >> 7;
  acc[0] = (int32_t)((uint32_t)acc[0] << 1);
}

static inline void dense(const int32_t *acts, const int8_t *bytes, const int32_t *stream, int8_t *out, int form, int rounding) {
  const int32_t *end = stream + 2 + stream[0] / 4;
  int32_t depth = stream[1], weights = form == DENSE_ONE ? 2 * depth : depth;
  for (stream += 2; stream != end; stream += weights + 16, out += 4) {
    int32_t acc[4] = {stream[0], stream[1], stream[2], stream[3]};
    const int32_t *requantize = stream + 4 + weights;
    if (form != DENSE_ONE) {
      dense_p8(acc, acts, bytes, stream + 4, depth, form);
      dense_p8(acc + 2, acts, bytes, stream + 5, depth, form);
    }
    for (int32_t c = 0; c < 4; ++c, requantize += 3) {
      for (int32_t k = 0; form == DENSE_ONE && k < depth / 2; ++k) {
        acc[c] = midge_smlad(acts[k], stream[4 + 4 * k + c], acc[c]);
      }
      out[c] = midge_requantize_upper(acc[c], requantize, requantize[2], rounding);
    }
  }
}

void midge_dense_p8_s8(const int32_t *acts, const int32_t *stream, int8_t *out) { dense(acts, NULL, stream, out, DENSE_TWO, MIDGE_ROUND_ONCE); }

void midge_dense_p8_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *out) { dense(acts, NULL, stream, out, DENSE_TWO, MIDGE_ROUND_TWICE); }

void midge_dense_i16_s8(const int32_t *acts, const int32_t *stream, int8_t *out) { dense(acts, NULL, stream, out, DENSE_ONE, MIDGE_ROUND_ONCE); }

void midge_dense_i16_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *out) { dense(acts, NULL, stream, out, DENSE_ONE, MIDGE_ROUND_TWICE); }

void midge_dense_bytes_s8(const int8_t *in, const int32_t *stream, int8_t *out) { dense(NULL, in, stream, out, DENSE_TWO_BYTES, MIDGE_ROUND_ONCE); }

void midge_dense_bytes_s8_tflite(const int8_t *in, const int32_t *stream, int8_t *out) { dense(NULL, in, stream, out, DENSE_TWO_BYTES, MIDGE_ROUND_TWICE); }

/* Bytes into acts, in fours. */
static inline void dense_unpack(int32_t *acts, const int8_t *from, int32_t nbytes) {
  for (; nbytes > 0; nbytes -= 4, from += 4, acts += 2) {
    uint32_t word = midge_load32(from);
    acts[0] = (int32_t)midge_sxtb16(word);
    acts[1] = (int32_t)midge_sxtb16_odd(word);
  }
}

/* Bytes to where others may be: too few for a call of memcpy. */
static inline void dense_copy(int8_t *to, const int8_t *from, int32_t nbytes) {
  for (int32_t i = 0; i < nbytes; ++i) {
    to[i] = from[i];
  }
}

/* The window's bytes one run after another in `window`, where runs do not come in fours. */
static inline void dense_gather(const midge_conv2d_params *p, const int8_t *const *in_rows, int32_t depth, int8_t *window) {
  int32_t run = p->kernel_width * p->in_channels;
  midge_store32(window + depth - 4, 0);
  for (int32_t ky = 0; ky < p->kernel_height; ++ky, window += run) {
    dense_copy(window, in_rows[ky], run);
  }
}

void midge_dense_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_dense_dsp_constants *constants, int8_t *const *out_rows,
                        unsigned rows, void *scratch) {
  int32_t depth = constants->stream[1], run = params->kernel_width * params->in_channels, channels = params->out_channels;
  int32_t *acts = scratch;
  int8_t *window = (int8_t *)(acts + depth / 2), *spare = run % 4 != 0 ? window + depth : window;
  for (unsigned row = 0; row < rows; ++row, in_rows += params->kernel_height) {
    if (run % 4 != 0) {
      dense_gather(params, in_rows, depth, window);
      dense_unpack(acts, window, depth);
    } else {
      for (int32_t ky = 0; ky < params->kernel_height; ++ky) {
        dense_unpack(acts + ky * (run >> 1), in_rows[ky], run);
      }
    }
    if (channels % 4 == 0) {
      constants->dense(acts, constants->stream, out_rows[row]);
    } else {
      constants->dense(acts, constants->stream, spare);
      dense_copy(out_rows[row], spare, channels);
    }
  }
}

void midge_dense_bytes_dsp_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_dense_bytes_constants *constants,
                              int8_t *const *out_rows, unsigned rows, void *scratch) {
  int32_t channels = params->out_channels;
  for (unsigned row = 0; row < rows; ++row) {
    if (channels % 4 == 0) {
      constants->dense(in_rows[row], constants->stream, out_rows[row]);
    } else {
      constants->dense(in_rows[row], constants->stream, scratch);
      dense_copy(out_rows[row], scratch, channels);
    }
  }
}
