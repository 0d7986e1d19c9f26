# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command line share: running commands, and small models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from midge.cli import main

LAYER = "[red]conv[/red] \x1b[2J"
SHOWN = "[red]conv[/red] \\x1b[2J"
SCALE, ZERO_POINT = 0.05, -3
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def run_json(*args: str | Path, code: int = 0) -> dict[str, Any]:
    """The one JSON object on the standard output."""
    result = run(*args, "--json")
    assert result.exit_code == code, result.output
    loaded = json.loads(result.stdout)
    assert isinstance(loaded, dict)
    return loaded


def assert_fails(result: Result, code: int, *words: str) -> None:
    """One line on the standard error, no traceback, the right exit code."""
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    for word in words:
        assert word in lines[0]


def save(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: tuple[int | str, ...] = (1, 3, 8, 8), rank: int = 4) -> Path:
    """A model from x to y, both float32."""
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)]
    graph = helper.make_graph(nodes, "small", *ports, [numpy_helper.from_array(data, name) for name, data in constants.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def qdq(value: str, scale: str) -> list[onnx.NodeProto]:
    """value -> value_dq through int8."""
    return [
        helper.make_node("QuantizeLinear", [value, scale, f"{scale}_zp"], [f"{value}_q"]),
        helper.make_node("DequantizeLinear", [f"{value}_q", scale, f"{scale}_zp"], [f"{value}_dq"]),
    ]


def qdq_model(path: Path) -> Path:
    """Convolution, ReLU and global average, quantized; the convolution has a hostile name."""
    random = np.random.default_rng(1)
    constants = {
        "s0": np.float32(SCALE),
        "s0_zp": np.int8(ZERO_POINT),
        "s1": np.float32(0.1),
        "s1_zp": np.int8(-128),
        "w": random.integers(-127, 128, (4, 3, 3, 3), np.int8),
        "ws": np.full(4, 0.01, np.float32),
        "wz": np.zeros(4, np.int8),
    }
    nodes = [
        *qdq("x", "s0"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        helper.make_node("Conv", ["x_dq", "wf"], ["c"], name=LAYER, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        *qdq("r", "s1"),
        helper.make_node("GlobalAveragePool", ["r_dq"], ["p"], name="mean"),
        helper.make_node("QuantizeLinear", ["p", "s1", "s1_zp"], ["p_q"]),
        helper.make_node("DequantizeLinear", ["p_q", "s1", "s1_zp"], ["y"]),
    ]
    return save(path, nodes, {name: np.asarray(data) for name, data in constants.items()})


def float_model(path: Path, op: str = "Relu", shape: tuple[int | str, ...] = ("batch", 3, 8, 8)) -> Path:
    weights = np.random.default_rng(2).normal(0, 0.3, (2, 3, 3, 3)).astype(np.float32)
    return save(path, [helper.make_node("Conv", ["x", "w"], ["c"], name="conv"), helper.make_node(op, ["c"], ["y"], name="act")], {"w": weights}, shape)


def sample_file(path: Path) -> Path:
    """Six samples for the models here."""
    np.savez(path, x=np.random.default_rng(3).normal(0, 1, (6, 3, 8, 8)).astype(np.float32))
    return path
