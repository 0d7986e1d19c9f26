# SPDX-License-Identifier: Apache-2.0
"""The command line: reads options, calls midge.api and midge.run, and prints. Tables go to the standard output, errors and progress to the standard error."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from midge import __version__
from midge.errors import MidgeError, ToolMissing, UsageError, VerifyFailed
from midge.targets import TARGETS, get_target

BUG = 70
INTERRUPTED = 130
DEBUG = "MIDGE_DEBUG"
F = TypeVar("F", bound=Callable[..., Any])
Progress = Callable[[int, int], None]


class Commands(click.Group):
    """A group whose commands end with the exit code of the error they raise. Anything but a MidgeError is a bug, shown in full if MIDGE_DEBUG is set."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MidgeError as error:
            _fail(f"error: {error}", error.exit_code)
        except KeyboardInterrupt:
            _fail("interrupted", INTERRUPTED)
        except Exception as error:
            expected = isinstance(error, click.ClickException | click.exceptions.Exit | click.Abort) or getattr(error, "errno", None) == errno.EPIPE
            if expected or os.environ.get(DEBUG):
                raise
            _fail(f"midge has a bug: {type(error).__name__}: {error} (set {DEBUG}=1 to see where)", BUG)


def _fail(message: str, code: int) -> None:
    from midge.report.tables import printable

    click.echo(printable(message, keep="\n"), err=True)
    raise click.exceptions.Exit(code)


def _parse_shapes(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """--shape name=1,3,32,32 as {name: (1, 3, 32, 32)}."""
    shapes = {}
    for value in values:
        name, _, dims = value.rpartition("=")
        if not name or not all(dim.strip().isdecimal() and dim.isascii() and len(dim) < 10 for dim in dims.split(",")):
            raise click.BadParameter(f"'{value}': wanted an input's name and its shape, for example image=1,3,32,32", ctx, parameter)
        shapes[name] = tuple(int(dim) for dim in dims.split(","))
    return shapes


JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else on the standard output.")
SHAPES = (
    click.option("--shape", "shapes", multiple=True, metavar="NAME=1,3,32,32", callback=_parse_shapes, help="Fix the open dimensions of an input."),
    click.option("--batch", type=int, metavar="N", help="Batch size to compile for; 1 replaces a larger one of the model."),
)
CALIBRATION = (
    click.option("--calibration", metavar="DATA", help="Representative inputs for a float model: a .npz, a .npy, or a folder of them."),
    click.option("--observer", type=click.Choice(["minmax", "percentile", "mse"]), help="How ranges are chosen from the calibration data (minmax)."),
)
COMPILE = (
    click.option("--numerics", type=click.Choice(["onnx", "tflite"]), help="Round as ONNX Runtime (onnx, the default) or as TFLite Micro (tflite)."),
    click.option("--io", type=click.Choice(["quantized", "model"]), help="Ports take the network's integers (quantized) or the model's own types."),
)


def _options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, shown by --help in this order."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


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


@main.command()
@click.argument("model")
@_options(*SHAPES, JSON)
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
        _print_json(found.as_dict())
    else:
        print_inspection(make_console(), found)
    if found.error is not None:
        raise found.error


@main.command()
@click.argument("model")
@_options(*CALIBRATION)
@click.option("-o", "--output", required=True, metavar="OUT.onnx", help="File to write.")
@_options(*SHAPES, JSON)
def quantize(model: str, output: str, as_json: bool, **options: Any) -> None:
    """Quantize MODEL to int8 and write it as a standard QDQ ONNX model, which other tools read too.

    \b
    midge quantize kws.onnx --calibration samples.npz -o kws_int8.onnx
    """
    from midge.api import quantized_graph
    from midge.importers.onnx_export import write_qdq
    from midge.report.tables import make_console, make_table

    used = 0
    with _progress("calibrating", show=not as_json) as show:

        def progress(done: int, total: int) -> None:
            nonlocal used
            used = total
            show(done, total)

        graph = quantized_graph(model, **_given(options), progress=progress)
    data = write_qdq(graph).SerializeToString()
    _write_file(Path(output), data)
    layers = [{"name": node.name, "kind": node.op.kind, "output": str(graph.type(node.outputs[0]))} for node in graph.nodes]
    if as_json:
        _print_json({"output": output, "nbytes": len(data), "samples": used, "layers": layers})
        return
    console = make_console()
    console.print(make_table("quantized layers", ("#", "layer", "operator", "output (NHWC)"), [(i, *layer.values()) for i, layer in enumerate(layers)]))
    console.print(f"{used} samples used; {output}: {len(data):,} bytes")


@main.command()
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder to write the library to; one that midge wrote is replaced.")
@click.option("--target", type=click.Choice(list(TARGETS)), default="cortex-m4", show_default=True, help="What to compile for; `midge targets` has the list.")
@click.option("--name", help="Name of the library and prefix of its C symbols; by default that of the model's file.")
@_options(*CALIBRATION, *COMPILE, *SHAPES, JSON)
def compile(model: str, output: str, target: str, as_json: bool, **options: Any) -> None:
    """Compile MODEL to a C library.

    \b
    midge compile kws_int8.onnx -o kws_lib --target cortex-m4
    midge compile kws.onnx --calibration samples.npz -o kws_lib --name kws
    """
    from midge import api
    from midge.report.tables import make_console, print_report

    with _progress("calibrating", show=not as_json) as progress:
        library = api.compile(model, target=target, **_given(options), progress=progress)
    library.write(output)
    report, build = library.report(), _build_command(output, target)
    if as_json:
        _print_json({"output": output, "header": f"src/{report.name}.h", "build": build, **report.as_dict()})
        return
    console = make_console()
    print_report(console, report)
    upper, program = report.name.upper(), library.program
    lines = [f'/* #include "{report.name}.h"; int8_t arena[{upper}_ARENA_BYTES] aligned to {upper}_ARENA_ALIGN bytes */']
    lines += [f"memcpy({report.name}_input_{i}(arena), input_{i}, {upper}_INPUT_{i}_BYTES);" for i in range(len(program.inputs))]
    lines += [f"int error = {report.name}_run(arena);"]
    lines += [f"const {port.type.dtype.c} *output_{i} = {report.name}_output_{i}(arena);" for i, port in enumerate(program.outputs)]
    for text in ("", f"written to {output}; to call it:", "", *(f"    {line}" for line in lines), "", "to build it:", "", f"    {build}"):
        click.echo(text)


@main.command()
@click.argument("model", metavar="MODEL|DIR")
@click.option("--on", type=click.Choice(["host", "qemu"]), default="host", show_default=True, help="Where to run the code: here, or on an emulated core.")
@click.option("--target", type=click.Choice(list(TARGETS)), help="Which core; by default the one DIR was compiled for, cortex-m4 for a model.")
@click.option("--data", metavar="X.npz", help="Inputs to run: a .npz or .npy, integers as they are or floats to be quantized. Random ones by default.")
@click.option("--samples", type=click.IntRange(1, 10_000), default=3, show_default=True, help="How many samples to run: the first of the data.")
@click.option("--sanitize", is_flag=True, help="Build with AddressSanitizer and UndefinedBehaviorSanitizer (host only).")
@_options(*CALIBRATION, *COMPILE, *SHAPES, JSON)
def verify(model: str, on: str, target: str | None, data: str | None, samples: int, sanitize: bool, as_json: bool, **options: Any) -> None:
    """Run compiled code and compare every byte of every layer with what the model says; exit code 5 if any differs.

    MODEL is an ONNX file, which is compiled into a temporary folder; DIR is a folder written by midge compile.

    \b
    midge verify kws_lib
    midge verify kws_lib --on qemu --data samples.npz --samples 10
    midge verify kws_int8.onnx --on qemu --target cortex-m0
    """
    if sanitize and on != "host":
        raise UsageError("--sanitize: the sanitizers run on the host only; use --on host")
    given = _given(options)
    if Path(model).is_dir():
        if given:
            raise UsageError(f"--{next(iter(given)).rstrip('s')}: '{model}' is compiled already; give the model itself, or leave the option out")
        _verify(Path(model), on, target, data, samples, sanitize, as_json)
        return
    from midge import api

    with tempfile.TemporaryDirectory(prefix="midge-verify-") as folder, _progress("calibrating", show=not as_json) as progress:
        library = api.compile(model, target=target or "cortex-m4", **given, progress=progress)
        library.write(Path(folder) / "library")
        _verify(Path(folder) / "library", on, target, data, samples, sanitize, as_json)


def _verify(directory: Path, on: str, target: str | None, data: str | None, samples: int, sanitize: bool, as_json: bool) -> None:
    """Verify a written library and print what came of it.

    Raises: VerifyFailed naming the first layer that differs.
    """
    from midge.codegen.manifest import load_manifest
    from midge.codegen.reference import load_reference
    from midge.report.tables import layer_state, make_console, print_verification
    from midge.run.samples import load_samples, random_samples
    from midge.run.verify import verify as verify_library

    layers, graph = load_manifest(directory)["layers"], load_reference(directory)
    feeds = random_samples(graph, samples) if data is None else load_samples(Path(data), graph, samples)
    found = verify_library(directory, feeds, on=on, target=target, sanitize=sanitize)
    if as_json:
        counts = found.layer_instructions or {}
        lines = [
            {**{key: layer[key] for key in ("index", "name", "kind", "nbytes")}, "state": layer_state(found, layer["index"]), "instructions_under_qemu": counts.get(layer["index"])}
            for layer in layers
        ]
        _print_json(
            {
                **{key: getattr(found, key) for key in ("on", "target", "samples", "bytes_compared", "exact", "changed", "stack_bytes")},
                "instructions_under_qemu": found.instructions,
                "difference": None if found.difference is None else vars(found.difference),
                "layers": lines,
            }
        )
    else:
        print_verification(make_console(), found, layers)
    if found.changed:
        click.echo(f"warning: not as midge wrote them: {', '.join(found.changed)}", err=True)
    if found.difference is not None:
        raise VerifyFailed(f"{found.difference}; nothing before it differs")
