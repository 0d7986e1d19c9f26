# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators and quantization: from ONNX nodes to Graph nodes and types."""

from __future__ import annotations

import math

import numpy as np
import pytest

from midge.errors import ImportFailed, Unsupported
from midge.ir import DType, Graph, Quant, TensorType, Value
from midge.ops.binary import Add, Mul, Sub
from midge.ops.build import ONNX_OPS, Builder, OnnxNode
from midge.ops.prelu import PRelu
from midge.ops.quantize import Quantize
from midge.ops.unary import Clip, Elu, Gelu, HardSigmoid, HardSwish, LeakyRelu, Math, Sigmoid, Tanh

IMAGE = (1, 3, 5, 7)  # NCHW


def imported(name, inputs, opset=20, **attrs):
    """(builder, name of the result); an input is a TensorType (computed), an array (constant) or None (absent)."""
    builder, names = Builder(Graph("g"), "node"), []
    for i, item in enumerate(inputs):
        if item is None:
            names.append("")
        elif isinstance(item, TensorType):
            builder.graph.values[f"in{i}"] = Value(f"in{i}", item)
            names.append(f"in{i}")
        else:
            names.append(builder.constant(f"in{i}", np.asarray(item)))
    return builder, ONNX_OPS[name](builder, OnnxNode(name, "node", "", opset, tuple(names), ("y",), attrs))


def only_op(builder):
    assert len(builder.graph.nodes) == 1
    return builder.graph.nodes[0].op


FLOAT, SIGNED = TensorType(DType.F32, IMAGE), TensorType(DType.S8, IMAGE, Quant.of(1.0))


@pytest.mark.parametrize(
    ("name", "inputs", "opset", "attrs", "op"),
    [
        ("Relu", [FLOAT], 14, {}, Clip(0.0)),
        ("Clip", [FLOAT], 6, {"min": 0.0, "max": 6.0}, Clip(0.0, 6.0)),
        ("Clip", [FLOAT, np.float32(-1), np.float32(2)], 11, {}, Clip(-1.0, 2.0)),
        ("Clip", [FLOAT, None, np.float32([2])], 13, {}, Clip(-math.inf, 2.0)),
        ("Clip", [FLOAT], 13, {}, Clip()),
        ("LeakyRelu", [FLOAT], 6, {}, LeakyRelu(0.01)),
        ("LeakyRelu", [FLOAT], 6, {"alpha": 0.25}, LeakyRelu(0.25)),
        ("Elu", [FLOAT], 6, {"alpha": 2.0}, Elu(2.0)),
        ("HardSigmoid", [FLOAT], 6, {"beta": 0.25}, HardSigmoid(0.2, 0.25)),
        ("HardSwish", [FLOAT], 14, {}, HardSwish()),
        ("Sigmoid", [FLOAT], 13, {}, Sigmoid()),
        ("Tanh", [FLOAT], 13, {}, Tanh()),
        ("Gelu", [FLOAT], 20, {}, Gelu(False)),
        ("Gelu", [FLOAT], 20, {"approximate": b"tanh"}, Gelu(True)),
        ("Exp", [FLOAT], 13, {}, Math("Exp")),
        ("PRelu", [FLOAT, np.float32([[[0.5]]])], 16, {}, LeakyRelu(0.5)),
    ],
)
def test_function_of_one_element(name, inputs, opset, attrs, op):
    builder, value = imported(name, inputs, opset, **attrs)
    assert only_op(builder) == op
    assert builder.type(value) == FLOAT


def test_prelu_per_channel_is_brought_to_nhwc():
    slope = np.float32([0.1, 0.2, 0.3])
    builder, value = imported("PRelu", [FLOAT, slope.reshape(3, 1, 1)])
    node = next(node for node in builder.graph.nodes if node.op == PRelu())
    assert builder.type(node.inputs[0]).shape == (1, 5, 7, 3)
    np.testing.assert_array_equal(builder.graph.data(node.inputs[1]), slope)
    assert builder.type(value).shape == IMAGE
    with pytest.raises(Unsupported, match="one slope, or one for each channel"):
        imported("PRelu", [FLOAT, np.ones((5, 7), np.float32)])


@pytest.mark.parametrize(("name", "op"), [("Add", Add()), ("Sub", Sub()), ("Mul", Mul())])
@pytest.mark.parametrize("shape", [(), (7,), (3, 1, 1), (1, 3, 1, 1), (5, 7), IMAGE])
def test_binary_constants_get_the_full_rank(name, op, shape):
    builder, value = imported(name, [FLOAT, np.full(shape, 2.0, np.float32)])
    assert only_op(builder) == op
    assert builder.type(builder.graph.nodes[0].inputs[1]).shape == (1,) * (4 - len(shape)) + shape
    assert builder.type(value) == FLOAT


def test_sum_chains_and_division_multiplies():
    builder, _ = imported("Sum", [FLOAT, FLOAT, FLOAT])
    assert [node.op for node in builder.graph.nodes] == [Add(), Add()]
    assert imported("Sum", [FLOAT])[1] == "in0"
    builder, _ = imported("Div", [FLOAT, np.float32(4)])
    assert only_op(builder) == Mul()
    assert builder.graph.data(builder.graph.nodes[0].inputs[1]).item() == 0.25
    with pytest.raises(ImportFailed, match="division by 0"):
        imported("Div", [FLOAT, np.float32(0)])
    with pytest.raises(Unsupported, match="divisor must be a constant"):
        imported("Div", [FLOAT, FLOAT])
    with pytest.raises(ImportFailed, match="do not broadcast"):
        imported("Add", [FLOAT, np.ones(4, np.float32)])
    with pytest.raises(Unsupported, match="rank 5"):
        imported("Add", [TensorType(DType.F32, (1, 2, 3, 4, 5)), np.float32(1)])
    with pytest.raises(ImportFailed, match="two inputs"):
        imported("Sub", [FLOAT])


def test_quantize_says_what_a_float_value_is():
    builder, value = imported("QuantizeLinear", [FLOAT, np.float32(0.5), np.int8(3)])
    assert (value, builder.graph.nodes) == ("in0", [])
    assert builder.type("in0") == TensorType(DType.S8, IMAGE, Quant.of(0.5, 3))
    builder, value = imported("QuantizeLinear", [FLOAT, np.float32([0.5])])
    assert builder.type(value) == TensorType(DType.U8, IMAGE, Quant.of(0.5, 0))
    builder, value = imported("QuantizeLinear", [FLOAT, np.float32(1)], output_dtype=3)
    assert builder.type(value) == SIGNED
    builder, value = imported("QuantizeLinear", [TensorType(DType.S8, IMAGE, Quant.of(1.0)), np.float32(2), np.int8(0)])
    assert only_op(builder) == Quantize(DType.S8, Quant.of(2.0))


def test_quantize_of_a_constant_is_a_quantized_constant():
    data = np.float32([[-1.0, 1.25], [0.5, 300.0]])
    builder, value = imported("QuantizeLinear", [data, np.float32([0.5, 1.0]), np.int8([0, 10])], axis=0)
    np.testing.assert_array_equal(builder.graph.data(value), [[-2, 2], [10, 127]])  # 1.25 / 0.5 = 2.5 and 0.5 / 1 go to even
    assert builder.type(value).quant == Quant.of([0.5, 1.0], [0, 10], 0)


def test_dequantize_says_what_integers_mean():
    builder, value = imported("DequantizeLinear", [TensorType(DType.U8, IMAGE), np.float32(0.5), np.uint8(128)])
    assert (value, builder.graph.nodes) == ("in0", [])
    assert builder.type(value).quant == Quant.of(0.5, 128)
    weights = np.int8([[1, 2], [3, 4], [5, 6]])
    builder, value = imported("DequantizeLinear", [weights, np.float32([1, 2]), None], axis=-1)
    assert builder.type(value).quant == Quant.of([1.0, 2.0], 0, 1)
    builder, value = imported("DequantizeLinear", [np.int32([7, 8]), np.float32([1, 2]), np.int32([0, 0])], axis=0)
    np.testing.assert_array_equal(builder.real(value), [7.0, 16.0])
    assert builder.type("in0").quant is None  # another node may read the same integers under another scale
    with pytest.raises(Unsupported, match="give both nodes one scale"):
        imported("DequantizeLinear", [SIGNED, np.float32(2), np.int8(0)])


@pytest.mark.parametrize("scale", [math.nan, math.inf, 0.0, -1.0])
@pytest.mark.parametrize("name", ["QuantizeLinear", "DequantizeLinear"])
def test_scales_are_positive_numbers(name, scale):
    with pytest.raises(ImportFailed, match="finite and above 0"):
        imported(name, [FLOAT if name == "QuantizeLinear" else TensorType(DType.S8, IMAGE), np.float32(scale), np.int8(0)])


@pytest.mark.parametrize(
    ("inputs", "attrs", "error", "message"),
    [
        ([np.zeros((2, 4), np.int8), np.ones((2, 2), np.float32)], {"block_size": 2}, Unsupported, "in blocks"),
        ([np.zeros((2, 4), np.int8), np.ones(3, np.float32)], {}, ImportFailed, "3 scales on axis 1"),
        ([np.zeros((2, 4), np.int8), np.ones(4, np.float32)], {"axis": 5}, ImportFailed, "on axis 5"),
        ([np.zeros((2, 4), np.int8), np.ones(4, np.float32), np.zeros(2, np.int8)], {}, ImportFailed, "2 zero points"),
        ([np.zeros((2, 4), np.int8), np.float32(1), np.uint8(0)], {}, ImportFailed, "zero_point is uint8"),
        ([np.zeros((2, 4), np.int8), np.int32(1)], {}, ImportFailed, "must be float32"),
        ([np.zeros((2, 4), np.int16), np.float32(1)], {}, Unsupported, "from s16"),
        ([np.zeros((2, 4), np.int8)], {}, ImportFailed, "scale"),
        ([np.zeros((2, 4), np.int8), FLOAT], {}, Unsupported, "scale must be a constant"),
        ([TensorType(DType.S8, IMAGE), np.ones(3, np.float32)], {}, Unsupported, "per tensor"),
    ],
)
def test_dequantize_refusals(inputs, attrs, error, message):
    with pytest.raises(error, match=message):
        imported("DequantizeLinear", inputs, **attrs)


def test_other_refusals():
    with pytest.raises(Unsupported, match="per axis 1"):
        imported("QuantizeLinear", [FLOAT, np.ones(3, np.float32), np.zeros(3, np.int8)])
    with pytest.raises(Unsupported, match="output_dtype 5"):
        imported("QuantizeLinear", [FLOAT, np.float32(1)], output_dtype=5)
    with pytest.raises(Unsupported, match="from f32 to s16"):
        imported("QuantizeLinear", [FLOAT, np.float32(1), np.int16(0)])
    with pytest.raises(ImportFailed, match="'none' or 'tanh'"):
        imported("Gelu", [FLOAT], approximate="fast")
    with pytest.raises(ImportFailed, match="2 elements"):
        imported("Clip", [FLOAT, np.float32([1, 2])], 13)
