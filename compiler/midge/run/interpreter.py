# SPDX-License-Identifier: Apache-2.0
"""Runs a Program on the host through the Cython copies of the kernels, on an arena laid out exactly as on the device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from midge.errors import IRError
from midge.ir import Array
from midge.program import Call, Contract, Operand, Program

GUARD = 64  # bytes on both sides of the arena that must stay untouched
Trace = Callable[[int, Array], None]


class Interpreter:
    """One instance of a Program with an arena of its own: `run` may be called again and again."""

    def __init__(self, program: Program, seed: int = 0) -> None:
        from midge.kernels import addresses, functions

        self.program = program
        self.functions = functions()
        self.random = np.random.default_rng(seed)
        raw = np.zeros(program.arena_nbytes + 2 * GUARD + program.arena_align, np.uint8)
        skip = -(raw.ctypes.data + GUARD) % program.arena_align
        self.guarded = raw[skip : skip + program.arena_nbytes + 2 * GUARD]
        self.arena = self.guarded[GUARD : GUARD + program.arena_nbytes]
        self.base = self.arena.ctypes.data
        self.constants = {name: np.ascontiguousarray(constant.data) for name, constant in program.constants.items()}
        twins = addresses()
        self.places = {name: data.ctypes.data for name, data in self.constants.items()} | {r.symbol: twins[r.twin] for r in program.routines.values()}

    def run(self, inputs: list[Array], trace: Trace | None = None) -> list[Array]:
        """Outputs for one set of inputs (shapes and dtypes of Program.inputs). The arena is filled with noise first.

        `trace(layer, bytes)` is called after each layer with the bytes it wrote.
        """
        self.guarded[:] = self.random.integers(0, 256, self.guarded.size, np.uint8)
        guards = self.guarded[:GUARD].copy(), self.guarded[-GUARD:].copy()
        for port, array in zip(self.program.inputs, inputs, strict=True):
            self._view(port.buffer)[:] = np.ascontiguousarray(array, port.type.dtype.numpy).reshape(-1).view(np.uint8)
        for index, call in enumerate(self.program.calls):
            self._call(index, call)
            if trace is not None and call.completes:
                trace(call.layer, self.program.buffers[call.output].hwc(self._view(call.output).copy()))
        if (self.guarded[:GUARD] != guards[0]).any() or (self.guarded[-GUARD:] != guards[1]).any():
            raise IRError("a kernel wrote outside the arena")
        return [self._view(port.buffer).copy().view(port.type.dtype.numpy).reshape(port.type.shape) for port in self.program.outputs]

    def _view(self, name: str) -> Array:
        buffer = self.program.buffers[name]
        return self.arena[buffer.offset : buffer.offset + buffer.nbytes]

    def _call(self, index: int, call: Call) -> None:
        symbols = call.kernel.symbols(self.program.numerics)
        params = list(call.params.values())
        constants = [self.places[name] for name in call.constants.values()]
        scratch = self.base + self.program.scratch_offsets[index] if call.scratch_nbytes else 0
        output = self.base + self.program.buffers[call.output].offset + call.first_row * call.row_nbytes
        if call.kernel.contract is Contract.REDUCE:
            self.functions[symbols[0]](params, [0], constants, [output], 1, scratch)
            for y in range(call.rows):
                self.functions[symbols[1]](params, self._rows(call.inputs, y), constants, [output], 1, scratch)
            self.functions[symbols[2]](params, [0], constants, [output], 1, scratch)
            return
        for y in range(0, call.rows, call.block):
            block = range(y, min(y + call.block, call.rows))
            in_rows = [row for each in block for row in self._rows(call.inputs, each)]
            self.functions[symbols[0]](params, in_rows, constants, [output + each * call.row_nbytes for each in block], len(block), scratch)

    def _rows(self, operands: tuple[Operand, ...], y: int) -> list[int]:
        found: list[int] = []
        for operand in operands:
            base = (
                self.constants[operand.constant].ctypes.data if operand.constant else self.base + self.program.buffers[operand.buffer].offset + operand.offset
            )
            for row in operand.window.rows(y):
                if row >= 0:
                    found.append(base + row * operand.row_nbytes)
                elif operand.pad_row is None:
                    raise IRError(f"row {y} of {operand.buffer} needs padding but has none")
                else:
                    found.append(self.constants[operand.pad_row].ctypes.data)
        return found
