# SPDX-License-Identifier: Apache-2.0
"""A serial line on which requests are answered once and only once, although bytes are lost, doubled and damaged, and the cable is pulled."""

from __future__ import annotations

import contextlib
import random
import re
import struct
import time
from dataclasses import dataclass
from typing import Any

import serial

from midge.errors import UsageError, VerifyFailed
from midge.run.protocol import Hello, Op, Reply, Status, frame, parse_reply

BAUD = 115200
_FIRST_WAIT = 0.15  # seconds before a request is sent again, beside the time that its bytes and those of the reply take
_LONGEST_WAIT = 1.0
_GREETING = 8.0  # seconds until a board is taken for absent
_MOST_FRAME_BYTES = 700


class Restarted(Exception):
    """The board lost its memory: it was reset in the middle of a session."""


@dataclass
class Traffic:
    """What went over a line: requests, those sent again because no answer came, frames that came damaged, and resets of the board."""

    requests: int = 0
    resent: int = 0
    damaged: int = 0
    restarts: int = 0


def parse_place(place: str) -> tuple[str, int]:
    """(port, baud) of `serial:PORT[:BAUD]`; PORT is a device, or a URL that pyserial knows.

    Raises: UsageError if the port is missing.
    """
    match = re.fullmatch(r"serial:(?P<port>\w+://.+|.+?)(?::(?P<baud>\d+))?", place)
    if match is None:
        raise UsageError(f"'{place}': wanted serial:PORT or serial:PORT:BAUD, for example serial:/dev/ttyACM0:{BAUD}")
    if "://" in match["port"]:
        return place.removeprefix("serial:"), BAUD
    return match["port"], int(match["baud"] or BAUD)


class Line:
    """A session with one board. A request is sent until its answer comes; the board carries it out once (its sequence number tells)."""

    def __init__(self, port: str, baud: int = BAUD, patience: float = 120.0) -> None:
        self.port, self.baud, self.patience, self.traffic = port, baud, patience, Traffic()
        self._wait = _FIRST_WAIT + 2 * _MOST_FRAME_BYTES * 10 / baud
        self._session, self._sequence, self._pending = 0, 0, bytearray()
        try:
            self._serial = self._open()
        except (serial.SerialException, OSError, ValueError) as error:
            raise UsageError(f"serial port '{port}': cannot be opened: {error}") from None

    def _open(self) -> Any:
        return serial.serial_for_url(self.port, baudrate=self.baud, timeout=0.01, write_timeout=2.0)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._serial.close()

    def hello(self) -> Hello:
        """Begin a new session and say whom it is with.

        Raises: VerifyFailed if nobody answers or it is not a server that this midge can talk to.
        """
        self._session = random.choice([n for n in range(1, 256) if n != self._session])
        self._sequence = 0
        try:
            return Hello.parse(self.request(Op.HELLO, patience=_GREETING))
        except ValueError as error:
            raise VerifyFailed(f"{self.port}: {error}") from None

    def request(self, op: Op, *words: int, data: bytes = b"", patience: float | None = None) -> bytes:
        """The results of an operation.

        Raises: Restarted if the board does not know the session any more, VerifyFailed if it is silent or refuses.
        """
        self._sequence = (self._sequence + 1) % 256
        self.traffic.requests += 1
        reply = self._exchange(frame(self._session, self._sequence, op, struct.pack(f"<{len(words)}I", *words) + data), patience or self.patience)
        if reply.status == Status.SESSION:
            self.traffic.restarts += 1
            raise Restarted
        if reply.status != Status.OK:
            raise VerifyFailed(f"{self.port}: the board refused {op.name} {words} (status {reply.status}): its firmware is not of this library")
        return reply.data

    def _exchange(self, request: bytes, patience: float) -> Reply:
        end, wait = time.monotonic() + patience, self._wait
        while time.monotonic() < end:
            try:
                self._serial.write(request)
                reply = self._receive(min(end, time.monotonic() + wait))
            except (serial.SerialException, OSError):
                self._reopen(end)
                reply = None
            if reply is not None:
                return reply
            self.traffic.resent += 1
            wait = min(2 * wait, max(self._wait, _LONGEST_WAIT))
        raise VerifyFailed(f"{self.port}: no answer within {patience:.0f} seconds; is the server running there, at {self.baud} baud?")

    def _receive(self, end: float) -> Reply | None:
        """The answer to the request last sent; None if it does not come in time. Answers to former ones are left-overs."""
        while time.monotonic() < end:
            self._pending += self._serial.read(max(1, self._serial.in_waiting))
            *whole, rest = self._pending.split(b"\0")
            self._pending = bytearray(rest[-4 * _MOST_FRAME_BYTES :])
            for encoded in filter(None, whole):
                reply = parse_reply(bytes(encoded))
                self.traffic.damaged += reply is None
                if reply is not None and (reply.session, reply.sequence) == (self._session, self._sequence):
                    return reply
        return None

    def _reopen(self, end: float) -> None:
        """The device went away: wait for it to come back. The session goes on where it was unless the board was reset as well."""
        with contextlib.suppress(Exception):
            self._serial.close()
        while time.monotonic() < end:
            try:
                self._serial = self._open()
                return
            except (serial.SerialException, OSError):
                time.sleep(0.1)
        raise VerifyFailed(f"{self.port}: went away and did not come back")
