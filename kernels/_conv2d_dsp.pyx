# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "conv2d_dsp.h":
    ctypedef struct midge_conv2d_params:
        pass
    ctypedef struct midge_conv2d_dsp_constants:
        pass
    void midge_conv2d_dsp_s8(const midge_conv2d_params *, const int8_t *const *, const midge_conv2d_dsp_constants *, int8_t *const *, unsigned, void *)
    void midge_gemm_p8_s8(const int32_t *, const int32_t *, int8_t *, int8_t *)
    void midge_gemm_p8_s8_tflite(const int32_t *, const int32_t *, int8_t *, int8_t *)
    void midge_gemm_i16_s8(const int32_t *, const int32_t *, int8_t *, int8_t *)
    void midge_gemm_i16_s8_tflite(const int32_t *, const int32_t *, int8_t *, int8_t *)

    void midge_unpack_s8(const int8_t *const *, const int8_t *const *, int32_t *, int32_t, int32_t, const midge_conv2d_params *)

    ctypedef struct midge_pointwise_dsp_constants:
        pass
    void midge_pointwise_dsp_s8(const midge_conv2d_params *, const int8_t *const *, const midge_pointwise_dsp_constants *, int8_t *const *, unsigned, void *)
    void midge_pointwise_s8(const int8_t *, const int32_t *, int8_t *, int32_t)
    void midge_pointwise_s8_tflite(const int8_t *, const int32_t *, int8_t *, int32_t)


cdef call(Arguments a):
    midge_conv2d_dsp_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_conv2d_dsp_constants *>a.constants,
                        <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef call_pointwise(Arguments a):
    midge_pointwise_dsp_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_pointwise_dsp_constants *>a.constants,
                           <int8_t *const *>a.out_rows, a.rows, a.scratch)


KERNELS = {
    "midge_conv2d_dsp_s8": lambda *args: call(Arguments(*args)),
    "midge_pointwise_dsp_s8": lambda *args: call_pointwise(Arguments(*args)),
}
STRUCT_SIZES = {
    "midge_conv2d_params": sizeof(midge_conv2d_params),
    "midge_conv2d_dsp_constants": sizeof(midge_conv2d_dsp_constants),
    "midge_pointwise_dsp_constants": sizeof(midge_pointwise_dsp_constants),
}
ADDRESSES = {
    "midge_unpack_s8": <uintptr_t>&midge_unpack_s8,
    "midge_pointwise_s8": <uintptr_t>&midge_pointwise_s8,
    "midge_pointwise_s8_tflite": <uintptr_t>&midge_pointwise_s8_tflite,
    "midge_gemm_p8_s8": <uintptr_t>&midge_gemm_p8_s8,
    "midge_gemm_p8_s8_tflite": <uintptr_t>&midge_gemm_p8_s8_tflite,
    "midge_gemm_i16_s8": <uintptr_t>&midge_gemm_i16_s8,
    "midge_gemm_i16_s8_tflite": <uintptr_t>&midge_gemm_i16_s8_tflite,
}
