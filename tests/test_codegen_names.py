# SPDX-License-Identifier: Apache-2.0
"""Names and numbers in emitted C: none is read on trust."""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest
from codegen_support import Net, build, main_text, need, placed, run_c, stack
from hypothesis import given
from hypothesis import strategies as st

from midge.codegen.c import emit
from midge.codegen.manifest import load_manifest
from midge.codegen.names import c_float, c_identifier, c_integer, c_string, plain_text
from midge.codegen.write import write_library
from midge.ir import DType
from midge.ops.conv import Conv2D
from midge.program import Constant

HOSTILE = "a*/b /* ??/ \\\n// \u202e é \x00 %s \\"


def test_hostile_names_stay_inside_comments(tmp_path):
    net = Net((1, 6, 4, 3), name=HOSTILE)
    net.conv(HOSTILE, 4, 3, 3, Conv2D(pads=(1, 1, 1, 1)), name=HOSTILE * 40)
    net.graph.nodes[0].name = HOSTILE
    program = placed(net)
    program.digest, program.warnings = HOSTILE, [HOSTILE]
    write_library(program, tmp_path / "lib")
    samples = net.samples(2)
    for cc in ("gcc", "clang"):
        executable = build(tmp_path, main_text(program), [tmp_path / "lib"], need(cc))
        assert run_c(executable, samples.tobytes()) == net.expected(samples)
    manifest = load_manifest(tmp_path / "lib")
    assert manifest["inputs"][0]["name"] == HOSTILE
    assert manifest["layers"][0]["name"] == HOSTILE


@given(st.text(alphabet=st.one_of(st.sampled_from("*/\\?\n"), st.characters()), max_size=400))
def test_plain_text_cannot_end_a_comment(text):
    found = plain_text(text)
    assert re.fullmatch("[ -~]{0,300}", found)
    assert not re.search(r"\*/|/\*|\?\?|\\", found)
    assert "??" not in c_string(text)
    assert ast.literal_eval(c_string(text)) == re.sub(r"[^ -~]", "?", text)  # these escapes and adjoining literals mean the same in Python


@given(st.text(max_size=80))
def test_c_identifier_is_one(text):
    name = c_identifier(text)
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", name)
    assert len(name) <= 46
    assert c_identifier(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("kws", "kws"),
        ("My Net-v2.onnx", "My_Net_v2_onnx"),
        ("2fast", "model_2fast"),
        ("", "model_net"),
        ("日本", "model_net"),
        ("modèle", "modele"),
        ("int", "int_net"),
        ("__x__", "x"),
        ("string", "string_net"),
        ("class", "class_net"),
        ("con", "con_net"),
        ("_Bool", "Bool_net"),
        ("midge_hooks", "midge_hooks_net"),
        ("Golden", "Golden_net"),
    ],
)
def test_c_identifier_by_example(text, name):
    assert c_identifier(text) == name


def test_numbers_as_c():
    assert [c_float(v) for v in (1.0, 0.1, -2.5e-20, 3e10, np.inf, -np.inf, np.nan)] == [
        "1.0f",
        "0.1f",
        "-2.5e-20f",
        "3e+10f",
        "INFINITY",
        "-INFINITY",
        "NAN",
    ]
    assert [c_integer(-(1 << 31), 32), c_integer(-128, 8), c_integer(5, 64), c_integer(-(1 << 63), 64)] == ["INT32_MIN", "-128", "5LL", "INT64_MIN"]


def test_constants_of_every_type_come_back(tmp_path):
    program = placed(stack())
    values = {
        DType.S8: [-128, 0, 127],
        DType.U8: [0, 255],
        DType.BOOL: [False, True],
        DType.S16: [-32768, 32767],
        DType.S32: [-(1 << 31), (1 << 31) - 1],
        DType.S64: [-(1 << 63), (1 << 63) - 1],
        DType.F32: [0.1, -3.4028235e38, 1e-45, np.inf, -np.inf, 16777216.0, -0.0],
    }
    arrays = {f"extra_{kind.value}": np.array(data, kind.numpy) for kind, data in values.items()}
    for (symbol, data), kind in zip(arrays.items(), values, strict=True):
        program.constants[symbol] = Constant(symbol, kind, data)
    write_library(program, tmp_path / "lib")
    writes = "".join(f"fwrite(kws_{symbol}, 1, sizeof kws_{symbol}, stdout);\n" for symbol in arrays)
    text = f'#include <stdio.h>\n#include "kws_internal.h"\nint main(void) {{\n{writes}return 0;\n}}\n'
    for cc in ("gcc", "clang"):
        assert run_c(build(tmp_path, text, [tmp_path / "lib"], need(cc)), b"") == b"".join(data.tobytes() for data in arrays.values())


def test_header_has_the_promised_names():
    header = emit(placed(stack()))["src/kws.h"]
    for name in ("ARENA_BYTES", "ARENA_ALIGN", "INPUT_COUNT", "INPUT_0_BYTES", "INPUT_0_SHAPE", "INPUT_0_SCALE", "INPUT_0_ZERO_POINT", "OUTPUT_COUNT"):
        assert re.search(rf"^#define KWS_{name} ", header, re.M), name
    for name in ("OUTPUT_0_BYTES", "OUTPUT_0_SHAPE", "OUTPUT_0_SCALE", "OUTPUT_0_ZERO_POINT", "MODEL_DIGEST", "OK", "ERROR_ARENA"):
        assert re.search(rf"^#define KWS_{name} ", header, re.M), name
    for text in ("int8_t *kws_input_0(void *arena);", "const int8_t *kws_output_0(const void *arena);", "int kws_run(void *arena);"):
        assert text in header
