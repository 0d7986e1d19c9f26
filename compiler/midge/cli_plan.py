# SPDX-License-Identifier: Apache-2.0
"""midge plan: RAM against time, and the arena over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from midge.cli_common import CALIBRATION, FORM, JSON, SHAPES, only_given, print_json, progress_bar, with_options, write_file
from midge.targets import TARGETS

WIDTH = 100  # columns of the picture where the output is no terminal


@click.command()
@click.argument("model")
@click.option("--target", type=click.Choice(list(TARGETS)), default="cortex-m4", show_default=True, help="What to plan for.")
@click.option("--numerics", type=click.Choice(["onnx", "tflite"]), help="Round as ONNX Runtime (onnx, the default) or as TFLite Micro (tflite).")
@click.option("--optimize", type=click.Choice(["size", "balanced", "speed"]), help="Which kernels to plan with; balanced by default.")
@click.option("--stream-input", is_flag=True, default=None, help="Plan for an input that comes row by row.")
@click.option("--stream-output", is_flag=True, default=None, help="Plan for outputs that are handed out row by row.")
@click.option("--keep-dead-channels", is_flag=True, default=None, help="Compute channels, too, that no output can depend on.")
@click.option("--no-measure", "measure", is_flag=True, default=True, flag_value=False, help="Do not count instructions under QEMU.")
@click.option("--svg", metavar="FILE.svg", help="Write the arena over time of the schedule of least RAM as a picture.")
@click.option("--front", "front_svg", metavar="FILE.svg", help="Write RAM against instructions as a picture.")
@with_options(*FORM, *CALIBRATION, *SHAPES, JSON)
def plan(model: str, target: str, svg: str | None, front_svg: str | None, as_json: bool, **options: Any) -> None:
    """Show what RAM MODEL can do with, and what less RAM costs in time.

    The first line runs layer by layer; the others compute rows of several layers in turn. Take one with `midge compile --ram BYTES`.

    \b
    midge plan kws_int8.onnx
    midge plan kws_int8.onnx --stream-input --svg arena.svg --front front.svg
    """
    from midge.front import front
    from midge.report import arena_picture, front_picture
    from midge.report.tables import make_console, make_table

    with progress_bar("planning", show=not as_json) as progress:
        points = front(model, target=target, progress=progress, **only_given(options))
    least, counted = points[-1].program, all(point.instructions is not None for point in points)
    dots = [(p.name, p.program.arena_nbytes, (p.instructions or 0) if counted else len(p.program.steps)) for p in points]
    for path, picture in ((svg, arena_picture.svg(least)), (front_svg, front_picture.svg(dots, counted))):
        if path is not None:
            write_file(Path(path), picture.encode())
    if as_json:
        print_json({"target": target, "points": [point.as_dict() for point in points]})
        return
    console = make_console()
    rows = [(p.name, p.program.arena_nbytes, p.program.lower_bound, len(p.program.steps), p.instructions) for p in points]
    console.print(make_table(f"RAM of {model} on {target}", ("schedule", "bytes", "no less than", "steps", "instructions under QEMU"), rows))
    console.print(f"the arena of {least.arena_nbytes:,} bytes over its {len(least.steps)} steps:")
    console.print(arena_picture.terminal(least, min(console.width, WIDTH)))
