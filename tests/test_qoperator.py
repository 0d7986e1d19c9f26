# SPDX-License-Identifier: Apache-2.0
"""Operators that carry their scales, and whole quantized models: what the imported Graph means equals ONNX Runtime within one step."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import SHARED, shared

from midge.errors import ImportFailed, Unsupported
from midge.importers.onnx import load
from midge.ir import Array, DType, Graph, Quant, TensorType
from midge.ops.build import dequantize, quantize

U8, I8 = TensorProto.UINT8, TensorProto.INT8
MODELS = [str(path.relative_to(SHARED)) for path in sorted(SHARED.glob("models/*/*.onnx")) if "_q" in path.name] or ["models/none.onnx"]
A, B, Y = (0.05, 120), (0.02, 3), (0.07, 128)  # scale, zero_point


def real_values(graph: Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    """The real number every value stands for: float references, rounded to the grid of each quantized value."""
    real = {
        name: held.data if held.type.quant is None else dequantize(held.data, held.type.quant) for name, held in graph.values.items() if held.data is not None
    }
    for name, data in feeds.items():
        kind = graph.type(name)
        stored = data if kind.quant is None or data.dtype.kind in "iu" else quantize(data, kind.dtype, kind.quant)
        real[name] = data if kind.quant is None else dequantize(stored, kind.quant)
    for node, types, out in graph.walk():
        as_float = [[kind if kind.quant is None else TensorType(DType.F32, kind.shape) for kind in kinds] for kinds in (types, out)]
        inputs = [real[name] for name in node.inputs]
        results = inputs if node.op.kind == "Quantize" else node.op.reference(inputs, as_float[0], as_float[1], "onnx")
        for name, kind, data in zip(node.outputs, out, results, strict=True):
            real[name] = data if kind.quant is None else dequantize(quantize(data, kind.dtype, kind.quant), kind.quant)
    return real


def steps_off(source: Any, graph: Graph, feeds: dict[str, Array]) -> list[float]:
    """Largest distance to ONNX Runtime in steps of each output's scale."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(source if isinstance(source, str) else source.SerializeToString(), options, providers=["CPUExecutionProvider"])
    real, far = real_values(graph, feeds), []
    for name, wanted in zip(graph.outputs, session.run(None, feeds), strict=True):
        quant = graph.type(name).quant
        target = wanted if quant is None or wanted.dtype.kind == "f" else dequantize(wanted, quant)
        far.append(float(np.abs(real[name].reshape(wanted.shape) - target).max()) / (quant.s if quant else 1e-4))
    return far


@pytest.mark.parametrize("name", MODELS)
def test_quantized_models_mean_what_onnxruntime_computes(name: str) -> None:
    path = shared(name)
    graph, rng = load(path), np.random.default_rng(1)
    feeds = {}
    for port in graph.inputs:
        kind = graph.model_types[port]
        feeds[port] = rng.random(kind.shape).astype(np.float32) if kind.dtype.is_float else rng.integers(-128, 128, kind.shape).astype(np.int8)
    assert max(steps_off(str(path), graph, feeds)) < 1.01


def quantized(
    op: str, operands: list[tuple[Any, tuple[Any, Any]]], output: tuple[float, int] | None, *, bias: Any = None, shape: Any = None, **attrs: Any
) -> onnx.ModelProto:
    """One QLinear operator. An operand is a shape (an input of the graph, x0, x1...) or an array, with (scale, zero_point)."""
    microsoft = op not in ("QLinearConv", "QLinearMatMul")
    constants: dict[str, Array] = {}
    inputs, names = [], []
    for i, (what, (scale, zero_point)) in enumerate(operands):
        if isinstance(what, tuple):
            inputs.append(helper.make_tensor_value_info(f"x{i}", U8, what))
        else:
            constants[f"x{i}"] = what
        constants[f"s{i}"] = np.asarray(scale, np.float32)
        constants[f"z{i}"] = np.asarray(zero_point, np.uint8 if isinstance(what, tuple) else what.dtype)
        names += [f"x{i}", f"s{i}", f"z{i}"]
    ends = []
    if output is not None:
        constants |= {"sy": np.float32(output[0]), "zy": np.uint8(output[1])}
        ends = ["sy", "zy"]
    if bias is not None:
        constants["bias"] = bias
    tail = {"QGemm": ["bias" if bias is not None else "", *ends], "QLinearConv": [*ends, *(["bias"] if bias is not None else [])]}.get(op, ends)
    order = [*ends, *names] if op == "QLinearConcat" else [*names, *tail]
    node = helper.make_node(op, order, ["y"], name="n", domain="com.microsoft" if microsoft else "", **attrs)
    result = helper.make_tensor_value_info("y", U8 if output else TensorProto.FLOAT, shape)
    graph = helper.make_graph([node], "net", inputs, [result], [numpy_helper.from_array(data, name) for name, data in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)], ir_version=8)


def integers(*shape: int, low: int = 0, high: int = 256) -> Array:
    return np.random.default_rng(5).integers(low, high, shape)


WEIGHTS = integers(4, 3, 3, 3).astype(np.uint8)
PER_CHANNEL = integers(4, 3, 3, 3, low=-128, high=128).astype(np.int8), (np.array([0.01, 0.02, 0.015, 0.03], np.float32), np.zeros(4, np.int8))
COLUMNS = integers(6, 5, low=-128, high=128).astype(np.int8), (np.array([0.01, 0.02, 0.03, 0.01, 0.02], np.float32), np.zeros(5, np.int8))
TURNED = COLUMNS[0].T.copy(), COLUMNS[1]
BIAS4, BIAS5 = integers(4, low=-900, high=900).astype(np.int32), integers(5, low=-900, high=900).astype(np.int32)
IMAGE = ((1, 3, 6, 5), A)
CASES = {
    "conv uint8 weights": quantized("QLinearConv", [IMAGE, (WEIGHTS, (0.02, 128))], Y, bias=BIAS4, pads=[1, 1, 1, 1]),
    "conv per channel": quantized("QLinearConv", [IMAGE, PER_CHANNEL], (0.3, 100), bias=BIAS4, strides=[2, 1]),
    "matmul": quantized("QLinearMatMul", [((1, 6), A), (COLUMNS[0], (0.02, 0))], (0.2, 100)),
    "matmul per column": quantized("QLinearMatMul", [((1, 6), A), COLUMNS], (0.2, 100)),
    "add": quantized("QLinearAdd", [IMAGE, IMAGE], Y),
    "add constant": quantized("QLinearAdd", [((1, 5), A), (integers(5).astype(np.uint8), B)], Y),
    "mul": quantized("QLinearMul", [IMAGE, ((1, 3, 1, 1), B)], Y),
    "average pool": quantized("QLinearAveragePool", [IMAGE], Y, kernel_shape=[2, 3], strides=[2, 1]),
    "average pool NHWC": quantized("QLinearAveragePool", [((1, 6, 5, 3), A)], Y, kernel_shape=[2, 3], channels_last=1),
    "global average pool": quantized("QLinearGlobalAveragePool", [IMAGE], Y, channels_last=0),
    "global average pool NHWC": quantized("QLinearGlobalAveragePool", [((1, 6, 5, 3), A)], Y, channels_last=1),
    "concat": quantized("QLinearConcat", [((1, 4), A), ((1, 3), B)], Y, axis=1),
    "sigmoid": quantized("QLinearSigmoid", [((1, 9), A)], (1 / 256, 0)),
    "leaky relu": quantized("QLinearLeakyRelu", [((1, 9), A)], Y, alpha=0.2),
    "leaky relu default": quantized("QLinearLeakyRelu", [((1, 9), A)], Y),
    "softmax": quantized("QLinearSoftmax", [((1, 9), A)], (1 / 256, 0), axis=1, opset=13),
    "softmax 11": quantized("QLinearSoftmax", [((1, 3, 3), A)], (1 / 256, 0), axis=1, opset=11),
    "gemm": quantized("QGemm", [((1, 6), A), COLUMNS], (0.2, 100), bias=BIAS5),
    "gemm transposed": quantized("QGemm", [((1, 6), A), TURNED], (0.2, 100), bias=BIAS5, transB=1),
    "gemm to float": quantized("QGemm", [((1, 6), A), (COLUMNS[0], (0.02, 0))], None, bias=BIAS5, alpha=0.5),
}


@pytest.mark.parametrize("name", CASES)
def test_operator_means_what_onnxruntime_computes(name: str) -> None:
    proto = CASES[name]
    graph, rng = load(proto), np.random.default_rng(2)
    feeds = {port: rng.integers(0, 256, graph.type(port).shape).astype(np.uint8) for port in graph.inputs}
    assert max(steps_off(proto, graph, feeds)) < 1.01
    for port in graph.inputs:
        assert graph.type(port).dtype is DType.U8
    out = graph.type(graph.outputs[0])
    if name != "gemm to float":
        assert (out.dtype, graph.model_types["y"].dtype) == (DType.U8, DType.U8)
        assert out.quant in (Quant.of(*Y), Quant.of(0.3, 100), Quant.of(0.2, 100), Quant.of(1 / 256, 0))


def test_reduce_mean() -> None:
    """ONNX Runtime has no such kernel: the mean itself, within half a step."""
    graph = load(quantized("QLinearReduceMean", [IMAGE], Y, axes=[2, 3], keepdims=1))
    x = integers(1, 3, 6, 5).astype(np.uint8)
    y = real_values(graph, {"x0": x})[graph.outputs[0]]
    np.testing.assert_allclose(y, ((x.astype(np.float64) - A[1]) * A[0]).mean((2, 3), keepdims=True), atol=Y[0] / 2 + 1e-6)


def test_uint8_weights_keep_their_zero_point() -> None:
    graph = load(CASES["conv uint8 weights"])
    weights = next(held for held in graph.values.values() if held.data is not None and held.data.size == WEIGHTS.size)
    assert (weights.type.dtype, weights.type.quant) == (DType.U8, Quant.of(0.02, 128))


def test_the_bias_has_the_scale_of_the_products() -> None:
    graph = load(CASES["conv per channel"])
    bias = next(held for held in graph.values.values() if held.type.dtype is DType.S32)
    assert bias.type.quant == Quant.of(PER_CHANNEL[1][0] * np.float64(np.float32(A[0])), 0, 0)


@pytest.mark.parametrize("op", ["ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"])
def test_dynamic_quantization_is_refused_with_a_way_out(op: str) -> None:
    inputs = {"ConvInteger": ["x", "w"], "MatMulInteger": ["x", "m"], "DynamicQuantizeLinear": ["f"]}[op]
    constants = [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(COLUMNS[0], "m")]
    ports = [helper.make_tensor_value_info("x", U8, (1, 3, 6, 6)), helper.make_tensor_value_info("f", TensorProto.FLOAT, (1, 4))]
    outputs = ["y", "s", "z"][: 3 if op == "DynamicQuantizeLinear" else 1]
    result = helper.make_tensor_value_info("y", TensorProto.INT32, None)
    graph = helper.make_graph([helper.make_node(op, inputs, outputs, name="n")], "net", ports, [result], constants)
    with pytest.raises(Unsupported, match=rf"{op} 'n': the operator {op} is not offered; quantize statically"):
        load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))


def test_broken_operands_are_named() -> None:
    for proto, message in [
        (quantized("QLinearAdd", [((1, 4), A), ((1, 4), (0.0, 3))], Y), "scales must be finite numbers above 0"),
        (quantized("QLinearConv", [IMAGE, (PER_CHANNEL[0], (np.ones(3, np.float32), np.zeros(3)))], Y), "3 scales for input 3 of shape"),
        (quantized("QLinearConv", [IMAGE, PER_CHANNEL], Y, bias=BIAS4[:3]), "a bias of shape .3. for 4 scales"),
        (quantized("QLinearConv", [IMAGE, PER_CHANNEL], Y, bias=BIAS4.astype(np.float32)), "the bias is f32, wanted constant int32"),
        (quantized("QGemm", [((1, 6), A), (COLUMNS[0].astype(np.int16), (0.1, 0))], Y), "input 3 is s16"),
    ]:
        with pytest.raises(ImportFailed, match=message):
            load(proto)


def test_a_value_read_with_two_scales_is_refused() -> None:
    proto = quantized("QLinearSigmoid", [((1, 9), A)], (1 / 256, 0))
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(0.3), "other"))
    proto.graph.node.append(helper.make_node("QLinearSigmoid", ["y", "other", "zy", "sy", "zy"], ["y2"], name="second", domain="com.microsoft"))
    proto.graph.output[0].name = "y2"
    with pytest.raises(Unsupported, match="QLinearSigmoid 'second': reads 'n_"):
        load(proto)
