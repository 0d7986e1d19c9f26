# SPDX-License-Identifier: Apache-2.0
"""From a sound Model to a Graph: fold what is constant, hand every other node to its family's from_onnx, collect what is not offered."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import midge.ops  # noqa: F401 - registers every operator
from midge.errors import ImportFailed, Unsupported
from midge.importers import qoperator
from midge.importers.constants import constant_value, folded_count, is_foldable
from midge.importers.model import Model, check_count, check_finite
from midge.importers.raw import RAW_OK, complete_quants, share_quant
from midge.ir import Array, DType, Graph, TensorType
from midge.ops.build import ONNX_OPS, Builder, OnnxNode

MAX_FOLDED = 1 << 26  # elements that folding may make of one node
KEEPS_QUANT = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
LINEAR = ("QuantizeLinear", "DequantizeLinear")
SAME_TYPE = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Conv", "ConvTranspose", "Gemm", "MatMul", "Concat", "PRelu", "Clip", "BatchNormalization"})
INSTEAD = {
    "ConvInteger": "quantize statically: QLinearConv or QuantizeLinear / DequantizeLinear around Conv",
    "MatMulInteger": "quantize statically: QLinearMatMul or QuantizeLinear / DequantizeLinear around MatMul",
    "DynamicQuantizeLinear": "quantize statically with calibration data, the scales must be constants",
    "DynamicQuantizeMatMul": "quantize statically with calibration data, the scales must be constants",
    "If": "export with the condition fixed, or run onnxsim to drop the branch",
    "Loop": "unroll the loop before export",
    "Scan": "unroll the scan before export",
    "LSTM": "not offered yet; a convolution over time is the nearest alternative",
    "GRU": "not offered yet; a convolution over time is the nearest alternative",
    "RNN": "not offered yet; a convolution over time is the nearest alternative",
    "BiasGelu": "export it as Add and Gelu",
    "FastGelu": "export it as Gelu",
    "FusedConv": "export without ONNX Runtime's graph optimizations (ORT_ENABLE_BASIC)",
    "FusedGemm": "export without ONNX Runtime's graph optimizations (ORT_ENABLE_BASIC)",
    "FusedMatMul": "export without ONNX Runtime's graph optimizations (ORT_ENABLE_BASIC)",
    "Attention": "not offered; convolutional networks are",
    "MultiHeadAttention": "not offered; convolutional networks are",
}
BROKEN = (ValueError, TypeError, IndexError, KeyError, AssertionError, ZeroDivisionError, OverflowError, RecursionError, MemoryError)


@dataclass
class Walk:
    """`values` maps names of the model to Graph values, `dtypes` to what ONNX stores them as (a Graph value does not tell int8 from dequantized)."""

    model: Model
    shapes: dict[str, tuple[int, ...]]
    evaluate: Callable[[OnnxNode, list[Array | None]], list[Array]]
    guess_type: Callable[[str, dict[str, tuple[int, ...]]], TensorType | None]
    graph: Graph = field(init=False)
    builder: Builder = field(init=False)
    values: dict[str, str] = field(default_factory=dict)
    dtypes: dict[str, np.dtype[Any]] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    raw: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def run(self) -> Graph:
        self.graph = Graph(self.model.name)
        self.builder = Builder(self.graph)
        self.dtypes = {name: data.dtype for name, data in self.model.constants.items()}
        for port in self.model.inputs:
            kind = TensorType(port_dtype(f"input '{port.name}'", port.dtype), self.shapes[port.name])
            self.values[port.name] = self.graph.add_value(port.name, kind)
            self.graph.inputs.append(port.name)
            self.graph.model_types[port.name] = kind
            self.dtypes[port.name] = port.dtype
        for node in self.model.nodes:
            if self.lost.isdisjoint(node.inputs):
                self.step(node)
            else:
                self.lost.update(filter(None, node.outputs))
        if self.problems:
            count = f"{len(self.problems)} nodes are" if len(self.problems) > 1 else "1 node is"
            raise Unsupported("\n  ".join([f"{count} not offered:", *self.problems]) + "\n`midge ops` lists the operators offered")
        self.finish_outputs()
        complete_quants(self.graph, self.raw)
        self.graph.prune()
        return self.graph

    def step(self, node: OnnxNode) -> None:
        """Import one node; if it is not offered, note that and go on with what its outputs are said to be."""
        try:
            if not self.fold(node):
                self.dispatch(node)
        except Unsupported as error:
            reason = str(error)
            self.problems.append(reason if node.name in reason else f"{node}: {reason}")
            constant = all(self.array(name) is not None for name in node.inputs if name)
            for name in filter(None, node.outputs):
                kind = None if constant else self.guess_type(name, self.shapes)
                if kind is None:
                    self.lost.add(name)
                else:
                    self.bind(name, self.graph.add_value(name, kind), kind.dtype.numpy)
        except ImportFailed:
            if not self.problems:  # behind a guessed type nothing is certain
                raise
            self.lost.update(filter(None, node.outputs))

    def bind(self, name: str, value: str, dtype: np.dtype[Any]) -> None:
        self.values[name], self.dtypes[name] = value, dtype

    def array(self, name: str) -> Array | None:
        """The constant behind a name of the model, as ONNX sees it, or None."""
        if name in self.model.constants:
            return self.model.constants[name]
        return self.builder.real(self.values[name]) if name in self.values else None

    def value(self, name: str) -> str:
        """The Graph value of a name of the model; constants enter the Graph on first use. Doubles and halves become floats."""
        if name and name not in self.values:
            data = self.model.constants[name]
            if data.dtype.kind == "f":
                with np.errstate(over="ignore"):
                    data = data.astype(np.float32)
                check_finite(f"constant '{name}' as float32", data)
            self.values[name] = self.graph.add_constant(name, data)
        return self.values[name] if name else ""

    def fold(self, node: OnnxNode) -> bool:
        """Compute a node of constants now. Returns whether it was one."""
        if node.domain or (node.inputs and not any(node.inputs)):
            return False
        if node.op in ("Shape", "Size") and node.input(0) in self.values:
            shape = np.array(self.builder.type(self.values[node.input(0)]).shape, np.int64)
            cut = slice(int(node.attrs.get("start", 0)), node.attrs.get("end"))
            results = [shape[cut] if node.op == "Shape" else np.array(shape.prod(), np.int64)]
        elif node.op == "Constant":
            results = [constant_value(node)]
        else:
            inputs = [self.array(name) if name else None for name in node.inputs]
            absent = any(name and data is None for name, data in zip(node.inputs, inputs, strict=True))
            quantized = any(name in self.values and self.builder.type(self.values[name]).quant is not None for name in node.inputs)
            if absent or not is_foldable(node) or (quantized and node.op in KEEPS_QUANT):
                return False
            if folded_count(node, inputs) > MAX_FOLDED:
                raise ImportFailed(f"{node}: folding its constants would make more than 2**26 elements")
            results = self.evaluate(node, inputs)
        for name, data in zip(filter(None, node.outputs), results, strict=False):
            check_finite(f"{node}: result '{name}'", data)
            self.model.constants[name] = data
            self.dtypes[name] = data.dtype
        return True

    def dispatch(self, node: OnnxNode) -> None:
        """Let the node's family append to the Graph."""
        offered = node.op in ONNX_OPS and (node.op in qoperator.MICROSOFT if node.domain else node.op not in qoperator.MICROSOFT_ONLY)
        if node.domain not in ("", "com.microsoft") or not offered:
            raise Unsupported(self.unknown(node))
        self.check_operands(node)
        called = replace(node, inputs=tuple(self.value(name) for name in node.inputs))
        if node.domain and node.op not in qoperator.QOPERATORS:  # the same operator as in the newest operator sets
            called = replace(called, opset=qoperator.TWIN_OPSET)
        self.builder.origin = node.name
        if self.is_raw(node):
            share_quant(self.builder, called)
        before = len(self.graph.nodes)
        try:
            found = ONNX_OPS[node.op](self.builder, called)
        except ImportFailed as error:
            if node.name in str(error):
                raise
            raise ImportFailed(f"{node}: {error}") from None
        except BROKEN as error:
            raise ImportFailed(f"{node}: its attributes and shapes do not fit together ({type(error).__name__}: {error})") from error
        found = [found] if isinstance(found, str) else found
        if len(found) < sum(map(bool, node.outputs)):
            raise Unsupported(f"{node}: {len(node.outputs)} outputs, {len(found)} are offered")
        for added in self.graph.nodes[before:]:
            for name in added.outputs:
                check_count(str(node), self.builder.type(name).shape)
            if self.is_raw(node):
                self.raw.add(added.name)
        for name, value in zip(node.outputs, found, strict=False):
            if name:
                self.bind(name, value, self.result_dtype(node, value))

    def is_raw(self, node: OnnxNode) -> bool:
        """Whether an operator handles integers as they are stored, not the numbers they stand for."""
        first = next(filter(None, node.inputs), "")
        return node.op not in LINEAR and node.op not in qoperator.MICROSOFT and node.op in RAW_OK and self.dtypes[first].kind in "iu"

    def result_dtype(self, node: OnnxNode, value: str) -> np.dtype[Any]:
        kind = self.builder.type(value)
        if node.op == "DequantizeLinear":
            return np.dtype(np.float32)
        if node.op == "QuantizeLinear" or node.op in qoperator.QOPERATORS:
            return kind.dtype.numpy
        if self.is_raw(node):
            return self.dtypes[next(filter(None, node.inputs))]
        return np.dtype(np.float32) if kind.quant is not None else kind.dtype.numpy

    def check_operands(self, node: OnnxNode) -> None:
        """Element types that fit the operator; sane scales.

        Raises: ImportFailed, or Unsupported for arithmetic on bare integers.
        """
        if node.op in qoperator.QOPERATORS:
            return
        names = [name for name in node.inputs if name]
        if not names:
            raise ImportFailed(f"{node}: has no inputs")
        first = self.dtypes[names[0]]
        if node.op in LINEAR:
            if (first.kind == "f") is not (node.op == "QuantizeLinear"):
                raise ImportFailed(f"{node}: input '{names[0]}' is {first}, wanted {'float32' if node.op == 'QuantizeLinear' else 'an integer type'}")
            qoperator.check_scale(self.builder, node, self.array(node.input(1)), self.array(node.input(2)) if node.input(2) else None)
            return
        kinds = sorted({str(self.dtypes[name]) for name in (names if node.op in SAME_TYPE else names[:1])})
        if len(kinds) > 1:
            raise ImportFailed(f"{node}: operands of {' and '.join(kinds)}; ONNX wants one type")
        computed = [name for name in names if self.array(name) is None]
        if first.kind != "f" and node.op not in RAW_OK and names[0] in computed:
            raise Unsupported(f"{node}: computes on bare {first}; put DequantizeLinear before and QuantizeLinear behind it")

    def unknown(self, node: OnnxNode) -> str:
        """Why an operator is not offered and what is nearest."""
        instead = INSTEAD.get(node.op)
        if instead is None:
            near = difflib.get_close_matches(node.op, sorted(set(ONNX_OPS) - qoperator.MICROSOFT_ONLY), 1, 0.75)
            instead = f"the nearest operator offered is {near[0]}" if near and near[0] != node.op else "rewrite it with offered operators"
        domain = f" of domain '{node.domain}'" if node.domain else ""
        return f"{node}: the operator {node.op}{domain} is not offered; {instead}"

    def finish_outputs(self) -> None:
        """Outputs by value, their names and types as the model declared them."""
        for port in self.model.outputs:
            value = self.value(port.name)
            shape, held = self.builder.type(value).shape, self.dtypes[port.name]
            if port.dtype != held:
                raise ImportFailed(f"graph output '{port.name}' is declared as {port.dtype}, the graph computes {held}")
            wanted = shape if port.dims is None else port.dims
            if len(wanted) != len(shape) or any(isinstance(d, int) and d != s for d, s in zip(wanted[1:], shape[1:], strict=True)):
                raise ImportFailed(f"graph output '{port.name}' is declared as {list(wanted)}, the graph computes {list(shape)}")
            self.graph.outputs.append(value)
            self.graph.output_names.append(port.name)
            self.graph.model_types[port.name] = TensorType(port_dtype(f"output '{port.name}'", held), shape)


def port_dtype(what: str, dtype: np.dtype[Any]) -> DType:
    """Raises: Unsupported for an element type that cannot pass the edge of the library."""
    try:
        return DType.of(dtype)
    except Unsupported:
        raise Unsupported(f"{what} is {dtype}; float32, int8 and uint8 are offered: convert the model to float32 first") from None
