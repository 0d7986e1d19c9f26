# SPDX-License-Identifier: Apache-2.0
"""ONNX import: every quirk as a small model, and whole models whose Graph computes what ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import model, value
from support import SHARED, run_reference, shared

from midge.errors import Unsupported, UsageError
from midge.importers.onnx import c_name, load
from midge.ir import Array, DType, Graph, Quant

RNG = np.random.default_rng(0)
NEWEST = onnx.defs.onnx_opset_version()
MODELS = sorted(str(path.relative_to(SHARED)) for path in SHARED.glob("models/*/*.onnx")) or ["models/none.onnx"]
FLOAT_MODELS = [name for name in MODELS if "fp32" in name or "mnist-8" in name or "none" in name]


def random(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def ort(proto: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def assert_same(proto: onnx.ModelProto, graph: Graph) -> None:
    """The float Graph computes what ONNX Runtime does."""
    feeds = {name: random(*graph.type(name).shape) for name in graph.inputs}
    values = run_reference(graph, feeds)
    for name, wanted in zip(graph.outputs, ort(proto, feeds), strict=True):
        np.testing.assert_allclose(values[name].reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))


def kinds(graph: Graph) -> list[str]:
    return [node.op.kind for node in graph.nodes]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_imports(name: str) -> None:
    graph = load(shared(name))
    proto = onnx.load(shared(name))
    constants = {tensor.name for tensor in proto.graph.initializer}
    assert graph.inputs == [info.name for info in proto.graph.input if info.name not in constants]
    assert graph.output_names == [info.name for info in proto.graph.output]
    assert set(graph.model_types) == {*graph.inputs, *graph.output_names}
    for value_ in graph.values.values():
        if value_.type.dtype in (DType.S8, DType.U8):
            assert value_.type.quant is not None, value_.name
    if "qdq" in name or "qop" in name:
        assert any(held.type.dtype in (DType.S8, DType.U8) for held in graph.values.values() if held.data is None)


@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_float_models_compute_what_onnxruntime_does(name: str) -> None:
    path = shared(name)
    assert_same(onnx.load(path), load(path))


@pytest.mark.parametrize("opset", [7, NEWEST])
def test_oldest_and_newest_opset(opset: int) -> None:
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["c"], ["y"])]
    proto = model(nodes, [value("x", [1, 3, 5, 4])], [value("y", [1, 2, 5, 4])], {"w": random(2, 3, 3, 3), "b": random(2)}, min(opset, 21))
    assert_same(proto, load(proto))
    proto.opset_import[0].version = opset
    assert kinds(load(proto)) == kinds(load(model(nodes, [value("x", [1, 3, 5, 4])], [value("y", [1, 2, 5, 4])], {"w": random(2, 3, 3, 3), "b": random(2)})))


@pytest.mark.parametrize("opset", [6, NEWEST + 1])
def test_other_opsets_are_refused(opset: int) -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"])], [value("x", [1, 4])], [value("y", [1, 4])])
    proto.opset_import[0].version = opset
    with pytest.raises(Unsupported, match=f"opset {opset}: 7 to {NEWEST}"):
        load(proto)


def relu(shape: Any) -> onnx.ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"])], [value("x", shape)], [value("y", None)])


@pytest.mark.parametrize("batch", ["N", None, 0, -1])
def test_an_open_batch_becomes_one(batch: Any) -> None:
    graph = load(relu([batch, 4]))
    assert graph.type("x").shape == (1, 4)
    assert graph.model_types["y"].shape == (1, 4)


def test_a_static_batch_needs_batch_1() -> None:
    with pytest.raises(Unsupported, match=r"input 'x' has a batch of 8; .* use --batch 1"):
        load(relu([8, 4]))
    assert load(relu([8, 4]), batch=1).type("x").shape == (1, 4)
    with pytest.raises(UsageError, match="--batch 2"):
        load(relu([8, 4]), batch=2)


def test_other_open_dimensions_need_shape() -> None:
    with pytest.raises(Unsupported, match=r"input 'x': dimension 2 \(width\) is open; fix it, for example --shape x=1,3,32,8"):
        load(relu(["N", 3, "width", 8]))
    assert load(relu(["N", 3, "width", 8]), shapes={"x": (1, 3, 16, 8)}).type("x").shape == (1, 3, 16, 8)
    with pytest.raises(UsageError, match="dimension 1 is 4, the model fixes it to 3"):
        load(relu(["N", 3, "width", 8]), shapes={"x": (1, 4, 16, 8)})
    with pytest.raises(UsageError, match="2 dimensions given, the model has 4"):
        load(relu(["N", 3, "width", 8]), shapes={"x": (1, 3)})
    with pytest.raises(UsageError, match="--shape z: no such input; the model has x"):
        load(relu([1, 4]), shapes={"z": (1, 4)})


def test_initializers_listed_as_inputs_are_no_inputs() -> None:
    proto = model([helper.make_node("Add", ["x", "b"], ["y"])], [value("x", [1, 4]), value("b", [4])], [value("y", [1, 4])], {"b": random(4)})
    graph = load(proto)
    assert graph.inputs == ["x"]
    assert_same(proto, graph)


def test_shape_arithmetic_folds() -> None:
    """What PyTorch writes for x.view(x.size(0), -1, 2)."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Constant", [], ["zero"], value_int=0),
        helper.make_node("Gather", ["shape", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Mul", ["minus", "one"], ["rest"]),
        helper.make_node("Concat", ["n1", "rest", "two"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    constants = {"axes": np.array([0]), "minus": np.array([-1]), "one": np.array([1]), "two": np.array([2])}
    graph = load(model(nodes, [value("x", ["N", 3, 4])], [value("y", None)], constants))
    assert kinds(graph) == ["Reshape"]
    assert graph.type(graph.outputs[0]).shape == (1, 6, 2)


def test_constants_fold() -> None:
    w = random(4, 3)
    nodes = [
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("Mul", ["wt", "s"], ["scaled"]),
        helper.make_node("MatMul", ["x", "scaled"], ["y"]),
        helper.make_node("ConstantOfShape", ["n"], ["c"], value=numpy_helper.from_array(np.array([2.0], np.float32))),
        helper.make_node("Add", ["y", "c"], ["z"]),
    ]
    proto = model(nodes, [value("x", [1, 3])], [value("z", [1, 4])], {"w": w, "s": np.float32(0.5), "n": np.array([4])})
    graph = load(proto)
    assert "Transpose" not in kinds(graph)
    assert "Mul" not in kinds(graph)
    assert_same(proto, graph)


def test_dead_nodes_do_not_matter() -> None:
    nodes = [helper.make_node("LSTM", ["x", "w", "w"], ["", "h"], hidden_size=3), helper.make_node("Relu", ["x"], ["y"])]
    assert kinds(load(model(nodes, [value("x", [1, 4])], [value("y", [1, 4])], {"w": random(1, 2, 3)}))) != []


def test_all_offending_nodes_are_listed() -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["a"], name="first"),
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("NonMaxSuppression", ["r", "r"], ["b"], name="second"),
        helper.make_node("BiasGelu", ["r", "r"], ["c"], name="third", domain="com.microsoft"),
        helper.make_node("Softmaxx", ["r"], ["d"], name="fourth"),
        helper.make_node("LSTM", ["r", "w", "w"], ["", "e"], hidden_size=3, name="fifth"),
    ]
    outputs = [value(name, None) for name in "abcde"]
    with pytest.raises(Unsupported) as caught:
        load(model(nodes, [value("x", [1, 4, 4])], outputs, {"w": random(1, 12, 4)}))
    text = str(caught.value)
    for name in ("Det 'first'", "NonMaxSuppression 'second'", "BiasGelu 'third'", "Softmaxx 'fourth'", "LSTM 'fifth'"):
        assert name in text
    assert text.startswith("5 nodes are not offered")
    assert "the nearest operator offered is Softmax" in text
    assert "not offered yet" in text
    assert "export it as Add and Gelu" in text
    assert text.endswith("`midge ops` lists the operators offered")


def test_nodes_behind_an_offending_one_are_checked_too() -> None:
    nodes = [helper.make_node("Cosh", ["x"], ["a"], name="one"), helper.make_node("Det", ["a"], ["y"], name="two")]
    with pytest.raises(Unsupported, match=r"(?s)2 nodes.*Cosh 'one'.*Det 'two'"):
        load(model(nodes, [value("x", [1, 4, 4])], [value("y", None)]))


def test_unsorted_nodes_are_sorted() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Add", ["x", "x"], ["a"])]
    sorted_ = model(nodes[::-1], [value("x", [1, 4])], [value("y", [1, 4])])
    assert_same(sorted_, load(model(nodes, [value("x", [1, 4])], [value("y", [1, 4])])))


def test_functions_are_inlined() -> None:
    body = [helper.make_node("Add", ["a", "a"], ["t"]), helper.make_node("Relu", ["t"], ["b"])]
    function = helper.make_function("own", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 13)])
    proto = model([helper.make_node("Twice", ["x"], ["y"], domain="own")], [value("x", [1, 4])], [value("y", [1, 4])])
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    assert len(load(proto).nodes) == 2


def test_names_are_unique_and_kept() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"], name="n"), helper.make_node("Relu", ["a"], ["b"], name="n"), helper.make_node("Sigmoid", ["b"], ["int"])]
    graph = load(model(nodes, [value("x", [1, 4])], [value("int", [1, 4])]))
    assert [node.origin for node in graph.nodes] == [("n",), ("n_1",), ("Sigmoid_int",)]
    assert graph.output_names == ["int"]


def test_pass_through_constant_and_duplicate_outputs() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Identity", ["y"], ["y2"]), helper.make_node("Identity", ["c"], ["k"])]
    outputs = [value("x", [1, 4]), value("y", [1, 4]), value("y2", [1, 4]), value("k", [2])]
    graph = load(model(nodes, [value("x", [1, 4])], outputs, {"c": random(2)}))
    assert graph.output_names == ["x", "y", "y2", "k"]
    assert graph.outputs[0] == "x"
    assert graph.outputs[1] == graph.outputs[2]
    assert graph.is_constant(graph.outputs[3])


@pytest.mark.parametrize(("stem", "wanted"), [("kws", "kws"), ("a-b.c", "a_b_c"), ("3d", "model_3d"), ("", "model"), ("ü", "model"), ("__x__", "x")])
def test_graph_name_is_a_c_identifier(stem: str, wanted: str) -> None:
    assert c_name(stem) == wanted


def linear(op: str, x: str, y: str, tag: str = "") -> Any:
    return helper.make_node(op, [x, f"s{tag}", f"z{tag}"], [y])


def test_qdq_becomes_types() -> None:
    nodes = [
        linear("QuantizeLinear", "x", "xq"),
        linear("DequantizeLinear", "xq", "xd"),
        helper.make_node("Add", ["xd", "xd"], ["a"]),
        linear("QuantizeLinear", "a", "aq", "2"),
        linear("DequantizeLinear", "aq", "y", "2"),
    ]
    constants = {"s": np.float32(0.1), "z": np.int8(3), "s2": np.float32(0.25), "z2": np.uint8(128)}
    graph = load(model(nodes, [value("x", [1, 4])], [value("y", [1, 4])], constants))
    assert kinds(graph) == ["Add"]
    assert (graph.type("x").dtype, graph.type("x").quant) == (DType.S8, Quant.of(0.1, 3))
    assert (graph.type(graph.outputs[0]).dtype, graph.type(graph.outputs[0]).quant) == (DType.U8, Quant.of(0.25, 128))
    assert graph.model_types["x"].dtype is graph.model_types["y"].dtype is DType.F32


def test_bare_integers_learn_their_scale_from_behind() -> None:
    """Transpose and Concat of int8 before the DequantizeLinear that says what they are."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("Concat", ["state", "t"], ["state_out"], axis=2),
        linear("DequantizeLinear", "state_out", "d"),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    inputs = [value("x", [1, 2, 3], TensorProto.INT8), value("state", [1, 3, 4], TensorProto.INT8)]
    outputs = [value("y", [1, 3, 6]), value("state_out", [1, 3, 6], TensorProto.INT8)]
    graph = load(model(nodes, inputs, outputs, {"s": np.float32(0.5), "z": np.int8(-7)}))
    for name in ("x", "state", graph.outputs[1]):
        assert graph.type(name).quant == Quant.of(0.5, -7)
    assert [graph.model_types[name].dtype for name in ("x", "state_out", "y")] == [DType.S8, DType.S8, DType.F32]


def test_integers_nobody_explains_get_scale_1() -> None:
    nodes = [helper.make_node("Transpose", ["x"], ["y"], perm=[0, 2, 1])]
    graph = load(model(nodes, [value("x", [1, 2, 3], TensorProto.INT8)], [value("y", [1, 3, 2], TensorProto.INT8)]))
    assert graph.type("x").quant == graph.type(graph.outputs[0]).quant == Quant.of(1.0, 0)


def test_joining_integers_of_different_scales_is_refused() -> None:
    nodes = [linear("QuantizeLinear", "a", "aq"), linear("QuantizeLinear", "b", "bq", "2"), helper.make_node("Concat", ["aq", "bq"], ["y"], axis=1)]
    constants = {"s": np.float32(0.1), "z": np.int8(3), "s2": np.float32(0.25), "z2": np.int8(0)}
    with pytest.raises(Unsupported, match="joins bare integers of 2 different scales"):
        load(model(nodes, [value("a", [1, 4]), value("b", [1, 4])], [value("y", [1, 8], TensorProto.INT8)], constants))


def test_arithmetic_on_bare_integers_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"Add '.*': computes on bare int8; put DequantizeLinear before"):
        load(model([helper.make_node("Add", ["x", "x"], ["y"])], [value("x", [1, 4], TensorProto.INT8)], [value("y", [1, 4], TensorProto.INT8)]))


def test_optional_outputs_of_an_offending_node_hide_nothing() -> None:
    """An output left out has the same empty name as an input left out."""
    nodes = [
        helper.make_node("LSTM", ["x", "w", "w"], ["", "h"], hidden_size=3, name="one"),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["r"], mode="cubic", name="two"),
    ]
    constants = {"w": random(1, 12, 4), "sizes": np.array([1, 4, 8])}
    with pytest.raises(Unsupported, match=r"(?s)2 nodes.*LSTM 'one'.*Resize 'two'"):
        load(model(nodes, [value("x", [1, 4, 4])], [value("h", None), value("r", None)], constants))


def test_a_constant_int8_output_gets_scale_1() -> None:
    proto = model([helper.make_node("Identity", ["c"], ["y"])], [value("x", [1, 4])], [value("y", [2], TensorProto.INT8)], {"c": np.array([1, 2], np.int8)})
    graph = load(proto)
    assert graph.type(graph.outputs[0]).quant == Quant.of(1.0, 0)
