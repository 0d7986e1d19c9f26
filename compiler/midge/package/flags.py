# SPDX-License-Identifier: Apache-2.0
"""Warnings about compiler flags that make a library slow, large or wrong on its target.

Source: GCC manual, "ARM Options", "RISC-V Options", "Optimize Options"; AAPCS32 (which objects with different float ABIs may not be mixed under).
"""

from __future__ import annotations

from collections.abc import Sequence

from midge.targets import Target

_MULTI = ("-mcpu=", "-march=", "-mfloat-abi=", "-mfpu=", "-mabi=")


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
    if level in ("-O0", "-Og"):
        return [f"{level}: several times slower than -O2, and more stack"]
    return []


def _core(last: dict[str, str | None], wanted: dict[str, str | None], target: Target) -> list[str]:
    found = []
    for stem in ("-mcpu=", "-march=", "-mabi="):
        want, got = wanted[stem], last[stem]
        if want is None:
            continue
        if got is None and not (stem == "-march=" and last["-mcpu="]):
            found.append(f"no {stem.rstrip('=')}: the compiler takes a core of its own choice; write {stem}{want}")
        elif got is not None and got.partition("+")[0] != want.partition("+")[0]:
            found.append(f"{stem}{got}: the library was compiled for {target.name}; write {stem}{want}")
    return found


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
