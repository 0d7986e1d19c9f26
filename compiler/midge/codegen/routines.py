# SPDX-License-Identifier: Apache-2.0
"""NAME_routines.c and .h: generated inner loops as naked functions of assembly, present only where a macro says so, NAME_HAVE_ASM or another feature's."""

from __future__ import annotations

import re

from midge.codegen.kernels import ARCHS, LICENCE, file_name, prototype, rename
from midge.codegen.names import comment
from midge.program import Program, Routine

CHUNK = 3500  # characters of one asm statement; clang takes no string literal above 4,095


def routine_files(program: Program) -> dict[str, str]:
    """File name -> text."""
    name, routines = program.name, list(program.routines.values())
    guard, features = f"{name.upper()}_ROUTINES_H", sorted({routine.feature for routine in routines})
    archs = {file_name(ARCHS[feature].path, name) for feature in features}
    includes = sorted({*archs, f"{name}_internal.h", *(file_name(f"{routine.family}.h", name) for routine in routines)})
    header = [f"{LICENCE}\n#ifndef {guard}\n#define {guard}", "\n".join(f'#include "{i}"' for i in includes)]
    source = [f'{LICENCE}\n#include "{name}_routines.h"']
    for feature in features:
        mine, have = [routine for routine in routines if routine.feature == feature], rename(f"#if {ARCHS[feature].have}", name)
        header.append("\n".join([have, *(rename(_prototype(routine, routine.symbol), name) + ";" for routine in mine), "#endif"]))
        source += [have, *(_definition(program, routine) for routine in mine), "#endif"]
    header.append("#endif")
    return {f"{name}_routines.h": "\n\n".join(header) + "\n", f"{name}_routines.c": "\n\n".join(source) + "\n"}


def _prototype(routine: Routine, symbol: str) -> str:
    """The twin's prototype under another name."""
    return re.sub(rf"\b{routine.twin}\b", symbol, prototype(routine.family, routine.twin))


def _definition(program: Program, routine: Routine) -> str:
    name = program.name
    unused = re.sub(r"(\w+)(?=[,)])", r"\1 __attribute__((unused))", _prototype(routine, routine.symbol).split("(", 1)[1])
    head = f"{name.upper()}_CODE_SECTION __attribute__((naked)) {_prototype(routine, routine.symbol).split('(', 1)[0]}({unused} {{"
    note = comment([f"Does what {routine.twin} does, on {routine.stack_nbytes} bytes of stack."])
    return "\n".join([rename(note, name), rename(head, name), *_statements(routine.lines), "}"])


def _statements(lines: tuple[str, ...]) -> list[str]:
    """asm statements of limited length; nothing comes between them in a naked function."""
    statements: list[list[str]] = [[]]
    for line in lines:
        if sum(len(text) for text in statements[-1]) + len(line) > CHUNK:
            statements.append([])
        statements[-1].append(f'      "{line}\\n"')
    return ["\n".join(["  __asm__ volatile(", '      ".syntax unified\\n"', *block]) + ");" for block in statements]
