# SPDX-License-Identifier: Apache-2.0
"""The pictures of the arena say what the Program says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_support import Page, residual, samples_of

import midge
from midge.codegen.c import emit
from midge.program import Program
from midge.report.arena_picture import HEIGHT, STATE_NBYTES, TOP, blocks, svg, terminal, ticks
from midge.schedule.timeline import used

RECTANGLE = re.compile(r"M([\d.]+) ([\d.]+)V([\d.]+)H([\d.]+)V\2z")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model r.onnx and samples.npy."""
    place = tmp_path_factory.mktemp("pictures")
    samples_of(place)
    residual(place / "r.onnx")
    return place


@pytest.fixture(scope="module")
def library(folder: Path) -> midge.Library:
    return midge.compile(folder / "r.onnx", calibration=folder / "samples.npy", name="net")


def rectangles(picture: str) -> list[tuple[float, float, float, float]]:
    """(left, right, first byte, byte after the last) of everything drawn as a block, in the unit of bytes again."""
    arena = float(re.findall(r'data-arena-bytes="(\d+)"', picture)[0])
    bottom = max(float(y) for y in re.findall(r'<path d="M62 ([\d.]+)H', picture))
    scale = arena / (bottom - TOP)
    drawn = "".join(re.findall(r'<g class="block">.*?</title><path d="([^"]*)"', picture))
    return [(float(x), float(to), (bottom - float(y)) * scale, (bottom - float(top)) * scale) for x, y, top, to in RECTANGLE.findall(drawn)]


@pytest.mark.parametrize("options", [{}, {"schedule": "layers"}, {"optimize": "ram", "stream_input": True}], ids=["rows", "layers", "stream"])
def test_the_picture_of_the_arena_is_the_plan(folder: Path, options: dict[str, Any]) -> None:
    """What is drawn ends where the header says the arena ends, and adds up at the peak to the bytes in use there."""
    program = midge.compile(folder / "r.onnx", calibration=folder / "samples.npy", name="net", **options).program
    picture, header = svg(program), emit(program)["src/net.h"]
    assert f'data-arena-bytes="{re.findall(r"NET_ARENA_BYTES ([0-9]+)u", header)[0]}"' in picture
    highest = max(block.offset + block.nbytes for block in blocks(program))
    assert highest <= program.arena_nbytes < highest + program.arena_align
    drawn, tolerance = rectangles(picture), program.arena_nbytes / (HEIGHT - TOP)
    assert len(drawn) == len(blocks(program))
    assert max(top for *_, top in drawn) == pytest.approx(highest, abs=tolerance)
    peak = re.findall(r'class="peak" d="M([\d.]+) ', picture)
    assert len(peak) == 1
    alive = [(bottom, top) for left, right, bottom, top in drawn if left < float(peak[0]) < right]
    cells = {byte for bottom, top in alive for byte in range(round(bottom), round(top))}
    state = STATE_NBYTES if program.state_offset >= 0 else 0
    assert len(cells) == pytest.approx(max(used(program)) + state, rel=0.02)
    assert used(program)[program.peak_step] == max(used(program)) <= program.lower_bound <= program.arena_nbytes
    bound_line = re.findall(r'class="lower-bound" d="M\S+ ([\d.]+)H', picture)
    assert len(bound_line) == 1 and f"lower bound {program.lower_bound:,}" in picture
    Page(picture)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_picture_for_a_terminal(library: midge.Library, width: int) -> None:
    lines = terminal(library.program, width).splitlines()
    assert max(map(len, lines)) <= width and lines[0].lstrip().startswith("address")
    grid = "".join(line.split()[-1] for line in lines[1:21])
    assert {"#", *map(str, range(len(library.program.layers)))} >= set(grid) - {".", "%", "_"} and "#" in grid
    assert any(line.strip() == "^" for line in lines)


def test_ticks_are_round_and_few() -> None:
    for top in (1, 7, 12, 99, 490, 5924, 98304, 2_000_000):
        found = ticks(top)
        assert found[0] == 0 and found[-1] <= top and 2 <= len(found) <= 9
        assert str(found[1]).rstrip("0") in ("1", "2", "5")


def test_blocks_join_neighbouring_rows(library: midge.Library) -> None:
    """The same bytes are taken at every step as before joining."""
    program: Program = library.program
    taken = [np.zeros(program.arena_nbytes, bool) for _ in program.steps]
    for block in blocks(program):
        for step in range(max(block.first, 0), min(block.last, len(taken) - 1) + 1):
            taken[step][block.offset : block.offset + block.nbytes] = True
    assert [int(each.sum()) for each in taken] == used(program)
