# SPDX-License-Identifier: Apache-2.0
"""Packages used for real: CMake, Make and Cargo build and run what midge writes; Meson, PlatformIO, compote and west where slow tests run."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from package_support import WAYS, expected, library, needs, sh, shown, write
from support import needs_arm

from midge.codegen.manifest import changed_files
from midge.package import FORMATS
from midge.package.flags import lint_flags
from midge.run.golden import golden_files
from midge.run.samples import random_samples
from midge.targets import get_target

ALL = tuple(FORMATS)
STRICT = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
NINJA = ("-G", "Ninja") if shutil.which("ninja") else ()
TOY = """\
cmake_minimum_required(VERSION 3.16)
project(toy LANGUAGES C)
<<find>>
add_executable(toy main.c)
target_link_libraries(toy PRIVATE midge::kws)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A library by name, with all packages, written once."""
    place, found = tmp_path_factory.mktemp("packages"), {}

    def give(name: str) -> Path:
        if name not in found:
            found[name] = write(name, place, ALL)
        return found[name]

    return give


@needs("gcc")
@pytest.mark.parametrize("name", WAYS)
def test_the_example_is_strict_c(name: str, folder: Callable[[str], Path], tmp_path: Path) -> None:
    sources = sorted(folder(name).glob("src/*.c"))
    sh("gcc", *STRICT, "-I", folder(name) / "src", folder(name) / "examples/main.c", *sources, "-o", tmp_path / "example", cwd=tmp_path)
    assert shown(sh(tmp_path / "example", cwd=tmp_path)) == expected(name)


SERIAL = """\
#include <cstdio>
#include <cstdlib>
struct { void begin(long) {} void print(const char *s) { printf("%s", s); } void print(char c) { putchar(c); } void print(long v) { printf("%ld", v); }
         void print(int v) { printf("%d", v); } void print(float v) { printf("%g", (double)v); } void println(int v) { printf("%d\\n", v); }
         void println() { printf("\\n"); } } Serial;
static void delay(int) {}
#include "arduino.ino"
int main() { setup(); loop(); }
"""


@needs("gcc", "g++")
@pytest.mark.parametrize("name", ["kws", "Kws_2", "test"])
def test_the_sketch_is_cpp_and_does_the_same(name: str, folder: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "sketch.cpp").write_text(SERIAL, "utf-8")
    sources = sorted(folder(name).glob("src/*.c"))
    sh("gcc", "-c", "-std=c99", "-O1", *sources, cwd=tmp_path)
    flags = ("-I", folder(name) / "src", "-I", folder(name) / "examples/arduino")
    sh("g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", *flags, "sketch.cpp", *sorted(tmp_path.glob("*.o")), "-o", "sketch", cwd=tmp_path)
    assert shown(sh(tmp_path / "sketch", cwd=tmp_path)) == expected(name)


@needs("cmake", "gcc")
def test_cmake_builds_runs_and_installs_for_a_project_that_finds_it(folder: Callable[[str], Path], tmp_path: Path) -> None:
    sh("cmake", "-S", folder("kws"), "-B", "build", *NINJA, cwd=tmp_path)
    sh("cmake", "--build", "build", cwd=tmp_path)
    assert shown(sh("build/examples/cmake/kws_example", cwd=tmp_path)) == expected("kws")
    sh("cmake", "--install", "build", "--prefix", "installed", cwd=tmp_path)
    shutil.rmtree(tmp_path / "build")
    toy(tmp_path / "toy", folder("kws"), "find_package(kws 1.0 CONFIG REQUIRED)")
    sh("cmake", "-S", "toy", "-B", "built", *NINJA, f"-DCMAKE_PREFIX_PATH={tmp_path / 'installed'}", cwd=tmp_path)
    sh("cmake", "--build", "built", cwd=tmp_path)
    assert shown(sh("built/toy", cwd=tmp_path)) == expected("kws")


def toy(place: Path, library_folder: Path, how: str, more: str = "") -> None:
    """A project of somebody else's with the example as its program."""
    place.mkdir()
    shutil.copy(library_folder / "examples/main.c", place)
    (place / "CMakeLists.txt").write_text(TOY.replace("<<find>>", how) + more, "utf-8")


@needs("cmake", "gcc")
def test_cmake_is_a_folder_of_another_project(folder: Callable[[str], Path], tmp_path: Path) -> None:
    toy(tmp_path / "toy", folder("kws"), f"add_subdirectory({folder('kws')} kws)")
    sh("cmake", "-S", "toy", "-B", "built", *NINJA, "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", cwd=tmp_path)
    sh("cmake", "--build", "built", cwd=tmp_path)
    assert shown(sh("built/toy", cwd=tmp_path)) == expected("kws")
    commands = json.loads((tmp_path / "built/compile_commands.json").read_text("utf-8"))
    ours = [entry["command"].split() for entry in commands if "/src/kws" in entry["file"]]
    assert ours and all(not lint_flags(command, get_target("host")) for command in ours), "built without optimisation"
    assert not (tmp_path / "built/kws/examples").exists(), "the example is not for other projects"


def golden(name: str) -> tuple[dict[str, str], str]:
    """Files of a test bench, and what the example prints on its first sample."""
    net = library(name)
    samples = random_samples(net.graph, 2)
    return golden_files(net.program, net.graph, samples), " ".join(f"{value:g}" for value in np.asarray(net.run(*samples[0])).reshape(-1).tolist())


@needs("cmake", "ctest", "make", "gcc")
@pytest.mark.parametrize("name", ["kws", pytest.param("Kws_2", marks=pytest.mark.slow)])
def test_the_example_takes_the_first_sample_of_the_test_bench(name: str, tmp_path: Path) -> None:
    more, wanted = golden(name)
    directory = library(name).write(tmp_path / name, ("cmake", "make"), more)
    assert wanted != expected(name)
    assert shown(sh("make", "-s", "run", cwd=directory)) == wanted
    sh("cmake", "-S", directory, "-B", "build", *NINJA, cwd=tmp_path)
    sh("cmake", "--build", "build", cwd=tmp_path)
    assert shown(sh(f"build/examples/cmake/{name}_example", cwd=tmp_path)) == wanted
    assert "100% tests passed" in sh("ctest", "--test-dir", "build", cwd=tmp_path)


@needs_arm
@needs("cmake")
@pytest.mark.parametrize("name", ["kws", pytest.param("Kws_2", marks=pytest.mark.slow), pytest.param("test", marks=pytest.mark.slow)])
def test_cmake_cross_compiles_with_the_toolchain_file_and_the_image_runs(name: str, folder: Callable[[str], Path], tmp_path: Path) -> None:
    chain = folder(name) / "cmake" / f"{WAYS[name]['target']}.cmake"
    sh("cmake", "-S", folder(name), "-B", "build", *NINJA, f"-DCMAKE_TOOLCHAIN_FILE={chain}", cwd=tmp_path)
    sh("cmake", "--build", "build", cwd=tmp_path)
    assert shown(sh("cmake", "--build", "build", "--target", f"run_{name}_example", cwd=tmp_path, timeout=60)) == expected(name)


@needs_arm
@needs("cmake")
def test_a_fresh_project_runs_on_the_emulated_board(folder: Callable[[str], Path], tmp_path: Path) -> None:
    more = "target_link_libraries(toy PRIVATE midge::kws_qemu)\nadd_custom_target(run COMMAND toy)\n"
    toy(tmp_path / "toy", folder("kws"), f"add_subdirectory({folder('kws')} kws)", more)
    sh("cmake", "-S", "toy", "-B", "built", *NINJA, f"-DCMAKE_TOOLCHAIN_FILE={folder('kws') / 'cmake/cortex-m4.cmake'}", cwd=tmp_path)
    assert shown(sh("cmake", "--build", "built", "--target", "run", cwd=tmp_path, timeout=120)) == expected("kws")


@pytest.mark.slow
@needs_arm
@needs("cmake", "ctest")
@pytest.mark.parametrize("name", ["kws", "Kws_2", "test"])
def test_the_test_bench_runs_on_the_emulated_board(name: str, tmp_path: Path) -> None:
    more, wanted = golden(name)
    directory = library(name).write(tmp_path / name, ("cmake",), more)
    chain = f"-DCMAKE_TOOLCHAIN_FILE={directory / 'cmake' / str(WAYS[name]['target'])}.cmake"
    sh("cmake", "-S", directory, "-B", "build", *NINJA, chain, cwd=tmp_path)
    sh("cmake", "--build", "build", cwd=tmp_path)
    assert shown(sh("cmake", "--build", "build", "--target", f"run_{name}_example", cwd=tmp_path, timeout=60)) == wanted
    assert "100% tests passed" in sh("ctest", "--test-dir", "build", cwd=tmp_path)
    data = directory / "test" / "golden_data.c"
    text = data.read_text("utf-8")
    data.write_text(re.sub(r"(golden_outputs\[\] = \{\s*)(\d+)", lambda m: f"{m[1]}{int(m[2]) ^ 1}", text), "utf-8")
    sh("cmake", "--build", "build", cwd=tmp_path)
    with pytest.raises(AssertionError, match="0% tests passed"):
        sh("ctest", "--test-dir", "build", cwd=tmp_path)


@needs_arm
@needs("cmake")
def test_cmake_cross_compiled_is_found_by_another_project(folder: Callable[[str], Path], tmp_path: Path) -> None:
    chain = f"-DCMAKE_TOOLCHAIN_FILE={folder('kws') / 'cmake/cortex-m4.cmake'}"
    sh("cmake", "-S", folder("kws"), "-B", "build", *NINJA, chain, "-DKWS_EXAMPLE=OFF", cwd=tmp_path)
    sh("cmake", "--build", "build", cwd=tmp_path)
    sh("cmake", "--install", "build", "--prefix", "installed", cwd=tmp_path)
    toy(tmp_path / "toy", folder("kws"), "find_package(kws CONFIG REQUIRED)\nset(CMAKE_EXECUTABLE_SUFFIX .elf)\nadd_link_options(--specs=rdimon.specs)")
    sh("cmake", "-S", "toy", "-B", "built", *NINJA, chain, f"-DCMAKE_PREFIX_PATH={tmp_path / 'installed'}", cwd=tmp_path)
    sh("cmake", "--build", "built", cwd=tmp_path)
    attributes = sh("arm-none-eabi-readelf", "-A", "built/toy.elf", cwd=tmp_path)
    assert "Tag_CPU_arch: v7E-M" in attributes and "Tag_ABI_VFP_args: VFP registers" in attributes


@needs("make", "cc")
@pytest.mark.parametrize("name", ["kws", "Kws_2", "test"])
def test_make_builds_and_runs(name: str, tmp_path: Path) -> None:
    directory = write(name, tmp_path, ("make",))
    assert shown(sh("make", "-s", "run", cwd=directory)) == expected(name)
    assert changed_files(directory) == []
    (directory / "build").mkdir()  # of CMake, say
    sh("make", "clean", cwd=directory)
    assert not (directory / "build-make").exists() and (directory / "build").exists()


@needs_arm
@needs("make")
@pytest.mark.parametrize("name", ["kws", pytest.param("Kws_2", marks=pytest.mark.slow), pytest.param("test", marks=pytest.mark.slow)])
def test_make_cross_compiles_and_emulates(name: str, tmp_path: Path) -> None:
    directory = write(name, tmp_path, ("make",))
    sh("make", "cross", cwd=directory)
    assert shown(sh("make", "-s", "emulate", cwd=directory, timeout=60)) == expected(name)


@needs("cargo", "rustc", "cc", "ar")
@pytest.mark.parametrize("name", ["kws", pytest.param("Kws_2", marks=pytest.mark.slow), pytest.param("test", marks=pytest.mark.slow)])
def test_cargo_builds_and_runs(name: str, tmp_path: Path) -> None:
    directory = write(name, tmp_path, ("rust",))
    text = sh("cargo", "run", "--offline", "--quiet", "--example", "run", cwd=directory, RUSTFLAGS="-D warnings", CARGO_TARGET_DIR=str(tmp_path / "target"))
    assert shown(text, "output:") == expected(name)


@needs("cargo", "rustc", "cc", "ar")
def test_cargo_takes_a_compiler_in_a_folder_with_a_blank(tmp_path: Path) -> None:
    directory, place = write("kws", tmp_path, ("rust",)), tmp_path / "a b"
    place.mkdir()
    (place / "cc").symlink_to(str(shutil.which("cc")))
    run = ("cargo", "run", "--offline", "--quiet", "--example", "run")
    text = sh(*run, cwd=directory, CARGO_TARGET_DIR=str(tmp_path / "target"), CC=str(place / "cc"))
    assert shown(text, "output:") == expected("kws")
    with pytest.raises(AssertionError, match=r'error: ".*/a" cannot be run: .*; set CC and AR') as failed:
        sh(*run, cwd=directory, CARGO_TARGET_DIR=str(tmp_path / "target"), CC=f"{place / 'cc'} -O1")
    assert "panicked" not in str(failed.value)


@pytest.mark.slow
@needs("meson", "ninja", "gcc")
@pytest.mark.parametrize("name", ["kws", "Kws_2", "test"])
def test_meson_builds_and_runs(name: str, tmp_path: Path) -> None:
    directory = write(name, tmp_path, ("meson",))
    assert "WARNING" not in sh("meson", "setup", "build", cwd=directory)
    sh("meson", "compile", "-C", "build", cwd=directory)
    assert shown(sh("build/examples/meson/" + f"{name}_example", cwd=directory)) == expected(name)
    assert "Fail:               0" in sh("meson", "test", "-C", "build", cwd=directory)


@pytest.mark.slow
@needs("meson", "ninja", "gcc")
def test_meson_takes_the_test_bench(tmp_path: Path) -> None:
    more, wanted = golden("kws")
    directory = library("kws").write(tmp_path / "kws", ("meson",), more)
    sh("meson", "setup", "build", cwd=directory)
    sh("meson", "compile", "-C", "build", cwd=directory)
    assert shown(sh("build/examples/meson/kws_example", cwd=directory)) == wanted


@pytest.mark.slow
@needs("meson", "ninja", "gcc")
def test_meson_is_a_subproject(folder: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "subprojects").mkdir()
    write("kws", tmp_path / "subprojects", ("meson",))
    shutil.copy(folder("kws") / "examples/main.c", tmp_path)
    text = "project('toy', 'c')\nexecutable('toy', 'main.c', dependencies: dependency('kws', fallback: ['kws', 'kws_dep']))\n"
    (tmp_path / "meson.build").write_text(text, "utf-8")
    sh("meson", "setup", "build", cwd=tmp_path)
    sh("meson", "compile", "-C", "build", cwd=tmp_path)
    assert shown(sh("build/toy", cwd=tmp_path)) == expected("kws")


@pytest.mark.slow
@needs_arm
@needs("meson", "ninja")
def test_meson_cross_compiles_with_the_cross_file(tmp_path: Path) -> None:
    directory = write("kws", tmp_path, ("meson",))
    sh("meson", "setup", "build", "--cross-file", "meson/cortex-m4.ini", cwd=directory)
    sh("meson", "compile", "-C", "build", cwd=directory)
    assert "Tag_CPU_arch: v7E-M" in sh("arm-none-eabi-readelf", "-A", "build/libmidge_kws.a", cwd=directory)


@pytest.mark.slow
@needs("pio")
def test_platformio_packs(tmp_path: Path) -> None:
    directory = write("kws", tmp_path, ("platformio",))
    sh("pio", "pkg", "pack", "-o", tmp_path / "packed.tar.gz", ".", cwd=directory, PLATFORMIO_CORE_DIR=str(tmp_path / "core"))
    with tarfile.open(tmp_path / "packed.tar.gz") as archive:
        assert {"library.json", "README.md", "LICENSE", "src/kws.c", "src/kws.h", "examples/main.c"} <= {name.removeprefix("./") for name in archive.getnames()}


@pytest.mark.slow
@needs("compote")
@pytest.mark.parametrize("name", ["kws", "Kws_2"])
def test_espressifs_component_manager_packs(name: str, tmp_path: Path) -> None:
    directory, slug = write(name, tmp_path, ("esp-idf",)), f"midge-{name.lower().replace('_', '-')}"
    home = {"HOME": str(tmp_path), "IDF_COMPONENT_CHECK_NEW_VERSION": "0"}
    sh("compote", "component", "pack", "--name", slug, "--dest-dir", tmp_path / "packed", cwd=directory, **home)
    with tarfile.open(tmp_path / f"packed/{slug}_1.0.0.tgz") as archive:
        assert {"idf_component.yml", "CMakeLists.txt", f"src/{name}.c", f"src/{name}.h"} <= {member.removeprefix("./") for member in archive.getnames()}


@pytest.mark.slow
@needs("west", "git")
def test_west_takes_the_manifest(tmp_path: Path) -> None:
    """With a repository that stands in for Zephyr, where the manifest's import ends."""
    directory, zephyr = write("kws", tmp_path, ("zephyr",)), tmp_path / "zephyr"
    zephyr.mkdir()
    (zephyr / "west.yml").write_text("manifest:\n  projects: []\n", "utf-8")
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@example.com")
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "stand-in"), ("update-ref", "refs/heads/manifest-rev", "HEAD")):
        sh(*git, *command, cwd=zephyr)
    sh("west", "init", "-l", directory, cwd=tmp_path, HOME=str(tmp_path))
    sh("west", "manifest", "--validate", cwd=directory, HOME=str(tmp_path))
    assert "zephyr" in sh("west", "list", "-f", "{name} {revision}", cwd=directory, HOME=str(tmp_path))


STUBS = {
    "zephyr": """\
set(CONFIG_MIDGE_KWS y)
macro(zephyr_library_named name)
  set(current ${name})
  add_library(${name} STATIC)
endmacro()
macro(zephyr_library_sources)
  target_sources(${current} PRIVATE ${ARGN})
endmacro()
macro(zephyr_library_compile_options)
  target_compile_options(${current} PRIVATE ${ARGN})
endmacro()
macro(zephyr_include_directories)
  include_directories(${ARGN})
endmacro()
add_subdirectory(<<folder>>/zephyr module)
add_executable(app <<folder>>/examples/main.c)
target_include_directories(app PRIVATE <<folder>>/src)
target_link_libraries(app midge_kws)
""",
    "esp-idf": """\
set(ESP_PLATFORM 1)
macro(idf_component_register)
  cmake_parse_arguments(given "" "" "SRCS;INCLUDE_DIRS" ${ARGN})
  set(COMPONENT_LIB component)
  add_library(component STATIC ${given_SRCS})
  target_include_directories(component PUBLIC ${given_INCLUDE_DIRS})
endmacro()
add_subdirectory(<<folder>> component)
add_executable(app <<folder>>/examples/main.c)
target_link_libraries(app component)
""",
}
"""What Zephyr and ESP-IDF would call our files with, in a few lines: shows that the files do what they say, not that these systems take them."""


@pytest.mark.slow
@needs("cmake", "gcc")
@pytest.mark.parametrize("package", STUBS)
def test_structure_of_cmake_modules_builds_under_stand_ins(package: str, folder: Callable[[str], Path], tmp_path: Path) -> None:
    text = f"cmake_minimum_required(VERSION 3.20)\nproject(toy C)\n{STUBS[package]}".replace("<<folder>>", str(folder("kws")))
    (tmp_path / "CMakeLists.txt").write_text(text, "utf-8")
    sh("cmake", "-S", ".", "-B", "build", *NINJA, cwd=tmp_path)
    sh("cmake", "--build", "build", cwd=tmp_path)
    assert shown(sh("build/app", cwd=tmp_path)) == expected("kws")
