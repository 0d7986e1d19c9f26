# SPDX-License-Identifier: Apache-2.0
"""Ports whose pixels keep their channels together (NHWC) in a model that has a plane for each channel (NCHW): the Transpose at the edge is the caller's.

A port is moved if that leaves fewer transposes in the Graph, or if there is one channel, where both layouts are the same bytes. What is NHWC already, as
in models that come from TensorFlow, would need more transposes and stays.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from midge.errors import UsageError
from midge.ir import Array, Graph, Node
from midge.ops.move import Transpose
from midge.ops.view import Reshape
from midge.passes.layout import layout
from midge.passes.rewrite import merges, producer_of

LAYOUTS = ("model", "nhwc")
TO_NCHW = {4: (0, 3, 1, 2), 3: (0, 2, 1)}  # by rank
TO_NHWC = {4: (0, 2, 3, 1), 3: (0, 2, 1)}


def nhwc_ports(graph: Graph, inputs: bool, outputs: bool) -> Graph:
    """The Graph with its inputs, its outputs or both as NHWC; `graph.nhwc` names those that were moved.

    Raises: UsageError if none of them can be.
    """
    for wanted, option, names in ((inputs, "--input-layout", list(graph.inputs)), (outputs, "--output-layout", list(graph.output_names or graph.outputs))):
        if not wanted:
            continue
        for name in names:
            graph = _moved(graph, name, option == "--input-layout")
        if not set(names) & set(graph.nhwc):
            shown = ", ".join(f"'{name}' {list(graph.model_types[name].shape)}" for name in names if name in graph.model_types)
            raise UsageError(f"{option} nhwc: nothing to gain for {shown or 'this model'}: it has no planes of channels that are turned inside; leave it out")
    return graph


def to_port(array: Array, moved: bool) -> Array:
    """An array as the model has it, as the port wants it. A leading dimension of samples may replace that of the batch."""
    return np.ascontiguousarray(np.transpose(array, TO_NHWC[array.ndim])) if moved else array


def from_port(array: Array, moved: bool) -> Array:
    """The way back."""
    return np.ascontiguousarray(np.transpose(array, TO_NCHW[array.ndim])) if moved else array


def _moved(graph: Graph, name: str, is_input: bool) -> Graph:
    """The Graph with one port turned, or as it is if that does not help."""
    value = name if is_input else graph.outputs[(graph.output_names or graph.outputs).index(name)]
    shape = graph.type(value).shape
    if len(shape) not in TO_NCHW or shape[0] != 1:
        return graph
    trial = replace(graph.copy(), output_names=list(graph.output_names or graph.outputs))
    (_turn_input if is_input else _turn_output)(trial, value)
    layout(trial)
    while any(_hoist(trial, node) for node in list(trial.nodes)):
        layout(trial)
    gain = _transposes(graph) - _transposes(trial)
    if gain < 0 or (gain == 0 and shape[1] != 1):
        return graph
    trial.nhwc.append(name)
    return trial


def _turn_input(graph: Graph, name: str) -> None:
    """The port keeps its name, so what the model has gets a new one."""
    kind = graph.type(name)
    rank = len(kind.shape)
    inner = graph.add_value(f"{name}_nchw", kind)
    graph.replace_uses(name, inner)
    graph.values[name].type = kind.with_shape(tuple(kind.shape[axis] for axis in TO_NHWC[rank]))
    graph.nodes.insert(0, Node(f"{name}_nchw", Transpose(TO_NCHW[rank]), [name], [inner]))


def _turn_output(graph: Graph, value: str) -> None:
    kind = graph.type(value)
    perm = TO_NHWC[len(kind.shape)]
    outer = graph.add_value(f"{value}_nhwc", kind.with_shape(tuple(kind.shape[axis] for axis in perm)))
    graph.nodes.append(Node(f"{value}_nhwc", Transpose(perm), [value], [outer]))
    graph.outputs = [outer if name == value else name for name in graph.outputs]


def _transposes(graph: Graph) -> int:
    return sum(isinstance(node.op, Transpose) for node in graph.nodes)


def _hoist(graph: Graph, node: Node) -> bool:
    """f(reshape(a), reshape(b)) -> reshape(f(a, b)) for elementwise f of several operands whose sources have one shape; single numbers stay."""
    if not node.op.elementwise or not any(node is other for other in graph.nodes):
        return False
    computed = [name for name in node.inputs if not (graph.is_constant(name) and graph.type(name).count == 1)]
    views = [producer_of(graph, name) for name in computed]
    sources = [view.inputs[0] for view in views if view is not None and isinstance(view.op, Reshape)]
    shapes = {graph.type(source).shape for source in sources}
    if len(sources) != len(computed) or len(computed) < 2 or len(shapes) != 1:
        return False
    alike = all(merges(graph, source, name) and graph.type(source).dtype is graph.type(name).dtype for source, name in zip(sources, computed, strict=True))
    if not alike or any(graph.type(name).shape != graph.type(node.outputs[0]).shape for name in computed):
        return False
    out = node.outputs[0]
    inner = graph.add_value(f"{out}_rows", graph.type(out).with_shape(shapes.pop()))
    turned = dict(zip(computed, sources, strict=True))
    node.inputs, node.outputs = [turned.get(name, name) for name in node.inputs], [inner]
    graph.nodes.insert(graph.nodes.index(node) + 1, Node(f"{node.name}_view", Reshape(graph.type(out).shape), [inner], [out], node.origin))
    return True
