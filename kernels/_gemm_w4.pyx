# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "gemm_w4.h":
    void midge_gemm_w4_s8(const int32_t *, const int32_t *, int8_t *, int8_t *)
    void midge_gemm_w4_s8_tflite(const int32_t *, const int32_t *, int8_t *, int8_t *)
    void midge_dense_w4_s8(const int32_t *, const int32_t *, int8_t *)
    void midge_dense_w4_s8_tflite(const int32_t *, const int32_t *, int8_t *)
    void midge_dense_w4_bytes_s8(const int8_t *, const int32_t *, int8_t *)
    void midge_dense_w4_bytes_s8_tflite(const int8_t *, const int32_t *, int8_t *)


KERNELS = {}
STRUCT_SIZES = {}
ADDRESSES = {
    "midge_gemm_w4_s8": <uintptr_t>&midge_gemm_w4_s8,
    "midge_gemm_w4_s8_tflite": <uintptr_t>&midge_gemm_w4_s8_tflite,
    "midge_dense_w4_s8": <uintptr_t>&midge_dense_w4_s8,
    "midge_dense_w4_s8_tflite": <uintptr_t>&midge_dense_w4_s8_tflite,
    "midge_dense_w4_bytes_s8": <uintptr_t>&midge_dense_w4_bytes_s8,
    "midge_dense_w4_bytes_s8_tflite": <uintptr_t>&midge_dense_w4_bytes_s8_tflite,
}
