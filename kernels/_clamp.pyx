# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "clamp.h":
    ctypedef struct midge_clamp_params:
        pass
    void midge_clamp_s8(const midge_clamp_params *, const int8_t *const *, const void *, int8_t *const *, unsigned, void *)


cdef call(Arguments a):
    midge_clamp_s8(<const midge_clamp_params *>a.params, <const int8_t *const *>a.in_rows, <const void *>a.constants, <int8_t *const *>a.out_rows, a.rows,
                   a.scratch)


KERNELS = {"midge_clamp_s8": lambda *args: call(Arguments(*args))}
STRUCT_SIZES = {"midge_clamp_params": sizeof(midge_clamp_params)}
