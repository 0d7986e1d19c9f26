# SPDX-License-Identifier: Apache-2.0
"""Where a Program's need of RAM and flash is greatest, in one line each."""

from __future__ import annotations

from midge.program import Program
from midge.schedule.timeline import peak_step, timeline

LONGEST = 40  # characters of a name
SHOWN = 3  # tensors or layers that are named, largest first


def short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."


def _alive(program: Program, step: int) -> dict[tuple[str, bool], int]:
    """(name, whether it is a tensor) -> bytes alive at a step."""
    found: dict[tuple[str, bool], int] = {}
    for each in timeline(program):
        if each.first <= step <= each.last and not each.memory:
            key = (each.name, each.row >= 0)
            found[key] = found.get(key, 0) + each.nbytes
    return found


def peak(program: Program) -> str:
    """The step at which the most bytes are alive, and the tensors they belong to."""
    number = max(peak_step(program), 0)
    step = program.steps[number]
    call = program.calls[step.call] if step.call >= 0 else None
    where = f"row {step.first} of layer {call.layer} '{short(call.name)}'" if call else f"the arrival of row {step.first} of the input"
    alive = sorted(_alive(program, number).items(), key=lambda item: -item[1])[:SHOWN]
    parts = [f"tensor '{short(name)}' {nbytes:,}" if tensor else f"scratch of '{short(name)}' {nbytes:,}" for (name, tensor), nbytes in alive]
    return f"the peak is at step {number} (of steps 0 to {len(program.steps) - 1}), {where}; most bytes there: {', '.join(parts)}"


def heaviest(program: Program) -> str:
    """The layers with the most bytes of constants."""
    owners: dict[str, int] = {}
    for call in program.calls:
        for symbol in call.constants.values():
            if symbol in program.constants:
                owners.setdefault(symbol, call.layer)
    sums: dict[int, int] = {}
    for symbol, layer in owners.items():
        sums[layer] = sums.get(layer, 0) + program.constants[symbol].data.nbytes
    largest = sorted(sums.items(), key=lambda item: -item[1])[:SHOWN]
    names = ", ".join(f"layer {layer} '{short(program.layers[layer].name)}' {nbytes:,}" for layer, nbytes in largest)
    return f"{program.weight_nbytes:,} bytes are constants; most of them in {names}"
