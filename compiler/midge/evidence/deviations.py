# SPDX-License-Identifier: Apache-2.0
"""Where the emitted C does not keep a rule of MISRA C:2012, by number, and why; likewise findings of cppcheck itself. One table for all libraries.

A deviation is for one rule, in some of a library's files, of one kind of construct. A finding that no deviation covers is a finding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ANY, MODEL, HEADERS, KERNELS, CODE = r".*", r"model\.c", r"[\w.]+\.h", r"(?!model\.|api\.)[\w.]+", r"(?!routines\.)[\w.]+"
"""Files of a library by their names without that of the library: NAME.h is api.h, NAME.c model.c, NAME_conv2d.c conv2d.c."""


@dataclass(frozen=True)
class Deviation:
    """`files` matches the whole name of a file; `construct` is found in the line of the finding, without its indentation."""

    rule: str
    files: str
    construct: str
    reason: str

    @property
    def name(self) -> str:
        return f"Rule {self.rule}" if re.fullmatch(r"\d+\.\d+", self.rule) else self.rule

    def covers(self, rule: str, file: str, line: str) -> bool:
        return rule == self.rule and re.fullmatch(self.files, file) is not None and re.search(self.construct, line) is not None


DEVIATIONS = (
    Deviation(
        "2.2",
        ANY,
        r"\* 1\b|\b0u? [-+|]|[-+|] -?0u?\b|ZERO_POINT",
        "A zero point or an offset of 0 is subtracted like any other, so that the text of a library does not depend on its value.",
    ),
    Deviation("2.3", KERNELS, r"typedef|\}|\w+\(", "A kernel's header declares the types of all routines of its family; a library may use some of them."),
    Deviation(
        "2.4",
        KERNELS,
        r"\b(enum|struct)\b|\}",
        "The finding is on types without a tag and enumerations of constants in headers, of which a library may use some.",
    ),
    Deviation("2.5", HEADERS, r"^#define ", "Sizes, shapes and scales in the library's header are for the firmware; the library itself needs few of them."),
    Deviation(
        "2.7",
        KERNELS,
        r"\w+\([^;]*(,|\)( \{.*)?)$|__attribute__|^\s*\w.*[,{]$",
        "All kernels have one signature, so that one driver calls any of them; a parameter that a kernel has no use for is cast to void.",
    ),
    Deviation("5.7", ANY, r"\b(struct|enum)\b.*\{", "The finding is on enumerations and structs without a tag, which have no tag to be unique."),
    Deviation(
        "7.2",
        KERNELS,
        r"\b(0x[0-9a-fA-F]+|\d+)\b",
        "Constants within the range of a signed type take part in signed arithmetic, where a suffix would change the type.",
    ),
    Deviation("8.7", ANY, r"^[\w *()]+\(|^\w.*[,{]$", "Functions of the library's interface have external linkage for the firmware."),
    Deviation(
        "8.9",
        MODEL,
        r"^static const |^\w+ static |\[\w*\] = \{",
        "Parameters and constants of a layer stand beside its function under the layer's comment, where they are read and reviewed together.",
    ),
    Deviation("9.3", ANY, r"\[\w+\]", "An array of row pointers is filled as far as the stride needs rows; the rest is not read."),
    Deviation(
        "10.1",
        ANY,
        r"<<|>>|[&|^~]|[<>=!]=|[<>]",
        "Fixed-point arithmetic shifts and masks two's complement integers, and takes the result of a comparison for 0 or 1: "
        "adds it, or joins it with & and | where no jump is to depend on it; kernels are compared with the reference on every compiler they are tested with.",
    ),
    Deviation(
        "10.3",
        ANY,
        r"=|\breturn\b|\(.*\)",
        "Results of comparisons and small sizes are kept in int32_t, the one integer type of the kernels; ranges are proved by the overflow table.",
    ),
    Deviation("10.4", ANY, r"[<>=!]=|[<>]|[-+*/&|]", "Counts of rows are unsigned in the common signature and meet signed geometry; both are far below 2**31."),
    Deviation("10.6", KERNELS, r"[*+-]|<<|\?", "Products are widened by converting one operand, which makes the whole expression wide."),
    Deviation(
        "10.8",
        ANY,
        r"\((u?int(8|16|32|64)_t|float|size_t|unsigned|int)\)",
        "A composite expression is cast where its value is known to fit, or is meant modulo 2**32: products of halves, differences of int8 values.",
    ),
    Deviation(
        "11.4",
        ANY,
        r"\(uintptr_t\)|\(u?int32_t\)",
        "The address of the arena becomes an integer to check its alignment; that of a padding row, to make up for a negative offset.",
    ),
    Deviation(
        "11.5",
        MODEL,
        r"\barena\b|\bbase\b|\b(in|out)_rows\b|\bscratch\b|\btaps\[",
        "The arena and scratch come as void pointers, because what lies there is of several types at different times; alignment is guaranteed by the plan.",
    ),
    Deviation(
        "11.5",
        KERNELS,
        r"\bscratch\b|\bvoid \*|\(const \w+ \*\)",
        "The arena and scratch come as void pointers, because what lies there is of several types at different times; alignment is guaranteed by the plan.",
    ),
    Deviation("11.9", KERNELS, r"\b0\b", "A null pointer is written 0 in a kernel that includes no header with NULL."),
    Deviation(
        "12.1",
        ANY,
        r"[-+*/%<>&|?]|=",
        "Precedence of arithmetic, shifts and comparisons is relied on as clang-format lays it out; parentheses stand where compilers warn.",
    ),
    Deviation("12.2", ANY, r"<<|>>", "Amounts of shifts are constants, or derived from scales when compiling and checked to be in range there."),
    Deviation(
        "12.3",
        ANY,
        r"^for \(|^(\w+ )+\*?\w+(\[\w*\])*( = .*)?,",
        "The finding is on declarations of several variables and on lists of a for statement; no comma is used to sequence side effects in an expression.",
    ),
    Deviation(
        "12.3",
        ANY,
        r"^(\w+ )+\*?\w+ = .*[^;]$",
        "The finding is on declarations of several variables and on lists of a for statement; no comma is used to sequence side effects in an expression.",
    ),
    Deviation("13.3", ANY, r"\+\+|--", "Walking pointers are incremented where they are read; each such expression has one side effect on each object."),
    Deviation("13.4", KERNELS, r"=.*=", "Several accumulators or pointers are set to one value in one statement."),
    Deviation("14.2", ANY, r"=|\+\+|--|^for \(", "Loops walk several pointers at once, and a tile may be moved back to end with its row."),
    Deviation("14.4", ANY, r"\b(if|while|for) \(|\?|&&|\|\||!", "Flags that select a constant path are int, as in C99 without stdbool.h."),
    Deviation("15.5", CODE, r"\breturn\b", "Wrong arguments and trivial cases return early, which keeps the main path flat."),
    Deviation("15.7", ANY, r"\}|\belse if\b", "Where the remaining case needs nothing, no empty branch is written."),
    Deviation("17.7", ANY, r"\bmem(cpy|set|move)\(", "memcpy, memset and memmove return their first argument, which the caller has."),
    Deviation("17.8", ANY, r"[-+*/|&^]?=|<<=|>>=|\+\+|--", "Parameters passed by value serve as loop variables."),
    Deviation(
        "18.4",
        ANY,
        r"[-+]",
        "Rows are walked by pointer arithmetic within one buffer; bounds are proved by the planner, and tested with sanitizers and guard bytes.",
    ),
    Deviation("19.2", ANY, r"\bunion\b|^\} \w+;$", "The bits of a float are read through a union where the library takes or gives real numbers."),
    Deviation(
        "shiftTooManyBitsSigned",
        KERNELS,
        r">> 31|<< 31|>>",
        "An arithmetic shift by 31 bits gives 0 or -1, on every compiler that midge knows; it is tested on each.",
    ),
    Deviation("variableScope", KERNELS, r"\w+ \*?\w+", "Variables are declared together where the function's loop reads best."),
    Deviation("constVariable", KERNELS, r"\*", "The end of a walk has the type of the pointer that walks."),
    Deviation(
        "knownConditionTrueFalse",
        KERNELS,
        r"\bif \(|\?|&&|\|\||\bwhile \(|\bfor \(|=",
        "A condition that holds by what was decided before it stays where it says what its branch is for.",
    ),
    Deviation("ctuArrayIndex", KERNELS, r"\brows\[1\]|_rows\[1\]", "A second row is taken only where a kernel is told that there is one."),
    Deviation(
        "ctuPointerArith", KERNELS, r"\bend = \w+ \+ ", "The end of a walk is one past the last element, which C allows; it is compared with and never read."
    ),
)


def deviation_of(rule: str, file: str, line: str) -> Deviation | None:
    """What covers a finding of a rule, by number or cppcheck's identifier, in a line of a file; None if nothing does."""
    return next((found for found in DEVIATIONS if found.covers(rule, file, line.strip())), None)


def deviations_text() -> str:
    """misra_deviations.md."""
    rows = [f"| {each.name} | `{_cell(each.files)}` | `{_cell(each.construct)}` | {each.reason} |" for each in DEVIATIONS]
    head = (
        "# Deviations of emitted code\n\nRules of MISRA C:2012 by number (their texts are not reproduced here), and identifiers of cppcheck. "
        "One table for all libraries; a library need not have findings of each. A deviation is for the files whose names, without that of the library, "
        "match the first pattern (NAME.c counts as model.c, NAME.h as api.h), and for lines in which the second is found.\n\n"
        "| rule | files | construct | why the code deviates |\n| --- | --- | --- | --- |\n"
    )
    return head + "\n".join(rows) + "\n"


def _cell(pattern: str) -> str:
    return pattern.replace("|", "\\|")
