# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "depthwise_thumb.h":
    ctypedef struct midge_conv2d_params:
        pass
    ctypedef struct midge_depthwise_thumb_constants:
        pass
    void midge_depthwise_thumb_s8(const midge_conv2d_params *, const int8_t *const *, const midge_depthwise_thumb_constants *, int8_t *const *, unsigned, void *)
    void midge_depthwise_thumb_wide_s8(const midge_conv2d_params *, const int8_t *const *, const midge_depthwise_thumb_constants *, int8_t *const *, unsigned, void *)
    void midge_depthwise_t2_s8(const int8_t *const *, const int32_t *, int8_t *const *)
    void midge_depthwise_t2_s8_tflite(const int8_t *const *, const int32_t *, int8_t *const *)
    void midge_depthwise_t1_s8(const int8_t *const *, const int32_t *, int8_t *const *)
    void midge_depthwise_t1_s8_tflite(const int8_t *const *, const int32_t *, int8_t *const *)


cdef call(Arguments a):
    midge_depthwise_thumb_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_depthwise_thumb_constants *>a.constants,
                             <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef call_wide(Arguments a):
    midge_depthwise_thumb_wide_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_depthwise_thumb_constants *>a.constants,
                                  <int8_t *const *>a.out_rows, a.rows, a.scratch)


KERNELS = {
    "midge_depthwise_thumb_wide_s8": lambda *args: call_wide(Arguments(*args)),
    "midge_depthwise_thumb_s8": lambda *args: call(Arguments(*args)),
}
STRUCT_SIZES = {
    "midge_conv2d_params": sizeof(midge_conv2d_params),
    "midge_depthwise_thumb_constants": sizeof(midge_depthwise_thumb_constants),
}
ADDRESSES = {
    "midge_depthwise_t2_s8": <uintptr_t>&midge_depthwise_t2_s8,
    "midge_depthwise_t2_s8_tflite": <uintptr_t>&midge_depthwise_t2_s8_tflite,
    "midge_depthwise_t1_s8": <uintptr_t>&midge_depthwise_t1_s8,
    "midge_depthwise_t1_s8_tflite": <uintptr_t>&midge_depthwise_t1_s8_tflite,
}
