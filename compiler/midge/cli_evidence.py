# SPDX-License-Identifier: Apache-2.0
"""midge evidence: what can be shown of a library, in one directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from midge.cli_common import CALIBRATION, COMPILE, JSON, SHAPES, only_given, print_json, progress_bar, with_options
from midge.errors import UsageError, VerifyFailed
from midge.targets import TARGETS

if TYPE_CHECKING:
    from midge.evidence import Part

SAMPLES = 8


@click.command()
@click.argument("model", metavar="MODEL|DIR")
@click.option("-o", "--output", required=True, metavar="EVIDENCE_DIR", help="Folder for index.html, evidence.json and the files they name.")
@click.option("--target", type=click.Choice(list(TARGETS)), help="What to compile a model for; cortex-m4 by default.")
@click.option("--name", help="Name of the library; by default that of the model's file.")
@click.option("--data", metavar="X.npz", help="Inputs to run: a .npz or .npy, integers as they are or floats to be quantized. Random ones by default.")
@click.option("--samples", type=click.IntRange(1, 10_000), default=SAMPLES, show_default=True, help="How many samples to run: the first of the data.")
@with_options(*CALIBRATION, *COMPILE, *SHAPES, JSON)
def evidence(model: str, output: str, target: str | None, name: str | None, data: str | None, samples: int, as_json: bool, **options: Any) -> None:
    """Gather what can be shown of a library: stack bound, accumulators that cannot overflow, sanitizers, control flow, branch coverage, MISRA C:2012,
    digests and a bill of materials; exit code 5 if any of it fails.

    MODEL is an ONNX file, which is compiled into EVIDENCE_DIR/library; DIR is a folder written by midge compile. What a missing tool leaves out is shown
    as not run.

    \b
    midge evidence kws_lib -o kws_evidence
    midge evidence kws_int8.onnx -o kws_evidence --target cortex-m0 --data samples.npz
    """
    from midge.codegen.reference import load_reference
    from midge.evidence import Subject, collect, overall, refuse_foreign, write
    from midge.run.samples import load_samples, random_samples

    folder, given = Path(output), only_given(options)
    refuse_foreign(folder)
    directory = _library(model, folder, target, name, given, show=not as_json)
    graph = load_reference(directory)
    subject = Subject.of(directory, random_samples(graph, samples) if data is None else load_samples(Path(data), graph, samples))
    with progress_bar("gathering evidence", show=not as_json) as progress:
        parts = collect(subject, progress)
    page = write(subject, parts, folder)
    _print(parts, page, as_json)
    if overall(parts) == "failed":
        raise VerifyFailed("evidence: " + "; ".join(f"{part.title}: {part.summary}" for part in parts if part.status == "failed"))


def _library(model: str, folder: Path, target: str | None, name: str | None, given: dict[str, Any], *, show: bool) -> Path:
    """The folder of a library: DIR itself, or what MODEL is compiled to.

    Raises: UsageError for options that belong to compiling.
    """
    if Path(model).is_dir():
        given = given | ({} if target is None else {"target": target}) | ({} if name is None else {"name": name})
        if given:
            option = "shape" if "shapes" in given else next(iter(given)).replace("_", "-")
            raise UsageError(f"--{option}: '{model}' is compiled already; give the model itself, or leave the option out")
        return Path(model)
    from midge import api
    from midge.evidence import LIBRARY

    with progress_bar("calibrating", show=show) as progress:
        library = api.compile(model, target=target or "cortex-m4", name=name, **given, progress=progress)
    return library.write(folder / LIBRARY)


def _print(parts: Sequence[Part], page: Path, as_json: bool) -> None:
    from midge.evidence import overall
    from midge.report.tables import make_console, make_table

    if as_json:
        print_json({"output": str(page.parent), "page": str(page), "status": overall(parts), "parts": [part.as_dict() for part in parts]})
        return
    make_console().print(make_table("evidence", ("part", "status", "in short"), [(part.title, part.status, part.summary) for part in parts]))
    click.echo(f"written to {page}")
