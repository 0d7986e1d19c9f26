# SPDX-License-Identifier: Apache-2.0
"""midge report: one page about a model or a written library."""

from __future__ import annotations

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
    from midge.report.html import write

    given = only_given(options)
    if Path(model).is_dir():
        facts, texts = _of_folder(Path(model), target, data, given)
    else:
        facts, texts = _of_model(model, target or "cortex-m4", data, given, show=not as_json)
    where = {name: str(path) for name, path in write(texts, Path(output)).items()}
    print_facts(facts, where, as_json)


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
