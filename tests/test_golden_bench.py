# SPDX-License-Identifier: Apache-2.0
"""The test bench that a library carries: it passes on what midge wrote, and names the layer whose weights were changed, on the host and on an emulated core."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_support import SHOWN, assert_fails, needs_gcc, qdq, qdq_model, run, save
from hil_support import STRICT, flip_weight
from onnx import helper

import midge
from midge.codegen.c import emit
from midge.codegen.manifest import changed_files, load_manifest, manifest_text
from midge.codegen.names import c_identifier
from midge.run.choose import constant_layers, telling_samples
from midge.run.firmware import adapter_header, library_sources
from midge.run.samples import random_samples
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
    code, text = check(tmp_path / "lib")
    assert code == 0 and text.endswith(f" samples: outputs and {layers} of {layers} layers are as they should be\n")


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


def test_how_many_samples_there_are_is_said_and_which_layers_they_cannot_judge(tmp_path: Path) -> None:
    model = qdq_model(tmp_path / "m.onnx")
    varied, flat = np.random.default_rng(3).uniform(-4, 4, (4, 3, 8, 8)).astype(np.float32), np.zeros((4, 3, 8, 8), np.float32)
    said = {}
    for name, data in (("varied", varied), ("flat", flat)):
        np.save(tmp_path / f"{name}.npy", data)
        done = run("compile", model, "-o", tmp_path / "lib", "--test-data", tmp_path / f"{name}.npy", "--test-samples", "9", "--json")
        assert done.exit_code == 0 and json.loads(done.stdout)
        assert f"test/ holds 4 samples: {tmp_path / name}.npy has no more, 9 were asked for\n" in done.stderr
        said[name] = done.stderr.count("gives one value only")
    assert said["varied"] == 0 < said["flat"]
    assert "test/ holds 1 sample\n" in run("compile", model, "-o", tmp_path / "lib", "--golden", "--test-samples", "1").stderr


def narrow_model(path: Path) -> Path:
    """A convolution that sums up, with a clamp: beyond zero for coarse patterns only."""
    constants = {"s0": np.float32(0.05), "s0_zp": np.int8(0), "s1": np.float32(0.05), "s1_zp": np.int8(-128)}
    constants |= {"w": np.full((2, 3, 8, 8), 2, np.int8), "ws": np.float32(0.01), "wz": np.int8(0), "b": np.full(2, -20_000, np.int32)}
    constants |= {"bs": np.float32(0.0005), "bz": np.int32(0)}
    nodes = [*qdq("x", "s0"), helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"]), helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bf"])]
    nodes += [helper.make_node("Conv", ["x_dq", "wf", "bf"], ["a"], name="a", kernel_shape=[8, 8]), *qdq("a", "s1")]
    nodes += [helper.make_node("Identity", ["a_dq"], ["y"])]
    return save(path, nodes, {name: np.asarray(data) for name, data in constants.items()})


def test_chosen_samples_wake_layers_that_noise_leaves_asleep(tmp_path: Path) -> None:
    library = midge.compile(narrow_model(tmp_path / "m.onnx"), target="host")
    program, graph = library.program, library.graph
    conv = next(layer.index for layer in program.layers if layer.kind == "Conv2D")
    assert conv in constant_layers(program, graph, random_samples(graph, 8))
    chosen = telling_samples(program, graph, 2)
    assert constant_layers(program, graph, chosen) == []
    assert all(np.array_equal(a, b) for one, other in zip(chosen, telling_samples(program, graph, 2), strict=True) for a, b in zip(one, other, strict=True))
    assert len(telling_samples(program, graph, 40)) == 40  # more than there are to choose from


@pytest.mark.parametrize("name", ["golden", "Model", "status"])
def test_names_of_the_bench_are_not_the_librarys(name: str, tmp_path: Path) -> None:
    """A file may have any name; a name that was given is kept or refused."""
    assert run("compile", qdq_model(tmp_path / f"{name}.onnx"), "-o", tmp_path / "lib", "--golden").exit_code == 0
    assert load_manifest(tmp_path / "lib")["name"] == f"{name}_net"
    assert check(tmp_path / "lib")[0] == 0
    assert_fails(run("compile", tmp_path / f"{name}.onnx", "-o", tmp_path / "no", "--name", name), 2, f"name '{name}': is taken", f"for example {name}_net")


def test_no_library_has_names_of_midges_own_files(tmp_path: Path) -> None:
    """Whatever a library defines as NAME_x, for each name y_x in the firmware: y is no name for a library."""
    model, words = qdq_model(tmp_path / "m.onnx"), re.compile(r"\b[A-Za-z_]\w*")
    ours, endings = set[str](), {"reset"}  # of libraries with state
    for options in ({}, {"stream_input": True}, {"stepwise": True, "io": "model"}, {"stream_output": True}):
        program = midge.compile(model, target="cortex-m4", name="Own", **options).program
        ours |= set(words.findall(adapter_header(json.loads(manifest_text(program, {})))))
        endings |= {word[4:] for text in emit(program).values() for word in words.findall(text) if word.lower().startswith("own_")}
    for path in runtime_dir().glob("*.[ch]"):
        ours |= set(words.findall(re.sub(r'/\*.*?\*/|"[^"\n]*"', "", path.read_text("utf-8"), flags=re.S)))
    clashes = {word[: -len(ending) - 1] for word in ours for ending in endings if word.endswith(f"_{ending}") and not word.lower().startswith("own_")}
    assert {"golden", "model", "midge"} <= clashes
    assert {name for name in clashes if c_identifier(name) == name} == set()


def test_cmake_builds_it(library: Path, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("needs cmake")
    for name, folder, code in (("right", library, 0), ("wrong", flip_weight(library, tmp_path / "flipped"), 8)):
        subprocess.run(["cmake", "-S", folder / "test", "-B", tmp_path / name, "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"], check=True, capture_output=True)
        assert all("-O2" in entry["command"] for entry in json.loads((tmp_path / name / "compile_commands.json").read_text()))
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
