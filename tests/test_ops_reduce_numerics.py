# SPDX-License-Identifier: Apache-2.0
"""Pools, means, softmax and dense layers: quantized single-operator models against ONNX Runtime, golden layers of TFLite Micro."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnx_models import I8, model, value
from support import assert_kernels_match, op_graph, program_of, shared

from midge.importers.onnx import load
from midge.ir import Array, Graph
from midge.passes import canonicalize, integerize
from midge.ptq import complete
from midge.run.interpreter import Interpreter
from midge.run.reference import run_reference

# ---- ONNX Runtime: numerics of quantized single-operator models ----


@dataclass
class Single:
    """One operator between DequantizeLinear and QuantizeLinear."""

    node: onnx.NodeProto  # reads 'xf', writes 'yf'
    shape: tuple[int, ...]
    scales: tuple[float, float]
    points: tuple[int, int]
    opset: int = 13
    nodes: list[onnx.NodeProto] = field(default_factory=list)  # further ones, in front
    constants: dict[str, Array] = field(default_factory=dict)

    def model(self) -> onnx.ModelProto:
        constants = {"sx": np.float32(self.scales[0]), "zx": np.int8(self.points[0]), "sy": np.float32(self.scales[1]), "zy": np.int8(self.points[1])}
        first, last = helper.make_node("DequantizeLinear", ["x", "sx", "zx"], ["xf"], "dq"), helper.make_node("QuantizeLinear", ["yf", "sy", "zy"], ["y"], "q")
        return model([first, *self.nodes, self.node, last], [value("x", self.shape, I8)], [value("y", None, I8)], {**constants, **self.constants}, self.opset)

    def random_input(self, rng) -> Array:
        return rng.integers(-128, 128, self.shape).astype(np.int8)


def run_ort(proto: onnx.ModelProto, x: Array) -> Array:
    """ONNX Runtime in float32 between quantizers: its fused integer kernels round differently and are no oracle."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def compiled(proto: onnx.ModelProto) -> tuple[Graph, Interpreter]:
    graph = integerize(complete(canonicalize(load(proto))))
    return graph, Interpreter(program_of(graph))


def run_midge(proto: onnx.ModelProto, x: Array) -> Array:
    """Imported, lowered and run on the kernels, which must equal the references."""
    graph, interpreter = compiled(proto)
    got = interpreter.run([x])[0]
    np.testing.assert_array_equal(got, run_reference(graph, {graph.inputs[0]: x})[graph.outputs[0]].reshape(got.shape))
    return got


def quants(rng):
    scales = tuple(float(np.float32(s)) for s in 10 ** rng.uniform(-2.5, -0.5, 2))
    return scales, tuple(int(z) for z in rng.integers(-128, 128, 2))


def singles_of(kind: str):
    """Random quantized models of one operator, with outputs of some 1e5 elements in all."""
    rng = np.random.default_rng(sum(kind.encode()))
    for round_ in range(12):
        (sx, sy), points = quants(rng)
        if kind == "softmax":
            sy, points = (1 / 256, (points[0], -128)) if round_ % 2 else (float(np.float32(1 / 255)), (points[0], -128))
            yield Single(helper.make_node("Softmax", ["xf"], ["yf"], "n", axis=1), (1, int(rng.integers(2, 20)), 30, 50), (sx * 5, sy), points)
        elif kind == "mean":
            yield Single(
                helper.make_node("GlobalAveragePool", ["xf"], ["yf"], "n"),
                (1, 9000, *(int(v) for v in rng.integers(1, 9, 2))),
                (sx, sx * rng.uniform(0.2, 1)),
                points,
            )
        elif kind == "average":
            kernel, pads = [int(k) for k in rng.integers(2, 4, 2)], [int(p) for p in rng.integers(0, 2, 4)]
            attrs = {"kernel_shape": kernel, "strides": [int(s) for s in rng.integers(1, 3, 2)], "pads": pads, "count_include_pad": round_ % 2}
            yield Single(helper.make_node("AveragePool", ["xf"], ["yf"], "n", **attrs), (1, 60, 21, 22), (sx, sx * rng.uniform(0.3, 3)), points)
        elif kind == "dense":
            depth, count = int(rng.integers(1, 100)), int(rng.integers(1, 100))
            w, b = rng.integers(-127, 128, (depth, count)).astype(np.int8), rng.integers(-3000, 3000, count).astype(np.int32)
            sw = rng.uniform(1e-3, 1e-2, count).astype(np.float32)
            nodes = [
                helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wf"], "dw", axis=1),
                helper.make_node("DequantizeLinear", ["b", "sb", "zb"], ["bf"], "db", axis=0),
                helper.make_node("MatMul", ["xf", "wf"], ["mf"], "m"),
            ]
            constants = {"w": w, "sw": sw, "zw": np.zeros(count, np.int8), "b": b, "sb": sw * np.float32(sx), "zb": np.zeros(count, np.int32)}
            sy = float(np.float32(sx * sw.mean() * np.sqrt(depth) * 60))
            yield Single(helper.make_node("Add", ["mf", "bf"], ["yf"], "n"), (1, 300, depth), (sx, sy), points, nodes=nodes, constants=constants)


@pytest.mark.parametrize("kind", ["softmax", "mean", "average", "dense"])
def test_onnx_numerics_against_onnxruntime(kind):
    rng, count, differing = np.random.default_rng(0), 0, 0
    for single in singles_of(kind):
        x, proto = single.random_input(rng), single.model()
        distance = np.abs(run_midge(proto, x).astype(int) - run_ort(proto, x))
        assert distance.max() <= 1
        count, differing = count + distance.size, differing + int((distance > 0).sum())
    assert count >= 1e5
    assert differing <= count * 1e-5, (kind, differing, count)


def test_equal_scales_differ_from_onnxruntime_at_exact_ties_only():
    """Float32 rounds s * sum / count / s to either side of an exact half, by chance; half to even is as near as integers get."""
    rng, ties = np.random.default_rng(3), 0
    for kernel in ((2, 2), (3, 2), (3, 3), (4, 4)):
        scale, zero_point = float(np.float32(rng.uniform(0.01, 0.2))), int(rng.integers(-128, 128))
        node = helper.make_node("AveragePool", ["xf"], ["yf"], "n", kernel_shape=kernel, strides=kernel)
        single = Single(node, (1, 40, 48, 48), (scale, scale), (zero_point, zero_point))
        x, proto = single.random_input(rng), single.model()
        got, want = run_midge(proto, x).astype(int), run_ort(proto, x).astype(int)
        total = x.reshape(40, 48 // kernel[0], kernel[0], 48 // kernel[1], kernel[1]).astype(int).sum((2, 4)).reshape(got.shape)
        tie = 2 * total % (2 * kernel[0] * kernel[1]) == kernel[0] * kernel[1]
        ties += int(tie.sum())
        np.testing.assert_array_equal(got[~tie], want[~tie])
        assert np.abs(got - want).max() <= 1
    assert ties > 1000


def test_max_pool_equals_onnxruntime_on_every_byte():
    rng = np.random.default_rng(5)
    for ceil, pads, strides, dilations in ((0, [1, 0, 0, 1], [2, 1], [1, 1]), (1, [0, 0, 0, 0], [2, 2], [1, 1]), (1, [1, 1, 1, 1], [2, 3], [2, 1])):
        node = helper.make_node("MaxPool", ["xf"], ["yf"], "n", kernel_shape=[3, 2], pads=pads, strides=strides, dilations=dilations, ceil_mode=ceil)
        single = Single(node, (1, 6, 10, 13), (0.1, 0.1), (-5, -5))
        x, proto = single.random_input(rng), single.model()
        np.testing.assert_array_equal(run_midge(proto, x), run_ort(proto, x))


# ---- Golden layers of TFLite Micro ----

GOLDEN = {
    "kws_ref_model": "mlperf_tiny/kws_ref_model_int8_qdq.onnx",
    "pretrainedResnet": "mlperf_tiny/pretrainedResnet_int8_qdq.onnx",
    "vww_96": "mlperf_tiny/vww_96_int8_qdq.onnx",
    "str_ww_ref_model": "mlperf_tiny/str_ww_ref_model_int8_qdq.onnx",
    "ad01": "mlperf_tiny/ad01_int8_qdq.onnx",
    "tflm_micro_speech_quantized": "zoo/tflm_micro_speech_quantized.onnx",
    "tflm_person_detect": "zoo/tflm_person_detect.onnx",
}
TFLITE_KINDS = {"AveragePool": "AVERAGE_POOL_2D", "Softmax": "SOFTMAX", "Dense": "FULLY_CONNECTED"}


@cache
def golden_graph(name: str) -> Graph:
    graph = load(shared(f"models/{GOLDEN[name]}"))
    graph.numerics = "tflite"
    return integerize(complete(canonicalize(graph)))


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("who", ["rnd", "real"])
def test_golden_layers_on_every_byte(name, who):
    """Each pool, softmax and dense layer alone: its golden input through its kernel gives its golden output."""
    layers = np.load(shared(f"golden/layers/{name}.npz"))
    keys = [key for key in layers.files if key.startswith(f"{who}/")]
    graph, compared = golden_graph(name), 0
    for kind, tflite in TFLITE_KINDS.items():
        nodes = [node for node in graph.nodes if node.op.kind == kind]
        found = [i for i, key in enumerate(keys) if key.endswith(tflite)]
        for node, i in zip(nodes, found, strict=len(found) > 0):
            types, (out,) = graph.types(node.inputs), graph.types(node.outputs)
            constants = [(kind_, graph.data(value)) for kind_, value in zip(types[1:], node.inputs[1:], strict=True)]
            single = op_graph(node.op, [types[0], *constants], out, "tflite")
            x = layers[keys[i - 1]].reshape(types[0].shape)
            np.testing.assert_array_equal(assert_kernels_match(single, {"in0": x})[0].reshape(-1), layers[keys[i]].reshape(-1), err_msg=keys[i])
            compared += 1
    assert compared > 0 or who == "real"
