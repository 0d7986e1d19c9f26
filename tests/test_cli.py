# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints where, how it ends, and that its promises hold on real libraries."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import onnx
import pytest
from cli_support import SCALE, SHOWN, ZERO_POINT, assert_fails, float_model, needs_gcc, run, run_json

from midge import api, cli_common
from midge.cli import main
from midge.fixedpoint import NUMERICS
from midge.ptq.observers import OBSERVERS

COMMANDS = ("inspect", "quantize", "compile", "verify", "board", "tune", "targets", "ops", "lint-flags", "report", "plan", "evidence", "link")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0 and result.stderr == ""
    assert f"\n  midge {command}" in result.stdout and "--json" in result.stdout


def test_help_lists_every_command() -> None:
    result = run("--help")
    assert set(main.commands) == set(COMMANDS)
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", result.stdout, re.MULTILINE)


def test_python_dash_m_in_a_pipe(model: Path) -> None:
    """A real process whose standard output is no terminal: plain text, 120 columns."""
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")} | {"TERM": "xterm-256color"}
    done = subprocess.run([sys.executable, "-m", "midge", "inspect", str(model)], capture_output=True, env=environment, encoding="utf-8", check=True)
    assert done.stderr == "" and "\x1b" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 120
    version = subprocess.run([sys.executable, "-m", "midge", "--version"], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"midge, version \d+\.\d+\.\d+\n", version)


def test_error_of_a_real_process(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "midge", "inspect", str(tmp_path / "no.onnx")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: .*no\.onnx: no such file\n", done.stderr)


def test_choices_are_those_of_the_registries() -> None:
    offered = {p.name: set(p.type.choices) for p in main.commands["compile"].params if isinstance(p.type, click.Choice)}
    assert offered["numerics"] == set(NUMERICS)
    assert offered["observer"] == set(OBSERVERS)
    assert offered["io"] == set(api.IO)
    assert offered["optimize"] == set(api.OPTIMIZE)


def test_level_of_optimization_is_shown_and_kept(model: Path, tmp_path: Path) -> None:
    """And of each layer, why better kernels were not taken."""
    done = run("compile", model, "-o", tmp_path / "lib", "--optimize", "size")
    assert done.exit_code == 0 and re.search(r"^optimized for +size *$", done.stdout, re.MULTILINE)
    manifest = json.loads((tmp_path / "lib" / "manifest.json").read_text("utf-8"))
    assert manifest["optimize"] == "size"
    assert "costs more code than the portable kernel" in " ".join(manifest["layers"][0]["refused"])
    shown = run_json("compile", model, "-o", tmp_path / "other")
    assert shown["optimize"] == "balanced"
    assert [line["refused"] for line in shown["layers"]] == [line["refused"] for line in load_layers(tmp_path / "other")]


def load_layers(directory: Path) -> list[dict[str, Any]]:
    layers = json.loads((directory / "manifest.json").read_text("utf-8"))["layers"]
    assert isinstance(layers, list)
    return layers


def test_inspect_of_a_quantized_model(model: Path) -> None:
    found = run_json("inspect", model)
    assert (found["form"], found["opset"], found["problem"], found["needs_calibration"]) == ("QDQ", 13, "", False)
    assert found["macs"] == 8 * 8 * 4 * 27 and found["weights"] == 4 * 27
    (port,) = found["inputs"]
    assert (port["name"], port["dtype"], port["shape"], port["zero_point"]) == ("x", "float32", [1, 3, 8, 8], ZERO_POINT)
    assert port["scale"] == pytest.approx(SCALE)
    assert {line["op"]: (line["count"], line["offered"]) for line in found["operators"]} == {
        "Conv": (1, "yes"),
        "DequantizeLinear": (4, "yes"),
        "GlobalAveragePool": (1, "yes"),
        "QuantizeLinear": (3, "yes"),
        "Relu": (1, "yes"),
    }


def test_inspect_says_that_calibration_is_missing(tmp_path: Path) -> None:
    path = float_model(tmp_path / "f.onnx")
    found = run_json("inspect", path)
    assert (found["form"], found["needs_calibration"]) == ("float32", True)
    assert [line["kind"] for line in found["layers"] if line["macs"]] == ["Conv2D"]
    assert "--calibration" in run("inspect", path).stdout


def test_inspect_of_a_model_that_is_not_offered(tmp_path: Path) -> None:
    """Everything that can be said is said; the exit code is that of compiling it."""
    path = float_model(tmp_path / "f.onnx", op="Hardmax")
    found = run_json("inspect", path, code=4)
    assert {line["op"]: line["offered"] for line in found["operators"]} == {"Conv": "yes", "Hardmax": "no"}
    assert "Hardmax 'act'" in found["problem"] and not found["needs_calibration"]


def test_inspect_of_open_shapes(tmp_path: Path) -> None:
    path = float_model(tmp_path / "f.onnx", shape=("n", 3, "h", "w"))
    assert "--shape x=" in run_json("inspect", path, code=4)["problem"]
    assert run_json("inspect", path, "--shape", "x=1,3,10,12")["macs"] == 8 * 10 * 2 * 27
    assert_fails(run("inspect", path, "--shape", "z=1,3,10,12"), 2, "no such input")
    assert run("inspect", path, "--shape", "x=1,three").exit_code == 2


@pytest.mark.parametrize("command", ["inspect", "compile", "verify"])
def test_names_of_the_model_are_printed_as_they_are(command: str, model: Path, tmp_path: Path) -> None:
    if command == "verify" and shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    where: list[str | Path] = ["-o", tmp_path / "lib"] if command == "compile" else []
    result = run(command, model, *where)
    assert result.exit_code == 0, result.output
    assert SHOWN in result.stdout and "\x1b" not in result.output


def test_quantize_writes_a_model_that_compiles(tmp_path: Path, samples: Path) -> None:
    path, out = float_model(tmp_path / "f.onnx"), tmp_path / "q.onnx"
    found = run_json("quantize", path, "--calibration", samples, "--observer", "percentile", "-o", out)
    assert found["samples"] == 6 and found["nbytes"] == out.stat().st_size
    onnx.checker.check_model(onnx.load(out), full_check=True)
    assert run_json("inspect", out)["form"] == "QDQ"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["f.onnx", "q.onnx", "samples.npz"]
    assert run("compile", out, "-o", tmp_path / "lib").exit_code == 0
    text = run("quantize", path, "--calibration", samples, "-o", out).stdout
    assert "6 samples used" in text and "Conv2D" in text


def test_quantize_leaves_nothing_behind_when_it_cannot_write(tmp_path: Path, samples: Path) -> None:
    (tmp_path / "taken").mkdir()
    path = float_model(tmp_path / "f.onnx")
    for output in ("taken", "no_folder/q.onnx"):
        assert_fails(run("quantize", path, "--calibration", samples, "-o", tmp_path / output), 2, "cannot be written")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["f.onnx", "samples.npz", "taken"]


def test_compile_reports_what_it_wrote(model: Path, tmp_path: Path) -> None:
    found = run_json("compile", model, "-o", tmp_path / "lib", "--target", "cortex-m0", "--name", "kws")
    manifest = json.loads((tmp_path / "lib" / "manifest.json").read_text())
    assert (tmp_path / "lib" / found["header"]).is_file()
    for key, in_manifest in (("name", "name"), ("target", "target"), ("macs", "macs"), ("arena_nbytes", "arena_bytes"), ("lower_bound", "lower_bound")):
        assert found[key] == manifest[in_manifest]
    assert [layer["name"] for layer in found["layers"]] == [layer["name"] for layer in manifest["layers"]]


@needs_gcc
def test_what_compile_says_builds(model: Path, tmp_path: Path) -> None:
    """The lines of C and the command line that are printed, put into a program and run."""
    directory = tmp_path / "my lib"
    found = run_json("compile", model, "-o", directory, "--target", "host", "--name", "kws")
    text = run("compile", model, "-o", directory, "--target", "host", "--name", "kws").stdout
    assert all(line in text for line in [*found["call"], found["build"]])
    arena = "static union { long long align[2]; signed char bytes[KWS_ARENA_BYTES]; } memory; signed char *arena = memory.bytes;"
    calls = "\n".join(found["call"])
    source = (
        f'#include <string.h>\n#include "kws.h"\nint main(void) {{ {arena} static int8_t input_0[KWS_INPUT_0_BYTES];\n{calls}\nreturn error || !output_0; }}\n'
    )
    (tmp_path / "main.c").write_text(source)
    subprocess.run(found["build"], shell=True, cwd=tmp_path, check=True)
    objects = sorted(str(path) for path in tmp_path.glob("*.o"))
    subprocess.run(["gcc", "-I", str(directory / "src"), "main.c", *objects, "-o", "program"], cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "program"], check=True)


def test_compile_refuses_a_folder_that_holds_something_else(model: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("the only copy")
    assert_fails(run("compile", model, "-o", tmp_path), 2, str(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_exit_codes(model: Path, library: Path, tmp_path: Path, samples: Path) -> None:
    out = tmp_path / "out"
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(model.read_bytes()[:100])
    assert_fails(run("compile", tmp_path / "absent.onnx", "-o", out), 2, "no such file")
    assert_fails(run("compile", broken, "-o", out), 3, "broken.onnx")
    assert_fails(run("compile", float_model(tmp_path / "f.onnx"), "-o", out), 4, "--calibration")
    assert_fails(run("compile", tmp_path / "f.onnx", "-o", out, "--calibration", tmp_path / "absent.npz"), 2, "absent.npz")
    assert_fails(run("verify", library, "--numerics", "tflite"), 2, "--numerics", "compiled already")
    assert_fails(run("verify", library, "--on", "qemu", "--sanitize"), 2, "--sanitize")
    assert_fails(run("verify", library, "--data", tmp_path / "absent.npz"), 2, "absent.npz")
    assert_fails(run("verify", tmp_path), 2, "manifest.json")
    assert run("compile", model).exit_code == run("compile", model, "-o", out, "--target", "z80").exit_code == 2
    assert not out.exists()


def test_a_missing_tool(library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert_fails(run("verify", library), 6, "gcc", "apt-get install")
    missing = {tool["name"]: tool for tool in run_json("targets")["tools"]}
    assert missing["qemu-system-arm"]["path"] is None and "apt-get install qemu-system-arm" in missing["qemu-system-arm"]["missing"]


def test_bugs_and_interrupts(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise failure

    monkeypatch.setattr(api, "compile", fail)
    monkeypatch.delenv("MIDGE_DEBUG", raising=False)
    failure: BaseException = RuntimeError("boom")
    result = run("compile", model, "-o", tmp_path / "out")
    assert result.exit_code == 70 and re.fullmatch(r"midge has a bug: RuntimeError: boom .*MIDGE_DEBUG=1.*\n", result.stderr)
    failure = KeyboardInterrupt()
    result = run("compile", model, "-o", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    monkeypatch.setenv("MIDGE_DEBUG", "1")
    failure = RuntimeError("boom")
    assert run("compile", model, "-o", tmp_path / "out").exception is failure


def test_targets_and_ops() -> None:
    targets = {line["name"]: line for line in run_json("targets")["targets"]}
    assert "-mcpu=cortex-m4" in targets["cortex-m4"]["flags"] and targets["riscv32"]["board"] is None
    operators = {line["operator"]: line for line in run_json("ops")["operators"]}
    assert operators["Conv"]["family"] == "conv" and operators["QLinearAdd"]["domain"] == "com.microsoft"
    assert all(line["what"] for line in operators.values())
    text = run("ops").stdout
    assert f"{len(operators)} operators" in text
    assert len(text.splitlines()) == len(operators) + 5  # one line each, the title and the heading
    assert "mps2-an386" in run("targets").stdout


def test_progress_is_shown_on_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        with cli_common.progress_bar("calibrating", show=True) as progress:
            progress(1, 2)
        assert ("calibrating" in stream.getvalue()) is terminal
