# SPDX-License-Identifier: Apache-2.0
"""What to compile and how, and ways to change that where a budget cannot be met."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from typing import Any

from midge.costs import Costs, load_costs
from midge.errors import MidgeError, UsageError
from midge.ir import Graph
from midge.lower import Choice
from midge.passes.dead_channels import eliminate_dead_channels
from midge.passes.window import with_less_rows
from midge.program import Program
from midge.ptq.narrow import narrow_weights
from midge.report.narrow import distance
from midge.report.needs import short
from midge.schedule import Wish
from midge.targets import Target, get_target

PARTS = {Fraction(1, 2): "half", Fraction(3, 4): "three quarters of"}
Sides = tuple[bool, bool]  # inputs, outputs


@dataclass(frozen=True)
class Attempt:
    """What to compile and how. kept: channels that no output can depend on are computed, too. cycles: the most that may be estimated.
    nhwc: which ports are to be NHWC; turned: the Graph for other such sides. The budgets of RAM and flash are wish.ram and choice.flash."""

    graph: Graph
    target: Target
    digest: str
    choice: Choice
    wish: Wish
    kept: bool = False
    cycles: int | None = None
    calibration: Any = None  # samples of the user's, for what rounds weights
    nhwc: Sides = (False, False)
    turned: Callable[[Sides], Graph] | None = None


@dataclass(frozen=True)
class Way:
    """Options to add or to leave out, what they do to an attempt, and what else there is to say."""

    name: str
    change: Callable[[Attempt], Attempt]
    note: str = ""


def ports(attempt: Attempt, program: Program) -> tuple[list[Way], list[Way]]:
    """What may be asked of the ports: rows that come, rows that go, the channels of a pixel together; each alone, and several, the fewest options first.

    Rows of planes save little, so where channels can be together they are.
    """
    wish, layout = attempt.wish, _nhwc(attempt)
    rows = [Way("--stream-input", stream)] if not wish.stream and not wish.stepwise and len(program.inputs) == 1 else []
    rows += [Way("--stream-output", hand_out)] if not wish.hand_out and any(len(port.type.shape) > 2 for port in program.outputs) else []
    together = [joined(way, *layout) for way in rows] if layout else []
    together += [joined(*rows, *layout)] if len(rows) > 1 else []
    together += [joined(*rows, *layout, PORTABLE)] if (rows or layout) and attempt.choice.optimize != "size" else []
    return [*rows, *layout], together


def joined(*ways: Way) -> Way:
    """All of the ways, one after the other."""
    name, note = " ".join(way.name for way in ways), "; ".join(way.note for way in ways if way.note)
    return Way(name, lambda attempt: reduce(lambda changed, way: way.change(changed), ways, attempt), note)


def _nhwc(attempt: Attempt) -> list[Way]:
    """NHWC on as many sides as there are planes of channels."""
    inputs, outputs = attempt.nhwc
    for sides in ((True, True), (True, outputs), (inputs, True)):
        if attempt.turned is None or sides == attempt.nhwc:
            continue
        with suppress(UsageError):
            graph = attempt.turned(sides)
            options = [f"--{side}-layout nhwc" for side, now, wanted in zip(("input", "output"), attempt.nhwc, sides, strict=True) if wanted and not now]
            return [Way(" ".join(options), _on(graph))]
    return []


def _on(graph: Graph) -> Callable[[Attempt], Attempt]:
    return lambda attempt: replace(attempt, graph=graph)


def int4(attempt: Attempt) -> list[Way]:
    """Weights of four bits, if a layer would have them, and what they do to the outputs."""
    if attempt.choice.narrow:
        return []
    graph, narrowed = narrow_weights(attempt.graph, attempt.calibration)
    graph.name = attempt.graph.name
    if not narrowed.layers:
        return []
    note = f"outputs change: {distance(narrowed, graph)}" + ("; typical inputs (--calibration) would tell more" if attempt.calibration is None else "")
    way = Way("--weights int4", lambda a: replace(a, graph=graph, choice=replace(a.choice, narrow=True, saved=0)), note)
    return [way, joined(way, PORTABLE)] if attempt.choice.optimize != "size" else [way]


def dead_channels(attempt: Attempt) -> list[Way]:
    return [Way("no --keep-dead-channels", _drop_dead)] if attempt.kept else []


def smaller_window(attempt: Attempt) -> list[Way]:
    """The largest cut of the input's rows that all layers stand: another model, of which all but the training is known."""
    for part, name in PARTS.items():
        with suppress(MidgeError):
            with_less_rows(attempt.graph, part)
            note = "the network has to be trained again for that window"
            return [Way(f"a smaller input window, {name} the rows of '{short(attempt.graph.inputs[0])}'", _on_less_rows(part), note)]
    return []


def _on_less_rows(part: Fraction) -> Callable[[Attempt], Attempt]:
    return lambda attempt: replace(attempt, graph=with_less_rows(attempt.graph, part))


def size(attempt: Attempt) -> Attempt:
    return replace(attempt, choice=replace(attempt.choice, optimize="size", require_fast=False))


PORTABLE = Way("--optimize size", size)


def optimize(name: str) -> Callable[[Attempt], Attempt]:
    return lambda attempt: replace(attempt, choice=replace(attempt.choice, optimize=name))


def by_rows(attempt: Attempt) -> Attempt:
    return replace(attempt, wish=replace(attempt.wish, by_rows=True))


def stream(attempt: Attempt) -> Attempt:
    return replace(attempt, wish=replace(attempt.wish, stream=True))


def hand_out(attempt: Attempt) -> Attempt:
    return replace(attempt, wish=replace(attempt.wish, hand_out=True))


def not_stepwise(attempt: Attempt) -> Attempt:
    return replace(attempt, wish=replace(attempt.wish, stepwise=False))


def to_target(name: str) -> Callable[[Attempt], Attempt]:
    def change(attempt: Attempt) -> Attempt:
        table: Costs = load_costs(name)
        return replace(attempt, target=get_target(name), choice=replace(attempt.choice, costs=table))

    return change


def _drop_dead(attempt: Attempt) -> Attempt:
    graph, dead = eliminate_dead_channels(attempt.graph)
    graph.name = attempt.graph.name
    return replace(attempt, graph=graph, kept=False, choice=replace(attempt.choice, saved=dead.saved))
