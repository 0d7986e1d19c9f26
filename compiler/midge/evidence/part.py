# SPDX-License-Identifier: Apache-2.0
"""What every part of the evidence is made from, and what it comes to."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from midge.codegen.manifest import load_manifest
from midge.codegen.reference import load_reference
from midge.ir import Array, Graph
from midge.run.samples import Sample
from midge.targets import Target, get_target

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
SECONDS = 1800
Cell = str | int


@dataclass(frozen=True)
class Subject:
    """A written library, the integer Graph it came from, and the samples to run it on."""

    directory: Path
    manifest: dict[str, Any]
    graph: Graph
    samples: list[Sample]

    @classmethod
    def of(cls, directory: Path, samples: list[Sample]) -> Subject:
        """Raises: UsageError if `directory` holds no library that midge wrote."""
        directory = directory.resolve()
        return cls(directory, load_manifest(directory), load_reference(directory), samples)

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def target(self) -> Target:
        return get_target(str(self.manifest["target"]))

    @property
    def source(self) -> Path:
        return self.directory / "src"

    def stacked(self, count: int | None = None) -> list[Array]:
        """One array (N, ...) for each input, of the first `count` samples."""
        chosen = self.samples[:count]
        return [np.stack([np.asarray(sample[i]).reshape(self.graph.type(name).shape) for sample in chosen]) for i, name in enumerate(self.graph.inputs)]


@dataclass(frozen=True)
class Table:
    """Rows for people; numbers are written with separators and to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Part:
    """One piece of evidence. `status` is PASSED, FAILED or NOT_RUN, and only PASSED if all that `about` says was done. `limits` says what it does not show.

    files: name -> text of files beside the page. figures: numbers for programs.
    """

    key: str
    title: str
    status: str
    summary: str
    about: str
    limits: str = ""
    tables: tuple[Table, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For evidence.json."""
        tables = [{"title": t.title, "columns": list(t.columns), "rows": [list(row) for row in t.rows]} for t in self.tables]
        body = {"key": self.key, "title": self.title, "status": self.status, "summary": self.summary, "about": self.about, "limits": self.limits}
        return {**body, "figures": self.figures, "files": sorted(self.files), "tables": tables}


def run(command: Sequence[str | Path], folder: Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool in `folder` to its end, whatever its exit code."""
    words = [str(word) for word in command]
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", timeout=SECONDS, stdin=subprocess.DEVNULL, check=False
    )


def version_of(tool: str | Path) -> str:
    """A tool's own first line about itself."""
    lines = run([tool, "--version"], Path.cwd()).stdout.splitlines()
    return lines[0].strip() if lines else Path(tool).name


def json_text(value: object) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"
