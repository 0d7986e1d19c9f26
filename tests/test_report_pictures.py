# SPDX-License-Identifier: Apache-2.0
"""The pictures of a report say what the Program and its Graph say, and can be read."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_support import Page, residual, samples_of

import midge
from midge.codegen.c import emit
from midge.program import Program
from midge.report import diagram, front_picture
from midge.report.arena_picture import BOTTOM, HEIGHT, TOP, figure, svg, terminal, ticks
from midge.report.blocks import PALETTE, PORT_COLOUR, Block, blocks, colours
from midge.report.markup import breadth, fitted, fitted_names, short_names, table
from midge.report.signals import constant_lines, constants, signals, signals_table
from midge.report.style import CSS
from midge.schedule.rows import STATE_NBYTES
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


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as WCAG defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return sum(k * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for k, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_stand_out_from_paper_lines_and_numbers() -> None:
    papers = re.findall(r"--paper: (#[0-9a-f]+);", CSS)
    assert len(set(papers)) == 2
    for colour in (*PALETTE, PORT_COLOUR):
        assert all(contrast(colour, paper.ljust(7, paper[-1])) >= 3 for paper in papers), colour
        assert contrast(colour, "#000000") >= 3 and contrast(colour, "#111111") >= 4.5, colour


def test_blocks_that_meet_have_different_colours() -> None:
    """As many at once as there are colours; and a long chain, in which only neighbours meet, in time or in address."""
    at_once = [Block(f"b{i}", i, False, 100 * i, 50, 0, 3) for i in range(len(PALETTE))]
    assert len(set(colours(at_once).values())) == len(PALETTE) + 1
    for chain in ([Block(f"b{i}", i, False, 0, 50, i, i) for i in range(40)], [Block(f"b{i}", i, False, 50 * i, 50, 0, 0) for i in range(40)]):
        found = colours(chain)
        assert all(found[i] != found[i + 1] for i in range(39))
    far = [Block("a", 0, False, 0, 50, 0, 0), *(Block(f"b{i}", i, False, 0, 50, 9 * i, 9 * i + 1) for i in range(1, len(PALETTE) + 1))]
    assert colours(far)[len(PALETTE)] == colours(far)[0] and colours([]) == {-1: PORT_COLOUR}


@pytest.mark.parametrize("options", [{}, {"optimize": "ram", "stream_input": True}], ids=["rows", "stream"])
def test_no_text_lies_on_blocks_but_their_numbers(folder: Path, options: dict[str, Any]) -> None:
    library = midge.compile(folder / "r.onnx", calibration=folder / "samples.npy", name="net", **options)
    picture = svg(library.program)
    texts = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)"[^>]*>([^<]*)</text>', picture)
    assert {"step", "address"} < {text for *_, text in texts}
    boxes = []
    for x, y, anchor, text in texts:
        width = 12 * breadth(text)
        left = float(x) - {"start": 0, "middle": width / 2, "end": width}[anchor]
        boxes.append((left, left + width, float(y) - 9, float(y) + 2, text))
        if text in ("step", "address") or any(word in text for word in ("arena", "bound", "peak", "in use")):
            assert float(y) < TOP or float(y) > HEIGHT - BOTTOM
    for i, (left, right, top, bottom, text) in enumerate(boxes):
        for other in boxes[i + 1 :]:
            assert right <= other[0] or other[1] <= left or bottom <= other[2] or other[3] <= top, (text, other[4])
    shown = {text for *_, text in texts}
    legend = figure(library.program).partition('<ul class="legend">')[2]
    for layer in library.program.layers:
        assert (str(layer.index) in shown) != (f"</span>{layer.index} {layer.kind}, steps " in legend), layer


def test_every_picture_has_a_title_and_a_sentence(library: midge.Library) -> None:
    pictures = [figure(library.program), diagram.draw(library.graph, library.program), front_picture.svg([("rows", 10, 20), ("layers", 30, 10)], True)]
    for picture in pictures:
        parsed = Page(picture)
        assert len(parsed.all("desc")) == len(parsed.all("svg")) == len(re.findall(r"</title>\s*<desc>", picture)) > 0
        assert re.findall(r"<desc>([^<]{30,}\.)</desc>", picture)
    for markup in (*pictures[:2], table([("a", ""), ("b", "n")], [])):
        assert re.findall(r'role="region" aria-label="[^"]+" tabindex="0"', markup)


def test_the_diagram_has_every_type_and_stays_in_its_frames(library: midge.Library) -> None:
    drawn = diagram.draw(library.graph, library.program)
    frames = re.findall(r'<svg class="band" viewBox="(\S+) 0 (\S+) (\S+)".*?</svg>', drawn, re.S)
    assert frames
    for band in drawn.split("<svg ")[1:]:
        left, width, height = (float(value) for value in re.findall(r'viewBox="(\S+) 0 (\S+) (\S+)"', band)[0])
        places = [tuple(map(float, found)) for found in re.findall(r'<rect x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)" rx="5"', band)]
        assert places and all(left <= x and x + w <= left + width and y >= 0 and y + h <= height for x, y, w, h in places)
        assert min(x for x, *_ in places) - left <= 2 * diagram.PAD and height <= diagram.TALL + 2 * diagram.BETWEEN
    lines = [line for node in library.graph.nodes for line in constant_lines(library.graph, node)]
    assert "weights s8 8×3×3×3" in lines and "bias s32 8" in lines and any(re.fullmatch(r"8 scales \S+ to \S+", line) for line in lines)
    assert all(f">{line}</text>" in drawn for line in lines)


def test_inputs_of_late_layers_stand_just_above_them() -> None:
    chain = [diagram.Point(0, ("in",)), diagram.Point(0, ("late",)), *(diagram.Point(i + 1, ("n",), above=[0 if i == 0 else i + 1]) for i in range(4))]
    chain.append(diagram.Point(5, ("join",), above=[5, 1]))
    found = diagram.sunk(chain)
    assert [point.rank for point in found] == [0, 4, 1, 2, 3, 4, 5]
    assert all(any(point.rank == rank for point in found) for rank in range(6))


def test_constants_are_signals_with_all_their_scales(library: midge.Library) -> None:
    found = {signal.name: signal for signal in constants(library.graph)}
    read = {name for node in library.graph.nodes for name in node.inputs if library.graph.is_constant(name)}
    assert set(found) == read and read and not read & {signal.name for signal in signals(library.graph)}
    for name, signal in found.items():
        kind = library.graph.type(name)
        assert (signal.producer, signal.shape, signal.dtype) == ("constant", kind.shape, kind.dtype.value) and signal.readers
        assert kind.quant is not None and (signal.scales or (signal.scale,)) == kind.quant.scale and signal.axis == kind.quant.axis
    text = signals_table(signals(library.graph), constants(library.graph))
    assert all(f">{name}<" in text for name in found)


def test_long_names_stay_apart_and_inside_their_boxes() -> None:
    names = [
        f"functional_1/activation_{i}/Relu;functional_1/batch_normalization_{i}/FusedBatchNormV3;functional_1/conv2d_{i}/BiasAdd_prequant" for i in range(9)
    ]
    short = short_names([*names, "Identity_prequant"])
    assert short["Identity_prequant"] == "Identity_prequant" and all(short[name].startswith("activation_") for name in names)
    assert len({fitted(short[name], 17) for name in names}) == len(names)
    alike = [f"Net/Conv2d_{i}_{kind}/Relu6_prequantized" for i in range(12) for kind in ("depthwise", "pointwise")] + ["Net/Pool/Max", "Net/Conv2d_0"]
    assert len(set(fitted_names(alike, 16).values())) == len(alike) and all(breadth(text) <= 16 for text in fitted_names(alike, 16).values())
    assert fitted_names(["Net/Pool/Max", "Net/Conv/Add"], 16) == {"Net/Pool/Max": "Pool/Max", "Net/Conv/Add": "Conv/Add"}
    assert short_names(["a/b/x", "a/b/y"]) == {"a/b/x": "x", "a/b/y": "y"} and short_names(["a/b"]) == {"a/b": "a/b"}
    for text in ("W" * 99, "\u202e" * 99, "測" * 99, "<&>" * 33, "i" * 99):
        assert breadth(fitted(text, 17)) <= 17 and "…" in fitted(text, 17)
        assert breadth(fitted(text, 17)) > 14
    assert fitted("conv1", 17) == "conv1" and all(breadth(a) < breadth(b) for a, b in pairwise(("i", "a", "W")))
