# SPDX-License-Identifier: Apache-2.0
"""midge board: what it writes, that it compiles against headers that stand in for the makers', and what board.c does to registers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cli_support import assert_fails, needs_gcc, qdq_model, run, run_json
from hil_support import STRICT

from midge.codegen.manifest import load_manifest
from midge.codegen.names import c_identifier
from midge.package.board_project import project_files
from midge.package.boards import BOARD_PROJECTS, get_board_project
from midge.targets import TARGETS, get_target
from midge.toolchain import compile_objects, runtime_dir

STUBS = Path(__file__).resolve().parent / "board_stubs"
REGISTERS = {"nucleo-l4r5zi": "stm32l4r5xx.h", "nucleo-f446re": "stm32f446xx.h", "nrf52840-dk": "nrf52840.h"}
needs_arm = pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs arm-none-eabi-gcc")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qdq_model(tmp_path_factory.mktemp("model") / "small.onnx")


@pytest.fixture(scope="module")
def library(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library") / "lib"
    assert run("compile", model, "-o", folder, "--name", "kws", "--target", "cortex-m0plus").exit_code == 0
    return folder


def test_table() -> None:
    assert {"nucleo-l4r5zi", "nucleo-f446re", "pico", "pico2", "nrf52840-dk"} < set(BOARD_PROJECTS)
    for name, board in BOARD_PROJECTS.items():
        assert name == board.name and board.target in TARGETS and bool(board.pico_board) == (board.build == "pico")
        assert all((runtime_dir() / file).is_file() for file in (board.source, *board.extra)) and set(board.start) <= set(board.extra)
        assert name in run("board", "--help").stdout.replace("\n", " ")
    names = {path.removesuffix(".h") for path in project_files(get_board_project("mps2-an386"), None) if path.endswith(".h")}
    assert all(c_identifier(name) != name for name in names)  # no library hides a header of the project
    assert get_board_project("pico").target == "cortex-m0plus"


@needs_arm
@pytest.mark.parametrize("name", list(BOARD_PROJECTS))
def test_every_file_compiles_for_its_core(library: Path, tmp_path: Path, name: str) -> None:
    board, project = BOARD_PROJECTS[name], tmp_path / name
    assert run("board", name, "-o", project, library).exit_code == 0
    assert load_manifest(project / "model") == load_manifest(library)
    for path in project.glob("*.*"):
        text = path.read_text()
        assert "SPDX-License-Identifier: 0BSD" in text.splitlines()[0]
        assert "@" not in re.sub(r"\$?[@(][@<^D]\)?", "", text) or path.name not in ("Makefile", "CMakeLists.txt")
    readme = (project / "README.md").read_text()
    assert board.title in readme and "midge verify model --on serial:" in readme
    sources = [path for path in project.glob("*.c") if path.name not in board.start]
    defines = [*board.defines, f"MIDGE_HIL_STACK_BYTES={board.stack_bytes}u"]
    compile_objects(sources, tmp_path / "built", get_target(board.target), includes=(project, project / "model/src", STUBS), defines=defines, extra=STRICT)


@needs_gcc
@pytest.mark.parametrize("name", list(REGISTERS))
def test_registers(tmp_path: Path, name: str) -> None:
    runtime, program = runtime_dir(), tmp_path / "check"
    sources = [STUBS / "check_board.c", runtime / BOARD_PROJECTS[name].source]
    options = ["-std=c99", *STRICT, "-DSTUB_CHECK", f'-DBOARD_HEADER="{REGISTERS[name]}"', f"-I{STUBS}", f"-I{runtime}"]
    done = subprocess.run(["gcc", *options, *sources, "-o", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert subprocess.run([program], check=False).returncode == 0


@needs_arm
def test_make_asks_for_what_is_missing(model: Path, library: Path, tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    assert run_json("board", "nucleo-l4r5zi", "-o", tmp_path / "l4")["model"] is None
    assert "there is no model here yet" in make(tmp_path / "l4")
    assert run_json("board", "nucleo-l4r5zi", "-o", tmp_path / "l4", model, "--optimize", "size")["model"] == f"{tmp_path / 'l4'}/model"
    assert load_manifest(tmp_path / "l4" / "model")["optimize"] == "size"
    assert "LINKER_SCRIPT is not set" in make(tmp_path / "l4", f"VENDOR_INCLUDES={STUBS}")


def make(folder: Path, *options: str) -> str:
    done = subprocess.run(["make", "-C", folder, *options], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return done.stderr


def test_what_somebody_changed_is_kept(library: Path, model: Path, tmp_path: Path) -> None:
    project = tmp_path / "pico"
    assert run("board", "pico", "-o", project, library).exit_code == 0
    assert run("board", "pico", "-o", project, model).exit_code == 0  # another model in the same project
    (project / "board.c").write_text("mine")
    assert_fails(run("board", "pico", "-o", project, library), 2, "board.c: is there already and was changed")
    assert (project / "board.c").read_text() == "mine"
    assert_fails(run("board", "uno", "-o", project), 2, "board 'uno': not known; the boards are nucleo-l4r5zi")
    assert_fails(run("board", "pico", "-o", tmp_path / "x", library, "--optimize", "size"), 2, "nothing to compile")
    (tmp_path / "other" / "model").mkdir(parents=True)
    (tmp_path / "other" / "model" / "mine.txt").write_text("mine")
    assert_fails(run("board", "pico", "-o", tmp_path / "other", library), 2)
    assert (tmp_path / "other" / "model" / "mine.txt").exists()
