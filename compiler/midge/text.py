# SPDX-License-Identifier: Apache-2.0
"""Print and parse a Graph: one line per input, constant, node and output, each a call with literal arguments.

    graph('kws', 'onnx')
    input('x', 's8', (1, 49, 10, 1), (0.58, 83))
    constant('w', 's8', (64, 10, 4, 1), ((0.01, ...), (0, ...), 0), 'base64 of the little-endian bytes')
    node('conv1', Conv2D(strides=(2, 2), pads=(4, 1, 5, 1)), ('x', 'w', 'b'), ('y',), ('conv1_onnx',))
    value('y', 's8', (1, 25, 5, 64), (0.1, -128))
    output('y', 'scores')

A Quant is (scale, zero_point) or (scales, zero_points, axis). The bytes of constants may be left out for reading, not for parsing.
Lines are read by Python's own parser as literals; nothing is evaluated but the calls named here and operator classes.
"""

from __future__ import annotations

import ast
import base64
import binascii
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import midge.ir as ir
from midge.errors import ImportFailed
from midge.ir import DType, Graph, Node, Op, Quant, TensorType, Value

Literal = Any


def print_graph(graph: Graph, *, data: bool = True) -> str:
    """The text of a Graph; without the bytes of its constants if not `data`."""
    lines = [f"graph({graph.name!r}, {graph.numerics!r})"]
    lines += [f"input({name!r}, {_type(graph.type(name))})" for name in graph.inputs]
    for name, value in graph.values.items():
        if value.data is not None:
            lines.append(f"constant({name!r}, {_type(value.type)}{_bytes(value) if data else ''})")
    for node in graph.nodes:
        lines += [f"value({name!r}, {_type(graph.type(name))})" for name in node.outputs]
        lines.append(f"node({node.name!r}, {_op(node.op)}, {_names(node.inputs)}, {_names(node.outputs)}, {_names(node.origin)})")
    public = graph.output_names or graph.outputs
    lines += [f"output({name!r}, {shown!r})" for name, shown in zip(graph.outputs, public, strict=True)]
    lines += [f"declared({name!r}, {_type(kind)})" for name, kind in graph.model_types.items()]
    lines += [f"nhwc({name!r})" for name in graph.nhwc]
    return "\n".join(lines) + "\n"


def parse_graph(text: str) -> Graph:
    """The Graph of a text that print_graph wrote.

    Raises: ImportFailed naming the line.
    """
    graph = Graph("")
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                _read(graph, line)
            except (SyntaxError, ValueError, KeyError, TypeError, IndexError, binascii.Error) as error:
                raise ImportFailed(f"line {number} of the graph's text is not understood: {error}") from None
    return graph


def _names(names: list[str] | tuple[str, ...]) -> str:
    return repr(tuple(names))


def _bytes(value: Value) -> str:
    assert value.data is not None
    stored = np.ascontiguousarray(value.data, value.data.dtype.newbyteorder("<"))
    return f", {base64.b64encode(stored.tobytes()).decode()!r}"


def _type(kind: TensorType) -> str:
    quant = kind.quant
    if quant is None:
        return f"{kind.dtype.value!r}, {kind.shape!r}, None"
    if quant.axis is None:
        return f"{kind.dtype.value!r}, {kind.shape!r}, ({quant.s!r}, {quant.z!r})"
    return f"{kind.dtype.value!r}, {kind.shape!r}, ({quant.scale!r}, {quant.zero_point!r}, {quant.axis!r})"


def _op(op: Op) -> str:
    """Constructor call with the fields that differ from their defaults."""
    fields = []
    for field in dataclasses.fields(op):
        value = getattr(op, field.name)
        if field.default is dataclasses.MISSING or value != field.default:
            fields.append(f"{field.name}={_literal(value)}")
    return f"{op.kind}({', '.join(fields)})"


def _literal(value: Any) -> str:
    if isinstance(value, Quant):
        return f"quant({value.scale!r}, {value.zero_point!r}, {value.axis!r})"
    if isinstance(value, DType):
        return repr(value.value)
    if isinstance(value, float) and math.isinf(value):
        return "'inf'" if value > 0 else "'-inf'"
    return repr(value)


def _read(graph: Graph, line: str) -> None:
    call = ast.parse(line.strip(), mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError("not a call")
    _READERS[call.func.id](graph, call.args)


def _read_graph(graph: Graph, args: list[ast.expr]) -> None:
    graph.name, graph.numerics = (ast.literal_eval(arg) for arg in args)


def _read_type(args: list[ast.expr]) -> tuple[str, TensorType]:
    name, dtype, shape, quant = (ast.literal_eval(arg) for arg in args)
    return name, TensorType(DType(dtype), tuple(shape), None if quant is None else Quant.of(*quant))


def _read_input(graph: Graph, args: list[ast.expr]) -> None:
    name, kind = _read_type(args)
    graph.values[name] = Value(name, kind)
    graph.inputs.append(name)


def _read_value(graph: Graph, args: list[ast.expr]) -> None:
    name, kind = _read_type(args)
    graph.values[name] = Value(name, kind)


def _read_constant(graph: Graph, args: list[ast.expr]) -> None:
    name, kind = _read_type(args[:4])
    raw = base64.b64decode(ast.literal_eval(args[4]), validate=True)
    array = np.frombuffer(raw, kind.dtype.numpy.newbyteorder("<")).astype(kind.dtype.numpy).reshape(kind.shape)
    graph.values[name] = Value(name, kind, array)


def _read_declared(graph: Graph, args: list[ast.expr]) -> None:
    name, kind = _read_type(args)
    graph.model_types[name] = kind


def _read_nhwc(graph: Graph, args: list[ast.expr]) -> None:
    graph.nhwc.append(str(ast.literal_eval(args[0])))


def _read_output(graph: Graph, args: list[ast.expr]) -> None:
    name, public = (ast.literal_eval(arg) for arg in args)
    graph.outputs.append(name)
    graph.output_names.append(public)


def _read_node(graph: Graph, args: list[ast.expr]) -> None:
    name, inputs, outputs, origin = (ast.literal_eval(args[i]) for i in (0, 2, 3, 4))
    call = args[1]
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError(f"node {name!r} has no operator")
    kind = op_classes()[call.func.id]
    fields = {str(keyword.arg): _field(kind, str(keyword.arg), keyword.value) for keyword in call.keywords}
    graph.nodes.append(Node(name, kind(**fields), list(inputs), list(outputs), tuple(origin)))


def _field(kind: type[Op], name: str, value: ast.expr) -> Any:
    if isinstance(value, ast.Call):
        return Quant.of(*(ast.literal_eval(arg) for arg in value.args))
    literal = ast.literal_eval(value)
    declared = {field.name: str(field.type) for field in dataclasses.fields(kind)}[name]
    if declared == "DType":
        return DType(literal)
    return float(literal) if declared == "float" else literal


def op_classes() -> dict[str, type[Op]]:
    """Every operator class that is loaded, by name."""
    found: dict[str, type[Op]] = {}
    waiting: list[type[Op]] = list(ir.Op.__subclasses__())
    while waiting:
        kind = waiting.pop()
        found[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return found


_READERS: dict[str, Callable[[Graph, list[ast.expr]], None]] = {
    "graph": _read_graph,
    "input": _read_input,
    "value": _read_value,
    "constant": _read_constant,
    "node": _read_node,
    "output": _read_output,
    "declared": _read_declared,
    "nhwc": _read_nhwc,
}
