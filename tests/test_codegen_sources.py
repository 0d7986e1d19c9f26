# SPDX-License-Identifier: Apache-2.0
"""Kernels' sources are taken apart, only what is reached is copied, and a broken Program is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from codegen_support import placed, stack
from midge.kernels import FAMILIES, SOURCES

from midge.codegen.c import emit
from midge.codegen.kernels import emit_kernels
from midge.codegen.sources import blank, parse, read_source
from midge.errors import IRError
from midge.ir import DType
from midge.program import Constant, Kernel, Program


def test_only_reached_kernels_are_copied():
    files = emit_kernels([Kernel("midge_depthwise_s8", "conv2d", profiled=True)], "tflite", "kws")
    text = "".join(files.values())
    assert set(files) == {"kws_conv2d.c", "kws_conv2d.h", "kws_fixedpoint.h"}
    assert "void kws_depthwise_s8_tflite(" in text
    for absent in ("kws_depthwise_s8(", "kws_conv2d_s8", "conv2d_pixel", "half_even", "midge_", "MIDGE_"):
        assert absent not in text
    assert emit_kernels([], "onnx", "kws") == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_source_is_understood(family):
    """Items hold every line of code, every item has a name, and what is kept of a source compiles with nothing unused (see the other tests)."""
    for path in (f"{family}.h", f"{family}.c"):
        source = read_source(path)
        assert source is not None
        lines = [
            line
            for line in blank((SOURCES / path).read_text()).split("\n")
            if line.strip() and not line.startswith(("#include", f"#ifndef MIDGE_{family.upper()}_H"))
        ]
        lines = [line for line in lines if not line.startswith((f"#define MIDGE_{family.upper()}_H", "#endif"))]
        assert [line for item in source.items for line in blank(item.text).split("\n") if line.strip()] == lines
        assert all(item.names for item in source.items)


def test_parse_finds_names_and_comments():
    text = """\
/* SPDX */
/* About the file. */
#ifndef A_H
#define A_H

#include <string.h>
#include "fixedpoint.h"

#define A_TWO(x) \\
  ((x) + (x))
enum tag { A_ONE = 1, A_LAST };

typedef struct {
  int x; /* } */
} a_params;
typedef void (*a_function)(int);

/* Of both. */
void a_f(int x,
         int y);
void a_g(void);
static const int a_table[2] = {
  1, 2,
};

#if defined(X)
static inline int a_x(void) { return '{'; }
#else
static inline int a_x(void) { return 2; }
#endif

#endif
"""
    source = parse("a.h", text)
    assert source.comment == "/* About the file. */"
    assert source.system_includes == ("string.h",)
    assert [sorted(item.names) for item in source.items] == [
        ["A_TWO"],
        ["A_LAST", "A_ONE", "tag"],
        ["a_params"],
        ["a_function"],
        ["a_f"],
        ["a_g"],
        ["a_table"],
        ["a_x"],
    ]
    assert [item.comment for item in source.items[4:7]] == ["/* Of both. */"] * 3
    with pytest.raises(IRError, match="has no end"):
        parse("a.h", "void f(void) {\n")


def broken(change) -> Program:
    program = placed(stack())
    change(program)
    return program


BROKEN = {
    "not a C identifier": lambda p: setattr(p, "name", "a-b"),
    "constant 'x;' is not a C identifier": lambda p: p.constants.update({"x;": Constant("x;", DType.S8, np.zeros(1, np.int8))}),
    "is not placed in the arena": lambda p: p.buffers["x"].put(-1),
    "no power of two": lambda p: setattr(p, "arena_align", 12),
    "meets padding and has no row": lambda p: p.calls.__setitem__(0, replace(p.calls[0], inputs=(replace(p.calls[0].inputs[0], pad_row=None),))),
    "has the fields": lambda p: p.calls.__setitem__(0, replace(p.calls[0], params=dict(reversed(p.calls[0].params.items())))),
    "no constant named 'nowhere'": lambda p: p.calls.__setitem__(0, replace(p.calls[0], constants={"weights": "nowhere"})),
    "is a const int8_t \\*": lambda p: p.calls.__setitem__(0, replace(p.calls[0], constants={"weights": "layer0_bias"})),
    "no place for its scratch": lambda p: p.calls.__setitem__(0, replace(p.calls[0], scratch_nbytes=4)),
    "layer 9 is not listed": lambda p: p.calls.__setitem__(0, replace(p.calls[0], layer=9)),
    "does not declare midge_nothing": lambda p: p.calls.__setitem__(0, replace(p.calls[0], kernel=replace(p.calls[0].kernel, symbol="midge_nothing"))),
    "its buffer": lambda p: setattr(p.inputs[0], "type", p.inputs[0].type.with_shape((1, 999, 5, 3))),
    "reads 25 rows": lambda p: p.calls.__setitem__(0, replace(p.calls[0], inputs=(replace(p.calls[0].inputs[0], row_nbytes=999),))),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_program_is_refused(message):
    with pytest.raises(IRError, match=message):
        emit(broken(BROKEN[message]))
