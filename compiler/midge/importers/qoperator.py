# SPDX-License-Identifier: Apache-2.0
"""Operators that carry their scales themselves: QLinear... of ai.onnx and com.microsoft, QGemm.

Each becomes the float operator on quantized values: the operands are given their Quant, the operator's own importer runs, and its result
is annotated. Source: ONNX QLinearConv-10, QLinearMatMul-10/21; ONNX Runtime contrib operators, com.microsoft-1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from midge.errors import ImportFailed, Unsupported
from midge.ir import Array, DType, Quant
from midge.ops.build import ONNX_OPS, Builder, OnnxNode, onnx_op

EIGHT_BITS = (DType.S8, DType.U8)


@dataclass(frozen=True)
class Form:
    """Where an operator keeps its operands: positions of (value, scale, zero_point) triples and of the output's (scale, zero_point)."""

    op: str  # the float operator
    operands: tuple[int, ...]
    output: int
    axes: tuple[int | None, ...] = ()  # quantized axis of each operand if it has several scales
    bias: int | None = None
    bias_axis: int = 0
    domain: str = "com.microsoft"


FORMS = {
    "QLinearConv": Form("Conv", (0, 3), 6, (None, 0), bias=8, domain=""),
    "QLinearMatMul": Form("MatMul", (0, 3), 6, (None, -1), domain=""),
    "QLinearAdd": Form("Add", (0, 3), 6),
    "QLinearMul": Form("Mul", (0, 3), 6),
    "QLinearAveragePool": Form("AveragePool", (0,), 3),
    "QLinearGlobalAveragePool": Form("GlobalAveragePool", (0,), 3),
    "QLinearSigmoid": Form("Sigmoid", (0,), 3),
    "QLinearLeakyRelu": Form("LeakyRelu", (0,), 3),
    "QLinearSoftmax": Form("Softmax", (0,), 3),
    "QLinearReduceMean": Form("ReduceMean", (0,), 3),
    "QGemm": Form("Gemm", (0, 3), 7, (None, -1), bias=6, bias_axis=-1),
}
QOPERATORS = frozenset({*FORMS, "QLinearConcat"})
MICROSOFT_ONLY = frozenset({name for name, form in FORMS.items() if form.domain} | {"QLinearConcat"})
MICROSOFT = MICROSOFT_ONLY | {"Gelu", "QuantizeLinear", "DequantizeLinear"}
TWIN_OPSET = 21  # ai.onnx operator set that the com.microsoft twins of its operators follow
MAX_OPSET = 99  # of the `opset` attribute, which names an ai.onnx operator set
DEFAULTS = {"LeakyRelu": {"alpha": 0.01}}
OWN_ATTRS = ("channels_last", "opset")


def check_scale(builder: Builder, node: OnnxNode, scale: Array | None, zero_point: Array | None) -> None:
    """Scales are constant, finite and above zero; zero points as many.

    Raises: ImportFailed, or Unsupported for scales computed at run time.
    """
    if scale is None:
        raise Unsupported(f"{node}: the scale must be a constant; quantize statically with calibration data")
    if scale.dtype.kind != "f" or scale.size == 0 or not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ImportFailed(f"{node}: scales must be finite numbers above 0, got {np.unique(scale)[:4].tolist()}")
    if zero_point is not None and (zero_point.dtype.kind not in "iu" or zero_point.size not in (1, scale.size)):
        raise ImportFailed(f"{node}: {zero_point.size} zero points of {zero_point.dtype} for {scale.size} scales")


def read_quant(builder: Builder, node: OnnxNode, index: int, axis: int | None = None) -> tuple[Quant, DType | None]:
    """The Quant at inputs index (scale) and index + 1 (zero_point, 0 if absent), and the zero point's type."""
    scale = builder.required(node, index, "scale")
    zero_point = builder.required(node, index + 1, "zero_point") if node.input(index + 1) else None
    check_scale(builder, node, scale, zero_point)
    if scale.size > 1 and axis is None:
        raise Unsupported(f"{node}: {scale.size} scales for an activation; one per tensor is offered")
    return Quant.of(scale, 0 if zero_point is None else zero_point, axis), DType.of(zero_point.dtype) if zero_point is not None else None


def operand(builder: Builder, node: OnnxNode, index: int, axis: int | None = None) -> str:
    """The value at input `index` with the Quant that follows it."""
    value = node.input(index)
    if not value:
        raise ImportFailed(f"{node}: input {index} is missing")
    held = builder.type(value)
    if axis is not None:
        axis %= max(1, len(held.shape))
    quant, dtype = read_quant(builder, node, index + 1, axis)
    if held.dtype not in EIGHT_BITS or dtype not in (None, held.dtype):
        raise ImportFailed(f"{node}: input {index} is {held.dtype.value}, its zero point {dtype.value if dtype else 'absent'}; both are int8 or both uint8")
    if quant.axis is not None and (quant.axis >= len(held.shape) or len(quant.scale) != held.shape[quant.axis]):
        raise ImportFailed(f"{node}: {len(quant.scale)} scales for input {index} of shape {list(held.shape)}")
    return with_quant(builder, node, value, quant)


def with_quant(builder: Builder, node: OnnxNode, value: str, quant: Quant) -> str:
    """The value with a Quant: itself, or a copy if it is a constant known otherwise."""
    held = builder.type(value).quant
    if held is None:
        builder.set_quant(value, quant)
    elif held != quant:
        data = builder.graph.data(value)
        if data is None:
            raise Unsupported(f"{node}: reads '{value}' as {quant}, it was made as {held}; requantize with DequantizeLinear and QuantizeLinear")
        return builder.constant(value, data, quant)
    return value


def bias_operand(builder: Builder, node: OnnxNode, form: Form, operands: list[str]) -> str:
    """The int32 bias with the scale it has by definition: that of input times weights."""
    value = node.input(form.bias) if form.bias is not None else ""
    if not value:
        return ""
    held = builder.type(value)
    if held.dtype is not DType.S32 or builder.graph.data(value) is None:
        raise ImportFailed(f"{node}: the bias is {held.dtype.value}, wanted constant int32 values")
    x, w = builder.type(operands[0]).q, builder.type(operands[1]).q
    scale = np.asarray(w.scale, np.float64) * x.s * float(node.attrs.get("alpha", 1.0))
    axis = form.bias_axis % max(1, len(held.shape))
    if not np.all(scale > 0) or (scale.size > 1 and (not held.shape or held.shape[axis] != scale.size)):
        raise ImportFailed(f"{node}: a bias of shape {list(held.shape)} for {scale.size} scales above 0")
    return with_quant(builder, node, value, Quant.of(scale, 0, axis))


def float_form(builder: Builder, node: OnnxNode, form: Form) -> str:
    """The float operator on the operands, before its output is quantized."""
    axes = form.axes or (None,) * len(form.operands)
    if node.op == "QGemm":
        axes = (None, 0 if node.attrs.get("transB") else 1)
    operands = [operand(builder, node, index, axis) for index, axis in zip(form.operands, axes, strict=True)]
    bias = bias_operand(builder, node, form, operands)
    attrs: dict[str, Any] = {**DEFAULTS.get(form.op, {}), **{k: v for k, v in node.attrs.items() if k not in OWN_ATTRS}}
    last = bool(node.attrs.get("channels_last", 0)) and len(builder.type(operands[0]).shape) == 4
    if last:
        operands[0] = builder.transpose(operands[0], (0, 3, 1, 2))
    called = replace(node, op=form.op, domain="", opset=float_opset(node), inputs=(*operands, *([bias] if bias else [])), attrs=attrs)
    result = ONNX_OPS[form.op](builder, called)
    y = result if isinstance(result, str) else result[0]
    return builder.transpose(y, (0, 2, 3, 1)) if last else y


def float_opset(node: OnnxNode) -> int:
    """The ai.onnx operator set whose rules hold: the `opset` attribute of QLinearSoftmax; axes as attributes for ReduceMean."""
    opset = int(node.attrs.get("opset", 13)) if node.domain else node.opset
    if not 1 <= opset <= MAX_OPSET:
        raise ImportFailed(f"{node}: opset {opset}; wanted 1 to {MAX_OPSET}")
    return opset


def qlinear_from_onnx(builder: Builder, node: OnnxNode) -> str:
    """Any operator of FORMS. QGemm without an output scale gives floats."""
    form = FORMS[node.op]
    y = float_form(builder, node, form)
    if not node.input(form.output) and node.op == "QGemm":
        return y
    quant, dtype = read_quant(builder, node, form.output)
    dtype = dtype or builder.type(node.input(0)).dtype
    if dtype not in EIGHT_BITS:
        raise ImportFailed(f"{node}: output zero point is {dtype.value}, wanted int8 or uint8")
    return builder.annotate(y, dtype, quant)


@onnx_op("QLinearConcat")
def concat_from_onnx(builder: Builder, node: OnnxNode) -> str:
    """Inputs: output scale, output zero_point, then a triple for each operand."""
    if len(node.inputs) < 5 or (len(node.inputs) - 2) % 3:
        raise ImportFailed(f"{node}: {len(node.inputs)} inputs, wanted 2 and 3 for each operand")
    operands = tuple(operand(builder, node, index) for index in range(2, len(node.inputs), 3))
    result = ONNX_OPS["Concat"](builder, replace(node, op="Concat", domain="", opset=13, inputs=operands))
    quant, dtype = read_quant(builder, node, 0)
    return builder.annotate(result if isinstance(result, str) else result[0], dtype or builder.type(operands[0]).dtype, quant)


onnx_op(*FORMS)(qlinear_from_onnx)
