# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "depthwise_mve.h":
    ctypedef struct midge_conv2d_params:
        pass
    ctypedef struct midge_depthwise_mve_constants:
        pass
    ctypedef struct midge_depthwise_strip_mve_constants:
        pass
    ctypedef struct midge_taps_mve_params:
        pass
    ctypedef struct midge_strip_mve_params:
        pass
    void midge_depthwise_strip_mve_s8(const midge_conv2d_params *, const int8_t *const *, const midge_depthwise_strip_mve_constants *, int8_t *const *, unsigned,
                                      void *)
    void midge_strip_mve_s8(const int8_t **, const int32_t *, int8_t *, const midge_strip_mve_params *)
    void midge_strip_mve_s8_tflite(const int8_t **, const int32_t *, int8_t *, const midge_strip_mve_params *)
    void midge_depthwise_mve_s8(const midge_conv2d_params *, const int8_t *const *, const midge_depthwise_mve_constants *, int8_t *const *, unsigned, void *)
    void midge_depthwise_wide_mve_s8(const midge_conv2d_params *, const int8_t *const *, const midge_depthwise_mve_constants *, int8_t *const *, unsigned, void *)
    void midge_depthwise_widest_mve_s8(const midge_conv2d_params *, const int8_t *const *, const midge_depthwise_mve_constants *, int8_t *const *, unsigned,
                                       void *)
    void midge_depthwise_narrow_mve_s8(const midge_conv2d_params *, const int8_t *const *, const midge_depthwise_mve_constants *, int8_t *const *, unsigned,
                                       void *)
    void midge_depthwise_column_mve_s8(const midge_conv2d_params *, const int8_t *const *, const midge_depthwise_mve_constants *, int8_t *const *, unsigned,
                                       void *)
    void midge_taps_mve_s8(const int8_t *const *, const int32_t *, int8_t *, const midge_taps_mve_params *)
    void midge_taps_mve_s8_tflite(const int8_t *const *, const int32_t *, int8_t *, const midge_taps_mve_params *)

ctypedef void (*Depthwise)(const midge_conv2d_params *, const int8_t *const *, const midge_depthwise_mve_constants *, int8_t *const *, unsigned, void *) noexcept


cdef depthwise(Depthwise kernel, Arguments a):
    kernel(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_depthwise_mve_constants *>a.constants,
           <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef strip(Arguments a):
    midge_depthwise_strip_mve_s8(<const midge_conv2d_params *>a.params, <const int8_t *const *>a.in_rows,
                                 <const midge_depthwise_strip_mve_constants *>a.constants, <int8_t *const *>a.out_rows, a.rows, a.scratch)


KERNELS = {
    "midge_depthwise_strip_mve_s8": lambda *args: strip(Arguments(*args)),
    "midge_depthwise_mve_s8": lambda *args: depthwise(midge_depthwise_mve_s8, Arguments(*args)),
    "midge_depthwise_wide_mve_s8": lambda *args: depthwise(midge_depthwise_wide_mve_s8, Arguments(*args)),
    "midge_depthwise_widest_mve_s8": lambda *args: depthwise(midge_depthwise_widest_mve_s8, Arguments(*args)),
    "midge_depthwise_column_mve_s8": lambda *args: depthwise(midge_depthwise_column_mve_s8, Arguments(*args)),
    "midge_depthwise_narrow_mve_s8": lambda *args: depthwise(midge_depthwise_narrow_mve_s8, Arguments(*args)),
}
STRUCT_SIZES = {
    "midge_conv2d_params": sizeof(midge_conv2d_params),
    "midge_taps_mve_params": sizeof(midge_taps_mve_params),
    "midge_strip_mve_params": sizeof(midge_strip_mve_params),
    "midge_depthwise_strip_mve_constants": sizeof(midge_depthwise_strip_mve_constants),
    "midge_depthwise_mve_constants": sizeof(midge_depthwise_mve_constants),
}
ADDRESSES = {
    "midge_strip_mve_s8": <uintptr_t>&midge_strip_mve_s8,
    "midge_strip_mve_s8_tflite": <uintptr_t>&midge_strip_mve_s8_tflite,
    "midge_taps_mve_s8": <uintptr_t>&midge_taps_mve_s8,
    "midge_taps_mve_s8_tflite": <uintptr_t>&midge_taps_mve_s8_tflite,
}
