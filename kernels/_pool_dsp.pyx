# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "pool.c":  # what does not differ is taken from there
    pass

cdef extern from "pool_dsp.h":
    ctypedef struct midge_pool_params:
        pass
    ctypedef struct midge_pool_constants:
        pass
    void midge_average_pool_dsp_s8(const midge_pool_params *, const int8_t *const *, const midge_pool_constants *, int8_t *const *, unsigned, void *)
    void midge_average_pool_dsp_s8_tflite(const midge_pool_params *, const int8_t *const *, const midge_pool_constants *, int8_t *const *, unsigned, void *)
    void midge_max_pool_dsp_s8(const midge_pool_params *, const int8_t *const *, const midge_pool_constants *, int8_t *const *, unsigned, void *)
    void midge_mean_dsp_s8_init(const midge_pool_params *, const int8_t *const *, const midge_pool_constants *, int8_t *const *, unsigned, void *)
    void midge_mean_dsp_s8_add(const midge_pool_params *, const int8_t *const *, const midge_pool_constants *, int8_t *const *, unsigned, void *)
    void midge_mean_dsp_s8_finish(const midge_pool_params *, const int8_t *const *, const midge_pool_constants *, int8_t *const *, unsigned, void *)
    void midge_mean_dsp_s8_tflite_init(const midge_pool_params *, const int8_t *const *, const midge_pool_constants *, int8_t *const *, unsigned, void *)
    void midge_mean_dsp_s8_tflite_add(const midge_pool_params *, const int8_t *const *, const midge_pool_constants *, int8_t *const *, unsigned, void *)
    void midge_mean_dsp_s8_tflite_finish(const midge_pool_params *, const int8_t *const *, const midge_pool_constants *, int8_t *const *, unsigned, void *)
    void midge_mean_half_away_dsp_s8_init(const midge_pool_params *, const int8_t *const *, const midge_pool_constants *, int8_t *const *, unsigned, void *)
    void midge_mean_half_away_dsp_s8_add(const midge_pool_params *, const int8_t *const *, const midge_pool_constants *, int8_t *const *, unsigned, void *)
    void midge_mean_half_away_dsp_s8_finish(const midge_pool_params *, const int8_t *const *, const midge_pool_constants *, int8_t *const *, unsigned, void *)


ctypedef void (*Pool)(const midge_pool_params *, const int8_t *const *, const midge_pool_constants *, int8_t *const *, unsigned, void *) noexcept


cdef call(Pool kernel, Arguments a):
    kernel(<const midge_pool_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_pool_constants *>a.constants, <int8_t *const *>a.out_rows,
           a.rows, a.scratch)


KERNELS = {
    "midge_average_pool_dsp_s8": lambda *args: call(midge_average_pool_dsp_s8, Arguments(*args)),
    "midge_average_pool_dsp_s8_tflite": lambda *args: call(midge_average_pool_dsp_s8_tflite, Arguments(*args)),
    "midge_max_pool_dsp_s8": lambda *args: call(midge_max_pool_dsp_s8, Arguments(*args)),
    "midge_mean_dsp_s8_init": lambda *args: call(midge_mean_dsp_s8_init, Arguments(*args)),
    "midge_mean_dsp_s8_add": lambda *args: call(midge_mean_dsp_s8_add, Arguments(*args)),
    "midge_mean_dsp_s8_finish": lambda *args: call(midge_mean_dsp_s8_finish, Arguments(*args)),
    "midge_mean_dsp_s8_tflite_init": lambda *args: call(midge_mean_dsp_s8_tflite_init, Arguments(*args)),
    "midge_mean_dsp_s8_tflite_add": lambda *args: call(midge_mean_dsp_s8_tflite_add, Arguments(*args)),
    "midge_mean_dsp_s8_tflite_finish": lambda *args: call(midge_mean_dsp_s8_tflite_finish, Arguments(*args)),
    "midge_mean_half_away_dsp_s8_init": lambda *args: call(midge_mean_half_away_dsp_s8_init, Arguments(*args)),
    "midge_mean_half_away_dsp_s8_add": lambda *args: call(midge_mean_half_away_dsp_s8_add, Arguments(*args)),
    "midge_mean_half_away_dsp_s8_finish": lambda *args: call(midge_mean_half_away_dsp_s8_finish, Arguments(*args)),
}
STRUCT_SIZES = {"midge_pool_params": sizeof(midge_pool_params), "midge_pool_constants": sizeof(midge_pool_constants)}
