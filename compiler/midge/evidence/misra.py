# SPDX-License-Identifier: Apache-2.0
"""cppcheck with its MISRA C:2012 add-on over the emitted sources, held against the deviations that midge gives reasons for. Rules are named by number only."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from midge.errors import ToolMissing
from midge.evidence.deviations import Deviation, deviation_of, deviations_text
from midge.evidence.part import FAILED, PASSED, Part, Subject, Table, run, version_of
from midge.toolchain import find_tool

KEY, TITLE, DEVIATIONS, LOG = "misra", "MISRA C:2012", "misra_deviations.md", "cppcheck.txt"
ABOUT = (
    "cppcheck and its MISRA C:2012 add-on over all emitted sources, generated assembly compiled in and left out alike. Every finding must be covered by a "
    "deviation: one rule, in named files, of one kind of construct, for one reason. The listing beside this page has every finding with what covers it. "
    "Of the tables of weights it reads the first values: the rules are about code, and hundreds of thousands of numbers would take it minutes."
)
LIMITS = "What the add-on does not check, this does not show: it is a part of the guidelines. Texts of rules are MISRA's and not reproduced."
ADDON = "misra"
_FINDING = re.compile(r"^(?P<id>[\w.-]+)\|(?P<file>[^|]*)\|(?P<line>\d+)\|(?P<text>.*)$", re.M)
_TABLE = re.compile(r"\b(\w+)\[(\d+)\] = \{([-\d\s,]*)\};")
VALUES = 16  # of a table of weights that are read
_RULE = re.compile(r"misra-c2012-(\d+)\.(\d+)")


@dataclass(frozen=True, order=True)
class _Finding:
    """What cppcheck says of a line."""

    key: str
    file: str
    line: int
    text: str

    @property
    def rule(self) -> str:
        """The number of a rule, or cppcheck's own identifier."""
        match = _RULE.fullmatch(self.key)
        return f"{match[1]}.{match[2]}" if match else self.key

    @property
    def name(self) -> str:
        return f"Rule {self.rule}" if self.rule != self.key else self.key


def prove(subject: Subject) -> Part:
    """FAILED if a finding is covered by no deviation.

    Raises: ToolMissing without cppcheck or its add-on.
    """
    cppcheck = find_tool("cppcheck")
    options = [f"--addon={ADDON}", "--enable=warning,style,performance,portability", "--std=c99", "--platform=unix32", "--quiet"]
    with TemporaryDirectory() as folder:
        for name, text in shortened({path.name: path.read_text("utf-8") for path in subject.source.iterdir() if path.is_file()}).items():
            (Path(folder) / name).write_text(text, "utf-8")
        done = run([cppcheck, *options, "--template={id}|{file}|{line}|{message}", "-I", ".", "."], Path(folder))
    if "Did not find addon" in done.stdout + done.stderr or "Failed to execute" in done.stderr:
        raise ToolMissing("cppcheck: its MISRA add-on was not found; on Debian or Ubuntu: apt-get install cppcheck")
    findings = sorted({_Finding(m["id"], m["file"], int(m["line"]), m["text"]) for m in _FINDING.finditer(done.stderr)})
    covered = {found: deviation(subject, found) for found in findings}
    classes = Counter((found.name, each) for found, each in covered.items() if each is not None)
    rows = []
    for (name, each), count in sorted(classes.items(), key=lambda item: (_order(item[0][0]), item[0][0], item[0][1].construct)):
        first = next(found for found, other in covered.items() if other == each)
        rows.append((name, each.files, each.construct, count, f"{first.file}:{first.line}", each.reason))
    unknown = [found for found, each in covered.items() if each is None]
    says = f"{len(findings)} findings of {len({found.name for found in findings})} rules, each covered by one of {len(classes)} documented deviations"
    if unknown:
        says = f"without a deviation: {', '.join(f'{found.name} at {found.file}:{found.line}' for found in unknown[:5])}"
    tables: tuple[Table, ...] = (Table("deviations met", ("rule", "files", "construct", "findings", "first at", "why the code deviates"), tuple(rows)),)
    if unknown:
        shown = tuple((found.name, found.file, found.line, found.text) for found in unknown)
        tables += (Table("findings without a deviation", ("rule", "file", "line", "what cppcheck says"), shown),)
    files = {DEVIATIONS: deviations_text(), LOG: f"{version_of(cppcheck)} {' '.join(options)}\n" + "".join(_listed(*item) for item in covered.items())}
    counts = Counter(found.name for found in findings)
    undocumented = sorted({found.name for found in unknown})
    figures = {"findings": len(findings), "rules": dict(sorted(counts.items(), key=lambda item: _order(item[0]))), "undocumented": undocumented}
    return Part(KEY, TITLE, FAILED if unknown else PASSED, says, ABOUT, LIMITS, tables, files, figures)


def shortened(files: dict[str, str]) -> dict[str, str]:
    """Sources by name, tables of weights cut to their first values; lines stay where they are."""
    found: dict[str, str] = {}

    def cut(match: re.Match[str]) -> str:
        values = match[3].split(",")
        if int(match[2]) <= VALUES or len(values) <= VALUES:
            return match[0]
        found[match[1]] = match[2]
        return f"{match[1]}[{VALUES}] = {{{','.join(values[:VALUES])}}};" + "\n" * sum(value.count("\n") for value in values[VALUES:])

    short = {name: _TABLE.sub(cut, text) if name.endswith("_weights.c") else text for name, text in files.items()}
    declared = re.compile(r"\b(\w+)\[(\d+)\];")
    return {name: declared.sub(lambda m: f"{m[1]}[{VALUES}];" if found.get(m[1]) == m[2] else m[0], text) for name, text in short.items()}


def deviation(subject: Subject, found: _Finding) -> Deviation | None:
    """What covers a finding."""
    path = subject.source / found.file
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    line = lines[found.line - 1] if 0 < found.line <= len(lines) else ""
    return deviation_of(found.rule, plain_name(found.file, subject.name), line)


def plain_name(file: str, library: str) -> str:
    """A file of a library without the library's name."""
    return {f"{library}.c": "model.c", f"{library}.h": "api.h"}.get(file, file.removeprefix(f"{library}_"))


def _listed(found: _Finding, each: Deviation | None) -> str:
    text = "" if _RULE.fullmatch(found.key) else f" {found.text}"
    return f"{found.file}:{found.line}: {found.name}{text}: {each.construct if each is not None else 'NO DEVIATION'}\n"


def _order(name: str) -> tuple[int, int]:
    match = re.fullmatch(r"Rule (\d+)\.(\d+)", name)
    return (int(match[1]), int(match[2])) if match else (99, 0)
