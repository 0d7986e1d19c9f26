# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "conv2d_w4.h":
    ctypedef struct midge_conv2d_params:
        pass
    ctypedef struct midge_conv2d_w4_constants:
        pass
    void midge_conv2d_w4_s8(const midge_conv2d_params *, const int8_t *const *, const midge_conv2d_w4_constants *, int8_t *const *, unsigned, void *)
    void midge_conv2d_w4_s8_tflite(const midge_conv2d_params *, const int8_t *const *, const midge_conv2d_w4_constants *, int8_t *const *, unsigned, void *)

ctypedef void (*Function)(const midge_conv2d_params *, const int8_t *const *, const midge_conv2d_w4_constants *, int8_t *const *, unsigned, void *) noexcept


cdef call(Function kernel, Arguments a):
    kernel(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_conv2d_w4_constants *>a.constants,
           <int8_t *const *>a.out_rows, a.rows, a.scratch)


KERNELS = {
    "midge_conv2d_w4_s8": lambda *args: call(midge_conv2d_w4_s8, Arguments(*args)),
    "midge_conv2d_w4_s8_tflite": lambda *args: call(midge_conv2d_w4_s8_tflite, Arguments(*args)),
}
STRUCT_SIZES = {"midge_conv2d_params": sizeof(midge_conv2d_params), "midge_conv2d_w4_constants": sizeof(midge_conv2d_w4_constants)}
