# SPDX-License-Identifier: Apache-2.0
"""The kernels a Program uses, copied out of kernels/ without what nobody reaches, under the library's own prefix."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from midge.codegen.names import signature
from midge.codegen.sources import Item, Source, blank, read_source
from midge.codegen.tailor import Items, Use, tailor
from midge.errors import IRError
from midge.program import Kernel, Routine

LICENCE = "/* SPDX-License-Identifier: 0BSD */"

_NEEDED_FOR = {"string.h": r"mem(cpy|set|move|cmp)", "stddef.h": r"NULL|size_t|ptrdiff_t", "limits.h": r"\w+_(MIN|MAX)", "stdbool.h": "bool|true|false"}


@dataclass(frozen=True)
class Arch:
    """Where generated assembly of one feature may be used: the header that says so, the macro that is 1 there, the macro that takes routine or twin."""

    path: str
    have: str
    choose: str


ARCHS = {
    "dsp": Arch("arch/dsp.h", "MIDGE_HAVE_ASM", "MIDGE_ROUTINE"),
    "mve": Arch("arch/mve.h", "MIDGE_HAVE_MVE", "MIDGE_MVE_ROUTINE"),
    "thumb1": Arch("arch/thumb.h", "MIDGE_HAVE_THUMB1", "MIDGE_THUMB1_ROUTINE"),
    "thumb2": Arch("arch/thumb.h", "MIDGE_HAVE_THUMB2", "MIDGE_THUMB2_ROUTINE"),
}


@dataclass(frozen=True)
class Function:
    """A kernel as its header declares it: parameter names in order, types of the structs ('' if it takes none) and of a row's elements."""

    symbol: str
    parameters: tuple[str, ...]
    params_type: str
    constants_type: str
    in_element: str
    out_element: str


@dataclass(frozen=True)
class Field:
    """A member of a params or constants struct."""

    type: str
    name: str


@dataclass
class _Reach:
    """Items reached so far, per file."""

    kept: dict[str, set[int]] = field(default_factory=dict)

    def add(self, path: str, word: str) -> None:
        """Keep what `word` means in `path`, and whatever that needs."""
        pending = [(path, word)]
        while pending:
            place, name = pending.pop()
            for found in _visible(place):
                pending += self._keep(found, name)

    def _keep(self, path: str, name: str) -> list[tuple[str, str]]:
        source, more = _source(path), []
        kept = self.kept.setdefault(path, set())
        for index, item in enumerate(source.items):
            if name in item.names and index not in kept:
                kept.add(index)
                more += [(path, word) for word in sorted(item.words)]
                body = path[:-2] + ".c"
                if path.endswith(".h") and read_source(body):
                    more.append((body, name))
        return more


def _source(path: str) -> Source:
    source = read_source(path)
    if source is None:
        raise IRError(f"kernels/{path}: no such file")
    return source


def _visible(path: str) -> list[str]:
    """The file and the headers it includes, directly or not."""
    found, pending = [], [path]
    while pending:
        name = pending.pop(0)
        if name not in found:
            found.append(name)
            pending += _source(name).local_includes
    return found


def declare(kernel: Kernel, symbol: str) -> Function:
    """The declaration of one of a kernel's C functions.

    Raises: IRError if the family's header does not declare it.
    """
    header = _source(f"{kernel.family}.h")
    for item in header.items:
        if symbol in item.names and "(" in item.text:
            inside = blank(item.text).split("(", 1)[1].rsplit(")", 1)[0]
            types = {words[1]: " ".join(words[0].split()) for words in (_declarator(text) for text in inside.split(","))}
            return Function(
                symbol,
                tuple(types),
                _pointee(types.get("params", "")),
                _pointee(types.get("constants", "")),
                _pointee(types.get("in_rows", "")),
                _pointee(types.get("out_rows", "")),
            )
    raise IRError(f"kernels/{header.path} does not declare {symbol}")


def prototype(family: str, symbol: str) -> str:
    """The declaration of a function in a family's header, without its semicolon."""
    for item in _source(f"{family}.h").items:
        if symbol in item.names and "(" in item.text and "typedef" not in item.text:
            return " ".join(item.text.split()).rstrip(";")
    raise IRError(f"kernels/{family}.h does not declare {symbol}")


def _declarator(text: str) -> tuple[str, str]:
    found = re.match(r"\s*(.*?)(\w+)\s*\Z", text, re.S)
    if not found:
        raise IRError(f"parameter {text!r} is not understood")
    return found[1], found[2]


def _pointee(text: str) -> str:
    """'const midge_x_params *' -> 'midge_x_params'; '' for void and for an absent parameter."""
    name = re.sub(r"\bconst\b|\*", " ", text).strip()
    return "" if name == "void" else name


def struct_fields(kernel: Kernel, name: str) -> list[Field]:
    """The members of a struct that a family's header (or one it includes) defines, in order."""
    for path in _visible(f"{kernel.family}.h"):
        for item in _source(path).items:
            if name in item.names and "{" in item.text:
                body = blank(item.text).split("{", 1)[1].rsplit("}", 1)[0]
                pairs = [_declarator(part) for part in body.split(";") if part.strip()]
                return [Field(" ".join(kind.replace("*", " *").split()), spelled) for kind, spelled in pairs]
    raise IRError(f"kernels/{kernel.family}.h does not define {name}")


def rename(text: str, name: str) -> str:
    """midge_x -> NAME_x and MIDGE_X -> NAME_X; the hooks keep their names, which firmware defines once for all libraries."""
    text = re.sub(r"\bMIDGE_(?!HOOK_)(?=\w)", f"{name.upper()}_", text)
    return re.sub(r"\bmidge_(?=\w)", f"{name}_", text)


def file_name(path: str, name: str) -> str:
    """The emitted name of a file of kernels/: 'arch/dsp.h' -> 'NAME_dsp.h'."""
    return f"{name}_{PurePosixPath(path).name}"


def emit_kernels(kernels: Iterable[Kernel], numerics: str, name: str, routines: Iterable[Routine] = (), uses: Sequence[Use] = ()) -> dict[str, str]:
    """File name -> text for every source with something in it that the kernels, and the twins of routines, reach; cut to `uses`, if all calls are given."""
    reach = _Reach()
    roots = set()
    for routine in routines:
        reach.add(f"{routine.family}.h", routine.twin)
        arch = ARCHS[routine.feature]
        reach.add(arch.path, arch.choose)
        roots.add(arch.choose)
    for kernel in kernels:
        for symbol in kernel.symbols(numerics):
            reach.add(f"{kernel.family}.h", symbol)
    items = {path: [item for index, item in enumerate(_source(path).items) if index in kept] for path, kept in sorted(reach.kept.items())}
    if uses:
        items = tailor(items, uses, roots)
    return {file_name(path, name): _render(_source(path), items, name) for path in items if _alive(items, path)}


def _alive(items: Items, path: str) -> bool:
    """Whether anything of a file, or of what it includes, is kept."""
    return bool(items.get(path)) or any(_alive(items, name) for name in _source(path).local_includes)


def _render(source: Source, items: Items, name: str) -> str:
    kept = items.get(source.path, [])
    words = set().union(*(item.words for item in kept)) if kept else set()
    system = [h for h in source.system_includes if h not in _NEEDED_FOR or any(re.fullmatch(_NEEDED_FOR[h], word) for word in words)]
    if "NULL" in words and not {"stddef.h", "string.h"} & set(system):
        system = ["stddef.h", *system]
    local = [file_name(path, name) for path in source.local_includes if _alive(items, path)]
    header = source.path.endswith(".h")
    own, other = [n for n in local if not header][:1], local if header else local[1:]
    if any(item.is_function for item in kept):
        other = [*other, f"{name}_internal.h"]
    blocks = [LICENCE + (f"\n{rename(source.comment, name)}" if source.comment else "")]
    guard = f"{name}_{PurePosixPath(source.path).stem}_H".upper()
    if header:
        blocks[0] += f"\n#ifndef {guard}\n#define {guard}"
    includes = ([f'#include "{n}"' for n in own], [f"#include <{n}>" for n in system], [f'#include "{n}"' for n in sorted(other)])
    blocks += ["\n".join(group) for group in includes if group]
    previous: Item | None = None
    for item in kept:
        if item.comment and (previous is None or previous.comment is not item.comment):
            blocks.append(f"{rename(item.comment, name)}\n{_item_text(item, name)}")
        else:
            blocks.append(_item_text(item, name))
        previous = item
    if header:
        blocks.append("#endif")
    return "\n\n".join(blocks) + "\n"


def _item_text(item: Item, name: str) -> str:
    """The item under the library's prefix; heads of functions are wrapped anew because their length changed."""
    text = rename(item.text, name)
    if item.is_function:
        end = re.match(r"[^{]*\)(?=\s*\{)", text)
        assert end is not None
        return signature(f"{name.upper()}_CODE_SECTION {end.group()}") + text[end.end() :]
    if re.match(r"(?!typedef)[^{=#]*\)\s*;\s*\Z", text):
        return signature(text)
    return text
