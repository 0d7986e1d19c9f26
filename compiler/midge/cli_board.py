# SPDX-License-Identifier: Apache-2.0
"""midge board: a project that serves `midge verify --on serial:PORT` from a board."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from midge.cli_common import CALIBRATION, COMPILE, JSON, SHAPES, only_given, print_json, progress_bar, with_options
from midge.errors import UsageError


@click.command()
@click.argument("name")
@click.argument("model", required=False, metavar="[MODEL|DIR]")
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder to write the project to.")
@with_options(*CALIBRATION, *COMPILE, *SHAPES, JSON)
def board(name: str, model: str | None, output: str, as_json: bool, **options: Any) -> None:
    """Write a project for board NAME that runs a library and answers `midge verify --on serial:PORT`.

    Boards: nucleo-l4r5zi, nucleo-f446re, pico, pico2, nrf52840-dk, and mps2-an386, which QEMU emulates. MODEL is an ONNX file, DIR a folder written by
    midge compile. Start-up code and headers of a chip stay in its maker's package; the project's README says which.

    \b
    midge board nucleo-l4r5zi -o kws_board kws_int8.onnx
    midge verify kws_board/model --on serial:/dev/ttyACM0
    """
    from midge.codegen.manifest import load_manifest
    from midge.package.board_project import MODEL, project_files, write_project
    from midge.package.boards import get_board_project

    project, folder, given = get_board_project(name), Path(output), only_given(options)
    if given and (model is None or Path(model).is_dir()):
        option = "shape" if "shapes" in given else next(iter(given))
        raise UsageError(f"--{option}: there is nothing to compile; give an ONNX model, or leave the option out")
    write_project(project_files(project, None), folder)
    if model is not None:
        library = folder / MODEL
        if Path(model).is_dir():
            manifest = load_manifest(Path(model))
            _copy(Path(model), library)
        else:
            from midge import api

            with progress_bar("calibrating", show=not as_json) as progress:
                api.compile(model, target=project.target, **given, progress=progress).write(library)
            manifest = load_manifest(library)
        write_project(project_files(project, manifest), folder)
    if as_json:
        print_json({"board": name, "output": output, "model": None if model is None else f"{output}/{MODEL}", "files": sorted(project_files(project, None))})
        return
    click.echo(f"{project.title}: written to {output}; how to build it is in {output}/README.md")
    if model is not None:
        click.echo(f"then: midge verify {output}/{MODEL} --on serial:{project.port}")


def _copy(library: Path, to: Path) -> None:
    """Put a written library into the project, in place of one that is there.

    Raises: UsageError if something else is there.
    """
    from midge.codegen.write import foreign_files

    if library.resolve() == to.resolve():
        return
    foreign_files(to.resolve())
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(library, to)
