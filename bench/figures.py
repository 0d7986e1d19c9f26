# SPDX-License-Identifier: Apache-2.0
"""Files of figures: CSV, sorted, without dates, so that a change of a figure is a changed line."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
BASELINES = HERE / "data" / "baselines.csv"


class Row(Protocol):
    """A line of a file; `key` is what makes it unique."""

    __dataclass_fields__: ClassVar[dict[str, object]]

    @property
    def key(self) -> tuple[object, ...]: ...


R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Figure:
    """One figure of one peer, with where it comes from. quantity: 'instructions', 'cycles', 'RAM bytes', 'code bytes', 'exact', 'failed'..."""

    peer: str
    version: str
    target: str
    model: str
    flags: str
    quantity: str
    value: str
    source: str

    @property
    def key(self) -> tuple[object, ...]:
        return (self.target, self.model, self.peer, self.quantity, self.flags)


def read_rows(path: Path, kind: type[R]) -> list[R]:
    """The rows of a file, none if there is no file."""
    if not path.is_file():
        return []
    numbers = {field.name for field in fields(kind) if field.type == "int"}
    with path.open(newline="", encoding="utf-8") as file:
        return [kind(**{name: int(text) if name in numbers else text for name, text in line.items()}) for line in csv.DictReader(file)]


def read_figures(path: Path) -> list[Figure]:
    return read_rows(path, Figure)


def merge_rows(old: Iterable[R], new: Iterable[R]) -> list[R]:
    """New rows, and old ones that were not measured again, by key. A target of a model that was measured replaces all its old rows."""
    new = list(new)
    measured = {row.key[:2] for row in new}
    return sorted([*(row for row in old if row.key[:2] not in measured), *new], key=lambda row: row.key)


def changed_rows(old: Iterable[R], new: Iterable[R]) -> list[tuple[R | None, R]]:
    """(before or None, after) of each new row that differs."""
    before = {row.key: row for row in old}
    return [(before.get(row.key), row) for row in new if before.get(row.key) != row]


def write_rows(path: Path, rows: Sequence[R]) -> None:
    """Write rows in the order given."""
    if not rows:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(rows[0])])
        writer.writerows(list(asdict(row).values()) for row in rows)
