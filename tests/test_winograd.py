# SPDX-License-Identifier: Apache-2.0
"""Winograd's minimal filtering: transformed weights, equality with the reference of twins on the host and of routines on the emulator, refusals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import needs_arm, s8

from midge.codegen.write import write_library
from midge.ir import Array, DType, Graph, Node, Quant, TensorType, Value
from midge.lower import Choice, lower
from midge.microkernels.winograd import F2, F4, FORMS, HALF, Form, Winograd
from midge.ops import conv_winograd
from midge.ops.conv import Conv2D
from midge.ops.conv_kernels import ConvLayer
from midge.ops.conv_winograd import refuses_winograd
from midge.run.host import run_host
from midge.run.interpreter import Interpreter
from midge.run.qemu import run_qemu
from midge.run.reference import run_reference
from midge.schedule import place
from midge.targets import get_target

NUMERICS = ("onnx", "tflite")


@dataclass(frozen=True)
class Case:
    """One convolution: sizes, what its integers look like, and the seed they come from."""

    height: int
    width: int
    channels: int
    out: int
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    zero_points: tuple[int, int] = (-128, -128)
    extreme: bool = False
    seed: int = 0


def convolution(graph: Graph, case: Case, form: Form) -> Array:
    """Append the convolution to a graph; returns its input."""
    rng, index = np.random.default_rng(case.seed), len(graph.nodes)
    shape, filters = (1, case.height, case.width, case.channels), (case.out, 3, 3, case.channels)
    x = rng.choice(np.array([-128, 127]), shape) if case.extreme else rng.integers(-128, 128, shape)
    w = rng.choice(np.array([-128, 127]), filters) if case.extreme else rng.integers(-128, 128, filters)
    spread = 0.05 * 80 * 80 * np.sqrt(9 * case.channels)
    scales = np.float32(rng.uniform(0.3, 3.0, case.out) * 4 / spread * (0.1 if case.extreme else 1.0))
    op = Conv2D((form.stride, form.stride), (1, 1), case.pads)
    tx, tw = s8(shape, 0.05, case.zero_points[0]), TensorType(DType.S8, filters, Quant.of(scales, 0, 0))
    ty = op.infer([tx, tw])[0].with_quant(DType.S8, Quant.of(0.1, case.zero_points[1]))
    bias = rng.integers(-20000, 20000, case.out).astype(np.int32)
    values = (Value("x", tx), Value("w", tw, w.astype(np.int8)), Value("b", TensorType(DType.S32, bias.shape), bias), Value("y", ty))
    names = [f"{value.name}{index}" for value in values]
    for name, value in zip(names, values, strict=True):
        graph.values[name] = replace(value, name=name)
    graph.nodes.append(Node(f"conv{index}", op, names[:3], [names[3]]))
    graph.inputs.append(names[0])
    graph.outputs.append(names[3])
    return x.astype(np.int8)


def program_for(graph: Graph, form: Form):
    """The graph on a core with the DSP extension, by this form."""
    program = place(lower(graph, get_target("cortex-m4"), "net", "0" * 64, Choice("speed", prefer=f"{form.name}_s8+")))
    assert {call.kernel.symbol for call in program.calls} == {f"midge_{form.name}_s8"}, program.calls[0].refused
    return program


def output(graph: Graph, inputs: list[Array]) -> list[Array]:
    found = run_reference(graph, dict(zip(graph.inputs, inputs, strict=True)))
    return [found[name] for name in graph.outputs]


SLOWER = conv_winograd.slower


@pytest.fixture(scope="module", autouse=True)
def any_size():
    """Layers are refused where tiles do not pay; they must be right all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_winograd, "slower", lambda layer, form: "")
        yield


@st.composite
def cases(draw):
    """(form, case): all edges of images within a tile, all kinds of channels, integers at the ends of their ranges."""
    form = draw(st.sampled_from(FORMS))
    pads = tuple(draw(st.sampled_from([0, 1])) for _ in range(4))
    height, width = (draw(st.integers(max(1, 3 - pads[i] - pads[i + 2]), top * form.stride)) for i, top in enumerate((9, 17)))
    zero_points = (draw(st.sampled_from([-128, -5, 0, 127])), draw(st.sampled_from([-128, 3, 127])))
    sizes = (height, width, draw(st.integers(3, 13)), draw(st.integers(1, 7)), pads, zero_points)
    return form, Case(*sizes, draw(st.booleans()), draw(st.integers(0, 2**32 - 1)))


@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from(NUMERICS))
def test_twins_equal_reference(drawn, numerics):
    form, case = drawn
    graph = Graph("net", numerics=numerics)
    x = convolution(graph, case, form)
    np.testing.assert_array_equal(Interpreter(program_for(graph, form)).run([x])[0], output(graph, [x])[0])


SAMPLE = (
    Case(8, 16, 3, 8),
    Case(9, 11, 4, 9, (0, 1, 1, 0), (-7, 5)),
    Case(8, 7, 5, 8, (1, 0, 1, 1), (127, -128), extreme=True),
    Case(6, 20, 16, 10, zero_points=(0, 127)),
    Case(7, 18, 20, 8, (0, 0, 0, 0), (-128, 0)),
    Case(8, 16, 68, 6, extreme=True),
    Case(5, 9, 132, 3, zero_points=(3, -20)),
    Case(1, 1, 8, 2),
)


def sample(form: Form, numerics: str) -> tuple[Graph, list[Array]]:
    graph = Graph("net", numerics=numerics)
    return graph, [convolution(graph, replace(case, seed=seed), form) for seed, case in enumerate(SAMPLE)]


def assert_equals_reference(graph: Graph, inputs: list[Array], got: list[Array]) -> None:
    for node, y, expected in zip(graph.nodes, got, output(graph, inputs), strict=True):
        np.testing.assert_array_equal(y.view(np.int8).reshape(expected.shape), expected, err_msg=node.name)
        assert expected.size < 20 or len(np.unique(expected)) > 10  # not all of it is saturated


@needs_arm
@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_routines_equal_reference(form, numerics, tmp_path):
    graph, inputs = sample(form, numerics)
    directory = write_library(program_for(graph, form), tmp_path / "net")
    assert_equals_reference(graph, inputs, run_qemu(directory, "cortex-m4", [x[None] for x in inputs]).outputs)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_twins_read_nothing_outside(form, tmp_path):
    graph, inputs = sample(form, "onnx")
    directory = write_library(program_for(graph, form), tmp_path / "net")
    assert_equals_reference(graph, inputs, run_host(directory, [x[None] for x in inputs], sanitize=True).outputs)


def direct(d: Array, w: Array, form: Form) -> Array:
    """The valid convolution of one tile."""
    return np.array([[(d[y : y + 3, x : x + 3] * w).sum() for x in range(0, form.step, form.stride)] for y in range(0, form.step, form.stride)])


BACK = {
    F4: ([[1, 4, 4, 1, 1, 0], [0, 2, -2, 1, -1, 0], [0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 1]], [24, 12, 6, 6]),
    F2: ([[1, 1, 1, 0], [0, 1, -1, 1]], [2, 2]),
    HALF: ([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]], [1, 1]),
}
FORWARD = {
    F4: [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]],
    F2: [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    HALF: [[1, 0, -1, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, -1, 0, 1]],
}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_ranges_of_both_factors(form):
    """The identity holds, and no int8 weight or raised input leaves int16 (with room for the borrow between two channels)."""
    rng, g, b = np.random.default_rng(5), np.array(form.g), np.array(FORWARD[form])
    a, scale = np.array(BACK[form][0]), np.array(BACK[form][1])
    d, w = rng.integers(0, 256, (form.size, form.size)), rng.integers(-128, 128, (3, 3))
    np.testing.assert_array_equal(a @ ((g @ w @ g.T) * (b @ d @ b.T)) @ a.T, direct(d, w, form) * np.outer(scale, scale))
    assert np.abs(np.kron(g, g)).sum(1).max() * 128 * (2 if form is HALF else 1) < 1 << 15
    both = np.kron(b, b)
    assert max(np.maximum(both, 0).sum(1).max(), np.maximum(-both, 0).sum(1).max()) * 255 < 1 << 15


def layer(form: Form = F4, **changes) -> ConvLayer:
    """A layer that the form serves."""
    weights = np.full((8, 3, 3, 16), 3, np.int8)
    tx, tw = s8((1, 16, 16, 16), 0.05, 0), TensorType(DType.S8, weights.shape, Quant.of(np.full(8, 0.001, np.float32), 0, 0))
    op = Conv2D((form.stride, form.stride), (1, 1), (1, 1, 1, 1))
    out = op.infer([tx, tw])[0].with_quant(DType.S8, Quant.of(0.1, -128))
    return replace(ConvLayer(op, (tx, tw), out, weights, np.zeros(8, np.int32), "onnx"), **changes)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_serves(form):
    assert refuses_winograd(layer(form), form) == ""


REFUSED = {
    "grouped": {"op": Conv2D(pads=(1, 1, 1, 1), groups=16)},
    "NCHW": {"op": Conv2D(pads=(1, 1, 1, 1), planar=True)},
    "not 3x3 of stride 1": {"op": Conv2D((2, 2), pads=(1, 1, 1, 1))},
    "not 3x3": {"op": Conv2D((1, 1), (2, 2))},
    "fewer than 3 input channels": {"types": (s8((1, 16, 16, 2), 0.05, 0), TensorType(DType.S8, (8, 3, 3, 2), Quant.of(np.full(8, 0.001, np.float32), 0, 0)))},
    "clamped to -128..-68": {"op": Conv2D(pads=(1, 1, 1, 1), low=0.0, high=6.0)},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refuses(reason):
    assert reason in refuses_winograd(layer(**REFUSED[reason]), F4)


def test_forms_that_pay_serve():
    """A form serves if none that stores less executes fewer instructions: a tile half outside the image, an ordinary layer, a pixel."""
    out = layer().out

    def served(height: int, width: int, channels: int) -> list[str]:
        changed = layer(out=replace(out, shape=(1, height, width, channels)))
        return [form.name for form in (F4, F2) if not SLOWER(changed, form)]

    assert served(2, 4, 8) == ["winograd2"]
    assert served(16, 16, 8) == ["winograd4", "winograd2"]
    assert served(1, 1, 8) == []
    assert "about 15,800 instructions, two pixels by two channels 1,990" in SLOWER(layer(out=replace(out, shape=(1, 1, 1, 8))), F4)


def winograd(form: Form, weights: Array, bias: int = 0) -> Winograd:
    count = len(weights)
    return Winograd(form, weights, np.full(count, bias), np.full(count, 1 << 30), np.full(count, -9), -128)


def test_refuses_sums_that_wrap():
    """255 * 9 * 128 * 114 < 2**25 < 255 * 9 * 128 * 115."""
    widest = np.full((1, 3, 3, 114), -128, np.int8)
    assert winograd(F4, widest).refuses() == ""
    wider = np.full((1, 3, 3, 115), -128, np.int8)
    assert "2**25 is too much" in winograd(F4, wider).refuses()
    assert winograd(F2, wider).refuses() == ""
    assert "an accumulator may reach" in winograd(HALF, np.full((1, 3, 3, 4), 127, np.int8), 1 << 30).refuses()
