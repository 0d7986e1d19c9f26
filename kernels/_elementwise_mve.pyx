# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "elementwise_mve.h":
    ctypedef struct midge_linear_params:
        pass
    void midge_linear_mve_s8(const midge_linear_params *, const int8_t *const *, const void *, int8_t *const *, unsigned, void *)


cdef linear(Arguments a):
    midge_linear_mve_s8(<const midge_linear_params *>a.params, <const int8_t *const *>a.in_rows, a.constants, <int8_t *const *>a.out_rows, a.rows, a.scratch)


KERNELS = {"midge_linear_mve_s8": lambda *args: linear(Arguments(*args))}
STRUCT_SIZES = {"midge_linear_params": sizeof(midge_linear_params)}
