# SPDX-License-Identifier: Apache-2.0
"""Runs a Program on the host through the Cython copies of the kernels, on an arena laid out exactly as on the device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from midge.errors import IRError
from midge.ir import Array
from midge.program import ARRIVAL, Call, Contract, Operand, Program, Step

GUARD = 64  # bytes on both sides of the arena that must stay untouched
Trace = Callable[[int, Array], None]


class Interpreter:
    """One instance of a Program with an arena of its own: `run` may be called again and again."""

    def __init__(self, program: Program, seed: int = 0) -> None:
        from midge.kernels import addresses, functions

        self.program = program
        self.functions = functions()
        self.random = np.random.default_rng(seed)
        sizes = {"": program.arena_nbytes} | {memory.name: memory.nbytes for memory in program.memories}
        self.guarded = {name: _aligned(nbytes + 2 * GUARD, program.arena_align, GUARD) for name, nbytes in sizes.items()}
        self.arenas = {name: whole[GUARD:-GUARD] for name, whole in self.guarded.items()}
        self.bases = {name: arena.ctypes.data for name, arena in self.arenas.items()}
        self.constants = {name: np.ascontiguousarray(constant.data) for name, constant in program.constants.items()}
        twins = addresses()
        self.places = {name: data.ctypes.data for name, data in self.constants.items()} | {r.symbol: twins[r.twin] for r in program.routines.values()}

    def run(self, inputs: list[Array], trace: Trace | None = None) -> list[Array]:
        """Outputs for one set of inputs (shapes and dtypes of Program.inputs). The arena is filled with noise first.

        `trace(layer, bytes)` is called after the last row of each layer with all the bytes it wrote.
        """
        program = self.program
        for whole in self.guarded.values():
            whole[:] = self.random.integers(0, 256, whole.size, np.uint8)
        guards = [np.concatenate([whole[:GUARD], whole[-GUARD:]]) for whole in self.guarded.values()]
        given = [np.ascontiguousarray(array, port.type.dtype.numpy).reshape(-1).view(np.uint8) for port, array in zip(program.inputs, inputs, strict=True)]
        for port, data in list(zip(program.inputs, given, strict=True))[1 if program.streams else 0 :]:
            self._put(port.buffer, 0, data)
        handed: list[list[Array]] = [[] for _ in program.outputs]
        left = [call.rows for call in program.calls]
        written = {} if trace is None else {call.output: np.zeros(program.buffers[call.output].nbytes, np.uint8) for call in program.calls}
        for step in program.steps:
            if step.output >= 0:
                handed[step.output].append(self._rows_of(program.outputs[step.output].buffer, step).copy())
                continue
            if step.call == ARRIVAL:
                port = program.inputs[0]
                nbytes = program.buffers[port.buffer].row_nbytes
                self._put(port.buffer, step.first, given[0][step.first * nbytes : (step.first + step.count) * nbytes])
                continue
            call = program.calls[step.call]
            self._step(call, step)
            if trace is not None:
                self._keep(call, step, written[call.output])
                left[step.call] -= step.count
                if call.output == program.layers[call.layer].buffer and not any(
                    rows for rows, other in zip(left, program.calls, strict=True) if other.layer == call.layer
                ):
                    trace(call.layer, program.buffers[call.output].hwc(written[call.output].copy()))
        if any((np.concatenate([whole[:GUARD], whole[-GUARD:]]) != guard).any() for whole, guard in zip(self.guarded.values(), guards, strict=True)):
            raise IRError("a kernel wrote outside the arena")
        found = [np.concatenate(rows) if rows else self._view(port.buffer).copy() for port, rows in zip(program.outputs, handed, strict=True)]
        return [data.view(port.type.dtype.numpy).reshape(port.type.shape) for port, data in zip(program.outputs, found, strict=True)]

    def _put(self, name: str, row: int, data: Array) -> None:
        """Bytes of whole rows from `row` on."""
        buffer = self.program.buffers[name]
        for number, each in enumerate(data.reshape(-1, buffer.row_nbytes), row):
            self.arenas[buffer.memory][buffer.offsets[number] :][: each.size] = each

    def _view(self, name: str) -> Array:
        buffer = self.program.buffers[name]
        return self.arenas[buffer.memory][buffer.offset : buffer.offset + buffer.nbytes]

    def _rows_of(self, name: str, step: Step) -> Array:
        """The bytes of the rows that a step hands out."""
        buffer = self.program.buffers[name]
        return self.arenas[buffer.memory][buffer.offsets[step.first] :][: step.count * buffer.row_nbytes]

    def _keep(self, call: Call, step: Step, written: Array) -> None:
        """Copy what a step wrote."""
        buffer = self.program.buffers[call.output]
        if call.kernel.contract is Contract.REDUCE:
            if step.first + step.count == call.rows:
                written[:] = self._view(call.output)
            return
        for y in range(step.first, step.first + step.count):
            start = (call.first_row + y) * call.row_nbytes
            at = self._output(call, y) - self.bases[buffer.memory]
            written[start : start + call.row_nbytes] = self.arenas[buffer.memory][at : at + call.row_nbytes]
        assert buffer.nbytes == written.size

    def _output(self, call: Call, y: int) -> int:
        """Address of output row y of a call."""
        buffer = self.program.buffers[call.output]
        if call.row_nbytes == buffer.row_nbytes:
            return self.bases[buffer.memory] + buffer.offsets[call.first_row + y]
        return self.bases[buffer.memory] + buffer.offset + (call.first_row + y) * call.row_nbytes

    def _step(self, call: Call, step: Step) -> None:
        symbols = call.kernel.symbols(self.program.numerics)
        params = list(call.params.values())
        constants = [self.places[name] for name in call.constants.values()]
        scratch = self.bases[self.program.scratch_memory] + step.scratch if call.scratch_nbytes else 0
        end = step.first + step.count
        if call.kernel.contract is Contract.REDUCE:
            buffer = self.program.buffers[call.output]
            output = [self.bases[buffer.memory] + buffer.offset]
            if step.first == 0:
                self.functions[symbols[0]](params, [0], constants, output, 1, scratch)
            for y in range(step.first, end):
                self.functions[symbols[1]](params, self._rows(call.inputs, y), constants, output, 1, scratch)
            if end == call.rows:
                self.functions[symbols[2]](params, [0], constants, output, 1, scratch)
            return
        for y in range(step.first, end, call.block):
            block = range(y, min(y + call.block, end))
            in_rows = [row for each in block for row in self._rows(call.inputs, each)[self._met(call) if each > y else 0 :]]
            self.functions[symbols[0]](params, in_rows, constants, [self._output(call, each) for each in block], len(block), scratch)

    @staticmethod
    def _met(call: Call) -> int:
        """How many taps of an output row the row before it has had."""
        return call.inputs[0].window.taps - call.inputs[0].window.stride if call.kernel.shares_taps else 0

    def _rows(self, operands: tuple[Operand, ...], y: int) -> list[int]:
        found: list[int] = []
        for operand in operands:
            for row in operand.window.rows(y):
                if row >= 0:
                    found.append(self._input(operand, row))
                elif operand.pad_row is None:
                    raise IRError(f"row {y} of {operand.buffer} needs padding but has none")
                else:
                    found.append(self.constants[operand.pad_row].ctypes.data)
        return found

    def _input(self, operand: Operand, row: int) -> int:
        """Address of a row of an operand."""
        if operand.constant:
            return int(self.constants[operand.constant].ctypes.data) + row * operand.row_nbytes
        buffer = self.program.buffers[operand.buffer]
        if operand.row_nbytes == buffer.row_nbytes and operand.offset == 0:
            return self.bases[buffer.memory] + buffer.offsets[row]
        return self.bases[buffer.memory] + buffer.offset + operand.offset + row * operand.row_nbytes


def _aligned(nbytes: int, align: int, lead: int) -> Array:
    """Bytes of which the one after `lead` is at a multiple of `align`."""
    raw = np.zeros(nbytes + align, np.uint8)
    skip = -(raw.ctypes.data + lead) % align
    return raw[skip : skip + nbytes]
