# SPDX-License-Identifier: Apache-2.0
"""midge link: several models in one image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from midge.cli_common import COMPILE, JSON, only_given, print_json, progress_bar, with_options
from midge.errors import MidgeError, UsageError
from midge.targets import TARGETS


def _named(text: str) -> tuple[str | None, str]:
    """NAME=PATH as (NAME, PATH); a file that is there may have any name."""
    name, equals, path = text.partition("=")
    return (name, path) if equals and name.isidentifier() and not Path(text).exists() else (None, text)


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]MODEL...")
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder to write the image to; one that midge wrote is replaced.")
@click.option("--exclusive/--concurrent", "exclusive", default=None, help="One arena for models that never run at the same time, or one for each.")
@click.option("--name", default="image", show_default=True, help="Name of the image and prefix of the kernels and constants that its models share.")
@click.option("--target", type=click.Choice(list(TARGETS)), default="cortex-m4", show_default=True, help="What to compile for.")
@click.option("--calibration", "calibrations", multiple=True, metavar="[NAME=]DATA", help="Representative inputs for float models, for each or for all.")
@click.option("--no-measure", "measure", is_flag=True, default=True, flag_value=False, help="Do not compile the C to measure what is saved.")
@with_options(*COMPILE, JSON)
def link(
    models: tuple[str, ...],
    output: str,
    exclusive: bool | None,
    name: str,
    target: str,
    calibrations: tuple[str, ...],
    measure: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compile several models to one folder of C, in which kernels and equal constants are stored once.

    Other options hold for each of the models, --ram and --flash too.

    \b
    midge link wake=kws_int8.onnx person=vww_int8.onnx --exclusive -o image
    midge verify image --on qemu
    """
    from midge import api
    from midge.codegen.write import foreign_files
    from midge.link import link as link_libraries

    if exclusive is None:
        raise UsageError("say --exclusive, if the models never run at the same time and may share one arena, or --concurrent")
    foreign_files(Path(output).resolve())
    pairs = [_named(text) for text in models]
    known = dict(_named(text) for text in calibrations)
    strange = set(known) - {given for given, _ in pairs} - {None}
    if strange:
        raise UsageError(f"--calibration {sorted(map(str, strange))[0]}=...: no model is named so; name them: NAME=MODEL.onnx")
    libraries = []
    for given, model in pairs:
        more = {"calibration": known.get(given, known.get(None)), **({"name": given} if given else {})}
        with progress_bar("calibrating", show=not as_json) as progress:
            try:
                libraries.append(api.compile(model, target=target, **only_given(options | more), progress=progress))
            except MidgeError as error:
                raise type(error)(f"{given or Path(model).stem}: {error}") from None
    with progress_bar("compiling C", show=not as_json) as progress:
        image = link_libraries(libraries, name=name, exclusive=exclusive, measure=measure, progress=progress)
    image.write(output)
    if as_json:
        print_json({"output": output, "header": f"src/{name}.h", "models": [library.program.name for library in libraries], **image.report.as_dict()})
        return
    _print(image, output)


def _print(image: Any, output: str) -> None:
    from midge.codegen.header import streams
    from midge.report.tables import make_console, make_table
    from midge.report.usage import build_command
    from midge.targets import get_target

    report, name = image.report, image.linked.pool.name
    rows = [(each.name, each.flash, each.constants, each.kernels, each.ram) for each in (*report.alone, report.sums, report.together, report.saved)]
    table = make_table(f"bytes on {report.target}, {report.mode}", ("", "flash", "of it constants", "kernels", "RAM"), rows)
    for column in table.columns[1:]:
        column.justify = "right"
    make_console().print(table)
    for nbytes, text in (
        (report.added.flash, "of flash more than the sum: kernels that serve several models are less cut to each of them"),
        (report.added.ram, "of RAM more than the sum: padding, because each arena begins at a multiple of its alignment"),
    ):
        if nbytes:
            click.echo(f"{nbytes:,} bytes {text}")
    calls = [
        f"{p.name}_{'begin' if streams(p) else 'run'}({name}_{p.name}_arena(arena){', take, context' if p.hands_out and not streams(p) else ''});"
        for p in image.linked.programs
    ]
    lines = [f'/* #include "{name}.h"; int8_t arena[{name.upper()}_ARENA_BYTES], aligned to {name.upper()}_ARENA_ALIGN bytes */', *calls]
    build = build_command(output, get_target(report.target))
    for text in (f"written to {output}; to call it:", "", *(f"    {line}" for line in lines), "", "to build it:", "", f"    {build}"):
        click.echo(text)
