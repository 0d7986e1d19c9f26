# SPDX-License-Identifier: Apache-2.0
"""Rust: a crate without dependencies whose build.rs calls the C compiler, a safe wrapper, and an example.

Source: the Cargo book, "Build Scripts" and "Manifest"; the Rustonomicon, "FFI".
"""

from __future__ import annotations

import numpy as np

from midge.codegen.names import c_float
from midge.errors import Unsupported
from midge.ir import DType
from midge.package import rust_text as text
from midge.package.outline import Outline, scaled
from midge.program import Port

_TYPES = {DType.F32: "f32", DType.S8: "i8", DType.U8: "u8", DType.S16: "i16", DType.S32: "i32", DType.S64: "i64", DType.BOOL: "u8"}
_SPDX = "// SPDX-License-Identifier: 0BSD\n"


def rust_files(outline: Outline) -> dict[str, str]:
    """Cargo.toml, build.rs, rust/lib.rs and examples/rust/main.rs.

    Raises: Unsupported for a library with memories of its own: one instance at a time may run, which a safe interface cannot promise; and for one that
    hands out rows of its outputs.
    """
    if outline.program.memories:
        raise Unsupported("--package rust: with --memory only one instance may run at a time, which a safe interface cannot promise; leave one of them out")
    if outline.hands_out:
        raise Unsupported("--package rust: rows that are handed to a function (--stream-output) have no safe interface yet; leave one of them out")
    sources = outline.source_list('    "{}",')
    flags = ", ".join(f'"{flag}"' for flag in outline.target.flags)
    return {
        "Cargo.toml": "# SPDX-License-Identifier: 0BSD\n" + outline.fill(text.CARGO),
        "build.rs": _SPDX + outline.fill(text.BUILD, sources=sources, flag_list=flags, cross=outline.target.prefix or "arm-none-eabi-"),
        "rust/lib.rs": _SPDX + _wrapper(outline),
        "examples/rust/main.rs": _SPDX + _example(outline),
    }


def _ports(outline: Outline) -> list[tuple[str, int, Port, str]]:
    """(kind, number, port, name in Rust): the number is left out of the name where there is only one."""
    found = []
    for kind, ports in (("input", outline.program.inputs), ("output", outline.program.outputs)):
        found += [(kind, i, port, kind if len(ports) == 1 else f"{kind}_{i}") for i, port in enumerate(ports)]
    return found


def _wrapper(outline: Outline) -> str:
    constants, imports, methods = [], [], []
    for kind, i, port, name in _ports(outline):
        element, count = _TYPES[port.type.dtype], int(np.prod(port.type.shape, dtype=np.int64))
        constants.append(_constants(name.upper(), port, count))
        if kind == "output":
            imports.append(f"fn {outline.name}_output_{i}(arena: *const u8) -> *const {element};")
            methods.append(outline.fill(text.OUTPUT, port=name, i=str(i), T=element, PORT=name.upper()))
        elif not outline.streams:
            imports.append(f"fn {outline.name}_input_{i}(arena: *mut u8) -> *mut {element};")
            methods.append(outline.fill(text.INPUT, port=name, i=str(i), T=element, PORT=name.upper()))
    element = _TYPES[outline.program.inputs[0].type.dtype] if outline.program.inputs else "u8"
    runs = (text.STREAM if outline.streams else text.STEP if outline.stepwise else ()), (() if outline.streams else text.RUN)
    for found, method in (pair for run in runs for pair in run):
        imports.append(outline.fill(found, T=element))
        methods.append(outline.fill(method, T=element))
    if outline.streams:
        row = outline.program.buffer(outline.program.inputs[0].buffer).row_nbytes // outline.program.inputs[0].type.dtype.nbytes
        constants.append(f"/// Elements of one row of input.\npub const INPUT_ROW: usize = {row};")
    return outline.fill(text.LIB, constants="\n".join(constants), imports="\n".join(f"    {line}" for line in imports), methods="\n".join(methods).rstrip("\n"))


def _constants(stem: str, port: Port, count: int) -> str:
    kind = port.type
    lines = [f"pub const {stem}_LEN: usize = {count};", f"pub const {stem}_SHAPE: [usize; {len(kind.shape)}] = {list(kind.shape)};"]
    if scaled(port):
        scale = c_float(kind.q.s).removesuffix("f")
        lines += [f"pub const {stem}_SCALE: f32 = {scale};", f"pub const {stem}_ZERO_POINT: i32 = {kind.q.z};"]
    return "\n".join(lines)


def _example(outline: Outline) -> str:
    fills, prints = [], []
    for kind, _, port, name in _ports(outline):
        zero = f"model::{name.upper()}_ZERO_POINT as {_TYPES[port.type.dtype]}" if scaled(port) else "Default::default()"
        if kind == "output":
            prints.append(f'    println!("{name}: {{:?}}", net.{name}());')
        elif not outline.streams:
            fills.append(f"    net.{name}().fill({zero});")
        else:
            fills.append(f"    let row = [{zero}; model::INPUT_ROW];")
    run = text.RUN_STREAM if outline.streams else text.RUN_STEP if outline.stepwise else "    net.run()?;"
    return outline.fill(text.MAIN, fill="\n".join(fills), run=run, print="\n".join(prints))
