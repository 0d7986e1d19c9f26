# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "move.h":
    ctypedef struct midge_move_params:
        pass
    ctypedef struct midge_move_constants:
        pass
    void midge_copy_s8(const midge_move_params *, const int8_t *const *, const midge_move_constants *, int8_t *const *, unsigned, void *)
    void midge_pad_s8(const midge_move_params *, const int8_t *const *, const midge_move_constants *, int8_t *const *, unsigned, void *)
    void midge_gather_s8(const midge_move_params *, const int8_t *const *, const midge_move_constants *, int8_t *const *, unsigned, void *)

ctypedef void (*Function)(const midge_move_params *, const int8_t *const *, const midge_move_constants *, int8_t *const *, unsigned, void *) noexcept


cdef call(Function kernel, Arguments a):
    kernel(<const midge_move_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_move_constants *>a.constants,
           <int8_t *const *>a.out_rows, a.rows, a.scratch)


KERNELS = {
    "midge_copy_s8": lambda *args: call(midge_copy_s8, Arguments(*args)),
    "midge_pad_s8": lambda *args: call(midge_pad_s8, Arguments(*args)),
    "midge_gather_s8": lambda *args: call(midge_gather_s8, Arguments(*args)),
}
STRUCT_SIZES = {"midge_move_params": sizeof(midge_move_params), "midge_move_constants": sizeof(midge_move_constants)}
