# SPDX-License-Identifier: Apache-2.0
"""Pools on the DSP extension: against the reference, and on the emulator."""

from __future__ import annotations

import numpy as np
import pytest
from dsp_cases import Case, assert_assembly_matches, symbols
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_kernels_match, needs_arm, op_graph, s8

from midge.ir import DType, Op, Quant
from midge.ops.mean import Mean
from midge.ops.pool import AveragePool, MaxPool

MAX, AVERAGE, MEAN, MEAN_HALF_AWAY = "midge_max_pool_dsp_s8", "midge_average_pool_dsp_s8", "midge_mean_dsp_s8", "midge_mean_half_away_dsp_s8"


PORTABLE = "midge_average_pool_s8"


def pool(rng: np.random.Generator, op: Op, shape: tuple[int, ...], numerics: str, same: bool = False) -> Case:
    """A graph of one pool and its input, extremes included. `same`: input and output mean the same."""
    ends = np.array([-128, 127], np.int8)
    x = np.full(shape, rng.choice(ends)) if rng.random() < 0.2 else rng.choice(ends, shape) if rng.random() < 0.2 else rng.integers(-128, 128, shape)
    kind = s8(shape, 0.5, int(rng.choice([-128, -3, 0, 127])))
    out = op.infer([kind])[0]
    quant = kind.q if same else Quant.of(float(rng.choice([0.5, 0.3, 0.7])), int(rng.choice([-128, 4, 127])))
    return op_graph(op, [kind], out.with_quant(DType.S8, quant), numerics), {"in0": x.astype(np.int8)}


def max_pool(rng: np.random.Generator, numerics: str) -> Case:
    """Windows of any size, stride, dilation and padding on 4 and more channels."""
    kernel, dilations = ((int(n), int(m)) for n, m in (rng.integers(1, 5, 2), rng.integers(1, 3, 2)))
    spans = [dilations[i] * (kernel[i] - 1) + 1 for i in range(2)]
    pads = tuple(int(rng.integers(0, max(1, spans[i % 2]))) for i in range(4))
    height, width = (spans[i] + int(rng.integers(0, 7)) for i in range(2))
    op = MaxPool(kernel, (int(rng.integers(1, 3)), int(rng.integers(1, 3))), dilations, pads)
    return pool(rng, op, (1, height, width, int(rng.integers(4, 14))), numerics, same=True)


def average(rng: np.random.Generator, numerics: str) -> Case:
    """Windows with padding that counts or does not, and sides cut off."""
    kernel = int(rng.integers(1, 6)), int(rng.integers(2, 6))
    pads = tuple(int(rng.integers(0, kernel[i % 2])) for i in range(4))
    height, width = (kernel[i] + int(rng.integers(1, 7)) for i in range(2))
    op = AveragePool(kernel, (int(rng.integers(1, 3)), int(rng.integers(1, 3))), pads, bool(rng.random() < 0.5) and max(pads) > 0)
    return pool(rng, op, (1, height, width, int(rng.integers(4, 14))), numerics, same=bool(rng.random() < 0.7))


def mean(rng: np.random.Generator, numerics: str) -> Case:
    """More than 255 pixels at times, beyond which pairs of 16-bit sums would overflow."""
    height, width = int(rng.integers(1, 40)), int(rng.integers(1, 20))
    shape = (1, height, width, int(rng.integers(4, 30)))
    if numerics == "tflite" and rng.random() < 0.6:
        return pool(rng, AveragePool((height, width)), shape, numerics, same=True)
    return pool(rng, Mean(), shape, numerics)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["onnx", "tflite"]), st.sampled_from([max_pool, average, mean]))
def test_pools_equal_reference(seed, numerics, make):
    graph, feeds = make(np.random.default_rng(seed), numerics)
    assert symbols(graph)[0] in {max_pool: (MAX,), average: (AVERAGE, PORTABLE), mean: (MEAN, MEAN_HALF_AWAY)}[make]
    assert_kernels_match(graph, feeds, "cortex-m4")


@needs_arm
@pytest.mark.parametrize(("numerics", "kernels"), [("onnx", (MAX, AVERAGE, MEAN)), ("tflite", (MAX, AVERAGE, MEAN, MEAN_HALF_AWAY))])
def test_instructions_equal_their_plain_bodies(numerics, kernels, tmp_path):
    rng = np.random.default_rng(5)
    cases = [make(rng, numerics) for make in (max_pool, average, mean) for _ in range(15)]
    cases = [case for case in cases if symbols(case[0]) != [PORTABLE]]
    assert_assembly_matches(cases, "cortex-m4", "balanced", tmp_path, *kernels)


@pytest.mark.parametrize("numerics", ["onnx", "tflite"])
def test_averages_of_equal_meaning_take_32_bits(numerics):
    rng = np.random.default_rng(9)
    for kernel in ((2, 2), (3, 3), (5, 4), (7, 7), (8, 1)):
        graph, feeds = pool(rng, AveragePool(kernel, (1, 1), (1, 0, 0, 0)), (1, 9, 9, 8), numerics, same=True)
        assert symbols(graph) == [AVERAGE]
        assert_kernels_match(graph, feeds, "cortex-m4")
    assert symbols(pool(rng, AveragePool((16, 16)), (1, 17, 17, 8), numerics, same=True)[0]) == [PORTABLE]  # 256 taps


def test_few_channels_take_the_portable_kernels():
    rng = np.random.default_rng(5)
    assert symbols(pool(rng, MaxPool((2, 2)), (1, 4, 4, 3), "onnx", same=True)[0]) == ["midge_max_pool_s8"]
    assert symbols(pool(rng, Mean(), (1, 4, 4, 3), "onnx")[0]) == ["midge_mean_s8"]
    assert symbols(pool(rng, Mean(), (1, 4, 4, 4), "onnx")[0], optimize="size") == ["midge_mean_s8"]
