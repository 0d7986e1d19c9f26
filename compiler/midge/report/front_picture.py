# SPDX-License-Identifier: Apache-2.0
"""RAM against instructions as a picture: one dot for each schedule."""

from __future__ import annotations

from collections.abc import Sequence

from midge.front import Point
from midge.report.arena_picture import ticks
from midge.report.markup import escape, number, tag

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 320, 96, 190, 30, 44


def svg(points: Sequence[Point]) -> str:
    """RAM to the right, instructions (steps, where none were counted) upwards, both from 0."""
    counted = all(point.instructions is not None for point in points)
    heights = [(point.instructions or 0) if counted else len(point.program.steps) for point in points]
    most_ram, most = max(point.program.arena_nbytes for point in points), max(heights)

    def x(nbytes: float) -> float:
        return LEFT + nbytes / most_ram * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (1 - value / most) * (HEIGHT - TOP - BOTTOM)

    parts = [tag("title", {}, "RAM against time"), tag("text", {"x": "4", "y": "16", "fill": "currentColor"}, _axis(counted))]
    for value in ticks(most):
        parts.append(tag("path", {"d": f"M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}", "stroke": "currentColor", "stroke-opacity": "0.15"}))
        parts.append(tag("text", {"x": str(LEFT - 6), "y": f"{y(value) + 4:.1f}", "text-anchor": "end", "fill": "currentColor"}, number(value)))
    for nbytes in ticks(most_ram):
        parts.append(tag("text", {"x": f"{x(nbytes):.1f}", "y": str(HEIGHT - BOTTOM + 18), "text-anchor": "middle", "fill": "currentColor"}, number(nbytes)))
    parts.append(tag("text", {"x": str(LEFT), "y": str(HEIGHT - 8), "fill": "currentColor"}, "bytes of RAM"))
    for point, value in zip(points, heights, strict=True):
        at = point.program.arena_nbytes
        parts.append(tag("circle", {"cx": f"{x(at):.1f}", "cy": f"{y(value):.1f}", "r": "5", "fill": "#0072b2"}, tag("title", {}, escape(point.name))))
        text = escape(f"{number(at)} bytes, {point.name}")
        parts.append(tag("text", {"x": f"{x(at) + 8:.1f}", "y": f"{y(value) - 7:.1f}", "fill": "currentColor", "font-size": "11"}, text))
    head = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "font-family": "system-ui, sans-serif", "font-size": "12"}
    return tag("svg", head, "\n".join(parts)) + "\n"


def _axis(counted: bool) -> str:
    return "instructions of one run under QEMU" if counted else "steps of one run"
