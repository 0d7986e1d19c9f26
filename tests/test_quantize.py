# SPDX-License-Identifier: Apache-2.0
"""Observers, calibration files, integer weights and biases, and whole models quantized after training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midge.errors import IRError, Unsupported, UsageError
from midge.importers.onnx_export import write_qdq
from midge.ir import Array, DType, Graph, Node, Op, Quant, TensorType
from midge.ops.binary import Add, Mul, Sub
from midge.ops.build import dequantize, quantize
from midge.ops.conv import Conv2D
from midge.ops.join import Concat, Slice
from midge.ops.mean import Mean
from midge.ops.move import Transpose
from midge.ops.pad import Pad
from midge.ops.pool import AveragePool, MaxPool
from midge.ops.resize import Resize
from midge.ops.unary import Clip, Elu, HardSigmoid, HardSwish, LeakyRelu, Math, Sigmoid, Tanh
from midge.ops.view import Reshape
from midge.quantize.calibration import load_calibration, run_float
from midge.quantize.observers import MSE, OBSERVERS, Histogram, MinMax, Percentile, activation_quant, make_observer, quant_range
from midge.quantize.schemes import complete, quantize_graph
from midge.quantize.schemes import quantize as quantize_float
from midge.quantize.weights import finish_weights

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


IMAGE = {"image": TensorType(DType.F32, (1, 1, 4, 4))}


def saved(path: Path, **arrays: Array) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("key", ["image", "x", "x_train", "whatever"])
@pytest.mark.parametrize("shape", [(6, 1, 1, 4, 4), (6, 1, 4, 4), (6, 4, 4), (6, 4, 4, 1)])
def test_calibration_finds_the_array(tmp_path: Path, key: str, shape: tuple[int, ...]) -> None:
    data = np.arange(96, dtype=np.float32).reshape(shape)
    labels = np.zeros(6, np.uint8)
    samples = load_calibration(saved(tmp_path / "c.npz", **{key: data, "y": labels}), IMAGE)
    assert len(samples) == 6
    np.testing.assert_array_equal(samples[5]["image"], np.arange(80, 96, dtype=np.float32).reshape(1, 1, 4, 4))


def test_calibration_prefers_training_data(tmp_path: Path) -> None:
    file = saved(tmp_path / "c.npz", x_test=np.zeros((2, 4, 4), np.float32), x_train=np.ones((3, 4, 4), np.float32))
    assert [float(s["image"].max()) for s in load_calibration(file, IMAGE)] == [1.0] * 3


def test_calibration_from_folder_vector_and_limit(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", np.full((700, 4, 4), 2, np.float64))
    saved(tmp_path / "a.npz", x=np.full((324, 16), 1, np.float32))
    vector = {"v": TensorType(DType.F32, (1, 16))}
    samples = load_calibration(tmp_path, vector)
    assert len(samples) == 512
    assert sum(float(s["v"][0, 0]) == 1.0 for s in samples) == 162
    assert samples[0]["v"].shape == (1, 16)
    assert samples[0]["v"].dtype == np.float32
    assert len(load_calibration(tmp_path, vector, limit=10)) == 10


def test_calibration_of_integer_and_several_inputs(tmp_path: Path) -> None:
    inputs = {"a": TensorType(DType.S8, (1, 2)), "b": TensorType(DType.F32, (1, 3))}
    file = saved(tmp_path / "c.npz", a=np.full((5, 2), -128), b=np.ones((5, 3), np.float32))
    assert load_calibration(file, inputs)[0]["a"].dtype == np.int8
    with pytest.raises(UsageError, match="different numbers of samples"):
        load_calibration(saved(tmp_path / "d.npz", a=np.full((4, 2), 1), b=np.ones((5, 3), np.float32)), inputs)
    with pytest.raises(UsageError, match=r"no array named 'b' .*name each array after its input"):
        load_calibration(saved(tmp_path / "e.npz", a=np.full((4, 2), 1), x=np.ones((4, 3), np.float32)), inputs)
    with pytest.raises(UsageError, match="holds int64, the model takes int8"):
        load_calibration(saved(tmp_path / "f.npz", a=np.full((5, 2), 200), b=np.ones((5, 3), np.float32)), inputs)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((3, 5, 5), np.float32)}, r"array for input 'image' is float32\(3, 5, 5\), wanted \(samples, 1, 1, 4, 4\)"),
        ({"x": np.full((3, 4, 4), np.nan, np.float32)}, "holds NaN or infinity"),
        ({"x": np.zeros((3, 4, 4), np.uint8)}, "holds uint8, the model takes float32; scale it as in training"),
        ({"a": np.zeros((3, 4, 4), np.float32), "b": np.zeros((3, 4, 4), np.float32)}, "not clear which is meant.*name the array 'image'"),
        ({"x": np.zeros((0, 4, 4), np.float32)}, "no samples"),
    ],
)
def test_calibration_arrays_refused(tmp_path: Path, arrays: dict[str, Array], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_calibration(saved(tmp_path / "c.npz", **arrays), IMAGE)


def test_calibration_files_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        load_calibration(tmp_path / "none.npz", IMAGE)
    with pytest.raises(UsageError, match=r"holds no \.npz or \.npy file"):
        load_calibration(tmp_path, IMAGE)
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(UsageError, match=r"got a \.csv, wanted \.npz or \.npy"):
        load_calibration(tmp_path / "x.csv", IMAGE)
    for name in ("x.npy", "y.npz"):
        (tmp_path / name).write_bytes(b"not numpy")
        with pytest.raises(UsageError, match="cannot be read as numpy data"):
            load_calibration(tmp_path / name, IMAGE)


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


def run_integers(graph: Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    """The integer reference of a quantized Graph on the model's own inputs; outputs by the model's names, as the model gives them."""
    held = {name: value.data for name, value in graph.values.items() if value.data is not None}
    for name in graph.inputs:
        kind = graph.type(name)
        held[name] = quantize(feeds[name], kind.dtype, kind.q) if feeds[name].dtype.kind == "f" else feeds[name]
    for node, types, out in graph.walk():
        held.update(zip(node.outputs, node.op.reference([held[name] for name in node.inputs], types, out, graph.numerics), strict=True))
    results = {}
    for name, public in zip(graph.outputs, graph.output_names or graph.outputs, strict=True):
        to_float = graph.model_types.get(public, graph.type(name)).dtype.is_float
        results[public] = dequantize(held[name], graph.type(name).q) if to_float else held[name]
    return results


def run_onnx(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([port.name for port in session.get_outputs()], session.run(None, feeds), strict=True))


@dataclass
class Sketch:
    """Builds a small float Graph by hand; values are named by their producer."""

    graph: Graph = field(default_factory=lambda: Graph("sketch"))
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def input(self, name: str, *shape: int) -> str:
        self.graph.inputs.append(name)
        return self.graph.add_value(name, TensorType(DType.F32, shape))

    def constant(self, *shape: int) -> str:
        return self.graph.add_constant("c", self.rng.normal(size=shape).astype(np.float32))

    def node(self, op: Op, *inputs: str) -> str:
        output = self.graph.add_value(op.kind.lower(), op.infer(self.graph.types(list(inputs)))[0])
        self.graph.nodes.append(Node(output, op, list(inputs), [output]))
        return output

    def quantized(self, *outputs: str) -> tuple[Graph, list[dict[str, Array]]]:
        """The Graph with these outputs in int8, and random samples."""
        self.graph.outputs = list(outputs)
        samples = [{name: self.rng.normal(size=self.graph.type(name).shape).astype(np.float32) for name in self.graph.inputs} for _ in range(4)]
        return quantize_float(self.graph, samples), samples


def assert_exports(graph: Graph, samples: list[dict[str, Array]], *, steps: int = 1) -> onnx.ModelProto:
    """onnxruntime on the exported model gives what the integer reference gives, up to `steps` and mostly exactly."""
    model = write_qdq(graph)
    for sample in samples:
        want, got = run_integers(graph, sample), run_onnx(model, sample)
        assert list(want) == list(got)
        for value, name in zip(graph.outputs, want, strict=True):
            distance = np.rint((got[name] - want[name]) / graph.type(value).q.s)
            assert got[name].shape == want[name].shape
            assert np.abs(distance).max() <= steps, name
            assert (distance != 0).mean() <= 0.02, name
    return model


def test_export_of_convolutions_and_pools() -> None:
    s = Sketch()
    x = s.node(Transpose((0, 2, 3, 1)), s.input("image", 1, 3, 9, 8))
    a = s.node(Conv2D((2, 1), (1, 1), (1, 1, 0, 1), low=0.0), x, s.constant(8, 3, 3, 3), s.constant(8))
    b = s.node(Conv2D((1, 1), (1, 2), (1, 2, 1, 2), groups=8, low=-1.0, high=1.5), a, s.constant(8, 3, 3, 1))
    c = s.node(Add(low=0.0), a, b)
    d = s.node(MaxPool((2, 2), (2, 2)), c)
    e = s.node(AveragePool((2, 3), (1, 1), (1, 1, 0, 1)), d)
    flat = s.node(Reshape((1, s.graph.type(e).count)), s.node(Transpose((0, 3, 1, 2)), e))
    graph, samples = s.quantized(e, flat, s.node(Mean(), c))
    model = assert_exports(graph, samples)
    assert {node.op_type for node in model.graph.node} >= {"Conv", "Relu", "Clip", "Add", "MaxPool", "AveragePool", "GlobalAveragePool", "Reshape"}
    assert [node.op_type for node in model.graph.node].count("Transpose") == 2  # outputs e and mean are NHWC, everything else is in ONNX order


def test_export_of_data_movement() -> None:
    s = Sketch()
    x, z = s.input("x", 1, 5, 6, 4), s.input("z", 1, 5, 6, 2)
    joined = s.node(Concat(3), x, z, s.constant(1, 5, 6, 1))
    padded = s.node(Pad(((0, 0), (1, 2), (0, 1), (0, 0)), 0.5), joined)
    cut = s.node(Slice((0, 1, 0, 2), (1, 7, 7, 7), (1, 2, 1, 1)), padded)
    up = s.node(Resize((0, 0, 1, 1, 2, 2), tuple(i // 3 for i in range(21))), cut)
    mirrored = s.node(Resize((2, 1, 0, 1), (0, 3)), cut)
    graph, samples = s.quantized(up, mirrored)
    assert len({graph.type(name).quant for name in (x, z, joined, padded, cut, up, mirrored)}) == 1
    assert [node.op.kind for node in graph.nodes] == ["Concat", "Pad", "Slice", "Resize", "Resize"]
    assert_exports(graph, samples)


def test_export_of_functions() -> None:
    s = Sketch()
    x = s.input("x", 1, 7, 3)
    ops: list[Op] = [Clip(0.0, 6.0), LeakyRelu(0.1), Sigmoid(), Tanh(), HardSigmoid(), HardSwish(), Elu(1.0), Math("Abs"), Math("Exp")]
    functions = [s.node(op, x) for op in ops]
    scaled = s.node(Mul(), s.node(Sub(), functions[1], s.constant(3)), s.constant(1, 1, 1))
    graph, samples = s.quantized(*functions, scaled)
    assert graph.type("sigmoid").quant == Quant.of(1 / 256, -128)
    assert graph.type("tanh").quant == Quant.of(1 / 128, 0)
    model = assert_exports(graph, samples)
    assert model.opset_import[0].version == 14


def test_concat_of_fixed_and_other_ranges_requantizes() -> None:
    """A sigmoid keeps its scale; what joins it with larger numbers converts."""
    s = Sketch()
    x = s.input("x", 1, 4, 4, 2)
    joined = s.node(Concat(3), x, s.node(Sigmoid(), x))
    graph, samples = s.quantized(joined)
    assert graph.type("sigmoid").quant == Quant.of(1 / 256, -128)
    assert graph.type(joined).quant == graph.type("x").quant
    assert [node.op.kind for node in graph.nodes] == ["Sigmoid", "Quantize", "Concat"]
    assert_exports(graph, samples)


def test_float_graph_is_not_exported() -> None:
    graph = conv_graph(np.ones((2, 1, 1, 3), np.float32), None, TensorType(DType.F32, (1, 2, 2, 3)))
    with pytest.raises(Unsupported, match=r"value 'x' is f32\[1,2,2,3\]; only fully quantized graphs are exported"):
        write_qdq(graph)
