# SPDX-License-Identifier: Apache-2.0
"""Pools, means, softmax and dense layers: references against ONNX Runtime and TFLite Micro, kernels against references."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx_models import I8, model, value
from support import assert_kernels_match, op_graph, program_of, s8, shared

from midge.importers.onnx import load
from midge.ir import Array, DType, Graph, Op, Quant, TensorType
from midge.ops.dense import Dense
from midge.ops.mean import Mean
from midge.ops.pool import AveragePool, MaxPool, quotient
from midge.ops.softmax import Softmax, exp_of_negative, reciprocal
from midge.passes import canonicalize, integerize
from midge.quantize import complete
from midge.run.interpreter import Interpreter
from midge.run.reference import run_reference

# ---- Hypothesis: kernels equal references ----


@st.composite
def pools(draw):
    """(graph, feeds): windows as large as the image, padding that counts or not, rounded-up sizes, any two Quants."""
    kernel, strides, pads, extra, size = [], [], [], [], []
    for _ in range(2):
        k = draw(st.integers(1, 4))
        s = draw(st.integers(1, 3))
        begin, end = draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))
        n = draw(st.integers(max(1, k - begin - end), 8))
        over = -(n + begin + end - k) % s if draw(st.booleans()) else 0
        over = 0 if (n + begin + end + over - k) // s * s >= n + begin else over  # the last window starts inside
        kernel, strides, extra, size = [*kernel, k], [*strides, s], [*extra, over], [*size, n]
        pads.append((begin, end))
    if draw(st.integers(0, 4)) == 0:
        kernel, pads, extra = list(size), [(0, 0), (0, 0)], [0, 0]
    channels = draw(st.integers(1, 9))
    around = (pads[0][0], pads[1][0], pads[0][1], pads[1][1])
    x = s8((1, *size, channels), draw(st.floats(0.001, 2.0)), draw(st.sampled_from([-128, -7, 0, 127])))
    op: Op
    if draw(st.integers(0, 2)) == 0:
        dilations = (1, 1) if kernel == size else tuple(draw(st.integers(1, 2)) if k == 1 or n > 2 * k else 1 for k, n in zip(kernel, size, strict=True))
        op = MaxPool(tuple(kernel), tuple(strides), dilations, (around[0], around[1], around[2] + extra[0], around[3] + extra[1]))
        out = op.infer([x])[0]
    else:
        low, high = draw(st.sampled_from([(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0)]))
        op = AveragePool(tuple(kernel), tuple(strides), around, draw(st.booleans()), tuple(extra), low, high)
        quant = x.q if draw(st.booleans()) else Quant.of(draw(st.floats(0.001, 2.0)), draw(st.sampled_from([-128, 3, 127])))
        out = op.infer([x])[0].with_quant(DType.S8, quant)
    return op_graph(op, [x], out, draw(st.sampled_from(["onnx", "tflite"]))), {"in0": integers(draw, x.shape)}


def integers(draw, shape):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        return rng.integers(-128, 128, shape).astype(np.int8)
    return rng.choice(np.array([-128, -127, 0, 126, 127], np.int8), shape)


@settings(max_examples=300, deadline=None)
@given(pools())
def test_pool_kernels_equal_reference(case):
    assert_kernels_match(*case)


@st.composite
def rows(draw, op, most_channels):
    shape = (1, draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, most_channels)))
    x = s8(shape, draw(st.floats(1e-4, 2.0)), draw(st.sampled_from([-128, -7, 0, 127])))
    usual = isinstance(op, Softmax) and draw(st.booleans())
    quant = Quant.of(1 / 256, -128) if usual else Quant.of(draw(st.floats(1e-4, 2.0)), draw(st.sampled_from([-128, 3, 127])))
    return op_graph(op, [x], op.infer([x])[0].with_quant(DType.S8, quant), draw(st.sampled_from(["onnx", "tflite"]))), {"in0": integers(draw, shape)}


@settings(max_examples=150, deadline=None)
@given(rows(Mean(), 11))
def test_mean_kernels_equal_reference(case):
    assert_kernels_match(*case)


@settings(max_examples=150, deadline=None)
@given(rows(Softmax(), 40))
def test_softmax_kernels_equal_reference(case):
    assert_kernels_match(*case)


@st.composite
def dense_layers(draw):
    depth, count = draw(st.integers(1, 20)), draw(st.integers(1, 11))
    shape = (*draw(st.sampled_from([(1,), (1, 3), (1, 2, 3)])), depth)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    w, b = rng.integers(-128, 128, (count, depth)).astype(np.int8), rng.integers(-50000, 50000, count).astype(np.int32)
    scales = rng.uniform(1e-4, 0.1, count if draw(st.booleans()) else 1)
    x = s8(shape, 0.05, draw(st.sampled_from([-128, -3, 0, 127])))
    op = Dense(*draw(st.sampled_from([(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0)])))
    tw, tb = TensorType(DType.S8, w.shape, Quant.of(scales, 0, 0)), TensorType(DType.S32, b.shape)
    out = op.infer([x, tw])[0].with_quant(DType.S8, Quant.of(draw(st.floats(0.01, 2.0)), draw(st.sampled_from([-128, 5, 127]))))
    return op_graph(op, [x, (tw, w), (tb, b)], out, draw(st.sampled_from(["onnx", "tflite"]))), {"in0": integers(draw, shape)}


@settings(max_examples=150, deadline=None)
@given(dense_layers())
def test_dense_kernels_equal_reference(case):
    assert_kernels_match(*case)


# ---- Rounding, by definition ----


@pytest.mark.parametrize("away", [False, True])
def test_quotient_is_exact_division(away):
    total = np.arange(-40000, 40001)
    for count in (*range(1, 66), 125, 1000, 4096):
        whole, rest = total // count, total % count
        tie = 2 * rest == count
        up = np.where(tie, (total > 0) if away else (whole & 1 == 1), 2 * rest > count)
        multiplier, shift = (int(v) for v in _reciprocal(count))
        np.testing.assert_array_equal(quotient(total, np.array(multiplier), np.array(shift), away=away), whole + up, err_msg=str(count))


def _reciprocal(count):
    from midge.fixedpoint import quantize_multiplier

    return quantize_multiplier(1.0 / count)


def test_window_kernel_divides_every_sum_exactly():
    """All int8 pairs: half of the sums are odd, so every other average is a tie."""
    pairs = np.stack(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)), -1).reshape(1, 1, -1, 1).astype(np.int8)
    x = s8(pairs.shape, 0.1, -128)
    op = AveragePool((1, 2), (1, 2))
    total = pairs.reshape(-1, 2).astype(int).sum(-1)
    for numerics in ("onnx", "tflite"):
        got = assert_kernels_match(op_graph(op, [x], op.infer([x])[0].with_quant(x.dtype, x.q), numerics), {"in0": pairs})[0].reshape(-1)
        halves = np.rint((total + 256) / 2) - 128 if numerics == "onnx" else np.trunc(total / 2 + np.sign(total) * 0.5)
        np.testing.assert_array_equal(got, halves)


def test_counted_padding_of_raw_averages_is_real_zero():
    """TFLite sees a Pad in front of the pool: zero points are averaged with the rest, halves away from zero."""
    x = np.array([[[[3], [4]]]], np.int8)
    op = AveragePool((1, 2), (1, 1), (0, 1, 0, 1), True)
    for zero_point in (-128, -7, 5):
        kind = s8(x.shape, 0.1, zero_point)
        got = assert_kernels_match(op_graph(op, [kind], op.infer([kind])[0].with_quant(DType.S8, kind.q), "tflite"), {"in0": x})[0].reshape(-1)
        sums = np.array([3 + zero_point, 7, 4 + zero_point])
        np.testing.assert_array_equal(got, np.trunc(sums / 2 + np.sign(sums) * 0.5))


def test_fixed_point_exp_and_reciprocal_are_close():
    a = -np.arange(0, 31 << 26, 99991, dtype=np.int64)
    np.testing.assert_allclose(exp_of_negative(a) / 2.0**31, np.exp(a / 2.0**26), atol=2e-9, rtol=2e-6)
    b = np.arange(0, 1 << 31, 99991, dtype=np.int64)
    np.testing.assert_allclose(reciprocal(b) / 2.0**31, 1 / (1 + b / 2.0**31), atol=1e-8)


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


def test_golden_network_with_a_mean_between_two_scales():
    """tinymaix_mnist_dw_q: TFLite's MEAN divides its multiplier by the count in integers and rounds twice."""
    golden = np.load(shared("golden/tinymaix_mnist_dw_q.npz"))
    graph = load(shared("models/zoo/tinymaix_mnist_dw_q.onnx"))
    graph.numerics = "tflite"
    graph = integerize(complete(canonicalize(graph)))
    assert [node.op.kind for node in graph.nodes].count("Mean") == 1
    interpreter = Interpreter(program_of(graph))
    for x, y in ((golden["x"], golden["y_tflm"]), (golden["x_real"], golden["y_real_tflm"])):
        for one, want in zip(x, y, strict=True):
            np.testing.assert_array_equal(interpreter.run([one])[0].reshape(-1), want.reshape(-1))
