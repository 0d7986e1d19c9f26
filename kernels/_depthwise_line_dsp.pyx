# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "depthwise_line_dsp.h":
    ctypedef struct midge_conv2d_params:
        pass
    ctypedef struct midge_depthwise_line_constants:
        pass
    ctypedef struct midge_depthwise_column_constants:
        pass
    void midge_depthwise_line_dsp_s8(const midge_conv2d_params *, const int8_t *const *, const midge_depthwise_line_constants *, int8_t *const *, unsigned,
                                     void *)
    void midge_depthwise_column_dsp_s8(const midge_conv2d_params *, const int8_t *const *, const midge_depthwise_column_constants *, int8_t *const *, unsigned,
                                       void *)
    void midge_depthwise_column_s8(const int8_t *const *, const int32_t *, int8_t *const *, const int32_t *, int32_t *)
    void midge_depthwise_column_s8_tflite(const int8_t *const *, const int32_t *, int8_t *const *, const int32_t *, int32_t *)
    void midge_depthwise_line_s8(const int8_t *, const int32_t *, int8_t *, const int32_t *, int32_t *)
    void midge_depthwise_line_s8_tflite(const int8_t *, const int32_t *, int8_t *, const int32_t *, int32_t *)


cdef call_column(Arguments a):
    midge_depthwise_column_dsp_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows,
                                  <const midge_depthwise_column_constants *>a.constants, <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef call(Arguments a):
    midge_depthwise_line_dsp_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows,
                                <const midge_depthwise_line_constants *>a.constants, <int8_t *const *>a.out_rows, a.rows, a.scratch)


KERNELS = {
    "midge_depthwise_line_dsp_s8": lambda *args: call(Arguments(*args)),
    "midge_depthwise_column_dsp_s8": lambda *args: call_column(Arguments(*args)),
}
STRUCT_SIZES = {
    "midge_conv2d_params": sizeof(midge_conv2d_params),
    "midge_depthwise_line_constants": sizeof(midge_depthwise_line_constants),
    "midge_depthwise_column_constants": sizeof(midge_depthwise_column_constants),
}
ADDRESSES = {
    "midge_depthwise_column_s8": <uintptr_t>&midge_depthwise_column_s8,
    "midge_depthwise_column_s8_tflite": <uintptr_t>&midge_depthwise_column_s8_tflite,
    "midge_depthwise_line_s8": <uintptr_t>&midge_depthwise_line_s8,
    "midge_depthwise_line_s8_tflite": <uintptr_t>&midge_depthwise_line_s8_tflite,
}
