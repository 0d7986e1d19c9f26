# SPDX-License-Identifier: Apache-2.0
"""midge verify --on qemu on every emulated board: inputs in, every layer and the outputs out, instructions, stack, and sizes of the library."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_support import qdq_model, run, run_json

from midge.targets import TARGETS

pytestmark = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None, reason="needs arm-none-eabi-gcc and qemu-system-arm"
)


@pytest.mark.parametrize("name", [target.name for target in TARGETS.values() if target.board is not None])
def test_every_board(name: str, tmp_path: Path) -> None:
    found = run_json("verify", qdq_model(tmp_path / "m.onnx"), "--on", "qemu", "--target", name, "--samples", "1")
    assert found["exact"] and found["target"] == name and {line["state"] for line in found["layers"]} == {"exact"}
    assert all(line["instructions_under_qemu"] >= 0 for line in found["layers"]) and found["instructions_under_qemu"] > 1000
    assert 50 < found["stack_bytes"] < 2000
    sizes = found["sizes"]
    assert sizes["text"] > 500 and sizes["rodata"] > 4 * 27 and sizes["data"] == sizes["bss"] == 0  # the library has no variables


def test_the_table_and_outputs_only(tmp_path: Path) -> None:
    assert run("compile", qdq_model(tmp_path / "m.onnx"), "-o", tmp_path / "lib").exit_code == 0
    shown = run("verify", tmp_path / "lib", "--on", "qemu", "--samples", "1").stdout
    assert "instructions under QEMU" in shown and "bytes of stack" in shown and "0 data, 0 bss" in shown
    found = run_json("verify", tmp_path / "lib", "--on", "qemu", "--samples", "1", "--no-layers")
    assert found["exact"] and found["instructions_under_qemu"] > 1000
    assert {(line["state"], line["instructions_under_qemu"]) for line in found["layers"]} == {("not compared", None)}
