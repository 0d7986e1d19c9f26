# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "winograd_dsp.h":
    ctypedef struct midge_conv2d_params:
        pass
    ctypedef struct midge_winograd_constants:
        pass
    void midge_winograd4_s8(const midge_conv2d_params *, const int8_t *const *, const midge_winograd_constants *, int8_t *const *, unsigned, void *)
    void midge_winograd2_s8(const midge_conv2d_params *, const int8_t *const *, const midge_winograd_constants *, int8_t *const *, unsigned, void *)
    void midge_winograd2_half_s8(const midge_conv2d_params *, const int8_t *const *, const midge_winograd_constants *, int8_t *const *, unsigned, void *)
    void midge_winograd4_transform(const int8_t *const *, int32_t, int32_t *)
    void midge_winograd2_transform(const int8_t *const *, int32_t, int32_t *)
    void midge_winograd2_half_transform(const int8_t *const *, int32_t, int32_t *)
    void midge_winograd4_gemm_s8(int32_t *, const int32_t *, int8_t *const *, int32_t)
    void midge_winograd4_gemm_s8_tflite(int32_t *, const int32_t *, int8_t *const *, int32_t)
    void midge_winograd2_gemm_s8(int32_t *, const int32_t *, int8_t *const *, int32_t)
    void midge_winograd2_gemm_s8_tflite(int32_t *, const int32_t *, int8_t *const *, int32_t)
    void midge_winograd2_half_gemm_s8(int32_t *, const int32_t *, int8_t *const *, int32_t)
    void midge_winograd2_half_gemm_s8_tflite(int32_t *, const int32_t *, int8_t *const *, int32_t)


cdef call4(Arguments a):
    midge_winograd4_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_winograd_constants *>a.constants,
                       <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef call2(Arguments a):
    midge_winograd2_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_winograd_constants *>a.constants,
                       <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef call2_half(Arguments a):
    midge_winograd2_half_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_winograd_constants *>a.constants,
                            <int8_t *const *>a.out_rows, a.rows, a.scratch)


KERNELS = {
    "midge_winograd4_s8": lambda *args: call4(Arguments(*args)),
    "midge_winograd2_s8": lambda *args: call2(Arguments(*args)),
    "midge_winograd2_half_s8": lambda *args: call2_half(Arguments(*args)),
}
STRUCT_SIZES = {"midge_conv2d_params": sizeof(midge_conv2d_params), "midge_winograd_constants": sizeof(midge_winograd_constants)}
ADDRESSES = {
    "midge_winograd4_transform": <uintptr_t>&midge_winograd4_transform,
    "midge_winograd2_transform": <uintptr_t>&midge_winograd2_transform,
    "midge_winograd2_half_transform": <uintptr_t>&midge_winograd2_half_transform,
    "midge_winograd4_gemm_s8": <uintptr_t>&midge_winograd4_gemm_s8,
    "midge_winograd4_gemm_s8_tflite": <uintptr_t>&midge_winograd4_gemm_s8_tflite,
    "midge_winograd2_gemm_s8": <uintptr_t>&midge_winograd2_gemm_s8,
    "midge_winograd2_gemm_s8_tflite": <uintptr_t>&midge_winograd2_gemm_s8_tflite,
    "midge_winograd2_half_gemm_s8": <uintptr_t>&midge_winograd2_half_gemm_s8,
    "midge_winograd2_half_gemm_s8_tflite": <uintptr_t>&midge_winograd2_half_gemm_s8_tflite,
}
