# SPDX-License-Identifier: Apache-2.0
"""Emission of the C library: the C computes what the references say, compiles silently everywhere, reads no names on trust, lands on disk whole."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from midge.kernels import FAMILIES, SOURCES
from support import program_of, run_reference

from midge.codegen.blocks import row_index
from midge.codegen.c import emit
from midge.codegen.kernels import emit_kernels
from midge.codegen.manifest import changed_files, load_manifest
from midge.codegen.names import c_float, c_identifier, c_integer, c_string, plain_text
from midge.codegen.sources import blank, parse, read_source
from midge.codegen.write import write_library
from midge.errors import IRError, UsageError
from midge.ir import DType, Graph, Node, Op, Quant, TensorType
from midge.ops.binary import Add
from midge.ops.conv import Conv2D
from midge.ops.join import Concat
from midge.ops.mean import Mean
from midge.ops.pool import AveragePool, MaxPool
from midge.ops.resize import Resize
from midge.program import Constant, Kernel, Operand, Program, Window
from midge.schedule import Wish, place

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wmissing-prototypes", "-Wshadow", "-Wcast-qual", "-Werror")
SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
HOSTILE = "a*/b /* ??/ \\\n// \u202e é \x00 %s \\"


def need(tool: str) -> str:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    return tool


class Net:
    """A quantized Graph grown node by node with random scales, zero points and weights."""

    def __init__(self, shape: tuple[int, ...], numerics: str = "onnx", seed: int = 0, name: str = "x") -> None:
        self.random = np.random.default_rng(seed)
        self.graph = Graph("net", numerics=numerics)
        self.graph.inputs.append(self.graph.add_value(name, TensorType(DType.S8, shape, self.quant())))

    def quant(self) -> Quant:
        return Quant.of(self.random.uniform(0.01, 0.1), int(self.random.integers(-128, 128)))

    def node(self, op: Op, *inputs: str, name: str | None = None) -> str:
        out = op.infer(self.graph.types(list(inputs)))[0]
        if out.dtype.is_float:
            out = out.with_quant(DType.S8, self.quant())
        value = self.graph.add_value(name or f"{op.kind.lower()}_out", out)
        self.graph.nodes.append(Node(f"{op.kind}/{len(self.graph.nodes)}", op, list(inputs), [value]))
        self.graph.outputs = [value]
        return value

    def conv(self, x: str, out: int, height: int, width: int, op: Conv2D, name: str | None = None) -> str:
        kind = self.graph.type(x)
        data = self.random.integers(-128, 128, (out, height, width, kind.hwc[2] // op.groups)).astype(np.int8)
        scales = Quant.of(self.random.uniform(0.001, 0.01, out))
        scales = replace(scales, axis=0) if out > 1 else scales
        weights = self.graph.add_constant("w", data, scales)
        bias = self.graph.add_constant("b", self.random.integers(-2000, 2000, out).astype(np.int32))
        return self.node(op, x, weights, bias, name=name)

    def samples(self, count: int) -> np.ndarray:
        shape = self.graph.type(self.graph.inputs[0]).shape
        return self.random.integers(-128, 128, (count, *shape)).astype(np.int8)

    def expected(self, samples: np.ndarray) -> bytes:
        name, out = self.graph.inputs[0], self.graph.outputs
        runs = [run_reference(self.graph, {name: sample}) for sample in samples]
        return b"".join(np.ascontiguousarray(run[value]).tobytes() for run in runs for value in out)


def stack(numerics: str = "onnx", seed: int = 0) -> Net:
    """Strided, padded, depthwise, grouped and pointwise convolutions: windows that pad, flat calls."""
    net = Net((1, 25, 5, 3), numerics, seed)
    x = net.conv("x", 8, 4, 3, Conv2D((2, 1), (1, 1), (1, 1, 2, 1)))
    x = net.conv(x, 8, 3, 3, Conv2D((1, 1), (1, 1), (1, 1, 1, 1), 8))
    x = net.conv(x, 6, 2, 1, Conv2D((1, 2), (2, 1), groups=2))
    net.conv(x, 5, 1, 1, Conv2D())
    return net


def branches(numerics: str = "onnx", seed: int = 1) -> Net:
    """Two operands, several calls in a layer, REDUCE with scratch, repeated rows, two outputs."""
    net = Net((1, 6, 4, 3), numerics, seed)
    a = net.conv("x", 4, 3, 3, Conv2D(pads=(1, 1, 1, 1)))
    b = net.node(MaxPool((3, 3), pads=(1, 1, 1, 1)), a)
    c = net.node(Add(), a, b)
    d = net.node(Concat(1), c, c)
    e = net.node(Resize(tuple(y // 2 for y in range(24)), tuple(range(4))), d)
    f = net.node(AveragePool((2, 2), (2, 2)), e)
    net.node(Mean(), f)
    net.graph.outputs = [d, net.graph.outputs[0]]
    return net


def placed(net: Net, name: str = "kws") -> Program:
    program = program_of(net.graph)
    program.name = name
    return program


MAIN = """\
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "NAME.h"
int main(void) {
  union { int8_t bytes[UPPER_ARENA_BYTES]; long double aligned[1]; } *arena = malloc(sizeof *arena);
  if (arena == NULL || UPPER_ARENA_ALIGN > 16u) return 9;
  if (NAME_run(NULL) != UPPER_ERROR_ARENA || NAME_run(arena->bytes + 1) != UPPER_ERROR_ARENA) return 8;
  memset(arena->bytes, 0x5a, UPPER_ARENA_BYTES);
  while (fread(NAME_input_0(arena), 1, UPPER_INPUT_0_BYTES, stdin) == UPPER_INPUT_0_BYTES) {
    if (NAME_run(arena) != UPPER_OK) return 7;
    OUTPUTS
  }
  free(arena);
  return 0;
}
"""


def build(folder: Path, text: str, libraries: list[Path], cc: str, *flags: str) -> Path:
    """An executable from a main and every source of the libraries."""
    (folder / "main.c").write_text(text)
    sources = [str(path) for library in libraries for path in sorted((library / "src").glob("*.c"))]
    includes = [f"-I{library / 'src'}" for library in libraries]
    program = folder / "main"
    command = [cc, "-O1", *WARNINGS, *flags, *includes, *sources, str(folder / "main.c"), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def run_c(program: Path, data: bytes) -> bytes:
    done = subprocess.run([str(program)], input=data, capture_output=True, check=False, env={"ASAN_OPTIONS": "detect_leaks=0"})
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def main_text(program: Program) -> str:
    name, upper = program.name, program.name.upper()
    outputs = " ".join(f"fwrite({name}_output_{i}(arena), 1, {upper}_OUTPUT_{i}_BYTES, stdout);" for i in range(len(program.outputs)))
    return MAIN.replace("OUTPUTS", outputs).replace("NAME", name).replace("UPPER", upper)


@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize("numerics", ["onnx", "tflite"])
@pytest.mark.parametrize("make", [stack, branches])
def test_emitted_c_equals_the_references(tmp_path, cc, numerics, make):
    need(cc)
    net = make(numerics)
    program = placed(net)
    write_library(program, tmp_path / "lib")
    samples = net.samples(5)
    executable = build(tmp_path, main_text(program), [tmp_path / "lib"], cc, *SANITIZE)
    assert run_c(executable, samples.tobytes()) == net.expected(samples)


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2))
def test_windows_of_any_shape(tmp_path_factory, seed, height, taps, stride, top, bottom):
    folder = tmp_path_factory.mktemp("window")
    net = Net((1, height + taps, 3, 2), seed=seed)
    net.conv("x", 3, taps, 1, Conv2D((stride, 1), (1, 1), (top, 0, bottom, 0)))
    program = placed(net, "w")
    write_library(program, folder / "lib")
    samples = net.samples(3)
    assert run_c(build(folder, main_text(program), [folder / "lib"], need("gcc"), *SANITIZE), samples.tobytes()) == net.expected(samples)


@pytest.mark.parametrize("window", [Window(9), Window(9, 3, 2, 1, 1), Window(9, 2, 1, 2, 0), Window(9, 1, 1, 1, -4), Window(9, 2, 1, 1, -3), Window(9, up=3)])
def test_row_index_is_the_window(window):
    operand = Operand("b", window, 4)
    for loop in (True, False):
        expression = row_index(operand, loop, tap=window.taps > 1).replace("/", "//")
        for y in range(4 if loop else 1):
            rows = [eval(expression, {"y": y, "k": k}) for k in range(window.taps)]
            assert [row if 0 <= row < 9 else -1 for row in rows] == window.rows(y)


def test_two_libraries_live_in_one_program(tmp_path):
    nets = {"one": stack("onnx", 3), "two": stack("tflite", 4)}
    main = "#include <stdio.h>\n" + "".join(f'#include "{name}.h"\n' for name in nets) + "int main(void) {\n"
    for name, net in nets.items():
        write_library(placed(net, name), tmp_path / name)
        upper = name.upper()
        main += f"  static union {{ long double align; int8_t bytes[{upper}_ARENA_BYTES]; }} {name};\n"
    for name in nets:
        main += f"  if (fread({name}_input_0(&{name}), 1, {name.upper()}_INPUT_0_BYTES, stdin) == 0) return 1;\n"
    for name in nets:
        main += f"  if ({name}_run(&{name}) != 0) return 2;\n"
    for name in nets:
        main += f"  fwrite({name}_output_0(&{name}), 1, {name.upper()}_OUTPUT_0_BYTES, stdout);\n"
    executable = build(tmp_path, main + "  return 0;\n}\n", [tmp_path / name for name in nets], need("gcc"), *SANITIZE)
    samples = [net.samples(1) for net in nets.values()]
    expected = b"".join(net.expected(sample) for net, sample in zip(nets.values(), samples, strict=True))
    assert run_c(executable, b"".join(sample.tobytes() for sample in samples)) == expected


def test_hooks_see_every_layer_once(tmp_path):
    net = branches()
    program = place(placed(net), Wish(by_rows=False))
    write_library(program, tmp_path / "lib")
    (tmp_path / "hooks.h").write_text(
        '#include <stdio.h>\n#define MIDGE_HOOK_BEGIN(layer) (printf("b%d\\n", layer))\n'
        '#define MIDGE_HOOK_END(layer, row, ptr, nbytes) (printf("e%d %d %d %d\\n", layer, row, nbytes, (ptr)[0]))\n'
    )
    text = (
        '#include "kws.h"\n#include <string.h>\nstatic long double arena[KWS_ARENA_BYTES];\n'
        "int main(void) {\n  memset(kws_input_0(arena), 3, KWS_INPUT_0_BYTES);\n  return kws_run(arena);\n}\n"
    )
    executable = build(tmp_path, text, [tmp_path / "lib"], need("gcc"), "-include", str(tmp_path / "hooks.h"))
    values = run_reference(net.graph, {"x": np.full((1, 6, 4, 3), 3, np.int8)})
    seen = dict(line.split(" ", 1) for line in run_c(executable, b"").decode().splitlines() if line[0] == "e")  # of a layer of several calls the last
    assert seen == {f"e{i}": f"0 {values[layer.buffer].nbytes} {values[layer.buffer].reshape(-1)[0]}" for i, layer in enumerate(program.layers)}


@pytest.mark.parametrize("cpu", ["cortex-m0", "cortex-m4", "cortex-m55"])
def test_arm_compiles_silently(tmp_path, cpu):
    cc = need("arm-none-eabi-gcc")
    write_library(placed(branches("tflite")), tmp_path / "lib")
    for source in sorted((tmp_path / "lib/src").glob("*.c")):
        done = subprocess.run(
            [cc, f"-mcpu={cpu}", "-mthumb", "-Os", *WARNINGS, "-c", str(source), "-o", "/dev/null"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_sections_hold_all_code_and_constants(tmp_path):
    write_library(placed(branches()), tmp_path / "lib")
    flags = ['-DKWS_CODE_SECTION=__attribute__((section(".itcm")))', '-DKWS_WEIGHTS_SECTION=__attribute__((section(".qspi")))', "-O1"]
    sizes = {}
    for source in sorted((tmp_path / "lib/src").glob("*.c")):
        target = tmp_path / f"{source.stem}.o"
        subprocess.run([need("gcc"), *WARNINGS, *flags, "-c", str(source), "-o", str(target)], check=True)
        listing = subprocess.run(["size", "-A", str(target)], capture_output=True, text=True, check=True).stdout
        for name, size in re.findall(r"^(\.\S+)\s+(\d+)", listing, re.M):
            sizes[name] = sizes.get(name, 0) + int(size)
    assert sizes[".text"] == 0
    assert sizes[".itcm"] > 0
    assert sizes[".qspi"] >= placed(branches()).weight_nbytes
    assert sizes.get(".data", 0) == sizes.get(".bss", 0) == 0


QUANTIZE_MAIN = """\
#include <stdio.h>
#include "kws.h"
int main() {
  float value;
  while (fread(&value, 4, 1, stdin) == 1) {
    int8_t q = kws_quantize_input_0(value);
    float back = kws_dequantize_output_0(q);
    if (fwrite(&q, 1, 1, stdout) != 1 || fwrite(&back, 4, 1, stdout) != 1) return 1;
  }
  return 0;
}
"""


@pytest.mark.parametrize(("zero_point", "scale"), [(-128, 0.5), (0, 0.1), (17, 0.25), (127, 3e-5)])
def test_quantize_helper_is_quantize_linear(tmp_path, zero_point, scale):
    """As C++, so that the header is known to be good for it; ties, ends, infinities and what is not a number included."""
    net = stack()
    for port in [net.graph.values["x"], net.graph.values[net.graph.outputs[0]]]:
        port.type = port.type.with_quant(DType.S8, Quant.of(scale, zero_point))
    write_library(placed(net), tmp_path / "lib")
    (tmp_path / "main.cpp").write_text(QUANTIZE_MAIN)
    include = f"-I{tmp_path / 'lib/src'}"
    flags = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-fsanitize=undefined", "-fno-sanitize-recover=all")
    subprocess.run([need("g++"), *flags, include, str(tmp_path / "main.cpp"), "-o", str(tmp_path / "main")], check=True)
    factor = np.float32(scale)
    values = np.concatenate([np.arange(-600, 600) * factor / 2, np.random.default_rng(0).normal(0, 100, 4000) * factor, [np.inf, -np.inf, 3e38, -3e38, 1e-45]])
    values = values.astype(np.float32)
    got = np.frombuffer(run_c(tmp_path / "main", values.tobytes() + np.float32(np.nan).tobytes()), np.dtype([("q", "i1"), ("back", "<f4")]))
    with np.errstate(over="ignore"):
        expected = np.clip(np.rint(values / factor).astype(np.float64) + zero_point, -128, 127).astype(np.int8)
    np.testing.assert_array_equal(got["q"][:-1], expected)
    assert got["q"][-1] == zero_point
    np.testing.assert_array_equal(got["back"], (got["q"].astype(np.int32) - zero_point).astype(np.float32) * factor)


def test_same_program_same_bytes():
    code = (
        "import sys; sys.path.insert(0, 'tests'); import hashlib, test_codegen as t; "
        "print(hashlib.sha256(repr(t.emit(t.placed(t.branches()))).encode()).hexdigest())"
    )
    root = Path(__file__).resolve().parent.parent
    expected = hashlib.sha256(repr(emit(placed(branches()))).encode()).hexdigest()
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env={"PYTHONHASHSEED": "77"}, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == expected, done.stderr


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
        ("", "model"),
        ("日本", "model"),
        ("modèle", "modele"),
        ("int", "int_net"),
        ("__x__", "x"),
        ("string", "string_net"),
        ("class", "class_net"),
        ("con", "con_net"),
        ("_Bool", "Bool_net"),
        ("midge_hooks", "midge_hooks_net"),
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


def test_manifest_describes_the_program(tmp_path):
    program = placed(stack())
    write_library(program, tmp_path / "lib", {"reference/graph.txt": "graph"})
    manifest = load_manifest(tmp_path / "lib")
    assert (manifest["name"], manifest["arena_bytes"], manifest["macs"]) == ("kws", program.arena_nbytes, program.macs)
    port = manifest["inputs"][0]
    assert (port["nbytes"], port["dtype"], port["shape"], port["offset"]) == (375, "s8", [1, 25, 5, 3], program.buffers["x"].offset)
    assert port["zero_point"] == program.inputs[0].type.q.z
    assert [layer["kernels"] for layer in manifest["layers"]] == [[call.kernel.symbols("onnx")[0]] for call in program.calls]
    listed = {entry["path"]: entry["sha256"] for entry in manifest["files"]}
    present = {path.relative_to(tmp_path / "lib").as_posix() for path in (tmp_path / "lib").rglob("*") if path.is_file()}
    assert listed.keys() == present - {"manifest.json"}
    assert listed["reference/graph.txt"] == hashlib.sha256(b"graph").hexdigest()


def test_changed_files_are_found(tmp_path):
    library = tmp_path / "lib"
    write_library(placed(stack()), library)
    assert changed_files(library) == []
    (library / "src/kws.h").write_text("changed")
    (library / "src/kws_weights.c").unlink()
    (library / "src/own.c").write_text("int x;")
    (library / "notes.txt").write_text("not compiled")
    assert changed_files(library) == ["src/kws.h", "src/kws_weights.c", "src/own.c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no manifest.json"),
        ("{", "cannot be read"),
        ("[" * 100000, "cannot be read"),
        ("[]", "was not written by midge"),
        ('{"name": "web app"}', "was not written by midge"),
        ('{"format": 99, "model_digest": ""}', "has format 99"),
        ('{"format": 1, "model_digest": ""}', "broken at name"),
    ],
)
def test_load_manifest_refuses(tmp_path, text, message):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_manifest(tmp_path)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "", 5])
def test_load_manifest_refuses_paths_outside(tmp_path, path):
    write_library(placed(stack()), tmp_path / "lib")
    body = json.loads((tmp_path / "lib/manifest.json").read_text())
    body["files"][2]["path"] = path
    (tmp_path / "lib/manifest.json").write_text(json.dumps(body))
    with pytest.raises(UsageError, match=r"files\[2\]"):
        changed_files(tmp_path / "lib")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_writing_replaces_what_midge_wrote(tmp_path):
    library = tmp_path / "deep/lib"
    assert write_library(placed(stack(), "old"), library) == library
    (library / "src/main.c").write_text("mine")
    (library / "link").symlink_to("nowhere")
    write_library(placed(stack(), "kws"), library)
    found = snapshot(library)
    assert "src/kws.c" in found
    assert not any("old" in path for path in found)
    assert found["src/main.c"] == b"mine"
    assert (library / "link").is_symlink()
    assert [path.name for path in library.parent.iterdir()] == ["lib"]
    assert library.stat().st_mode & 0o055 == tmp_path.joinpath("deep").stat().st_mode & 0o055


def test_writing_refuses_what_midge_did_not_write(tmp_path):
    program = placed(stack())
    (tmp_path / "empty").mkdir()
    write_library(program, tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/manifest.json").write_text('{"name": "web app"}')
    (tmp_path / "more").mkdir()
    (tmp_path / "more/a.txt").write_text("x")
    before = snapshot(tmp_path)
    for name, message in (("file", "is a file"), ("other", "was not written by midge"), ("more", "is not empty"), ("file/lib", "cannot be written")):
        with pytest.raises(UsageError, match=message):
            write_library(program, tmp_path / name)
    assert snapshot(tmp_path) == before


def test_a_failed_write_leaves_the_old_library(tmp_path, monkeypatch):
    write_library(placed(stack(), "old"), tmp_path / "lib")
    before, rename = snapshot(tmp_path), Path.rename

    def failing(self, target):
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(UsageError, match="No space left"):
        write_library(placed(stack()), tmp_path / "lib")
    assert snapshot(tmp_path) == before
