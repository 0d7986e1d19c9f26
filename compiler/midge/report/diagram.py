# SPDX-License-Identifier: Apache-2.0
"""The network as a block diagram: one box for each node with the type of what it computes, layered by longest path, branches side by side.

The drawing is cut into bands where the fewest edges cross, so that a page can set bands side by side, stack them on a phone, and break between them in
print. Edges that cross a cut go to the edge of the band and on from the same place in the next.

Source: Sugiyama, Tagawa, Toda, "Methods for Visual Understanding of Hierarchical System Structures" (1981): ranks, dummy points, barycentres.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from midge.ir import Graph, TensorType
from midge.lower import output_names
from midge.program import Program
from midge.report.arena_picture import colour
from midge.report.facts import quant_of
from midge.report.markup import escape, number, shortened, tag

BOX, LINE, PAD, GAP, DUMMY, BETWEEN = 236.0, 15.0, 8.0, 18.0, 10.0, 26.0
LETTERS = 29
SHORTEST, LONGEST = 6, 9
"""How many ranks a band has."""
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
        return BOX if self.lines else DUMMY


def type_lines(kind: TensorType) -> tuple[str, ...]:
    """Element type and shape, then scale and zero_point."""
    scale, zero_point = quant_of(kind)
    shape = "×".join(map(str, kind.shape)) or "scalar"
    quantized = f"scale {scale:.5g}, zero_point {zero_point}" if scale is not None else "not quantized" if kind.quant is None else "a scale per channel"
    return f"{kind.dtype.value} {shape}", quantized


def boxes(graph: Graph, program: Program) -> list[Point]:
    """Inputs, nodes and outputs with their connections; several outputs of a node stand in its one box."""
    layers = {layer.value: layer for layer in program.layers}
    points: list[Point] = []
    makers: dict[str, int] = {}
    for name in graph.inputs:
        makers[name] = len(points)
        points.append(Point(0, ("input", shortened(name, LETTERS), *type_lines(graph.type(name))), f"input '{name}'", -1))
    for node in graph.nodes:
        above = list(dict.fromkeys(makers[name] for name in graph.activations(node) if name in makers))
        layer = next((layers[name] for name in node.outputs if name in layers), None)
        head = f"{layer.index}  {node.op.kind}" if layer else f"{node.op.kind} (no code: a view)"
        types = [line for name in node.outputs for line in type_lines(graph.type(name))]
        about = f"{node.op.kind} '{node.name}', from {', '.join(node.origin) or 'midge'}" + (f", {number(layer.macs)} MACs" if layer else "")
        rank = 1 + max((points[i].rank for i in above), default=-1)
        makers |= {name: len(points) for name in node.outputs}
        points.append(Point(rank, (head, shortened(node.name, LETTERS), *types), about, layer.index if layer else None, layer is None, above))
    for name, public in zip(graph.outputs, output_names(graph), strict=True):
        above = [makers[name]] if name in makers else []
        rank = 1 + max((points[i].rank for i in above), default=-1)
        points.append(Point(rank, ("output", shortened(public, LETTERS), *type_lines(graph.type(name))), f"output '{public}'", -1, False, above))
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
        point.x += PAD - left
    return ranks


def _mean(values: list[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _spread(points: list[Point], rank: list[int], wanted: list[float]) -> None:
    """Put the points of a rank as near as may be to where they want to be, in order and without touching: the mean of pushing right and pushing left."""
    right, left = list(wanted), list(wanted)
    for i in range(1, len(rank)):
        apart = (points[rank[i - 1]].width + points[rank[i]].width) / 2 + GAP
        right[i] = max(right[i], right[i - 1] + apart)
    for i in range(len(rank) - 2, -1, -1):
        apart = (points[rank[i]].width + points[rank[i + 1]].width) / 2 + GAP
        left[i] = min(left[i], left[i + 1] - apart)
    for i, index in enumerate(rank):
        points[index].x = (right[i] + left[i]) / 2


def bands(points: list[Point], ranks: list[list[int]]) -> list[tuple[int, int]]:
    """(first rank, rank after the last) of each band, cut where few edges cross."""
    found, first = [], 0
    while len(ranks) - first > LONGEST + SHORTEST // 2:
        cut = min(range(first + SHORTEST, first + LONGEST + 1), key=lambda r: (sum(len(points[i].above) for i in ranks[r]), -r))
        found.append((first, cut))
        first = cut
    return [*found, (first, len(ranks))]


def draw(graph: Graph, program: Program) -> str:
    """The diagram as SVG elements, one for each band."""
    points = with_dummies(boxes(graph, program))
    ranks = arrange(points)
    width = max((point.x + point.width / 2 for point in points), default=BOX) + PAD
    cuts = bands(points, ranks)
    drawn = [_band(points, ranks, band, width, number_of, len(cuts)) for number_of, band in enumerate(cuts, 1)]
    return "\n".join(drawn)


def _height(point: Point) -> float:
    return len(point.lines) * LINE + PAD if point.lines else 0.0


def _band(points: list[Point], ranks: list[list[int]], band: tuple[int, int], width: float, which: int, count: int) -> str:
    first, end = band
    tops, heights, y = {}, {}, BETWEEN if first else 4.0
    for rank in range(first, end):
        tops[rank], heights[rank] = y, max(_height(points[i]) for i in ranks[rank])
        y += heights[rank] + BETWEEN
    bottom = y if end < len(ranks) else y - BETWEEN + 4.0
    edges, shapes = [], []
    for rank in range(first, end):
        for i in ranks[rank]:
            point = points[i]
            for source in point.above:
                above = points[source]
                start = 0.0 if rank == first else tops[rank - 1] + (_height(above) if above.lines else heights[rank - 1])
                edges.append(_edge(above.x, start, point.x, tops[rank], bool(point.lines)))
            if point.lines:
                shapes.append(_box(point, tops[rank]))
            else:
                edges.append(_edge(point.x, tops[rank], point.x, tops[rank] + heights[rank], False))
    for i in sorted({source for index in (ranks[end] if end < len(ranks) else []) for source in points[index].above}):
        edges.append(_edge(points[i].x, tops[end - 1] + (_height(points[i]) or heights[end - 1]), points[i].x, bottom, False))
    title = tag("title", {}, f"Block diagram, part {which} of {count}")
    head = {"class": "band", "viewBox": f"0 0 {width:.0f} {bottom:.0f}", "width": f"{width:.0f}", "style": f"min-width:{SMALLEST * width:.0f}px", "role": "img"}
    return tag("svg", head, "\n".join([title, *edges, *shapes]))


def _edge(x: float, y: float, to_x: float, to_y: float, arrow: bool) -> str:
    middle = (y + to_y) / 2
    path = f"M{x:.1f} {y:.1f}C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
    head = f"M{to_x - 4:.1f} {to_y - 6:.1f}L{to_x:.1f} {to_y:.1f}L{to_x + 4:.1f} {to_y - 6:.1f}" if arrow else ""
    return tag("path", {"d": path + head, "fill": "none", "stroke": "currentColor", "stroke-opacity": "0.65"})


def _box(point: Point, top: float) -> str:
    left = point.x - BOX / 2
    frame = {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": f"{BOX:.0f}", "height": f"{_height(point):.0f}", "rx": "5", "class": "box"}
    frame |= {"stroke": "currentColor", "stroke-dasharray": "4 3" if point.dashed else "none"}
    parts = [tag("title", {}, escape(point.about)), tag("rect", frame)]
    if point.layer is not None:
        edge = {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": "6", "height": f"{_height(point):.0f}", "rx": "3", "fill": colour(point.layer)}
        parts.append(tag("rect", edge))
    for row, line in enumerate(point.lines):
        place = {"x": f"{left + 13:.1f}", "y": f"{top + (row + 1) * LINE:.1f}", "font-weight": "600" if row == 0 else "400", "fill": "currentColor"}
        parts.append(tag("text", place, escape(line)))
    return tag("g", {}, "".join(parts))
