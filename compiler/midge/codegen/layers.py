# SPDX-License-Identifier: Apache-2.0
"""One C function per layer: the loops over rows that drive its kernels."""

from __future__ import annotations

from dataclasses import dataclass

from midge.codegen.kernels import ARCHS, Field, Function, declare, rename, struct_fields
from midge.codegen.names import comment, plain_text, wrapped_list
from midge.codegen.weights import symbol
from midge.errors import IRError
from midge.program import Call, Contract, Layer, Operand, Program

ROW_HELPER = """\
/* Row `row` of a tensor of `height` rows, or the row of padding if there is none. */
NAME_CODE_SECTION static inline const void *name_row(const int8_t *first, int32_t row, int32_t height, int32_t row_nbytes, const void *pad_row) {
  return row >= 0 && row < height ? first + row * row_nbytes : pad_row;
}"""


def place(base: str, offset: int) -> str:
    """An address as C."""
    return f"{base} + {offset}" if offset else base


@dataclass(frozen=True)
class Stage:
    """A layer with its calls, by index into Program.calls."""

    layer: Layer
    calls: tuple[int, ...]


def stages(program: Program) -> list[Stage]:
    """Layers in the order they run.

    Raises: IRError if calls of a layer are apart or belong to none.
    """
    layers = {layer.index: layer for layer in program.layers}
    found: list[tuple[int, list[int]]] = []
    for index, call in enumerate(program.calls):
        if found and found[-1][0] == call.layer:
            found[-1][1].append(index)
        elif call.layer not in layers or any(call.layer == layer for layer, _ in found):
            raise IRError(f"call {index} ('{call.name}'): layer {call.layer} is not listed or was left before")
        else:
            found.append((call.layer, [index]))
    return [Stage(layers[layer], tuple(calls)) for layer, calls in found]


def pads(call: Call, operand: Operand) -> bool:
    """Whether a call meets padding through this operand."""
    return any(row < 0 for y in range(call.rows) for row in operand.window.rows(y))


def stage_source(program: Program, stage: Stage) -> str:
    """The params and constants of a layer and its function."""
    blocks, bodies = [], []
    for position, index in enumerate(stage.calls):
        name = f"layer{stage.layer.index}" + (f"_{position}" if len(stage.calls) > 1 else "")
        call = _CallWriter(program, index, name)
        blocks += call.structs()
        bodies.append(call.body(nested=len(stage.calls) > 1))
    head = f"{program.name.upper()}_CODE_SECTION static void {program.name}_layer{stage.layer.index}(int8_t *arena) {{"
    blocks[0:0] = [stage_comment(program, stage)]
    return "\n".join([*blocks, head, *bodies, "}"])


def stage_comment(program: Program, stage: Stage) -> str:
    """Name, shapes, and where the operands live."""
    layer, calls = stage.layer, [program.calls[index] for index in stage.calls]
    lines = [f"Layer {layer.index}: {plain_text(layer.name)}", plain_text(layer.text) + (f", {layer.macs:,} MACs" if layer.macs else "")]
    read = dict.fromkeys(operand.buffer for call in calls for operand in call.inputs if operand.buffer)
    lines += [f"  reads  {_whereabouts(program, name)}" for name in read]
    lines += [f"  writes {_whereabouts(program, name)}" for name in dict.fromkeys(call.output for call in calls)]
    for index, call in zip(stage.calls, calls, strict=True):
        if call.scratch_nbytes:
            lines.append(f"  scratch at {program.scratch_offsets[index]}, {call.scratch_nbytes} bytes")
    return comment(lines)


def _whereabouts(program: Program, name: str) -> str:
    buffer = program.buffer(name)
    end = buffer.live[1]
    until = "after the run" if end >= len(program.calls) else f"layer {program.calls[end].layer}" if end >= 0 else "the run starts"
    return f"{plain_text(name)} at {buffer.offset}, {buffer.nbytes} bytes, kept until {until}"


class _CallWriter:
    """C text of one call."""

    def __init__(self, program: Program, index: int, name: str) -> None:
        self.program, self.name = program, name
        self.call = call = program.calls[index]
        self.functions = [declare(call.kernel, wanted) for wanted in call.kernel.symbols(program.numerics)]
        self.main = self.functions[1] if call.kernel.contract is Contract.REDUCE else self.functions[0]
        self.scratch = place("arena", program.scratch_offsets[index]) if call.scratch_nbytes else "NULL"
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
        return f"static const {rename(kind, self.program.name)} {self.name}_{what} = {{\n{body}\n}};"

    def _fields(self, struct: str, given: list[str]) -> list[Field]:
        """The members that the call gives: all, or the first ones if the kernel reads no others."""
        fields = struct_fields(self.call.kernel, struct) if struct else []
        if [field.name for field in fields[: len(given)]] != given:
            raise IRError(f"call '{self.call.name}': {struct or 'void'} has the fields {[field.name for field in fields]}, the call gives {given}")
        return fields[: len(given)]

    def _member(self, field: Field) -> str:
        routine = self.program.routines.get(self.call.constants[field.name])
        if routine is not None:
            fast, twin = (rename(symbol, self.program.name) for symbol in (routine.symbol, routine.twin))
            return f"    .{field.name} = {rename(ARCHS[routine.feature].choose, self.program.name)}({fast}, {twin}),"
        constant = self.program.constants.get(self.call.constants[field.name])
        if constant is None:
            raise IRError(f"call '{self.call.name}': no constant named {self.call.constants[field.name]!r}")
        if field.type not in (f"const {constant.dtype.c} *", "const void *"):
            raise IRError(f"call '{self.call.name}': '{field.name}' is a {field.type}, constant {constant.symbol} is {constant.dtype.c}")
        return f"    .{field.name} = {symbol(self.program, constant.symbol)},"

    def body(self, nested: bool) -> str:
        """The statements of this call, in a block of their own if the layer has several."""
        reduce, in_rows = self.call.kernel.contract is Contract.REDUCE, "in_rows" if self.call.inputs else "NULL"
        loop = self.call.rows > 1
        out = [f"{self.main.out_element} *out_rows[1] = {{{self._output(loop and not reduce)}}};"]
        inner = self._in_rows(loop)
        if self.call.block > 1:
            lines = self._blocks()
        elif reduce:
            run = self._loop(loop, [*inner, self._invoke(self.functions[1], in_rows)])
            lines = [*out, self._invoke(self.functions[0], "NULL"), *run, self._invoke(self.functions[2], "NULL")]
        else:
            lines = self._loop(loop, [*inner, *out, self._invoke(self.main, in_rows)])
        if nested and not (loop and not reduce):
            lines = ["{", *(f"  {line}" for line in lines), "}"]
        return "\n".join(f"  {line}" for line in lines)

    def _blocks(self) -> list[str]:
        """Several output rows a call: pointers are gathered row by row, then the kernel runs once for the block."""
        call, element = self.call, self.main.in_element
        taps = sum(operand.window.taps for operand in call.inputs)
        gather = [line.replace("in_rows[", "taps[") for line in self._in_rows(True)]
        if gather[0].startswith("const") and "{" in gather[0]:  # one tap each: a list becomes assignments
            rows = [self._row(operand, True, tap=False) for operand in call.inputs]
            gather = [f"taps[{i}] = {row};" for i, row in enumerate(rows)]
        else:
            gather = gather[1:]
        return [
            f"for (int32_t first = 0; first < {call.rows}; first += {call.block}) {{",
            f"  const {element} *in_rows[{call.block * taps}];",
            f"  {self.main.out_element} *out_rows[{call.block}];",
            "  unsigned rows = 0;",
            f"  for (int32_t y = first; y < first + {call.block} && y < {call.rows}; ++y, ++rows) {{",
            f"    const {element} **taps = in_rows + rows * {taps}u;",
            *(f"    {line}" for line in gather),
            f"    out_rows[rows] = {self._output(True)};",
            "  }",
            f"  {self._invoke(self.main, 'in_rows')}",
            "}",
        ]

    def _loop(self, loop: bool, lines: list[str]) -> list[str]:
        if not loop:
            return lines
        return [f"for (int32_t y = 0; y < {self.call.rows}; ++y) {{", *(f"  {line}" for line in lines), "}"]

    def _invoke(self, function: Function, in_rows: str) -> str:
        arguments = {
            "params": f"&{self.name}_params" if self.call.params else "NULL",
            "in_rows": in_rows,
            "constants": f"&{self.name}_constants" if self.call.constants else "NULL",
            "out_rows": "out_rows",
            "rows": "1" if self.call.block == 1 else "rows",
            "scratch": self.scratch,
        }
        return f"{rename(function.symbol, self.program.name)}({', '.join(arguments[parameter] for parameter in function.parameters)});"

    def _output(self, loop: bool) -> str:
        offset = self.program.buffer(self.call.output).offset + self.call.first_row * self.call.row_nbytes
        return self._typed(place("arena", offset) + (f" + y * {self.call.row_nbytes}" if loop else ""), self.main.out_element, "void *")

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
            base = place("arena", self.program.buffer(operand.buffer).offset + operand.offset)
        if operand.pad_row is not None and pads(self.call, operand):
            pad = symbol(self.program, operand.pad_row)
            return f"{self.program.name}_row({base}, {row}, {operand.window.height}, {operand.row_nbytes}, {pad})"
        step = "" if row == "0" else f" + {row} * {operand.row_nbytes}" if row.isalnum() else f" + ({row}) * {operand.row_nbytes}"
        return self._typed(base + step, self.main.in_element, "const void *")


def row_index(operand: Operand, loop: bool, tap: bool) -> str:
    """Window.rows as a C expression of y and k."""
    window = operand.window
    if window.up > 1:
        return f"y / {window.up}" if loop else "0"
    terms = [("y", window.stride if loop else 0), ("k", window.dilation if tap else 0)]
    text = " + ".join(name if factor == 1 else f"{name} * {factor}" for name, factor in terms if factor)
    if not text:
        return str(-window.pad)
    return text + (f" - {window.pad}" if window.pad > 0 else f" + {-window.pad}" if window.pad < 0 else "")
