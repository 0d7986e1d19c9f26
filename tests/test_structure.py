# SPDX-License-Identifier: Apache-2.0
"""What holds for the repository as a whole: directions of imports, sizes of files and functions, licence lines, C structs against Python."""

from __future__ import annotations

import ast
import re
import struct
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "compiler" / "midge"
PYTHON = sorted(PACKAGE.rglob("*.py"))
KERNELS = ROOT / "kernels"

ORDER: tuple[tuple[str, ...], ...] = (
    ("errors", "ir", "fixedpoint", "targets", "buffers", "program", "text", "check", "toolchain", "costs"),
    ("microkernels",),
    ("ops",),
    ("importers", "passes", "ptq"),
    ("select", "lower"),
    ("schedule",),
    ("codegen", "package", "run", "report", "evidence"),
    ("changes", "prepare"),
    ("budget",),
    ("api",),
    ("front", "link", "reload"),
    ("cli",),
)
"""Modules and folders of midge; each may import what stands before it, or beside it as long as that makes no circle."""
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
LONGEST_FILE, LONGEST_FUNCTION = 300, 50
READ_KERNELS = {"run/interpreter.py", "codegen/sources.py"}
"""Who may import midge.kernels: the interpreter calls the compiled ones, the emitter copies from their sources."""


def unit(path: Path) -> str:
    """The name in ORDER that a file belongs to, cli for cli_*.py; '' for __init__.py and __main__.py of midge itself."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first.startswith("__") else "cli" if first.startswith("cli_") else first


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of the modules a file imports, `from a import b` as a.b; inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def without_type_checking(tree: ast.Module) -> ast.Module:
    """The file without its `if TYPE_CHECKING:` blocks, which import nothing when it runs."""
    body = [node for node in tree.body if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")]
    return ast.Module(body, [])


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def edges() -> set[tuple[str, str, str]]:
    """(file, its unit, unit imported) for every import of midge inside midge."""
    found = set()
    for path in PYTHON:
        for name in imported(parsed(path)):
            parts = name.split(".")
            to = "cli" if len(parts) > 1 and parts[1].startswith("cli_") else parts[1] if len(parts) > 1 else ""
            if parts[0] == "midge" and to in {*RANK, "kernels"} and to != unit(path):
                found.add((path.relative_to(PACKAGE).as_posix(), unit(path), to))
    return found


def test_every_module_has_a_place_in_the_order() -> None:
    assert {unit(path) for path in PYTHON} - {""} <= RANK.keys()


def test_imports_point_one_way() -> None:
    wrong = [f"{file} imports midge.{to}" for file, of, to in sorted(edges()) if of in RANK and to in RANK and RANK[to] > RANK[of]]
    assert not wrong


def test_neighbours_do_not_import_in_circles() -> None:
    beside = {(of, to) for _, of, to in edges() if of in RANK and to in RANK and RANK[of] == RANK[to]}
    left = {name for pair in beside for name in pair}
    while left:
        free = {name for name in left if not any(of == name and to in left for of, to in beside)}
        assert free, f"circle among {sorted(left)}"
        left -= free


def test_only_importers_import_onnx() -> None:
    wrong = [
        path.relative_to(PACKAGE).as_posix()
        for path in PYTHON
        if unit(path) != "importers" and any(name.split(".")[0] == "onnx" for name in imported(without_type_checking(parsed(path))))
    ]
    assert not wrong


def test_few_files_import_the_kernels() -> None:
    assert {file for file, _, to in edges() if to == "kernels"} <= READ_KERNELS


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_files_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) < LONGEST_FILE
    functions = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert not {name: count for name, count in lengths.items() if count >= LONGEST_FUNCTION}


def sources() -> list[Path]:
    """Every text file people write here, what is generated or built left out."""
    patterns = ("*.py", "*.md", "*.toml", "Makefile", ".clang-format", ".ci/*")
    folders = ("compiler", "kernels", "runtime_c", "tests", "bench", "examples", "docs")
    kinds = {".py", ".pyi", ".pyx", ".pxi", ".c", ".h", ".ld", ".md"}
    found = [path for pattern in patterns for path in ROOT.glob(pattern)]
    found += [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in kinds]
    generated = {path.with_suffix(".c") for path in KERNELS.glob("_*.pyx")}
    return sorted(path for path in found if path.is_file() and path not in generated and "egg-info" not in str(path))


FOR_USERS = ("board", "golden", "hil_server")
"""Files of runtime_c that become part of users' firmware."""


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_licence_line_and_no_path_of_one_machine(path: Path) -> None:
    text = path.read_text("utf-8")
    ours = "0BSD" if path.parent.name == "runtime_c" and path.name.startswith(FOR_USERS) else "Apache-2.0"
    assert any(f"SPDX-License-Identifier: {ours}" in line for line in text.splitlines()[:2])
    machine = re.search(r"(?<![\w.])/(work|root|home|Users)/\w+", text)
    assert machine is None, f"names {machine[0] if machine else ''}"


STRUCT = re.compile(r"typedef struct \{(?P<body>[^}]*)\} (?P<name>midge_\w+);")
FIELD = re.compile(r"^\s*(?P<type>[\w ]+?[ *]+)(?P<name>\w+);", re.M)
DECLARED = re.compile(r"^void (midge_\w+)\(", re.M)
FAMILIES = sorted(path.stem for path in KERNELS.glob("*.c") if not path.stem.startswith("_"))


@cache
def header(family: str) -> str:
    """A header without comments."""
    return re.sub(r"/\*.*?\*/", "", (KERNELS / f"{family}.h").read_text("utf-8"), flags=re.S)


def structs(family: str) -> dict[str, list[tuple[str, str]]]:
    """(type, name) of the fields of each struct of a header."""
    return {match["name"]: [(field["type"].strip(), field["name"]) for field in FIELD.finditer(match["body"])] for match in STRUCT.finditer(header(family))}


@pytest.mark.parametrize("family", FAMILIES)
def test_params_are_words_and_constants_are_pointers(family: str) -> None:
    for name, fields in structs(family).items():
        assert fields
        assert name.endswith(("_params", "_constants"))
        for kind, field in fields:
            fits = kind == "int32_t" if name.endswith("_params") else kind.endswith("*")
            assert fits, f"{name}.{field} is {kind}"


@pytest.mark.parametrize("family", FAMILIES)
def test_wrappers_match_the_header(family: str) -> None:
    module = pytest.importorskip(f"midge.kernels._{family}", reason="the kernels were not built")
    wrapped = {*module.KERNELS, *getattr(module, "ADDRESSES", {})}
    assert wrapped == set(DECLARED.findall(header(family)))
    pointer = struct.calcsize("P")
    for name, fields in structs(family).items():
        assert module.STRUCT_SIZES[name] == len(fields) * (4 if name.endswith("_params") else pointer)


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_keep_to_plain_c(family: str) -> None:
    """What the emitter and small cores rely on: no blank line inside a function, no heap, no floating point but at the edges."""
    text = (KERNELS / f"{family}.c").read_text("utf-8")
    for above, below in pairwise(re.sub(r"/\*.*?\*/", "", text, flags=re.S).split("\n\n")):
        assert not below.startswith(" "), f"a blank line inside a function after {above[-60:]!r}"
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    banned = {"malloc", "calloc", "free", "alloca"} | (set() if family == "edge" else {"float", "double"})
    assert not banned & set(re.findall(r"\w+", code))
    assert set(re.findall(r"#include <(.+)>", code)) <= {"stdint.h", "stddef.h", "string.h"}


@pytest.mark.parametrize("numerics", ["onnx", "tflite"])
def test_params_have_the_order_of_the_struct(numerics: str) -> None:
    """For the example network; the emitter refuses any other order as well, but only this test knows the header by itself."""
    import midge

    program = midge.compile(ROOT / "examples" / "mnist_cnn.onnx", calibration=example_inputs(), numerics=numerics).program
    assert program.calls
    for call in program.calls:
        takes = re.search(rf"void {call.kernel.symbols(numerics)[0]}\(const (\w+) \*params,[^)]*?(?:const (\w+) \*constants)", header(call.kernel.family))
        assert takes is not None, call.kernel.symbol
        known = structs(call.kernel.family)
        assert list(call.params) == [name for _, name in known[takes[1]]]
        assert not call.constants or list(call.constants) == [name for _, name in known[takes[2]]]


def example_inputs():  # type: ignore[no-untyped-def]
    """Two images' worth of noise: enough to have ranges."""
    import numpy as np

    return np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
