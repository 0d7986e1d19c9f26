# SPDX-License-Identifier: Apache-2.0
"""Layers clamped to less than int8: a kernel that saturates and a clamp in place behind it, on cores whose kernels do not clamp themselves."""

from __future__ import annotations

import numpy as np
import pytest
from dsp_cases import assert_assembly_matches, convolution
from hypothesis import given, settings
from hypothesis import strategies as st
from midge.kernels import functions
from support import needs_arm, program_of

from midge.ops.conv import Conv2D
from midge.run.interpreter import Interpreter
from midge.run.reference import run_reference

CLAMPED = Conv2D(low=0.0, high=6.0)  # scales are 0.5: 12 integers above the zero point


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3", "cortex-m0plus", "cortex-m55", "host"])
@pytest.mark.parametrize("optimize", ["balanced", "speed", "size"])
def test_kernels_by_core(target: str, optimize: str) -> None:
    """The clamp is there where a kernel only saturates: neither with MVE nor with the portable kernel."""
    graph, feeds = convolution(np.random.default_rng(0), CLAMPED, (1, 6, 6, 24), (1, 1), 10, "onnx", False)
    program = program_of(graph, target, optimize)
    apart = target in ("cortex-m4", "cortex-m3", "cortex-m0plus") and optimize != "size"
    assert [call.kernel.symbol == "midge_clamp_s8" for call in program.calls] == ([False, True] if apart else [False])
    expected = run_reference(graph, feeds)["out0"]
    got = Interpreter(program).run([feeds["in0"]])[0]
    np.testing.assert_array_equal(got, expected.reshape(got.shape))
    assert len(np.unique(expected)) > 5


def test_the_clamp_is_in_place() -> None:
    graph, _ = convolution(np.random.default_rng(0), CLAMPED, (1, 6, 6, 24), (1, 1), 10, "onnx", False)
    program = program_of(graph, "cortex-m4", by_rows=False)
    first, last = program.calls
    assert program.buffers[first.output].offset == program.buffers[last.output].offset
    assert not any("clamped" in reason for reason in first.refused)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.sampled_from([-8.0, 0.0, float("-inf")]), st.sampled_from([1.0, 6.0, float("inf")])),
    st.sampled_from(["onnx", "tflite"]),
    st.integers(0, 2**32 - 1),
)
def test_equals_reference(sizes: tuple[int, int, int, int], limits: tuple[float, float], numerics: str, seed: int) -> None:
    height, width, channels, out = sizes
    rng, op = np.random.default_rng(seed), Conv2D(low=limits[0], high=limits[1])
    graph, feeds = convolution(rng, op, (1, height, width, channels), (1, 1), out, numerics, False)
    expected = run_reference(graph, feeds)["out0"]
    got = Interpreter(program_of(graph, "cortex-m4")).run([feeds["in0"]])[0]
    np.testing.assert_array_equal(got, expected.reshape(got.shape))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 23), st.integers(-128, 127), st.integers(-128, 127), st.integers(0, 3))
def test_kernel(count: int, one: int, other: int, start: int) -> None:
    """Any length and alignment, every byte, limits at the ends of int8; nothing behind the row is written."""
    low, high = min(one, other), max(one, other)
    data = np.random.default_rng(count).integers(-128, 128, 32).astype(np.int8)
    out = np.zeros(32, np.int8)
    rows = [array.ctypes.data + start for array in (data, out)]
    functions()["midge_clamp_s8"]([count, low, high], [rows[0]], [], [rows[1]], 1, 0)  # type: ignore[operator]
    np.testing.assert_array_equal(out[start : start + count], np.clip(data[start : start + count], low, high))
    assert not out[:start].any() and not out[start + count :].any()


@needs_arm
@pytest.mark.parametrize("numerics", ["onnx", "tflite"])
def test_assembly_on_the_emulator(numerics: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(1)
    clamped = [Conv2D(low=low, high=high) for low, high in ((0.0, 6.0), (-3.0, 2.5), (-60.0, float("inf")))]
    cases = [convolution(rng, op, (1, 3, 5, 7 + i), (1, 1), 9 - i, numerics, i == 1) for i, op in enumerate(clamped)]
    assert_assembly_matches(cases, "cortex-m4", "balanced", tmp_path, "midge_conv2d_dsp_s8", "midge_clamp_s8")
