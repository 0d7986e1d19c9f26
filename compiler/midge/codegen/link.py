# SPDX-License-Identifier: Apache-2.0
"""Several Programs -> one folder of C: kernels, generated loops and equal constants once, under one prefix; functions of each model under its own name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from midge.codegen.c import check_program, main_source
from midge.codegen.header import internal_header, public_header
from midge.codegen.kernels import LICENCE, emit_kernels
from midge.codegen.layers import stages
from midge.codegen.names import comment, given_name, plain_text
from midge.codegen.routines import routine_files
from midge.codegen.uses import uses_of
from midge.codegen.weights import weights_source
from midge.errors import IRError, Unsupported, UsageError
from midge.program import Call, Constant, Kernel, Program

PAD_ROW = "pad_row_"  # how rows of padding are named in every Program: by their zero_point


@dataclass(frozen=True)
class Linked:
    """Programs as they are emitted together. pool: constants and routines of all of them, under the prefix they share.
    places: where in the common arena each has its own; nbytes: of that arena."""

    programs: tuple[Program, ...]
    pool: Program
    exclusive: bool
    places: tuple[int, ...]
    nbytes: int

    @property
    def align(self) -> int:
        return max(program.arena_align for program in self.programs)


def link_programs(programs: Sequence[Program], name: str, *, exclusive: bool) -> Linked:
    """Put Programs together under the common prefix `name`. exclusive: they never run at the same time and share one arena; otherwise each has its own.

    Raises: UsageError for names that clash or targets that differ, Unsupported for memories beside the arena.
    """
    _check_names([program.name for program in programs], name)
    targets = sorted({program.target for program in programs})
    if len(targets) != 1:
        raise UsageError(f"models of one image are compiled for one target; these are for {', '.join(targets)}")
    if any(program.memories for program in programs):
        raise Unsupported("--memory: models of one image have nothing but their arenas; compile them without --memory")
    numerics = "+".join(sorted({program.numerics for program in programs}))
    pool = _Pool(Program(name, numerics, targets[0], ""))
    mine = tuple(pool.take(program) for program in programs)
    places, end = [], 0
    for program in programs:
        start = 0 if exclusive else -(-end // program.arena_align) * program.arena_align
        places.append(start)
        end = max(end, start + program.arena_nbytes)
    return Linked(mine, pool.program, exclusive, tuple(places), end)


def _check_names(names: Sequence[str], common: str) -> None:
    """Names become names of files and of macros, so they differ by more than by their case."""
    seen = {given_name(common).lower()}
    for name in names:
        if name.lower() in seen:
            what = "the image" if name.lower() == common.lower() else "another model"
            raise UsageError(f"model '{name}': has the name of {what}; give it one of its own: NAME=MODEL.onnx")
        seen.add(name.lower())


@dataclass
class _Pool:
    """Constants and routines of several Programs, equal ones once."""

    program: Program
    by_content: dict[tuple[str, bytes], str] = field(default_factory=dict)

    def take(self, program: Program) -> Program:
        """The Program with its constants under the names they have here."""
        for routine in program.routines.values():
            if self.program.routines.setdefault(routine.symbol, routine) != routine:
                raise IRError(f"routine {routine.symbol} has two bodies")
        names = {symbol: self._name(program, constant) for symbol, constant in program.constants.items()}
        calls = [_renamed(call, names) for call in program.calls]
        constants = {name: self.program.constants[name] for name in names.values()}
        return replace(program, calls=calls, constants=constants, shared=self.program.name)

    def _name(self, program: Program, constant: Constant) -> str:
        if constant.symbol.startswith(PAD_ROW):
            return self._pad_row(constant)
        data = np.ascontiguousarray(constant.data)
        key = (constant.dtype.value, data.tobytes())
        if key not in self.by_content:
            name = f"{program.name}_{constant.symbol}"
            while name in self.program.constants:
                name += "_"
            self.program.constants[name] = replace(constant, symbol=name)
            self.by_content[key] = name
        return self.by_content[key]

    def _pad_row(self, constant: Constant) -> str:
        """Rows of one zero_point differ in length only: the longest serves all."""
        known = self.program.constants.get(constant.symbol)
        if known is None or known.data.size < constant.data.size:
            self.program.constants[constant.symbol] = constant
        return constant.symbol


def _renamed(call: Call, names: dict[str, str]) -> Call:
    """The call with constants under other names; members that point to routines keep theirs."""
    inputs = tuple(
        replace(operand, pad_row=names.get(operand.pad_row or "", operand.pad_row), constant=names.get(operand.constant or "", operand.constant))
        for operand in call.inputs
    )
    return replace(call, inputs=inputs, constants={member: names.get(symbol, symbol) for member, symbol in call.constants.items()})


def link_files(linked: Linked) -> dict[str, str]:
    """Relative path -> text of every source.

    Raises: UsageError if a file of one model would have the name of a file of another.
    """
    pool = linked.pool
    found: dict[str, str] = {}
    kernels = [Kernel(s, call.kernel.family) for p in linked.programs for call in p.calls for s in call.kernel.symbols(p.numerics)]
    groups = [
        emit_kernels(kernels, "", pool.name, pool.routines.values(), [use for p in linked.programs for use in uses_of(p)]),
        {
            f"{pool.name}.h": image_header(linked),
            f"{pool.name}_internal.h": internal_header(pool, linked.programs),
            f"{pool.name}_weights.c": weights_source(pool),
        },
        routine_files(pool) if pool.routines else {},
    ]
    for program in linked.programs:
        check_program(program)
        groups.append({f"{program.name}.h": public_header(program), f"{program.name}.c": main_source(program, stages(program))})
    for files in groups:
        clash = {path.lower() for path in files} & {path.lower() for path in found}
        if clash:
            raise UsageError(f"two files would be named {', '.join(sorted(clash))}; give the models other names: NAME=MODEL.onnx")
        found |= files
    return {f"src/{path}": text for path, text in sorted(found.items())}


def image_header(linked: Linked) -> str:
    """NAME.h: the headers of all models, the size of the arena, and where each model has its own."""
    name, upper = linked.pool.name, linked.pool.name.upper()
    names = [plain_text(program.name) for program in linked.programs]
    if linked.exclusive:
        rule = "Models share these bytes: one runs at a time, and its outputs are to be read before an input of another is written."
    else:
        rule = "Each model has bytes of its own, so that models may run at the same time."
    blocks = [
        f"{LICENCE}\n" + comment([f"{name}: {len(names)} neural networks in one image: {', '.join(names)}."]) + f"\n#ifndef {upper}_H\n#define {upper}_H",
        "#include <stdint.h>",
        "\n".join(f'#include "{each}.h"' for each in names),
        comment([f"Memory of all models. {rule}"]) + f"\n#define {upper}_ARENA_BYTES {linked.nbytes}u\n#define {upper}_ARENA_ALIGN {linked.align}u",
        f"#define {upper}_MODEL_COUNT {len(names)}u",
        '#ifdef __cplusplus\nextern "C" {\n#endif',
        "/* The arena of each model, to give to its functions. */\n"
        + "\n".join(
            f"static inline void *{name}_{each}_arena(void *arena) {{ return {f'arena ? (int8_t *)arena + {place} : arena' if place else 'arena'}; }}"
            for each, place in zip(names, linked.places, strict=True)
        ),
        "#ifdef __cplusplus\n}\n#endif",
        "#endif",
    ]
    return "\n\n".join(blocks) + "\n"
