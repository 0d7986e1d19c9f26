# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "strassen_dsp.h":
    ctypedef struct midge_conv2d_params:
        pass
    ctypedef struct midge_strassen_constants:
        pass
    void midge_strassen_dsp_s8(const midge_conv2d_params *, const int8_t *const *, const midge_strassen_constants *, int8_t *const *, unsigned, void *)
    void midge_strassen_combine(const int8_t *, int32_t *, int32_t)
    void midge_strassen_gemm_s8(const int32_t *, const int32_t *, int8_t *const *)
    void midge_strassen_gemm_s8_tflite(const int32_t *, const int32_t *, int8_t *const *)


cdef call(Arguments a):
    midge_strassen_dsp_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_strassen_constants *>a.constants,
                          <int8_t *const *>a.out_rows, a.rows, a.scratch)


KERNELS = {"midge_strassen_dsp_s8": lambda *args: call(Arguments(*args))}
STRUCT_SIZES = {"midge_conv2d_params": sizeof(midge_conv2d_params), "midge_strassen_constants": sizeof(midge_strassen_constants)}
ADDRESSES = {
    "midge_strassen_combine": <uintptr_t>&midge_strassen_combine,
    "midge_strassen_gemm_s8": <uintptr_t>&midge_strassen_gemm_s8,
    "midge_strassen_gemm_s8_tflite": <uintptr_t>&midge_strassen_gemm_s8_tflite,
}
