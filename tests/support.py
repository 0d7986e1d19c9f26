# SPDX-License-Identifier: Apache-2.0
"""What several test files share: paths of the optional model collection, single-operator graphs, running a Graph by its references."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from midge.ir import Array, DType, Graph, Node, Op, Quant, TensorType, Value
from midge.lower import Choice, lower
from midge.program import Program
from midge.run.interpreter import Interpreter
from midge.run.reference import run_reference
from midge.schedule import Wish, place
from midge.targets import get_target

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def shared(relative: str) -> Path:
    """A file of the optional model collection; skips the test when it is not there."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"the model collection beside the checkout has no {relative}")
    return path


def s8(shape: tuple[int, ...], scale: float, zero_point: int) -> TensorType:
    return TensorType(DType.S8, shape, Quant.of(scale, zero_point))


def op_graph(op: Op, inputs: list[TensorType | tuple[TensorType, Array]], out: TensorType | list[TensorType], numerics: str = "onnx") -> Graph:
    """A Graph of one node. An input given with an array is a constant."""
    graph = Graph("single", numerics=numerics)
    names = []
    for i, item in enumerate(inputs):
        kind, data = item if isinstance(item, tuple) else (item, None)
        name = f"in{i}"
        graph.values[name] = Value(name, kind, data)
        names.append(name)
        if data is None:
            graph.inputs.append(name)
    outs = out if isinstance(out, list) else [out]
    for i, kind in enumerate(outs):
        graph.values[f"out{i}"] = Value(f"out{i}", kind)
        graph.outputs.append(f"out{i}")
    graph.nodes.append(Node("node", op, names, list(graph.outputs)))
    return graph


def program_of(graph: Graph, target: str = "host", optimize: str = "balanced", by_rows: bool = True) -> Program:
    return place(lower(graph, get_target(target), "net", "0" * 64, Choice(optimize)), Wish(by_rows=by_rows))


def joined(graphs: list[Graph]) -> Graph:
    """Graphs of one numerics side by side in one, so that one library computes them all."""
    whole = Graph("joined", numerics=graphs[0].numerics)
    for i, graph in enumerate(graphs):
        assert graph.numerics == whole.numerics
        whole.values |= {f"g{i}_{name}": Value(f"g{i}_{name}", value.type, value.data) for name, value in graph.values.items()}
        for node in graph.nodes:
            whole.nodes.append(Node(f"g{i}_{node.name}", node.op, [f"g{i}_{name}" for name in node.inputs], [f"g{i}_{name}" for name in node.outputs]))
        whole.inputs += [f"g{i}_{name}" for name in graph.inputs]
        whole.outputs += [f"g{i}_{name}" for name in graph.outputs]
    return whole


def assert_kernels_match(graph: Graph, feeds: dict[str, Array], target: str = "host", optimize: str = "balanced") -> list[Array]:
    """Program on the Cython kernels == numpy reference, byte for byte; returns the outputs."""
    expected = run_reference(graph, feeds)
    outputs = Interpreter(program_of(graph, target, optimize)).run([feeds[name] for name in graph.inputs])
    for name, got in zip(graph.outputs, outputs, strict=True):
        np.testing.assert_array_equal(got, expected[name].reshape(got.shape), err_msg=f"{graph.nodes[0].op} {graph.types(graph.nodes[0].inputs)}")
    return outputs


def have_arm() -> bool:
    """Whether the cross compiler and the emulator are installed."""
    return all(shutil.which(tool) for tool in ("arm-none-eabi-gcc", "qemu-system-arm"))


needs_arm = pytest.mark.skipif(not have_arm(), reason="gcc-arm-none-eabi and qemu-system-arm are not installed")
