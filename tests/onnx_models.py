# SPDX-License-Identifier: Apache-2.0
"""Small ONNX models for the import tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F32, I8 = TensorProto.FLOAT, TensorProto.INT8


def value(name: str, shape: Any, kind: int = F32) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Any] | None = None, opset: int = 13) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(np.asarray(data), name) for name, data in (constants or {}).items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def node(op: str, inputs: list[str], outputs: list[str], **attrs: Any) -> onnx.NodeProto:
    """A node whose name says what it is."""
    return helper.make_node(op, inputs, outputs, name=f"the_{op}_{outputs[0]}", **attrs)


def net(nodes: list[Any], constants: dict[str, Any] | None = None, shape: Any = (1, 4), kind: int = F32) -> onnx.ModelProto:
    """Nodes from input x to output y, which is declared as float of any shape."""
    return model(nodes, [value("x", shape, kind)], [value("y", None)], constants)


def varied_net() -> onnx.ModelProto:
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
    return net(nodes, constants, ("N", 3, 8, 8))
