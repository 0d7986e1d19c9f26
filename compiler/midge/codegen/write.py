# SPDX-License-Identifier: Apache-2.0
"""Put an emitted library on disk, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from midge.codegen.c import emit
from midge.codegen.manifest import MANIFEST, load_manifest, manifest_text
from midge.codegen.names import c_identifier
from midge.errors import UsageError
from midge.program import Program

__all__ = ["c_identifier", "write_files", "write_library"]


def write_library(program: Program, directory: Path, extra: Mapping[str, str] | None = None, emitted: Mapping[str, str] | None = None) -> Path:
    """Emit `program` into `directory`, which is made, or replaced if midge wrote it; returns it. Files that midge did not write stay.

    `extra`: more files (relative path -> text) that belong to the library and are listed in its manifest. `emitted`: what emit() gave, if that was called.

    Raises: UsageError if the directory holds something else or cannot be written.
    """
    files = emit(program) if emitted is None else dict(emitted)
    if extra:
        files = {path: text for path, text in files.items() if path != MANIFEST} | dict(extra)
        files[MANIFEST] = manifest_text(program, files)
    write_files(files, directory)
    return directory


def write_files(files: Mapping[str, str], directory: Path) -> None:
    """Write files (relative path -> text, manifest.json among them) as one directory: it is complete under its name or not there.

    Raises: UsageError if the directory holds what midge did not write or cannot be written.
    """
    target = Path(os.path.realpath(directory))
    foreign = foreign_files(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            fresh, old = Path(scratch) / "new", Path(scratch) / "old"
            for name, text in files.items():
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                (fresh / name).write_bytes(text.encode("utf-8"))
            for path in foreign:
                if not (fresh / path).exists():
                    (fresh / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(target / path, fresh / path, follow_symlinks=False)
            _exchange(fresh, target, old)
    except OSError as error:
        raise UsageError(f"{directory}: cannot be written: {error.strerror or error}") from None


def _exchange(fresh: Path, target: Path, old: Path) -> None:
    """Rename `fresh` to `target`, what was there to `old`; undone if the second rename fails."""
    if not target.exists():
        fresh.rename(target)
        return
    target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        old.rename(target)
        raise


def foreign_files(target: Path) -> list[Path]:
    """Relative paths of files in a library's directory that midge did not write.

    Raises: UsageError if the directory may not be replaced.
    """
    if not target.exists():
        return []
    if not target.is_dir():
        raise UsageError(f"{target}: is a file; name a folder")
    if not any(target.iterdir()):
        return []
    if not (target / MANIFEST).is_file():
        raise UsageError(f"{target}: is not empty and holds no library of midge; name another folder")
    ours = {entry["path"] for entry in load_manifest(target)["files"]} | {MANIFEST}
    found = [path.relative_to(target) for path in sorted(target.rglob("*")) if path.is_symlink() or not path.is_dir()]
    return [path for path in found if path.as_posix() not in ours]
