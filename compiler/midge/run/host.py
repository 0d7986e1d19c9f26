# SPDX-License-Identifier: Apache-2.0
"""Build an emitted library for the host and run it there, with sanitizers if asked."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from midge.errors import VerifyFailed
from midge.run import firmware
from midge.run.constants import read_constants
from midge.run.firmware import Model, RunResult
from midge.targets import get_target
from midge.toolchain import compile_objects, link, runtime_dir

_SECONDS = 600
_SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g")
_FINDINGS = ("ERROR: AddressSanitizer", "runtime error:")
_PROCESS = re.compile(r"^==\d+==")  # before what AddressSanitizer says


def run_host(
    directory: Path,
    inputs: Sequence[NDArray[Any]],
    *,
    trace: bool = False,
    constants: bool = False,
    sanitize: bool = False,
    cc: str = "gcc",
    opt: str = "-O2",
) -> RunResult:
    """Build the library in `directory` with the host's compiler and run it on samples.

    inputs: one array (N, ...) per model input, bytes taken as they are. trace: keep every layer's output. constants: look at their bytes. sanitize:
    AddressSanitizer with the arena's surroundings forbidden, and UndefinedBehaviorSanitizer.

    Raises:
        ToolMissing: no compiler.
        VerifyFailed: the library crashed, returned an error, or wrote outside its arena.
    """
    model = firmware.read_model(directory)
    with tempfile.TemporaryDirectory(prefix="midge-host-") as name:
        work = Path(name)
        (work / "input.bin").write_bytes(firmware.pack_inputs(model, inputs))
        program = _build(directory, work, trace=trace, constants=constants, sanitize=sanitize, cc=cc, opt=opt)
        where = "the host" + (" with sanitizers" if sanitize else "")
        _execute(program, work, model, where)
        firmware.check_measurement(firmware.read_measurement(work / "result.bin"), model, where)
        samples = len(inputs[0]) if inputs else 1
        return RunResult(
            outputs=firmware.read_outputs(work / "output.bin", model, samples),
            layers=firmware.read_layers(work / "layers.bin") if trace else None,
            constants=read_constants(work / "constants.bin") if constants else None,
        )


def _build(directory: Path, work: Path, *, trace: bool, constants: bool, sanitize: bool, cc: str, opt: str) -> Path:
    target, runtime = get_target("host"), runtime_dir()
    (work / "midge_model.h").write_text(firmware.adapter_header(json.loads((directory / "manifest.json").read_text(encoding="utf-8"))), encoding="utf-8")
    includes = (directory / "src", runtime, work)
    defines = [name for name, wanted in (("MIDGE_TRACE", trace), ("MIDGE_CONSTANTS", constants)) if wanted]
    checks = _SANITIZE if sanitize else ()
    hooks = ("-include", "midge_hooks.h") if trace else ()
    library = compile_objects(firmware.library_sources(directory), work / "library", target, opt=opt, includes=includes, extra=(*checks, *hooks), cc=cc)
    own = [runtime / "bench_main.c", runtime / "port_host.c"]
    port = compile_objects(own, work / "port", target, includes=includes, defines=defines, extra=checks, cc=cc)
    return link([*port, *library], work / "bench", target, extra=checks, cc=cc)


def _execute(program: Path, work: Path, model: Model, where: str) -> None:
    # Leak checking needs ptrace, which containers often deny; nothing here allocates anyway.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    command = [str(program)]
    try:
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise VerifyFailed(f"{model.name} on {where}: did not end within {_SECONDS} seconds") from None
    if done.returncode == 0 or (done.returncode > 0 and (work / "result.bin").is_file()):
        return
    if done.returncode < 0:
        raise VerifyFailed(f"{model.name} on {where}: killed by {signal.Signals(-done.returncode).name}")
    lines = done.stderr.decode(errors="replace").splitlines()
    start = next((index for index, line in enumerate(lines) if any(text in line for text in _FINDINGS)), 0)
    first, *rest = [_PROCESS.sub("", line) for line in lines[start : start + 8]] or ["no message"]
    raise VerifyFailed("\n".join([f"{model.name} on {where}: stopped with exit code {done.returncode}: {first}", *rest]))
