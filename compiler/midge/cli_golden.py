# SPDX-License-Identifier: Apache-2.0
"""The options of `midge compile` that add a test bench to the library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from midge.errors import UsageError

if TYPE_CHECKING:
    from midge.api import Library

GOLDEN = (
    click.option("--golden", is_flag=True, help="Add test/: inputs, outputs and sums of layers as C, and a program that compares them on any target."),
    click.option("--test-data", metavar="X.npz", help="Inputs for test/ (which this asks for, too); by default random ones, chosen for what layers give."),
    click.option(
        "--test-samples", type=click.IntRange(1, 1000), metavar="N", help="How many samples test/ holds: the first of the data (2 to 8, those in 4 KB)."
    ),
)


def test_files(library: Library, golden: bool, data: str | None, samples: int | None) -> dict[str, str]:
    """The files of test/ if they were asked for. How many samples they hold, and which layers those cannot judge, is said on the standard error.

    Raises: UsageError for data that do not fit the model.
    """
    from midge.run.choose import constant_layers, default_count, telling_samples
    from midge.run.golden import golden_files
    from midge.run.samples import load_samples

    if not golden and data is None:
        if samples is not None:
            raise UsageError("--test-samples: there is no test to hold them; add --golden, or --test-data with inputs of your own")
        return {}
    program, graph = library.program, library.graph
    count = samples or default_count(graph)
    feeds = telling_samples(program, graph, count) if data is None else load_samples(Path(data), graph, count)
    short = f": {data} has no more, {samples} were asked for" if samples and len(feeds) < samples else ""
    _say(f"test/ holds {len(feeds)} {'sample' if len(feeds) == 1 else 'samples'}{short}")
    names = {layer.index: layer.name for layer in program.layers}
    for index in constant_layers(program, graph, feeds):
        more = "give --test-data" if data is None else "give other samples or more"
        _say(f"warning: test/: layer {index} '{names[index]}' gives one value only, so faults in it may not show; {more}")
    return golden_files(program, graph, feeds)


def _say(text: str) -> None:
    from midge.report.tables import printable

    click.echo(printable(text), err=True)
