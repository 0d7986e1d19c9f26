# SPDX-License-Identifier: Apache-2.0
"""midge report: one page about a model or a written library."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midge.cli_common import CALIBRATION, COMPILE, JSON, SHAPES, only_given, print_json, progress_bar, with_options
from midge.errors import UsageError
from midge.targets import TARGETS

if TYPE_CHECKING:
    from midge.api import Library
    from midge.report.facts import Facts


@click.command()
@click.argument("model", metavar="MODEL|DIR")
@click.option("-o", "--output", required=True, metavar="DIR|FILE.html", help="Folder for report.html and report.json, or the name of the page.")
@click.option("--target", type=click.Choice(list(TARGETS)), help="What to compile a model for; cortex-m4 by default.")
@click.option("--name", help="Name of the library; by default that of the model's file.")
@click.option("--data", metavar="X.npz", help="Inputs to compare with float on: a .npz or .npy. By default the calibration data, or random ones.")
@with_options(*CALIBRATION, *COMPILE, *SHAPES, JSON)
def report(model: str, output: str, target: str | None, data: str | None, as_json: bool, **options: Any) -> None:
    """Write a page about MODEL, compiled, or about DIR, a folder written by midge compile: the network, the arena over time, figures of every layer,
    comparison with float, traceability, stack. One file, readable without network; report.json beside it has the same for programs.

    \b
    midge report kws_int8.onnx -o kws_report
    midge report kws_lib -o kws.html
    """
    from midge.errors import VerifyFailed
    from midge.report.html import write

    given, place = only_given(options), Path(output)
    if Path(model).is_dir():
        _refuse_overwriting(Path(model), place)
        facts, texts = _of_folder(Path(model), target, data, given)
    else:
        facts, texts = _of_model(model, target or "cortex-m4", data, given, show=not as_json)
    written = write(texts, place)
    if Path(model).is_dir():
        _list_anew(Path(model), written)
    print_facts(facts, {name: str(path) for name, path in written.items()}, as_json)
    found = facts.verification or {}
    if found.get("changed"):
        click.echo(f"warning: not as midge wrote them: {', '.join(found['changed'])}", err=True)
    if found.get("difference"):
        raise VerifyFailed(found["difference"])


def _refuse_overwriting(directory: Path, output: Path) -> None:
    """Raises: UsageError if the report would take the place of another file of the library."""
    from midge.codegen.manifest import MANIFEST, load_manifest
    from midge.report.html import DATA, PAGE, places

    others = {MANIFEST, *(entry["path"] for entry in load_manifest(directory)["files"])} - {PAGE, DATA}
    theirs = {(directory / path).resolve() for path in others}
    for path in places(output).values():
        if path.resolve() in theirs:
            raise UsageError(f"{path}: is a file of the library itself; name another for the report")


def _list_anew(directory: Path, written: dict[str, Path]) -> None:
    """If the report went into the folder of its library, the manifest lists it, as after `midge compile --report`: else the files would count as changed."""
    from midge.codegen.manifest import MANIFEST, digest

    if any(place.resolve() != (directory / name).resolve() for name, place in written.items()):
        return
    path = directory / MANIFEST
    manifest = json.loads(path.read_text("utf-8"))
    listed = {entry["path"]: entry for entry in manifest["files"]}
    listed |= {name: {"path": name, "sha256": digest(place.read_bytes())} for name, place in written.items()}
    manifest["files"] = [listed[name] for name in sorted(listed)]
    path.write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")


def _of_folder(directory: Path, target: str | None, data: str | None, given: dict[str, Any]) -> tuple[Facts, dict[str, str]]:
    """The report of a written library, held against its files.

    Raises: UsageError for options that belong to compiling.
    """
    from midge.reload import reload
    from midge.report.make import choose_samples, make_report

    costs = given.pop("costs", None)
    given |= {} if target is None else {"target": target}
    if given:
        option = "shape" if "shapes" in given else next(iter(given)).replace("_", "-")
        raise UsageError(f"--{option}: '{directory}' is compiled already; give the model itself, or leave the option out")
    library = reload(directory, None if costs is None else Path(costs))
    samples, what = choose_samples(library.graph, data, None)
    return make_report(library.graph, library.program, directory, samples, what)


def _of_model(model: str, target: str, data: str | None, given: dict[str, Any], *, show: bool) -> tuple[Facts, dict[str, str]]:
    from midge import api

    with tempfile.TemporaryDirectory(prefix="midge-report-") as folder, progress_bar("calibrating", show=show) as progress:
        library = api.compile(model, target=target, **given, progress=progress)
        directory = library.write(Path(folder) / "library")
        return report_of(library, directory, model, data, given)


def report_of(library: Library, directory: Path, model: str, data: str | None, given: dict[str, Any]) -> tuple[Facts, dict[str, str]]:
    """The report of a library just compiled from `model` with the options `given`, and written to `directory`."""
    from midge.importers.onnx import load
    from midge.passes import canonicalize
    from midge.report.make import choose_samples, make_report

    declared = load(model, shapes=given.get("shapes"), batch=given.get("batch"))
    types = {name: declared.model_types.get(name, declared.type(name)) for name in declared.inputs}
    samples, what = choose_samples(library.graph, data, given.get("calibration"), types)
    kept = library.dead_channels.kept if library.dead_channels else None
    return make_report(library.graph, library.program, directory, samples, what, canonicalize(declared), kept)


def print_facts(facts: Facts, where: dict[str, str], as_json: bool) -> None:
    """What was written, and what is missing in it."""
    if as_json:
        verified = facts.verification and facts.verification["exact"]
        print_json({"files": where, "arena_bytes": facts.arena.nbytes, "stack": facts.stack["bound"], "exact": verified, "missing": facts.missing})
        return
    for path in where.values():
        click.echo(f"written to {path}")
    for what, why in facts.missing.items():
        click.echo(f"left out: {what}: {why}", err=True)
