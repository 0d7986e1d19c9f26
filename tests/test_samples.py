# SPDX-License-Identifier: Apache-2.0
"""Samples that verify runs: random ones cover the range, those from files arrive as the ports want them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from midge.errors import UsageError
from midge.ir import DType, Graph, Quant, TensorType, Value
from midge.run.samples import load_samples, random_samples


def one_input(kind: TensorType) -> Graph:
    return Graph("g", ["x"], ["x"], values={"x": Value("x", kind)})


@pytest.mark.parametrize("dtype", [DType.S8, DType.U8, DType.S16, DType.F32])
def test_random_samples(dtype: DType) -> None:
    graph = one_input(TensorType(dtype, (1, 64, 64)))
    first, middle, last = (sample[0] for sample in random_samples(graph, 3))
    assert first.dtype == dtype.numpy and first.shape == (1, 64, 64)
    assert (first != middle).any() and len(np.unique(first)) > 200 and len(np.unique(last)) == 2
    assert all((a[0] == b[0]).all() for a, b in zip(random_samples(graph, 3), [[first], [middle], [last]], strict=True))
    if dtype is not DType.F32:
        info = np.iinfo(dtype.numpy)
        assert set(np.unique(last)) == {info.min, info.max}


def test_samples_from_files(tmp_path: Path) -> None:
    graph = one_input(TensorType(DType.S8, (1, 2, 3), Quant.of(0.5, 1)))
    integers = np.arange(-6, 6, dtype=np.int8).reshape(2, 2, 3)
    np.savez(tmp_path / "named.npz", x=integers, labels=np.zeros(2))
    np.savez(tmp_path / "only.npz", whatever=(integers.astype(np.float32) - 1) * 0.5)
    np.save(tmp_path / "one.npy", integers[0])
    for name, count in (("named.npz", 2), ("only.npz", 2), ("one.npy", 1)):
        loaded = load_samples(tmp_path / name, graph, 10)
        assert len(loaded) == count
        for (array,), wanted in zip(loaded, integers, strict=False):
            np.testing.assert_array_equal(array, wanted[None])
            assert array.dtype == np.int8
    assert len(load_samples(tmp_path / "named.npz", graph, 1)) == 1


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((2, 7), np.int8)}, "wanted [samples, 1, 2, 3]"),
        ({"x": np.zeros((2, 2, 3), np.uint8)}, "wanted int8 or, to be quantized, float32"),
        ({"x": np.full((2, 2, 3), np.nan, np.float32)}, "NaN"),
        ({"x": np.zeros((0, 2, 3), np.int8)}, "no samples"),
        ({"a": np.zeros((2, 2, 3)), "b": np.zeros((2, 2, 3))}, "no array named 'x' (has a, b)"),
        ({"x": np.array([{}], object)}, "cannot be read"),
    ],
)
def test_samples_that_do_not_fit(arrays: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    graph = one_input(TensorType(DType.S8, (1, 2, 3), Quant.of(0.5, 1)))
    np.savez(tmp_path / "data.npz", allow_pickle=True, **arrays)
    with pytest.raises(UsageError, match=re.escape(words)):
        load_samples(tmp_path / "data.npz", graph, 10)
