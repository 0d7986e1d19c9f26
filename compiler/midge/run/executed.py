# SPDX-License-Identifier: Apache-2.0
"""What one run of a library executes, by layer: instructions, exactly, and from them estimated cycles.

A QEMU plugin (runtime_c/executed.c) counts straight runs of instructions; labels at the hooks of the emitted code, which add no instruction, say where
layers begin and end. It takes the host's gcc to build the plugin, and a QEMU that was built with its plugin interface.
"""

from __future__ import annotations

import atexit
import re
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from elftools.elf.elffile import ELFFile

from midge.costs.cores import core_of, estimate_jump, estimate_run
from midge.costs.instructions import Instruction, parse_instruction
from midge.errors import VerifyFailed
from midge.run import firmware
from midge.run.qemu import build_bench, execute
from midge.targets import Target, get_target
from midge.toolchain import find_tool, runtime_dir

NOTHING, BETWEEN, FIRST_LAYER = 0, 1, 2
"""Buckets: not the library, the library between layers, layer 0 and so on."""
MARKS = """\
#define MIDGE_MARK(name) __asm__ volatile(name "_%=:" ::: "memory")
#define MIDGE_HOOK_BEGIN(layer) MIDGE_MARK("midge_mark_" #layer)
#define MIDGE_HOOK_END(layer, row, ptr, nbytes) MIDGE_MARK("midge_mark_end")
"""
_LINE = re.compile(r"^ *([0-9a-f]+):\t([0-9a-f ]+?) *\t(\S+)(?:[ \t]+(.*))?$", re.M)


@dataclass(frozen=True)
class Cost:
    """Executed instructions and the cycles they are estimated to take."""

    instructions: int
    cycles: int


@dataclass(frozen=True)
class Executed:
    """One run. layers: cost by index of the layer; what lies between them is in `total` only."""

    total: Cost
    layers: dict[int, Cost]


def executed(directory: Path, target: str, inputs: Sequence[Any], opt: str = "-O2") -> Executed:
    """Run the library in `directory` once on an emulated core and count.

    Raises: ToolMissing without compilers or emulator, UsageError if there is no model of the core, VerifyFailed if the run fails or the emulator was built
    without its plugin interface.
    """
    core_of(target)
    with TemporaryDirectory(prefix="midge-executed-") as name:
        work = Path(name)
        (work / "marks.h").write_text(MARKS, "utf-8")
        build = build_bench(directory, work, get_target(target), opt=opt, extra=("-include", "marks.h"))
        code = disassemble(build.image, build.target)
        (work / "input.bin").write_bytes(firmware.pack_inputs(build.model, inputs))
        (work / "marks.txt").write_text("".join(f"{address:x} {bucket}\n" for address, bucket in marks(build.image, build.model.name, code)), "utf-8")
        execute(build, work, options=("-plugin", f"{plugin()},marks=marks.txt,out=counts.txt"))
        if not (work / "counts.txt").is_file():
            raise VerifyFailed("the emulator took no plugin, so executed instructions were not looked up")
        return _costs(target, code, (work / "counts.txt").read_text("utf-8"))


@cache
def plugin() -> Path:
    """The compiled plugin, as old as this process."""
    folder = TemporaryDirectory(prefix="midge-plugin-")
    atexit.register(folder.cleanup)
    made = Path(folder.name) / "executed.so"
    shown = subprocess.run([find_tool("qemu-system-arm"), "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    major = re.search(r"version (\d+)", shown)
    flags = ("-O2", "-shared", "-fPIC", f"-DAPI_VERSION={2 if major and int(major[1]) >= 9 else 1}")
    done = subprocess.run([find_tool("gcc"), *flags, str(runtime_dir() / "executed.c"), "-o", str(made)], capture_output=True, timeout=100, check=False)
    if done.returncode != 0:
        raise VerifyFailed("the host's gcc does not build a plugin for the emulator, so executed instructions were not looked up")
    return made


@dataclass(frozen=True)
class Placed:
    """An instruction in an image."""

    nbytes: int
    name: str
    instruction: Instruction


def disassemble(image: Path, target: Target) -> dict[int, Placed]:
    """Every instruction of an image by its address."""
    # The image's attributes are those of the least object linked, such as newlib's, which knows no vectors.
    machine = ("-m", "armv8.1-m.main") if "mve" in target.features else ()
    command = [find_tool(f"{target.prefix}objdump"), "-d", "-z", *machine, str(image)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout
    found = {}
    for address, raw, name, operands in _LINE.findall(text):
        nbytes = len(raw.replace(" ", "")) // 2
        found[int(address, 16)] = Placed(nbytes, name, parse_instruction(name, operands or "", nbytes))
    return found


def marks(image: Path, name: str, code: dict[int, Placed]) -> list[tuple[int, int]]:
    """(address, bucket) where the library is entered, where it has returned, and where layers begin and end."""
    with image.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        symbols = [(s.name, s["st_value"] & ~1, s["st_size"]) for s in table.iter_symbols() if s.name]
    entry = f"{name}_run" if any(symbol == f"{name}_run" for symbol, _, _ in symbols) else "model_run"  # where the input is pushed, the firmware's own
    found = []
    for symbol, address, size in symbols:
        if symbol == entry:
            found.append((address, BETWEEN))
        elif symbol == "port_measure":
            calls = [a for a, placed in code.items() if address <= a < address + size and placed.name == "blx"]
            found += [(a + code[a].nbytes, NOTHING) for a in calls]
        elif symbol.startswith("midge_mark_end_"):
            found.append((address, BETWEEN))
        elif symbol.startswith("midge_mark_"):
            found.append((address, FIRST_LAYER + int(symbol.split("_")[2])))
    # Where a layer ends and the next begins at one address, the beginning counts.
    return sorted({address: bucket for address, bucket in sorted(found, key=lambda mark: mark[1])}.items())


def _costs(target: str, code: dict[int, Placed], counts: str) -> Executed:
    core, instructions, cycles = core_of(target), defaultdict[int, int](int), defaultdict[int, float](float)
    for line in counts.splitlines():
        start, end, bucket, count, jumps = (int(word, 16 if index < 2 else 10) for index, word in enumerate(line.split()))
        run, address = [], start
        while address < end:
            run.append(code[address].instruction)
            address += code[address].nbytes
        instructions[bucket] += len(run) * count
        cycles[bucket] += estimate_run(core, run) * count + estimate_jump(core, run[-1]) * jumps
    total = Cost(sum(instructions.values()), round(sum(cycles.values())))
    layers = {bucket - FIRST_LAYER: Cost(instructions[bucket], round(cycles[bucket])) for bucket in sorted(instructions) if bucket >= FIRST_LAYER}
    return Executed(total, layers)
