# SPDX-License-Identifier: Apache-2.0
"""Observers, scales of activations, integer weights and biases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midge.errors import IRError, Unsupported, UsageError
from midge.ir import Array, DType, Graph, Node, Quant, TensorType
from midge.ops.build import dequantize, quantize
from midge.ops.conv import Conv2D
from midge.ops.view import Reshape
from midge.ptq.calibration import run_float
from midge.ptq.observers import MSE, OBSERVERS, Histogram, MinMax, Percentile, activation_quant, make_observer, quant_range
from midge.ptq.schemes import complete, quantize_graph
from midge.ptq.schemes import quantize as quantize_float
from midge.ptq.weights import finish_weights

bounds = st.floats(-1e6, 1e6, width=32)


@given(bounds, bounds)
def test_quant_covers_range_and_zero(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    quant = activation_quant(low, high)
    assert -128 <= quant.z <= 127
    assert quant.s >= float(np.finfo(np.float32).tiny)
    assert quant.s == float(np.float32(quant.s))
    reached = quant_range(quant)
    assert reached[0] <= 0.0 <= reached[1]
    assert reached[0] <= low + 0.51 * quant.s
    assert reached[1] >= high - 0.51 * quant.s


@pytest.mark.parametrize(("low", "high", "wanted"), [(3.0, 3.0, (0.0, 3.0)), (-2.0, -2.0, (-2.0, 0.0)), (0.0, 0.0, (0.0, 1.0)), (-1e-30, 1e-40, (0.0, 1.0))])
def test_quant_of_constant_tensor(low: float, high: float, wanted: tuple[float, float]) -> None:
    assert quant_range(activation_quant(low, high)) == pytest.approx(wanted)


@pytest.mark.parametrize("low,high", [(math.nan, 1.0), (-math.inf, 1.0), (-3e38, 3e38)])  # noqa: PT006
def test_quant_of_infinite_range(low: float, high: float) -> None:
    with pytest.raises(UsageError, match="not finite"):
        activation_quant(low, high)


@given(st.lists(st.lists(bounds, min_size=1, max_size=20), min_size=1, max_size=5), st.sampled_from(sorted(OBSERVERS)))
def test_observed_range_lies_within_what_was_seen(arrays: list[list[float]], name: str) -> None:
    observer = make_observer(name)
    for values in arrays:
        observer.update(np.array(values, np.float32))
    low, high = observer.range()
    seen = [v for values in arrays for v in values]
    assert min([*seen, 0.0]) <= low <= high <= max([*seen, 0.0])
    if name == "minmax":
        assert (low, high) == (min(seen), max(seen))


@given(st.permutations([0.001, -7.5, 1000.0, 3.0, -0.25]))
def test_histogram_does_not_depend_on_order(values: list[float]) -> None:
    one, other = Histogram(), Histogram()
    one.update(np.array(values, np.float32))
    for value in sorted(values):
        other.update(np.array([value], np.float32))
    assert one.limit == other.limit
    np.testing.assert_array_equal(one.counts, other.counts)


def test_percentile_and_mse_ignore_outliers() -> None:
    values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    values[:2] = -20.0, 30.0
    ranges = {}
    for observer in (MinMax(), Percentile(), MSE()):
        observer.update(values)
        ranges[type(observer).__name__] = observer.range()
    assert ranges["MinMax"] == (-20.0, 30.0)
    assert -5 < ranges["Percentile"][0] < -3
    assert 3 < ranges["Percentile"][1] < 5

    def error(bounds: tuple[float, float]) -> float:
        quant = activation_quant(*bounds)
        return float(np.square(values - dequantize(quantize(values, DType.S8, quant), quant)).mean())

    assert error(ranges["MSE"]) < 0.85 * error(ranges["MinMax"])
    assert error(ranges["MSE"]) < error(ranges["Percentile"])


def test_unknown_observer() -> None:
    with pytest.raises(UsageError, match="no observer named 'max'; choose one of minmax, percentile, mse"):
        make_observer("max")


def conv_graph(weights: Array, bias: Array | None, x: TensorType, y: Quant | None = None, op: Conv2D | None = None) -> Graph:
    """One convolution x -> y, weights OHWI."""
    graph = Graph("one_conv", ["x"], ["y"])
    graph.add_value("x", x)
    inputs = ["x", graph.add_constant("w", weights)] + ([graph.add_constant("b", bias)] if bias is not None else [])
    op = op or Conv2D()
    out = op.infer(graph.types(inputs))[0]
    graph.add_value("y", out if y is None else out.with_quant(DType.S8, y))
    graph.nodes.append(Node("conv", op, inputs, ["y"]))
    return graph


def quantized(shape: tuple[int, ...], scale: float, zero_point: int) -> TensorType:
    return TensorType(DType.S8, shape, Quant.of(scale, zero_point))


@given(
    st.lists(st.floats(-10, 10, width=32), min_size=12, max_size=12),
    st.lists(st.floats(-1e5, 1e5, width=32), min_size=4, max_size=4),
    st.sampled_from([0.0, 1e-12, 1e-3, 1.0]),
)
def test_weights_and_bias(weights: list[float], bias: list[float], factor: float) -> None:
    w = np.array(weights, np.float32).reshape(4, 1, 1, 3)
    w[0] *= np.float32(factor)
    b = np.array(bias, np.float32)
    graph = finish_weights(conv_graph(w, b, quantized((1, 5, 5, 3), 0.02, 3), Quant.of(0.5, -10)))
    node = graph.nodes[0]
    wt, bt = graph.type(node.inputs[1]), graph.type(node.inputs[2])
    integers, biases = graph.values[node.inputs[1]].data, graph.values[node.inputs[2]].data
    assert integers is not None
    assert biases is not None
    assert (wt.dtype, bt.dtype, wt.q.axis, bt.q.axis) == (DType.S8, DType.S32, 0, 0)
    assert integers.min() >= -127
    assert set(wt.q.zero_point) == {0}
    scales = wt.q.scales(4)
    assert np.isfinite(scales).all()
    assert (0.02 * scales / 0.5 >= 2.0**-25).all()
    np.testing.assert_allclose(bt.q.scales(4), 0.02 * scales, rtol=1e-6)
    assert (np.abs(dequantize(integers, wt.q) - w) <= 0.501 * scales.reshape(4, 1, 1, 1)).all()
    np.testing.assert_allclose(biases * 0.02 * scales, b, atol=0.51 * 0.02 * float(scales.max()), rtol=1e-6)
    x = np.full((1, 5, 5, 3), 100, np.int8)
    got = dequantize(node.op.reference([x, integers, biases], graph.types(node.inputs), graph.types(["y"]), "onnx")[0], graph.type("y").q)
    exact = np.clip((dequantize(x, graph.type("x").q) * w.reshape(4, 3)[:, None, None]).sum(-1).transpose(1, 2, 0) + b, *quant_range(graph.type("y").q))
    assert np.abs(got[0] - exact).max() <= 0.51 * 0.5 + 3 * 2.0 * 0.51 * float(scales.max())


def test_missing_bias_becomes_zeros() -> None:
    graph = finish_weights(conv_graph(np.ones((2, 1, 1, 3), np.float32), None, quantized((1, 2, 2, 3), 0.1, 0), Quant.of(0.1, 0)))
    np.testing.assert_array_equal(graph.data(graph.nodes[0].inputs[2]), np.zeros(2, np.int32))


def test_integer_weights_and_bias_are_kept_where_scales_agree() -> None:
    w = np.array([[[[5, -7, 9]]], [[[1, 2, 127]]]], np.int8)
    for factor, kept in ((1.0 + 2e-7, True), (2.0, False)):
        graph = conv_graph(w, np.array([1000, -1000], np.int32), quantized((1, 2, 2, 3), 0.1, 0), Quant.of(0.1, 0))
        graph.values["w"].type = graph.type("w").with_quant(DType.S8, Quant.of([0.25, 0.5], 0, 0))
        graph.values["b"].type = graph.type("b").with_quant(DType.S32, Quant.of(np.array([0.025, 0.05]) * factor, 0, 0))
        done = finish_weights(graph)
        np.testing.assert_array_equal(done.data(done.nodes[0].inputs[1]), w)
        np.testing.assert_array_equal(done.data(done.nodes[0].inputs[2]), [1000, -1000] if kept else [2000, -2000])
        np.testing.assert_allclose(done.type(done.nodes[0].inputs[2]).q.scale, [0.025, 0.05], rtol=1e-6)


def test_finish_weights_wants_activations_quantized_and_keeps_its_input() -> None:
    graph = conv_graph(np.ones((2, 1, 1, 3), np.float32), None, quantized((1, 2, 2, 3), 0.1, 0))
    with pytest.raises(IRError, match="Conv2D 'conv': output has no scale yet"):
        finish_weights(graph)
    before = list(graph.nodes[0].inputs), dict(graph.values)
    quantize_graph(graph, {"y": Quant.of(0.1, 0)})
    assert (graph.nodes[0].inputs, graph.values) == before


def test_float_model_without_samples_names_the_way_out() -> None:
    graph = conv_graph(np.ones((2, 1, 1, 3), np.float32), None, TensorType(DType.F32, (1, 2, 2, 3)))
    with pytest.raises(Unsupported, match="model 'one_conv' is float32: pass --calibration"):
        complete(graph)


def test_partly_quantized_model_without_samples_names_the_values() -> None:
    graph = conv_graph(np.ones((2, 1, 1, 3), np.float32), None, quantized((1, 2, 2, 3), 0.1, 0))
    with pytest.raises(Unsupported, match=r"only in part; still float: 'y' \(Conv2D 'conv'\); pass --calibration"):
        complete(graph)
    done = complete(graph, [{"x": np.full((1, 2, 2, 3), 100, np.float32)}])
    assert quant_range(done.type("y").q) == pytest.approx((0.0, 300.0))


def test_batch_normalization_after_quantized_value_is_bounded() -> None:
    """A 1x1 depthwise convolution: its range follows from the input's."""
    factor = np.array([2, -1, 0], np.float32).reshape(3, 1, 1, 1)
    graph = conv_graph(factor, np.array([0, 0, 7], np.float32), quantized((1, 2, 2, 3), 0.1, -128), op=Conv2D(groups=3))
    done = complete(graph)
    assert quant_range(done.type("y").q) == pytest.approx((-25.5, 51.0), abs=0.3)


def test_reshape_shares_the_quant_both_ways() -> None:
    for known in ("x", "y"):
        graph = Graph("view", ["x"], ["y"])
        graph.add_value("x", TensorType(DType.F32, (1, 2, 2, 3)))
        graph.add_value("y", TensorType(DType.F32, (1, 12)))
        graph.nodes.append(Node("view", Reshape((1, 12)), ["x"], ["y"]))
        graph.values[known].type = graph.type(known).with_quant(DType.S8, Quant.of(0.25, 5))
        done = complete(graph)
        assert done.type("x").quant == done.type("y").quant == Quant.of(0.25, 5)
        assert [node.op.kind for node in done.nodes] == ["Reshape"]


def test_nan_in_calibration_names_the_value() -> None:
    graph = conv_graph(np.full((2, 1, 1, 3), 3e38, np.float32), None, TensorType(DType.F32, (1, 2, 2, 3)))
    with np.errstate(over="ignore"), pytest.raises(UsageError, match="value 'y' becomes NaN or infinite on sample 1"):
        quantize_float(graph, [{"x": np.ones((1, 2, 2, 3), np.float32)}])


def test_run_float_takes_integers_and_floats() -> None:
    graph = conv_graph(np.ones((2, 1, 1, 3), np.float32), None, quantized((1, 2, 2, 3), 0.5, 10))
    for feed in (np.full((1, 2, 2, 3), 12, np.int8), np.ones((1, 2, 2, 3), np.float32)):
        seen: dict[str, Array] = {}
        run_float(graph, {"x": feed}, seen.__setitem__)
        np.testing.assert_array_equal(seen["y"], np.full((1, 2, 2, 2), 3.0))
