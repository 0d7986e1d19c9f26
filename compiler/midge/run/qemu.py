# SPDX-License-Identifier: Apache-2.0
"""Build an emitted library for a board QEMU emulates, run it there, and measure: instructions, stack, bytes of flash."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from midge.errors import UsageError, VerifyFailed
from midge.run import firmware
from midge.run.constants import read_constants
from midge.run.firmware import Measurement, Model, RunResult
from midge.targets import Board, Target, get_board, get_target
from midge.toolchain import (
    Sizes,
    compile_objects,
    constant_bytes,
    find_tool,
    function_at,
    link,
    link_relocatable,
    runtime_dir,
    section_sizes,
    undefined_names,
)

COUNT = ("-icount", "shift=6")
"""Options of QEMU that let an instruction take 64 ns, so that the board's timer counts instructions."""

_SECONDS = 600
_FAULTS = {2: "NMI", 3: "HardFault", 4: "MemManage", 5: "BusFault", 6: "UsageFault", 7: "SecureFault"}
# Bits of CFSR, Armv8-M Architecture Reference Manual (ARMv7-M lacks STKOF); an M0 has no such register and reports none.
_CAUSES = {
    0: "instruction access violation",
    1: "data access violation",
    8: "instruction bus error",
    9: "data bus error",
    10: "imprecise data bus error",
    16: "undefined instruction",
    17: "invalid state (a branch to an even address)",
    18: "invalid return",
    19: "coprocessor or FPU is off",
    20: "stack limit passed",
    24: "unaligned access",
    25: "division by zero",
}
_DATA_BUS_ADDRESS_VALID = 1 << 15


@dataclass(frozen=True)
class ImageSizes:
    """Bytes of the smallest firmware that runs a library: start-up code, library, a trivial main.

    weights: constant arrays and tables, part of rodata. total_flash: everything kept in flash. library: its objects alone, used or not.
    """

    text: int
    rodata: int
    data: int
    bss: int
    weights: int
    total_flash: int
    library: Sizes


@dataclass(frozen=True)
class Build:
    """A finished image of the test firmware and what it is for."""

    image: Path
    model: Model
    target: Target
    board: Board
    library: Sizes

    @property
    def where(self) -> str:
        return f"{self.target.name} ({self.board.name})"


def _as_target(target: Target | str) -> Target:
    return get_target(target) if isinstance(target, str) else target


def run_qemu(
    directory: Path,
    target: Target | str,
    inputs: Sequence[NDArray[Any]],
    *,
    trace: bool = False,
    constants: bool = False,
    profile: bool = False,
    opt: str = "-O2",
    seconds: int = _SECONDS,
) -> RunResult:
    """Build the library in `directory` for a target's board and run it under QEMU on samples.

    inputs: one array (N, ...) per model input, bytes taken as they are. trace: keep every layer's output. constants: look at their bytes. profile: count
    the instructions of each layer. Without trace or profile the result has the instructions and the stack of one run, undisturbed by hooks; with one
    of them these are None.

    Raises:
        ToolMissing: no cross compiler or no QEMU.
        UsageError: the target has no board, or trace and profile were asked for together.
        VerifyFailed: the library faulted, returned an error, wrote outside its arena, or did not end.
    """
    if trace and profile:
        raise UsageError("run_qemu: trace and profile exclude each other: writing the trace would be counted; run twice")
    with tempfile.TemporaryDirectory(prefix="midge-qemu-") as name:
        work = Path(name)
        mode = "MIDGE_TRACE" if trace else "MIDGE_PROFILE" if profile else None
        hooks = ("-include", "midge_hooks.h") if mode else ()
        defines = [define for define in (mode, "MIDGE_CONSTANTS" if constants else None) if define]
        build = build_bench(directory, work, _as_target(target), opt=opt, extra=hooks, defines=defines)
        (work / "input.bin").write_bytes(firmware.pack_inputs(build.model, inputs))
        execute(build, work, seconds=seconds)
        measured = firmware.read_measurement(work / "result.bin")
        firmware.check_measurement(measured, build.model, build.where)
        result = _result(build, work, measured, len(inputs[0]) if inputs else 1, mode)
        return replace(result, constants=read_constants(work / "constants.bin")) if constants else result


def _result(build: Build, work: Path, measured: Measurement, samples: int, mode: str | None) -> RunResult:
    rate = build.board.timer.ticks_per_instruction
    return RunResult(
        outputs=firmware.read_outputs(work / "output.bin", build.model, samples),
        layers=firmware.read_layers(work / "layers.bin") if mode == "MIDGE_TRACE" else None,
        instructions=firmware.total_instructions(measured, rate) if mode is None else None,
        layer_instructions=firmware.layer_instructions(measured, rate) if mode == "MIDGE_PROFILE" else None,
        stack_bytes=measured.stack_bytes if mode is None else None,
        sizes=build.library,
    )


def _write_adapter(directory: Path, work: Path) -> Model:
    model = firmware.read_model(directory)
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    (work / "midge_model.h").write_text(firmware.adapter_header(manifest), encoding="utf-8")
    return model


def _library(directory: Path, work: Path, target: Target, opt: str, extra: Sequence[str] = ()) -> list[Path]:
    includes = (directory / "src", runtime_dir(), work)
    return compile_objects(firmware.library_sources(directory), work / "library", target, opt=opt, includes=includes, extra=extra)


def _sum_sizes(objects: Sequence[Path]) -> Sizes:
    each = [section_sizes(path) for path in objects]
    return Sizes(sum(s.text for s in each), sum(s.rodata for s in each), sum(s.data for s in each), sum(s.bss for s in each))


def build_bench(directory: Path, work: Path, target: Target, *, opt: str = "-O2", extra: Sequence[str] = (), defines: Sequence[str] = ()) -> Build:
    """The test firmware around the library in `directory`, built in `work`. extra: flags for the library's sources; defines: for the firmware's own.

    Raises: as run_qemu.
    """
    board, runtime = get_board(target), runtime_dir()
    model = _write_adapter(directory, work)
    library = _library(directory, work, target, opt, extra)
    sources = [runtime / name for name in ("startup_cortexm.c", "port_semihost.c", "bench_main.c")]
    timer = [f"{board.timer.kind}=1", f"TIMER_BASE={board.timer.base:#x}u"]
    port = compile_objects(sources, work / "port", target, includes=(directory / "src", runtime, work), defines=[*timer, *defines])
    image = link([*port, *library], work / "bench.elf", target, script=runtime / board.linker_script)
    return Build(image, model, target, board, _sum_sizes(library))


def execute(build: Build, work: Path, *, seconds: int = _SECONDS, options: Sequence[str] = COUNT) -> None:
    """Run an image under QEMU in `work`, where it finds and leaves its files. options: of QEMU; by default time stands for executed instructions.

    Raises: VerifyFailed if it faulted or did not end.
    """
    command = [
        *(find_tool("qemu-system-arm"), *build.board.qemu_args),
        *("-display", "none", "-monitor", "none", "-serial", "none"),
        *("-semihosting-config", "enable=on,target=native", *options),
        *("-kernel", str(build.image)),
    ]
    try:
        done = subprocess.run(command, cwd=work, capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise VerifyFailed(f"{build.model.name} on {build.where}: did not end within {seconds} seconds") from None
    fault = work / "fault.bin"
    if fault.is_file():
        raise VerifyFailed(f"{build.model.name} on {build.where}: {_describe_fault(fault.read_bytes(), build.image)}")
    if done.returncode != 0 and not (work / "result.bin").is_file():
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[0] if lines else "no message"
        raise VerifyFailed(f"{build.model.name} on {build.where}: the emulator stopped with exit code {done.returncode}: {reason}")


def _describe_fault(record: bytes, image: Path) -> str:
    exception, pc, lr, lost, cfsr, address = (int.from_bytes(record[i : i + 4], "little") for i in range(0, 24, 4))
    name = _FAULTS.get(exception, f"exception {exception}")
    if lost:
        return f"{name} with the stack pointer outside the stack: stack overflow"
    places = [f"{what} {value:#x} in {function_at(image, value) or 'no function'}" for what, value in (("pc", pc), ("called from", lr))]
    causes = [text for bit, text in _CAUSES.items() if cfsr >> bit & 1]
    at = f" at address {address:#x}" if cfsr & _DATA_BUS_ADDRESS_VALID else ""
    return f"{name} at {', '.join(places)}{': ' if causes else ''}{', '.join(causes)}{at}"


def image_sizes(directory: Path, target: Target | str, opt: str = "-Os") -> ImageSizes:
    """Sizes of the smallest firmware with the library in `directory`, unused sections dropped, and of the library's objects alone.

    Raises:
        ToolMissing: no cross compiler.
        UsageError: the target has no board.
        Unsupported: the image does not fit the board.
    """
    target = _as_target(target)
    board, runtime = get_board(target), runtime_dir()
    with tempfile.TemporaryDirectory(prefix="midge-image-") as name:
        work = Path(name)
        _write_adapter(directory, work)
        library = _library(directory, work, target, opt)
        sources = [runtime / "startup_cortexm.c", runtime / "image_main.c"]
        own = compile_objects(sources, work / "port", target, opt=opt, includes=(directory / "src", runtime, work))
        image = link([*own, *library], work / "image.elf", target, script=runtime / board.linker_script)
        sizes = section_sizes(image)
        return ImageSizes(sizes.text, sizes.rodata, sizes.data, sizes.bss, constant_bytes(image), sizes.flash, _sum_sizes(library))


def undefined_symbols(directory: Path, target: Target | str, opt: str = "-O2") -> frozenset[str]:
    """Names the library and libgcc together still need from a C library: at most memcpy, memset and memmove.

    Raises:
        ToolMissing: no cross compiler.
    """
    target = _as_target(target)
    with tempfile.TemporaryDirectory(prefix="midge-symbols-") as name:
        work = Path(name)
        joined = link_relocatable(_library(directory, work, target, opt), work / "joined.o", target)
        return undefined_names(joined)
