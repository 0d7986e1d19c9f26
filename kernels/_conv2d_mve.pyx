# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "conv2d_mve.h":
    ctypedef struct midge_conv2d_params:
        pass
    ctypedef struct midge_conv2d_mve_constants:
        pass
    ctypedef struct midge_window_mve_params:
        pass
    ctypedef struct midge_conv2d_window_mve_constants:
        pass
    ctypedef struct midge_conv2d_columns_mve_constants:
        pass
    ctypedef struct midge_gemm_mve_params:
        pass
    void midge_pointwise_mve_s8(const midge_conv2d_params *, const int8_t *const *, const midge_conv2d_mve_constants *, int8_t *const *, unsigned, void *)
    void midge_conv2d_mve_s8(const midge_conv2d_params *, const int8_t *const *, const midge_conv2d_mve_constants *, int8_t *const *, unsigned, void *)
    void midge_conv2d_window_mve_s8(const midge_conv2d_params *, const int8_t *const *, const midge_conv2d_window_mve_constants *, int8_t *const *, unsigned,
                                    void *)
    void midge_conv2d_columns_mve_s8(const midge_conv2d_params *, const int8_t *const *, const midge_conv2d_columns_mve_constants *, int8_t *const *, unsigned,
                                     void *)
    void midge_conv2d_pixel_mve_s8(const midge_conv2d_params *, const int8_t *const *, const midge_conv2d_mve_constants *, int8_t *const *, unsigned, void *)
    void midge_window_mve_s8(const int8_t **, const int32_t *, int8_t *, const midge_window_mve_params *)
    void midge_window_mve_s8_tflite(const int8_t **, const int32_t *, int8_t *, const midge_window_mve_params *)
    void midge_gemm_mve_s8(const int8_t *, const int32_t *, int8_t *, const midge_gemm_mve_params *)
    void midge_gemm_mve_s8_tflite(const int8_t *, const int32_t *, int8_t *, const midge_gemm_mve_params *)
    void midge_dense_mve_s8(const int8_t *, const int32_t *, int8_t *, const midge_gemm_mve_params *)
    void midge_dense_mve_s8_tflite(const int8_t *, const int32_t *, int8_t *, const midge_gemm_mve_params *)


ctypedef void (*Conv)(const midge_conv2d_params *, const int8_t *const *, const midge_conv2d_mve_constants *, int8_t *const *, unsigned, void *) noexcept


cdef conv(Conv kernel, Arguments a):
    kernel(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_conv2d_mve_constants *>a.constants,
           <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef window(Arguments a):
    midge_conv2d_window_mve_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows,
                               <const midge_conv2d_window_mve_constants *>a.constants, <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef columns(Arguments a):
    midge_conv2d_columns_mve_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows,
                                <const midge_conv2d_columns_mve_constants *>a.constants, <int8_t *const *>a.out_rows, a.rows, a.scratch)


KERNELS = {
    "midge_conv2d_columns_mve_s8": lambda *args: columns(Arguments(*args)),
    "midge_pointwise_mve_s8": lambda *args: conv(midge_pointwise_mve_s8, Arguments(*args)),
    "midge_conv2d_mve_s8": lambda *args: conv(midge_conv2d_mve_s8, Arguments(*args)),
    "midge_conv2d_window_mve_s8": lambda *args: window(Arguments(*args)),
    "midge_conv2d_pixel_mve_s8": lambda *args: conv(midge_conv2d_pixel_mve_s8, Arguments(*args)),
}
STRUCT_SIZES = {
    "midge_conv2d_params": sizeof(midge_conv2d_params),
    "midge_window_mve_params": sizeof(midge_window_mve_params),
    "midge_conv2d_window_mve_constants": sizeof(midge_conv2d_window_mve_constants),
    "midge_gemm_mve_params": sizeof(midge_gemm_mve_params),
    "midge_conv2d_mve_constants": sizeof(midge_conv2d_mve_constants),
    "midge_conv2d_columns_mve_constants": sizeof(midge_conv2d_columns_mve_constants),
}
ADDRESSES = {
    "midge_window_mve_s8": <uintptr_t>&midge_window_mve_s8,
    "midge_window_mve_s8_tflite": <uintptr_t>&midge_window_mve_s8_tflite,
    "midge_gemm_mve_s8": <uintptr_t>&midge_gemm_mve_s8,
    "midge_gemm_mve_s8_tflite": <uintptr_t>&midge_gemm_mve_s8_tflite,
    "midge_dense_mve_s8": <uintptr_t>&midge_dense_mve_s8,
    "midge_dense_mve_s8_tflite": <uintptr_t>&midge_dense_mve_s8_tflite,
}
