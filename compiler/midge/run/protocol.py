# SPDX-License-Identifier: Apache-2.0
"""The words that a board and its host exchange over a serial line, as bytes: docs/hil.md is their description, runtime_c/hil_server.c the other end.

A frame is COBS(body + CRC-32) between zeros. Body of a request: session, sequence, operation, arguments; of a reply: session, sequence, status, results.
Numbers are little-endian.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

VERSION = 2
_HEAD = struct.Struct("<3B")
_CRC = struct.Struct("<I")
_HELLO = struct.Struct("<8I")
_EVENT = struct.Struct("<5I")


class Op(IntEnum):
    """What a request asks for."""

    HELLO = 1
    FILL = 2
    WRITE = 3
    RUN = 4
    NEXT = 5
    READ = 6
    TICKS = 7
    CONSTANT = 8


class Status(IntEnum):
    """How a request ended."""

    OK = 0
    SESSION = 1  # the board does not know the session: it was reset, or serves somebody else
    REQUEST = 2  # no such operation, arguments missing, or NEXT without a run
    RANGE = 3  # outside the input or output, or no such constant


class Mode(IntEnum):
    """How to run: undisturbed, showing rows of layers, or counting ticks of each layer."""

    PLAIN = 0
    WATCH = 1
    PROFILE = 2


@dataclass(frozen=True)
class Reply:
    """A reply as it came off the line."""

    session: int
    sequence: int
    status: int
    data: bytes


@dataclass(frozen=True)
class Hello:
    """What a board says of itself. payload: bytes of a tensor in a frame; tick_hz: 0 if the unit of its counter is not known; stack_bytes: how far below
    the stack pointer it looks, 0 if it does not; constants: how many it can sum."""

    version: int
    payload: int
    arena_bytes: int
    layers: int
    counts: bool
    tick_hz: int
    stack_bytes: int
    constants: int
    name: str
    digest: str

    @classmethod
    def parse(cls, data: bytes) -> Hello:
        """Raises: ValueError if it is cut short or of another version."""
        if len(data) < 4 or (version := _CRC.unpack_from(data)[0]) != VERSION:
            raise ValueError(
                f"the board speaks version {version if len(data) >= 4 else '?'} of the protocol, this midge version {VERSION}: "
                "build its firmware with the server and the midge_model.h that this midge writes (midge board)"
            )
        if len(data) < _HELLO.size or data.count(0, _HELLO.size) != 2:
            raise ValueError("the board's greeting is cut short")
        _, payload, arena_bytes, layers, counts, tick_hz, stack_bytes, constants = _HELLO.unpack_from(data)
        name, digest = (text.decode("ascii", "replace") for text in data[_HELLO.size : -1].split(b"\0"))
        return cls(version, payload, arena_bytes, layers, bool(counts), tick_hz, stack_bytes, constants, name, digest)


@dataclass(frozen=True)
class Row:
    """A piece of a row of a layer: `data` from byte `offset` on, of `nbytes`."""

    layer: int
    row: int
    nbytes: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Done:
    """The end of a run: what it returned, guards written to (1 before the arena, 2 behind), ticks, and bytes of stack."""

    code: int
    guards: int
    ticks: int
    stack_bytes: int


def parse_event(data: bytes) -> Row | Done:
    """What a board says when a run was started or goes on.

    Raises: ValueError if it is neither a row nor an end.
    """
    if len(data) < _EVENT.size:
        raise ValueError("an event is cut short")
    kind, *words = _EVENT.unpack_from(data)
    if kind == 0:
        return Done(words[0] - (1 << 32) if words[0] >> 31 else words[0], *words[1:])
    if kind != 1:
        raise ValueError(f"event {kind} is not known")
    return Row(words[0], words[1], words[2], words[3], data[_EVENT.size :])


def encode_cobs(data: bytes) -> bytes:
    """Consistent overhead byte stuffing (Cheshire and Baker, 1999): no byte of the result is zero."""
    blocks = bytearray()
    for part in (data + b"\0").split(b"\0")[:-1]:
        full, rest = divmod(len(part), 254)
        for i in range(full):
            blocks += b"\xff" + part[254 * i : 254 * i + 254]
        blocks += bytes([rest + 1]) + part[254 * full :]
    return bytes(blocks)


def decode_cobs(data: bytes) -> bytes | None:
    """What was encoded; None if these bytes cannot have been."""
    out, position = bytearray(), 0
    while position < len(data):
        code = data[position]
        block = data[position + 1 : position + code]
        position += code
        if code == 0 or len(block) != code - 1 or 0 in block:
            return None
        out += block
        if code < 255 and position < len(data):
            out.append(0)
    return bytes(out)


def frame(session: int, sequence: int, op: Op, arguments: bytes) -> bytes:
    """A request as it goes over the line; the leading zero ends whatever noise came before."""
    body = _HEAD.pack(session, sequence, op) + arguments
    return b"\0" + encode_cobs(body + _CRC.pack(zlib.crc32(body))) + b"\0"


def parse_reply(encoded: bytes) -> Reply | None:
    """The reply between two zeros; None if it is damaged."""
    body = decode_cobs(encoded)
    if body is None or len(body) < _HEAD.size + _CRC.size or zlib.crc32(body[: -_CRC.size]) != _CRC.unpack(body[-_CRC.size :])[0]:
        return None
    session, sequence, status = _HEAD.unpack_from(body)
    return Reply(session, sequence, status, body[_HEAD.size : -_CRC.size])
