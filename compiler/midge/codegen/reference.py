# SPDX-License-Identifier: Apache-2.0
"""The reference beside the code: the integer Graph a library was emitted from, so that verify needs nothing but the directory."""

from __future__ import annotations

from pathlib import Path

import midge.ops  # noqa: F401  (parsing needs every operator class)
from midge.codegen.manifest import load_manifest
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
        raise UsageError(f"{directory}: {_without(directory)}")
    return parse_graph(path.read_text("utf-8"))


def _without(directory: Path) -> str:
    """Why there is no reference, and the way out."""
    models = [str(model["name"]) for model in load_manifest(directory).get("models", [])]
    if not models:
        return f"has no {REFERENCE}, so there is nothing to compare with; compile the model again"
    return (
        f"is an image of several models ({', '.join(models)}), and this takes one; `midge verify` runs them all, the manifest's report has what linking saves; "
        "compile the one by itself for the rest: `midge compile MODEL --report`, `midge evidence MODEL`"
    )
