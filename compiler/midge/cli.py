# SPDX-License-Identifier: Apache-2.0
"""The command line: reads options, calls midge.api and midge.run, and prints. Tables go to the standard output, errors and progress to the standard error."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from midge import __version__
from midge.cli_board import board
from midge.cli_common import CALIBRATION, COMPILE, JSON, SHAPES, Commands, only_given, print_json, progress_bar, with_options, write_file
from midge.cli_evidence import evidence
from midge.cli_golden import GOLDEN, test_files
from midge.cli_link import link
from midge.cli_package import PACKAGE, lint_flags, package_lines
from midge.cli_plan import plan
from midge.cli_report import report, report_of
from midge.cli_verify import verify
from midge.errors import ToolMissing
from midge.targets import TARGETS, get_target


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="midge")
def main() -> None:
    """Compile ONNX networks ahead of time to small C libraries for microcontrollers.

    \b
    midge inspect model.onnx
    midge compile model.onnx --calibration samples.npz -o kws_lib --name kws
    midge verify kws_lib --on qemu

    Exit codes: 2 wrong request, 3 broken model, 4 not offered, 5 wrong results, 6 tool missing, 70 a bug in midge.
    """


main.add_command(evidence)
main.add_command(link)
main.add_command(plan)
main.add_command(report)
main.add_command(lint_flags)


@main.command()
@click.argument("model")
@with_options(*SHAPES, JSON)
def inspect(model: str, shapes: dict[str, tuple[int, ...]], batch: int | None, as_json: bool) -> None:
    """Show what MODEL is, which of its operators midge offers, and what is missing to compile it.

    \b
    midge inspect kws.onnx
    midge inspect detector.onnx --shape image=1,3,96,96
    """
    from midge.report.inspect import inspect_model
    from midge.report.tables import make_console, print_inspection

    found = inspect_model(model, shapes=shapes, batch=batch)
    if as_json:
        print_json(found.as_dict())
    else:
        print_inspection(make_console(), found)
    if found.error is not None:
        raise found.error


@main.command()
@click.argument("model")
@with_options(*CALIBRATION)
@click.option("-o", "--output", required=True, metavar="OUT.onnx", help="File to write.")
@with_options(*SHAPES, JSON)
def quantize(model: str, output: str, as_json: bool, **options: Any) -> None:
    """Quantize MODEL to int8 and write it as a standard QDQ ONNX model, which other tools read too.

    \b
    midge quantize kws.onnx --calibration samples.npz -o kws_int8.onnx
    """
    from midge.api import quantized_graph
    from midge.importers.onnx_export import write_qdq
    from midge.report.inspect import node_lines
    from midge.report.tables import make_console, nodes_table

    used = 0
    with progress_bar("calibrating", show=not as_json) as show:

        def progress(done: int, total: int) -> None:
            nonlocal used
            used = total
            show(done, total)

        graph = quantized_graph(model, **only_given(options), progress=progress)
    data = write_qdq(graph).SerializeToString()
    write_file(Path(output), data)
    layers = node_lines(graph)
    if as_json:
        print_json({"output": output, "nbytes": len(data), "samples": used, "layers": [asdict(line) for line in layers]})
        return
    make_console().print(nodes_table("quantized layers", layers))
    click.echo(f"{used} samples used; written to {output}, {len(data):,} bytes")


@main.command()
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder to write the library to; one that midge wrote is replaced.")
@click.option("--target", type=click.Choice(list(TARGETS)), default="cortex-m4", show_default=True, help="What to compile for; `midge targets` has the list.")
@click.option("--name", help="Name of the library and prefix of its C symbols; by default that of the model's file.")
@click.option("--report", "with_report", is_flag=True, help="Measure it and write report.html and report.json into the folder; see `midge report`.")
@with_options(PACKAGE, *GOLDEN, *CALIBRATION, *COMPILE, *SHAPES, JSON)
def compile(
    model: str,
    output: str,
    target: str,
    packages: tuple[str, ...],
    golden: bool,
    test_data: str | None,
    test_samples: int | None,
    with_report: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compile MODEL to a C library.

    \b
    midge compile kws_int8.onnx -o kws_lib --target cortex-m4
    midge compile kws.onnx --calibration samples.npz -o kws_lib --name kws
    midge compile kws_int8.onnx -o kws_lib --package cmake --package zephyr
    """
    from midge import api
    from midge.codegen.write import foreign_files
    from midge.report.narrow import distance
    from midge.report.tables import make_console, print_report
    from midge.report.usage import build_command, call_lines

    foreign_files(Path(output).resolve())  # refuse a folder of somebody else's before the work, not after
    with progress_bar("calibrating", show=not as_json) as progress:
        library = api.compile(model, target=target, **only_given(options), progress=progress)
    more = test_files(library, golden, test_data, test_samples)
    library.write(output, packages, more)
    if with_report:
        library.write(output, packages, more | report_of(library, Path(output), model, None, only_given(options))[1])
    report, build, calling = library.report(), build_command(output, get_target(target)), call_lines(library.program)
    narrow = library.narrowed and distance(library.narrowed, library.graph)
    if as_json:
        facts = report.as_dict() | ({"int4": {"layers": list(library.narrowed.layers), **asdict(narrow)}} if library.narrowed and narrow else {})
        print_json({"output": output, "header": f"src/{report.name}.h", "build": build, "call": list(calling), "packages": list(packages), **facts})
        return
    print_report(make_console(), report)
    if library.narrowed:
        click.echo(f"weights of four bits in {len(library.narrowed.layers)} layers; outputs beside those of eight: {narrow}")
    notes = ("", "packages:", "", *package_lines(packages, output)) if packages else ()
    notes += ("", "to test it on any target:", "", f"    make -C {output}/test check") if more else ()
    for text in ("", f"written to {output}; to call it:", "", *(f"    {line}" for line in calling), "", "to build it:", "", f"    {build}", *notes):
        click.echo(text)


main.add_command(verify)
main.add_command(board)


@main.command()
@click.argument("model")
@click.option("--target", type=click.Choice(list(TARGETS)), default="cortex-m4", show_default=True, help="Which core to emulate.")
@click.option("-o", "--output", required=True, metavar="CSV", help="Table to write; one that is there is added to.")
@with_options(*CALIBRATION, *SHAPES, JSON)
def tune(model: str, target: str, output: str, as_json: bool, **options: Any) -> None:
    """Measure every kernel on the layers of MODEL under QEMU, for shapes that midge has no figures for.

    \b
    midge tune kws_int8.onnx --target cortex-m4 -o costs.csv
    midge compile kws_int8.onnx --target cortex-m4 --costs costs.csv -o kws_lib
    """
    from midge import api

    known = output if Path(output).is_file() else None
    with progress_bar("measuring kernels", show=not as_json) as progress:
        costs = api.tune(model, target=target, costs=known, progress=progress, **only_given(options))
    write_file(Path(output), costs.text().encode())
    count = sum(len(shapes) for shapes in costs.rows.values())
    if as_json:
        print_json({"output": output, "target": target, "rows": count, "kernels": sorted(costs.rows)})
        return
    click.echo(f"{output}: {count} rows, instructions under QEMU on {target}")


@main.command()
@JSON
def targets(as_json: bool) -> None:
    """List what midge compiles for, and which compilers and emulators are installed.

    \b
    midge targets
    """
    from midge.report.tables import make_console, make_table

    rows = [(t.name, t.cpu, sorted(t.features), list(t.flags), t.board, t.note) for t in TARGETS.values()]
    tools = [_look_for(name) for name in dict.fromkeys([*(f"{t.prefix}gcc" for t in TARGETS.values()), "qemu-system-arm"])]
    if as_json:
        names = ("name", "cpu", "features", "flags", "board", "note")
        print_json({"targets": [dict(zip(names, row, strict=True)) for row in rows], "tools": tools})
        return
    console = make_console()
    shown = [(name, cpu, " ".join(features), " ".join(flags), board or "none", note) for name, cpu, features, flags, board, note in rows]
    console.print(make_table("targets", ("target", "cpu", "features", "compiler flags", "emulated board", "note"), shown))
    console.print(make_table("tools", ("tool", "where"), [(tool["name"], tool["path"] or tool["missing"]) for tool in tools]))


def _look_for(name: str) -> dict[str, str | None]:
    """A tool's path, or what to install."""
    from midge.toolchain import find_tool

    try:
        return {"name": name, "path": find_tool(name), "missing": None}
    except ToolMissing as error:
        return {"name": name, "path": None, "missing": str(error).removeprefix(f"{name}: ")}


@main.command()
@JSON
def ops(as_json: bool) -> None:
    """List the ONNX operators midge offers, by the file that has their formulas.

    \b
    midge ops
    midge ops --json
    """
    from midge.report.tables import make_console, make_table, operator_rows

    rows = operator_rows()
    if as_json:
        print_json({"operators": [dict(zip(("family", "operator", "domain", "what"), row, strict=True)) for row in rows]})
        return
    make_console().print(make_table(f"{len(rows)} operators", ("family", "operator", "domain", "what"), rows))
