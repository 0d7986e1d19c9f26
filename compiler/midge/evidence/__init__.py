# SPDX-License-Identifier: Apache-2.0
"""Evidence for safety-minded users: what can be shown of a written library, in one directory with one page.

Each module is a part: prove(subject) returns a Part. What a missing tool leaves out is `not run`, never `passed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from midge.errors import ToolMissing, UsageError, VerifyFailed
from midge.evidence import control_flow, coverage, misra, overflow, sanitize, sbom, stack
from midge.evidence.page import DATA, INDEX, data, overall
from midge.evidence.page import page as page_text
from midge.evidence.part import FAILED, NOT_RUN, PASSED, Part, Subject

__all__ = ["FAILED", "INDEX", "NOT_RUN", "PASSED", "Part", "Subject", "collect", "overall", "write"]

Progress = Callable[[int, int], None]
COUNT = 7
LIBRARY = "library"  # the folder beside the page of a library that was compiled for it


def collect(subject: Subject, progress: Progress = lambda done, total: None) -> list[Part]:
    """All parts, in the order of the page."""
    found: list[Part] = []

    def take(part: Part) -> None:
        found.append(part)
        progress(len(found), COUNT)

    take(attempt(stack.KEY, stack.TITLE, stack.ABOUT, lambda: stack.prove(subject)))
    take(overflow.prove(subject))
    take(attempt(sanitize.KEY, sanitize.TITLE, sanitize.ABOUT, lambda: sanitize.prove(subject)))
    sites: list[control_flow.Site] | None = None

    def flow() -> Part:
        nonlocal sites
        sites = control_flow.watch(subject)
        return control_flow.judge(subject, sites)

    take(attempt(control_flow.KEY, control_flow.TITLE, control_flow.ABOUT, flow))
    take(attempt(coverage.KEY, coverage.TITLE, coverage.ABOUT, lambda: coverage.prove(subject, sites)))
    take(attempt(misra.KEY, misra.TITLE, misra.ABOUT, lambda: misra.prove(subject)))
    take(sbom.prove(subject))
    return found


def attempt(key: str, title: str, about: str, prove: Callable[[], Part]) -> Part:
    """A part, or why there is none."""
    try:
        return prove()
    except ToolMissing as error:
        tool, _, way_out = str(error).partition(": ")
        return Part(key, title, NOT_RUN, f"not run: tool {tool} missing ({way_out})", about)
    except VerifyFailed as error:
        return Part(key, title, FAILED, str(error).splitlines()[0], about, files={f"{key}.log": f"{error}\n"})


def write(subject: Subject, parts: Sequence[Part], output: Path) -> Path:
    """Write the page, its data and all files of the parts into `output`; returns the page's path.

    Raises: UsageError if `output` holds something else, or cannot be written.
    """
    refuse_foreign(output)
    files = {INDEX: page_text(subject, parts), DATA: data(subject, parts)} | {name: text for part in parts for name, text in part.files.items()}
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (output / name).write_bytes(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UsageError(f"{output}: cannot be written: {error.strerror or error}") from None
    return output / INDEX


def refuse_foreign(output: Path) -> None:
    """Raise UsageError if `output` is a file, or a folder that holds anything but evidence and the library it is of."""
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is a file; name a folder")
    if output.is_dir() and any(path.name != LIBRARY for path in output.iterdir()) and not (output / DATA).is_file():
        raise UsageError(f"{output}: is not empty and holds no evidence of midge; name another folder")
