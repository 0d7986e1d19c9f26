# SPDX-License-Identifier: Apache-2.0
"""What the tests of packages share: a model whose output on zeros says something, libraries of every way to call, tools that may be missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import midge

WAYS: dict[str, dict[str, object]] = {
    "kws": {"target": "cortex-m4"},
    "Kws_2": {"target": "cortex-m55", "stream_input": True},
    "test": {"target": "cortex-m0", "stepwise": True, "io": "model"},
    "fn": {"target": "host"},
    "rv": {"target": "riscv32", "numerics": "tflite"},
}
"""Libraries by name: each way to call one, with and without a board; names that build systems and languages keep for themselves."""
SAMPLES = np.random.default_rng(3).normal(0, 1, (6, 3, 8, 8)).astype(np.float32)
"""What the model is calibrated with."""


@cache
def model() -> bytes:
    """Convolution and global average, with a bias: six outputs that differ on an input of zeros."""
    rng = np.random.default_rng(5)
    held = {"w": rng.normal(0, 0.3, (6, 3, 3, 3)).astype(np.float32), "b": np.array([-1.5, -0.7, -0.1, 0.2, 0.9, 1.4], np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]), helper.make_node("GlobalAveragePool", ["c"], ["y"], name="mean")]
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "small", *ports, [numpy_helper.from_array(data, name) for name, data in held.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


@cache
def library(name: str) -> midge.Library:
    return midge.compile(model(), name=name, calibration={"x": SAMPLES}, **WAYS[name])


@cache
def expected(name: str) -> str:
    """The elements of the output on zeros, as the examples print them."""
    net = library(name)
    port = net.program.inputs[0]
    zeros = np.full(port.type.shape, port.type.quant.z if port.type.quant else 0, port.type.dtype.numpy)
    return " ".join(f"{value:g}" for value in np.asarray(net.run(zeros)).reshape(-1).tolist())


def write(name: str, folder: Path, packages: tuple[str, ...]) -> Path:
    return library(name).write(folder / name, packages)


def needs(*tools: str) -> pytest.MarkDecorator:
    missing = [tool for tool in tools if find(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def find(tool: str) -> str | None:
    """A program on the path or beside the Python that runs."""
    beside = Path(sys.executable).parent / tool
    return str(beside) if beside.is_file() else shutil.which(tool)


def sh(*command: str | Path, cwd: Path, timeout: int = 300, **environment: str) -> str:
    """What a command prints; the test fails, showing it, if the command does."""
    full = [find(str(command[0])) or str(command[0]), *map(str, command[1:])]
    clean = {name: value for name, value in os.environ.items() if name not in ("CC", "CFLAGS", "AR", "MAKEFLAGS", "MAKELEVEL", "ZEPHYR_BASE")}
    done = subprocess.run(full, cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{' '.join(full)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


def shown(text: str, label: str = "output 0:") -> str:
    """What an example printed after a label, brackets and commas of Rust apart."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith(label)]
    assert len(lines) == 1, text
    return " ".join(f"{float(word.strip('[],')):g}" for word in lines[0].removeprefix(label).split())
