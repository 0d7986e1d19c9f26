# SPDX-License-Identifier: Apache-2.0
"""The reference beside the code: the integer Graph a library was emitted from, so that verify needs nothing but the directory."""

from __future__ import annotations

from pathlib import Path

import midge.ops  # noqa: F401  (parsing needs every operator class)
from midge.errors import UsageError
from midge.ir import Graph
from midge.text import parse_graph, print_graph

REFERENCE = "reference.txt"


def reference_files(graph: Graph) -> dict[str, str]:
    """The file that `load_reference` reads."""
    return {REFERENCE: print_graph(graph)}


def load_reference(directory: Path) -> Graph:
    """The Graph an emitted directory came from.

    Raises: UsageError if the directory has none, ImportFailed if the file is damaged.
    """
    path = directory / REFERENCE
    if not path.is_file():
        raise UsageError(f"{directory}: has no {REFERENCE}, so there is nothing to compare with; verify the model itself instead")
    return parse_graph(path.read_text("utf-8"))
