# SPDX-License-Identifier: Apache-2.0
"""Calibration arrays from files and from memory: what is found, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from midge.errors import UsageError
from midge.ir import Array, DType, Quant, TensorType
from midge.ptq.calibration import load_calibration

IMAGE = {"image": TensorType(DType.F32, (1, 1, 4, 4))}


def saved(path: Path, **arrays: Array) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("key", ["image", "x", "x_train", "whatever"])
@pytest.mark.parametrize("shape", [(6, 1, 1, 4, 4), (6, 1, 4, 4), (6, 4, 4), (6, 4, 4, 1)])
def test_calibration_finds_the_array(tmp_path: Path, key: str, shape: tuple[int, ...]) -> None:
    data = np.arange(96, dtype=np.float32).reshape(shape)
    labels = np.zeros(6, np.uint8)
    samples = load_calibration(saved(tmp_path / "c.npz", **{key: data, "y": labels}), IMAGE)
    assert len(samples) == 6
    np.testing.assert_array_equal(samples[5]["image"], np.arange(80, 96, dtype=np.float32).reshape(1, 1, 4, 4))


def test_calibration_prefers_training_data(tmp_path: Path) -> None:
    file = saved(tmp_path / "c.npz", x_test=np.zeros((2, 4, 4), np.float32), x_train=np.ones((3, 4, 4), np.float32))
    assert [float(s["image"].max()) for s in load_calibration(file, IMAGE)] == [1.0] * 3


def test_calibration_from_folder_vector_and_limit(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", np.full((700, 4, 4), 2, np.float64))
    saved(tmp_path / "a.npz", x=np.full((324, 16), 1, np.float32))
    vector = {"v": TensorType(DType.F32, (1, 16))}
    samples = load_calibration(tmp_path, vector)
    assert len(samples) == 512
    assert sum(float(s["v"][0, 0]) == 1.0 for s in samples) == 162
    assert samples[0]["v"].shape == (1, 16)
    assert samples[0]["v"].dtype == np.float32
    assert len(load_calibration(tmp_path, vector, limit=10)) == 10


def test_calibration_of_integer_and_several_inputs(tmp_path: Path) -> None:
    inputs = {"a": TensorType(DType.S8, (1, 2)), "b": TensorType(DType.F32, (1, 3))}
    file = saved(tmp_path / "c.npz", a=np.full((5, 2), -128), b=np.ones((5, 3), np.float32))
    assert load_calibration(file, inputs)[0]["a"].dtype == np.int8
    with pytest.raises(UsageError, match="different numbers of samples"):
        load_calibration(saved(tmp_path / "d.npz", a=np.full((4, 2), 1), b=np.ones((5, 3), np.float32)), inputs)
    with pytest.raises(UsageError, match=r"no array named 'b' .*name each array after its input"):
        load_calibration(saved(tmp_path / "e.npz", a=np.full((4, 2), 1), x=np.ones((4, 3), np.float32)), inputs)
    with pytest.raises(UsageError, match="holds int64, the model takes int8"):
        load_calibration(saved(tmp_path / "f.npz", a=np.full((5, 2), 200), b=np.ones((5, 3), np.float32)), inputs)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((3, 5, 5), np.float32)}, r"array for input 'image' is float32\(3, 5, 5\), wanted \(samples, 1, 1, 4, 4\)"),
        ({"x": np.full((3, 4, 4), np.nan, np.float32)}, "holds NaN or infinity"),
        ({"x": np.zeros((3, 4, 4), np.uint8)}, "holds uint8, the model takes float32; scale it as in training"),
        ({"a": np.zeros((3, 4, 4), np.float32), "b": np.zeros((3, 4, 4), np.float32)}, "not clear which is meant.*name the array 'image'"),
        ({"x": np.zeros((0, 4, 4), np.float32)}, "no samples"),
    ],
)
def test_calibration_arrays_refused(tmp_path: Path, arrays: dict[str, Array], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_calibration(saved(tmp_path / "c.npz", **arrays), IMAGE)


def test_calibration_files_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        load_calibration(tmp_path / "none.npz", IMAGE)
    with pytest.raises(UsageError, match=r"holds no \.npz or \.npy file"):
        load_calibration(tmp_path, IMAGE)
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(UsageError, match=r"got a \.csv, wanted \.npz or \.npy"):
        load_calibration(tmp_path / "x.csv", IMAGE)
    for name in ("x.npy", "y.npz"):
        (tmp_path / name).write_bytes(b"not numpy")
        with pytest.raises(UsageError, match="cannot be read as numpy data"):
            load_calibration(tmp_path / name, IMAGE)


def test_calibration_from_memory() -> None:
    data = np.arange(32, dtype=np.float64).reshape(2, 4, 4)
    for source in (data, {"image": data}, {"x": data, "y": np.zeros(2)}):
        samples = load_calibration(source, IMAGE)
        np.testing.assert_array_equal(samples[1]["image"].reshape(-1), np.arange(16, 32, dtype=np.float32))
    with pytest.raises(UsageError, match=r"calibration array: array for input 'image' is float64\(2, 3\)"):
        load_calibration(np.zeros((2, 3)), IMAGE)


def test_quantized_input_takes_integers_or_real_numbers() -> None:
    inputs = {"q": TensorType(DType.S8, (1, 2), Quant.of(0.5, 0))}
    for dtype, held in ((np.int64, np.int8), (np.float64, np.float32)):
        assert load_calibration(np.ones((3, 2), dtype), inputs)[0]["q"].dtype == held
