# SPDX-License-Identifier: Apache-2.0
"""Where the emitted C does not keep a rule of MISRA C:2012, by number, and why; likewise findings of cppcheck itself. One table for all libraries."""

from __future__ import annotations

MISRA = {
    "2.2": "A zero point or an offset of 0 is subtracted like any other, so that the text of a library does not depend on its value.",
    "2.3": "A kernel's header declares the types of all routines of its family; a library may use some of them.",
    "2.4": "The finding is on types without a tag and enumerations of constants in headers, of which a library may use some.",
    "2.5": "Sizes, shapes and scales in the library's header are for the firmware; the library itself needs few of them.",
    "2.7": "All kernels have one signature, so that one driver calls any of them; a parameter that a kernel has no use for is cast to void.",
    "5.7": "The finding is on enumerations and structs without a tag, which have no tag to be unique.",
    "7.2": "Constants within the range of a signed type take part in signed arithmetic, where a suffix would change the type.",
    "8.7": "Functions of the library's interface have external linkage for the firmware.",
    "8.9": "Parameters and constants of a layer stand beside its function under the layer's comment, where they are read and reviewed together.",
    "9.3": "An array of row pointers is filled as far as the stride needs rows; the rest is not read.",
    "10.1": "Fixed-point arithmetic shifts and masks two's complement integers, and adds the result of a comparison as 0 or 1; kernels are compared with the "
    "reference on every compiler they are tested with.",
    "10.3": "Results of comparisons and small sizes are kept in int32_t, the one integer type of the kernels; ranges are proved by the overflow table.",
    "10.4": "Counts of rows are unsigned in the common signature and meet signed geometry; both are far below 2**31.",
    "10.6": "Products are widened by converting one operand, which makes the whole expression wide.",
    "10.8": "A composite expression is cast where its value is known to fit, or is meant modulo 2**32: products of halves, differences of int8 values.",
    "11.4": "The address of the arena becomes an integer to check its alignment; that of a padding row, to make up for a negative offset.",
    "11.5": "The arena and scratch come as void pointers, because what lies there is of several types at different times; alignment is guaranteed by the plan.",
    "11.9": "A null pointer is written 0 in a kernel that includes no header with NULL.",
    "12.1": "Precedence of arithmetic, shifts and comparisons is relied on as clang-format lays it out; parentheses stand where compilers warn.",
    "12.2": "Amounts of shifts are constants, or derived from scales when compiling and checked to be in range there.",
    "12.3": "The finding is on declarations of several variables and on lists of a for statement; no comma is used to sequence side effects in an expression.",
    "13.3": "Walking pointers are incremented where they are read; each such expression has one side effect on each object.",
    "13.4": "Several accumulators or pointers are set to one value in one statement.",
    "14.2": "Loops walk several pointers at once, and a tile may be moved back to end with its row.",
    "14.4": "Flags that select a constant path are int, as in C99 without stdbool.h.",
    "15.5": "Wrong arguments and trivial cases return early, which keeps the main path flat.",
    "15.7": "Where the remaining case needs nothing, no empty branch is written.",
    "17.7": "memcpy, memset and memmove return their first argument, which the caller has.",
    "17.8": "Parameters passed by value serve as loop variables.",
    "18.4": "Rows are walked by pointer arithmetic within one buffer; bounds are proved by the planner, and tested with sanitizers and guard bytes.",
    "19.2": "The bits of a float are read through a union where the library takes or gives real numbers.",
}
"""Rule -> reason."""

CPPCHECK = {
    "shiftTooManyBitsSigned": "An arithmetic shift by 31 bits gives 0 or -1, on every compiler that midge knows; it is tested on each.",
    "variableScope": "Variables are declared together where the function's loop reads best.",
    "constVariable": "The end of a walk has the type of the pointer that walks.",
    "knownConditionTrueFalse": "A condition that holds by what was decided before it stays where it says what its branch is for.",
}
"""Identifier of cppcheck -> reason."""


def deviations_text() -> str:
    """misra_deviations.md."""
    rows = [f"| Rule {rule} | {reason} |" for rule, reason in MISRA.items()] + [f"| {key} | {reason} |" for key, reason in CPPCHECK.items()]
    head = (
        "# Deviations of emitted code\n\nRules of MISRA C:2012 by number (their texts are not reproduced here), and identifiers of cppcheck. "
        "One table for all libraries; a library need not have findings of each.\n\n| rule | why the code deviates |\n| --- | --- |\n"
    )
    return head + "\n".join(rows) + "\n"
