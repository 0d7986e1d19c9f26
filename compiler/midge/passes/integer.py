# SPDX-License-Identifier: Apache-2.0
"""Passes on quantized Graphs: uint8 becomes int8, one Quant around operators that move data, edges as the caller wants them."""

from __future__ import annotations

import numpy as np

from midge.errors import Unsupported
from midge.ir import DType, Graph, Node, Quant, TensorType
from midge.ops.join import Slice
from midge.ops.quantize import Dequantize, Quantize
from midge.ops.view import Reshape
from midge.passes.rewrite import insert


def signed(graph: Graph) -> Graph:
    """uint8 values become int8 with zero_point - 128. Where the model itself takes or gives uint8, a Quantize converts at the edge."""
    for name, value in list(graph.values.items()):
        if value.type.dtype is not DType.U8 or value.type.quant is None:
            continue
        inner = value.type.with_quant(DType.S8, _signed_quant(value.type.quant))
        at_edge = graph.model_types.get(name, inner).dtype is DType.U8
        if value.data is not None:
            value.data = (value.data.astype(np.int16) - 128).astype(np.int8)
        if at_edge and name in graph.inputs:
            readers = [node for node in graph.nodes if name in node.inputs]
            converted = insert(graph, graph.nodes[0] if graph.nodes else None, Quantize(DType.S8, inner.q), name, inner)
            for node in readers:
                node.inputs = [converted if n == name else n for n in node.inputs]
        else:
            value.type = inner
    for node in graph.nodes:
        if isinstance(node.op, Quantize) and graph.type(node.outputs[0]).dtype is DType.S8 and node.op.dtype is DType.U8:
            node.op = Quantize(DType.S8, graph.type(node.outputs[0]).q)
    for i, (name, public) in enumerate(zip(graph.outputs, graph.output_names or graph.outputs, strict=True)):
        declared, kind = graph.model_types.get(public), graph.type(name)
        if declared is not None and declared.dtype is DType.U8 and kind.dtype is DType.S8:
            outer = Quant(kind.q.scale, tuple(z + 128 for z in kind.q.zero_point))
            graph.outputs[i] = insert(graph, None, Quantize(DType.U8, outer), name, kind.with_quant(DType.U8, outer))
    return graph


def _signed_quant(quant: Quant) -> Quant:
    return Quant(quant.scale, tuple(z - 128 for z in quant.zero_point), quant.axis)


def unify(graph: Graph) -> Graph:
    """Operators that only move data get inputs with the Quant of their output; a Quantize converts where a model says otherwise."""
    for node in list(graph.nodes):
        if not node.op.moves_data:
            continue
        out = graph.type(node.outputs[0])
        for i, name in enumerate(node.inputs):
            kind = graph.type(name)
            if kind.quant is None or out.quant is None or (kind.dtype, kind.quant) == (out.dtype, out.quant):
                continue
            node.inputs[i] = insert(graph, node, Quantize(out.dtype, out.q), name, kind.with_quant(out.dtype, out.quant), node)
    return graph


def edges(graph: Graph, io: str) -> Graph:
    """Ports. `io` "quantized": the library takes and gives integers; "model": the element types the model declares, float included.

    Every output gets bytes of its own: one that is an input, a constant, or the same bytes as another output is copied.
    """
    if io == "model":
        _float_ports(graph)
    roots = _roots(graph)
    taken = set(graph.inputs)
    for i, name in enumerate(graph.outputs):
        root = roots.get(name, name)
        if root in taken or graph.is_constant(name):
            kind = graph.type(name)
            shape = kind.shape
            graph.outputs[i] = insert(graph, None, Slice((0,) * len(shape), shape, (1,) * len(shape)), name, kind)
            root = graph.outputs[i]
        taken.add(root)
    return graph


def _roots(graph: Graph) -> dict[str, str]:
    """The value whose bytes each value shares through reshapes."""
    roots: dict[str, str] = {}
    for node in graph.nodes:
        if isinstance(node.op, Reshape):
            roots[node.outputs[0]] = roots.get(node.inputs[0], node.inputs[0])
    return roots


def _float_ports(graph: Graph) -> None:
    for i, name in enumerate(list(graph.inputs)):
        declared, kind = graph.model_types.get(name, graph.type(name)), graph.type(name)
        if not declared.dtype.is_float or kind.dtype.is_float:
            continue
        # the port keeps the public name, so the quantized value gets a new one
        inner = graph.add_value(f"{name}_quantized", kind)
        for node in graph.nodes:
            node.inputs = [inner if n == name else n for n in node.inputs]
        graph.outputs = [inner if n == name else n for n in graph.outputs]
        graph.values[name].type = TensorType(DType.F32, kind.shape)
        graph.nodes.insert(i, Node(f"{name}_quantize", Quantize(kind.dtype, kind.q), [name], [inner]))
    for i, (name, public) in enumerate(zip(list(graph.outputs), graph.output_names or list(graph.outputs), strict=True)):
        kind = graph.type(name)
        if graph.model_types.get(public, kind).dtype.is_float and not kind.dtype.is_float:
            graph.outputs[i] = insert(graph, None, Dequantize(), name, TensorType(DType.F32, kind.shape))


def refuse_float(graph: Graph) -> Graph:
    """Every activation between the edges must be an integer by now.

    Raises: Unsupported listing the values that are not.
    """
    left = [
        f"{node.op.kind.lower()} '{node.name}'"
        for node, types, out in graph.walk()
        if not isinstance(node.op, (Quantize, Dequantize)) and any(t.dtype.is_float for t in [*types, *out])
    ]
    if left:
        raise Unsupported(f"these nodes still compute in float32: {', '.join(left)}; pass --calibration so that they can be quantized")
    return graph
