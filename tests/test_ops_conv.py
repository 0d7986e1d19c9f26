# SPDX-License-Identifier: Apache-2.0
"""Convolution: reference, kernels and borders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_kernels_match, op_graph, s8

from midge.errors import ImportFailed
from midge.ir import DType, Quant, TensorType
from midge.ops.conv import Conv2D


@st.composite
def convolutions(draw):
    """(graph, feeds): a random convolution, kernels larger than the image and -128 weights included."""
    depthwise = draw(st.booleans())
    groups = draw(st.integers(1, 5)) if depthwise else draw(st.sampled_from([1, 1, 1, 2, 3]))
    depth = 1 if depthwise else draw(st.integers(1, 9))
    out = groups * draw(st.integers(1, 5 if groups > 1 else 11))
    kh, kw, dh, dw = (draw(st.integers(1, top)) for top in (4, 4, 2, 2))
    pads = tuple(draw(st.integers(0, 2)) for _ in range(4))
    height = draw(st.integers(max(1, dh * (kh - 1) + 1 - pads[0] - pads[2]), 9))
    width = draw(st.integers(max(1, dw * (kw - 1) + 1 - pads[1] - pads[3]), 9))
    op = Conv2D(
        (draw(st.integers(1, 3)), draw(st.integers(1, 3))), (dh, dw), pads, groups, *draw(st.sampled_from([(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0)]))
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    extreme = draw(st.booleans())
    channels = groups * depth
    x = (
        rng.choice(np.array([-128, 127], np.int8), (1, height, width, channels))
        if extreme
        else rng.integers(-128, 128, (1, height, width, channels)).astype(np.int8)
    )
    w = rng.integers(-128, 128, (out, kh, kw, depth)).astype(np.int8)
    bias = rng.integers(-100000, 100000, out).astype(np.int32)
    zx, zy = draw(st.sampled_from([-128, -3, 0, 127])), draw(st.sampled_from([-128, 5, 127]))
    scales = np.float32(rng.uniform(1e-4, 2e-2 if not extreme else 2.0, out))
    planar = groups == 1 and draw(st.booleans())
    op = replace(op, planar=planar)
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if planar else x
    tx, ty = s8(x.shape, 0.05, zx), None
    tw, tb = TensorType(DType.S8, w.shape, Quant.of(scales, 0, 0)), TensorType(DType.S32, bias.shape)
    ty = op.infer([tx, tw])[0].with_quant(DType.S8, Quant.of(0.1, zy))
    return op_graph(op, [tx, (tw, w), (tb, bias)], ty, draw(st.sampled_from(["onnx", "tflite"]))), {"in0": x}


@settings(max_examples=300, deadline=None)
@given(convolutions())
def test_kernels_equal_reference(case):
    assert_kernels_match(*case)


def test_accumulate_against_a_plain_loop():
    rng = np.random.default_rng(1)
    x, w = rng.integers(-9, 9, (5, 6, 4)).astype(float), rng.integers(-9, 9, (6, 3, 2, 2)).astype(float)
    op = Conv2D((2, 1), (1, 2), (1, 0, 1, 2), 2)
    got = op.accumulate(x, w)
    for oy, ox, o in np.ndindex(got.shape):
        total = 0.0
        for ky, kx, i in np.ndindex(3, 2, 2):
            y, xx = oy * 2 + ky - 1, ox + kx * 2
            if 0 <= y < 5 and 0 <= xx < 6:
                total += x[y, xx, (o // 3) * 2 + i] * w[o, ky, kx, i]
        assert got[oy, ox, o] == total


def test_wrong_channels_are_named():
    with pytest.raises(ImportFailed, match="weight has 4 input channels"):
        Conv2D().infer([s8((1, 5, 5, 3), 1, 0), TensorType(DType.S8, (8, 3, 3, 4))])
