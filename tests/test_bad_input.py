# SPDX-License-Identifier: Apache-2.0
"""Broken, hostile and odd models: a message that names the cause, never another exception."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import F32, I8, net, node, value

from midge.errors import ImportFailed, MidgeError, Unsupported
from midge.importers.onnx import load


def test_cycle_names_its_nodes() -> None:
    nodes = [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])]
    with pytest.raises(ImportFailed, match=r"cycle through the nodes 'the_(Add_a', 'the_Relu_b|Relu_b', 'the_Add_a)'"):
        load(net(nodes))


def test_long_cycles_and_chains_do_not_overflow() -> None:
    chain = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(3000)]
    with pytest.raises(ImportFailed, match="cycle"):
        load(net([*chain, helper.make_node("Relu", ["v3000"], ["v0"]), node("Relu", ["v5"], ["y"])]))
    chain = [helper.make_node("Transpose", [f"v{i}"], [f"v{i + 1}"], perm=[1, 0]) for i in range(200)]
    nodes = [helper.make_node("Identity", ["x"], ["v0"]), *chain, node("DequantizeLinear", ["v200", "s"], ["y"])]
    assert len(load(net(nodes, {"s": np.float32(1)}, kind=I8)).nodes) == 200
    chain = [helper.make_node("Relu", [f"v{i}" if i else "x"], [f"v{i + 1}"]) for i in range(3000)]
    assert len(load(net([*chain[::-1], node("Relu", ["v3000"], ["y"])])).nodes) == 3001


def test_missing_initializer() -> None:
    with pytest.raises(ImportFailed, match=r"Add 'the_Add_y': input 'lost' is produced by no node.*missing initializer"):
        load(net([node("Add", ["x", "lost"], ["y"])]))


def test_output_that_no_node_makes_and_no_outputs() -> None:
    with pytest.raises(ImportFailed, match="graph output 'y' is produced by no node"):
        load(net([node("Relu", ["x"], ["z"])]))
    proto = net([node("Relu", ["x"], ["y"])])
    del proto.graph.output[:]
    with pytest.raises(ImportFailed, match="no outputs"):
        load(proto)


def test_names_defined_twice() -> None:
    with pytest.raises(ImportFailed, match="value 'y' is defined 2 times"):
        load(net([node("Relu", ["x"], ["y"]), node("Sigmoid", ["x"], ["y"])]))
    proto = net([node("Add", ["x", "c"], ["y"])], {"c": np.float32(1)})
    proto.graph.initializer.append(proto.graph.initializer[0])
    with pytest.raises(ImportFailed, match="initializer 'c' is there twice"):
        load(proto)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(bad: float) -> None:
    weights = np.ones((4, 3), np.float32)
    weights[1, 2] = bad
    with pytest.raises(ImportFailed, match="initializer 'w': 1 of 12 elements are NaN or infinite"):
        load(net([node("MatMul", ["x", "w"], ["y"])], {"w": weights}))


@pytest.mark.parametrize("scale", [np.nan, 0.0, -0.5, np.inf])
def test_scales_that_are_no_scales(scale: float) -> None:
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    with pytest.raises(ImportFailed, match=r"finite numbers above 0|initializer 's': 1 of 1 elements are NaN"):
        load(net(nodes, {"s": np.float32(scale), "z": np.int8(0)}))


def test_wrong_element_types() -> None:
    with pytest.raises(ImportFailed, match="Add 'the_Add_y': operands of float32 and int64; ONNX wants one type"):
        load(net([node("Add", ["x", "c"], ["y"])], {"c": np.array([1])}))
    with pytest.raises(ImportFailed, match="DequantizeLinear 'the_DequantizeLinear_y': input 'x' is float32, wanted an integer type"):
        load(net([node("DequantizeLinear", ["x", "s"], ["y"])], {"s": np.float32(1)}))
    with pytest.raises(ImportFailed, match="QuantizeLinear 'the_QuantizeLinear_y': input 'x' is int8, wanted float32"):
        load(net([node("QuantizeLinear", ["x", "s"], ["y"])], {"s": np.float32(1)}, kind=I8))
    with pytest.raises(ImportFailed, match="graph output 'y' is declared as float32, the graph computes int8"):
        load(net([node("QuantizeLinear", ["x", "s", "z"], ["y"])], {"s": np.float32(1), "z": np.int8(0)}))
    for kind in (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.STRING, 99):
        with pytest.raises(ImportFailed if kind in (TensorProto.STRING, 99) else Unsupported, match="'x'"):
            load(net([node("Relu", ["x"], ["y"])], kind=kind))


@pytest.mark.parametrize("shape", [(1, 2**40), (1, 2**16, 2**16), (1, 2**62, 2**62)])
def test_absurd_input_sizes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImportFailed, match="input 'x': shape"):
        load(net([node("Relu", ["x"], ["y"])], shape=shape))


def test_absurd_results_are_not_computed() -> None:
    with pytest.raises(ImportFailed, match=r"folding its constants would make more than 2\*\*26"):
        load(net([node("ConstantOfShape", ["n"], ["c"]), node("Add", ["x", "c"], ["y"])], {"n": np.array([2**20, 2**20])}))
    with pytest.raises(ImportFailed, match=r"folding its constants would make more than 2\*\*26"):
        load(net([node("Range", ["a", "b", "c"], ["r"]), node("Reshape", ["x", "r"], ["y"])], {"a": np.int64(0), "b": np.int64(2**60), "c": np.int64(1)}))
    with pytest.raises(MidgeError):
        load(net([node("Pad", ["x", "p"], ["y"])], {"p": np.array([0, 2**40, 0, 0])}))


def test_data_that_does_not_fit_the_shape() -> None:
    proto = net([node("Add", ["x", "c"], ["y"])], {"c": np.ones(4, np.float32)})
    proto.graph.initializer[0].dims[:] = [5]
    with pytest.raises(ImportFailed, match=r"initializer 'c': the data does not fit shape \[5\]"):
        load(proto)
    proto.graph.initializer[0].dims[:] = [2**40]
    with pytest.raises(ImportFailed, match=r"more than 2\*\*31"):
        load(proto)
    proto.graph.initializer[0].data_type = 99
    with pytest.raises(ImportFailed, match="unknown element type 99"):
        load(proto)


def test_odd_names() -> None:
    names = ["a/b:0", "1", "int", "ü ", "x" * 3000, "a b", "a.b", 'a"*/']
    nodes = [helper.make_node("Relu", [a], [b], name=b) for a, b in zip(["x", *names], [*names, "y"], strict=False)]
    graph = load(net(nodes))
    assert graph.inputs == ["x"]
    assert graph.output_names == ["y"]
    assert len({held.name for held in graph.values.values()}) == len(graph.values)
    clash = [helper.make_node("Relu", ["x"], ["Relu_relu"], name="Relu"), helper.make_node("Relu", ["Relu_relu"], ["y"], name="Relu")]
    assert load(net(clash)).output_names == ["y"]


def test_subgraphs_sparse_tensors_and_sequences() -> None:
    body = helper.make_graph([node("Relu", ["x"], ["t"])], "body", [], [value("t", None)])
    branch = node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    with pytest.raises(Unsupported, match=r"If 'the_If_y': the operator If is not offered; export with the condition fixed"):
        load(net([branch], {"c": np.array(True)}))
    proto = net([node("Add", ["x", "c"], ["y"])])
    sparse = helper.make_sparse_tensor(numpy_helper.from_array(np.ones(1, np.float32), "c"), numpy_helper.from_array(np.array([0])), [4])
    proto.graph.sparse_initializer.append(sparse)
    with pytest.raises(Unsupported, match="sparse initializer 'c'"):
        load(proto)
    proto = net([node("Relu", ["x"], ["y"])])
    proto.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", F32, None))
    with pytest.raises(Unsupported, match="input 'x' is a sequence_type"):
        load(proto)


def test_headers() -> None:
    proto = net([node("Relu", ["x"], ["y"])])
    proto.ir_version = 99
    with pytest.raises(Unsupported, match="ir_version 99"):
        load(proto)
    proto.ir_version = 8
    del proto.opset_import[:]
    with pytest.raises(ImportFailed, match="no operator set"):
        load(proto)
    with pytest.raises(ImportFailed, match="does not import operators of domain 'own'"):
        load(net([helper.make_node("Relu", ["x"], ["y"], domain="own")]))


def test_functions_that_call_each_other() -> None:
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]
    proto = net([helper.make_node("A", ["x"], ["y"], domain="own")])
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
            load(net([bad]))
