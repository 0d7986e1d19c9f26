# SPDX-License-Identifier: Apache-2.0
"""Reading what a model consists of on disk: the file itself and data beside it."""

from __future__ import annotations

import re
from pathlib import Path

from midge.errors import ImportFailed, Unsupported, UsageError

MAX_FILE_NBYTES = 512 << 20


def c_name(stem: str) -> str:
    """A C identifier made from a file name, 'model' if nothing is left."""
    name = re.sub(r"[^0-9A-Za-z]+", "_", stem).strip("_")
    return f"model_{name}" if name[:1].isdigit() else name or "model"


def read_file(path: Path) -> bytes:
    """The bytes of a model file.

    Raises: UsageError if it cannot be read, Unsupported if it is larger than 512 MiB.
    """
    try:
        if not path.exists():
            raise UsageError(f"{path}: no such file")
        if not path.is_file():
            raise UsageError(f"{path}: not a file")
        nbytes = path.stat().st_size
        if nbytes > MAX_FILE_NBYTES:
            raise Unsupported(f"{path}: {nbytes} bytes; models up to {MAX_FILE_NBYTES} bytes are read, and none larger fits a microcontroller")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None


def read_external(folder: Path | None, entry: dict[str, str], nbytes: int, where: str) -> bytes:
    """`nbytes` bytes of external data described by `entry` (location, offset, length), only from inside the model's folder.

    Raises: ImportFailed for anything that leads out of the folder (absolute path, '..', symlink), is missing or too short.
    """
    location, offset, length = entry.get("location", ""), entry.get("offset", "0"), entry.get("length", str(nbytes))
    if folder is None:
        raise ImportFailed(f"{where}: its data lies in the file '{location}', but the model was given without a path; give the path instead")
    digits = offset.isascii() and offset.isdecimal() and len(offset) < 19
    if not location or not location.isprintable() or not digits or length != str(nbytes):
        raise ImportFailed(f"{where}: external data at location '{location}' offset '{offset}' length '{length}' is not {nbytes} bytes of a file")
    try:
        path = (folder / location).resolve()
        if Path(location).is_absolute() or ".." in Path(location).parts or not path.is_relative_to(folder.resolve()):
            raise ImportFailed(f"{where}: external data '{location}' lies outside the model's folder; put it beside the model")
        end = int(offset) + nbytes
        if not path.is_file() or end > path.stat().st_size:
            raise ImportFailed(f"{where}: external data file '{location}' is missing or shorter than {end} bytes")
        with path.open("rb") as file:
            file.seek(int(offset))
            return file.read(nbytes)
    except (OSError, RuntimeError) as error:
        raise ImportFailed(f"{where}: external data '{location}' cannot be read ({error})") from None
