# SPDX-License-Identifier: Apache-2.0
"""Every package keeps to the rules of its format, the rules find what is planted, and flags are linted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_support import assert_fails, run, run_json
from package_support import SAMPLES, WAYS, expected, library, model, write

import midge
from midge.codegen.c import emit
from midge.codegen.manifest import changed_files, load_manifest
from midge.errors import IRError, Unsupported, UsageError
from midge.package import FORMATS, check_formats, package_files
from midge.package.checks import RULES, check_package
from midge.package.flags import lint_flags
from midge.package.outline import merge
from midge.package.yaml import read_yaml
from midge.targets import TARGETS, get_target
from midge.toolchain import LIBRARY_FLAGS

ALL = tuple(FORMATS)


def all_files(name: str, packages: tuple[str, ...] = ALL) -> dict[str, str]:
    emitted = emit(library(name).program)
    return {**emitted, **package_files(library(name).program, emitted, packages)}


def test_outputs_on_zeros_say_something() -> None:
    """The examples print what depends on the code, not one saturated number."""
    for name in WAYS:
        assert len(set(expected(name).split())) == 6


def test_formats_have_rules_and_the_command_line_names_them() -> None:
    assert FORMATS.keys() == RULES.keys()
    assert "|".join(FORMATS) in re.sub(r"\s", "", run("compile", "--help").output)


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("package", ALL)
def test_each_package_stands_alone(package: str, name: str) -> None:
    files = all_files(name, (package,))
    assert check_package(package, files) == []
    assert f"examples/{package}/README.md" in files
    assert f"examples/{package}/README.md" in files["README.md"]
    for path, text in files.items():
        if not path.endswith(".json"):
            assert "SPDX-License-Identifier: 0BSD" in "".join(text.splitlines(keepends=True)[:2]), path
        assert "<<" not in text or path.endswith((".c", ".h"))


@pytest.mark.parametrize("name", WAYS)
def test_packages_together_are_the_same_bytes_each_time_and_leave_the_sources_alone(name: str) -> None:
    files = all_files(name)
    assert files == all_files(name, tuple(reversed(ALL)))
    assert {path: text for path, text in files.items() if path.startswith("src/")} == {k: v for k, v in emit(library(name).program).items() if "src/" in k}


def cut(path: str, old: str, new: str = "") -> Callable[[dict[str, str]], None]:
    def change(files: dict[str, str]) -> None:
        assert old in files[path], f"{old!r} is not in {path}"
        files[path] = files[path].replace(old, new)

    return change


def drop(path: str) -> Callable[[dict[str, str]], None]:
    return lambda files: files.__delitem__(path)


DAMAGE = [
    ("cmake", cut("CMakeLists.txt", "  src/kws_conv2d.c\n"), "does not list src/kws_conv2d.c"),
    ("cmake", cut("CMakeLists.txt", "  src/kws_conv2d.c\n", "  src/kws_conv2d.c\n  src/kws_conv2d.c\n"), "twice"),
    ("cmake", cut("CMakeLists.txt", "endif()\n\nif(KWS_INSTALL)", "\nif(KWS_INSTALL)"), "not closed"),
    ("cmake", cut("examples/cmake/CMakeLists.txt", "endif()", "endforeach()"), "closes nothing"),
    ("cmake", cut("CMakeLists.txt", "LANGUAGES C)", "LANGUAGES C"), "brackets"),
    ("cmake", drop("examples/qemu/CMakeLists.txt"), "adds ../qemu, which has no CMakeLists.txt"),
    ("make", drop("examples/qemu/board.ld"), "board.ld"),
    ("meson", cut("examples/meson/meson.build", "../main.c", "../other.c"), "other.c"),
    ("rust", cut("build.rs", '    "src/kws.c",\n'), "does not list src/kws.c"),
    ("rust", drop("rust/lib.rs"), "rust/lib.rs"),
    ("platformio", cut("library.json", "{", "{,"), "library.json"),
    ("platformio", cut("library.json", '"kws.h"', '"sound.h"'), "sound.h is not there"),
    ("platformio", cut("library.json", '"version": "1.0.0"', '"version": "one"'), "version"),
    ("esp-idf", cut("idf_component.yml", "dependencies:", "dependencies"), "no 'key: value'"),
    ("esp-idf", cut("idf_component.yml", "version:", "release:"), "has no version"),
    ("zephyr", cut("zephyr/module.yml", "kconfig: zephyr/Kconfig", "kconfig: Kconfig"), "Kconfig is not there"),
    ("zephyr", cut("zephyr/Kconfig", "MIDGE_KWS", "MIDGE_OTHER"), "are used"),
    ("zephyr", cut("zephyr/CMakeLists.txt", "../src/kws.c", "../src/gone.c"), "gone.c"),
    ("zephyr", cut("west.yml", "      revision: v3.7.0\n"), "manifest.projects.*.revision"),
    ("cmsis-pack", cut("midge.kws.pdsc", "</component>"), "mismatched tag"),
    ("cmsis-pack", cut("midge.kws.pdsc", "<vendor>midge", "<vendor>other"), "is not named after"),
    ("cmsis-pack", cut("midge.kws.pdsc", 'name="src/kws.c"', 'name="src/gone.c"'), "src/gone.c is not there"),
    ("cmsis-pack", cut("midge.kws.pdsc", ' Cclass="Machine Learning"'), "has no Cclass"),
    ("cmsis-pack", cut("midge.kws.pdsc", 'release version="1.0.0"', 'release version="1"'), "is no version"),
    ("cmsis-pack", drop("LICENSE"), "LICENSE is not there"),
    ("cmsis-pack", drop("midge.kws.pdsc"), "one .pdsc is wanted"),
    ("cmsis-pack", cut("examples/cmsis-pack/kws.csolution.yml", "kws.cproject.yml", "gone.cproject.yml"), "gone.cproject.yml"),
    ("cmsis-pack", drop("examples/cmsis-pack/kws.cproject.yml"), "a csolution and a cproject"),
    ("arduino", cut("library.properties", "category=Data Processing", "category=Networks"), "category"),
    ("arduino", cut("library.properties", "name=midge-kws", "name=Arduino kws"), "is not allowed"),
    ("arduino", cut("library.properties", "maintainer=midge\n"), "has no maintainer"),
    ("arduino", cut("library.properties", "version=1.0.0", "version=1.0"), "version"),
    ("arduino", cut("library.properties", "includes=kws.h", "includes=gone.h"), "gone.h"),
    ("arduino", lambda files: files.update({"examples/arduino/main.ino": files.pop("examples/arduino/arduino.ino")}), "examples/NAME/NAME.ino"),
    ("bazel", cut("BUILD.bazel", "includes =", "includes"), "BUILD.bazel"),
    ("bazel", cut("BUILD.bazel", "cc_library(", "cc_binary("), "does not call cc_library"),
    ("bazel", cut("MODULE.bazel", 'module(name = "midge-kws", ', "module("), "has no name"),
]


@pytest.mark.parametrize(("package", "damage", "message"), DAMAGE, ids=lambda value: value if isinstance(value, str) else "")
def test_rules_find_what_is_planted(package: str, damage: Callable[[dict[str, str]], None], message: str) -> None:
    files = all_files("kws")
    damage(files)
    assert message in "\n".join(check_package(package, files))


def test_every_format_has_planted_damage() -> None:
    assert {package for package, _, _ in DAMAGE} == set(FORMATS)


def test_formats_are_sorted_and_unknown_ones_refused() -> None:
    assert check_formats(["rust", "cmake", "rust"]) == ("cmake", "rust")
    with pytest.raises(UsageError, match="--package scons: not known; the packages are cmake, make"):
        library("kws").write("never", ("cmake", "scons"))
    assert not Path("never").exists()


def test_a_safe_crate_needs_a_reentrant_library() -> None:
    with pytest.raises(Unsupported, match="--package rust: with --memory only one instance may run"):
        midge.compile(model(), name="kws", calibration={"x": SAMPLES}, target="cortex-m7", memory="dtcm:64K@fast,sram:256K").write("never", ("rust",))
    assert not Path("never").exists()


def test_two_texts_for_one_file_are_a_bug() -> None:
    assert merge([{"a": "1"}, {"a": "1", "b": "2"}]) == {"a": "1", "b": "2"}
    with pytest.raises(IRError, match="different texts in a"):
        merge([{"a": "1"}, {"a": "2"}])


def test_changed_files_are_noticed_and_old_packages_go(tmp_path: Path) -> None:
    directory = write("kws", tmp_path, ("cmake", "zephyr"))
    assert {"CMakeLists.txt", "zephyr/module.yml"} <= {entry["path"] for entry in load_manifest(directory)["files"]}
    assert changed_files(directory) == []
    (directory / "build").mkdir()
    (directory / "build" / "mine.o").write_bytes(b"\0")
    (directory / "CMakeLists.txt").write_text("project(other)\n", "utf-8")
    assert changed_files(directory) == ["CMakeLists.txt"]
    write("kws", tmp_path, ("make",))
    assert changed_files(directory) == []
    assert (directory / "Makefile").is_file()
    assert (directory / "build" / "mine.o").is_file()
    assert not (directory / "CMakeLists.txt").exists()
    assert not (directory / "zephyr" / "module.yml").exists()


GOOD_M4 = [*LIBRARY_FLAGS, "-O2", *TARGETS["cortex-m4"].flags, "-Wl,--gc-sections"]
LINT = [
    ("cortex-m4", GOOD_M4, ""),
    ("cortex-m4", [*GOOD_M4, "-O0"], "-O0: several times slower"),
    ("cortex-m4", [*GOOD_M4, "-Og"], "-Og: for debugging, slower than -O2"),
    ("cortex-m4", [flag for flag in GOOD_M4 if flag != "-O2"], "no -O: "),
    ("cortex-m4", [flag for flag in GOOD_M4 if "-mcpu" not in flag], "no -mcpu: the compiler takes a core of its own choice; write -mcpu=cortex-m4"),
    ("cortex-m4", [flag.replace("cortex-m4", "cortex-m3") for flag in GOOD_M4], "-mcpu=cortex-m3: the library was compiled for cortex-m4"),
    ("cortex-m4", [flag for flag in GOOD_M4 if "float-abi" not in flag], "no -mfloat-abi"),
    ("cortex-m4", [*GOOD_M4, "-mfloat-abi=soft"], "-mfloat-abi=soft and another -mfloat-abi= are both there"),
    ("cortex-m4", [flag.replace("fpv4-sp-d16", "fpv5-d16") for flag in GOOD_M4], "-mfpu=fpv5-d16: cortex-m4 has another unit"),
    ("cortex-m4", [flag.replace("fpv4-sp-d16", "auto") for flag in GOOD_M4], ""),
    ("cortex-m4", [flag.replace("=hard", "=soft") for flag in GOOD_M4], ""),
    ("cortex-m4", [flag for flag in GOOD_M4 if "function" not in flag], "no -ffunction-sections"),
    ("cortex-m4", [flag for flag in GOOD_M4 if "gc-sections" not in flag], "no -Wl,--gc-sections"),
    ("cortex-m0", ["-O2", "-mcpu=cortex-m0", "-mfloat-abi=hard"], "-mfloat-abi=hard: cortex-m0 has no floating-point unit"),
    ("cortex-m55", ["-O2", "-mcpu=cortex-m55", "-mfloat-abi=soft"], "-mfloat-abi=soft: switches off the vector unit"),
    ("cortex-m55", ["-O2", "-mcpu=cortex-m55+nomve", "-mfloat-abi=hard"], "-mcpu=cortex-m55+nomve: +nomve switches off the instructions of the fast kernels"),
    ("cortex-m55", ["-O2", "-mcpu=cortex-m55+nodsp", "-mfloat-abi=hard"], "+nodsp switches off"),
    ("cortex-m55", ["-O2", "-mcpu=cortex-m55+nomve.fp", "-mfloat-abi=hard"], ""),
    ("cortex-m33", ["-O2", "-mcpu=cortex-m33+nodsp", "-mfloat-abi=hard"], "+nodsp switches off"),
    ("cortex-m3", ["-O2", "-mcpu=cortex-m3+nodsp", "-mfloat-abi=soft"], ""),
    ("cortex-m4", ["-O2", "-march=armv7e-m", "-mfloat-abi=hard"], "-march=armv7e-m without -mcpu: the instructions are right"),
    ("cortex-m4", ["-O2", "-march=armv7-m", "-mfloat-abi=hard"], "-march=armv7-m: the library was compiled for cortex-m4; write -mcpu=cortex-m4"),
    ("cortex-m33", ["-O2", "-march=armv8-m.main", "-mfloat-abi=hard"], "-march=armv8-m.main: without +dsp"),
    ("cortex-m33", ["-O2", "-march=armv8-m.main+dsp+fp", "-mfloat-abi=hard"], "without -mcpu"),
    ("cortex-m85", ["-O2", "-march=armv8.1-m.main+dsp", "-mfloat-abi=hard"], "without +mve"),
    ("cortex-m85", ["-O2", "-mcpu=cortex-m85", "-mfloat-abi=hard"], ""),
    ("cortex-m85", ["-O2", "-mcpu=cortex-m55", "-mfloat-abi=hard"], ""),
    ("cortex-m85", ["-O2", "-mcpu=cortex-m3", "-mfloat-abi=hard"], "-mcpu=cortex-m3: the library was compiled for cortex-m85; write -march=armv8.1-m.main"),
    ("riscv32", ["-O2", "-march=rv32imc"], "no -mabi"),
    ("riscv32", ["-O2", "-mabi=ilp32"], "no -march"),
    *(("riscv32", ["-O2", f"-march={isa}", "-mabi=ilp32"], "") for isa in ("rv32imac", "rv32gc", "rv32imc_zicsr_zba", "rv32imaczicsr", "rv32i2p1m2p0c2p0")),
    *(("riscv32", ["-O2", f"-march={isa}", "-mabi=ilp32"], f"-march={isa}: the library") for isa in ("rv32i", "rv32emc", "rv64imc", "rv32ima_zca", "native")),
    ("host", ["-O3"], ""),
]


@pytest.mark.parametrize(("target", "flags", "message"), LINT)
def test_flags_are_linted(target: str, flags: list[str], message: str) -> None:
    found = [warning for warning in lint_flags(flags, get_target(target)) if message or "sections" not in warning]
    assert message in "\n".join(found) if message else found == []


@pytest.mark.parametrize("target", TARGETS)
def test_the_flags_midge_itself_uses_and_writes_pass(target: str) -> None:
    assert lint_flags([*LIBRARY_FLAGS, "-O2", *TARGETS[target].flags, "-Wl,--gc-sections"], get_target(target)) == []


def test_lint_on_the_command_line() -> None:
    assert run("lint-flags", *GOOD_M4).exit_code == 0
    bad = run("lint-flags", "--target", "cortex-m4", "-O0 -mcpu=cortex-m4", "-mfloat-abi=hard")
    assert bad.exit_code == 1
    assert "warning: -O0" in bad.stdout
    assert run_json("lint-flags", "-O0", *GOOD_M4)["warnings"] == []
    assert "-O0" in run_json("lint-flags", *GOOD_M4, "-O0", code=1)["warnings"][0]


def test_compile_writes_packages_and_says_how_far_they_were_tried(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(model())
    given = ("compile", tmp_path / "m.onnx", "-o", tmp_path / "lib", "--name", "kws", "--calibration", tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", x=SAMPLES)
    done = run(*given, "--package", "bazel", "--package", "make")
    assert done.exit_code == 0, done.output
    assert "bazel: " in done.output and "(structure checked)" in done.output and "validated" not in done.output
    assert (tmp_path / "lib" / "BUILD.bazel").is_file() and (tmp_path / "lib" / "Makefile").is_file()
    assert run_json(*given, "--package", "zephyr")["packages"] == ["zephyr"]
    assert not (tmp_path / "lib" / "Makefile").exists()
    assert_fails(run(*given, "--package", "scons"), 2, "--package scons", "cmake, make")


YAML = 'a: plain text, with commas\nb:\n  - one\n  - two: "quoted: text"\n    three: 3\n# comment\nc:\n- x\nd:\n'


def test_yaml_is_read() -> None:
    assert read_yaml(YAML) == {"a": "plain text, with commas", "b": ["one", {"two": "quoted: text", "three": "3"}], "c": ["x"], "d": ""}


REFUSED = ("a: [1]", "a: {b: c}", "a: b: c", "a: 'x'", "a: *x", "a\n", "a: 1\na: 2", "a: 1\n   b: 2", "a:\n  - x\n  b: 1", "a: 1\n- x", "a:\tb", "a: x #y")


@pytest.mark.parametrize("text", REFUSED)
def test_other_yaml_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_yaml(text)
