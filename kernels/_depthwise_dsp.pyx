# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "depthwise_dsp.h":
    ctypedef struct midge_conv2d_params:
        pass
    ctypedef struct midge_depthwise_dsp_constants:
        pass
    ctypedef struct midge_depthwise_direct_constants:
        pass
    ctypedef struct midge_depthwise_planar_constants:
        pass
    void midge_depthwise_dsp_s8(const midge_conv2d_params *, const int8_t *const *, const midge_depthwise_dsp_constants *, int8_t *const *, unsigned, void *)
    void midge_depthwise_direct_s8(const midge_conv2d_params *, const int8_t *const *, const midge_depthwise_direct_constants *, int8_t *const *, unsigned,
                                   void *)
    void midge_depthwise_planar_s8(const midge_conv2d_params *, const int8_t *const *, const midge_depthwise_planar_constants *, int8_t *const *, unsigned,
                                   void *)
    void midge_depthwise_planar_row_s8(const int8_t *const *, const int32_t *, int8_t *, const midge_conv2d_params *)
    void midge_depthwise_planar_row_s8_tflite(const int8_t *const *, const int32_t *, int8_t *, const midge_conv2d_params *)
    void midge_depthwise_planar_bytes_s8(const int8_t *const *, const int32_t *, int8_t *, const midge_conv2d_params *)
    void midge_depthwise_spread_s8(const int8_t *const *, int32_t *, const int32_t *, int32_t)
    void midge_depthwise_taps_s8(const int32_t *, const int32_t *, int8_t *const *, const int32_t *)
    void midge_depthwise_taps_s8_tflite(const int32_t *, const int32_t *, int8_t *const *, const int32_t *)
    void midge_depthwise_pixel_s8(const int8_t *const *, const int32_t *, int8_t *)
    void midge_depthwise_pixel_s8_tflite(const int8_t *const *, const int32_t *, int8_t *)


cdef call(Arguments a):
    midge_depthwise_dsp_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_depthwise_dsp_constants *>a.constants,
                           <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef call_direct(Arguments a):
    midge_depthwise_direct_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows,
                              <const midge_depthwise_direct_constants *>a.constants, <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef call_planar(Arguments a):
    midge_depthwise_planar_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows,
                              <const midge_depthwise_planar_constants *>a.constants, <int8_t *const *>a.out_rows, a.rows, a.scratch)


KERNELS = {
    "midge_depthwise_planar_s8": lambda *args: call_planar(Arguments(*args)),
    "midge_depthwise_dsp_s8": lambda *args: call(Arguments(*args)),
    "midge_depthwise_direct_s8": lambda *args: call_direct(Arguments(*args)),
}
STRUCT_SIZES = {
    "midge_depthwise_planar_constants": sizeof(midge_depthwise_planar_constants),
    "midge_conv2d_params": sizeof(midge_conv2d_params),
    "midge_depthwise_dsp_constants": sizeof(midge_depthwise_dsp_constants),
    "midge_depthwise_direct_constants": sizeof(midge_depthwise_direct_constants),
}
ADDRESSES = {
    "midge_depthwise_planar_row_s8": <uintptr_t>&midge_depthwise_planar_row_s8,
    "midge_depthwise_planar_row_s8_tflite": <uintptr_t>&midge_depthwise_planar_row_s8_tflite,
    "midge_depthwise_planar_bytes_s8": <uintptr_t>&midge_depthwise_planar_bytes_s8,
    "midge_depthwise_spread_s8": <uintptr_t>&midge_depthwise_spread_s8,
    "midge_depthwise_taps_s8": <uintptr_t>&midge_depthwise_taps_s8,
    "midge_depthwise_taps_s8_tflite": <uintptr_t>&midge_depthwise_taps_s8_tflite,
    "midge_depthwise_pixel_s8": <uintptr_t>&midge_depthwise_pixel_s8,
    "midge_depthwise_pixel_s8_tflite": <uintptr_t>&midge_depthwise_pixel_s8_tflite,
}
