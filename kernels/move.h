/* SPDX-License-Identifier: Apache-2.0 */
/* Data movement: the same bytes in other places.
 *
 *   out[out_offset + i . out_stride + b] = in[in_offset + i . in_stride + b]    for every index i below dim and every b < nbytes
 *
 * All sizes, strides and offsets are bytes, so one kernel serves every element type. One input row for each output row. Transpose, Slice, Concat and
 * Pad differ only in the numbers: dimensions that are contiguous on both sides are merged and the innermost run of bytes becomes nbytes. */
#ifndef MIDGE_MOVE_H
#define MIDGE_MOVE_H

#include <stdint.h>

typedef struct {
  int32_t dim_0;           /* outermost; unused ones are 1 */
  int32_t dim_1;
  int32_t dim_2;
  int32_t dim_3;
  int32_t dim_4;           /* gather: pixels of an output row */
  int32_t in_stride_0;
  int32_t in_stride_1;
  int32_t in_stride_2;
  int32_t in_stride_3;
  int32_t in_stride_4;
  int32_t out_stride_0;
  int32_t out_stride_1;
  int32_t out_stride_2;
  int32_t out_stride_3;
  int32_t out_stride_4;
  int32_t in_offset;
  int32_t out_offset;
  int32_t nbytes;          /* contiguous on both sides; gather: of a pixel */
  int32_t out_nbytes;      /* pad: of the whole output row */
  int32_t value;           /* pad: the byte around the copied block */
} midge_move_params;

typedef struct {
  const int16_t *columns; /* gather: input pixel of each output pixel */
} midge_move_constants;

/* A block of the output row from a block of the input row; the rest of the output row is left alone. */
void midge_copy_s8(const midge_move_params *params, const int8_t *const *in_rows, const midge_move_constants *constants, int8_t *const *out_rows, unsigned rows,
                   void *scratch);

/* The output row filled with `value`, then as midge_copy_s8. */
void midge_pad_s8(const midge_move_params *params, const int8_t *const *in_rows, const midge_move_constants *constants, int8_t *const *out_rows, unsigned rows,
                  void *scratch);

/* out[x] = in[columns[x]], pixel by pixel. */
void midge_gather_s8(const midge_move_params *params, const int8_t *const *in_rows, const midge_move_constants *constants, int8_t *const *out_rows,
                     unsigned rows, void *scratch);

#endif
