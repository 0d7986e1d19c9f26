# SPDX-License-Identifier: Apache-2.0
"""A quantized Graph as an ONNX model in QDQ form, which ONNX Runtime runs and `load` imports again.

    x -> QuantizeLinear -> DequantizeLinear -> Conv (weights and bias behind DequantizeLinear) -> Relu or Clip -> QuantizeLinear -> ...

Source: ONNX operator set 13; ONNX Runtime, representation of quantized models in QDQ form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from midge.errors import Unsupported
from midge.importers.onnx_writer import Exporter, Stored, channels_second, identity
from midge.ir import DType, Graph, Node, Quant, TensorType
from midge.ops.pool import AveragePool
from midge.ops.unary import Math

OPSET = 13
NEWER = {"HardSwish": 14, "Gelu": 20}  # operators that came later
IR_VERSION = 8  # readable by all releases that know opset 15
ONNX_TYPES = {DType.F32: TensorProto.FLOAT, DType.S8: TensorProto.INT8, DType.U8: TensorProto.UINT8, DType.S16: TensorProto.INT16, DType.S32: TensorProto.INT32}

Export = Callable[[Exporter, Node], None]
EXPORTERS: dict[str, Export] = {}


def exports(*kinds: str) -> Callable[[Export], Export]:
    """Register a function that writes operators of these kinds."""

    def register(function: Export) -> Export:
        for kind in kinds:
            EXPORTERS[kind] = function
        return function

    return register


def write_qdq(graph: Graph) -> onnx.ModelProto:
    """The Graph as a QDQ model with the inputs and outputs of the original model.

    Raises: Unsupported for a float Graph and for operators that have no ONNX form here.
    """
    opset = max([OPSET, *(NEWER.get(node.op.kind, OPSET) for node in graph.nodes)])
    exporter = Exporter(graph, opset, used={*graph.inputs, *graph.outputs, *graph.output_names})
    inputs = [_input(exporter, name) for name in graph.inputs]
    for node in graph.nodes:
        if node.op.kind not in EXPORTERS:
            raise Unsupported(f"{node.op.kind} '{node.name}' cannot be written as QDQ ONNX; offered are {', '.join(sorted(EXPORTERS))}")
        EXPORTERS[node.op.kind](exporter, node)
    outputs = [_output(exporter, value, public) for value, public in zip(graph.outputs, graph.output_names or graph.outputs, strict=True)]
    proto = helper.make_graph(exporter.nodes, graph.name or "midge", inputs, outputs, list(exporter.initializers.values()))
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", exporter.opset)], producer_name="midge")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


def _port(name: str, type: TensorType) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, ONNX_TYPES[type.dtype], list(type.shape))


def _input(exporter: Exporter, name: str) -> onnx.ValueInfoProto:
    """A model input, quantized if it is float, dequantized if the model itself takes integers."""
    type = exporter.graph.type(name)
    model = exporter.graph.model_types.get(name, type)
    if model.dtype.is_float:
        if name in exporter.graph.outputs:
            raise Unsupported(f"output '{name}' is an input passed through; such a model cannot be written as QDQ ONNX")
        exporter.quantize(name, name, identity(type))
    else:
        parameters, _ = exporter.scale_point(name, model if model.quant is not None else type)
        exporter.stored[name] = Stored(exporter.emit("DequantizeLinear", [name, *parameters], f"{name}/dq"), identity(type))
    return _port(name, model)


def _output(exporter: Exporter, value: str, public: str) -> onnx.ValueInfoProto:
    """A model output; where no node wrote it under its own name, in its own layout, it is copied there."""
    type = exporter.graph.type(value)
    model = exporter.graph.model_types.get(public, type)
    if not any(public in node.output for node in exporter.nodes):
        tensor = exporter.constant(value) if exporter.graph.is_constant(value) else exporter.get(value, identity(type))
        if model.dtype.is_float:
            exporter.emit_to("Identity", [tensor], public)
        else:
            parameters, _ = exporter.scale_point(public, type)
            exporter.emit_to("QuantizeLinear", [tensor, *parameters], public)
    return _port(public, model)


@exports("Conv2D")
def conv(exporter: Exporter, node: Node) -> None:
    op: Any = node.op
    spatial = len(exporter.graph.type(node.inputs[0]).shape) - 2
    weights = exporter.graph.data(node.inputs[1])
    assert weights is not None
    oihw = np.transpose(weights, (0, 3, 1, 2))
    kernel = list(weights.shape[1 : 1 + spatial])
    source = exporter.get(node.inputs[0], (0, 1, 2, 3)) if op.planar else exporter.onnx_order(node.inputs[0])
    operands = [source, exporter.constant(node.inputs[1], oihw if spatial == 2 else oihw[:, :, :, 0])]
    operands += [exporter.constant(name) for name in node.inputs[2:]]
    window = {"kernel_shape": kernel, "strides": list(op.strides[:spatial]), "pads": onnx_pads(op.pads, spatial)}
    y = exporter.emit("Conv", operands, f"{node.outputs[0]}/conv", dilations=list(op.dilations[:spatial]), group=op.groups, **window)
    exporter.put(node, y, channels_second(spatial + 2))


def onnx_pads(pads: tuple[int, int, int, int], spatial: int) -> list[int]:
    """(top, left, bottom, right) as ONNX's begins, then ends, of 1 or 2 spatial axes."""
    return list(pads) if spatial == 2 else [pads[0], pads[2]]


@exports("Transpose")
def transpose(exporter: Exporter, node: Node) -> None:
    """No node: the tensor stays, its axes are those of another value."""
    op: Any = node.op
    held = exporter.stored[node.inputs[0]]
    exporter.stored[node.outputs[0]] = Stored(held.name, tuple(op.perm.index(axis) for axis in held.layout))


@exports("Reshape")
def reshape(exporter: Exporter, node: Node) -> None:
    op: Any = node.op
    source = exporter.get(node.inputs[0], identity(exporter.graph.type(node.inputs[0])))
    shape = exporter.initializer(f"{node.outputs[0]}/shape", np.asarray(op.shape, np.int64))
    y = exporter.emit("Reshape", [source, shape], f"{node.outputs[0]}/reshaped")
    exporter.put(node, y, identity(exporter.graph.type(node.outputs[0])))


@exports("Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Gelu", "Elu", "Math", "Quantize")
def unary(exporter: Exporter, node: Node) -> None:
    """A function of one element keeps the order of axes it finds. Clip is the clamp that `put` writes anyway."""
    op, held, stem = node.op, exporter.stored[node.inputs[0]], f"{node.outputs[0]}/real"
    if isinstance(op, Math):
        y = exporter.emit(op.name, [held.name], stem)
    elif op.kind in ("Clip", "Quantize"):
        y = held.name
    else:
        attributes: dict[str, Any] = {"approximate": "tanh"} if getattr(op, "approximate", False) else {}
        attributes |= {name: float(getattr(op, name)) for name in ("alpha", "beta") if hasattr(op, name)}
        y = exporter.emit(op.kind, [held.name], stem, **attributes)
    exporter.put(node, y, held.layout)


@exports("Add", "Sub", "Mul", "PRelu")
def binary(exporter: Exporter, node: Node) -> None:
    """Operands in the order of axes of the first computed one; operands of lower rank keep their own, the others follow."""
    graph = exporter.graph
    ranks = {len(graph.type(name).shape) for name in graph.activations(node)}
    rank = len(graph.type(node.outputs[0]).shape)
    layout = exporter.stored[graph.activations(node)[0]].layout if ranks == {rank} else tuple(range(rank))
    if node.op.kind == "PRelu":  # slopes belong to axis 1
        layout = channels_second(rank)
    y = exporter.emit(node.op.kind, [_operand(exporter, name, layout) for name in node.inputs], f"{node.outputs[0]}/real")
    exporter.put(node, y, layout)


def _operand(exporter: Exporter, name: str, layout: tuple[int, ...]) -> str:
    """A tensor that broadcasts against others in `layout`."""
    data = exporter.graph.data(name)
    if data is None:
        kind = exporter.graph.type(name)
        return exporter.get(name, layout if len(kind.shape) == len(layout) else identity(kind))
    if data.size == 1:
        return exporter.constant(name, data.reshape(()))
    return exporter.constant(name, np.transpose(data.reshape((1,) * (len(layout) - data.ndim) + data.shape), layout))


@exports("AveragePool", "MaxPool")
def pool(exporter: Exporter, node: Node) -> None:
    op: Any = node.op
    spatial = len(exporter.graph.type(node.inputs[0]).shape) - 2
    window: dict[str, Any] = {"kernel_shape": list(op.kernel[:spatial]), "strides": list(op.strides[:spatial]), "pads": onnx_pads(op.pads, spatial)}
    if isinstance(op, AveragePool):
        window |= {"count_include_pad": int(op.count_include_pad), "ceil_mode": int(any(op.extra))}
    elif op.dilations != (1, 1):
        window["dilations"] = list(op.dilations[:spatial])
    y = exporter.emit(op.kind, [exporter.onnx_order(node.inputs[0])], f"{node.outputs[0]}/pooled", **window)
    exporter.put(node, y, channels_second(spatial + 2))


@exports("Pad")
def pad(exporter: Exporter, node: Node) -> None:
    op: Any = node.op
    held, stem = exporter.stored[node.inputs[0]], node.outputs[0]
    pairs = [op.pads[axis] for axis in held.layout]
    pads = exporter.initializer(f"{stem}/pads", np.array([before for before, _ in pairs] + [after for _, after in pairs], np.int64))
    value = exporter.initializer(f"{stem}/value", np.asarray(op.value, np.float32))
    exporter.put(node, exporter.emit("Pad", [held.name, pads, value], f"{stem}/padded"), held.layout)


@exports("Slice")
def slice_(exporter: Exporter, node: Node) -> None:
    op: Any = node.op
    held, stem = exporter.stored[node.inputs[0]], node.outputs[0]
    shape = exporter.graph.type(node.inputs[0]).shape
    cut = [i for i, axis in enumerate(held.layout) if (op.starts[axis], op.ends[axis], op.steps[axis]) != (0, shape[axis], 1)]
    tables = [[op.starts[held.layout[i]] for i in cut], [op.ends[held.layout[i]] for i in cut], cut, [op.steps[held.layout[i]] for i in cut]]
    names = [exporter.initializer(f"{stem}/{what}", np.array(t, np.int64)) for what, t in zip(("starts", "ends", "axes", "steps"), tables, strict=True)]
    exporter.put(node, exporter.emit("Slice", [held.name, *names], f"{stem}/sliced") if cut else held.name, held.layout)


@exports("Concat")
def concat(exporter: Exporter, node: Node) -> None:
    op: Any = node.op
    computed = exporter.graph.activations(node)
    layout = exporter.stored[computed[0]].layout if computed else identity(exporter.graph.type(node.outputs[0]))
    held = [(name, exporter.graph.data(name)) for name in node.inputs]
    parts = [exporter.get(name, layout) if data is None else exporter.constant(name, np.transpose(data, layout)) for name, data in held]
    exporter.put(node, exporter.emit("Concat", parts, f"{node.outputs[0]}/joined", axis=layout.index(op.axis)), layout)


@exports("Resize")
def resize(exporter: Exporter, node: Node) -> None:
    """Whole-number enlargement as Resize, any other choice of rows and columns as Gather along each axis."""
    op: Any = node.op
    y, stem, rank = exporter.onnx_order(node.inputs[0]), node.outputs[0], len(exporter.graph.type(node.inputs[0]).shape)
    height, width, _ = exporter.graph.type(node.inputs[0]).hwc
    tables = [op.rows, op.cols][: rank - 2]
    factors = [len(table) / size for table, size in zip(tables, (height, width), strict=False)]
    if all(table == tuple(int(i // factor) for i in range(len(table))) and factor == int(factor) for table, factor in zip(tables, factors, strict=True)):
        scales = exporter.initializer(f"{stem}/scales", np.array([1, 1, *factors], np.float32))
        modes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        y = exporter.emit("Resize", [y, "", scales], f"{stem}/resized", **modes)
    else:
        for axis, table in enumerate(tables, 2):
            y = exporter.emit("Gather", [y, exporter.initializer(f"{stem}/indices", np.array(table, np.int64))], f"{stem}/taken", axis=axis)
    exporter.put(node, y, channels_second(rank))


@exports("Mean")
def mean(exporter: Exporter, node: Node) -> None:
    y = exporter.emit("GlobalAveragePool", [exporter.onnx_order(node.inputs[0])], f"{node.outputs[0]}/mean")
    exporter.put(node, y, channels_second(len(exporter.graph.type(node.outputs[0]).shape)))


@exports("Dense")
def dense(exporter: Exporter, node: Node) -> None:
    """Gemm on one row; MatMul and Add where every pixel is a row."""
    graph, stem, kind = exporter.graph, node.outputs[0], exporter.graph.type(node.inputs[0])
    source, weights = exporter.get(node.inputs[0], identity(kind)), graph.data(node.inputs[1])
    assert weights is not None
    bias = [exporter.constant(name) for name in node.inputs[2:]]
    if len(kind.shape) == 2:
        y = exporter.emit("Gemm", [source, exporter.constant(node.inputs[1]), *bias], f"{stem}/dense", transB=1)
    else:
        quant = graph.type(node.inputs[1]).q
        columns = Quant(quant.scale, quant.zero_point, None if quant.axis is None else 1)
        y = exporter.emit("MatMul", [source, exporter.constant(node.inputs[1], weights.T, columns)], f"{stem}/product")
        y = exporter.emit("Add", [y, *bias], f"{stem}/dense") if bias else y
    exporter.put(node, y, identity(graph.type(stem)))


@exports("Softmax")
def softmax(exporter: Exporter, node: Node) -> None:
    held = exporter.stored[node.inputs[0]]
    y = exporter.emit("Softmax", [held.name], f"{node.outputs[0]}/softmax", axis=held.layout.index(len(held.layout) - 1))
    exporter.put(node, y, held.layout)
