# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
include "arguments.pxi"

cdef extern from "elementwise.h":
    ctypedef struct midge_binary_params:
        pass
    ctypedef struct midge_table_params:
        pass
    ctypedef struct midge_table_constants:
        pass
    ctypedef struct midge_terms_params:
        pass
    ctypedef struct midge_terms_constants:
        pass
    ctypedef struct midge_dyadic_params:
        pass
    ctypedef struct midge_prelu_params:
        pass
    ctypedef struct midge_prelu_constants:
        pass
    void midge_add_s8(const midge_binary_params *, const int8_t *const *, const void *, int8_t *const *, unsigned, void *)
    void midge_add_s8_tflite(const midge_binary_params *, const int8_t *const *, const void *, int8_t *const *, unsigned, void *)
    void midge_sub_s8(const midge_binary_params *, const int8_t *const *, const void *, int8_t *const *, unsigned, void *)
    void midge_sub_s8_tflite(const midge_binary_params *, const int8_t *const *, const void *, int8_t *const *, unsigned, void *)
    void midge_mul_s8(const midge_binary_params *, const int8_t *const *, const void *, int8_t *const *, unsigned, void *)
    void midge_mul_s8_tflite(const midge_binary_params *, const int8_t *const *, const void *, int8_t *const *, unsigned, void *)
    void midge_table_s8(const midge_table_params *, const int8_t *const *, const midge_table_constants *, int8_t *const *, unsigned, void *)
    void midge_terms_s8(const midge_terms_params *, const int8_t *const *, const midge_terms_constants *, int8_t *const *, unsigned, void *)
    void midge_terms_clamped_s8(const midge_terms_params *, const int8_t *const *, const midge_terms_constants *, int8_t *const *, unsigned, void *)
    void midge_product_s8(const midge_binary_params *, const int8_t *const *, const void *, int8_t *const *, unsigned, void *)
    void midge_product_s8_tflite(const midge_binary_params *, const int8_t *const *, const void *, int8_t *const *, unsigned, void *)
    void midge_dyadic_s8(const midge_dyadic_params *, const int8_t *const *, const void *, int8_t *const *, unsigned, void *)
    void midge_dyadic_clamped_s8(const midge_dyadic_params *, const int8_t *const *, const void *, int8_t *const *, unsigned, void *)
    void midge_prelu_s8(const midge_prelu_params *, const int8_t *const *, const midge_prelu_constants *, int8_t *const *, unsigned, void *)
    void midge_prelu_s8_tflite(const midge_prelu_params *, const int8_t *const *, const midge_prelu_constants *, int8_t *const *, unsigned, void *)

ctypedef void (*Binary)(const midge_binary_params *, const int8_t *const *, const void *, int8_t *const *, unsigned, void *) noexcept
ctypedef void (*Dyadic)(const midge_dyadic_params *, const int8_t *const *, const void *, int8_t *const *, unsigned, void *) noexcept
ctypedef void (*Terms)(const midge_terms_params *, const int8_t *const *, const midge_terms_constants *, int8_t *const *, unsigned, void *) noexcept
ctypedef void (*Prelu)(const midge_prelu_params *, const int8_t *const *, const midge_prelu_constants *, int8_t *const *, unsigned, void *) noexcept


cdef binary(Binary kernel, Arguments a):
    kernel(<const midge_binary_params *>a.params, <const int8_t *const *>a.in_rows, a.constants, <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef table(Arguments a):
    midge_table_s8(<const midge_table_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_table_constants *>a.constants,
                   <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef terms(Terms kernel, Arguments a):
    kernel(<const midge_terms_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_terms_constants *>a.constants,
           <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef dyadic(Dyadic kernel, Arguments a):
    kernel(<const midge_dyadic_params *>a.params, <const int8_t *const *>a.in_rows, a.constants, <int8_t *const *>a.out_rows, a.rows, a.scratch)


cdef prelu(Prelu kernel, Arguments a):
    kernel(<const midge_prelu_params *>a.params, <const int8_t *const *>a.in_rows, <const midge_prelu_constants *>a.constants,
           <int8_t *const *>a.out_rows, a.rows, a.scratch)


KERNELS = {
    "midge_add_s8": lambda *args: binary(midge_add_s8, Arguments(*args)),
    "midge_add_s8_tflite": lambda *args: binary(midge_add_s8_tflite, Arguments(*args)),
    "midge_sub_s8": lambda *args: binary(midge_sub_s8, Arguments(*args)),
    "midge_sub_s8_tflite": lambda *args: binary(midge_sub_s8_tflite, Arguments(*args)),
    "midge_mul_s8": lambda *args: binary(midge_mul_s8, Arguments(*args)),
    "midge_mul_s8_tflite": lambda *args: binary(midge_mul_s8_tflite, Arguments(*args)),
    "midge_table_s8": lambda *args: table(Arguments(*args)),
    "midge_terms_s8": lambda *args: terms(midge_terms_s8, Arguments(*args)),
    "midge_terms_clamped_s8": lambda *args: terms(midge_terms_clamped_s8, Arguments(*args)),
    "midge_product_s8": lambda *args: binary(midge_product_s8, Arguments(*args)),
    "midge_product_s8_tflite": lambda *args: binary(midge_product_s8_tflite, Arguments(*args)),
    "midge_dyadic_s8": lambda *args: dyadic(midge_dyadic_s8, Arguments(*args)),
    "midge_dyadic_clamped_s8": lambda *args: dyadic(midge_dyadic_clamped_s8, Arguments(*args)),
    "midge_prelu_s8": lambda *args: prelu(midge_prelu_s8, Arguments(*args)),
    "midge_prelu_s8_tflite": lambda *args: prelu(midge_prelu_s8_tflite, Arguments(*args)),
}
STRUCT_SIZES = {
    "midge_binary_params": sizeof(midge_binary_params),
    "midge_table_params": sizeof(midge_table_params),
    "midge_table_constants": sizeof(midge_table_constants),
    "midge_terms_params": sizeof(midge_terms_params),
    "midge_terms_constants": sizeof(midge_terms_constants),
    "midge_dyadic_params": sizeof(midge_dyadic_params),
    "midge_prelu_params": sizeof(midge_prelu_params),
    "midge_prelu_constants": sizeof(midge_prelu_constants),
}
