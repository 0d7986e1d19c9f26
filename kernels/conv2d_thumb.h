/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution on cores that multiply 32 bits by 32 and nothing narrower: four output pixels by one output channel at a time.
 *
 * An act is a word 65536 * x1 + x0, the same tap of two pixels, so that one multiplication by a weight makes two products. Sums of such words keep the two
 * pixels apart as long as the lower one stays within 16 bits: after as many taps as the actual weights allow (a chunk) the halves are added to sums of 32
 * bits. A routine walks a stream that holds, for each channel, the constants of requantization and its chunks. */
#ifndef MIDGE_CONV2D_THUMB_H
#define MIDGE_CONV2D_THUMB_H

#include <stdint.h>

#include "conv2d.h"

/* *out[i]++ of pixels i = 0..3 for all channels of the stream.
 *
 * acts: for each tap the word of pixels 0 and 1, that of pixels 2 and 3; an even number of taps.
 * stream: { channels, header }, then records, 4-byte aligned:
 *   { sum, bias, requantization }, then for each chunk a byte, which says how many bytes of the routine's code to skip, and 2 to 16 weights; a last byte.
 * With p pairs of weights in a chunk, of at most 8, the byte is (8 - p) times the size of a pair's code; one that is more than 8 times that ends the channel.
 * sum is what ends as bias + (lower half) after all chunks have added 2^15 each, less the upper halves times 2^16.
 *
 * t2, pairs of 28 bytes: header is the number of bytes of all records. t1, pairs of 26 bytes: header is the number of pieces of multipliers, and the upper half
 * of the last word of requantization the number of bytes of the record. The constants are those of thumb_requantize.h. */
typedef void midge_quads(const int32_t *acts, const int32_t *stream, int8_t *const *out);

void midge_quads_t2_s8(const int32_t *acts, const int32_t *stream, int8_t *const *out);
void midge_quads_t2_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *const *out);
void midge_quads_t1_s8(const int32_t *acts, const int32_t *stream, int8_t *const *out);
void midge_quads_t1_s8_tflite(const int32_t *acts, const int32_t *stream, int8_t *const *out);

typedef struct {
  const int32_t *stream;
  midge_quads *quads;
  const int8_t *pad_row; /* in_channels times the input's zero point */
} midge_conv2d_thumb_constants;

/* groups is 1. Pixels are computed in fours, from the last ones of a row on to those of the next; what is missing at the end is computed twice.
 * scratch: 4-byte aligned, 8 * depth bytes, where depth is kernel_height * kernel_width * in_channels rounded up to 2. */
void midge_conv2d_thumb_s8(const midge_conv2d_params *params, const int8_t *const *in_rows, const midge_conv2d_thumb_constants *constants,
                           int8_t *const *out_rows, unsigned rows, void *scratch);

#endif
