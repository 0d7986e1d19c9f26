# SPDX-License-Identifier: Apache-2.0
"""Branch coverage of the emitted C by gcov, with every branch that was not taken."""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midge.errors import IRError
from midge.evidence.control_flow import Site
from midge.evidence.driver import EXTREMES, build, execute, sample_count
from midge.evidence.part import FAILED, PASSED, Cell, Part, Subject, Table, run, version_of
from midge.toolchain import find_tool

KEY, TITLE = "coverage", "Branch coverage"
WANTED = 95.0  # percent
ABOUT = (
    "The emitted C built for the host without optimization, run on the samples, on inputs of extreme values, on calls that it must refuse, and on its "
    f"conversions; counted by gcov. Wanted are {WANTED:.0f} % of all branches, each taken at least once; no line is left out. Where conditions depend on the "
    "constants of this library alone, as the check of control flow shows, one way is never taken, whatever the input: such branches count as not taken, and "
    "are listed apart."
)
LIMITS = "Twins stand for generated assembly. Functions of the headers that this library does not use are not compiled and do not count."
FLAGS = ("--coverage",)
_MISSED = ("file", "line", "not taken", "of", "source")


@dataclass
class Counts:
    """Of one source: how often each branch of each line was taken, and lines run of those there are."""

    branches: dict[int, list[int]] = field(default_factory=dict)
    fixed: dict[int, int] = field(default_factory=dict)  # branches never taken that no input decides, by line
    lines: dict[int, int] = field(default_factory=dict)
    functions: dict[str, range] = field(default_factory=dict)  # lines of each

    def add(self, line: dict[str, Any]) -> None:
        """One line of one function. A function compiled into several sources counts once: its branches are added up."""
        number, taken = int(line["line_number"]), [int(branch["count"]) for branch in line["branches"]]
        self.lines[number] = self.lines.get(number, 0) + int(line["count"])
        old = self.branches.get(number, [])
        if taken:
            self.branches[number] = [a + b for a, b in zip(old, taken, strict=True)] if len(old) == len(taken) else old + taken if old else taken

    @property
    def total(self) -> tuple[int, int]:
        """(branches taken, branches)."""
        every = [count for counts in self.branches.values() for count in counts]
        return sum(count > 0 for count in every), len(every)


def prove(subject: Subject, decided: Sequence[Site] | None = None) -> Part:
    """FAILED below WANTED percent. `decided`: where inputs decide on a jump; without that list no branch is taken to be beyond all inputs.

    Raises: ToolMissing without gcc or gcov; VerifyFailed if a call fails, or one that must is not refused.
    """
    gcov = find_tool("gcov")
    with tempfile.TemporaryDirectory(prefix="midge-coverage-") as name:
        work = Path(name)
        execute(subject, [build(subject, work, flags=FLAGS)], work)
        counts = gather(subject, gcov, work)
    if decided is not None:
        settle(subject, counts, {(site.file, site.line) for site in decided if site.kind == "jump"})
    rows = tuple(_row(source, found) for source, found in sorted(counts.items()))
    taken, every, fixed = (sum(int(row[i]) for row in rows) for i in (1, 2, 3))
    hit, lines = (sum(int(row[i]) for row in rows) for i in (5, 6))
    share = 100.0 * taken / every if every else 100.0
    says = f"{percent(taken, every)} of {every:,} branches; "
    if decided is None:
        says += "which of the others constants decide is not known without valgrind"
    else:
        says += f"of the others constants decide {fixed:,}, {percent(taken, every - fixed)} without these"
    says += f"; {sample_count(subject)} samples and {EXTREMES} of extreme values"
    columns = ("file", "branches taken", "branches", "decided by constants", "taken", "lines run", "lines")
    tables = (
        Table("sources", columns, rows),
        Table("branches not taken that inputs may decide", _MISSED, tuple(_missed(subject, counts, fixed=False))),
        Table("branches not taken whatever the input", _MISSED, tuple(_missed(subject, counts, fixed=True))),
    )
    figures = {"branches": every, "taken": taken, "constant": fixed, "percent": round(share, 2), "lines": lines, "lines_run": hit, "gcov": version_of(gcov)}
    return Part(KEY, TITLE, PASSED if share >= WANTED else FAILED, says, ABOUT, LIMITS, tables, figures=figures)


def settle(subject: Subject, counts: dict[str, Counts], decided: set[tuple[str, int]]) -> None:
    """Find branches that no input takes: of conditions that do not depend on data, which so come out the same in every run.

    A line that no run reached may lie behind a condition that does depend on data and went one way only. Then it counts as one that inputs may decide. The
    conversions in the library's header are not looked at by the check of control flow, so nothing in them is taken to be beyond all inputs.
    """
    hidden = _behind(subject, counts, {(source, line) for source, line in decided if source in counts and 0 in counts[source].branches.get(line, ())})
    for source, found in counts.items():
        for line, branches in found.branches.items():
            settled = found.lines[line] > 0 or (source, line) not in hidden
            if (source, line) not in decided and settled and source != f"{subject.name}.h":
                found.fixed[line] = branches.count(0)


def _behind(subject: Subject, counts: dict[str, Counts], sites: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Lines that may run only once a condition at one of `sites` comes out otherwise: of the rest of its function, or all of it if it has a loop, and of
    every function named there."""
    places = {name: (source, lines) for source, found in counts.items() for name, lines in found.functions.items()}
    texts = {source: (subject.source / source).read_text("utf-8").splitlines() for source in counts}
    pending = []
    for source, line in sites:
        lines = next((span for span in counts[source].functions.values() if line in span), range(line, line + 1))
        loops = any(re.search(r"\b(for|while)\b", texts[source][number - 1]) for number in lines)
        pending.append((source, lines if loops else range(line, lines.stop)))
    seen: set[tuple[str, int]] = set()
    while pending:
        source, lines = pending.pop()
        seen |= {(source, number) for number in lines}
        words = {word for number in lines for word in re.findall(r"\w+", texts[source][number - 1])}
        pending += [places[word] for word in words & places.keys() if (places[word][0], places[word][1].start) not in seen]
    return seen


def _row(source: str, found: Counts) -> tuple[Cell, ...]:
    taken, every = found.total
    fixed, hit, lines = sum(found.fixed.values()), sum(count > 0 for count in found.lines.values()), len(found.lines)
    return source, taken, every, fixed, percent(taken, every), hit, lines


def percent(part: int, whole: int) -> str:
    return f"{100.0 * part / whole if whole else 100.0:.1f} %"


def gather(subject: Subject, gcov: str, work: Path) -> dict[str, Counts]:
    """Counts by source of the library.

    Raises: IRError if gcov has no answer.
    """
    found: dict[str, Counts] = {}
    data = sorted([*(work / "library").glob("*.gcda"), *(work / "own").glob("*.gcda")])
    done = run([gcov, "--json-format", "--branch-probabilities", *data], work)
    reports = sorted(work.glob("*.gcov.json.gz"))
    for path in reports:
        for file in json.loads(gzip.decompress(path.read_bytes()))["files"]:
            source = Path(file["file"])
            if (work / source).resolve().parent == subject.source.resolve():
                counts = found.setdefault(source.name, Counts())
                for line in file["lines"]:
                    counts.add(line)
                for function in file["functions"]:
                    counts.functions[str(function["name"])] = range(int(function["start_line"]), int(function["end_line"]) + 1)
    if not found:
        raise IRError(f"gcov: counted no line of {subject.source.name}: {done.stderr.strip()[:200]}")
    return found


def _missed(subject: Subject, counts: dict[str, Counts], *, fixed: bool) -> Iterable[tuple[Cell, ...]]:
    for source, found in sorted(counts.items()):
        text = (subject.source / source).read_text("utf-8").splitlines()
        for line, branches in sorted(found.branches.items()):
            never = branches.count(0)
            if never and (line in found.fixed) == fixed:
                yield source, line, never, len(branches), text[line - 1].strip()[:160]
