# SPDX-License-Identifier: Apache-2.0
"""A Library from the folder it was written to, for what needs more than its C: its reference is lowered and scheduled again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from midge.api import Library, placed
from midge.codegen.c import emit
from midge.codegen.manifest import MANIFEST, digest, load_manifest
from midge.codegen.reference import load_reference
from midge.costs import load_costs
from midge.errors import UsageError
from midge.lower import Choice
from midge.schedule import Wish, parse_memories
from midge.targets import get_target

_WISH = ("least", "ram", "stream", "stepwise", "by_rows", "hand_out")


def reload(directory: Path, costs: Path | None = None) -> Library:
    """The Library that midge wrote to `directory`. `costs`: the table it was compiled with, if it was not midge's own.

    Raises: UsageError if the folder holds no library, or compiling it again does not give the C that its manifest lists.
    """
    manifest, graph = load_manifest(directory), load_reference(directory)
    request, optimize = manifest.get("request"), str(manifest.get("optimize"))
    if not isinstance(request, dict) or not set(_WISH) <= request.keys():
        raise UsageError(f"{directory}: {MANIFEST} does not say what was asked for, so the library cannot be compiled again; compile the model again")
    if request.get("own_costs") and costs is None:
        raise UsageError(f"{directory}: was compiled with --costs; give that table again")
    target = get_target(manifest["target"])
    choice = _choice(optimize, request, load_costs(target.name, costs))
    graph.name = manifest["name"]
    wish = Wish(**{name: request[name] for name in _WISH}, memories=parse_memories(str(request.get("memories") or "")))
    program = placed(graph, target, manifest["model_digest"], choice, wish)
    program.optimize, program.request = optimize, request
    listed = {entry["path"]: entry["sha256"] for entry in manifest["files"]}
    changed = [path for path, text in emit(program).items() if path != MANIFEST and listed.get(path) != digest(text.encode("utf-8"))]
    if changed:
        raise UsageError(f"{directory}: compiled again, {', '.join(changed[:3])} comes out differently: another midge wrote it; compile the model again")
    return Library(graph, program)


def _choice(optimize: str, request: dict[str, Any], table: Any) -> Choice:
    return Choice(
        "balanced" if optimize == "ram" else optimize,
        table,
        request.get("flash"),
        saved=int(request.get("saved") or 0),
        whole=not request.get("by_rows", True),
        narrow=request.get("weights") == "int4",
    )
