# SPDX-License-Identifier: Apache-2.0
"""Broken, hostile and odd models: a message that names the cause, never another exception."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from support import SHARED

from midge.errors import ImportFailed, MidgeError, Unsupported, UsageError
from midge.importers.onnx import load

F32, I8 = TensorProto.FLOAT, TensorProto.INT8


def value(name: str, shape: Any, kind: int = F32) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def node(op: str, inputs: list[str], outputs: list[str], **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, name=f"the_{op}_{outputs[0]}", **attrs)


def model(nodes: list[Any], constants: dict[str, Any] | None = None, shape: Any = (1, 4), out: Any = None, kind: int = F32) -> onnx.ModelProto:
    """Nodes from input x to output y."""
    initializers = [numpy_helper.from_array(np.asarray(data), name) for name, data in (constants or {}).items()]
    graph = helper.make_graph(nodes, "net", [value("x", shape, kind)], [value("y", out)], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)], ir_version=8)


def conv_model() -> onnx.ModelProto:
    """A small network of every kind of thing a file holds."""
    rng = np.random.default_rng(0)
    constants = {"w": rng.normal(size=(2, 3, 3, 3)).astype(np.float32), "b": np.zeros(2, np.float32), "s": np.float32(0.1), "z": np.int8(3)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Conv", ["d", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["c"], ["r"]),
        node("Shape", ["r"], ["shape"]),
        node("Reshape", ["r", "shape"], ["t"]),
        node("MaxPool", ["t"], ["m"], kernel_shape=[2, 2]),
        node("Flatten", ["m"], ["y"]),
    ]
    return model(nodes, constants, ("N", 3, 8, 8))


GOOD = conv_model().SerializeToString()


def survives(source: Any) -> None:
    """A Graph or a message for people, nothing else."""
    try:
        load(source)
    except MidgeError as error:
        assert isinstance(error, ImportFailed | Unsupported | UsageError), repr(error)
        assert str(error)


def test_the_model_that_gets_broken_is_sound() -> None:
    assert load(GOOD).nodes


@pytest.mark.parametrize("keep", [1, 7, 20, len(GOOD) // 2, len(GOOD) - 1])
def test_truncated(keep: int) -> None:
    with pytest.raises(ImportFailed, match="truncated"):
        load(GOOD[:keep])


def test_no_such_file_folder_and_empty_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load(tmp_path / "none.onnx")
    with pytest.raises(UsageError, match="not a file"):
        load(tmp_path)
    with pytest.raises(UsageError):
        load("a\0b.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(ImportFailed, match=r"empty\.onnx: the file is empty"):
        load(tmp_path / "empty.onnx")
    (tmp_path / "text.onnx").write_text("# not a model\n" * 20)
    with pytest.raises(ImportFailed, match="not an ONNX"):
        load(str(tmp_path / "text.onnx"))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    survives(data)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 7)), min_size=1, max_size=3))
def test_flipped_bits(flips: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for place, bit in flips:
        data[place] ^= 1 << bit
    survives(bytes(data))


@pytest.mark.parametrize("name", ["trained/digits_mlp_ortq_qop_u8.onnx", "zoo/mww_vad_stateful_qdq.onnx", "mlperf_tiny/kws_ref_model_fp32.onnx"])
def test_flipped_bytes_of_real_models(name: str) -> None:
    path = SHARED / "models" / name
    if not path.exists():
        pytest.skip(f"the model collection beside the checkout has no {name}")
    data, rng = path.read_bytes(), random.Random(0)
    structure = [i for i in range(len(data)) if data[i : i + 24].isascii()] or [0]
    for _ in range(25):
        broken = bytearray(data)
        broken[rng.choice(structure)] = rng.randrange(256)
        survives(bytes(broken))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_odd_attributes_and_inputs(data: st.DataObject) -> None:
    """Well-formed protobufs whose numbers and wiring make no sense."""
    proto = onnx.ModelProto.FromString(GOOD)
    for _ in range(data.draw(st.integers(1, 2))):
        at = proto.graph.node[data.draw(st.integers(0, len(proto.graph.node) - 1))]
        choice = data.draw(st.integers(0, 4))
        if choice == 0 and at.attribute:
            attribute = at.attribute[data.draw(st.integers(0, len(at.attribute) - 1))]
            attribute.ints[:] = data.draw(st.lists(st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 2**31, 2**63 - 1]), max_size=5))
        elif choice == 1 and at.input:
            at.input[data.draw(st.integers(0, len(at.input) - 1))] = data.draw(st.sampled_from(["", "x", "w", "s", "z", "shape", "y", "m", "nothing"]))
        elif choice == 2:
            at.op_type = data.draw(
                st.sampled_from(["Add", "Gemm", "MatMul", "Concat", "Softmax", "Transpose", "Clip", "AveragePool", "QLinearConv", "Unsqueeze"])
            )
        elif choice == 3:
            at.attribute.append(
                helper.make_attribute(data.draw(st.sampled_from(["axis", "perm", "group", "dilations", "auto_pad"])), data.draw(st.integers(-9, 9)))
            )
        else:
            dims = data.draw(st.lists(st.sampled_from([-1, 0, 1, 3, 8, 2**31, 2**62]), max_size=5))
            proto.graph.initializer[data.draw(st.integers(0, 3))].dims[:] = dims
    survives(proto)


def test_cycle_names_its_nodes() -> None:
    nodes = [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])]
    with pytest.raises(ImportFailed, match="cycle through the nodes 'the_(Add_a', 'the_Relu_b|Relu_b', 'the_Add_a)'"):
        load(model(nodes))


def test_a_long_cycle_and_a_long_chain_do_not_overflow() -> None:
    chain = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(3000)]
    with pytest.raises(ImportFailed, match="cycle"):
        load(model([*chain, helper.make_node("Relu", ["v3000"], ["v0"]), node("Relu", ["v5"], ["y"])]))
    chain = [helper.make_node("Transpose", [f"v{i}"], [f"v{i + 1}"], perm=[1, 0]) for i in range(2000)]
    nodes = [helper.make_node("Identity", ["x"], ["v0"]), *chain, node("DequantizeLinear", ["v2000", "s"], ["y"])]
    survives(model(nodes, {"s": np.float32(1)}, kind=I8))


def test_missing_initializer() -> None:
    with pytest.raises(ImportFailed, match=r"Add 'the_Add_y': input 'lost' is produced by no node.*missing initializer"):
        load(model([node("Add", ["x", "lost"], ["y"])]))


def test_output_that_no_node_makes_and_no_outputs() -> None:
    with pytest.raises(ImportFailed, match="graph output 'y' is produced by no node"):
        load(model([node("Relu", ["x"], ["z"])]))
    proto = model([node("Relu", ["x"], ["y"])])
    del proto.graph.output[:]
    with pytest.raises(ImportFailed, match="no outputs"):
        load(proto)


def test_names_defined_twice() -> None:
    with pytest.raises(ImportFailed, match="value 'y' is defined 2 times"):
        load(model([node("Relu", ["x"], ["y"]), node("Sigmoid", ["x"], ["y"])]))
    proto = model([node("Add", ["x", "c"], ["y"])], {"c": np.float32(1)})
    proto.graph.initializer.append(proto.graph.initializer[0])
    with pytest.raises(ImportFailed, match="initializer 'c' is there twice"):
        load(proto)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(bad: float) -> None:
    weights = np.ones((4, 3), np.float32)
    weights[1, 2] = bad
    with pytest.raises(ImportFailed, match="initializer 'w': 1 of 12 elements are NaN or infinite"):
        load(model([node("MatMul", ["x", "w"], ["y"])], {"w": weights}))


@pytest.mark.parametrize("scale", [np.nan, 0.0, -0.5, np.inf])
def test_scales_that_are_no_scales(scale: float) -> None:
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    with pytest.raises(ImportFailed, match="finite numbers above 0|initializer 's': 1 of 1 elements are NaN"):
        load(model(nodes, {"s": np.float32(scale), "z": np.int8(0)}))


def test_wrong_element_types() -> None:
    with pytest.raises(ImportFailed, match="Add 'the_Add_y': operands of float32 and int64; ONNX wants one type"):
        load(model([node("Add", ["x", "c"], ["y"])], {"c": np.array([1])}))
    with pytest.raises(ImportFailed, match="DequantizeLinear 'the_DequantizeLinear_y': input 'x' is float32, wanted an integer type"):
        load(model([node("DequantizeLinear", ["x", "s"], ["y"])], {"s": np.float32(1)}))
    with pytest.raises(ImportFailed, match="QuantizeLinear 'the_QuantizeLinear_y': input 'x' is int8, wanted float32"):
        load(model([node("QuantizeLinear", ["x", "s"], ["y"])], {"s": np.float32(1)}, kind=I8))
    with pytest.raises(ImportFailed, match="graph output 'y' is declared as float32, the graph computes int8"):
        load(model([node("QuantizeLinear", ["x", "s", "z"], ["y"])], {"s": np.float32(1), "z": np.int8(0)}))
    for kind in (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.STRING, 99):
        with pytest.raises(ImportFailed if kind in (TensorProto.STRING, 99) else Unsupported, match="'x'"):
            load(model([node("Relu", ["x"], ["y"])], kind=kind))


@pytest.mark.parametrize("shape", [(1, 2**40), (1, 2**16, 2**16), (1, 2**62, 2**62)])
def test_absurd_input_sizes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImportFailed, match="input 'x': shape"):
        load(model([node("Relu", ["x"], ["y"])], shape=shape))


def test_absurd_results_are_not_computed() -> None:
    with pytest.raises(ImportFailed, match=r"folding its constants would make more than 2\*\*26"):
        load(model([node("ConstantOfShape", ["n"], ["c"]), node("Add", ["x", "c"], ["y"])], {"n": np.array([2**20, 2**20])}))
    with pytest.raises(ImportFailed, match=r"folding its constants would make more than 2\*\*26"):
        load(model([node("Range", ["a", "b", "c"], ["r"]), node("Reshape", ["x", "r"], ["y"])], {"a": np.int64(0), "b": np.int64(2**60), "c": np.int64(1)}))
    with pytest.raises(MidgeError):
        load(model([node("Pad", ["x", "p"], ["y"])], {"p": np.array([0, 2**40, 0, 0])}))


def test_data_that_does_not_fit_the_shape() -> None:
    proto = model([node("Add", ["x", "c"], ["y"])], {"c": np.ones(4, np.float32)})
    proto.graph.initializer[0].dims[:] = [5]
    with pytest.raises(ImportFailed, match=r"initializer 'c': the data does not fit shape \[5\]"):
        load(proto)
    proto.graph.initializer[0].dims[:] = [2**40]
    with pytest.raises(ImportFailed, match=r"more than 2\*\*31"):
        load(proto)
    proto.graph.initializer[0].data_type = 99
    with pytest.raises(ImportFailed, match="unknown element type 99"):
        load(proto)


def external(location: str, **more: str) -> onnx.ModelProto:
    proto = model([node("Add", ["x", "c"], ["y"])], {"c": np.ones(4, np.float32)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=text)
    return proto


def test_external_data(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "net.onnx"
    secret, inside = tmp_path / "secret.bin", folder / "weights.bin"
    secret.write_bytes(bytes(64))
    inside.write_bytes(b"head" + np.arange(4, dtype="<f4").tobytes())
    (folder / "link.bin").symlink_to(secret)
    (folder / "loop.bin").symlink_to(folder / "loop.bin")
    path.write_bytes(external("weights.bin", offset="4", length="16").SerializeToString())
    graph = load(path)
    constant = next(held.data for held in graph.values.values() if held.data is not None)
    np.testing.assert_array_equal(constant.reshape(-1), [0, 1, 2, 3])
    for location in ("../secret.bin", str(secret), "link.bin", "sub/../../secret.bin"):
        path.write_bytes(external(location).SerializeToString())
        with pytest.raises(ImportFailed, match="outside the model's folder"):
            load(path)
    for proto, message in [
        (external("none.bin"), "missing or shorter than 16 bytes"),
        (external("loop.bin"), "missing or shorter|cannot be read"),
        (external("weights.bin", offset="8"), "missing or shorter than 24 bytes"),
        (external("weights.bin", offset="-4"), "is not 16 bytes of a file"),
        (external("weights.bin", length="1" * 5000), "is not 16 bytes of a file"),
        (external("a\0b"), "is not 16 bytes of a file"),
        (external("."), "missing or shorter"),
    ]:
        path.write_bytes(proto.SerializeToString())
        with pytest.raises(ImportFailed, match=message):
            load(path)
    with pytest.raises(ImportFailed, match="given without a path"):
        load(external("weights.bin").SerializeToString())


def test_odd_names() -> None:
    names = ["a/b:0", "1", "int", "ü ", "x" * 3000, "a b", "a.b", 'a"*/']
    nodes = [helper.make_node("Relu", [a], [b], name=b) for a, b in zip(["x", *names], [*names, "y"], strict=False)]
    graph = load(model(nodes))
    assert graph.inputs == ["x"]
    assert graph.output_names == ["y"]
    assert len({held.name for held in graph.values.values()}) == len(graph.values)
    clash = [helper.make_node("Relu", ["x"], ["Relu_relu"], name="Relu"), helper.make_node("Relu", ["Relu_relu"], ["y"], name="Relu")]
    assert load(model(clash)).output_names == ["y"]


def test_subgraphs_sparse_tensors_and_sequences() -> None:
    body = helper.make_graph([node("Relu", ["x"], ["t"])], "body", [], [value("t", None)])
    branch = node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    with pytest.raises(Unsupported, match=r"If 'the_If_y': the operator If is not offered; export with the condition fixed"):
        load(model([branch], {"c": np.array(True)}))
    proto = model([node("Add", ["x", "c"], ["y"])])
    sparse = helper.make_sparse_tensor(numpy_helper.from_array(np.ones(1, np.float32), "c"), numpy_helper.from_array(np.array([0])), [4])
    proto.graph.sparse_initializer.append(sparse)
    with pytest.raises(Unsupported, match="sparse initializer 'c'"):
        load(proto)
    proto = model([node("Relu", ["x"], ["y"])])
    proto.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", F32, None))
    with pytest.raises(Unsupported, match="input 'x' is a sequence_type"):
        load(proto)


def test_headers() -> None:
    proto = model([node("Relu", ["x"], ["y"])])
    proto.ir_version = 99
    with pytest.raises(Unsupported, match="ir_version 99"):
        load(proto)
    proto.ir_version = 8
    del proto.opset_import[:]
    with pytest.raises(ImportFailed, match="no operator set"):
        load(proto)
    with pytest.raises(ImportFailed, match="does not import operators of domain 'own'"):
        load(model([helper.make_node("Relu", ["x"], ["y"], domain="own")]))


def test_functions_that_call_each_other() -> None:
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]
    proto = model([helper.make_node("A", ["x"], ["y"], domain="own")])
    for name, other in ("AB", "BA"):
        proto.functions.append(helper.make_function("own", name, ["a"], ["b"], [helper.make_node(other, ["a"], ["b"], domain="own")], opsets))
    proto.opset_import.append(helper.make_opsetid("own", 1))
    with pytest.raises(ImportFailed, match="functions A, B call each other in a circle"):
        load(proto)


def test_operators_used_against_their_definition() -> None:
    for bad, message in [
        (node("Relu", ["x", "x"], ["y"]), "2 inputs, opset 13 wants 1"),
        (node("Relu", ["x"], ["y"], alpha=1.0), "opset 13 has no attribute 'alpha'"),
        (node("Softmax", ["x"], ["y"], axis="last"), "attribute 'axis' is a STRING, wanted INT"),
        (node("MaxPool", ["x"], ["y"]), "attribute 'kernel_shape' is missing"),
        (node("Mish", ["x"], ["y"]), "there is no such operator in opset 13"),
        (node("Relu", [""], ["y"]), "has no inputs"),
    ]:
        with pytest.raises(ImportFailed, match=message):
            load(model([bad]))
