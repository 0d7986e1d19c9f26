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
    click.option("--test-data", metavar="X.npz", help="Inputs for test/ (which this asks for, too); random ones by default."),
    click.option("--test-samples", type=click.IntRange(1, 1000), metavar="N", help="How many samples test/ holds (2): the first of the data."),
)


def test_files(library: Library, golden: bool, data: str | None, samples: int | None) -> dict[str, str]:
    """The files of test/ if they were asked for.

    Raises: UsageError for data that do not fit the model.
    """
    from midge.run.golden import SAMPLES, golden_files
    from midge.run.samples import load_samples, random_samples

    if not golden and data is None:
        if samples is not None:
            raise UsageError("--test-samples: there is no test to hold them; add --golden, or --test-data with inputs of your own")
        return {}
    count = samples or SAMPLES
    feeds = random_samples(library.graph, count) if data is None else load_samples(Path(data), library.graph, count)
    return golden_files(library.program, library.graph, feeds)
