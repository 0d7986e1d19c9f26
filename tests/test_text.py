# SPDX-License-Identifier: Apache-2.0
"""Text of a Graph: what is printed parses to the same Graph."""

from __future__ import annotations

import numpy as np
import pytest
from support import op_graph, s8

from midge.errors import ImportFailed
from midge.ir import DType, Quant, TensorType
from midge.ops.conv import Conv2D
from midge.ops.quantize import Quantize
from midge.text import op_classes, parse_graph, print_graph


def conv_graph():
    w = np.arange(-6, 6, dtype=np.int8).reshape(3, 2, 2, 1)
    kind = TensorType(DType.S8, w.shape, Quant.of([0.1, 0.25, 1e-7], 0, 0))
    bias = np.array([1, -2, 3], np.int32)
    op = Conv2D((2, 1), pads=(0, 1, 0, 1), low=0.0)
    graph = op_graph(op, [s8((1, 4, 5, 1), 0.5, -3), (kind, w), (TensorType(DType.S32, (3,)), bias)], s8((1, 2, 6, 3), 0.1, -128), "tflite")
    graph.output_names, graph.model_types = ["weird 'name'\n"], {"in0": TensorType(DType.F32, (1, 4, 5, 1))}
    return graph


def test_round_trip_keeps_everything():
    graph = conv_graph()
    text = print_graph(graph)
    again = parse_graph(text)
    assert print_graph(again) == text
    assert again.nodes == graph.nodes
    assert again.model_types == graph.model_types
    assert again.output_names == graph.output_names
    np.testing.assert_array_equal(again.values["in1"].data, graph.values["in1"].data)
    assert again.values["in1"].type == graph.values["in1"].type


def test_an_operator_with_a_quant_attribute():
    op = Quantize(DType.U8, Quant.of(0.5, 3))
    graph = op_graph(op, [s8((1, 4), 0.5, -125)], TensorType(DType.U8, (1, 4), op.quant))
    assert parse_graph(print_graph(graph)).nodes[0].op == op


def test_infinite_bounds_survive():
    graph = op_graph(Conv2D(high=6.0), [s8((1, 1, 1, 1), 1, 0), (s8((1, 1, 1, 1), 1, 0), np.zeros((1, 1, 1, 1), np.int8))], s8((1, 1, 1, 1), 1, 0))
    assert parse_graph(print_graph(graph)).nodes[0].op == Conv2D(high=6.0)


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "graph(",
        "node('a', Missing(), ('x',), ('y',), ())",
        "__import__('os').system('true')",
        "constant('w', 's8', (1,), None, '!!')",
        "input('x', 's8', (1,))",
    ],
)
def test_damaged_text_is_one_error(line):
    with pytest.raises(ImportFailed, match="line 2"):
        parse_graph("graph('a', 'onnx')\n" + line)


def test_every_operator_is_known_by_name():
    assert {"Conv2D", "Dense", "Add", "Softmax", "Reshape", "Quantize"} <= op_classes().keys()
