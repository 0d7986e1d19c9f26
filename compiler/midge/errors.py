# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, by whose doing.

The command line prints the message of a MidgeError and exits with its `exit_code`; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations


class MidgeError(Exception):
    """Base of every error a user can meet. The message names the node, the rule, what was got and wanted, and the way out."""

    exit_code = 1


class UsageError(MidgeError):
    """The request itself is wrong: a file that is not there, an option that contradicts another."""

    exit_code = 2


class ImportFailed(MidgeError):
    """The model is broken: truncated, inconsistent, or not what the ONNX specification allows."""

    exit_code = 3


class Unsupported(MidgeError):
    """The model is sound but midge does not offer this; the message says the nearest way out."""

    exit_code = 4


class VerifyFailed(MidgeError):
    """Code was run and did not compute what the model says."""

    exit_code = 5


class ToolMissing(MidgeError):
    """A compiler or emulator is not installed; the message says which package to install."""

    exit_code = 6


class IRError(MidgeError):
    """A Graph or Program broke its own rules: a bug in midge, never the user's."""

    exit_code = 70
