# SPDX-License-Identifier: Apache-2.0
"""What the tests of emission share: small networks, and programs that are built from their libraries."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import program_of, run_reference

from midge.ir import DType, Graph, Node, Op, Quant, TensorType
from midge.ops.binary import Add
from midge.ops.conv import Conv2D
from midge.ops.join import Concat
from midge.ops.mean import Mean
from midge.ops.pool import AveragePool, MaxPool
from midge.ops.resize import Resize
from midge.program import Program

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wmissing-prototypes", "-Wshadow", "-Wcast-qual", "-Werror")


SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


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
