# SPDX-License-Identifier: Apache-2.0
"""The test bench that a library carries: it passes on what midge wrote, and names the layer whose weights were changed, on the host and on an emulated core."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_support import SHOWN, assert_fails, needs_gcc, qdq, qdq_model, run, save
from hil_support import STRICT, flip_weight
from onnx import helper

from midge.codegen.manifest import changed_files, load_manifest
from midge.run.firmware import library_sources
from midge.targets import get_board, get_target
from midge.toolchain import compile_objects, link, runtime_dir

pytestmark = [needs_gcc, pytest.mark.skipif(shutil.which("make") is None, reason="needs make")]
needs_arm = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None, reason="needs arm-none-eabi-gcc and qemu-system-arm"
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    result = run("compile", qdq_model(folder / "small.onnx"), "-o", folder / "lib", "--name", "kws", "--golden", "--test-samples", "3")
    assert result.exit_code == 0 and f"make -C {folder / 'lib'}/test check" in result.stdout
    return folder / "lib"


def check(folder: Path, *options: str) -> tuple[int, str]:
    """Exit code of the bench and what it prints, built by its Makefile; the build is outside of the library."""
    done = subprocess.run(
        ["make", "-s", f"BUILD={folder.parent / (folder.name + '_built')}", *options, f"{folder.parent / (folder.name + '_built')}/golden"],
        cwd=folder / "test",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ran = subprocess.run([str(folder.parent / (folder.name + "_built") / "golden")], capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout


def test_the_bench_passes_on_what_was_written(library: Path) -> None:
    layers = len(load_manifest(library)["layers"])
    assert check(library, f"CFLAGS=-O1 {' '.join(STRICT)} -fsanitize=address,undefined") == (
        0,
        f"3 samples: outputs and {layers} of {layers} layers are as they should be\n",
    )
    assert changed_files(library) == []
    assert all(any(entry["path"] == f"test/{name}" for entry in load_manifest(library)["files"]) for name in ("main.c", "Makefile", "CMakeLists.txt"))


def test_a_flipped_weight_is_found_and_the_layer_named(library: Path, tmp_path: Path) -> None:
    conv = next(layer["index"] for layer in load_manifest(library)["layers"] if layer["kind"] == "Conv2D")
    code, text = check(flip_weight(library, tmp_path / "lib"))
    assert code == conv + 1 and text == f"sample 0: layer {conv} '{SHOWN.replace(chr(92) + 'x1b', '?')}' differs\n"


def test_a_library_without_hooks_is_compared_by_its_outputs(library: Path, tmp_path: Path) -> None:
    shutil.copytree(library, tmp_path / "lib")
    makefile = tmp_path / "lib" / "test" / "Makefile"
    makefile.write_text(makefile.read_text().replace("-include golden_hooks.h ", ""))
    code, text = check(tmp_path / "lib")
    assert code == 0 and text.startswith("3 samples: outputs and 0 of ")
    broken = flip_weight(tmp_path / "lib", tmp_path / "broken")
    assert check(broken) == (len(load_manifest(library)["layers"]) + 1, "sample 0: output 0 differs\n")


def test_errors_of_the_library_have_a_code_of_their_own(library: Path, tmp_path: Path) -> None:
    shutil.copytree(library, tmp_path / "lib")
    source = tmp_path / "lib" / "src" / "kws.c"
    source.write_text(source.read_text().replace("return KWS_OK;", "return -7;"))
    assert check(tmp_path / "lib") == (255, "sample 0: the library returned -7\n")


def joined_model(path: Path) -> Path:
    """Two convolutions whose channels are joined: several calls complete one row."""
    random = np.random.default_rng(1)
    constants = {
        "s0": np.float32(0.05),
        "s0_zp": np.int8(-3),
        "s1": np.float32(0.1),
        "s1_zp": np.int8(0),
        "ws": np.full(4, 0.01, np.float32),
        "wz": np.zeros(4, np.int8),
    }
    nodes: list[onnx.NodeProto] = [*qdq("x", "s0")]
    for name in ("a", "b"):
        constants[f"w{name}"] = random.integers(-127, 128, (4, 3, 3, 3), np.int8)
        nodes += [
            helper.make_node("DequantizeLinear", [f"w{name}", "ws", "wz"], [f"w{name}f"], axis=0),
            helper.make_node("Conv", ["x_dq", f"w{name}f"], [name], name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            *qdq(name, "s1"),
        ]
    nodes += [helper.make_node("Concat", ["a_dq", "b_dq"], ["c"], name="join", axis=1), helper.make_node("QuantizeLinear", ["c", "s1", "s1_zp"], ["c_q"])]
    nodes += [helper.make_node("DequantizeLinear", ["c_q", "s1", "s1_zp"], ["y"])]
    return save(path, nodes, {name: np.asarray(data) for name, data in constants.items()})


@pytest.mark.parametrize("options", ["", "--optimize ram", "--stream-input", "--stepwise --stream-output", "--schedule layers --io model"])
@pytest.mark.parametrize("make_model", [qdq_model, joined_model])
def test_rows_in_any_order(make_model, options: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Whatever the schedule shows, every layer is compared."""
    model = make_model(tmp_path / "m.onnx")
    assert run("compile", model, "-o", tmp_path / "lib", "--golden", *options.split()).exit_code == 0
    layers = len(load_manifest(tmp_path / "lib")["layers"])
    assert check(tmp_path / "lib") == (0, f"2 samples: outputs and {layers} of {layers} layers are as they should be\n")


def test_own_data(tmp_path: Path) -> None:
    model = qdq_model(tmp_path / "m.onnx")
    data = tmp_path / "x.npy"
    np.save(data, np.full((5, 3, 8, 8), 0.05, np.float32))
    assert run("compile", model, "-o", tmp_path / "lib", "--test-data", data, "--test-samples", "4").exit_code == 0
    text = (tmp_path / "lib" / "test" / "golden_data.c").read_text()
    assert "golden_samples = 4u" in text and text.count("-2") == 0  # inputs as unsigned bytes: 0.05 / 0.05 - 3 is 254
    assert "254, 254, 254" in text
    assert check(tmp_path / "lib")[0] == 0
    assert_fails(run("compile", model, "-o", tmp_path / "no", "--test-samples", "4"), 2, "add --golden")


def test_cmake_builds_it(library: Path, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("needs cmake")
    for name, folder, code in (("right", library, 0), ("wrong", flip_weight(library, tmp_path / "flipped"), 8)):
        subprocess.run(["cmake", "-S", folder / "test", "-B", tmp_path / name], check=True, capture_output=True)
        subprocess.run(["cmake", "--build", tmp_path / name], check=True, capture_output=True)
        done = subprocess.run(["ctest", "--test-dir", tmp_path / name], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout


@needs_arm
@pytest.mark.parametrize("name", ["cortex-m0", "cortex-m4"])
def test_on_an_emulated_core(library: Path, tmp_path: Path, name: str) -> None:
    target, runtime = get_target(name), runtime_dir()
    board = get_board(target)
    for number, folder in enumerate((library, flip_weight(library, tmp_path / "flipped"))):
        test, work = folder / "test", tmp_path / str(number)
        includes = (folder / "src", test, runtime)
        objects = compile_objects(library_sources(folder), work / "library", target, includes=includes, extra=("-include", "golden_hooks.h"))
        objects += compile_objects(sorted(test.glob("*.c")), work / "test", target, includes=includes, defines=("GOLDEN_QUIET",), extra=STRICT)
        timer = (f"{board.timer.kind}=1", f"TIMER_BASE={board.timer.base:#x}u")
        port = compile_objects([runtime / "startup_cortexm.c", runtime / "port_semihost.c"], work / "port", target, includes=includes, defines=timer)
        image = link([*port, *objects], work / "golden.elf", target, script=runtime / board.linker_script)
        command = [
            "qemu-system-arm",
            *board.qemu_args,
            "-display",
            "none",
            "-monitor",
            "none",
            "-serial",
            "none",
            "-semihosting-config",
            "enable=on,target=native",
        ]
        done = subprocess.run([*command, "-kernel", str(image)], timeout=60, check=False)
        conv = next(layer["index"] for layer in load_manifest(library)["layers"] if layer["kind"] == "Conv2D")
        assert done.returncode == (conv + 1 if number else 0)
