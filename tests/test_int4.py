# SPDX-License-Identifier: Apache-2.0
"""Weights of four bits: kernels against the reference, assembly against its twins, what rounding keeps, what the option does to a model and its accuracy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_support import run, run_json
from dsp_cases import Case, convolution
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from support import ROOT, joined, needs_arm, shared

import midge
from midge.codegen.write import write_library
from midge.errors import UsageError
from midge.importers.onnx import load
from midge.ir import Array, Graph, Quant
from midge.lower import Choice, lower
from midge.microkernels import gemm_w4
from midge.microkernels.gemm import Gemm
from midge.ops import conv_w4
from midge.ops.conv import Conv2D
from midge.program import Program
from midge.ptq.narrow import factors_of, narrow_weights, rounded, windows_of
from midge.reload import reload
from midge.run.host import run_host
from midge.run.interpreter import Interpreter
from midge.run.qemu import run_qemu
from midge.run.reference import run_reference
from midge.schedule import Wish, place
from midge.targets import get_target

EXAMPLE = ROOT / "examples" / "mnist_cnn.onnx"
PAIRS, PIXEL, BYTES, PORTABLE = "midge_conv2d_dsp_s8", "midge_dense_dsp_s8", "midge_dense_bytes_dsp_s8", "midge_conv2d_w4_s8"


@pytest.fixture(autouse=True)
def small_layers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv_w4, "WORTH", 1)


def digits(count: int = 4) -> Array:
    return np.random.default_rng(0).random((count, 1, 28, 28), np.float32)


def narrow_program(graph: Graph, target: str, optimize: str = "balanced", **choice: object) -> Program:
    return place(lower(graph, get_target(target), "net", "0" * 64, replace(Choice(optimize, narrow=True), **choice)), Wish(by_rows=False))  # type: ignore[arg-type]


def case(rng: np.random.Generator, channels: int, out: int, numerics: str, *, single: bool, extreme: bool = False) -> Case:
    """A layer with weights of four bits, of one pixel if `single`, and its input; some need their sums raised."""
    kernel = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    size = kernel if single else (int(rng.integers(kernel[0], 8)), max(4, int(rng.integers(kernel[1], 8))))
    op = Conv2D(pads=(0, 0, 0, 0) if single else tuple(int(n) for n in rng.integers(0, 2, 4)))  # type: ignore[arg-type]
    graph, feeds = convolution(rng, op, (1, *size, channels), kernel, out, numerics, extreme)
    graph, _ = narrow_weights(graph)
    value = graph.values[graph.nodes[0].inputs[1]]
    if rng.random() < 0.3:  # coarse steps, so that channels are not shifted right
        value.type = replace(value.type, quant=Quant.of(np.float32(rng.uniform(0.05, 3.5, out)), 0, 0))
    if extreme:
        weights = value.data
        assert weights is not None
        value.data = np.where(weights < 0, -7, 7).astype(np.int8)
    return graph, feeds


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 4, 6, 8, 16, 20]), st.booleans(), st.booleans(), st.sampled_from(["onnx", "tflite"]))
def test_kernels_equal_the_reference(seed, channels, single, extreme, numerics):
    rng = np.random.default_rng(seed)
    conv_w4.WORTH = 1
    graph, feeds = case(rng, channels, int(rng.integers(1, 9)), numerics, single=single, extreme=extreme)
    expected = run_reference(graph, feeds)["out0"]
    for target, optimize in (("host", "balanced"), ("cortex-m4", "balanced"), ("cortex-m4", "size")):
        program = narrow_program(graph, target, optimize)
        np.testing.assert_array_equal(Interpreter(program).run([feeds["in0"]])[0].reshape(expected.shape), expected, err_msg=program.calls[0].kernel.symbol)
        if target == "host" or optimize == "size":
            assert program.calls[0].kernel.symbol == PORTABLE


@needs_arm
@pytest.mark.parametrize(("numerics", "target"), [("onnx", "cortex-m4"), ("tflite", "cortex-m33"), ("onnx", "cortex-m0")])
def test_assembly_equals_twins(numerics, target, tmp_path):
    """All cases in one library: emulated core == host C (twins) == reference."""
    rng = np.random.default_rng(3)
    sizes = [(channels, out, single) for channels in (4, 5, 12, 24, 40) for out in (1, 2, 5, 8) for single in (False, True)]
    cases = [case(rng, channels, out, numerics, single=single, extreme=out == 5) for channels, out, single in sizes]
    cases += [narrowed(convolution(rng, Conv2D(), (1, 1, 1, depth), (1, 1), 6, numerics, False)) for depth in (4, 12, 48, 100, 132)]
    cases += [narrowed(convolution(rng, Conv2D(), (1, 3, 3, depth), (1, 1), 7, numerics, False)) for depth in (8, 20, 64, 92)]
    graph = joined([graph for graph, _ in cases])
    feeds = {f"g{i}_{name}": data for i, (_, feed) in enumerate(cases) for name, data in feed.items()}
    program = narrow_program(graph, target)
    if target != "cortex-m0":
        assert {PAIRS, PIXEL} <= {call.kernel.symbol for call in program.calls}
        assert any("up" in symbol for symbol in program.routines) == (numerics == "onnx")
    expected, directory = run_reference(graph, feeds), write_library(program, tmp_path / "net")
    inputs = [feeds[name][None] for name in graph.inputs]
    for result in (run_host(directory, inputs, sanitize=True), run_qemu(directory, target, inputs)):
        for name, got in zip(graph.outputs, result.outputs, strict=True):
            np.testing.assert_array_equal(got.view(np.int8).reshape(-1), expected[name].reshape(-1), err_msg=f"{name} {graph.type(name)}")


@needs_arm
@pytest.mark.parametrize("numerics", ["onnx", "tflite"])
def test_taps_as_they_come(numerics, tmp_path):
    """Dense layers without scratch, where there is none."""
    rng = np.random.default_rng(4)
    graph, feeds = narrowed(convolution(rng, Conv2D(), (1, 1, 1, 92), (1, 1), 8, numerics, False))
    program = narrow_program(graph, "cortex-m4", room={})
    assert program.calls[0].kernel.symbol == BYTES
    expected, directory = run_reference(graph, feeds)["out0"], write_library(program, tmp_path / "net")
    for result in (run_host(directory, [feeds["in0"][None]], sanitize=True), run_qemu(directory, "cortex-m4", [feeds["in0"][None]])):
        np.testing.assert_array_equal(result.outputs[0].view(np.int8).reshape(-1), expected.reshape(-1))


def narrowed(found: Case) -> Case:
    return narrow_weights(found[0])[0], found[1]


def test_sums_that_do_not_fit_beside_each_other_are_refused():
    weights, ones = np.full((4, 8), 7), np.ones(4, np.int64)
    gemm = Gemm(weights, 0 * ones, ones << 30, -4 * ones, 0)
    assert gemm_w4.refuses_dense(gemm, "onnx") == gemm_w4.refuses_pairs(gemm, "onnx") == ""
    assert "2**19" in gemm_w4.refuses_dense(replace(gemm, bias=ones << 19), "onnx")
    assert "2**23" in gemm_w4.refuses_dense(replace(gemm, bias=np.array([0, 0, 1 << 23, 0])), "onnx")
    assert "2**27" in gemm_w4.refuses_pairs(replace(gemm, bias=np.array([0, 1 << 27, 0, 0])), "onnx")
    assert "-8 stands over" in gemm_w4.refuses_dense(replace(gemm, weights=np.full((4, 8), -8)), "onnx")
    left = replace(gemm, shift=0 * ones)
    assert gemm_w4.refuses_pairs(left, "onnx") == ""
    assert "not shifted right" in gemm_w4.refuses_pairs(left, "tflite")
    assert "not shifted right" in gemm_w4.refuses_dense(replace(gemm, shift=ones * gemm_w4.RAISE), "onnx")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 12))
def test_rounding_is_near_and_never_worse_for_what_it_minimizes(seed, count, depth):
    """Against rounding to the nearest with the same factors, in the metric of the samples."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (count, depth)).astype(np.int8)
    x = rng.normal(0, 1, (200, depth)) @ rng.normal(0, 1, (depth, depth))
    q, factor = rounded(weights, x.T @ x / 200)
    assert q.dtype == np.int8
    assert np.abs(q).max() <= 7
    np.testing.assert_array_equal(factor, factors_of(weights.astype(np.float64)))
    plain, plain_factor = rounded(weights, np.ones(depth))
    assert (np.abs(weights - plain_factor[:, None] * plain)[np.abs(plain) < 7] <= plain_factor.max() / 2 + 1e-9).all()


def test_samples_that_go_together_are_made_up_for():
    """Two taps that are always equal: what one weight loses the other gets."""
    weights = np.array([[127, 9, 9]], np.int8)
    x = np.random.default_rng(0).normal(0, 1, (500, 3))
    x[:, 2] = x[:, 1]
    q, factor = rounded(weights, x.T @ x / 500)
    assert abs(18 - factor[0] * (q[0, 1] + q[0, 2])) <= factor[0] / 2


def test_zeros_and_weights_of_four_bits_stay():
    rng = np.random.default_rng(0)
    graph, _ = convolution(rng, Conv2D(), (1, 2, 2, 8), (1, 1), 4, "onnx", False)
    name = graph.nodes[0].inputs[1]
    few = rng.integers(-8, 8, (4, 1, 1, 8)).astype(np.int8)
    graph.values[name].data = few
    small, found = narrow_weights(graph)
    np.testing.assert_array_equal(small.data(small.nodes[0].inputs[1]), few)
    assert found.layers == ("node",)
    q, factor = rounded(np.zeros((2, 3), np.int8), np.ones((3, 3)))
    assert not q.any()
    assert (factor > 0).all()


def test_a_large_bias_still_fits_at_the_new_scale():
    graph, _ = convolution(np.random.default_rng(0), Conv2D(), (1, 2, 2, 32), (1, 1), 32, "onnx", False)
    weights, bias = graph.nodes[0].inputs[1:]
    graph.values[weights].data = np.full((32, 1, 1, 32), -8, np.int8)  # would take a scale of about 8 / 7
    graph.values[weights].data[:, :, :, ::2] = 2
    graph.values[weights].data[1] = 0
    graph.values[bias].data = np.full(32, 2**31 - 2**14, np.int32)
    small, _ = narrow_weights(graph)
    new, scale = small.data(small.nodes[0].inputs[2]).astype(np.int64), small.type(small.nodes[0].inputs[1]).q.scales(32)
    old = graph.type(weights).q.scales(32)
    np.testing.assert_allclose(new * scale, (2**31 - 2**14) * old, rtol=1e-6)


def test_windows_are_what_the_reference_multiplies():
    rng = np.random.default_rng(0)
    graph, feeds = convolution(rng, Conv2D((2, 1), (1, 2), (1, 0, 1, 2)), (1, 6, 7, 3), (3, 2), 4, "onnx", False)
    node = graph.nodes[0]
    weights, x = graph.data(node.inputs[1]), feeds["in0"][0].astype(np.float64) - graph.type("in0").q.z
    assert weights is not None
    sums = windows_of(graph, node, feeds["in0"]) @ weights.reshape(4, -1).T.astype(np.float64)
    np.testing.assert_array_equal(sums.reshape(-1), node.op.accumulate(x, weights.astype(np.float64)).reshape(-1))  # type: ignore[attr-defined]


def test_the_option_stores_two_weights_a_byte(monkeypatch):
    monkeypatch.setattr(conv_w4, "WORTH", 200)
    plain = midge.compile(EXAMPLE, target="cortex-m4", calibration=digits(), optimize="size")
    small = midge.compile(EXAMPLE, target="cortex-m4", calibration=digits(), optimize="size", weights="int4")
    assert small.narrowed is not None
    assert small.narrowed.layers
    assert plain.narrowed is None
    before, after = (
        [graph.data(node.inputs[1]) for node in graph.nodes if len(node.inputs) > 2 and getattr(node.op, "groups", 1) == 1]
        for graph in (plain.graph, small.graph)
    )
    narrow = [data for data in after if data is not None and np.abs(data.astype(int)).max() <= 7]
    assert len(narrow) == len(small.narrowed.layers) == sum(data is not None and data.size >= 200 for data in before)
    saved = sum(data.size for data in narrow) // 2
    assert saved - 8 * len(narrow) <= plain.program.weight_nbytes - small.program.weight_nbytes <= saved + 256  # tables of rows may be fewer, too


def test_without_samples_noise_stands_in_and_the_same_comes_out():
    model = midge.quantize(EXAMPLE, digits())
    first, second = (midge.compile(model, weights="int4", name="net") for _ in range(2))
    assert first.program.digest == second.program.digest != midge.compile(model, name="net").program.digest
    assert first.narrowed is not None
    assert first.narrowed.data == "random samples"
    known = midge.compile(model, weights="int4", name="net", calibration=digits())
    assert known.program.digest != first.program.digest
    with pytest.raises(UsageError, match="wanted"):
        midge.compile(model, weights="int4", calibration=np.zeros((2, 5), np.float32))


def test_what_is_written_is_compiled_again(tmp_path):
    library = midge.compile(EXAMPLE, target="cortex-m4", calibration=digits(), weights="int4", name="net")
    again = reload(library.write(tmp_path / "net"))
    assert again.program.calls == library.program.calls


def test_the_command_line_says_what_changed(tmp_path):
    np.save(tmp_path / "x.npy", digits())
    options = ("compile", EXAMPLE, "-o", tmp_path / "net", "--calibration", tmp_path / "x.npy", "--weights", "int4")
    result = run(*options)
    assert result.exit_code == 0, result.output
    assert "weights of four bits in" in result.stdout
    assert "of 4 calibration samples" in result.stdout
    found = run_json(*options)["int4"]
    assert found["count"] == 4
    assert found["layers"]
    assert found["snr_db"] is None or found["snr_db"] > 5


def test_models_with_int4_weights_are_read(tmp_path: Path):
    rng = np.random.default_rng(0)
    weights = rng.integers(-8, 8, (6, 8), np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=0),
        helper.make_node("Gemm", ["xd", "wd"], ["g"], transB=1),
        helper.make_node("QuantizeLinear", ["g", "sy", "zy"], ["gq"]),
        helper.make_node("DequantizeLinear", ["gq", "sy", "zy"], ["y"]),
    ]
    plain = {"sx": np.float32(0.1), "zx": np.int8(3), "sw": np.full(6, 0.05, np.float32), "sy": np.float32(0.05), "zy": np.int8(0)}
    tensors = [numpy_helper.from_array(np.asarray(data), name) for name, data in plain.items()]
    tensors += [helper.make_tensor("w", TensorProto.INT4, weights.shape, weights.reshape(-1)), helper.make_tensor("zw", TensorProto.INT4, (6,), [0] * 6)]
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 8))], [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 6))]
    graph = helper.make_graph(nodes, "small", *ports, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "m.onnx")
    found = [value.data for value in load(tmp_path / "m.onnx").values.values() if value.data is not None and value.data.shape == (6, 8)]
    np.testing.assert_array_equal(found[0], weights)
    library = midge.compile(tmp_path / "m.onnx", weights="int4")
    assert library.program.calls[0].kernel.symbol == PORTABLE
    x = rng.integers(-128, 128, (1, 8)).astype(np.int8)
    np.testing.assert_array_equal(library.run(x), midge.compile(tmp_path / "m.onnx").run(x))


@pytest.mark.parametrize(("name", "data", "least"), [("fsdd_dscnn", "fsdd_logmel", 0.94), ("mnist5k_mbv2", "mnist5k", 0.95)])
def test_accuracy_on_held_out_data(name, data, least, monkeypatch):
    """Of 100 samples, rounded with and without training data; with eight bits .967 and .962 of all test samples are right."""
    monkeypatch.setattr(conv_w4, "WORTH", 1024)
    with np.load(shared(f"data/{data}.npz")) as held:
        train, x, y = held["x_train"][:640:10].astype(np.float32)[..., None] / 255, held["x_test"][:200:2].astype(np.float32) / 255, held["y_test"][:200:2]
    model = shared(f"models/trained/{name}_int8_qdq.onnx")
    for calibration in (None, train):
        library = midge.compile(model, weights="int4", calibration=calibration)
        right = [int(np.argmax(library.run(sample[..., None]))) == label for sample, label in zip(x, y, strict=True)]
        assert np.mean(right) >= least
