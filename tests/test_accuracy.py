# SPDX-License-Identifier: Apache-2.0
"""Accuracy of whole networks on whole test sets, computed by the emitted C on the host."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support import shared

import midge
from midge.ops.build import quantize
from midge.run.host import run_host

DATA = {"fsdd_dscnn": ("fsdd_logmel", (49, 40, 1), 255.0), "mnist5k_mbv2": ("mnist5k", (28, 28, 1), 255.0), "digits_mlp": ("digits8x8", (64,), 16.0)}


@cache
def data(name: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    file, shape, scale = DATA[name]
    stored = np.load(shared(f"data/{file}.npz"))
    return (stored[f"x_{part}"].reshape(-1, *shape) / scale).astype(np.float32), stored[f"y_{part}"]


def ort_scores(path: Path, x: np.ndarray) -> np.ndarray:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x[i : i + 1]})[0] for i in range(len(x))])


def c_scores(library: midge.Library, folder: Path, x: np.ndarray) -> np.ndarray:
    """Integer outputs of the emitted C for real inputs."""
    port = library.program.inputs[0]
    quantized = quantize(x, port.type.dtype, port.type.q).reshape(len(x), *port.type.shape[1:])
    return run_host(library.write(folder / "library"), [quantized]).outputs[0].view(np.int8).reshape(len(x), -1)


@pytest.mark.parametrize("name", DATA)
def test_own_quantization_loses_at_most_half_a_point(name, tmp_path):
    path = shared(f"models/trained/{name}_fp32.onnx")
    x, labels = data(name, "test")
    library = midge.compile(path, calibration=data(name, "train")[0])
    real = (ort_scores(path, x).argmax(1) == labels).mean()
    integer = (c_scores(library, tmp_path, x).argmax(1) == labels).mean()
    print(f"{name}: float {real:.4f}, int8 {integer:.4f}")
    assert integer >= real - 0.005


@pytest.mark.parametrize("form", ["ortq_qdq_s8", "ortq_qop_u8", "int8_qdq"])
@pytest.mark.parametrize("name", DATA)
def test_networks_quantized_by_others_keep_their_accuracy(name, form, tmp_path):
    path = shared(f"models/trained/{name}_{form}.onnx")
    x, labels = data(name, "test")
    library = midge.compile(path)
    mine = c_scores(library, tmp_path, x).argmax(1)
    port = library.program.inputs[0]
    fed = x if port.model_type.dtype.is_float else quantize(x, port.type.dtype, port.type.q)
    theirs = ort_scores(path, fed).argmax(1)
    print(f"{name} {form}: midge {(mine == labels).mean():.4f}, onnxruntime {(theirs == labels).mean():.4f}, same class {(mine == theirs).mean():.4f}")
    assert abs((mine == labels).mean() - (theirs == labels).mean()) <= 0.002
    assert (mine == theirs).mean() >= 0.995
