# SPDX-License-Identifier: Apache-2.0
"""The network as a block diagram: one box for each node with the types of what it computes and of its constants, branches side by side.

The drawing is cut into bands where the fewest edges cross, so that a page can set bands side by side, stack them on a phone, and break between them in
print. A band is as wide as its boxes. An edge that crosses a cut ends there and goes on in the next band, with the number of the layer it comes from.

Source: Sugiyama, Tagawa, Toda, "Methods for Visual Understanding of Hierarchical System Structures" (1981): ranks, dummy points, barycentres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from midge.ir import Graph
from midge.lower import output_names
from midge.program import Program
from midge.report.blocks import PORT_COLOUR, blocks, colours
from midge.report.markup import breadth, escape, fitted_names, number, region, tag
from midge.report.signals import constant_lines, type_lines

BOX, LINE, PAD, GAP, LANE, BETWEEN = 214.0, 14.0, 6.0, 16.0, 14.0, 26.0
FONT = 12
ROOM = (BOX - 20) / FONT  # for a line of a box, in font sizes
TALL = 500.0
"""How high a band is at most: two fit on a page."""
SWEEPS = 8
SMALLEST = 0.66  # to which a screen may scale a band before it has to scroll


@dataclass
class Point:
    """A box, or one point of an edge that passes a rank (no lines). `above` are the points it is connected to in the rank before."""

    rank: int
    lines: tuple[str, ...] = ()
    about: str = ""
    layer: int | None = None
    dashed: bool = False
    above: list[int] = field(default_factory=list)
    x: float = 0.0

    @property
    def width(self) -> float:
        return BOX if self.lines else 0.0

    @property
    def height(self) -> float:
        return len(self.lines) * LINE + PAD if self.lines else 0.0


def boxes(graph: Graph, program: Program) -> list[Point]:
    """Inputs, nodes and outputs with their connections; several outputs of a node stand in its one box."""
    layers = {layer.value: layer for layer in program.layers}
    shown = fitted_names([*graph.inputs, *(node.name for node in graph.nodes), *output_names(graph)], ROOM)
    points: list[Point] = []
    makers: dict[str, int] = {}
    for name in graph.inputs:
        makers[name] = len(points)
        points.append(Point(0, ("input", shown[name], *type_lines(graph.type(name))), f"input '{name}'", -1))
    for node in graph.nodes:
        above = list(dict.fromkeys(makers[name] for name in graph.activations(node) if name in makers))
        layer = next((layers[name] for name in node.outputs if name in layers), None)
        head = f"{layer.index}  {node.op.kind}" if layer else f"{node.op.kind} (no code: a view)"
        types = [line for name in node.outputs for line in type_lines(graph.type(name))] + constant_lines(graph, node)
        about = f"{node.op.kind} '{node.name}', from {', '.join(node.origin) or 'midge'}" + (f", {number(layer.macs)} MACs" if layer else "")
        rank = 1 + max((points[i].rank for i in above), default=-1)
        makers |= {name: len(points) for name in node.outputs}
        points.append(Point(rank, (head, shown[node.name], *types), about, layer.index if layer else None, layer is None, above))
    for name, public in zip(graph.outputs, output_names(graph), strict=True):
        above = [makers[name]] if name in makers else []
        rank = 1 + max((points[i].rank for i in above), default=-1)
        points.append(Point(rank, ("output", shown[public], *type_lines(graph.type(name))), f"output '{public}'", -1, False, above))
    return sunk(points)


def sunk(points: list[Point]) -> list[Point]:
    """Points that read no more than is read of them go down to just above their first reader: inputs of late layers would pass every layer before."""
    readers: dict[int, list[int]] = {}
    for index, point in enumerate(points):
        for source in point.above:
            readers.setdefault(source, []).append(index)
    for index in reversed(range(len(points))):
        below = readers.get(index, [])
        if below and len(points[index].above) <= len(below):
            points[index].rank = min(points[i].rank for i in below) - 1
    return points


def with_dummies(points: list[Point]) -> list[Point]:
    """Every edge goes from one rank to the next: a point is put into each rank an edge passes, shared by edges from one box."""
    points = list(points)
    passing: dict[tuple[int, int], int] = {}
    for index in range(len(points)):
        below = points[index]
        for position, source in enumerate(below.above):
            last = source
            for rank in range(points[source].rank + 1, below.rank):
                if (source, rank) not in passing:
                    passing[source, rank] = len(points)
                    points.append(Point(rank, above=[last]))
                last = passing[source, rank]
            below.above[position] = last
    return points


def arrange(points: list[Point]) -> list[list[int]]:
    """Ranks as lists of points from left to right; sets their x."""
    ranks: list[list[int]] = [[] for _ in range(1 + max((point.rank for point in points), default=-1))]
    for index, point in enumerate(points):
        ranks[point.rank].append(index)
    below: dict[int, list[int]] = {}
    for index, point in enumerate(points):
        for source in point.above:
            below.setdefault(source, []).append(index)
    for rank in ranks:
        _spread(points, rank, [i * (BOX + GAP) for i in range(len(rank))])
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for rank in ranks if down else reversed(ranks):
            wanted = {i: _mean([points[j].x for j in (points[i].above if down else below.get(i, []))], points[i].x) for i in rank}
            rank.sort(key=lambda i: wanted[i])
            _spread(points, rank, [wanted[i] for i in rank])
    left = min((point.x - point.width / 2 for point in points), default=0.0)
    for point in points:
        point.x -= left
    return ranks


def _mean(values: list[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _spread(points: list[Point], rank: list[int], wanted: list[float]) -> None:
    """Put the points of a rank as near as may be to where they want to be, in order and without touching: the mean of pushing right and pushing left."""
    right, left = list(wanted), list(wanted)
    apart = [(points[a].width + points[b].width) / 2 + (GAP if points[a].lines and points[b].lines else LANE) for a, b in pairwise(rank)]
    for i in range(1, len(rank)):
        right[i] = max(right[i], right[i - 1] + apart[i - 1])
    for i in range(len(rank) - 2, -1, -1):
        left[i] = min(left[i], left[i + 1] - apart[i])
    for i, index in enumerate(rank):
        points[index].x = (right[i] + left[i]) / 2


def bands(points: list[Point], ranks: list[list[int]]) -> list[tuple[int, int]]:
    """(first rank, rank after the last) of each band: of like height, cut where few edges cross."""
    ends, y = [], 0.0
    for rank in ranks:
        y += BETWEEN + max((points[i].height for i in rank), default=0.0)
        ends.append(y)
    found, first, done = [], 0, 0.0
    while ends and (left := ends[-1] - done) > TALL:
        wanted = left / -(-left // TALL)
        fits = [r for r in range(first + 1, len(ranks)) if ends[r - 1] - done <= TALL] or [first + 1]
        tall = [r for r in fits if ends[r - 1] - done >= 0.7 * wanted] or fits[-1:]
        cut = min(tall, key=lambda r: (len({i for below in ranks[r] for i in points[below].above}), abs(ends[r - 1] - done - wanted)))
        found.append((first, cut))
        first, done = cut, ends[cut - 1]
    return [*found, (first, len(ranks))]


def draw(graph: Graph, program: Program) -> str:
    """The diagram as markup: SVG elements, one for each band, in a region that scrolls."""
    points = with_dummies(boxes(graph, program))
    ranks = arrange(points)
    fills, cuts = colours(blocks(program)), bands(points, ranks)
    drawn = [_band(points, ranks, band, fills, f"Block diagram, part {which} of {len(cuts)}") for which, band in enumerate(cuts, 1)]
    return region("\n".join(drawn), "Block diagram", "bands")


def _band(points: list[Point], ranks: list[list[int]], band: tuple[int, int], fills: Mapping[int, str], title: str) -> str:
    first, end = band
    tops, heights, y = {}, {}, BETWEEN if first else 4.0
    for rank in range(first, end):
        tops[rank], heights[rank] = y, max((points[i].height for i in ranks[rank]), default=0.0)
        y += heights[rank] + BETWEEN
    bottom = y if end < len(ranks) else y - BETWEEN + 4.0
    edges, shapes, shown = [], [], [points[i] for rank in range(first, end) for i in ranks[rank]]
    for rank in range(first, end):
        for i in ranks[rank]:
            point = points[i]
            if rank == first:
                edges += _arrivals(points, point, tops[rank])
            else:
                edges += [_edge(points[j].x, tops[rank - 1] + points[j].height, point.x, tops[rank], bool(point.lines)) for j in point.above]
            if point.lines:
                shapes.append(_box(point, tops[rank], fills.get(-1 if point.layer is None else point.layer, PORT_COLOUR)))
            elif heights[rank]:
                edges.append(_edge(point.x, tops[rank], point.x, tops[rank] + heights[rank], False))
    for i in sorted({source for index in (ranks[end] if end < len(ranks) else []) for source in points[index].above}):
        edges.append(_edge(points[i].x, tops[end - 1] + points[i].height, points[i].x, bottom, False))
    left, right = (side(p.x + sign * p.width / 2 for p in shown) + sign * PAD for side, sign in ((min, -1), (max, 1)))
    size = {"viewBox": f"{left:.0f} 0 {right - left:.0f} {bottom:.0f}", "width": f"{right - left:.0f}"}
    head = {"class": "band", **size, "style": f"min-width:{SMALLEST * (right - left):.0f}px", "role": "img"}
    about = "From top to bottom: " + ", ".join(" ".join(point.lines[0].split()) for point in shown if point.lines) + "."
    return tag("svg", head, "\n".join([tag("title", {}, title), tag("desc", {}, escape(about)), *edges, *shapes]))


def _arrivals(points: list[Point], point: Point, top: float) -> list[str]:
    """What comes from the band before: an edge for each source, beside each other, with the number of the layer."""
    found = []
    for place, source in enumerate(point.above):
        x = point.x + (place - (len(point.above) - 1) / 2) * 40
        while points[source].layer is None and points[source].above:  # views have no number, and points of an edge have none
            source = points[source].above[0]
        layer = points[source].layer
        label = str(layer) if layer is not None and layer >= 0 else "in"
        found += [_edge(x, 0.0, x, top, bool(point.lines)), tag("text", {"x": f"{x + 4:.1f}", "y": "11", "class": "from"}, escape(label))]
    return found


def _edge(x: float, y: float, to_x: float, to_y: float, arrow: bool) -> str:
    middle = (y + to_y) / 2
    path = f"M{x:.1f} {y:.1f}C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
    head = f"M{to_x - 4:.1f} {to_y - 6:.1f}L{to_x:.1f} {to_y:.1f}L{to_x + 4:.1f} {to_y - 6:.1f}" if arrow else ""
    return tag("path", {"d": path + head, "fill": "none", "stroke": "currentColor", "stroke-opacity": "0.65"})


def _box(point: Point, top: float, fill: str) -> str:
    left = point.x - BOX / 2
    frame = {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": f"{BOX:.0f}", "height": f"{point.height:.0f}", "rx": "5", "class": "box"}
    frame |= {"stroke": "currentColor", "stroke-dasharray": "4 3" if point.dashed else "none"}
    parts = [tag("title", {}, escape(point.about)), tag("rect", frame)]
    if point.layer is not None:
        parts.append(tag("rect", {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": "6", "height": f"{point.height:.0f}", "rx": "3", "fill": fill}))
    for row, line in enumerate(point.lines):
        place = {"x": f"{left + 12:.1f}", "y": f"{top + (row + 1) * LINE:.1f}", "font-weight": "600" if row == 0 else "400", "fill": "currentColor"}
        if breadth(line) > 1.12 * ROOM:  # the estimate is on the wide side
            place |= {"textLength": f"{ROOM * FONT:.0f}", "lengthAdjust": "spacingAndGlyphs"}
        parts.append(tag("text", place, escape(line)))
    return tag("g", {}, "".join(parts))
