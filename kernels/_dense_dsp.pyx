# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "dense_dsp.h":
    ctypedef struct midge_conv2d_params:
        pass
    ctypedef struct midge_dense_dsp_constants:
        pass
    void midge_dense_dsp_s8(const midge_conv2d_params *, const int8_t *const *, const midge_dense_dsp_constants *, int8_t *const *, unsigned, void *)
    ctypedef struct midge_dense_bytes_constants:
        pass
    void midge_dense_bytes_dsp_s8(const midge_conv2d_params *, const int8_t *const *, const midge_dense_bytes_constants *, int8_t *const *, unsigned, void *)
    void midge_dense_bytes_s8(const int8_t *, const int32_t *, int8_t *)
    void midge_dense_bytes_s8_tflite(const int8_t *, const int32_t *, int8_t *)
    void midge_dense_p8_s8(const int32_t *, const int32_t *, int8_t *)
    void midge_dense_p8_s8_tflite(const int32_t *, const int32_t *, int8_t *)
    void midge_dense_i16_s8(const int32_t *, const int32_t *, int8_t *)
    void midge_dense_i16_s8_tflite(const int32_t *, const int32_t *, int8_t *)


cdef call(Arguments a):
    midge_dense_dsp_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_dense_dsp_constants *>a.constants,
                       <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef call_bytes(Arguments a):
    midge_dense_bytes_dsp_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_dense_bytes_constants *>a.constants,
                             <int8_t *const *>a.out_rows, a.rows, a.scratch)


KERNELS = {
    "midge_dense_dsp_s8": lambda *args: call(Arguments(*args)),
    "midge_dense_bytes_dsp_s8": lambda *args: call_bytes(Arguments(*args)),
}
STRUCT_SIZES = {
    "midge_conv2d_params": sizeof(midge_conv2d_params),
    "midge_dense_dsp_constants": sizeof(midge_dense_dsp_constants),
    "midge_dense_bytes_constants": sizeof(midge_dense_bytes_constants),
}
ADDRESSES = {
    "midge_dense_bytes_s8": <uintptr_t>&midge_dense_bytes_s8,
    "midge_dense_bytes_s8_tflite": <uintptr_t>&midge_dense_bytes_s8_tflite,
    "midge_dense_p8_s8": <uintptr_t>&midge_dense_p8_s8,
    "midge_dense_p8_s8_tflite": <uintptr_t>&midge_dense_p8_s8_tflite,
    "midge_dense_i16_s8": <uintptr_t>&midge_dense_i16_s8,
    "midge_dense_i16_s8_tflite": <uintptr_t>&midge_dense_i16_s8_tflite,
}
