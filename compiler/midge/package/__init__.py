# SPDX-License-Identifier: Apache-2.0
"""Files that let a written library be used from a build system: what `midge compile --package` adds to src/."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from midge.errors import IRError, UsageError
from midge.package.checks import check_package
from midge.package.cmake import cmake_files, esp_idf_files
from midge.package.make import bazel_files, make_files, meson_files
from midge.package.outline import Outline, merge
from midge.package.readme import common_files, readme
from midge.package.registries import arduino_files, cmsis_files, platformio_files, zephyr_files
from midge.package.rust import rust_files
from midge.program import Program

STRUCTURE = "structure checked"
"""Held against our own reading of the public specification; the tool itself never saw it."""


@dataclass(frozen=True)
class Format:
    """A kind of package: its files, and how far our tests go with it."""

    files: Callable[[Outline], dict[str, str]]
    proof: str


FORMATS: dict[str, Format] = {
    "cmake": Format(cmake_files, "built, installed, consumed and cross-compiled with CMake"),
    "make": Format(make_files, "built and run with GNU make"),
    "meson": Format(meson_files, "built and run with Meson"),
    "rust": Format(rust_files, "built and run with Cargo"),
    "platformio": Format(platformio_files, "packed with pio pkg pack; not built with it"),
    "esp-idf": Format(esp_idf_files, "packed with compote component pack; not built with ESP-IDF"),
    "zephyr": Format(zephyr_files, f"west.yml read by west; the module {STRUCTURE}"),
    "cmsis-pack": Format(cmsis_files, STRUCTURE),
    "arduino": Format(arduino_files, STRUCTURE),
    "bazel": Format(bazel_files, STRUCTURE),
}


def check_formats(packages: Iterable[str]) -> tuple[str, ...]:
    """The names, each once, in the order of FORMATS.

    Raises: UsageError for one that is not known.
    """
    wanted = set(packages)
    unknown = sorted(wanted - FORMATS.keys())
    if unknown:
        raise UsageError(f"--package {unknown[0]}: not known; the packages are {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name in wanted)


def package_files(program: Program, emitted: dict[str, str], packages: Iterable[str]) -> dict[str, str]:
    """Relative path -> text of what `packages` add to the emitted files. The same Program gives the same bytes.

    Raises: UsageError for an unknown package, IRError if a package breaks the rules of its format.
    """
    names = check_formats(packages)
    if not names:
        return {}
    outline = Outline.of(program, emitted, names)
    parts = [common_files(outline, {name: FORMATS[name].proof for name in names})]
    for name in names:
        parts += [FORMATS[name].files(outline), readme(outline, name)]
    files = merge(parts)
    problems = [f"{name}: {problem}" for name in names for problem in check_package(name, {**emitted, **files})]
    if problems:
        raise IRError("\n".join(["a package breaks the rules of its format:", *problems]))
    return files


__all__ = ["FORMATS", "STRUCTURE", "check_formats", "package_files"]
