# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "edge.h":
    ctypedef struct midge_edge_params:
        pass
    ctypedef struct midge_edge_constants:
        pass
    void midge_quantize_f32_s8(const midge_edge_params *, const float *const *, const midge_edge_constants *, int8_t *const *, unsigned, void *)
    void midge_quantize_f32_u8(const midge_edge_params *, const float *const *, const midge_edge_constants *, uint8_t *const *, unsigned, void *)
    void midge_dequantize_s8_f32(const midge_edge_params *, const int8_t *const *, const midge_edge_constants *, float *const *, unsigned, void *)
    void midge_dequantize_u8_f32(const midge_edge_params *, const uint8_t *const *, const midge_edge_constants *, float *const *, unsigned, void *)


cdef quantize_s8(Arguments a):
    midge_quantize_f32_s8(<const midge_edge_params *>a.params, <const float *const *>a.in_rows, <const midge_edge_constants *>a.constants,
                          <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef quantize_u8(Arguments a):
    midge_quantize_f32_u8(<const midge_edge_params *>a.params, <const float *const *>a.in_rows, <const midge_edge_constants *>a.constants,
                          <uint8_t *const *>a.out_rows, a.rows, a.scratch)


cdef dequantize_s8(Arguments a):
    midge_dequantize_s8_f32(<const midge_edge_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_edge_constants *>a.constants,
                            <float *const *>a.out_rows, a.rows, a.scratch)


cdef dequantize_u8(Arguments a):
    midge_dequantize_u8_f32(<const midge_edge_params *>a.params, <const uint8_t *const *>a.in_rows, <const midge_edge_constants *>a.constants,
                            <float *const *>a.out_rows, a.rows, a.scratch)


KERNELS = {
    "midge_quantize_f32_s8": lambda *args: quantize_s8(Arguments(*args)),
    "midge_quantize_f32_u8": lambda *args: quantize_u8(Arguments(*args)),
    "midge_dequantize_s8_f32": lambda *args: dequantize_s8(Arguments(*args)),
    "midge_dequantize_u8_f32": lambda *args: dequantize_u8(Arguments(*args)),
}
STRUCT_SIZES = {"midge_edge_params": sizeof(midge_edge_params), "midge_edge_constants": sizeof(midge_edge_constants)}
