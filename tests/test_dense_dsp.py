# SPDX-License-Identifier: Apache-2.0
"""One pixel by four channels on the DSP extension: against the reference, assembly against its twin, and what it does not serve."""

from __future__ import annotations

import numpy as np
import pytest
from dsp_cases import assert_assembly_matches, convolution, symbols
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_kernels_match, joined, needs_arm, program_of

from midge.api import placed
from midge.codegen.write import write_library
from midge.costs import load_costs
from midge.ir import Graph
from midge.lower import Choice, lower
from midge.microkernels.dense import dense_routine
from midge.ops.conv import Conv2D
from midge.program import Program
from midge.run.interpreter import Interpreter
from midge.run.qemu import run_qemu
from midge.run.reference import run_reference
from midge.schedule import Wish, place
from midge.targets import get_target

KERNEL, BYTES = "midge_dense_dsp_s8", "midge_dense_bytes_dsp_s8"


@st.composite
def layers(draw, numerics=None):
    """(graph, feeds, optimize): windows as large as the input, of any depth."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    channels = draw(st.integers(1, 40)) if height * width > 1 else draw(st.integers(1, 300))
    shape, kernel = (1, height, width, channels), (height, width)
    numerics = numerics or draw(st.sampled_from(["onnx", "tflite"]))
    return *convolution(rng, Conv2D(), shape, kernel, draw(st.integers(1, 21)), numerics, draw(st.booleans())), draw(st.sampled_from(["balanced", "speed"]))


@settings(max_examples=150, deadline=None)
@given(layers())
def test_twins_equal_reference(case):
    graph, feeds, optimize = case
    assert_kernels_match(graph, feeds, "cortex-m4", optimize)


def prefer_bytes(graph: Graph, target: str = "cortex-m4") -> Program:
    """Placed, with taps read as they come wherever that is offered."""
    return place(lower(graph, get_target(target), "net", "0" * 64, Choice(prefer="dense_bytes_dsp_s8")), Wish(by_rows=False))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 21), st.sampled_from(["onnx", "tflite"]), st.booleans())
def test_bytes_equal_reference(seed, fours, out, numerics, extreme):
    """Scratch is for channels that do not come in fours only."""
    graph, feeds = convolution(np.random.default_rng(seed), Conv2D(), (1, 1, 1, 4 * fours), (1, 1), out, numerics, extreme)
    program = prefer_bytes(graph)
    assert program.calls[0].kernel.symbol == BYTES
    assert program.calls[0].scratch_nbytes == (-(-out // 4) * 4 if out % 4 else 0)
    np.testing.assert_array_equal(Interpreter(program).run([feeds["in0"]])[0].reshape(-1), run_reference(graph, feeds)["out0"].reshape(-1))


@needs_arm
@pytest.mark.parametrize(("numerics", "target"), [("onnx", "cortex-m4"), ("tflite", "cortex-m33")])
def test_assembly_of_bytes_equals_twin(numerics, target, tmp_path):
    rng = np.random.default_rng(4)
    depths = [4, 8, 12, 36, 64, 68, 136, 640]
    cases = [convolution(rng, Conv2D(), (1, 1, 1, depth), (1, 1), int(rng.integers(1, 18)), numerics, i % 3 == 0) for i, depth in enumerate(depths)]
    graph = joined([graph for graph, _ in cases])
    feeds = {f"g{i}_{name}": data for i, (_, feed) in enumerate(cases) for name, data in feed.items()}
    program, expected = prefer_bytes(graph, target), run_reference(graph, feeds)
    assert {call.kernel.symbol for call in program.calls} == {BYTES}
    run = run_qemu(write_library(program, tmp_path / "net"), target, [feeds[name][None] for name in graph.inputs])
    for name, got in zip(graph.outputs, run.outputs, strict=True):
        np.testing.assert_array_equal(got.view(np.int8).reshape(-1), expected[name].reshape(-1), err_msg=name)


def test_the_least_ram_takes_taps_as_they_come():
    """Where the int16 pairs would raise the arena, and only there; only if it is not much slower."""
    graph, feeds = convolution(np.random.default_rng(0), Conv2D(), (1, 1, 1, 640), (1, 1), 128, "tflite", False)
    machine, costs = get_target("cortex-m4"), load_costs("cortex-m4")
    lean = placed(graph, machine, "0" * 64, Choice(costs=costs), Wish(least=True))
    fast = placed(graph, machine, "0" * 64, Choice(costs=costs), Wish())
    assert [program.calls[0].kernel.symbol for program in (lean, fast)] == [BYTES, KERNEL]
    assert (lean.arena_nbytes, fast.arena_nbytes) == (768, 2048)
    np.testing.assert_array_equal(Interpreter(lean).run([feeds["in0"]])[0], Interpreter(fast).run([feeds["in0"]])[0])
    shape = next(shape for shape in costs.rows["dense_bytes_dsp_s8"] if shape[1] == 640)
    costs.rows["dense_bytes_dsp_s8"][shape] = 2 * costs.rows["dense_dsp_s8"][shape]
    assert placed(graph, machine, "0" * 64, Choice(costs=costs), Wish(least=True)).calls[0].kernel.symbol == KERNEL


@needs_arm
@pytest.mark.parametrize(
    ("numerics", "optimize", "target"),
    [("onnx", "balanced", "cortex-m4"), ("tflite", "balanced", "cortex-m7"), ("onnx", "speed", "cortex-m33"), ("tflite", "speed", "cortex-m4")],
)
def test_assembly_equals_twin(numerics, optimize, target, tmp_path):
    rng = np.random.default_rng(3)
    shapes = [(1, 1), (1, 4), (1, 7), (1, 8), (1, 12), (1, 36), (1, 64), (1, 100), (1, 136), (1, 250), (3, 5), (5, 8), (9, 3)]
    cases = [
        convolution(rng, Conv2D(), (1, height, 1, depth), (height, 1), int(rng.integers(1, 18)), numerics, bool(i % 3 == 0))
        for i, (height, depth) in enumerate(shapes)
    ]
    assert_assembly_matches(cases, target, optimize, tmp_path, KERNEL)


def test_input_that_ends_with_the_arena_is_not_read_beyond():
    """The last bytes of a depth that is no multiple of four lie at the end of the row: a guard follows the arena."""
    graph, feeds = convolution(np.random.default_rng(0), Conv2D(), (1, 1, 1, 7), (1, 1), 3, "onnx", False)
    assert symbols(graph) == [KERNEL]
    assert_kernels_match(graph, feeds, "cortex-m4")


@pytest.mark.parametrize("depth", [4, 8, 12, 64, 68, 640, 1000])
@pytest.mark.parametrize("packed", [False, True])
def test_a_routine_walks_the_whole_depth(depth, packed):
    """Taps in the loop's body divide what the loop walks, so that its end is met."""
    for channels in (1, 1000):
        routine = dense_routine(depth, channels, packed, False, "onnx")
        for symbol in (routine.symbol, *routine.others):
            sizes = [int(n) for n in symbol.removeprefix(f"midge_dense_{'p8' if packed else 'i16'}_").split("_")]
            rest = depth - (4 if depth % 8 else 0)
            assert rest == 0 or rest % sizes[0] == 0
            assert (sizes[-1] == 4) == (depth % 8 != 0)
        assert channels == 1 or not routine.others  # long loop bodies where they pay


def test_layers_it_does_not_serve_say_why():
    rng = np.random.default_rng(0)
    clamped, _ = convolution(rng, Conv2D(low=0.0, high=3.0), (1, 1, 1, 16), (1, 1), 4, "onnx", False)
    padded, _ = convolution(rng, Conv2D(pads=(1, 1, 1, 1)), (1, 1, 1, 16), (3, 3), 4, "onnx", False)
    several, _ = convolution(rng, Conv2D(), (1, 2, 1, 16), (1, 1), 4, "onnx", False)
    for graph, reason in ((padded, "the window is not whole"), (several, "2 pixels")):
        call = program_of(graph, "cortex-m4").calls[0]
        assert call.kernel.symbol != KERNEL
        assert any(line.startswith("dense_dsp_s8: ") and reason in line for line in call.refused)
    assert symbols(clamped, optimize="size") == ["midge_conv2d_s8"]
    assert symbols(convolution(rng, Conv2D(), (1, 1, 1, 16), (1, 1), 4, "onnx", False)[0], target="cortex-m3") != [KERNEL]
