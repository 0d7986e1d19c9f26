# SPDX-License-Identifier: Apache-2.0
"""manifest.json: what an emitted library is, for programs; and the check that its files are still what was written."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from midge.errors import UsageError
from midge.program import Buffer, Port, Program

FORMAT = 1
MANIFEST = "manifest.json"
_FIELDS: dict[str, type] = {
    "format": int,
    "name": str,
    "target": str,
    "numerics": str,
    "model_digest": str,
    "arena_bytes": int,
    "arena_align": int,
    "inputs": list,
    "outputs": list,
    "layers": list,
    "files": list,
}


def midge_version() -> str:
    """The version of the installed package."""
    try:
        return version("midge")
    except PackageNotFoundError:
        return "unknown"


def manifest_text(program: Program, files: Mapping[str, str]) -> str:
    """manifest.json of a Program and the files emitted for it: no dates, no paths of this machine."""
    body = {
        "format": FORMAT,
        "midge": midge_version(),
        "name": program.name,
        "target": program.target,
        "numerics": program.numerics,
        "optimize": program.optimize,
        "request": program.request,
        "model_digest": program.digest,
        "arena_bytes": program.arena_nbytes,
        "arena_align": program.arena_align,
        "lower_bound": program.lower_bound,
        "steps": len(program.steps),
        "memories": [{"name": memory.name, "nbytes": memory.nbytes, "capacity": memory.capacity} for memory in program.memories],
        "peak": _peak(program),
        "runs": "stream" if program.streams else "steps" if program.state_offset >= 0 else "whole",
        "hands_out": program.hands_out,
        "weights_bytes": program.weight_nbytes,
        "macs": program.macs,
        "inputs": [_port(program, port) for port in program.inputs],
        "outputs": [_port(program, port) for port in program.outputs],
        "layers": _layers(program),
        "buffers": [_buffer(b) for b in program.buffers.values()],
        "constants": _constants(program),
        "files": [{"path": path, "sha256": digest(text.encode("utf-8"))} for path, text in sorted(files.items())],
        "warnings": list(program.warnings),
    }
    return json.dumps(body, indent=1) + "\n"


def _buffer(buffer: Buffer) -> dict[str, Any]:
    """Where a buffer lies; the places of its rows where they lie apart; of a view, the buffers whose bytes it shows. `live` counts steps."""
    places = {} if buffer.contiguous else {"rows": list(buffer.offsets)}
    shown = {"view_of": list(dict.fromkeys(piece.buffer for piece in buffer.pieces))} if buffer.pieces else {}
    return {
        "name": buffer.name,
        "memory": buffer.memory,
        "offset": buffer.offset,
        "nbytes": buffer.nbytes,
        "row_nbytes": buffer.row_nbytes,
        "live": list(buffer.live),
        **places,
        **shown,
    }


def _constants(program: Program) -> list[dict[str, Any]]:
    """Every constant: its name in C, the layers that use it, and digests of its bytes (CRC-32 is what a board can afford to compute)."""
    users: dict[str, set[int]] = {symbol: set() for symbol in program.constants}
    for call in program.calls:
        operands = [name for operand in call.inputs for name in (operand.pad_row, operand.constant)]
        for symbol in users.keys() & {*call.constants.values(), *operands}:
            users[symbol].add(call.layer)
    found = []
    for symbol, constant in program.constants.items():
        data = np.ascontiguousarray(constant.data).tobytes()
        facts = {"symbol": symbol, "c_name": f"{program.prefix}_{symbol}", "dtype": constant.dtype.value, "nbytes": len(data)}
        found.append({**facts, "layers": sorted(users[symbol]), "sha256": digest(data), "crc32": zlib.crc32(data)})
    return found


def _peak(program: Program) -> dict[str, Any]:
    """The step at which the most bytes are alive: it decides how large the arena is."""
    if not 0 <= program.peak_step < len(program.steps):
        return {"step": program.peak_step, "layer": None}
    step = program.steps[program.peak_step]
    return {"step": program.peak_step, "layer": program.calls[step.call].layer if step.call >= 0 else None, "row": step.first}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _port(program: Program, port: Port) -> dict[str, Any]:
    quant = port.type.quant if port.type.quant is not None and port.type.quant.axis is None else None
    return {
        "name": port.name,
        "nbytes": port.type.nbytes,
        "dtype": port.type.dtype.value,
        "shape": list(port.type.shape),
        "scale": quant.s if quant else None,
        "zero_point": quant.z if quant else None,
        "offset": program.buffer(port.buffer).offset,
        "layout": "nhwc" if port.nhwc else "model",
        **_rows(program, port),
        "model_dtype": port.model_type.dtype.value,
        "model_shape": list(port.model_type.shape),
    }


def _rows(program: Program, port: Port) -> dict[str, int]:
    """The rows of a port that comes or goes in rows."""
    buffer = program.buffer(port.buffer)
    by_rows = program.streams if port in program.inputs[:1] else program.hands_out and port in program.outputs
    return {"rows": buffer.rows, "row_nbytes": buffer.row_nbytes} if by_rows else {}


def _layers(program: Program) -> list[dict[str, Any]]:
    found = []
    for layer in program.layers:
        buffer = program.buffer(layer.buffer)
        calls = [call for call in program.calls if call.layer == layer.index]
        kernels = [symbol for call in calls for symbol in call.kernel.symbols(program.numerics)]
        found.append(
            {
                "index": layer.index,
                "name": layer.name,
                "kind": layer.kind,
                "origin": list(layer.origin),
                "kernels": list(dict.fromkeys(kernels)),
                "refused": list(dict.fromkeys(reason for call in calls for reason in call.refused)),
                "copies": next((call.copies for call in calls if call.copies), ""),
                "macs": layer.macs,
                "value": layer.value,
                "buffer": layer.buffer,
                "offset": buffer.offset,
                "nbytes": buffer.nbytes,
                "planar": buffer.planar,
                "text": layer.text,
            }
        )
    return found


def load_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of an emitted library, checked for the fields that readers rely on.

    Raises: UsageError if the directory holds no library that this midge can read.
    """
    path = directory / MANIFEST
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{directory}: has no {MANIFEST}; name a folder written by midge compile") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read ({type(error).__name__}); compile the model again") from None
    if not isinstance(body, dict) or "format" not in body or "model_digest" not in body:
        raise UsageError(f"{path}: was not written by midge")
    if body["format"] != FORMAT:
        raise UsageError(f"{path}: has format {body['format']!r}, this midge reads {FORMAT}; compile the model again")
    wrong = [name for name, kind in _FIELDS.items() if not isinstance(body.get(name), kind)]
    wrong += [f"files[{i}]" for i, file in enumerate(body["files"] if "files" not in wrong else []) if not _is_file_entry(file)]
    if wrong:
        raise UsageError(f"{path}: broken at {', '.join(wrong)}; compile the model again")
    return body


def _is_file_entry(entry: object) -> bool:
    """A digest and a path that stays inside the directory."""
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("path", "sha256")):
        return False
    path = PurePosixPath(entry["path"])
    return not path.is_absolute() and ".." not in path.parts and path.parts != ()


def changed_files(directory: Path) -> list[str]:
    """Files that differ from what was emitted, are missing, or were added beside the sources (a compiler would take them along).

    Raises: UsageError as load_manifest.
    """
    expected = {entry["path"]: entry["sha256"] for entry in load_manifest(directory)["files"]}
    changed = [path for path, wanted in expected.items() if not (directory / path).is_file() or digest((directory / path).read_bytes()) != wanted]
    added = [path.relative_to(directory).as_posix() for pattern in ("src/*.c", "src/*.h") for path in directory.glob(pattern)]
    return sorted({*changed, *(path for path in added if path not in expected)})
