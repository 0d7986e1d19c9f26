# SPDX-License-Identifier: Apache-2.0
"""The arena over time as a picture: steps to the right, addresses upwards; what lies where and when, the peak step, and the lower bound.

`svg` is for pages and files, `terminal` for a console. Both draw what midge.schedule.timeline says, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from midge.program import Layer, Program
from midge.report.markup import escape, number, shortened, tag
from midge.schedule.rows import STATE_NBYTES
from midge.schedule.timeline import Occupant, timeline, used

PALETTE = ("#56b4e9", "#e69f00", "#3dbd95", "#f0e442", "#cf8fb5", "#8fa9e0", "#f08a5d", "#a9c77e")
"""Told apart by people with any kind of colour vision (after Okabe and Ito), and light enough for black text."""
PORT_COLOUR = "#b8bcc2"
WIDTH, HEIGHT, STRIP = 760, 380, 64
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 34, 40
SYMBOLS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Block:
    """Rows of one buffer, or scratch, as one rectangle: bytes [offset, offset + nbytes) from step `first` to step `last`. `layer` is -1 for an input."""

    name: str
    layer: int
    scratch: bool
    offset: int
    nbytes: int
    first: int
    last: int


def blocks(program: Program) -> list[Block]:
    """Occupants with neighbouring rows of equal lifetime joined, in the order in which they come to life, and the state that is kept between calls."""
    found: list[Block] = []
    order = sorted((each for each in timeline(program) if not each.memory), key=lambda each: (each.first, each.last, each.name, each.row < 0, each.offset))
    for each in order:
        last = found[-1] if found else None
        if last and _joins(last, each):
            found[-1] = Block(last.name, last.layer, last.scratch, last.offset, last.nbytes + each.nbytes, last.first, last.last)
        elif each.nbytes:
            found.append(Block(each.name, each.layer, each.row < 0, each.offset, each.nbytes, each.first, each.last))
    if program.state_offset >= 0:
        nbytes = min(STATE_NBYTES, program.arena_nbytes - program.state_offset)
        found.append(Block("state kept between calls", -1, True, program.state_offset, nbytes, 0, len(program.steps) - 1))
    return found


def _joins(block: Block, each: Occupant) -> bool:
    """Whether an occupant goes on where a block ends."""
    same = (block.name, block.scratch, block.first, block.last) == (each.name, each.row < 0, each.first, each.last)
    return same and block.offset + block.nbytes == each.offset


@dataclass(frozen=True)
class _Scale:
    """From steps and bytes to the coordinates of the picture. Columns are steps, with one before the first (inputs) and one after the last (outputs)."""

    steps: int
    nbytes: int

    def x(self, step: int) -> float:
        return LEFT + (step + 1) * (WIDTH - LEFT - RIGHT) / (self.steps + 2)

    def y(self, address: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - address / self.nbytes)


def svg(program: Program) -> str:
    """The picture as one SVG element that needs nothing else. Its text has the colour of the text around it."""
    found = blocks(program)
    highest = max((block.offset + block.nbytes for block in found), default=0)
    scale = _Scale(len(program.steps), max(program.arena_nbytes, 1))
    groups: dict[tuple[str, bool], list[Block]] = {}
    for block in found:
        groups.setdefault((block.name, block.scratch), []).append(block)
    layers = {layer.index: layer for layer in program.layers}
    drawn = [_group(scale, layers, group) for group in groups.values()]
    title = f"Arena of {number(program.arena_nbytes)} bytes over {number(len(program.steps))} steps"
    head = {
        "xmlns": "http://www.w3.org/2000/svg",
        "class": "arena",
        "viewBox": f"0 0 {WIDTH} {HEIGHT + STRIP}",
        "role": "img",
        "font-family": "system-ui, sans-serif",
        "font-size": "12",
        "data-arena-bytes": str(program.arena_nbytes),
        "data-highest": str(highest),
        "data-peak-step": str(program.peak_step),
    }
    parts = [tag("title", {}, escape(title)), _hatch(), *_axes(scale), *drawn, *_labels(scale, found), *_marks(program, scale), *_in_use(program, scale)]
    return tag("svg", head, "\n".join(parts)) + "\n"


def _hatch() -> str:
    line = tag("path", {"d": "M0 5L5 0", "stroke": "#222", "stroke-width": "1"})
    return tag("defs", {}, tag("pattern", {"id": "scratch-hatch", "width": "5", "height": "5", "patternUnits": "userSpaceOnUse"}, line))


def colour(layer: int) -> str:
    """Of what a layer writes."""
    return PALETTE[layer % len(PALETTE)] if layer >= 0 else PORT_COLOUR


def _group(scale: _Scale, layers: dict[int, Layer], group: Sequence[Block]) -> str:
    """All rectangles of one buffer, or of the scratch of one layer, as one path."""
    path = []
    for block in group:
        left, right = scale.x(block.first), scale.x(block.last + 1)
        top, bottom = scale.y(block.offset + block.nbytes), scale.y(block.offset)
        path.append(f"M{left:.1f} {bottom:.1f}V{top:.1f}H{right:.1f}V{bottom:.1f}z")
    first = group[0]
    layer = layers.get(first.layer)
    if first.layer < 0:
        what = first.name if first.scratch else f"input '{first.name}'"
    elif layer is None:
        what = f"'{first.name}'"
    else:
        what = f"{'scratch' if first.scratch else 'output'} of layer {layer.index}, {layer.kind} '{shortened(layer.name, 60)}'"
    low, high = min(block.offset for block in group), max(block.offset + block.nbytes for block in group)
    steps = f"steps {min(block.first for block in group)} to {max(block.last for block in group)}"
    largest = f"up to {number(max(block.nbytes for block in group))} bytes in a piece"
    about = tag("title", {}, escape(f"{what}: bytes {number(low)} to {number(high)}, {steps}, {largest}"))
    shape = {"d": "".join(path), "fill": colour(first.layer), "stroke": "#222", "stroke-width": "0.3"}
    over = [tag("path", {"d": shape["d"], "fill": "url(#scratch-hatch)", "fill-opacity": "0.55"})] if first.scratch else []
    return tag("g", {"class": "block"}, "".join([about, tag("path", shape), *over]))


def _labels(scale: _Scale, found: Iterable[Block]) -> list[str]:
    """The number of the layer in every rectangle of outputs that has room for it."""
    texts = []
    for block in found:
        text = ("in" if block.layer < 0 else str(block.layer)) if not block.scratch else ""
        width, height = scale.x(block.last + 1) - scale.x(block.first), scale.y(0) - scale.y(block.nbytes)
        if text and width >= 8 + 7 * len(text) and height >= 11:
            x, y = scale.x(block.first) + width / 2, scale.y(block.offset + block.nbytes / 2) + 4
            place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": "middle", "fill": "#111", "font-size": "11", "pointer-events": "none"}
            texts.append(tag("text", place, text))
    return texts


def ticks(top: int) -> list[int]:
    """Four to eight round numbers from 0 to `top`."""
    step = 1
    while top / step > 8:
        step = step * 2 if str(step)[0] != "2" else step // 2 * 5
    return list(range(0, top + 1, step))


def _axes(scale: _Scale) -> list[str]:
    found = []
    for address in ticks(scale.nbytes):
        y = f"{scale.y(address):.1f}"
        found.append(tag("path", {"d": f"M{LEFT} {y}H{WIDTH - RIGHT}", "stroke": "currentColor", "stroke-opacity": "0.15"}))
        found.append(tag("text", {"x": str(LEFT - 6), "y": f"{scale.y(address) + 4:.1f}", "text-anchor": "end", "fill": "currentColor"}, number(address)))
    for step in ticks(max(scale.steps - 1, 0)):
        x = f"{(scale.x(step) + scale.x(step + 1)) / 2:.1f}"
        found.append(tag("text", {"x": x, "y": str(HEIGHT - BOTTOM + 16), "text-anchor": "middle", "fill": "currentColor"}, number(step)))
    found.append(tag("text", {"x": str(LEFT), "y": str(HEIGHT - BOTTOM + 33), "fill": "currentColor"}, "step"))
    found.append(tag("text", {"x": "4", "y": "12", "fill": "currentColor"}, "address"))
    return found


def _marks(program: Program, scale: _Scale) -> list[str]:
    """The end of the arena, the lower bound, and the peak step."""
    found = []
    for nbytes, text, dash, above in ((program.arena_nbytes, "arena", "", True), (program.lower_bound, "lower bound", "6 4", False)):
        if nbytes:
            y = scale.y(nbytes)
            line = {"d": f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}", "stroke": "currentColor", "stroke-width": "1.5", "stroke-dasharray": dash or "none"}
            place = {"x": str(LEFT + 4), "y": f"{y - 5 if above else y + 14:.1f}", **_OUTLINED}
            found += [tag("path", {"class": text.replace(" ", "-"), **line}), tag("text", place, f"{text} {number(nbytes)}")]
    if 0 <= program.peak_step < scale.steps:
        left, right = scale.x(program.peak_step), scale.x(program.peak_step + 1)
        x, bottom = (left + right) / 2, HEIGHT + STRIP - 18
        found.append(tag("path", {"class": "peak", "d": f"M{x:.1f} {TOP - 6}V{bottom}", "stroke": "#c2185b", "stroke-width": "1.8"}))
        anchor = "start" if x < WIDTH / 2 else "end"
        place = {"x": f"{x + (5 if anchor == 'start' else -5):.1f}", "y": str(HEIGHT - BOTTOM + 33), "text-anchor": anchor, **_OUTLINED}
        found.append(tag("text", place, escape(f"peak: step {number(program.peak_step)}, {_at_peak(program)}")))
    return found


_OUTLINED = {"fill": "currentColor", "class": "on-picture", "font-weight": "600"}


def _at_peak(program: Program) -> str:
    step = program.steps[program.peak_step]
    if step.call < 0:
        return "rows of input arrive" if step.output < 0 else "rows of output leave"
    return f"layer {program.calls[step.call].layer}"


def _in_use(program: Program, scale: _Scale) -> list[str]:
    """Bytes in use at each step, below the arena and to a scale of its own."""
    totals, base, height = used(program), HEIGHT + STRIP - 18, STRIP - 26
    if not totals:
        return []
    points = "".join(f"L{scale.x(step):.1f} {base - height * nbytes / max(totals):.1f}H{scale.x(step + 1):.1f}" for step, nbytes in enumerate(totals))
    shape = {"d": f"M{scale.x(0):.1f} {base}{points}V{base}z", "fill": "currentColor", "fill-opacity": "0.3"}
    text = f"in use, at most {number(max(totals))} bytes"
    return [tag("path", {"class": "in-use", **shape}), tag("text", {"x": str(LEFT), "y": str(base + 14), "fill": "currentColor"}, text)]


def terminal(program: Program, width: int = 100, height: int = 20) -> str:
    """The picture in characters, `width` columns wide: the symbol of the layer whose output lies there, % scratch, . free, | the peak step."""
    nbytes, count = max(program.arena_nbytes, 1), len(program.steps)
    margin = max(len(number(nbytes)), len("address")) + 2
    columns = max(min(width - margin - 1, 4 * (count + 2)), 8)
    grid = [["."] * columns for _ in range(height)]
    for block in blocks(program):
        symbol = "%" if block.scratch else "#" if block.layer < 0 else SYMBOLS[block.layer % len(SYMBOLS)]
        for row in _span(block.offset, block.offset + block.nbytes, nbytes, height):
            for column in _span(block.first + 1, block.last + 2, count + 2, columns):
                grid[row][column] = symbol
    bound = min(height - 1, program.lower_bound * height // nbytes - 1)
    lines = [f"{'address':>{margin - 1}}  arena {number(program.arena_nbytes)} bytes, lower bound {number(program.lower_bound)} (_), {number(count)} steps"]
    for row in range(height - 1, -1, -1):
        text = "".join(grid[row])
        lines.append(f"{number((row + 1) * nbytes // height):>{margin - 1}} {'_' if row == bound else ' '}{text}")
    if 0 <= program.peak_step < count:
        column = (program.peak_step + 1) * columns // (count + 2)
        lines.append(" " * (margin + 1 + column) + "^")
        lines.append(f"^ peak: step {number(program.peak_step)}, {_at_peak(program)}; digits and letters: layers by number, # input, % scratch")
    return "\n".join(line[:width] for line in lines)


def _span(first: int, end: int, whole: int, cells: int) -> range:
    """The cells whose middle lies between `first` and `end` of `whole`; at least the nearest one."""
    low, high = (2 * first * cells + whole) // (2 * whole), (2 * end * cells + whole) // (2 * whole)
    return range(min(low, cells - 1), max(high, min(low, cells - 1) + 1))
