# SPDX-License-Identifier: Apache-2.0
"""midge verify: the options, where the library comes from, and what is printed of the result."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from midge.cli_common import CALIBRATION, COMPILE, JSON, SHAPES, only_given, print_json, progress_bar, with_options
from midge.errors import UsageError, VerifyFailed
from midge.targets import TARGETS


@dataclass(frozen=True)
class _Request:
    """What to run and compare, and where."""

    on: str
    target: str | None
    data: str | None
    samples: int
    layers: bool
    sanitize: bool
    real_time: float | None
    as_json: bool


def _place(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    if value in ("host", "qemu") or value.startswith("serial:"):
        return value
    raise click.BadParameter(f"'{value}': wanted host, qemu, or serial:PORT, for example serial:/dev/ttyACM0:115200", ctx, parameter)


@click.command()
@click.argument("model", metavar="MODEL|DIR")
@click.option(
    "--on",
    metavar="host|qemu|serial:PORT[:BAUD]",
    callback=_place,
    default="host",
    show_default=True,
    help="Where to run the code: here, on an emulated core, or on a board that holds it (see `midge board`).",
)
@click.option("--target", type=click.Choice(list(TARGETS)), help="Which core; by default the one DIR was compiled for, cortex-m4 for a model.")
@click.option("--data", metavar="X.npz", help="Inputs to run: a .npz or .npy, integers as they are or floats to be quantized. Random ones by default.")
@click.option("--samples", type=click.IntRange(1, 10_000), default=3, show_default=True, help="How many samples to run: the first of the data.")
@click.option("--layers/--no-layers", default=True, show_default=True, help="Compare every layer, or the outputs only, which is less to send.")
@click.option("--sanitize", is_flag=True, help="Build with AddressSanitizer and UndefinedBehaviorSanitizer (host only).")
@click.option(
    "--real-time",
    type=click.FloatRange(min=0, min_open=True),
    metavar="HZ",
    help="Send samples to a board at this rate; report missed deadlines, jitter and load, and compare outputs.",
)
@with_options(*CALIBRATION, *COMPILE, *SHAPES, JSON)
def verify(
    model: str,
    on: str,
    target: str | None,
    data: str | None,
    samples: int,
    layers: bool,
    sanitize: bool,
    real_time: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Run compiled code and compare every byte of every layer with what the model says; exit code 5 if any differs.

    MODEL is an ONNX file, which is compiled into a temporary folder; DIR is a folder written by midge compile.

    \b
    midge verify kws_lib
    midge verify kws_lib --on qemu --data samples.npz --samples 10
    midge verify kws_int8.onnx --on qemu --target cortex-m0
    midge verify kws_lib --on serial:/dev/ttyACM0 --real-time 25 --samples 250
    """
    request = _Request(on, target, data, samples, layers, sanitize, real_time, as_json)
    if sanitize and on != "host":
        raise UsageError("--sanitize: the sanitizers run on the host only; use --on host")
    if real_time is not None and on in ("host", "qemu"):
        raise UsageError(f"--real-time: time on {on} is not a board's; use --on serial:PORT")
    given = only_given(options)
    if Path(model).is_dir():
        if given:
            option = "shape" if "shapes" in given else next(iter(given))
            raise UsageError(f"--{option}: '{model}' is compiled already; give the model itself, or leave the option out")
        _verify_all(Path(model), request)
        return
    from midge import api

    with tempfile.TemporaryDirectory(prefix="midge-verify-") as folder, progress_bar("calibrating", show=not as_json) as progress:
        library = api.compile(model, target=target or "cortex-m4", **given, progress=progress)
        library.write(Path(folder) / "library")
        _verify_all(Path(folder) / "library", request)


def _verify_all(directory: Path, request: _Request) -> None:
    """Verify a written library, or each model of a linked image.

    Raises: VerifyFailed naming the first layer that differs, UsageError for what needs one model.
    """
    from midge.link import folders

    with folders(directory) as parts:
        if len(parts) > 1 and (request.data is not None or request.on.startswith("serial:")):
            raise UsageError(
                f"{'--data' if request.data is not None else '--on serial'}: '{directory}' is an image of several models; compile and verify the one"
            )
        found = {}
        for part in parts:
            if len(parts) > 1 and not request.as_json:
                click.echo(f"model {part.name}:")
            found[part.name] = _verify(part, request)
    if request.as_json:
        print_json({"models": {name: facts for name, (facts, _) in found.items()}} if len(found) > 1 else next(iter(found.values()))[0])
    wrong = [f"{name}: {text}" if len(found) > 1 else text for name, (_, text) in found.items() if text]
    if wrong:
        raise VerifyFailed("\n".join(wrong))


def _verify(directory: Path, request: _Request) -> tuple[dict[str, Any], str]:
    """Verify a written library and print what came of it, unless as JSON: (that, what is wrong)."""
    from midge.codegen.manifest import load_manifest
    from midge.codegen.reference import load_reference
    from midge.report.tables import make_console
    from midge.report.verification import print_verification, verification_dict
    from midge.run.samples import load_samples, random_samples
    from midge.run.verify import verify as verify_library

    layers, graph = load_manifest(directory)["layers"], load_reference(directory)
    feeds = random_samples(graph, request.samples) if request.data is None else load_samples(Path(request.data), graph, request.samples)
    if request.real_time is not None and len(feeds) < request.samples:
        feeds = [feeds[i % len(feeds)] for i in range(request.samples)]
    found = verify_library(directory, feeds, on=request.on, target=request.target, sanitize=request.sanitize, layers=request.layers, hertz=request.real_time)
    if not request.as_json:
        print_verification(make_console(), found, layers)
    if found.changed:
        files = f"not as midge wrote them: {', '.join(found.changed)}"
        click.echo(f"warning: {files}" if request.as_json else f"{files}; the result is about what ran, not about what midge wrote", err=request.as_json)
    return verification_dict(found, layers), found.wrong
