# SPDX-License-Identifier: Apache-2.0
"""A run on the host under AddressSanitizer and UndefinedBehaviorSanitizer, every byte of every layer compared."""

from __future__ import annotations

from midge.errors import VerifyFailed
from midge.evidence.part import FAILED, PASSED, Part, Subject, version_of
from midge.run.verify import verify
from midge.toolchain import find_tool

KEY, TITLE, LOG = "sanitizers", "AddressSanitizer and UndefinedBehaviorSanitizer", "sanitizers.log"
ABOUT = (
    "The C of the library built for the host with -fsanitize=address,undefined, any finding fatal, the bytes around the arena forbidden, and run on "
    "the samples. Every byte of every layer is compared with the integer reference."
)
LIMITS = "On the host, twins written in C stand for generated assembly. What no sample reaches is not seen; the coverage says what that is."


def prove(subject: Subject) -> Part:
    """FAILED with the sanitizers' own words, or with the first layer that differs.

    Raises: ToolMissing without gcc.
    """
    head = f"{version_of(find_tool('gcc'))}\n-std=c99 -O2 -fsanitize=address,undefined -fno-sanitize-recover=all\n{len(subject.samples)} samples\n"
    try:
        found = verify(subject.directory, subject.samples, on="host", sanitize=True)
    except VerifyFailed as error:
        return Part(KEY, TITLE, FAILED, str(error).splitlines()[0], ABOUT, LIMITS, files={LOG: f"{head}{error}\n"})
    said = found.said + (f"; {found.wrong}" if found.wrong else "")
    log = f"{head}no finding of a sanitizer\n{said}\n"
    figures = {"samples": found.samples, "bytes_compared": found.bytes_compared, "findings": 0}
    return Part(KEY, TITLE, PASSED if found.exact else FAILED, f"no finding; {said}", ABOUT, LIMITS, files={LOG: log}, figures=figures)
