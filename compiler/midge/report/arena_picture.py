# SPDX-License-Identifier: Apache-2.0
"""The arena over time as a picture: steps to the right, addresses upwards; what lies where and when, the peak step, and the lower bound.

`svg` is for pages and files, `figure` adds a legend, `terminal` is for a console. They draw what midge.report.blocks says, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from midge.program import Layer, Program
from midge.report.blocks import Block, blocks, colours
from midge.report.markup import escape, number, region, shortened, tag
from midge.schedule.timeline import peak_step, used

WIDTH, HEIGHT, STRIP = 760, 380, 64
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 36, 26
SMALLEST = 8.0  # letters in a block
SYMBOLS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


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
    scale, fills = _Scale(len(program.steps), max(program.arena_nbytes, 1)), colours(found)
    groups: dict[tuple[str, bool], list[Block]] = {}
    for block in found:
        groups.setdefault((block.name, block.scratch), []).append(block)
    layers = {layer.index: layer for layer in program.layers}
    drawn = [_group(scale, layers, group, fills[group[0].layer]) for group in groups.values()]
    head = {
        "xmlns": "http://www.w3.org/2000/svg",
        "class": "arena",
        "viewBox": f"0 0 {WIDTH} {HEIGHT + STRIP}",
        "role": "img",
        "font-family": "system-ui, sans-serif",
        "font-size": "12",
        "data-arena-bytes": str(program.arena_nbytes),
        "data-highest": str(highest),
        "data-peak-step": str(peak_step(program)),
    }
    parts = [*_about(program), _hatch(), *_axes(scale), *drawn, *_marks(program, scale), *_in_use(program, scale), *_peak(program, scale)]
    return tag("svg", head, "\n".join([*parts, *_labels(scale, found, fills)])) + "\n"


def figure(program: Program) -> str:
    """The picture, a line for what is pointed at, and a legend of the colours that no number in a block explains."""
    found = blocks(program)
    scale, fills, layers = _Scale(len(program.steps), max(program.arena_nbytes, 1)), colours(found), {layer.index: layer for layer in program.layers}
    explained = {(block.layer, block.scratch and block.layer < 0) for block in found if _label(scale, block)}
    entries = []
    for layer, is_state in sorted({(block.layer, block.scratch and block.layer < 0) for block in found} - explained):
        here = [block for block in found if (block.layer, block.scratch and block.layer < 0) == (layer, is_state)]
        text = f"{layer} {layers[layer].kind}" if layer in layers else "state kept between calls (hatched)" if is_state else "inputs"
        text += f", steps {max(min(block.first for block in here), 0)} to {min(max(block.last for block in here), len(program.steps) - 1)}"
        entries.append(tag("li", {}, tag("span", {"class": "swatch", "style": f"background:{fills[layer]}"}) + escape(text)))
    legend = tag("ul", {"class": "legend"}, "".join(entries)) if entries else ""
    about = "Numbers are layers, “in” is an input. Hatched: scratch of a layer" + (", and the state." if program.state_offset >= 0 else ".")
    picture = region(svg(program), "Arena over time") + tag("p", {"class": "pointed soft", "id": "pointed"})
    return tag("figure", {}, picture + tag("figcaption", {"class": "soft"}, about) + legend)


def _about(program: Program) -> list[str]:
    """Title and description, for those who cannot see it."""
    title = f"Arena of {number(program.arena_nbytes)} bytes over {number(len(program.steps))} steps"
    text = "Steps run to the right and addresses upwards; a block is memory that the rows of a layer's output, an input or scratch take from step to step."
    if 0 <= peak_step(program) < len(program.steps):
        text += f" Most bytes, {number(max(used(program)))}, are in use in step {number(peak_step(program))}: {_at_peak(program)}."
    return [tag("title", {}, escape(title)), tag("desc", {}, escape(text))]


def _hatch() -> str:
    line = tag("path", {"d": "M0 5L5 0", "stroke": "#222", "stroke-width": "1"})
    return tag("defs", {}, tag("pattern", {"id": "scratch-hatch", "width": "5", "height": "5", "patternUnits": "userSpaceOnUse"}, line))


def _group(scale: _Scale, layers: dict[int, Layer], group: Sequence[Block], fill: str) -> str:
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
        what = f"{'scratch' if first.scratch else 'output'} of layer {layer.index} {layer.kind} '{shortened(layer.name, 60)}'"
    low, high = min(block.offset for block in group), max(block.offset + block.nbytes for block in group)
    steps = f"steps {min(block.first for block in group)} to {max(block.last for block in group)}"
    largest = f"up to {number(max(block.nbytes for block in group))} bytes in a piece"
    about = tag("title", {}, escape(f"{what}: bytes {number(low)} to {number(high)}, {steps}, {largest}"))
    shape = {"d": "".join(path), "fill": fill, "stroke": "#222", "stroke-width": "0.3"}
    over = [tag("path", {"d": shape["d"], "fill": "url(#scratch-hatch)", "fill-opacity": "0.55"})] if first.scratch else []
    return tag("g", {"class": "block"}, "".join([about, tag("path", shape), *over]))


def _label(scale: _Scale, block: Block) -> str:
    """What is written into a block: the number of the layer whose output it is, if there is room."""
    text = "state" if block.scratch else "in" if block.layer < 0 else str(block.layer)
    size = _size(scale, block)
    roomy = size >= SMALLEST and scale.x(block.last + 1) - scale.x(block.first) >= 4 + 0.7 * size * len(text)
    return text if roomy and not (block.scratch and block.layer >= 0) else ""


def _size(scale: _Scale, block: Block) -> float:
    """Of the letters in a block."""
    return min(11.0, scale.y(0) - scale.y(block.nbytes) - 0.5)


def _labels(scale: _Scale, found: Sequence[Block], fills: Mapping[int, str]) -> list[str]:
    """Above everything else, each with a rim that keeps lines away from it."""
    texts = []
    for block in found:
        if text := _label(scale, block):
            x, y = (scale.x(block.first) + scale.x(block.last + 1)) / 2, scale.y(block.offset + block.nbytes / 2) + 0.36 * _size(scale, block)
            rim = {"stroke": fills[block.layer], "stroke-width": "3", "paint-order": "stroke"}
            place = {
                "x": f"{x:.1f}",
                "y": f"{y:.1f}",
                "text-anchor": "middle",
                "fill": "#111",
                "font-size": f"{_size(scale, block):.1f}",
                "pointer-events": "none",
            }
            texts.append(tag("text", place | rim, text))
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
        found.append(_text(LEFT - 6, scale.y(address) + 4, number(address), "end"))
    for step in ticks(max(scale.steps - 1, 0)):
        found.append(_text((scale.x(step) + scale.x(step + 1)) / 2, HEIGHT - BOTTOM + 16, number(step), "middle"))
    return [*found, _text(LEFT - 6, HEIGHT - BOTTOM + 16, "step", "end"), _text(LEFT - 6, 28, "address", "end")]


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "400") -> str:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "font-weight": weight, "fill": "currentColor"}
    return tag("text", place, escape(text))


def _line(path: str, kind: str, dash: str = "none") -> list[str]:
    """A black line with a white one under it: it stands out from every block, and from light and dark paper."""
    under = tag("path", {"d": path, "fill": "none", "stroke": "#fff", "stroke-width": "4"})
    return [under, tag("path", {"class": kind, "d": path, "fill": "none", "stroke": "#000", "stroke-width": "1.6", "stroke-dasharray": dash})]


def _marks(program: Program, scale: _Scale) -> list[str]:
    """The end of the arena and the lower bound, named in a row above the plot, where no block lies."""
    found, x = [], LEFT
    for nbytes, text, dash in ((program.arena_nbytes, "arena", "none"), (_bound(program), "lower bound", "6 4")):
        if nbytes:
            y, kind = scale.y(nbytes), text.replace(" ", "-")
            found += [*_line(f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}", kind, dash), *_line(f"M{x} 8H{x + 26}", "key", dash)]
            found.append(_text(x + 32, 12, f"{text} {number(nbytes)} bytes"))
            x += 230
    return found


def _peak(program: Program, scale: _Scale) -> list[str]:
    """The peak step through blocks and bytes in use, but not through the numbers of the steps between them."""
    if not 0 <= peak_step(program) < scale.steps:
        return []
    x = (scale.x(peak_step(program)) + scale.x(peak_step(program) + 1)) / 2
    path = f"M{x:.1f} {TOP - 4}V{HEIGHT - BOTTOM + 3}M{x:.1f} {HEIGHT + 6}V{HEIGHT + STRIP - 18}"
    text = f"peak: step {number(peak_step(program))}, {_at_peak(program)}"
    return [*_line(path, "peak"), _text(x, 28, text, "start" if x < WIDTH / 2 else "end", "600")]


def _bound(program: Program) -> int:
    """The lower bound, 0 where it is of another arena: that of all bytes, of which some lie in other memories."""
    return 0 if program.memories else program.lower_bound


def _at_peak(program: Program) -> str:
    step = program.steps[peak_step(program)]
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
    return [tag("path", {"class": "in-use", **shape}), _text(LEFT, base + 14, f"in use, at most {number(max(totals))} bytes")]


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
    bound = min(height - 1, _bound(program) * height // nbytes - 1)
    known = f", lower bound {number(program.lower_bound)} (_)" if _bound(program) else ""
    lines = [f"{'address':>{margin - 1}}  arena {number(program.arena_nbytes)} bytes{known}, {number(count)} steps"]
    for row in range(height - 1, -1, -1):
        text = "".join(grid[row])
        lines.append(f"{number((row + 1) * nbytes // height):>{margin - 1}} {'_' if row == bound else ' '}{text}")
    if 0 <= peak_step(program) < count:
        column = (peak_step(program) + 1) * columns // (count + 2)
        lines.append(" " * (margin + 1 + column) + "^")
        lines.append(f"^ peak: step {number(peak_step(program))}, {_at_peak(program)}; digits and letters: layers by number, # input, % scratch")
    return "\n".join(line[:width] for line in lines)


def _span(first: int, end: int, whole: int, cells: int) -> range:
    """The cells whose middle lies between `first` and `end` of `whole`; at least the nearest one."""
    low, high = (2 * first * cells + whole) // (2 * whole), (2 * end * cells + whole) // (2 * whole)
    return range(min(low, cells - 1), max(high, min(low, cells - 1) + 1))
