# SPDX-License-Identifier: Apache-2.0
"""Find compilers and emulators, run them, and look into what they made."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section, SymbolTableSection

from midge.errors import IRError, ToolMissing, Unsupported
from midge.targets import Target

LIBRARY_FLAGS = ("-std=c99", "-ffunction-sections", "-fdata-sections")
"""How the sources of an emitted library are compiled, beside the target's flags and the optimisation level."""

_PACKAGES = {
    "gcc": "gcc",
    "clang": "clang",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
    "qemu-system-arm": "qemu-system-arm",
}
_COMPILE_SECONDS = 600
_SHOWN_LINES = 12


@dataclass(frozen=True)
class Sizes:
    """Bytes of an image or of objects: code (unwind tables included), constants, initialised and zeroed variables."""

    text: int
    rodata: int
    data: int
    bss: int

    @property
    def flash(self) -> int:
        """Bytes kept in flash: code, constants and the initial values of variables."""
        return self.text + self.rodata + self.data


def find_tool(name: str) -> str:
    """Path of a program.

    Raises:
        ToolMissing: it is not installed; the message names the Debian packages.
    """
    path = shutil.which(name)
    if path is None:
        raise ToolMissing(f"{name}: not found; on Debian or Ubuntu: apt-get install {_PACKAGES.get(name, name)}")
    return path


def runtime_dir() -> Path:
    """Folder of the C sources in runtime_c, installed or in a source checkout.

    Raises:
        IRError: neither is there.
    """
    spec = importlib.util.find_spec("midge.runtime_c")
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    places.append(Path(__file__).resolve().parents[2] / "runtime_c")
    for place in places:
        if (place / "bench_main.c").is_file():
            return place
    raise IRError(f"runtime_c: bench_main.c is in none of {', '.join(map(str, places))}; the installation is incomplete")


def compiler_of(target: Target, cc: str | None = None) -> str:
    """Path of the C compiler for a target: `cc` if given, else the gcc of the target's prefix."""
    return find_tool(cc or f"{target.prefix}gcc")


def compile_objects(
    sources: Sequence[Path],
    folder: Path,
    target: Target,
    *,
    opt: str = "-O2",
    includes: Sequence[Path] = (),
    defines: Sequence[str] = (),
    extra: Sequence[str] = (),
    cc: str | None = None,
) -> list[Path]:
    """Compile C sources one by one into objects in `folder`, in the order given.

    Raises:
        ToolMissing: no compiler.
        IRError: the compiler refused a source, which midge wrote.
    """
    compiler = compiler_of(target, cc)
    folder.mkdir(parents=True, exist_ok=True)
    options = [*LIBRARY_FLAGS, opt, *target.flags, *(f"-I{path}" for path in includes), *(f"-D{define}" for define in defines), *extra]
    objects = []
    for index, source in enumerate(sources):
        output = folder / f"{index:03}_{source.stem}.o"
        _check([compiler, *options, "-c", str(source), "-o", str(output)], f"{target.name}: {Path(compiler).name} refused {source.name}")
        objects.append(output)
    return objects


def link(objects: Sequence[Path], output: Path, target: Target, *, script: Path | None = None, extra: Sequence[str] = (), cc: str | None = None) -> Path:
    """Link objects into a program; with a linker script, for a board without an operating system.

    Raises:
        ToolMissing: no compiler.
        Unsupported: the memories of the board are too small.
        IRError: the linker refused, for instance because of an undefined symbol.
    """
    command = [compiler_of(target, cc), *target.flags]
    if script is not None:
        # No warning about writable segments that hold code: the memories of the boards are RAM throughout.
        command += ["-nostartfiles", "--specs=nano.specs", "-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments", f"-L{script.parent}", f"-T{script}"]
    command += [*map(str, objects), *extra, "-lm", "-o", str(output)]
    _check(command, f"{target.name}: linking {output.name} failed")
    return output


def link_relocatable(objects: Sequence[Path], output: Path, target: Target) -> Path:
    """Join objects and what they need of libgcc into one object; whatever is then undefined, the C library must supply."""
    command = [compiler_of(target), *target.flags, "-nostdlib", "-r", *map(str, objects), "-lgcc", "-o", str(output)]
    _check(command, f"{target.name}: joining the objects of the library failed")
    return output


def _check(command: Sequence[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, stdin=subprocess.DEVNULL, check=False)
    if done.returncode == 0:
        return
    lines = (done.stderr or done.stdout).splitlines()
    overflow = [line for line in lines if "overflowed by" in line]
    if overflow:
        raise Unsupported(f"{what}: the image does not fit the board's memories: {overflow[0].split('ld: ')[-1]}")
    raise IRError("\n".join([f"{what}:", *lines[:_SHOWN_LINES]]))


def section_sizes(path: Path) -> Sizes:
    """Sizes of the sections of an ELF file that end up in the target's memory; the stack's section is not counted."""
    sums = {"text": 0, "rodata": 0, "data": 0, "bss": 0}
    with path.open("rb") as file:
        for section in ELFFile(file).iter_sections():
            kind = _kind(section)
            if kind is not None:
                sums[kind] += section["sh_size"]
    return Sizes(**sums)


def _kind(section: Section) -> str | None:
    flags = section["sh_flags"]
    if not flags & SH_FLAGS.SHF_ALLOC or section.name == ".stack":
        return None
    if section["sh_type"] == "SHT_NOBITS":
        return "bss"
    if flags & SH_FLAGS.SHF_EXECINSTR or section.name.startswith((".ARM.ex", ".eh_frame")):
        return "text"
    return "data" if flags & SH_FLAGS.SHF_WRITE else "rodata"


def constant_bytes(path: Path) -> int:
    """Bytes of the constant arrays and tables of a linked image: objects in its .rodata, each place counted once."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        index = elf.get_section_index(".rodata")
        table = elf.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        found = {
            symbol["st_value"]: symbol["st_size"]
            for symbol in table.iter_symbols()
            if symbol["st_info"]["type"] == "STT_OBJECT" and symbol["st_shndx"] == index
        }
    return sum(found.values())


def undefined_names(path: Path) -> frozenset[str]:
    """Names an ELF object needs and does not define; weak ones, which may stay undefined, are left out."""
    with path.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            return frozenset()
        return frozenset(
            symbol.name for symbol in table.iter_symbols() if symbol.name and symbol["st_shndx"] == "SHN_UNDEF" and symbol["st_info"]["bind"] == "STB_GLOBAL"
        )


def function_at(path: Path, address: int) -> str | None:
    """Name of the function an address of a linked image lies in; bit 0, set in Thumb addresses, is ignored."""
    with path.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            return None
        for symbol in table.iter_symbols():
            start = symbol["st_value"] & ~1
            if symbol["st_info"]["type"] == "STT_FUNC" and start <= (address & ~1) < start + max(symbol["st_size"], 2):
                return str(symbol.name)
    return None


def function_sizes(path: Path) -> dict[str, int]:
    """Bytes of each global function of an ELF object, what was inlined into it included."""
    with path.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            return {}
        found = (symbol for symbol in table.iter_symbols() if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_info"]["bind"] == "STB_GLOBAL")
        return {symbol.name: int(symbol["st_size"]) for symbol in found}


def function_aliases(path: Path) -> list[list[str]]:
    """Names of functions of an ELF object that share an address, group by group: of those disassemblers show only one."""
    with path.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            return []
        places: dict[tuple[int, int], list[str]] = {}
        for symbol in table.iter_symbols():
            if symbol["st_info"]["type"] == "STT_FUNC" and isinstance(symbol["st_shndx"], int):
                places.setdefault((symbol["st_shndx"], symbol["st_value"]), []).append(str(symbol.name))
    return [names for names in places.values() if len(names) > 1]
