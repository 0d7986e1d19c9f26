# SPDX-License-Identifier: Apache-2.0
"""Passes: what they leave behind, and that they never change what is computed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import shared

from midge.importers.onnx import load
from midge.ir import Graph
from midge.passes import canonicalize, integerize
from midge.ptq import complete
from midge.run.reference import run_reference


def kinds(graph: Graph) -> list[str]:
    return [node.op.kind for node in graph.nodes]


def model(nodes, inputs, outputs, constants=None, opset=17):
    """An ONNX model of float tensors from (name, shape) lists and a dict of arrays."""
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs]
    outs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs]
    initializers = [numpy_helper.from_array(np.asarray(a), name) for name, a in (constants or {}).items()]
    made = helper.make_model(helper.make_graph(nodes, "g", info, outs, initializers), opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def run_both(proto, feeds) -> tuple[Graph, list[np.ndarray], list[np.ndarray]]:
    """(canonical graph, outputs before, outputs after) in float."""
    before, after = load(proto), canonicalize(load(proto))
    values = run_reference(before, feeds)
    fused = run_reference(after, feeds)
    return after, [values[name] for name in before.outputs], [fused[name] for name in after.outputs]


def assert_same(proto, feeds) -> Graph:
    graph, want, got = run_both(proto, feeds)
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
    return graph


def test_conv_batchnorm_relu_is_one_node():
    rng = np.random.default_rng(0)
    constants = {"w": rng.normal(size=(4, 2, 3, 3)).astype(np.float32)}
    constants.update({k: rng.uniform(0.5, 1.5, 4).astype(np.float32) * s for k, s in (("g", -1), ("b", 1), ("m", 1), ("v", 1))})
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"], "bn"),
        helper.make_node("Relu", ["n"], ["y"], "relu"),
    ]
    graph = assert_same(model(nodes, [("x", (1, 2, 5, 6))], [("y", (1, 4, 5, 6))], constants), {"x": rng.normal(size=(1, 2, 5, 6)).astype(np.float32)})
    assert kinds(graph) == ["Transpose", "Conv2D", "Transpose"]
    assert {"conv", "bn", "relu"} <= set(graph.nodes[1].origin)


def test_residual_block_keeps_no_inner_transpose():
    rng = np.random.default_rng(1)
    constants = {
        "w1": rng.normal(size=(3, 3, 3, 3)).astype(np.float32),
        "w2": rng.normal(size=(3, 3, 1, 1)).astype(np.float32),
        "k": np.float32([[[1.0]], [[2.0]], [[3.0]]]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["b"]),
        helper.make_node("Add", ["b", "r"], ["s"]),
        helper.make_node("Mul", ["s", "k"], ["t"]),
        helper.make_node("GlobalAveragePool", ["t"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    graph = assert_same(model(nodes, [("x", (1, 3, 5, 5))], [("y", (1, 3))], constants), {"x": rng.normal(size=(1, 3, 5, 5)).astype(np.float32)})
    assert kinds(graph).count("Transpose") == 1  # of the input
    assert "Clip" not in kinds(graph)


def test_flatten_before_dense_permutes_the_weights():
    rng = np.random.default_rng(2)
    constants = {
        "w": rng.normal(size=(4, 2, 1, 1)).astype(np.float32),
        "d": rng.normal(size=(4 * 3 * 5, 7)).astype(np.float32),
        "e": rng.normal(size=7).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("Relu", ["f"], ["r"]),
        helper.make_node("MatMul", ["r", "d"], ["m"]),
        helper.make_node("Add", ["m", "e"], ["y"]),
    ]
    graph = assert_same(model(nodes, [("x", (1, 2, 3, 5))], [("y", (1, 7))], constants), {"x": rng.normal(size=(1, 2, 3, 5)).astype(np.float32)})
    assert [k for k in kinds(graph) if k != "Reshape"] == ["Transpose", "Conv2D", "Dense"]
    assert graph.nodes[-1].op.kind == "Dense"
    assert len(graph.nodes[-1].inputs) == 3


def test_movers_between_convolutions_are_renamed_to_nhwc():
    rng = np.random.default_rng(3)
    constants = {"w": rng.normal(size=(4, 2, 1, 1)).astype(np.float32), "w2": rng.normal(size=(5, 6, 3, 3)).astype(np.float32)}
    constants.update({"s": np.array([1, 0]), "e": np.array([3, 2]), "ax": np.array([1, 2]), "p": np.array([0, 0, 1, 0, 0, 0, 0, 1])})
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Slice", ["a", "s", "e", "ax"], ["cut"]),
        helper.make_node("Concat", ["cut", "cut", "cut"], ["cat"], axis=1),
        helper.make_node("Pad", ["cat", "p"], ["pad"]),
        helper.make_node("Conv", ["pad", "w2"], ["y"], pads=[1, 1, 0, 0]),
    ]
    graph = assert_same(model(nodes, [("x", (1, 2, 3, 5))], [("y", (1, 5, 2, 5))], constants), {"x": rng.normal(size=(1, 2, 3, 5)).astype(np.float32)})
    assert kinds(graph) == ["Transpose", "Conv2D", "Slice", "Concat", "Conv2D", "Transpose"]
    assert graph.nodes[4].op.pads == (2, 1, 0, 1)


def test_relu_is_not_fused_where_the_value_is_read_twice():
    rng = np.random.default_rng(4)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Add", ["a", "r"], ["y"]),
    ]
    proto = model(nodes, [("x", (1, 2, 3, 3))], [("y", (1, 2, 3, 3))], {"w": rng.normal(size=(2, 2, 1, 1)).astype(np.float32)})
    graph = assert_same(proto, {"x": rng.normal(size=(1, 2, 3, 3)).astype(np.float32)})
    assert "Clip" in kinds(graph)


@pytest.mark.parametrize(
    "path",
    [
        "mlperf_tiny/kws_ref_model_fp32",
        "mlperf_tiny/pretrainedResnet_fp32",
        "mlperf_tiny/str_ww_ref_model_fp32",
        "trained/mnist5k_mbv2_fp32",
        "zoo/mnist-8",
        "zoo/micro_kws_m_static_fp32",
    ],
)
def test_real_models_compute_the_same_after_fusion(path):
    proto = onnx.load(shared(f"models/{path}.onnx"))
    graph = load(proto)
    rng = np.random.default_rng(5)
    feeds = {name: rng.uniform(-1, 1, graph.type(name).shape).astype(np.float32) for name in graph.inputs}
    fused = assert_same(proto, feeds)
    assert "Clip" not in kinds(fused)
    assert kinds(fused).count("Transpose") <= 1


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (1, 3, 7)])
def test_mixed_layouts_meet_in_nhwc_and_the_pass_ends(shape):
    """A residual around a convolution and the model's own NCHW input: the input is transposed once, the sum computed in NHWC."""
    rng = np.random.default_rng(5)
    constants = {"w": rng.normal(size=(3, 3, *(1 for _ in shape[2:]))).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Sub", ["c", "x"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    graph = assert_same(model(nodes, [("x", shape)], [("y", shape)], constants), {"x": rng.normal(size=shape).astype(np.float32)})
    assert kinds(graph) == ["Transpose", "Conv2D", "Sub", "Add", "Transpose"]


def test_only_convolutions_read_planes():
    """PRelu and others that read the transposed input leave its transpose where it is."""
    rng = np.random.default_rng(6)
    constants = {"s": rng.uniform(0.1, 0.9, (3, 1, 1)).astype(np.float32)}
    x = rng.normal(size=(1, 3, 4, 5)).astype(np.float32)
    proto = model([helper.make_node("PRelu", ["x", "s"], ["y"])], [("x", x.shape)], [("y", x.shape)], constants)
    graph = integerize(complete(canonicalize(load(proto)), [{"x": x}]))
    assert kinds(graph) == ["Transpose", "PRelu", "Transpose"]
