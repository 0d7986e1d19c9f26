# SPDX-License-Identifier: Apache-2.0
"""Which bytes of a library belong to which layer: functions and constants of the objects, each counted once, so that the parts sum to the whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from midge.codegen.kernels import file_name, rename
from midge.codegen.layers import function_name
from midge.program import Program
from midge.toolchain import Sizes

LAYER, KERNEL, ROUTINE, TWIN, HELPER, DRIVER = "layer", "kernel", "routine", "twin", "helper", "driver"
_WORD = re.compile(r"\w+")
_OF_LAYER = re.compile(r"layer\d+(_\d+)?_(params|constants)\Z")


@dataclass(frozen=True)
class Symbol:
    """A function (`code`) or a table in the objects: its bytes, the source it was compiled from, and the sources of the library that name it."""

    name: str
    code: bool
    file: str
    nbytes: int
    named_in: tuple[str, ...] = ()


@dataclass(frozen=True)
class Function:
    """A C function. kind: "layer" drives the kernels of one layer, "routine" is generated assembly, "twin" its portable form that is in the objects but not
    called there, "helper" is what kernels call, "driver" runs the layers. nbytes: as compiled; None if nothing was, or it is inlined where it is called.
    layers: by index, those that use it."""

    name: str
    kind: str
    file: str
    nbytes: int | None
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Share:
    """Bytes that are no single layer's."""

    what: str
    code: int
    constants: int


def symbols_of(objects: Sequence[Path], sources: Sequence[Path]) -> tuple[Symbol, ...]:
    """Functions and tables of objects, each compiled from the source at its place. A part that gcc split off a function counts with it."""
    texts = {path.name: set(_WORD.findall(path.read_text("utf-8"))) for path in sources}
    sizes: dict[tuple[str, bool, str], int] = {}
    for path, source in zip(objects, sources, strict=True):
        for name, code, nbytes in _table(path):
            key = (name.split(".")[0], code, source.name)
            sizes[key] = sizes.get(key, 0) + nbytes
    return tuple(
        Symbol(name, code, file, nbytes, tuple(other for other, words in texts.items() if name in words)) for (name, code, file), nbytes in sizes.items()
    )


def _table(path: Path) -> Iterable[tuple[str, bool, int]]:
    """(name, whether it is a function, bytes) of what an object keeps in flash; of equal things that the compiler made one, the first has the bytes."""
    with path.open("rb") as file:
        elf, seen = ELFFile(file), set[tuple[int, int]]()
        table = elf.get_section_by_name(".symtab")
        for symbol in table.iter_symbols() if isinstance(table, SymbolTableSection) else ():
            kind, index = symbol["st_info"]["type"], symbol["st_shndx"]
            if kind in ("STT_FUNC", "STT_OBJECT") and isinstance(index, int):
                section, place = elf.get_section(index), (index, int(symbol["st_value"]))
                if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and section["sh_type"] != "SHT_NOBITS":
                    yield symbol.name, kind == "STT_FUNC", 0 if place in seen else int(symbol["st_size"])
                    seen.add(place)


def functions_of(program: Program, symbols: Sequence[Symbol]) -> tuple[Function, ...]:
    """Functions of layers, kernels and routines in the order of the layers, then whatever else is in the objects."""
    sizes = {(symbol.name, symbol.file): symbol.nbytes for symbol in symbols if symbol.code}
    built = {name for name, _ in sizes}
    known: dict[tuple[str, str], tuple[str, set[int]]] = {}
    for index, call in enumerate(program.calls):
        routines = [program.routines[name] for name in call.constants.values() if name in program.routines]
        kernel = file_name(f"{call.kernel.family}.c", program.prefix)
        found = [(function_name(program, index), f"{program.name}.c", LAYER)]
        found += [(rename(symbol, program.prefix), kernel, KERNEL) for symbol in call.kernel.symbols(program.numerics)]
        for routine in routines:
            name, twin = rename(routine.symbol, program.prefix), rename(routine.twin, program.prefix)
            compiled = name in built or not built
            found.append((name, f"{program.prefix}_routines.c", ROUTINE) if compiled else (twin, file_name(f"{routine.family}.c", program.prefix), TWIN))
        for name, file, kind in found:
            known.setdefault((name, file), (kind, set()))[1].add(call.layer)
    listed = [Function(name, kind, file, sizes.get((name, file)), tuple(sorted(layers))) for (name, file), (kind, layers) in known.items()]
    return (*listed, *_others(program, symbols, listed))


def _others(program: Program, symbols: Sequence[Symbol], listed: Sequence[Function]) -> list[Function]:
    """Functions that no layer names: twins beside their routines, drivers, and helpers, which belong to the layers of the sources that name them."""
    main, taken = f"{program.name}.c", {(each.name, each.file) for each in listed}
    twins = {rename(routine.twin, program.prefix) for routine in program.routines.values()}
    rest = [symbol for symbol in symbols if symbol.code and (symbol.name, symbol.file) not in taken]
    users: dict[str, set[int]] = {}
    for each in listed:
        if each.kind != LAYER:
            users.setdefault(each.file, set()).update(each.layers)
    for _ in rest:  # a helper's helper: at most as many rounds as there are
        before = {file: set(layers) for file, layers in users.items()}
        for symbol in rest:
            if symbol.file != main and symbol.name not in twins:
                users.setdefault(symbol.file, set()).update(*(users.get(file, set()) for file in symbol.named_in if file != main))
        if users == before:
            break
    found = []
    for symbol in rest:
        kind = DRIVER if symbol.file == main else TWIN if symbol.name in twins else HELPER
        static = all(file == symbol.file for file in symbol.named_in)
        of = users.get(symbol.file, set()) if static else set().union(*(users.get(file, set()) for file in symbol.named_in if file != main))
        found.append(Function(symbol.name, kind, symbol.file, symbol.nbytes, tuple(sorted(of)) if kind == HELPER else ()))
    return found


def flash_by_layer(program: Program) -> dict[int, int]:
    """Bytes of constants by layer, rows of padding included; each constant once, at the first layer that uses it."""
    seen: set[str] = set()
    found: dict[int, int] = {}
    for call in program.calls:
        operands = [name for operand in call.inputs for name in (operand.pad_row, operand.constant) if name]
        fresh = {name for name in [*call.constants.values(), *operands] if name in program.constants} - seen
        found[call.layer] = found.get(call.layer, 0) + sum(program.constants[name].data.nbytes for name in fresh)
        seen |= fresh
    return found


def of_layer(functions: Iterable[Function], layer: int) -> tuple[int, int]:
    """(bytes of code that only this layer uses, bytes that it shares with others)."""
    mine = [each for each in functions if layer in each.layers]
    return sum(each.nbytes or 0 for each in mine if len(each.layers) == 1), sum(each.nbytes or 0 for each in mine if len(each.layers) > 1)


def elsewhere(program: Program, functions: Sequence[Function], symbols: Sequence[Symbol], sizes: Sizes) -> tuple[Share, ...]:
    """What is no layer's own: with the code and constants of the layers it sums to the code, constants and initialised data of all objects."""
    inlined = any(each.kind == LAYER and each.nbytes is None for each in functions)

    def code(kind: str, shared: bool) -> int:
        return sum(each.nbytes or 0 for each in functions if each.kind == kind and (len(each.layers) > 1) == shared and not (each.layers and not shared))

    shared = sum(each.nbytes or 0 for each in functions if len(each.layers) > 1)
    tables = {symbol: bool(_OF_LAYER.match(symbol.name)) for symbol in symbols if not symbol.code and symbol.file != f"{program.prefix}_weights.c"}
    params, steps = (sum(symbol.nbytes for symbol, is_param in tables.items() if is_param == wanted) for wanted in (True, False))
    named = sum(each.nbytes or 0 for each in functions)
    found = (
        Share("functions that several layers use", shared, 0),
        Share("functions that run the layers" + (", with functions of layers inlined in them" if inlined else ""), code(DRIVER, shared=False), 0),
        Share("helpers of no layer", code(HELPER, shared=False), 0),
        Share("portable twins of generated routines, which nothing calls on this target: a linker may drop them", code(TWIN, shared=False), 0),
        Share("parameters of the layers", 0, params),
        Share("tables: steps, places of rows, lists of functions", 0, steps),
        Share("padding, and what has no name", sizes.text - named, sizes.rodata + sizes.data - program.weight_nbytes - params - steps),
    )
    return tuple(each for each in found if each.code or each.constants)
