# SPDX-License-Identifier: Apache-2.0
"""Run a library that is in a board's flash, over a serial line: inputs out, rows of every layer and outputs back, ticks and stack.

The board serves with runtime_c/hil_server.c; `midge board` writes a project that has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from midge.errors import UsageError, VerifyFailed
from midge.ir import Array
from midge.run.constants import WORD, listed
from midge.run.firmware import Model, RunResult
from midge.run.line import Line, Restarted, Traffic, parse_place
from midge.run.protocol import Done, Hello, Mode, Op, Row, parse_event

_ATTEMPTS = 3  # at a sample, when the board is reset in between
_LAST_LAYER = 0xFFFFFFFF
T = TypeVar("T")


@dataclass(frozen=True)
class RealTime:
    """Samples sent at a fixed rate. Times in seconds, from when a sample was due: until its inputs began to be sent (late), and until its outputs had come
    (latency). missed: samples whose outputs came after the next one was due. compute: of the library alone, as the board counts it; None if it does not."""

    hertz: float
    late: tuple[float, ...]
    latency: tuple[float, ...]
    compute: tuple[float, ...] | None

    @property
    def missed(self) -> int:
        return sum(value > 1 / self.hertz for value in self.latency)

    @property
    def jitter(self) -> float:
        """Longest less shortest latency."""
        return max(self.latency) - min(self.latency)

    @property
    def load(self) -> float | None:
        """The share of a period that the library computes, on average."""
        return None if self.compute is None else sum(self.compute) / len(self.compute) * self.hertz

    @property
    def line_load(self) -> float:
        """The share of a period that passes between the beginning of a sample and the arrival of its outputs, on average."""
        return sum(total - late for total, late in zip(self.latency, self.late, strict=True)) / len(self.latency) * self.hertz


@dataclass(frozen=True)
class BoardResult:
    """What came from a board: the runs, what it counted in one of them (None if it does not count), and how the line did."""

    run: RunResult
    hello: Hello
    traffic: Traffic
    ticks: int | None
    layer_ticks: dict[int, int] | None
    stack_bytes: int | None
    real_time: RealTime | None = None


def run_serial(
    manifest: Mapping[str, Any], place: str, inputs: Sequence[Array], *, layers: bool = True, hertz: float | None = None, patience: float = 120.0
) -> BoardResult:
    """Run samples on the board at `serial:PORT[:BAUD]`, which must hold the library of this manifest.

    inputs: one array (N, ...) per model input. layers: bring every row of every layer. hertz: send samples at that rate instead, without layers.

    Raises: UsageError if the port cannot be opened or another library is on the board; VerifyFailed if the board is silent, the library returned an error or
    wrote outside its arena, or rows are missing.
    """
    model = Model.from_manifest(manifest)
    with Line(*parse_place(place), patience) as line:
        board = _Board(line, model, manifest)
        samples = [[np.ascontiguousarray(array[i]).tobytes() for array in inputs] for i in range(len(inputs[0]) if inputs else 1)]
        if hertz is not None:
            return _in_real_time(board, samples, hertz)
        traced = [board.again(lambda feeds=feeds, n=n: board.trace(feeds, n) if layers else board.plain(feeds, n)) for n, feeds in enumerate(samples)]  # type: ignore[misc]
        done, outputs, _ = board.again(lambda: board.plain(samples[0], 0)) if layers else traced[0]
        if outputs != traced[0][1]:
            raise VerifyFailed(f"{model.name} on {place}: sample 0 gave different outputs when it was run again; the board computes something else each time")
        counted = board.again(lambda: board.profile(samples[0])) if board.hello.counts and layers else None
        found = {(n, layer): data for n, run in enumerate(traced) for layer, data in run[2].items()} if layers else None
        run = RunResult(_columns(model, [run[1] for run in traced]), found, constants=board.constants())
        return _result(board, run, done.ticks, counted, done.stack_bytes)


def _result(board: _Board, run: RunResult, ticks: int, layer_ticks: dict[int, int] | None, stack: int, real_time: RealTime | None = None) -> BoardResult:
    hello = board.hello
    return BoardResult(run, hello, board.line.traffic, ticks if hello.counts else None, layer_ticks, stack if hello.stack_bytes else None, real_time)


def _columns(model: Model, outputs: Sequence[Sequence[bytes]]) -> list[Array]:
    return [np.stack([np.frombuffer(sample[i], np.uint8) for sample in outputs]) for i in range(len(model.output_bytes))]


def _in_real_time(board: _Board, samples: Sequence[Sequence[bytes]], hertz: float) -> BoardResult:
    """Send a sample whenever it is due, or at once if it is overdue."""
    late, latency, runs, start = [], [], [], time.monotonic()
    for number, feeds in enumerate(samples):
        due = start + number / hertz
        time.sleep(max(0.0, due - time.monotonic()))
        late.append(time.monotonic() - due)
        try:
            runs.append(board.plain(feeds, number, fill=False))
        except Restarted:
            raise VerifyFailed(f"{board.model.name} on {board.line.port}: the board was reset in sample {number}") from None
        latency.append(time.monotonic() - due)
    hello = board.hello
    compute = tuple(done.ticks / hello.tick_hz for done, _, _ in runs) if hello.counts and hello.tick_hz else None
    timing = RealTime(hertz, tuple(late), tuple(latency), compute)
    done = runs[-1][0]
    run = RunResult(_columns(board.model, [each[1] for each in runs]), constants=board.constants())
    return _result(board, run, done.ticks, None, done.stack_bytes, timing)


def _identity(hello: Hello) -> tuple[str, str, int, int, int]:
    return hello.name, hello.digest, hello.arena_bytes, hello.layers, hello.constants


def _named(name: str, digest: str, arena_bytes: int, layers: int, constants: int) -> str:
    return f"'{name}', model {digest[:12]}, arena {arena_bytes} bytes, {layers} layers, {constants} constants"


Run = tuple[Done, list[bytes], dict[int, bytes]]


class _Board:
    """A board that holds a known library."""

    def __init__(self, line: Line, model: Model, manifest: Mapping[str, Any]) -> None:
        self.line, self.model = line, model
        self.hello = hello = line.hello()
        wanted = (model.name, str(manifest["model_digest"]), model.arena_bytes, max(model.layer_names, default=-1) + 1, len(listed(manifest) or ()))
        if _identity(hello)[1:] != wanted[1:]:
            raise UsageError(
                f"{line.port}: the board has {_named(*_identity(hello))}; wanted {_named(*wanted)}: "
                "put this library on the board, or verify with the folder the board's was built from"
            )

    def again(self, work: Callable[[], T]) -> T:
        """Do work, from its beginning if the board is reset meanwhile."""
        for _ in range(_ATTEMPTS):
            try:
                return work()
            except Restarted:
                self._greet_again()
        raise VerifyFailed(f"{self.model.name} on {self.line.port}: the board was reset {_ATTEMPTS} times in one sample; does it crash?")

    def _greet_again(self) -> None:
        hello = self.line.hello()
        if hello != self.hello:
            before, after = _named(*_identity(self.hello)), _named(*_identity(hello))
            what = f"it has {after} now, and had {before} before" if before != after else f"it has another build of {after} now"
            raise VerifyFailed(f"{self.line.port}: the board was reset, and {what}; nothing that came from it counts")

    def constants(self) -> tuple[int, ...]:
        """The CRC-32 of each constant as it lies in the board's memory."""
        found = [self.again(lambda index=index: self.line.request(Op.CONSTANT, index)) for index in range(self.hello.constants)]  # type: ignore[misc]
        if any(len(data) != WORD.size for data in found):
            raise VerifyFailed(f"{self.line.port}: sums of constants came cut short")
        return tuple(WORD.unpack(data)[0] for data in found)

    def plain(self, feeds: Sequence[bytes], number: int, *, fill: bool = True) -> Run:
        """One run, undisturbed."""
        self._feed(feeds, number if fill else None)
        done, rows = self._run(Mode.PLAIN)
        return done, self._outputs(), rows

    def trace(self, feeds: Sequence[bytes], number: int) -> Run:
        """One run with the rows of every layer."""
        self._feed(feeds, number)
        done, rows = self._run(Mode.WATCH)
        missing = [name for index, name in self.model.layer_names.items() if index not in rows]
        if missing:
            raise VerifyFailed(
                f"{self.model.name} on {self.line.port}: {len(missing)} layers did not show, '{missing[0]}' first; compile the library's sources with "
                "-include midge_hooks.h, or use --no-layers to compare outputs only"
            )
        return done, self._outputs(), rows

    def profile(self, feeds: Sequence[bytes]) -> dict[int, int]:
        """Ticks of each layer of one run."""
        self._feed(feeds, 0)
        self._run(Mode.PROFILE)
        found: list[int] = []
        while len(found) < self.hello.layers:
            data = self.line.request(Op.TICKS, len(found))
            if not data or len(data) % 4:
                raise VerifyFailed(f"{self.line.port}: ticks of {len(found)} layers came, {self.hello.layers} were expected")
            found += np.frombuffer(data, "<u4").tolist()
        return dict(enumerate(found))

    def _feed(self, feeds: Sequence[bytes], seed: int | None) -> None:
        if seed is not None:
            self.line.request(Op.FILL, 0x9E3779B9 + seed)
        for index, data in enumerate(feeds):
            for offset in range(0, len(data), self.hello.payload):
                self.line.request(Op.WRITE, index, offset, data=data[offset : offset + self.hello.payload])

    def _outputs(self) -> list[bytes]:
        found = []
        for index, nbytes in enumerate(self.model.output_bytes):
            data = b""
            while len(data) < nbytes:
                part = self.line.request(Op.READ, index, len(data), min(self.hello.payload, nbytes - len(data)))
                if not part:
                    raise VerifyFailed(f"{self.line.port}: {len(data)} bytes of output {index} came, {nbytes} were expected")
                data += part
            found.append(data)
        return found

    def _run(self, mode: Mode) -> tuple[Done, dict[int, bytes]]:
        """How a run ended, and the bytes of each layer that showed, in row order."""
        rows: dict[int, dict[int, bytes]] = {}
        event = self._event(self.line.request(Op.RUN, mode, 0, _LAST_LAYER))
        while isinstance(event, Row):
            layer = rows.setdefault(event.layer, {})
            layer[event.row] = (layer.get(event.row, b"") if event.offset else b"") + event.data  # a row that several calls complete: the last
            if not event.data or len(layer[event.row]) != min(event.offset + len(event.data), event.nbytes):
                raise VerifyFailed(f"{self.line.port}: layer {event.layer}, row {event.row}: pieces are missing")
            event = self._event(self.line.request(Op.NEXT))
        where = f"{self.model.name} on {self.line.port}"
        if event.code != 0:
            raise VerifyFailed(f"{where}: {self.model.name}_run returned {event.code}")
        if event.guards:
            raise VerifyFailed(f"{where}: {self.model.name}_run wrote {'before the start' if event.guards & 1 else 'past the end'} of its arena")
        if self.hello.stack_bytes and event.stack_bytes >= self.hello.stack_bytes:
            raise VerifyFailed(f"{where}: the stack went deeper than the {self.hello.stack_bytes} bytes looked at; raise MIDGE_HIL_STACK_BYTES")
        return event, {layer: b"".join(parts[row] for row in sorted(parts)) for layer, parts in rows.items()}

    def _event(self, data: bytes) -> Row | Done:
        try:
            return parse_event(data)
        except ValueError as error:
            raise VerifyFailed(f"{self.line.port}: {error}") from None
