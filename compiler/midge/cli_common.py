# SPDX-License-Identifier: Apache-2.0
"""What the commands of cli.py share: errors as exit codes, options that several have, a progress bar, writing files."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from midge.errors import MidgeError, UsageError

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


def _fail(message: str, code: int) -> NoReturn:
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
FORM = (
    click.option(
        "--weights", type=click.Choice(["int8", "int4"]), help="Store large layers' weights in 8 bits (int8, the default) or 4 (int4); outputs change."
    ),
    click.option("--input-layout", type=click.Choice(["model", "nhwc"]), help="Take inputs as the model has them, or NHWC where it has NCHW (PyTorch)."),
    click.option("--output-layout", type=click.Choice(["model", "nhwc"]), help="Give outputs as the model has them, or NHWC where it has NCHW."),
)
COMPILE = (
    click.option("--numerics", type=click.Choice(["onnx", "tflite"]), help="Round as ONNX Runtime (onnx, the default) or as TFLite Micro (tflite)."),
    click.option(
        "--optimize",
        type=click.Choice(["size", "ram", "balanced", "speed"]),
        help="Take portable kernels only (size), the fastest that store no more weights than the model has (balanced, the default), or any (speed), and save "
        "the RAM that costs no time; or the kernels of balanced in the least RAM (ram).",
    ),
    click.option("--ram", type=click.IntRange(min=1), metavar="BYTES", help="Keep the arena within so many bytes, at the cost of time where needed."),
    click.option("--flash", type=click.IntRange(min=1), metavar="BYTES", help="Choose kernels that keep code and constants within so many bytes."),
    click.option("--cycles", type=click.IntRange(min=1), metavar="N", help="Fail, with ways out, if a run is estimated to take more cycles."),
    click.option("--schedule", type=click.Choice(["rows", "layers"]), help="Compute rows of several layers in turn (rows, the default), or layer by layer."),
    click.option("--memory", metavar="dtcm:64K@fast,sram:256K", help="The memories there are: what is touched most often goes to the fast ones."),
    click.option("--stream-input", is_flag=True, default=None, help="Take the input row by row through NAME_push_rows; it is never in RAM as a whole."),
    click.option(
        "--stream-output", is_flag=True, default=None, help="Hand output rows to a function of the caller's as they come; they are never in RAM as a whole."
    ),
    click.option("--stepwise", is_flag=True, default=None, help="Let a run be done in parts, by NAME_step(arena, budget), for loops with other work."),
    *FORM,
    click.option("--costs", metavar="CSV", help="Measured costs of kernels, made by `midge tune`, to choose by."),
    click.option("--require-fast", is_flag=True, default=None, help="Fail if a layer is left to a portable kernel on a core that has better."),
    click.option("--keep-dead-channels", is_flag=True, default=None, help="Compute channels, too, that no output can depend on."),
    click.option("--io", type=click.Choice(["quantized", "model"]), help="Ports take the network's integers (quantized) or the model's own types."),
)


def with_options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, shown by --help in this order."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, indent=1, allow_nan=False))


def only_given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given: those left out keep the defaults of midge.api."""
    return {name: value for name, value in options.items() if value is not None and value != {}}


@contextlib.contextmanager
def progress_bar(what: str, *, show: bool) -> Iterator[Progress]:
    """A function (done, total) that moves a bar on the standard error if that is a terminal."""
    if not show or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import Progress as Bar

    from midge.report.tables import make_console

    with Bar(console=make_console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises: UsageError if it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(data)
        fresh.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None
