# SPDX-License-Identifier: Apache-2.0
"""Strassen's multiplication: equality with the reference of twins on the host and of routines on the emulator, ranges of its factors, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dsp_cases import Case, convolution
from hypothesis import given, settings
from hypothesis import strategies as st
from support import joined, needs_arm, op_graph, s8

from midge.codegen.write import write_library
from midge.ir import Array, DType, Graph, Node, Quant, TensorType, Value
from midge.lower import Choice, lower
from midge.microkernels.strassen import combine_routine, half_in, instructions, refuses_sizes
from midge.ops import conv_strassen
from midge.ops.conv import Conv2D
from midge.ops.conv_kernels import ConvLayer
from midge.ops.conv_strassen import refuses_strassen
from midge.program import Program
from midge.run.host import run_host
from midge.run.interpreter import Interpreter
from midge.run.qemu import run_qemu
from midge.run.reference import run_reference
from midge.schedule import place
from midge.targets import get_target

NUMERICS = ("onnx", "tflite")
SLOWER = conv_strassen.slower


@pytest.fixture(scope="module", autouse=True)
def any_size():
    """Layers are refused where blocks do not pay; they must be right all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_strassen, "slower", lambda layer: "")
        yield


def program_for(graph: Graph) -> Program:
    """The graph on a core with the DSP extension, by this kernel alone."""
    program = place(lower(graph, get_target("cortex-m4"), "net", "0" * 64, Choice("speed", prefer="strassen_dsp_s8+")))
    assert {call.kernel.symbol for call in program.calls} == {"midge_strassen_dsp_s8"}, program.calls[0].refused
    return program


def pointwise(seed: int, height: int, width: int, channels: int, out: int, numerics: str, extreme: bool) -> Case:
    return convolution(np.random.default_rng(seed), Conv2D(), (1, height, width, channels), (1, 1), out, numerics, extreme)


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(4, 9), st.integers(4, 40), st.integers(2, 13)),
    st.sampled_from(NUMERICS),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_twins_equal_reference(sizes, numerics, extreme, seed):
    graph, feeds = pointwise(seed, *sizes, numerics, extreme)
    got = Interpreter(program_for(graph)).run([feeds["in0"]])[0]
    expected = run_reference(graph, feeds)["out0"]
    np.testing.assert_array_equal(got, expected.reshape(got.shape))


def test_every_weight_at_its_limit():
    """-128 everywhere it hurts: the sums of four weights and of four inputs are as large as they get."""
    signs = np.array([[1, -1], [-1, 1]])
    weights = np.kron(signs, np.full((4, 8), 127)).astype(np.int8)
    weights[weights < 0] = -128
    data = np.kron(np.array([[-1, 1], [1, -1]]), np.full((2, 8), 127)).astype(np.int8)
    data[data < 0] = -128
    tx, tw = s8((1, 2, 2, 16), 0.5, 3), TensorType(DType.S8, (8, 1, 1, 16), Quant.of(np.full(8, 1e-4, np.float32), 0, 0))
    tb, op = TensorType(DType.S32, (8,)), Conv2D()
    ty = op.infer([tx, tw])[0].with_quant(DType.S8, Quant.of(0.3, 5))
    graph = op_graph(op, [tx, (tw, weights.reshape(8, 1, 1, 16)), (tb, np.zeros(8, np.int32))], ty)
    feeds = {"in0": data.reshape(1, 2, 2, 16)}
    expected = run_reference(graph, feeds)["out0"]
    np.testing.assert_array_equal(Interpreter(program_for(graph)).run([feeds["in0"]])[0].reshape(-1), expected.reshape(-1))
    assert expected.min() < -20 and expected.max() > 20


SAMPLE = (
    (2, 2, 8, 4),
    (1, 5, 4, 2),
    (3, 3, 13, 7),
    (2, 7, 31, 9),
    (1, 4, 64, 6),
    (5, 5, 60, 10),
    (1, 6, 68, 4),
    (1, 9, 102, 5),
    (1, 4, 264, 4),
    (1, 5, 330, 3),
)


def sample(numerics: str) -> tuple[Graph, list[Array], list[Array]]:
    """Graph, inputs and expected outputs: depths that are spelled out, called and looped, offsets that STRD does not reach, halves that overlap."""
    cases = [pointwise(seed, *sizes, numerics, extreme=seed % 3 == 2) for seed, sizes in enumerate(SAMPLE)]
    graph = joined([graph for graph, _ in cases])
    feeds = {f"g{i}_in0": feed["in0"] for i, (_, feed) in enumerate(cases)}
    expected = run_reference(graph, feeds)
    return graph, [feeds[name][None] for name in graph.inputs], [expected[name] for name in graph.outputs]


def assert_equal(graph: Graph, got: list[Array], expected: list[Array]) -> None:
    for node, y, want in zip(graph.nodes, got, expected, strict=True):
        np.testing.assert_array_equal(y.view(np.int8).reshape(want.shape), want, err_msg=node.name)


@needs_arm
@pytest.mark.parametrize("numerics", NUMERICS)
def test_routines_equal_reference(numerics, tmp_path):
    graph, inputs, expected = sample(numerics)
    directory = write_library(program_for(graph), tmp_path / "net")
    assert_equal(graph, run_qemu(directory, "cortex-m4", inputs).outputs, expected)


def test_twins_read_nothing_outside(tmp_path):
    graph, inputs, expected = sample("onnx")
    directory = write_library(program_for(graph), tmp_path / "net")
    assert_equal(graph, run_host(directory, inputs, sanitize=True).outputs, expected)


def planar(width: int, out: int, numerics: str) -> tuple[Graph, Array]:
    """A pointwise layer whose output a depthwise layer reads, and its input."""
    rng, graph = np.random.default_rng(width), Graph("net", numerics=numerics)
    first, feeds = convolution(rng, Conv2D(), (1, 6, width, 24), (1, 1), out, numerics, False)
    depthwise = Conv2D(pads=(1, 1, 1, 1), groups=out)
    filters = rng.integers(-127, 128, (out, 3, 3, 1)).astype(np.int8)
    tx, tw = first.type("out0"), TensorType(DType.S8, filters.shape, Quant.of(np.full(out, 2e-3, np.float32), 0, 0))
    tb, bias = TensorType(DType.S32, (out,)), rng.integers(-2000, 2000, out).astype(np.int32)
    ty = depthwise.infer([tx, tw])[0].with_quant(DType.S8, Quant.of(0.5, 3))
    graph.values |= first.values | {"w": Value("w", tw, filters), "b": Value("b", tb, bias), "y": Value("y", ty)}
    graph.nodes += [*first.nodes, Node("depthwise", depthwise, ["out0", "w", "b"], ["y"])]
    graph.inputs, graph.outputs = list(first.inputs), ["y"]
    return graph, feeds["in0"]


@needs_arm
@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize(("width", "out"), [(4, 8), (5, 8), (7, 13), (12, 20), (16, 4)])
def test_planar_rows(width, out, numerics, tmp_path):
    """Fours of pixels within a row and across rows, halves that overlap: what a depthwise layer reads is where it looks for it."""
    graph, x = planar(width, out, numerics)
    program = place(lower(graph, get_target("cortex-m4"), "net", "0" * 64, Choice("speed")))
    assert [call.kernel.symbol for call in program.calls] == ["midge_strassen_dsp_s8", "midge_depthwise_planar_s8"]
    assert program.buffers[program.calls[0].output].planar
    expected = run_reference(graph, {"in0": x})["y"]
    np.testing.assert_array_equal(Interpreter(program).run([x])[0].reshape(expected.shape), expected)
    assert len(np.unique(expected)) > 10
    directory = write_library(program, tmp_path / "net")
    for run in (run_host(directory, [x[None]], sanitize=True), run_qemu(directory, "cortex-m4", [x[None]])):
        np.testing.assert_array_equal(run.outputs[0].view(np.int8).reshape(expected.shape), expected)


def test_ranges_of_both_factors():
    """The identity holds, its sums of blocks have four terms at most, so that doubled int8 weights stay int16, and sums of the inputs too."""
    rng = np.random.default_rng(3)
    a11, a12, a21, a22, b11, b12, b21, b22 = rng.integers(-128, 128, (8, 3, 3))
    s1, s3, t1, t3 = a21 + a22, a11 - a21, b12 - b11, b22 - b12
    s2, t2 = s1 - a11, b22 - t1
    s4, t4 = a12 - s2, t2 - b21
    u2 = a11 @ b11 + s2 @ t2
    np.testing.assert_array_equal(u2 + s1 @ t1 + s4 @ b22, a11 @ b12 + a12 @ b22)
    np.testing.assert_array_equal(u2 + s3 @ t3 - a22 @ t4, a21 @ b11 + a22 @ b21)
    np.testing.assert_array_equal(u2 + s3 @ t3 + s1 @ t1, a21 @ b12 + a22 @ b22)
    assert 4 * 128 * 2 < 1 << 15


def layer(**changes) -> ConvLayer:
    """A layer that is served."""
    weights = np.full((64, 1, 1, 64), 3, np.int8)
    tx, tw = s8((1, 8, 8, 64), 0.05, 0), TensorType(DType.S8, weights.shape, Quant.of(np.full(64, 0.001, np.float32), 0, 0))
    out = Conv2D().infer([tx, tw])[0].with_quant(DType.S8, Quant.of(0.1, -128))
    return replace(ConvLayer(Conv2D(), (tx, tw), out, weights, np.zeros(64, np.int32), "onnx"), **changes)


def test_serves():
    assert refuses_strassen(layer()) == "" and SLOWER(layer()) == ""


REFUSED = {
    "grouped": {"op": Conv2D(groups=64)},
    "not pointwise of stride 1": {"op": Conv2D((2, 2))},
    "fewer than 4 pixels": {"types": (s8((1, 1, 3, 64), 0.05, 0), layer().types[1])},
    "clamped to -128..-68": {"op": Conv2D(low=0.0, high=6.0)},
    "channel 0 is not shifted right": {
        "types": (s8((1, 8, 8, 64), 0.05, 0), TensorType(DType.S8, (64, 1, 1, 64), Quant.of(np.full(64, 2.0, np.float32), 0, 0)))
    },
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refuses(reason):
    assert reason in refuses_strassen(layer(**REFUSED[reason]))


def test_refuses_offsets_that_instructions_do_not_have():
    assert "too few for halves" in refuses_sizes(3, 8)
    assert "too few for halves" in refuses_sizes(8, 1)
    assert refuses_sizes(336, 8) == ""
    assert "340 input channels are too many" in refuses_sizes(340, 8)
    offsets = [int(line.partition("#")[2].rstrip("]")) for line in combine_routine(336).lines if "[r1, #" in line or "[r0, #" in line]
    assert max(offsets) < 4096


def test_refuses_where_blocks_do_not_pay():
    """Nine pixels are computed as twelve."""
    out = layer().out
    small = layer(types=(s8((1, 3, 3, 64), 0.05, 0), layer().types[1]), out=replace(out, shape=(1, 3, 3, 64)))
    assert "two pixels by two channels" in SLOWER(small)
    assert instructions(12, 64, 64) == instructions(9, 64, 64)
    assert half_in(57) == 32
