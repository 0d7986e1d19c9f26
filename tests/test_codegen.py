# SPDX-License-Identifier: Apache-2.0
"""Emission of the C library: the C computes what the references say, and compiles silently everywhere."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from codegen_support import SANITIZE, WARNINGS, Net, branches, build, main_text, need, placed, run_c, stack
from hypothesis import given, settings
from hypothesis import strategies as st
from support import run_reference

from midge.codegen.blocks import row_index
from midge.codegen.c import emit
from midge.codegen.write import write_library
from midge.ir import DType, Quant
from midge.ops.conv import Conv2D
from midge.program import Operand, Window
from midge.schedule import Wish, place


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
        "import sys; sys.path.insert(0, 'tests'); import hashlib, codegen_support as t, test_codegen as c; "
        "print(hashlib.sha256(repr(c.emit(t.placed(t.branches()))).encode()).hexdigest())"
    )
    root = Path(__file__).resolve().parent.parent
    expected = hashlib.sha256(repr(emit(placed(branches()))).encode()).hexdigest()
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env={"PYTHONHASHSEED": "77"}, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == expected, done.stderr
