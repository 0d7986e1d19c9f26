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
    "10.1": "Fixed-point arithmetic shifts and masks two's complement integers, and adds the result of a comparison as 0 or 1; kernels are compared with the "
    "reference on every compiler they are tested with.",
    "10.3": "Results of comparisons and small sizes are kept in int32_t, the one integer type of the kernels; ranges are proved by the overflow table.",
    "10.4": "Counts of rows are unsigned in the common signature and meet signed geometry; both are far below 2**31.",
    "10.6": "Products are widened by converting one operand, which makes the whole expression wide.",
    "10.7": "Products are widened by converting one operand, which makes the whole expression wide.",
    "10.8": "A difference of two int8 values is computed in int32_t and converted to float in the ports' helpers: exact.",
    "11.3": "Words are read through pointers only where alignment is known from the packing; sources of unknown alignment go through memcpy.",
    "11.4": "The address of the arena is converted to an integer to check its alignment, in one place.",
    "11.5": "The arena and scratch come as void pointers, because what lies there is of several types at different times; alignment is guaranteed by the plan.",
    "11.8": "A pointer to a constant row passes through a common type of rows; nothing is written through it.",
    "12.1": "Precedence of arithmetic, shifts and comparisons is relied on as clang-format lays it out; parentheses stand where compilers warn.",
    "12.2": "Amounts of shifts are derived from scales when compiling and are in range for every layer; the range is checked there.",
    "12.3": "The finding is on declarations of several variables and on lists of a for statement; no comma is used to sequence side effects in an expression.",
    "13.3": "Walking pointers are incremented where they are read; each such expression has one side effect on each object.",
    "13.4": "An assignment's value is used where two variables are to be equal.",
    "14.2": "Loops walk several pointers at once, and a tile may be moved back to end with its row.",
    "14.4": "Flags that select a constant path are int, as in C99 without stdbool.h.",
    "15.4": "A search ends at the first hit or at the limit.",
    "15.5": "Wrong arguments and trivial cases return early, which keeps the main path flat.",
    "15.6": "A finding on a macro that is one statement.",
    "15.7": "Where the remaining case needs nothing, no empty branch is written.",
    "17.7": "memcpy, memset and memmove return their first argument, which the caller has.",
    "17.8": "Parameters passed by value serve as loop variables.",
    "18.4": "Rows are walked by pointer arithmetic within one buffer; bounds are proved by the planner, and tested with sanitizers and guard bytes.",
    "18.8": "Arrays have constant sizes; the finding is on a size given as an expression of constants.",
    "19.2": "The bits of a float are read through a union where the library takes or gives real numbers.",
    "20.5": "A macro is undefined where it is only valid within one header.",
    "20.7": "Arguments of hook macros are single tokens or casts.",
    "20.10": "Macros that name routines join the library's name to them.",
    "21.1": "The finding is on include guards and feature macros that start with the library's own name.",
}
"""Rule -> reason."""

CPPCHECK = {
    "shiftTooManyBitsSigned": "An arithmetic shift by 31 bits gives 0 or -1, on every compiler that midge knows; it is tested on each.",
    "variableScope": "Variables are declared together where the function's loop reads best.",
    "unreadVariable": "A value that only some configurations of the sources read.",
    "constParameter": "All kernels have one signature.",
    "constParameterPointer": "All kernels have one signature.",
    "constVariable": "Arrays of row pointers have the type of the common signature.",
    "constVariablePointer": "Arrays of row pointers have the type of the common signature.",
    "knownConditionTrueFalse": "A condition on constants of one library, in a kernel that serves many.",
    "unusedStructMember": "All members of the common structs are written, whatever a kernel reads of them.",
    "funcArgNamesDifferent": "A parameter may be named for its role in a definition and by the common signature in the declaration.",
    "missingInclude": "System headers are the compiler's.",
    "missingIncludeSystem": "System headers are the compiler's.",
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
