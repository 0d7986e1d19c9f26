# SPDX-License-Identifier: Apache-2.0
"""What every kernel takes, held as plain C memory for the length of one call. Included by each _<family>.pyx."""

import numpy as np

from libc.stdint cimport int8_t, int32_t, uint8_t, uintptr_t


cdef const void *address(object array):
    return <const void *><uintptr_t>array.ctypes.data


cdef class Arguments:
    """Arguments(params, in_rows, constants, out_rows, rows, scratch).

    params: int32 values in the order of the C struct; in_rows, constants, out_rows: addresses (integers); scratch: an address or 0.
    The memory behind the addresses must outlive the call.
    """

    cdef object keep
    cdef const void *params
    cdef const void *in_rows
    cdef const void *constants
    cdef void *out_rows
    cdef unsigned rows
    cdef void *scratch

    def __init__(self, params, in_rows, constants, out_rows, unsigned rows, scratch=0):
        held = (
            np.ascontiguousarray(params, np.int32),
            np.ascontiguousarray(in_rows, np.uintp),
            np.ascontiguousarray(constants, np.uintp),
            np.ascontiguousarray(out_rows, np.uintp),
        )
        self.keep = held
        self.params = address(held[0])
        self.in_rows = address(held[1])
        self.constants = address(held[2])
        self.out_rows = <void *>address(held[3])
        self.rows = rows
        self.scratch = <void *><uintptr_t>int(scratch)
