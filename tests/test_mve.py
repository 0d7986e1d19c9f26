# SPDX-License-Identifier: Apache-2.0
"""The M-profile vector extension: kernels against the reference, assembly against its twins, bounds, and what is not served."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_kernels_match, joined, needs_arm, op_graph, program_of, s8

from midge.codegen.write import write_library
from midge.fixedpoint import requantize
from midge.ir import DType, Quant, TensorType
from midge.lower import Choice, lower
from midge.microkernels.mve import Requantization, Taps
from midge.microkernels.mve_taps import LANES, groups_of
from midge.ops.binary import Add, Sub
from midge.ops.binary_linear import find_linear
from midge.ops.conv import Conv2D
from midge.ops.pool import AveragePool
from midge.run.host import run_host
from midge.run.interpreter import Interpreter
from midge.run.qemu import run_qemu
from midge.run.reference import run_reference
from midge.schedule import Wish, place
from midge.schedule.grains import natural_grain
from midge.schedule.plan import Planner, adopt
from midge.targets import get_target

TARGET = "cortex-m55"
KINDS = (
    "pointwise",
    "conv2d",
    "conv2d_columns",
    "conv2d_window",
    "conv2d_pixel",
    "depthwise",
    "depthwise_column",
    "depthwise_wide",
    "depthwise_widest",
    "depthwise_narrow",
    "depthwise_strip",
)
CHANNELS = (1, 3, 4, 8, 11, 16, 20, 32, 37, 48, 64)


def convolution(rng, op, x, kernel, out, numerics, extreme=False, scale=None):
    """A graph of one layer and its input. `extreme`: inputs and weights at the ends of their ranges."""
    depth = x[-1] // op.groups
    shape = (out, *kernel, depth)
    data = rng.choice(np.array([-128, 127], np.int8), x) if extreme else rng.integers(-128, 128, x).astype(np.int8)
    weights = (rng.choice(np.array([-128, 127]), shape) if extreme else rng.integers(-128, 128, shape)).astype(np.int8)
    weights[rng.random(out) < 0.1] = 0
    bias = rng.integers(-20000, 20000, out).astype(np.int32)
    scales = np.float32(rng.uniform(0.2, 1.0, out) / (64 * (kernel[0] * kernel[1] * depth) ** 0.5 * (2 if extreme else 1)) if scale is None else [scale] * out)
    tx = s8(x, 0.5, int(rng.choice([-128, -3, 0, 127])))
    tw, tb = TensorType(DType.S8, shape, Quant.of(scales, 0, 0)), TensorType(DType.S32, bias.shape)
    ty = op.infer([tx, tw])[0].with_quant(DType.S8, Quant.of(0.5, int(rng.choice([-128, 5, 127]))))
    return op_graph(op, [tx, (tw, weights), (tb, bias)], ty, numerics), {"in0": data}


def random_case(rng, numerics):
    """Any convolution that has a kernel here: windows may be larger than the image, rows one pixel wide, outputs clamped."""
    while True:
        channels, depthwise, pointwise = int(rng.choice(CHANNELS)), rng.random() < 0.4, rng.random() < 0.3
        kernel = (1, 1) if pointwise and not depthwise else (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
        pads = (0, 0, 0, 0) if pointwise else tuple(int(n) for n in rng.integers(0, 3, 4))
        strides, dilations = (int(rng.integers(1, 3)), int(rng.integers(1, 4))), (1, int(rng.integers(1, 3)))
        clamp = [(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0)][int(rng.integers(3))]
        op = Conv2D(strides, dilations, pads, channels if depthwise and channels > 1 else 1, *clamp)
        shape = 1, int(rng.integers(1, 6)), int(rng.integers(1, 20 if depthwise else 9)), channels
        height = (shape[1] + pads[0] + pads[2] - kernel[0]) // strides[0] + 1
        width = (shape[2] + pads[1] + pads[3] - dilations[1] * (kernel[1] - 1) - 1) // strides[1] + 1
        narrow_stride = op.groups > 1 and channels < 16 and strides[1] > 1
        if height > 0 and width > 0 and not narrow_stride:
            return convolution(rng, op, shape, kernel, channels if op.groups > 1 else int(rng.integers(1, 19)), numerics, rng.random() < 0.3)


def kernels(graph, optimize="balanced"):
    return [call.kernel.symbol for call in program_of(graph, TARGET, optimize).calls]


def by_rows(graph, target):
    """A Program that computes a layer in steps of as many rows as its kernel takes."""
    program = lower(graph, get_target(target), "net", "0" * 64, Choice("balanced"))
    adopt(program, Planner(program, Wish()).plan([natural_grain(call) for call in program.calls], budget=1 << 30))  # any arena will do
    return program


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["onnx", "tflite"]), st.booleans())
def test_twins_equal_reference(seed, numerics, rows):
    graph, feeds = random_case(np.random.default_rng(seed), numerics)
    assert "_mve" in kernels(graph)[0]
    if not rows:
        assert_kernels_match(graph, feeds, TARGET)
        return
    (output,) = Interpreter(by_rows(graph, TARGET)).run([feeds["in0"]])
    np.testing.assert_array_equal(output, run_reference(graph, feeds)["out0"].reshape(output.shape), err_msg=f"{graph.nodes[0].op}")


@pytest.mark.parametrize("width", [1, 3, 4])
def test_rows_of_an_odd_number_of_pixels_come_in_twos(width):
    """So that no pixel is without a partner, but in the last of an odd number of rows; pointwise and columns of taps."""
    rng = np.random.default_rng(5)
    for op, kernel, channels in ((Conv2D(), (1, 1), 20), (Conv2D(pads=(1, 1, 1, 1)), (3, 3), 3)):
        if kernel == (1, 1) or width > 1:
            graph, feeds = convolution(rng, op, (1, 5, width, channels), kernel, 6, "tflite")
            program = by_rows(graph, TARGET)
            assert [step.count for step in program.steps] == ([2, 2, 1] if width % 2 else [1] * 5)
            (output,) = Interpreter(program).run([feeds["in0"]])
            np.testing.assert_array_equal(output, run_reference(graph, feeds)["out0"].reshape(output.shape))


@pytest.mark.parametrize("name", ["pointwise", "conv2d", "conv2d_window"])
def test_a_flat_layer_may_be_split_whatever_serves_it(name):
    """Rows of one pixel and of an odd number."""
    for width in (1, 3):
        graph, feeds = convolution(np.random.default_rng(6), Conv2D(), (1, 5, width, 16), (1, 1), 8, "onnx")
        program = lower(graph, get_target(TARGET), "net", "0" * 64, Choice("balanced", prefer=f"{name}_mve_s8"))
        assert program.calls[0].kernel.symbol == f"midge_{name if width > 1 or name != 'conv2d_window' else 'pointwise'}_mve_s8"
        adopt(program, Planner(program, Wish()).plan([1]))
        (output,) = Interpreter(program).run([feeds["in0"]])
        np.testing.assert_array_equal(output, run_reference(graph, feeds)["out0"].reshape(output.shape))


def assert_assembly_matches(cases, target, folder, rows=False):
    """All cases in one library: emulated core == host C (twins) == reference."""
    graph = joined([graph for graph, _ in cases])
    program = by_rows(graph, target) if rows else place(lower(graph, get_target(target), "net", "0" * 64), Wish(by_rows=False))
    assert all("_mve" in call.kernel.symbol for call in program.calls)
    feeds = {f"g{i}_{name}": data for i, (_, feed) in enumerate(cases) for name, data in feed.items()}
    expected = run_reference(graph, feeds)
    directory = write_library(program, folder / "net")
    inputs = [feeds[name][None] for name in graph.inputs]
    for run in (run_host(directory, inputs, sanitize=True), run_qemu(directory, target, inputs)):
        for name, got in zip(graph.outputs, run.outputs, strict=True):
            np.testing.assert_array_equal(got.view(np.int8).reshape(-1), expected[name].reshape(-1), err_msg=f"{name} {graph.type(name)}")
    return {call.kernel.symbol for call in program.calls}


@needs_arm
@pytest.mark.parametrize(("numerics", "target", "rows"), [("onnx", "cortex-m55", False), ("tflite", "cortex-m85", True)])
def test_assembly_equals_twins(numerics, target, rows, tmp_path):
    rng = np.random.default_rng(11)
    cases = [random_case(rng, numerics) for _ in range(40)]
    for channels in (5, 8, 16, 31, 32, 64, 100, 200, 300):  # pointwise: all ways to read a depth, odd numbers of pixels, dense
        cases.append(convolution(rng, Conv2D(), (1, 3, 3, channels), (1, 1), 6, numerics))
        cases.append(convolution(rng, Conv2D(), (1, 1, 1, channels), (1, 1), 13, numerics))
    for channels in (20, 37):  # rows as taps: one pixel wide, and several with a stride
        cases.append(convolution(rng, Conv2D((1, 1), groups=channels), (1, 12, 1, channels), (5, 1), channels, numerics))
        cases.append(convolution(rng, Conv2D((2, 2), groups=channels), (1, 12, 7, channels), (3, 1), channels, numerics))
    for channels in (2, 4, 8):  # several pixels a vector
        cases.append(convolution(rng, Conv2D(pads=(1, 1, 1, 1), groups=channels), (1, 4, 13, channels), (3, 2), channels, numerics))
    for kernel in ((10, 1), (5, 5), (7, 7)):  # more taps than core registers
        for channels in (15, 16, 40):
            cases.append(convolution(rng, Conv2D(pads=(0, 1, 0, 1), groups=channels), (1, 11, 6, channels), kernel, channels, numerics))
    for width in (2, 3, 4, 5, 7, 12):  # strips: all ways to lay blocks on a row, an odd row left over, both ways to read pixels
        cases += [convolution(rng, Conv2D(pads=(1, 1, 1, 1), groups=c), (1, int(rng.integers(1, 6)), width, c), (3, 3), c, numerics) for c in (8, 21, 24)]
    for channels, stride, dilation in (
        (16, 1, 1),
        (32, 2, 1),
        (48, 2, 1),
        (64, 1, 1),
        (32, 1, 2),
    ):  # windows in place: written out, row by row, with five columns
        op = Conv2D((1, stride), (1, dilation), (1, 1, 1, 1))
        cases += [convolution(rng, op, (1, 3, width, channels), (3, 3) if dilation == 1 else (3, 2), 8, numerics) for width in (5, 14)]
    for channels, kernel, stride in ((1, (10, 4), 2), (3, (3, 3), 2), (3, (3, 3), 1), (7, (2, 5), 1)):  # columns of taps, in more than one run
        cases.append(convolution(rng, Conv2D((1, stride), pads=(1, 1, 1, 1)), (1, 11, 67, channels), kernel, 8, numerics))
    taken = assert_assembly_matches(cases, target, tmp_path, rows)
    assert taken == {f"midge_{name}_mve_s8" for name in KINDS}


@settings(max_examples=300, deadline=None)
@given(st.integers(-(2**31), 2**31 - 1), st.integers(2**30, 2**31 - 1), st.integers(-31, -1))
def test_the_vector_form_is_exact(acc, multiplier, shift):
    """What the instructions compute, in unlimited integers, equals the definition; only the tie of a negative value needs care."""
    n = -shift
    once = ((2 * acc * multiplier >> 32) + (1 << n - 1)) >> n
    high = (2 * acc * multiplier + (1 << 31)) >> 32
    twice = (high - (high < 0) + (1 << n - 1)) >> n
    assert once == requantize(acc, multiplier, shift, "onnx")
    assert twice == requantize(acc, multiplier, shift, "tflite")
    uncorrected = (high + (1 << n - 1)) >> n
    assert max(-128, uncorrected - 128) == max(-128, twice - 128)


def test_bounds():
    r = Requantization(np.array([2**31 - 1, 5]), np.full(2, 2**30), np.array([-1, -3]), -128, -128, 127, "tflite")
    assert r.refuses() == ""
    assert not r.corrects
    assert r.wide
    assert replace(r, zero_point=0).corrects
    assert not replace(r, zero_point=0, numerics="onnx").corrects
    assert replace(r, act_max=100).clamps
    assert not replace(r, reach=np.array([4 * 31999, 5])).wide
    assert "channel 1 is not shifted right" in replace(r, shift=np.array([-1, 0])).refuses()
    assert "32 bits" in replace(r, reach=np.array([2**31, 5])).refuses()


@pytest.mark.parametrize(
    ("weights", "groups"),
    [([[127] * 9], (2, 2, 2, 2, 1)), ([[85] * 9], (3, 3, 3)), ([[-128, -128, 1], [0, 0, 0]], (1, 2)), ([[28] * 9], (9,)), ([[-128, 127]], (2,)), ([[5]], (1,))],
)
def test_sums_of_products_stay_in_16_bits(weights, groups):
    assert groups_of(np.array(weights)) == groups


def test_lanes_undo_two_widenings():
    even, odd = np.arange(0, 16, 2), np.arange(1, 16, 2)
    assert LANES.tolist() == [*even[::2], *even[1::2], *odd[::2], *odd[1::2]]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 100), st.sampled_from(["aligned", "bytes"]))
def test_every_tap_has_one_place(depth, mode):
    taps = Taps(depth, mode)
    arranged = taps.arrange(np.arange(depth)[None] + 1)[0]
    read = [0 if step == 0 else taps.first - 16 + step * 16 for step in range(taps.steps)]
    for step, start in enumerate(read):
        count = taps.first if step == 0 else 16
        assert arranged[step, :count].tolist() == list(range(start + 1, start + count + 1))
        assert not arranged[step, count:].any()


@pytest.mark.parametrize(
    ("op", "shape", "kernel", "out", "scale", "reason"),
    [
        (Conv2D(), (1, 2, 2, 8), (1, 1), 4, 1.5, "channel 0 is not shifted right"),
        (Conv2D(groups=2), (1, 4, 4, 8), (3, 3), 4, None, "grouped"),
        (Conv2D(groups=8), (1, 9, 9, 8), (8, 8), 8, None, "64 taps, 49 are the most"),
        (Conv2D(groups=8), (1, 9, 9, 8), (3, 3), 16, None, "more than one output channel for each input channel"),
    ],
)
def test_what_is_not_served_says_why(op, shape, kernel, out, scale, reason):
    graph, feeds = convolution(np.random.default_rng(1), op, shape, kernel, out, "tflite", scale=scale)
    call = program_of(graph, TARGET).calls[0]
    assert "_mve" not in call.kernel.symbol
    assert any("_mve" in refusal and reason in refusal for refusal in call.refused), call.refused
    assert_kernels_match(graph, feeds, TARGET)
    assert all("_mve" not in symbol for symbol in kernels(graph, "size"))


def addition(rng, op, count, numerics):
    a, b = (s8((1, count), float(rng.uniform(0.01, 0.1)), int(rng.integers(-128, 128))) for _ in range(2))
    y = s8((1, count), float(rng.uniform(0.05, 0.2)), int(rng.choice([-128, -7, 60])))
    feeds = {f"in{i}": rng.integers(-128, 128, (1, count)).astype(np.int8) for i in range(2)}
    return op_graph(op, [a, b], y, numerics), feeds


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([Add(), Sub(), Add(0.0, 3.0)]), st.sampled_from(["onnx", "tflite"]))
def test_sums_equal_the_reference(seed, op, numerics):
    graph, feeds = addition(np.random.default_rng(seed), op, 37, numerics)
    assert_kernels_match(graph, feeds, TARGET)


def test_most_sums_have_a_linear_form():
    rng = np.random.default_rng(3)
    found = [kernels(addition(rng, Add(), 64, numerics)[0]) == ["midge_linear_mve_s8"] for numerics in ("onnx", "tflite") for _ in range(10)]
    assert sum(found) >= 16


def test_linear_form_of_what_is_not_linear():
    every = np.arange(-128, 128)
    wanted = np.clip(every[:, None] + every[None, :], -128, 127)
    assert find_linear(wanted, 1.0, 1.0, 0.0, (-128, 127)) is not None
    wanted[128, 128] += 1
    assert find_linear(wanted, 1.0, 1.0, 0.0, (-128, 127)) is None
    assert find_linear(wanted, 1e6, 1.0, 0.0, (-128, 127)) is None


@needs_arm
@pytest.mark.parametrize("numerics", ["onnx", "tflite"])
def test_elementwise_and_mean_on_the_core(numerics, tmp_path):
    rng = np.random.default_rng(2)
    cases = []
    while len(cases) < 8:
        case = addition(rng, [Add(), Sub(), Add(-1.0, 2.0)][len(cases) % 3], 61 + len(cases), numerics)
        if kernels(case[0]) == ["midge_linear_mve_s8"]:
            cases.append(case)
    for channels, height, width in ((1, 5, 3), (7, 5, 3), (16, 1, 1), (30, 30, 20)):
        x = s8((1, height, width, channels), 0.5, 3)
        graph = op_graph(AveragePool((height, width)), [x], s8((1, 1, 1, channels), 0.4, -5), numerics)
        cases.append((graph, {"in0": rng.integers(-128, 128, x.shape).astype(np.int8)}))
    taken = assert_assembly_matches(cases, TARGET, tmp_path)
    assert len(taken) == 2
