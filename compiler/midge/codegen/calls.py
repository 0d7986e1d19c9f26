# SPDX-License-Identifier: Apache-2.0
"""The C text of one call: its params and constants, and the loop over rows that drives its kernel."""

from __future__ import annotations

import re

from midge.codegen.blocks import block_rows, row_index, step_counts
from midge.codegen.kernels import ARCHS, Field, Function, declare, rename, struct_fields
from midge.codegen.names import wrapped_list
from midge.codegen.weights import symbol
from midge.errors import IRError
from midge.program import Buffer, Call, Contract, Operand, Program


def place(base: str, offset: int) -> str:
    """An address as C."""
    return f"{base} + {offset}" if offset else base


def pads(call: Call, operand: Operand) -> bool:
    """Whether a call meets padding through this operand."""
    return any(row < 0 for y in range(call.rows) for row in operand.window.rows(y))


def offset_type(program: Program) -> str:
    """The C type of an offset in the arena."""
    return "uint16_t" if program.arena_nbytes <= 1 << 16 else "uint32_t"


def base_of(program: Program, memory: str, arena: str = "arena") -> str:
    """Where the offsets of a memory count from: the arena that the caller gave, or an array of the library."""
    return f"{program.name}_{memory}" if memory else arena


def places_of(program: Program, buffer: Buffer) -> str:
    """Name of the table of places of a buffer's rows."""
    return f"{program.name}_rows_{list(program.buffers).index(buffer.name)}"


class CallWriter:
    """C text of one call. `stepped`: rows `first` and `count` on, scratch where the caller says."""

    def __init__(self, program: Program, index: int, name: str, stepped: bool) -> None:
        self.program, self.name, self.stepped = program, name, stepped
        self.call = call = program.calls[index]
        self.functions = [declare(call.kernel, wanted) for wanted in call.kernel.symbols(program.numerics)]
        self.main = self.functions[1] if call.kernel.contract is Contract.REDUCE else self.functions[0]
        at = next((step.scratch for step in program.steps if step.call == index), -1)
        self.scratch = ("scratch" if stepped else place(base_of(program, program.scratch_memory), at)) if call.scratch_nbytes else "NULL"
        self.output = program.buffer(call.output)
        self.check()

    def check(self) -> None:
        """The call stays within its buffers and finds its padding."""
        for operand in self.call.inputs:
            if pads(self.call, operand) and operand.pad_row is None:
                raise IRError(f"call '{self.call.name}': an operand meets padding and has no row for it")
            if operand.constant is None:
                buffer = self.program.buffer(operand.buffer)
                if operand.offset + operand.window.height * operand.row_nbytes > buffer.nbytes:
                    raise IRError(f"call '{self.call.name}': reads {operand.window.height} rows of {operand.row_nbytes} bytes from '{buffer.name}'")

    def structs(self) -> list[str]:
        """static const params and constants, as far as the kernel takes them."""
        found = []
        if self.call.params:
            fields = self._fields(self.main.params_type, list(self.call.params))
            values = [f".{field.name} = {self.call.params[field.name]}" for field in fields]
            found.append(self._struct(self.main.params_type, "params", wrapped_list(values, "    ")))
        if self.call.constants:
            fields = self._fields(self.main.constants_type, list(self.call.constants))
            found.append(self._struct(self.main.constants_type, "constants", "\n".join(self._member(field) for field in fields)))
        return found

    def _struct(self, kind: str, what: str, body: str) -> str:
        return f"static const {rename(kind, self.program.prefix)} {self.name}_{what} = {{\n{body}\n}};"

    def _fields(self, struct: str, given: list[str]) -> list[Field]:
        """The members that the call gives: all, or the first ones if the kernel reads no others."""
        fields = struct_fields(self.call.kernel, struct) if struct else []
        if [field.name for field in fields[: len(given)]] != given:
            raise IRError(f"call '{self.call.name}': {struct or 'void'} has the fields {[field.name for field in fields]}, the call gives {given}")
        return fields[: len(given)]

    def _member(self, field: Field) -> str:
        routine = self.program.routines.get(self.call.constants[field.name])
        if routine is not None:
            fast, twin = (rename(symbol, self.program.prefix) for symbol in (routine.symbol, routine.twin))
            return f"    .{field.name} = {rename(ARCHS[routine.feature].choose, self.program.prefix)}({fast}, {twin}),"
        constant = self.program.constants.get(self.call.constants[field.name])
        if constant is None:
            raise IRError(f"call '{self.call.name}': no constant named {self.call.constants[field.name]!r}")
        if field.type not in (f"const {constant.dtype.c} *", "const void *"):
            raise IRError(f"call '{self.call.name}': '{field.name}' is a {field.type}, constant {constant.symbol} is {constant.dtype.c}")
        return f"    .{field.name} = {symbol(self.program, constant.symbol)},"

    def unused(self) -> list[str]:
        """Statements for parameters that the body does not name."""
        body = self.body()
        return [f"  (void){name};" for name in (("arena", "first", "count", "scratch") if self.stepped else ("arena",)) if not re.search(rf"\b{name}\b", body)]

    def body(self) -> str:
        """The statements of this call."""
        reduce, in_rows = self.call.kernel.contract is Contract.REDUCE, "in_rows" if self.call.inputs else "NULL"
        loop = self.call.rows > 1
        out = [f"{self.main.out_element} *out_rows[1] = {{{self._output(loop and not reduce)}}};"]
        inner = self._in_rows(loop)
        if self.call.block > 1 and loop and not reduce:
            lines = self._blocks()
        elif reduce:
            run = self._loop(loop, [*inner, self._invoke(self.functions[1], in_rows)])
            begin, end = [self._invoke(self.functions[0], "NULL")], [self._invoke(self.functions[2], "NULL")]
            if self.stepped:
                last = f"first + count == {self.call.rows}"
                begin = ["if (first == 0) {", *(f"  {line}" for line in begin), "}"]
                end = [f"if ({last}) {{", *(f"  {line}" for line in end), "}", *self._hook("0", "out_rows[0]", f"({last} ? {self.output.nbytes} : 0)")]
            lines = [*self._begin(), *out, *begin, *run, *end]
        else:
            lines = self._loop(
                loop, [*self._begin(), *inner, *out, self._invoke(self.main, in_rows), *self._hook(self._row_number("y" if loop else "0"), "out_rows[0]")]
            )
        return "\n".join(f"  {line}" for line in lines)

    def _row_number(self, y: str) -> str:
        return f"{self.call.first_row} + {y}" if self.call.first_row else y

    def _begin(self) -> list[str]:
        return [f"MIDGE_HOOK_BEGIN({self.call.layer});"] if self.stepped else []

    def _hook(self, row: str, where: str, nbytes: str = "") -> list[str]:
        """What a tracer is told of a row; a layer that runs at once tells it as a whole."""
        shown = self.stepped and self.call.output == self.program.layers[self.call.layer].buffer
        return [f"MIDGE_HOOK_END({self.call.layer}, {row}, {where}, {nbytes or self.call.row_nbytes});"] if shown else []

    def _blocks(self) -> list[str]:
        """Several output rows a call: pointers are gathered row by row, then the kernel runs once for the block."""
        if self.call.kernel.shares_taps:
            return self._shared_block()
        call, element = self.call, self.main.in_element
        taps = sum(operand.window.taps for operand in call.inputs)
        gather = [line.replace("in_rows[", "taps[") for line in self._in_rows(True)]
        if gather[0].startswith("const") and "{" in gather[0]:  # one tap each: a list becomes assignments
            rows = [self._row(operand, True, tap=False) for operand in call.inputs]
            gather = [f"taps[{i}] = {row};" for i, row in enumerate(rows)]
        else:
            gather = gather[1:]
        block = self.block()
        until = f"y < begin + {block}" + ("" if self.whole else f" && y < {'end' if self.stepped else call.rows}")
        hook = self._hook(self._row_number("begin + (int32_t)row"), "out_rows[row]")
        return self._each_block(
            [
                f"const {element} *in_rows[{block * taps}];",
                f"{self.main.out_element} *out_rows[{block}];",
                "unsigned rows = 0;",
                f"for (int32_t y = begin; {until}; ++y, ++rows) {{",
                f"  const {element} **taps = in_rows + rows * {taps}u;",
                *(f"  {line}" for line in gather),
                f"  out_rows[rows] = {self._output(True)};",
                "}",
                self._invoke(self.main, "in_rows"),
                *(["for (unsigned row = 0; row < rows; ++row) {", f"  {hook[0]}", "}"] if hook else []),
            ]
        )

    def _each_block(self, lines: list[str]) -> list[str]:
        """The statements for the block that starts at row `begin`, for all blocks."""
        lines = [*self._begin(), *lines]
        start, end = ("first", "end") if self.stepped else ("0", str(self.call.rows))
        if self.counts == {self.block()}:
            return [f"const int32_t begin = {start};", *lines]
        head = ["const int32_t end = first + count;"] if self.stepped else []
        return [*head, f"for (int32_t begin = {start}; begin < {end}; begin += {self.block()}) {{", *(f"  {line}" for line in lines), "}"]

    def _shared_block(self) -> list[str]:
        """Several output rows a call: pointers to the input rows of all of them, each once."""
        (operand,), block = self.call.inputs, self.block()
        taps, stride = operand.window.taps, operand.window.stride
        rows, end = str(block) if self.whole else "rows", "end" if self.stepped else str(self.call.rows)
        last = str((block - 1) * stride + taps) if self.whole else f"(rows - 1) * {stride} + {taps}"
        hook = self._hook(self._row_number("begin + row"), "out_rows[row]")
        return self._each_block(
            [
                f"const {self.main.in_element} *in_rows[{(block - 1) * stride + taps}];",
                f"{self.main.out_element} *out_rows[{block}];",
                *([] if self.whole else [f"const int32_t rows = {end} - begin < {block} ? {end} - begin : {block};"]),
                f"for (int32_t y = begin, k = 0; k < {last}; ++k) {{",
                f"  in_rows[k] = {self._row(operand, True, tap=True)};",
                "}",
                f"for (int32_t y = begin; y < begin + {rows}; ++y) {{",
                f"  out_rows[y - begin] = {self._output(True)};",
                "}",
                self._invoke(self.main, "in_rows"),
                *([f"for (int32_t row = 0; row < {rows}; ++row) {{", f"  {hook[0]}", "}"] if hook else []),
            ]
        )

    @property
    def counts(self) -> set[int]:
        """How many rows the steps of this call have."""
        return step_counts(self.program, self.call)

    def block(self) -> int:
        """Rows that a call of the kernel computes: what it takes and the steps have."""
        return min(self.call.block, max(self.counts))

    @property
    def whole(self) -> bool:
        """Whether all blocks are full."""
        return block_rows(self.program, self.call) > 0

    def _loop(self, loop: bool, lines: list[str]) -> list[str]:
        if not loop:
            return lines
        head = "for (int32_t y = first; y < first + count; ++y) {" if self.stepped else f"for (int32_t y = 0; y < {self.call.rows}; ++y) {{"
        return [head, *(f"  {line}" for line in lines), "}"]

    def _invoke(self, function: Function, in_rows: str) -> str:
        arguments = {
            "params": f"&{self.name}_params" if self.call.params else "NULL",
            "in_rows": in_rows,
            "constants": f"&{self.name}_constants" if self.call.constants else "NULL",
            "out_rows": "out_rows",
            "rows": self._count(),
            "scratch": self.scratch,
        }
        return f"{rename(function.symbol, self.program.prefix)}({', '.join(arguments[parameter] for parameter in function.parameters)});"

    def _count(self) -> str:
        """The number of rows that a kernel is told."""
        rows = block_rows(self.program, self.call)
        if rows:
            return str(rows)
        return "(unsigned)rows" if self.call.kernel.shares_taps else "rows"

    def _output(self, loop: bool) -> str:
        row = self._row_number("y" if loop else "0")
        if self.call.kernel.contract is Contract.ROWS and not self.output.contiguous:
            address = f"{base_of(self.program, self.output.memory)} + {places_of(self.program, self.output)}[{row}]"
        else:
            start = self.output.offset + self.call.first_row * self.call.row_nbytes
            address = place(base_of(self.program, self.output.memory), start) + (f" + y * {self.call.row_nbytes}" if loop else "")
        return self._typed(address, self.main.out_element, "void *")

    @staticmethod
    def _typed(address: str, element: str, generic: str) -> str:
        return address if element == "int8_t" else f"({generic})({address})"

    def _in_rows(self, loop: bool) -> list[str]:
        """Declaration of in_rows: a list where each operand is one row, loops over the taps otherwise."""
        element, operands = self.main.in_element, self.call.inputs
        total = sum(operand.window.taps for operand in operands)
        if not operands:
            return []
        if all(operand.window.taps == 1 for operand in operands):
            rows = ", ".join(self._row(operand, loop, tap=False) for operand in operands)
            return [f"const {element} *in_rows[{total}] = {{{rows}}};"]
        lines, base = [f"const {element} *in_rows[{total}];"], 0
        for operand in operands:
            taps = operand.window.taps
            if taps == 1:
                lines.append(f"in_rows[{base}] = {self._row(operand, loop, tap=False)};")
            else:
                place = f"{base} + k" if base else "k"
                lines += [f"for (int32_t k = 0; k < {taps}; ++k) {{", f"  in_rows[{place}] = {self._row(operand, loop, tap=True)};", "}"]
            base += taps
        return lines

    def _row(self, operand: Operand, loop: bool, tap: bool) -> str:
        """Address of the input row for output row y (0 without a loop) and tap k."""
        row = row_index(operand, loop, tap)
        if operand.constant is not None:
            first = symbol(self.program, operand.constant)
            is_bytes = self.program.constants[operand.constant].dtype.c == "int8_t"
            base = first if is_bytes else f"(const int8_t *){first}"
        else:
            buffer = self.program.buffer(operand.buffer)
            if not buffer.contiguous:
                return self._placed(buffer, operand, row)
            base = place(base_of(self.program, buffer.memory), buffer.offset + operand.offset)
        if operand.pad_row is not None and pads(self.call, operand):
            pad = symbol(self.program, operand.pad_row)
            return f"{self.program.name}_row({base}, {row}, {operand.window.height}, {operand.row_nbytes}, {pad})"
        step = "" if row == "0" else f" + {row} * {operand.row_nbytes}" if row.isalnum() else f" + ({row}) * {operand.row_nbytes}"
        return self._typed(base + step, self.main.in_element, "const void *")

    def _placed(self, buffer: Buffer, operand: Operand, row: str) -> str:
        """Address of a row of a buffer whose rows lie apart."""
        places, base = places_of(self.program, buffer), base_of(self.program, buffer.memory)
        if operand.pad_row is not None and pads(self.call, operand):
            return f"{self.program.name}_placed_row({base}, {places}, {row}, {operand.window.height}, {symbol(self.program, operand.pad_row)})"
        return self._typed(f"{base} + {places}[{row}]", self.main.in_element, "const void *")
