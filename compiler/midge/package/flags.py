# SPDX-License-Identifier: Apache-2.0
"""Warnings about compiler flags that make a library slow, large or wrong on its target.

Source: GCC manual, "ARM Options", "RISC-V Options", "Optimize Options"; AAPCS32 (which objects with different float ABIs may not be mixed under);
RISC-V ISA manual, "ISA Extension Naming Conventions".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from midge.targets import Target

_MULTI = ("-mcpu=", "-march=", "-mfloat-abi=", "-mfpu=", "-mabi=")
_ARCHITECTURES = {
    "cortex-m0": "armv6s-m",
    "cortex-m0plus": "armv6s-m",
    "cortex-m3": "armv7-m",
    "cortex-m4": "armv7e-m",
    "cortex-m7": "armv7e-m",
    "cortex-m33": "armv8-m.main",
    "cortex-m55": "armv8.1-m.main",
    "cortex-m85": "armv8.1-m.main",
}
"""Of each core; what fast kernels need beyond it is in _EXTENSIONS."""
_EXTENSIONS: dict[str, dict[str, tuple[str, ...]]] = {"armv8-m.main": {"dsp": ("dsp",)}, "armv8.1-m.main": {"mve": ("mve", "mve.fp")}}
"""Architecture -> feature of a target -> extensions that have it."""
_LOST = {"mve": ("nomve", "nodsp"), "dsp": ("nodsp",)}
"""Feature of a target -> what of -mcpu= switches it off."""


def lint_flags(flags: Sequence[str], target: Target) -> list[str]:
    """What is doubtful about compiling and linking a library for `target` with these flags, each with what to write instead."""
    last = {stem: next((flag.removeprefix(stem) for flag in reversed(flags) if flag.startswith(stem)), None) for stem in _MULTI}
    wanted = {stem: next((flag.removeprefix(stem) for flag in target.flags if flag.startswith(stem)), None) for stem in _MULTI}
    found = _optimisation(flags) + [
        f"{stem}{value} and another {stem} are both there; the last counts" for stem, value in last.items() if len({f for f in flags if f.startswith(stem)}) > 1
    ]
    found += _core(last, wanted, target) + _float_abi(last, wanted, target)
    if target.prefix:
        found += _sections(flags)
    return found


def _optimisation(flags: Sequence[str]) -> list[str]:
    level = next((flag for flag in reversed(flags) if flag.startswith("-O")), None)
    if level is None:
        return ["no -O: the compiler does not optimise; write -O2"]
    if level == "-Og":
        return ["-Og: for debugging, slower than -O2"]
    return ["-O0: several times slower than -O2, and more stack"] if level == "-O0" else []


def _core(last: dict[str, str | None], wanted: dict[str, str | None], target: Target) -> list[str]:
    cpu, arch = last["-mcpu="], last["-march="]
    if target.cpu in _ARCHITECTURES:
        flag = f"-mcpu={wanted['-mcpu=']}" if wanted["-mcpu="] else f"-march={wanted['-march=']}"
        return _arm_cpu(cpu, target, flag) if cpu else _arm_architecture(arch, target, flag) if arch else _missing(flag)
    found = []
    for stem in ("-march=", "-mabi="):
        want, got = wanted[stem], last[stem]
        if want is not None and got is None:
            found += _missing(f"{stem}{want}")
        elif want is not None and got != want and not (stem == "-march=" and _riscv(want) - {""} <= _riscv(got or "")):
            found.append(_other(f"{stem}{got}", target, f"{stem}{want}"))
    return found


def _missing(flag: str) -> list[str]:
    return [f"no {flag.partition('=')[0]}: the compiler takes a core of its own choice; write {flag}"]


def _other(flag: str, target: Target, instead: str) -> str:
    return f"{flag}: the library was compiled for {target.name}; write {instead}"


def _arm_cpu(got: str, target: Target, flag: str) -> list[str]:
    """A compiler that does not know the core is given its architecture: then other cores of that will do."""
    core, *extensions = got.split("+")
    if core != target.cpu and (flag.startswith("-mcpu=") or _ARCHITECTURES.get(core) != _ARCHITECTURES[target.cpu]):
        return [_other(f"-mcpu={got}", target, flag)]
    lost = sorted({extension for feature in target.features for extension in _LOST.get(feature, ()) if extension in extensions})
    return [f"-mcpu={got}: +{extension} switches off the instructions of the fast kernels; leave it out" for extension in lost]


def _arm_architecture(got: str, target: Target, flag: str) -> list[str]:
    base, *extensions = got.split("+")
    if base != _ARCHITECTURES[target.cpu]:
        return [_other(f"-march={got}", target, flag)]
    for feature, any_of in _EXTENSIONS.get(base, {}).items():
        if feature in target.features and not set(any_of) & set(extensions):
            return [f"-march={got}: without +{any_of[0]} there are no instructions for the fast kernels; write {flag}"]
    if flag.startswith("-mcpu="):
        return [f"-march={got} without -mcpu: the instructions are right, but the compiler orders them for no core in particular; write {flag}"]
    return []


def _riscv(text: str) -> set[str]:
    """Base and extensions of an ISA name, without versions; empty if it is none."""
    match = re.fullmatch(r"(rv32|rv64)([a-rt-wy]*)((?:_?[zsx][a-z0-9]+)*)", re.sub(r"\d+p\d+", "", text.lower()))
    return {match[1], *match[2].replace("g", "imafd"), *match[3].strip("_").split("_")} if match else set()


def _float_abi(last: dict[str, str | None], wanted: dict[str, str | None], target: Target) -> list[str]:
    want, got = wanted["-mfloat-abi="], last["-mfloat-abi="]
    if want is None:
        return []
    if got is None:
        return [f"no -mfloat-abi: how floats are passed depends on the compiler's build, and objects that differ do not link; write -mfloat-abi={want}"]
    if got != "soft" and "fpu" not in target.features:
        return [f"-mfloat-abi={got}: {target.name} has no floating-point unit; write -mfloat-abi=soft"]
    if got == "soft" and "mve" in target.features:
        return [f"-mfloat-abi=soft: switches off the vector unit too, and with it the fast kernels; write -mfloat-abi={want}"]
    fpu = last["-mfpu="]
    if fpu not in (None, "auto", wanted["-mfpu="]) and wanted["-mfpu="] is not None:
        return [f"-mfpu={fpu}: {target.name} has another unit; write -mfpu={wanted['-mfpu=']}"]
    return []


def _sections(flags: Sequence[str]) -> list[str]:
    found = [f"no {flag}: unused functions and constants stay in the image" for flag in ("-ffunction-sections", "-fdata-sections") if flag not in flags]
    if not any("--gc-sections" in flag for flag in flags):
        found.append("no -Wl,--gc-sections when linking: unused functions and constants stay in the image")
    return found
