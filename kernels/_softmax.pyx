# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "softmax.h":
    ctypedef struct midge_softmax_params:
        pass
    ctypedef struct midge_softmax_constants:
        pass
    void midge_softmax_s8(const midge_softmax_params *, const int8_t *const *, const midge_softmax_constants *, int8_t *const *, unsigned, void *)
    void midge_softmax_s8_tflite(const midge_softmax_params *, const int8_t *const *, const midge_softmax_constants *, int8_t *const *, unsigned, void *)

ctypedef void (*Function)(const midge_softmax_params *, const int8_t *const *, const midge_softmax_constants *, int8_t *const *, unsigned, void *) noexcept


cdef call(Function kernel, Arguments a):
    kernel(<const midge_softmax_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_softmax_constants *>a.constants,
           <int8_t *const *>a.out_rows, a.rows, a.scratch)


KERNELS = {
    "midge_softmax_s8": lambda *args: call(midge_softmax_s8, Arguments(*args)),
    "midge_softmax_s8_tflite": lambda *args: call(midge_softmax_s8_tflite, Arguments(*args)),
}
STRUCT_SIZES = {"midge_softmax_params": sizeof(midge_softmax_params), "midge_softmax_constants": sizeof(midge_softmax_constants)}
