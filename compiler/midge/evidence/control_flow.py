# SPDX-License-Identifier: Apache-2.0
"""Control flow that does not depend on data: the library under valgrind's memcheck with every input and every layer's output marked undefined, so that each
jump that depends on one is reported, and held against the list of those that may."""

from __future__ import annotations

import re
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from midge.errors import ToolMissing, VerifyFailed
from midge.evidence.driver import build, execute
from midge.evidence.part import FAILED, PASSED, Cell, Part, Subject, Table, version_of
from midge.toolchain import find_tool

KEY, TITLE = "control_flow", "Control flow does not depend on data"
HEADER = "valgrind/memcheck.h"
ABOUT = (
    "The C of the library, built for the host without optimization so that every condition of the source is a jump, run under valgrind's memcheck with every "
    "byte of every input, and of every layer's output once it is there, marked undefined. A jump that depends on one is reported by memcheck; each must be on "
    "the list of exceptions, and none may decide how often a loop runs but where the list says so."
)
LIMITS = (
    "Twins in C stand for generated assembly, whose clamps are SSAT where a core has it. Compilers may turn a choice into instructions without a jump, and the "
    "other way round. Timing of memories and caches is not looked at: tables are read at addresses that depend on data, which are listed; what a table gave is "
    "taken for known within the layer that read it, which is why all of softmax is on the list."
)


@dataclass(frozen=True)
class Exemption:
    """Functions in which a jump may depend on data, and why. `loops`: it may decide how often a loop runs."""

    function: str
    reason: str
    loops: bool = False


EXCEPTIONS = (
    Exemption(r"\w*clamp\w*|saturate\d+|scaled_sum", "clamp: one SSAT, or two conditional moves, on cores that have them; a short jump on others"),
    Exemption(r"max\d*(_\w+)?|\w+_max(_s8)?|pool_dsp_max\w*", "the larger of two: comparing is what it does"),
    Exemption(
        r"softmax_\w+|\w+_softmax_s8(_tflite)?",
        "softmax: finds the maximum, shifts its sum into place and divides bit by bit, at most 32 turns each",
        loops=True,
    ),
    Exemption(
        r"\w*requantize\w*|\w*shift_right_half_(away|even)|\w+_round_even",
        "clamp before a shift to the left, and ties: moves, for most compilers",
    ),
    Exemption(r"pool_quotient\w*|\w*quotient\w*", "exact halves of a mean are rounded apart from the rest"),
    Exemption(r"edge_\w+|\w+_(quantize|dequantize)\w*", "conversion between integers and real numbers at the ports: limits and ties"),
    Exemption(r"\w*prelu\w*|\w*leaky\w*|\w*(relu|clip)\w*", "one of two slopes by the sign of a value"),
)
MEANT = {"UninitCondition": "jump", "UninitValue": "address"}


@dataclass(frozen=True)
class Site:
    """A place of the sources where something depends on data."""

    kind: str  # jump or address
    function: str
    file: str
    line: int


def prove(subject: Subject) -> Part:
    """Watch and judge.

    Raises: ToolMissing without gcc, valgrind or its header; VerifyFailed if the library fails.
    """
    return judge(subject, watch(subject))


def judge(subject: Subject, sites: list[Site]) -> Part:
    """FAILED if a jump depends on data that is no listed exception."""
    rows: list[tuple[Cell, ...]] = []
    wrong: list[str] = []
    used: dict[str, str] = {}
    for site in sites:
        source = _line(subject, site)
        exemption = exempted(site, subject.name)
        loop = site.kind == "jump" and re.match(r"(for|while|\} while)\b", source) is not None
        allowed = site.kind == "address" or (exemption is not None and (exemption.loops or not loop))
        if exemption is not None and site.kind == "jump":
            used[exemption.function] = exemption.reason
        if not allowed:
            wrong.append(f"{site.function} ({site.file}:{site.line})")
        verdict = "table read" if site.kind == "address" else "listed" if allowed else "not listed"
        rows.append((verdict, site.function, site.file, site.line, source[:160]))
    jumps = sum(site.kind == "jump" for site in sites)
    says = f"places where data decide on a jump: {jumps}, all on the list; on an address: {len(sites) - jumps}"
    if wrong:
        says = f"not on the list: {', '.join(wrong)}"
    tables = (
        Table("what depends on data", ("", "function", "file", "line", "source"), tuple(sorted(rows, key=str))),
        Table("exceptions that were met", ("functions", "why"), tuple(sorted(used.items()))),
    )
    figures = {"jumps": jumps, "addresses": len(sites) - jumps, "not_listed": wrong, "valgrind": version_of(find_tool("valgrind"))}
    return Part(KEY, TITLE, FAILED if wrong else PASSED, says, ABOUT, LIMITS, tables, figures=figures)


def exempted(site: Site, name: str) -> Exemption | None:
    """The exception that a function is on."""
    plain = site.function.removeprefix(f"{name}_")
    return next((found for found in EXCEPTIONS if re.fullmatch(found.function, plain) or re.fullmatch(found.function, site.function)), None)


def watch(subject: Subject) -> list[Site]:
    """Where in the library's sources jumps and addresses depend on inputs.

    Raises: ToolMissing, VerifyFailed.
    """
    valgrind = find_tool("valgrind")
    if not any((Path(folder) / HEADER).is_file() for folder in ("/usr/include", "/usr/local/include")):
        raise ToolMissing(f"{HEADER}: not found; on Debian or Ubuntu: apt-get install valgrind")
    with tempfile.TemporaryDirectory(prefix="midge-control-") as name:
        work = Path(name)
        program = build(subject, work, flags=("-g", "-include", "midge_hooks.h"), defines=("MIDGE_UNDEFINED",))
        report = work / "memcheck.xml"
        options = ["--tool=memcheck", "--xml=yes", f"--xml-file={report}", "--error-limit=no", "--undef-value-errors=yes", "--leak-check=no"]
        execute(subject, [valgrind, *options, program], work)
        return sorted(sites_of(report.read_text("utf-8")), key=lambda site: (site.file, site.line, site.kind))


def sites_of(text: str) -> set[Site]:
    """The places a report of memcheck names.

    Raises: VerifyFailed if it reports anything but dependence on undefined values.
    """
    found = set()
    for error in ElementTree.fromstring(text).iter("error"):
        kind, frame = str(error.findtext("kind")), error.find("stack/frame")
        if kind not in MEANT or frame is None:
            raise VerifyFailed(f"memcheck: {kind}: {error.findtext('what') or error.findtext('xwhat/text')}")
        found.add(Site(MEANT[kind], frame.findtext("fn") or "", frame.findtext("file") or "", int(frame.findtext("line") or 0)))
    return found


def _line(subject: Subject, site: Site) -> str:
    path = subject.source / site.file
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return lines[site.line - 1].strip() if 0 < site.line <= len(lines) else ""
