# SPDX-License-Identifier: Apache-2.0
"""RAM against instructions as a picture: one dot for each schedule."""

from __future__ import annotations

from collections.abc import Sequence

from midge.report.arena_picture import ticks
from midge.report.markup import escape, number, tag

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 320, 96, 190, 30, 44


Point = tuple[str, int, int]  # name, bytes of RAM, instructions or steps


def svg(points: Sequence[Point], counted: bool) -> str:
    """RAM to the right, instructions (`counted`) or steps upwards, both from 0."""
    most_ram, most = max(nbytes for _, nbytes, _ in points), max(height for _, _, height in points)

    def x(nbytes: float) -> float:
        return LEFT + nbytes / most_ram * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (1 - value / most) * (HEIGHT - TOP - BOTTOM)

    most_text = f"{number(most_ram)} bytes and {number(most)} {'instructions' if counted else 'steps'}"
    about = f"{len(points)} schedules as dots: RAM to the right, {_axis(counted)} upwards, both from 0. The most are {most_text}."
    parts = [tag("title", {}, "RAM against time"), tag("desc", {}, about), tag("text", {"x": "4", "y": "16", "fill": "currentColor"}, _axis(counted))]
    for value in ticks(most):
        parts.append(tag("path", {"d": f"M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}", "stroke": "currentColor", "stroke-opacity": "0.15"}))
        parts.append(tag("text", {"x": str(LEFT - 6), "y": f"{y(value) + 4:.1f}", "text-anchor": "end", "fill": "currentColor"}, number(value)))
    for nbytes in ticks(most_ram):
        parts.append(tag("text", {"x": f"{x(nbytes):.1f}", "y": str(HEIGHT - BOTTOM + 18), "text-anchor": "middle", "fill": "currentColor"}, number(nbytes)))
    parts.append(tag("text", {"x": str(LEFT), "y": str(HEIGHT - 8), "fill": "currentColor"}, "bytes of RAM"))
    for name, at, value in points:
        parts.append(tag("circle", {"cx": f"{x(at):.1f}", "cy": f"{y(value):.1f}", "r": "5", "fill": "#0072b2"}, tag("title", {}, escape(name))))
        text = escape(f"{number(at)} bytes, {name}")
        parts.append(tag("text", {"x": f"{x(at) + 8:.1f}", "y": f"{y(value) - 7:.1f}", "fill": "currentColor", "font-size": "11"}, text))
    head = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "font-family": "system-ui, sans-serif", "font-size": "12"}
    return tag("svg", head, "\n".join(parts)) + "\n"


def _axis(counted: bool) -> str:
    return "instructions of one run under QEMU" if counted else "steps of one run"
