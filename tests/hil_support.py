# SPDX-License-Identifier: Apache-2.0
"""A board at the end of a bad cable: a program that serves on its standard input and output, behind a pseudo-terminal that loses, doubles and damages bytes."""

from __future__ import annotations

import os
import pty
import random
import re
import shutil
import subprocess
import threading
import tty
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from midge.codegen.manifest import load_manifest
from midge.run.firmware import adapter_header, library_sources
from midge.targets import get_target
from midge.toolchain import compile_objects, link, runtime_dir

STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wmissing-prototypes", "-Werror")


def build_server(library: Path, work: Path, *, hooks: bool = True, checks: Sequence[str] = ()) -> list[str]:
    """The command of a program of this computer that serves a written library. checks: flags of sanitizers."""
    runtime, target = runtime_dir(), get_target("host")
    work.mkdir(parents=True, exist_ok=True)
    (work / "midge_model.h").write_text(adapter_header(load_manifest(library)))
    includes = (library / "src", runtime, work)
    own = compile_objects([runtime / "hil_server.c", runtime / "port_hil_host.c"], work / "own", target, includes=includes, extra=[*STRICT, *checks])
    extra = [*checks, *(("-include", "midge_hooks.h") if hooks else ())]
    objects = compile_objects(library_sources(library), work / "library", target, includes=includes, extra=extra)
    return [str(link([*own, *objects], work / "server", target, extra=checks))]


def flip_weight(library: Path, to: Path) -> Path:
    """A copy of a library in which one weight has another value."""
    shutil.copytree(library, to)
    source = next(to.glob("src/*_weights.c"))
    text = source.read_text()
    first = re.search(r"(weights\[\d+\] = \{\s*)(-?\d+)", text)
    assert first is not None
    source.write_text(text[: first.start(2)] + str(-int(first[2]) or 99) + text[first.end(2) :])
    return to


class Cable:
    """A port with a program behind it. faults: the share of bytes that are dropped, doubled or changed, each as likely. reset_after: end the program and
    start it again once so many bytes came from it; mute: throw away everything that it says."""

    def __init__(self, command: Sequence[str], *, faults: float = 0.0, reset_after: int = 0, mute: bool = False, seed: int = 1) -> None:
        self.command, self.faults, self.reset_after, self.mute = list(command), faults, reset_after, mute
        self.injected = {"drop": 0, "double": 0, "change": 0}
        self._random, self._seen, self._closed = random.Random(seed), 0, False
        self._master, self._slave = pty.openpty()
        tty.setraw(self._master)
        tty.setraw(self._slave)
        self.place = f"serial:{os.ttyname(self._slave)}"
        self._lock = threading.Lock()

    def __enter__(self) -> Cable:
        self._start()
        threading.Thread(target=self._to_board, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed = True
        os.close(self._slave)
        self._stop()

    def _start(self) -> None:
        self._process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        threading.Thread(target=self._from_board, args=(self._process,), daemon=True).start()

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _spoil(self, data: bytes) -> bytes:
        out = bytearray()
        with self._lock:
            for byte in data:
                fault = self._random.choice(list(self.injected)) if self._random.random() < self.faults else ""
                if fault:
                    self.injected[fault] += 1
                out.extend({"": [byte], "drop": [], "double": [byte, byte], "change": [byte ^ 1 << self._random.randrange(8)]}[fault])
        return bytes(out)

    def _to_board(self) -> None:
        while not self._closed:
            try:
                data = os.read(self._master, 4096)
                assert self._process.stdin is not None
                self._process.stdin.write(self._spoil(data))
            except OSError:  # closed, or the board is just being reset
                if self._closed:
                    return

    def _from_board(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        while not self._closed and (data := process.stdout.read(4096)):
            self._seen += len(data)
            if not self.mute:
                os.write(self._master, self._spoil(data))
            if 0 < self.reset_after < self._seen:
                self.reset_after = 0
                self._stop()
                self._start()
                return
