# SPDX-License-Identifier: Apache-2.0
"""Pools, means, softmax and dense layers: every form of import computes in float what ONNX Runtime does."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx_models import model, value
from support import s8

from midge.errors import ImportFailed, Unsupported
from midge.importers.onnx import load
from midge.ir import DType, TensorType
from midge.ops.dense import Dense
from midge.ops.pool import AveragePool, MaxPool
from midge.passes import canonicalize
from midge.run.reference import run_reference


def float_model(nodes, shape, constants=None, opset=13):
    """A model of one node, or of several, from x to y."""
    return model(nodes if isinstance(nodes, list) else [nodes], [value("x", shape)], [value("y", None)], constants, opset)


def run_ort(proto, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def assert_float_import(node, shape, constants=None, opset=13):
    """The imported and the canonical Graph compute in float what ONNX Runtime does; returns the kinds of nodes left."""
    proto = float_model(node, shape, constants, opset)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    want = run_ort(proto, x)
    for graph in (load(proto), canonicalize(load(proto))):
        got = run_reference(graph, {graph.inputs[0]: x})[graph.outputs[0]]
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    return [node.op.kind for node in graph.nodes]


POOL_FORMS = [
    ({"kernel_shape": [3, 2], "strides": [2, 1]}, (1, 3, 9, 8)),
    ({"kernel_shape": [3, 3], "pads": [1, 0, 0, 1], "strides": [2, 2]}, (1, 3, 8, 8)),
    ({"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, (1, 2, 8, 10)),
    ({"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1}, (1, 2, 9, 10)),
    ({"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, (1, 2, 8, 7)),
    ({"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}, (1, 2, 8, 7)),
    ({"kernel_shape": [3, 3], "auto_pad": "VALID"}, (1, 2, 8, 7)),
    ({"kernel_shape": [3], "strides": [2], "pads": [1, 1]}, (1, 4, 11)),
    ({"kernel_shape": [4], "strides": [3], "ceil_mode": 1}, (1, 4, 12)),
]


@pytest.mark.parametrize(("attrs", "shape"), POOL_FORMS)
@pytest.mark.parametrize("op", ["AveragePool", "MaxPool"])
def test_import_of_pools(op, attrs, shape):
    kinds = assert_float_import(helper.make_node(op, ["x"], ["y"], "n", **attrs), shape)
    assert kinds.count(op) == 1


@pytest.mark.parametrize("shape", [(1, 3, 7, 9), (1, 2, 8, 8)])
def test_import_of_counted_padding(shape):
    """Padding counts, what ceil_mode reaches beyond it does not. Source: ONNX AveragePool-19."""
    for ceil in (0, 1):
        attrs = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "count_include_pad": 1, "ceil_mode": ceil}
        assert_float_import(helper.make_node("AveragePool", ["x"], ["y"], "n", **attrs), shape, opset=19)


def test_import_of_global_pools():
    for op, kind in (("GlobalAveragePool", "Mean"), ("GlobalMaxPool", "MaxPool")):
        for shape in ((1, 5, 4, 6), (1, 5, 7)):
            assert kind in assert_float_import(helper.make_node(op, ["x"], ["y"], "n"), shape)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ([2, 3], (1, 3, 4, 5)),
        ([-1, -2], (1, 3, 4, 5)),
        ([2], (1, 3, 4, 5)),
        ([3], (1, 3, 4, 5)),
        ([1], (1, 3, 4, 5)),
        ([1, 3], (1, 3, 4, 5)),
        ([2], (1, 3, 4)),
        ([1], (1, 3, 4)),
        ([-1], (1, 6)),
        ([0], (1, 6)),
        ([0, 1, 2, 3], (1, 3, 4, 5)),
    ],
)
@pytest.mark.parametrize("keepdims", [0, 1])
def test_import_of_reduce_mean(axes, shape, keepdims):
    assert_float_import(helper.make_node("ReduceMean", ["x"], ["y"], "n", axes=axes, keepdims=keepdims), shape)
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], "n", keepdims=keepdims)
    assert_float_import(node, shape, {"axes": np.array(axes, np.int64)}, opset=18)


def test_spatial_mean_leaves_no_transpose_after_a_flat_result():
    kinds = assert_float_import(helper.make_node("ReduceMean", ["x"], ["y"], "n", axes=[2, 3], keepdims=0), (1, 3, 4, 5))
    assert kinds.count("Mean") == 1
    assert kinds.count("Transpose") <= 1  # of the input, which is NCHW


def test_reduce_mean_without_axes():
    assert_float_import(helper.make_node("ReduceMean", ["x"], ["y"], "n", keepdims=0), (1, 3, 4))
    assert_float_import(helper.make_node("ReduceMean", ["x"], ["y"], "n", noop_with_empty_axes=1), (1, 3, 4), opset=18)


@pytest.mark.parametrize(("opset", "axis"), [(11, None), (11, 1), (11, 2), (11, -1), (11, 0), (13, None), (13, 1), (13, 2), (13, -1), (13, 0)])
@pytest.mark.parametrize("shape", [(1, 6), (1, 3, 4), (1, 3, 4, 5)])
def test_import_of_softmax(opset, axis, shape):
    if axis is not None and axis >= len(shape):
        pytest.skip("no such axis")
    attrs = {} if axis is None else {"axis": axis}
    assert "Softmax" in assert_float_import(helper.make_node("Softmax", ["x"], ["y"], "n", **attrs), shape, opset=opset)


@pytest.mark.parametrize("attrs", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}, {"beta": 0.0}])
@pytest.mark.parametrize("bias", [(5,), (1, 5), (1,), (), (1, 1), None])
def test_import_of_gemm(attrs, bias):
    rng = np.random.default_rng(1)
    constants = {"w": rng.normal(size=(5, 4) if attrs.get("transB") else (4, 5)).astype(np.float32)}
    if bias is not None:
        constants["b"] = rng.normal(size=bias).astype(np.float32)
    kinds = assert_float_import(helper.make_node("Gemm", ["x", *constants], ["y"], "n", **attrs), (1, 4), constants)
    assert kinds == ["Dense"]


@pytest.mark.parametrize(("x", "w"), [((1, 4), (4, 5)), ((4,), (4, 5)), ((1, 4), (4,)), ((1, 3, 4), (4, 5)), ((1, 2, 3, 4), (4, 5)), ((1, 3, 4), (1, 4, 5))])
def test_import_of_matmul(x, w):
    constants = {"w": np.random.default_rng(1).normal(size=w).astype(np.float32)}
    assert "Dense" in assert_float_import(helper.make_node("MatMul", ["x", "w"], ["y"], "n"), x, constants)


def test_rows_of_a_matrix_are_pixels():
    nodes = [helper.make_node("Reshape", ["x", "s"], ["r"], "r"), helper.make_node("MatMul", ["r", "w"], ["y"], "n")]
    constants = {"s": np.array([3, 4], np.int64), "w": np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)}
    assert "Dense" in assert_float_import(nodes, (1, 12), constants)


TWO_ROWS = helper.make_node("Reshape", ["x", "s"], ["r"], "r")
REFUSED = [
    (helper.make_node("MatMul", ["w", "x"], ["y"], "n"), (1, 5), {"w": np.ones((2, 1), np.float32)}, "computed x constant"),
    (helper.make_node("MatMul", ["x", "x"], ["y"], "n"), (1, 1), {}, "computed x constant"),
    (helper.make_node("MatMul", ["x", "w"], ["y"], "n"), (1, 3, 4), {"w": np.ones((2, 4, 5), np.float32)}, "one MatMul each"),
    (helper.make_node("Gemm", ["x", "w"], ["y"], "n", transA=1), (1, 4), {"w": np.ones((1, 5), np.float32)}, "transA"),
    (
        [TWO_ROWS, helper.make_node("Gemm", ["r", "w", "b"], ["y"], "n")],
        (1, 8),
        {"s": np.array([2, 4], np.int64), "w": np.ones((4, 5), np.float32), "b": np.ones((2, 1), np.float32)},
        "differs from row to row",
    ),
    (helper.make_node("LogSoftmax", ["x"], ["y"], "n"), (1, 4), {}, "export the logits"),
    (helper.make_node("AveragePool", ["x"], ["y"], "n", kernel_shape=[2, 2, 2]), (1, 1, 4, 4, 4), {}, "1-D and 2-D pools"),
    (helper.make_node("AveragePool", ["x"], ["y"], "n", kernel_shape=[2, 2], dilations=[2, 2]), (1, 1, 4, 4), {}, "depthwise Conv"),
]


@pytest.mark.parametrize(("node", "shape", "constants", "message"), REFUSED)
def test_what_is_not_offered_says_the_way_out(node, shape, constants, message):
    with pytest.raises(Unsupported, match=message):
        load(float_model(node, shape, constants, opset=19))


def test_indices_of_the_maxima_are_refused():
    node = helper.make_node("MaxPool", ["x"], ["y", "i"], "n", kernel_shape=[2, 2])
    proto = model([node], [value("x", (1, 1, 4, 4))], [value("y", None), value("i", None, TensorProto.INT64)])
    with pytest.raises(Unsupported, match="Indices"):
        load(proto)


def test_broken_shapes_are_named():
    with pytest.raises(ImportFailed, match="does not fit"):
        AveragePool((5, 5)).infer([s8((1, 4, 4, 2), 1, 0)])
    with pytest.raises(ImportFailed, match="wholly in the padding"):
        MaxPool((2, 2), pads=(2, 0, 0, 0)).infer([s8((1, 4, 4, 2), 1, 0)])
    with pytest.raises(ImportFailed, match="does not fit input"):
        Dense().infer([s8((1, 4), 1, 0), TensorType(DType.S8, (3, 5))])
