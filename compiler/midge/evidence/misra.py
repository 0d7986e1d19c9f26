# SPDX-License-Identifier: Apache-2.0
"""cppcheck with its MISRA C:2012 add-on over the emitted sources, held against the deviations that midge gives reasons for. Rules are named by number only."""

from __future__ import annotations

import re
from collections import Counter

from midge.errors import ToolMissing
from midge.evidence.deviations import CPPCHECK, MISRA, deviations_text
from midge.evidence.part import FAILED, PASSED, Cell, Part, Subject, Table, run, version_of
from midge.toolchain import find_tool

KEY, TITLE, DEVIATIONS, LOG = "misra", "MISRA C:2012", "misra_deviations.md", "cppcheck.txt"
ABOUT = (
    "cppcheck and its MISRA C:2012 add-on over all emitted sources, generated assembly compiled in and left out alike. Every rule that the code does not keep "
    "must be among the deviations, each with its reason."
)
LIMITS = "What the add-on does not check, this does not show: it is a part of the guidelines. Texts of rules are MISRA's and not reproduced."
ADDON = "misra"
_FINDING = re.compile(r"^(?P<id>[\w.-]+)\|(?P<file>[^|]*)\|(?P<line>\d+)\|(?P<text>.*)$", re.M)
_RULE = re.compile(r"misra-c2012-(\d+)\.(\d+)")


def prove(subject: Subject) -> Part:
    """FAILED if a finding is of a rule without a deviation.

    Raises: ToolMissing without cppcheck or its add-on.
    """
    cppcheck = find_tool("cppcheck")
    options = [f"--addon={ADDON}", "--enable=warning,style,performance,portability", "--std=c99", "--platform=unix32", "--quiet", "--inline-suppr"]
    done = run([cppcheck, *options, "--template={id}|{file}|{line}|{message}", "-I", ".", "."], subject.source)
    if "Did not find addon" in done.stdout + done.stderr or "Failed to execute" in done.stderr:
        raise ToolMissing("cppcheck: its MISRA add-on was not found; on Debian or Ubuntu: apt-get install cppcheck")
    findings = sorted({(m["id"], m["file"], int(m["line"]), m["text"]) for m in _FINDING.finditer(done.stderr)})
    counts = Counter(found[0] for found in findings)
    rows, undocumented = [], []
    for key, count in sorted(counts.items(), key=lambda item: (_order(item[0]), item[0])):
        name, reason = describe(key)
        if not reason:
            undocumented.append(name)
        where = next(f"{file}:{line}" for found, file, line, _ in findings if found == key)
        rows.append((name, count, where, reason or "no deviation is documented"))
    says = f"{sum(counts.values())} findings of {len(counts)} rules, each rule with a documented deviation" if not undocumented else ""
    listing = "".join(f"{file}:{line}: {key}{'' if _RULE.fullmatch(key) else f' {text}'}\n" for key, file, line, text in findings)
    tables: tuple[Table, ...] = (Table("findings by rule", ("rule", "findings", "first at", "why the code deviates"), tuple(rows)),)
    unknown: list[tuple[Cell, ...]] = [(describe(key)[0], file, line, text) for key, file, line, text in findings if not describe(key)[1]]
    if unknown:
        tables += (Table("findings without a deviation", ("rule", "file", "line", "what cppcheck says"), tuple(unknown)),)
    files = {DEVIATIONS: deviations_text(), LOG: f"{version_of(cppcheck)} {' '.join(options)}\n{listing}"}
    figures = {"findings": sum(counts.values()), "rules": {describe(key)[0]: count for key, count in sorted(counts.items())}, "undocumented": undocumented}
    status = FAILED if undocumented else PASSED
    return Part(KEY, TITLE, status, says or f"without a deviation: {', '.join(undocumented)}", ABOUT, LIMITS, tables, files, figures)


def describe(key: str) -> tuple[str, str]:
    """(rule as people name it, reason for deviating or '')."""
    match = _RULE.fullmatch(key)
    return (f"Rule {match[1]}.{match[2]}", MISRA.get(f"{match[1]}.{match[2]}", "")) if match else (key, CPPCHECK.get(key, ""))


def _order(key: str) -> tuple[int, int]:
    match = _RULE.fullmatch(key)
    return (int(match[1]), int(match[2])) if match else (99, 0)
