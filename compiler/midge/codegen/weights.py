# SPDX-License-Identifier: Apache-2.0
"""NAME_weights.c: the constants as arrays."""

from __future__ import annotations

import numpy as np

from midge.codegen.kernels import LICENCE
from midge.codegen.names import c_float, c_integer, check_identifier, comment, wrapped_list
from midge.program import Constant, Program


def symbol(program: Program, constant: str) -> str:
    """The C name of a constant.

    Raises: IRError if it is no identifier.
    """
    return f"{program.prefix}_{check_identifier(constant, 'constant')}"


def declaration(program: Program, constant: Constant) -> str:
    """`const int8_t kws_x[640]`; ISO C has no arrays without elements, so one of none gets one."""
    return f"const {constant.dtype.c} {symbol(program, constant.symbol)}[{max(1, constant.data.size)}]"


def weights_source(program: Program) -> str:
    """NAME_weights.c."""
    upper = program.name.upper()
    floats = [constant.data for constant in program.constants.values() if constant.dtype.is_float]
    blocks = [f"{LICENCE}\n" + comment([f"Weights and other constants: {program.weight_nbytes:,} bytes."])]
    if any(not np.isfinite(data).all() for data in floats):
        blocks.append("#include <math.h>")
    blocks.append(f'#include "{program.name}_internal.h"')
    for constant in program.constants.values():
        align = f"{upper}_ALIGN4 " if constant.dtype.nbytes < 4 else ""
        where = program.constant_memory.get(constant.symbol, "")
        section = f"{upper}_{where.upper()}_WEIGHTS_SECTION" if where else f"{upper}_WEIGHTS_SECTION"
        blocks.append(f"{section} {align}{declaration(program, constant)} = {{\n{wrapped_list(elements(constant), '    ')}\n}};")
    return "\n\n".join(blocks) + "\n"


def elements(constant: Constant) -> list[str]:
    """The elements as C constants."""
    values = np.ascontiguousarray(constant.data).reshape(-1).tolist() or [0]
    if constant.dtype.is_float:
        return [c_float(value) for value in values]
    return [c_integer(int(value), 8 * constant.dtype.nbytes) for value in values]
