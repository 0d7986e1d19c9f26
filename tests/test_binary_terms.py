# SPDX-License-Identifier: Apache-2.0
"""Sums of two tensors by two tables: exact for every pair of bytes, in place, and refused where no tables do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_kernels_match, joined, op_graph, program_of, s8

from midge.ir import TensorType
from midge.ops.binary import Add, Mul, Sub
from midge.ops.binary_dyadic import find_dyadic
from midge.ops.binary_terms import find_terms

EVERY = np.arange(-128, 128)
PAIRS = np.repeat(EVERY, 256).astype(np.int8).reshape(1, 256, 256, 1), np.tile(EVERY, 256).astype(np.int8).reshape(1, 256, 256, 1)


def symbols(op, a: TensorType, b: TensorType, out: TensorType, numerics: str = "onnx", optimize: str = "balanced") -> list[str]:
    return [call.kernel.symbol for call in program_of(op_graph(op, [a, b], out, numerics), optimize=optimize).calls]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([Add, Sub]),
    st.tuples(*[st.floats(0.02, 1.0)] * 3),
    st.tuples(*[st.sampled_from([-128, -3, 0, 127])] * 3),
    st.sampled_from([-np.inf, 0.0]),
    st.sampled_from(["onnx", "tflite"]),
)
def test_every_pair_of_bytes(kind, scales, zero_points, low, numerics):
    """Whichever kernel is chosen: all 65,536 pairs of operands."""
    a, b, y = (s8((1, 256, 256, 1), np.float32(scale), zero_point) for scale, zero_point in zip(scales, zero_points, strict=True))
    assert_kernels_match(op_graph(kind(low=low), [a, b], y, numerics), {"in0": PAIRS[0], "in1": PAIRS[1]})


@pytest.mark.parametrize(("kind", "low", "numerics", "symbol"), [
    (Add, -np.inf, "onnx", "midge_terms_s8"), (Sub, -np.inf, "tflite", "midge_terms_s8"), (Add, 0.0, "onnx", "midge_terms_clamped_s8"),
    (Sub, 0.0, "tflite", "midge_terms_clamped_s8"),
])  # fmt: skip
def test_ordinary_scales_have_tables(kind, low, numerics, symbol):
    a, b, y = s8((1, 256, 256, 1), 0.0713, -3), s8((1, 256, 256, 1), 0.0311, 9), s8((1, 256, 256, 1), 0.1037, 5)
    assert symbols(kind(low=low), a, b, y, numerics) == [symbol]
    assert_kernels_match(op_graph(kind(low=low), [a, b], y, numerics), {"in0": PAIRS[0], "in1": PAIRS[1]})


def test_halves_away_from_zero_have_tables_and_halves_to_even_have_none():
    a, y = s8((1, 256, 256, 1), 0.5, 0), s8((1, 256, 256, 1), 1.0, 0)
    assert symbols(Add(), a, a, y, "tflite") == ["midge_terms_s8"]
    wanted = np.rint(np.clip((EVERY[:, None] + EVERY) / 2.0, -128, 127)).astype(np.int64)
    assert find_terms(wanted, EVERY / 2.0, EVERY / 2.0, 0, (-128, 127)) is None
    program = program_of(op_graph(Add(), [a, a], y, "onnx"))
    assert program.calls[0].refused == ("terms_s8: no two tables give every sum exactly",)


@pytest.mark.parametrize(("kind", "low"), [(Add, -np.inf), (Sub, -np.inf), (Add, 0.0)])
@pytest.mark.parametrize("scales", [(0.5, 0.5, 1.0), (0.25, 0.125, 1.0), (0.75, 0.5, 1.0), (2.0, 0.5, 0.5), (1.0, 1.0, 1.0), (0.0625, 3.0, 2.0)])
@pytest.mark.parametrize("zero_points", [(0, 0, 0), (-128, 127, 5), (3, -7, -128)])
def test_scales_of_one_power_of_two_take_whole_numbers(kind, low, scales, zero_points):
    a, b, y = (s8((1, 256, 256, 1), scale, zero_point) for scale, zero_point in zip(scales, zero_points, strict=True))
    clamped = "_clamped" if low == 0.0 and zero_points[2] != -128 else ""
    assert symbols(kind(low=low), a, b, y) in ([f"midge_dyadic{clamped}_s8"], [f"midge_terms{clamped}_s8"])
    assert scales != (0.5, 0.5, 1.0) or symbols(kind(low=low), a, b, y) == [f"midge_dyadic{clamped}_s8"]
    assert_kernels_match(op_graph(kind(low=low), [a, b], y), {"in0": PAIRS[0], "in1": PAIRS[1]})


def test_whole_numbers_are_for_few_elements_as_well():
    a, y = s8((1, 3, 16), 0.5, 7), s8((1, 3, 16), 1.0, 0)
    assert symbols(Add(), a, a.with_quant(a.dtype, s8((1,), 0.25, 0).q), y) == ["midge_dyadic_s8"]
    assert find_dyadic(np.zeros((256, 256), np.int64), (0.5, 1.0 / 3.0), (0, 0, 0), (-128, 127)) is None
    assert find_dyadic(np.zeros((256, 256), np.int64), (0.5, float(1 << 21)), (0, 0, 0), (-128, 127)) is None
    assert find_dyadic(np.zeros((256, 256), np.int64), (0.5, 0.5), (0, 0, 0), (-128, 127)) is None  # not what is wanted


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.floats(0.02, 1.0)] * 3),
    st.tuples(*[st.sampled_from([-128, -3, 0, 127])] * 3),
    st.sampled_from([-np.inf, 0.0]),
    st.sampled_from(["onnx", "tflite"]),
)
def test_every_product_of_bytes(scales, zero_points, low, numerics):
    a, b, y = (s8((1, 256, 256, 1), np.float32(scale), zero_point) for scale, zero_point in zip(scales, zero_points, strict=True))
    assert_kernels_match(op_graph(Mul(low=low), [a, b], y, numerics), {"in0": PAIRS[0], "in1": PAIRS[1]})


def test_products_round_simply_where_that_is_exact():
    a, b, y, coarse = (s8((1, 256, 256, 1), scale, 3) for scale in (0.0713, 0.0511, 0.1037, 0.0001))
    half = s8((1, 256, 256, 1), 0.5, 0)
    for numerics in ("onnx", "tflite"):
        assert symbols(Mul(), a, b, y, numerics) == ["midge_product_s8"]
        assert symbols(Mul(), a, b, y, numerics, "size") == ["midge_mul_s8"]
        assert symbols(Mul(), a, b, coarse, numerics) == ["midge_mul_s8"]  # shifted to the left
    assert symbols(Mul(), half, half, s8((1, 256, 256, 1), 1.0, 0)) == ["midge_mul_s8"]  # exact halves


def test_sums_that_leave_31_bits_have_none():
    wanted = np.clip(EVERY[:, None] * 9 + EVERY * 9, -128, 127)
    assert find_terms(wanted, EVERY * 9.0, EVERY * 9.0, 0, (-128, 127)) is None
    assert find_terms(np.clip(EVERY[:, None] + EVERY, -128, 127), EVERY * 1.0, EVERY * 1.0, 0, (-128, 127)) is not None


def test_tables_are_for_whole_operands_that_are_worth_their_bytes():
    large, row, small = s8((1, 64, 16), 0.07, 1), s8((1, 1, 16), 0.07, 1), s8((1, 3, 16), 0.07, 1)
    out, small_out = s8((1, 64, 16), 0.1, 5), s8((1, 3, 16), 0.1, 5)
    assert symbols(Add(), large, large, out) == ["midge_terms_s8"]
    assert symbols(Add(), large, row, out) == ["midge_add_s8"]
    assert symbols(Add(), large, large, out, optimize="size") == ["midge_add_s8"]
    assert symbols(Add(), small, small, small_out) == ["midge_add_s8"]
    assert symbols(Add(), small, small, small_out, optimize="speed") == ["midge_terms_s8"]


def test_equal_layers_share_their_tables():
    a, b, y = s8((1, 64, 16), 0.07, -3), s8((1, 64, 16), 0.031, 9), s8((1, 64, 16), 0.1, 5)
    one = program_of(op_graph(Add(), [a, b], y))
    two = program_of(joined([op_graph(Add(), [a, b], y)] * 2))
    assert one.weight_nbytes == two.weight_nbytes == 2048


def test_balanced_stops_at_its_share_of_flash():
    graphs = [op_graph(Add(), [s8((1, 64, 16), 0.07, z), s8((1, 64, 16), 0.031, z)], s8((1, 64, 16), 0.1, 5)) for z in range(12)]
    program = program_of(joined(graphs))
    assert program.weight_nbytes == 16384
    assert sum(call.kernel.symbol == "midge_terms_s8" for call in program.calls) == 8
