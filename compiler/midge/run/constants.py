# SPDX-License-Identifier: Apache-2.0
"""The constants of a library, compared themselves: what a flipped bit of a weight or a table does need not show in any output of the samples at hand.

The program under test computes a CRC-32 over the bytes of each constant as they lie in it; the manifest says what it has to be. constants.bin has these as
words, in the manifest's order.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from midge.errors import VerifyFailed
from midge.ir import DType

WORD = struct.Struct("<I")


@dataclass(frozen=True)
class Constant:
    """A constant as the manifest lists it. layers: those that use it."""

    name: str
    dtype: DType
    nbytes: int
    crc32: int
    layers: tuple[int, ...]


@dataclass(frozen=True)
class WrongConstant:
    """A constant whose bytes in the program under test are not the model's. layers: which use it; `users` names them."""

    name: str
    nbytes: int
    layers: tuple[int, ...]
    users: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.users}: the {self.nbytes:,} bytes of constant {self.name} are not the model's: CRC-32 {self.got}, expected {self.expected}"


def listed(manifest: Mapping[str, Any]) -> tuple[Constant, ...] | None:
    """The constants of a library; None if its manifest was written before it had what comparing them takes."""
    entries = manifest.get("constants")
    if entries is None or any("crc32" not in entry for entry in entries):
        return None
    return tuple(Constant(e["c_name"], DType(e["dtype"]), e["nbytes"], e["crc32"], tuple(e["layers"])) for e in entries)


_SUMS = """\
static inline uint32_t model_crc32(const void *data, size_t count) {
    const uint8_t *bytes = data;
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}

/* The CRC-32 of a constant as it lies in this program; 0 if there are not so many. */
static inline int model_constant_crc32(uint32_t index, uint32_t *crc) {
BODY
}
"""
_NONE = """\
    (void)index;
    (void)crc;
    return 0;"""
_TABLE = """\
    static const struct {
        const void *bytes;
        uint32_t count;
    } constants[MODEL_CONSTANT_COUNT] = {
ROWS
    };
    if (index >= MODEL_CONSTANT_COUNT) {
        return 0;
    }
    *crc = model_crc32(constants[index].bytes, constants[index].count);
    return 1;"""


def constants_code(manifest: Mapping[str, Any]) -> str:
    """C for the test firmware: how many constants there are, and model_constant_crc32. The declarations are those of the library's own header."""
    found = listed(manifest) or ()
    names = "".join(f"extern const {constant.dtype.c} {constant.name}[];\n" for constant in found)
    rows = "\n".join(f"        {{{constant.name}, {constant.nbytes}u}}," for constant in found)
    return f"#define MODEL_CONSTANT_COUNT {len(found)}u\n{names}\n" + _SUMS.replace("BODY", _TABLE.replace("ROWS", rows) if found else _NONE)


def read_constants(path: Path) -> tuple[int, ...]:
    """constants.bin: the CRC-32 of each constant."""
    return tuple(value for (value,) in WORD.iter_unpack(path.read_bytes()))


def compare_constants(manifest: Mapping[str, Any], sums: Sequence[int]) -> tuple[int | None, tuple[WrongConstant, ...]]:
    """(bytes compared, None if there is no list of them; constants that differ, by their first layer).

    Raises: VerifyFailed if the program under test did not see all of them.
    """
    wanted = listed(manifest)
    if wanted is None:
        return None, ()
    if len(sums) != len(wanted):
        raise VerifyFailed(f"{len(sums)} of {len(wanted)} constants came back, so they were not compared")
    wrong = [
        WrongConstant(c.name, c.nbytes, c.layers, _users(manifest, c.layers), f"{c.crc32:08x}", f"{crc:08x}")
        for c, crc in zip(wanted, sums, strict=True)
        if c.crc32 != crc
    ]
    return sum(constant.nbytes for constant in wanted), tuple(sorted(wrong, key=lambda constant: constant.layers))


def _users(manifest: Mapping[str, Any], layers: Sequence[int]) -> str:
    """The first of the layers by its name, and how many more there are."""
    names = [f"layer {layer['index']} '{layer['name']}' ({layer['kind']})" for layer in manifest["layers"] if layer["index"] in layers]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return names[0] + more if names else "no layer"
