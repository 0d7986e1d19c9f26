# SPDX-License-Identifier: Apache-2.0
"""Quantized Graphs as QDQ ONNX models: onnxruntime computes what the integer reference computes, and trained models keep their accuracy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from support import shared

from midge.errors import Unsupported
from midge.importers.onnx import load
from midge.importers.onnx_export import write_qdq
from midge.ir import Array, DType, Graph, Node, Op, Quant, TensorType
from midge.ops.binary import Add, Mul, Sub
from midge.ops.build import dequantize, quantize
from midge.ops.conv import Conv2D
from midge.ops.dense import Dense
from midge.ops.join import Concat, Slice
from midge.ops.mean import Mean
from midge.ops.move import Transpose
from midge.ops.pad import Pad
from midge.ops.pool import AveragePool, MaxPool
from midge.ops.prelu import PRelu
from midge.ops.resize import Resize
from midge.ops.softmax import Softmax
from midge.ops.unary import Clip, Elu, Gelu, HardSigmoid, HardSwish, LeakyRelu, Math, Sigmoid, Tanh
from midge.ops.view import Reshape
from midge.passes import canonicalize
from midge.ptq import quantize_model
from midge.ptq.calibration import load_calibration
from midge.ptq.observers import OBSERVERS
from midge.ptq.schemes import complete
from midge.ptq.schemes import quantize as quantize_float
from midge.run.reference import run_reference


def run_integers(graph: Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    """The integer reference of a quantized Graph on the model's own inputs; outputs by the model's names, as the model gives them."""
    quants = {name: graph.type(name) for name in graph.inputs}
    values = run_reference(graph, {name: quantize(feeds[name], t.dtype, t.q) if feeds[name].dtype.kind == "f" else feeds[name] for name, t in quants.items()})
    results = {}
    for name, public in zip(graph.outputs, graph.output_names or graph.outputs, strict=True):
        to_float = graph.model_types.get(public, graph.type(name)).dtype.is_float
        results[public] = dequantize(values[name], graph.type(name).q) if to_float else values[name]
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


def test_export_of_planar_convolution() -> None:
    """A convolution that reads the model's NCHW input as it is needs no Transpose in ONNX either."""
    s = Sketch()
    y = s.node(Conv2D((1, 1), (1, 1), (1, 1, 1, 1), planar=True), s.input("image", 1, 3, 6, 5), s.constant(4, 3, 3, 3))
    graph, samples = s.quantized(s.node(Reshape((1, 4)), s.node(Mean(), y)))
    model = assert_exports(graph, samples)
    assert [node.op_type for node in model.graph.node].count("Transpose") <= 1  # of the mean, which holds one pixel


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
    s = Sketch()
    s.graph.outputs = [s.node(Sigmoid(), s.input("x", 1, 2))]
    with pytest.raises(Unsupported, match=r"value 'x' is f32\[1,2\]; only fully quantized graphs are exported"):
        write_qdq(s.graph)


def test_export_of_dense_layers() -> None:
    """Gemm for one row, MatMul and Add where every pixel is one; PRelu and Softmax work on channels wherever they lie."""
    s = Sketch()
    x = s.input("x", 1, 6, 5)
    rows = s.node(Dense(high=2.0), x, s.constant(4, 5), s.constant(4))
    one = s.node(Conv2D((1, 1), (1, 1), (1, 0, 1, 0)), rows, s.constant(3, 3, 1, 4))
    rectified = s.node(PRelu(), one, s.constant(3))
    logits = s.node(Dense(), s.node(Reshape((1, 18)), rectified), s.constant(10, 18))
    graph, samples = s.quantized(s.node(Softmax(), logits), s.node(Softmax(), one), s.node(Gelu(), rows))
    model = assert_exports(graph, samples)
    kinds = [node.op_type for node in model.graph.node]
    assert {"MatMul", "Add", "Gemm", "PRelu", "Conv"} <= set(kinds)
    assert model.opset_import[0].version == 20


def test_exported_model_imports_again_as_the_same_network() -> None:
    s = Sketch()
    x = s.node(Transpose((0, 2, 3, 1)), s.input("image", 1, 3, 9, 8))
    a = s.node(Conv2D((2, 2), (1, 1), (1, 1, 1, 1), low=0.0, high=6.0), x, s.constant(6, 3, 3, 3), s.constant(6))
    b = s.node(Add(low=0.0), s.node(Conv2D((1, 1), (1, 1), (1, 1, 1, 1), groups=6), a, s.constant(6, 3, 3, 1)), a)
    c = s.node(Concat(3), b, s.node(Mul(), a, s.constant(1, 1, 1, 6)))
    pooled = s.node(Reshape((1, 12)), s.node(Mean(), c))
    graph, samples = s.quantized(s.node(Softmax(), s.node(Dense(), pooled, s.constant(5, 12), s.constant(5))))
    again = complete(canonicalize(load(write_qdq(graph))))
    assert [node.op for node in again.nodes] == [node.op for node in canonicalize(graph).nodes]
    for sample in samples:
        (want,), (got,) = run_integers(graph, sample).values(), run_integers(again, sample).values()
        np.testing.assert_array_equal(got, want)


TRAINED = [("digits_mlp", "digits8x8", 16), ("fsdd_dscnn", "fsdd_logmel", 255), ("mnist5k_mbv2", "mnist5k", 255)]


@dataclass
class Trained:
    """A trained float model, its int8 Graph calibrated with the default number of training samples, and its whole test set."""

    file: Path
    graph: Graph
    images: Array
    labels: Array

    @staticmethod
    def load(name: str, data: str, divisor: int, observer: str = "minmax") -> Trained:
        file, held = shared(f"models/trained/{name}_fp32.onnx"), np.load(shared(f"data/{data}.npz"))
        graph = canonicalize(load(file))
        kinds = {port: graph.type(port) for port in graph.inputs}
        train, test = ((held[key] / divisor).astype(np.float32) for key in ("x_train", "x_test"))
        done = quantize_float(graph, load_calibration(train, kinds), observer)
        return Trained(file, done, test.reshape(-1, *kinds[graph.inputs[0]].shape), held["y_test"])

    def scores(self, model: onnx.ModelProto) -> Array:
        """onnxruntime on the whole test set."""
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return np.concatenate([session.run(None, {self.graph.inputs[0]: image})[0] for image in self.images])

    def integers(self, chosen: Array) -> Array:
        """The integer reference on some of the test set."""
        return np.concatenate([next(iter(run_integers(self.graph, {self.graph.inputs[0]: self.images[i]}).values())) for i in chosen])

    def accuracy(self, scores: Array) -> float:
        return float((scores.argmax(1) == self.labels).mean())


@pytest.mark.parametrize(("name", "data", "divisor"), [TRAINED[0], pytest.param(*TRAINED[1], marks=pytest.mark.slow), TRAINED[2]])
def test_trained_models_keep_their_accuracy(name: str, data: str, divisor: int) -> None:
    """At most half a point is lost on the whole test set, and the integer reference computes what onnxruntime does."""
    trained = Trained.load(name, data, divisor)
    exported = trained.scores(write_qdq(trained.graph))
    real = trained.accuracy(trained.scores(onnx.load(trained.file)))
    assert real > 0.96
    assert trained.accuracy(exported) >= real - 0.005
    chosen = np.arange(40) * len(trained.images) // 40
    integers = trained.integers(chosen)
    np.testing.assert_array_equal(integers.argmax(1), exported[chosen].argmax(1))
    assert (integers != exported[chosen]).mean() <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("observer", sorted(OBSERVERS))
@pytest.mark.parametrize(("name", "data", "divisor"), TRAINED)
def test_integer_reference_on_all_data(name: str, data: str, divisor: int, observer: str) -> None:
    """minmax, the default, keeps within half a point; the others clip and promise less: their bound only catches breakage."""
    trained = Trained.load(name, data, divisor, observer)
    integer = trained.accuracy(trained.integers(np.arange(len(trained.images))))
    assert integer >= trained.accuracy(trained.scores(onnx.load(trained.file))) - (0.005 if observer == "minmax" else 0.015)
    assert abs(integer - trained.accuracy(trained.scores(write_qdq(trained.graph)))) <= 0.003


def test_quantize_model_from_files(tmp_path: Path) -> None:
    file = shared("models/trained/digits_mlp_fp32.onnx")
    data = np.load(shared("data/digits8x8.npz"))
    calls: list[tuple[int, int]] = []
    calibration = tmp_path / "c.npz"
    np.savez(calibration, x=(data["x_train"][:20] / 16).astype(np.float32))
    model = quantize_model(file, calibration, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 20) for i in range(1, 21)]
    assert [port.name for port in model.graph.input] == ["input"]
    assert [port.name for port in model.graph.output] == ["dense_6"]
    again = quantize_model(file, calibration)
    assert again.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)
