# SPDX-License-Identifier: Apache-2.0
"""Which layers move no bytes: what only puts tensors together or takes them apart is a view, if who reads the result can read the tensors themselves.

    concat along rows: its rows are the rows of its inputs              slice of rows: some rows of its input
    concat inside a row: every input is written into its part of it     slice inside a row: a part of every row

A part of a row has to lie in one piece: W of an NHWC tensor, C where W is 1. A tensor that is taken as a whole has to lie in one piece, too, unless the
calls that do so can run by rows. Where no placement does all that, or keeps rows aligned as kernels expect, the bytes are copied.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from midge.program import Buffer, Call, Layer, Piece, Program
from midge.schedule.cells import Conflict, by_rows, in_one_piece, make_cells
from midge.schedule.rows import split

COPY = "midge_copy_s8"


def take_views(program: Program) -> None:
    """Make views of what layers of an unplaced Program only move, and leave the layers out. Calls that stay say in `copies` why they do."""
    gone: set[int] = set()
    for layer in program.layers:
        own = [call for call in program.calls if call.layer == layer.index]
        if any(call.kernel.symbol != COPY or call.output != layer.buffer for call in own):
            continue
        try:
            _take(program, layer, own)
            gone.add(layer.index)
        except Conflict as reason:
            program.calls = [replace(call, copies=str(reason)) if call.layer == layer.index else call for call in program.calls]
    if gone:
        _leave_out(program, gone)


def _take(program: Program, layer: Layer, own: Sequence[Call]) -> None:
    """Make the buffer of a layer a view.

    Raises: Conflict if that cannot be.
    """
    buffer = program.buffers[layer.buffer]
    pieces = _merged([piece for call in own for piece in _moved(program, call)])
    if [0, *(piece.at + piece.nbytes for piece in pieces)] != [*(piece.at for piece in pieces), buffer.nbytes]:
        raise Conflict("other layers write to the same tensor")
    view = replace(buffer, pieces=tuple(pieces))
    _check_ports(program, view)
    seen = {view.name, *(piece.buffer for piece in pieces)}
    seen |= {other.name for other in program.buffers.values() if not seen.isdisjoint(piece.buffer for piece in other.pieces)}
    trial = replace(program, buffers={**program.buffers, view.name: view}, calls=[call for call in program.calls if call.layer != layer.index])
    try:
        _check(trial)
    except Conflict:
        trial.calls = [split(call) if not seen.isdisjoint((call.output, *(operand.buffer for operand in call.inputs))) else call for call in trial.calls]
        _check(trial)
    program.buffers, program.calls = trial.buffers, trial.calls


def _moved(program: Program, call: Call) -> list[Piece]:
    """Whose bytes a call copies to where, row by row."""
    (operand,), params = call.inputs, call.params
    if operand.constant is not None:
        raise Conflict("an input is a constant")
    if any(value != 1 for name, value in params.items() if name.startswith("dim_")):
        raise Conflict("what it moves of a row is not in one piece")
    found = []
    for y in range(call.rows):
        at = (call.first_row + y) * call.row_nbytes + params["out_offset"]
        start = operand.offset + operand.window.rows(y)[0] * operand.row_nbytes + params["in_offset"]
        for piece in program.buffers[operand.buffer].owners(start, params["nbytes"]):
            found.append(replace(piece, at=at + piece.at - start))
    return found


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Pieces in order, those that continue each other as one."""
    found: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: piece.at):
        last = found[-1] if found else None
        if last and (last.buffer, last.at + last.nbytes, last.start + last.nbytes) == (piece.buffer, piece.at, piece.start):
            found[-1] = replace(last, nbytes=last.nbytes + piece.nbytes)
        else:
            found.append(piece)
    return found


def _check_ports(program: Program, view: Buffer) -> None:
    """Inputs and outputs share no bytes: the caller may change them."""
    ports = list(dict.fromkeys(port.buffer for port in program.inputs + program.outputs))
    if view.name in ports:
        shown = [program.buffers[name] if name != view.name else view for name in ports]
        owned = sorted((piece.buffer, piece.start, piece.start + piece.nbytes) for port in shown for piece in port.owners(0, port.nbytes))
        if any(one[0] == two[0] and two[1] < one[2] for one, two in pairwise(owned)):
            raise Conflict("it is an output and would share bytes with another port")


def _check(program: Program) -> None:
    """Raises: Conflict if there is no placement, however many rows a step computes."""
    ports = [port.buffer for port in program.inputs + program.outputs]
    rows = by_rows(program, range(len(program.calls)))
    for calls in (program.calls, [split(call) for call in program.calls]):
        for cut in (rows, set[str]()):
            make_cells(program.buffers, cut, in_one_piece(program, calls, ports))


def _leave_out(program: Program, gone: set[int]) -> None:
    """Number the other layers and what is named after them anew, and drop views that nobody reads any more."""
    kept = [layer for layer in program.layers if layer.index not in gone]
    numbers = {layer.index: number for number, layer in enumerate(kept)}
    program.layers = [replace(layer, index=numbers[layer.index]) for layer in kept]

    def renamed(symbol: str) -> str:
        return re.sub(r"^layer(\d+)_", lambda m: f"layer{numbers[int(m[1])]}_", symbol)

    program.constants = {renamed(symbol): replace(data, symbol=renamed(symbol)) for symbol, data in program.constants.items()}
    for i, call in enumerate(program.calls):
        inputs = tuple(replace(operand, constant=operand.constant and renamed(operand.constant)) for operand in call.inputs)
        constants = {name: renamed(symbol) for name, symbol in call.constants.items()}
        program.calls[i] = replace(call, layer=numbers[call.layer], inputs=inputs, constants=constants)
    used = {port.buffer for port in program.inputs + program.outputs} | {operand.buffer for call in program.calls for operand in call.inputs}
    program.buffers = {name: buffer for name, buffer in program.buffers.items() if name in used or not buffer.pieces}
