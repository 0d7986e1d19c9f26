# SPDX-License-Identifier: Apache-2.0
"""What an ONNX model is, and what is missing to compile it: everything that can be said, also of a model that is not offered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from midge.errors import ImportFailed, MidgeError, Unsupported
from midge.importers import qoperator
from midge.importers.constants import is_foldable
from midge.importers.model import Model
from midge.importers.onnx import Reader, check_header, inline_functions, load, read
from midge.ir import Graph, TensorType
from midge.ops.build import ONNX_OPS, OnnxNode
from midge.passes import canonicalize, integerize
from midge.ptq.schemes import complete, float_activations

LINEAR = frozenset({"QuantizeLinear", "DequantizeLinear"})
AT_IMPORT = frozenset({"Constant", "Shape", "Size"})


@dataclass(frozen=True)
class PortLine:
    """An input or output: element type and shape as the model declares them (open dimensions by their symbol), scale and zero_point once known."""

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class OperatorLine:
    """An ONNX operator, how many nodes of it there are, and whether midge offers it: "yes", "of constants" (computed at import) or "no"."""

    op: str
    domain: str
    count: int
    offered: str


@dataclass(frozen=True)
class NodeLine:
    """One node of a canonical Graph. `output` is the type it computes; `weights` counts the elements of its constants, which others may share."""

    index: int
    name: str
    kind: str
    output: str
    scale: float | None
    zero_point: int | None
    macs: int
    weights: int


@dataclass(frozen=True)
class Inspection:
    """What the model holds. `problem` says what is missing to compile it, '' if nothing; `error` is that problem unless calibration data solves it."""

    name: str
    form: str
    opset: int
    inputs: tuple[PortLine, ...]
    outputs: tuple[PortLine, ...]
    operators: tuple[OperatorLine, ...]
    layers: tuple[NodeLine, ...]
    macs: int
    weights: int
    weight_nbytes: int
    needs_calibration: bool
    problem: str
    error: MidgeError | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {key: value for key, value in asdict(self).items() if key != "error"}


@dataclass(frozen=True)
class _Trial:
    """How far the model came on the way to an integer Graph: `graph` is canonical, `typed` as far quantized as it could be."""

    graph: Graph | None = None
    typed: Graph | None = None
    error: MidgeError | None = None
    needs_calibration: bool = False


def inspect_model(source: str | Path | bytes, *, shapes: Mapping[str, tuple[int, ...]] | None = None, batch: int | None = None) -> Inspection:
    """Look into a model as far as it can be read.

    Raises: UsageError and ImportFailed if there is nothing to show: no such file, not an ONNX model, a wrong --shape.
    """
    proto, path = read(source)
    opsets = check_header(proto)
    if proto.functions:
        proto = inline_functions(proto)
    model = Reader(proto, opsets, path.parent.resolve() if path else None).model(path.stem if path else proto.graph.name)
    trial = _try(source, dict(shapes or {}), batch)
    graph = trial.graph or Graph(model.name)
    constants = [value for value in graph.values.values() if value.data is not None]
    return Inspection(
        model.name,
        _form(model, trial),
        opsets[""],
        _ports(model, trial, inputs=True),
        _ports(model, trial, inputs=False),
        _operators(model),
        node_lines(graph),
        sum(node.op.macs(types, out) for node, types, out in graph.walk()),
        sum(value.type.count for value in constants),
        sum(value.type.nbytes for value in constants),
        trial.needs_calibration,
        str(trial.error or ""),
        None if trial.needs_calibration else trial.error,
    )


def _try(source: str | Path | bytes, shapes: dict[str, tuple[int, ...]], batch: int | None) -> _Trial:
    graph = typed = None
    try:
        graph = typed = canonicalize(load(source, shapes=shapes, batch=batch))
        typed = complete(graph)
        integerize(typed)
    except (ImportFailed, Unsupported) as error:
        waits = graph is not None and typed is graph and bool(float_activations(graph))
        return _Trial(graph, typed, error, waits)
    return _Trial(graph, typed)


def _form(model: Model, trial: _Trial) -> str:
    """float32, QDQ, QOperator, or mixed where some activations are quantized and others still need calibration."""
    ops = {node.op for node in model.nodes}
    if not ops & (LINEAR | qoperator.QOPERATORS):
        return "float32"
    if trial.needs_calibration:
        return "mixed"
    return "QOperator" if ops & qoperator.QOPERATORS else "QDQ"


def _ports(model: Model, trial: _Trial, *, inputs: bool) -> tuple[PortLine, ...]:
    types: dict[str, TensorType] = {}
    if trial.typed is not None:
        graph = trial.typed
        pairs = zip(graph.inputs, graph.inputs, strict=True) if inputs else zip(graph.output_names or graph.outputs, graph.outputs, strict=True)
        types = {shown: graph.type(name) for shown, name in pairs}
    return tuple(PortLine(port.name, str(port.dtype), port.dims, *_quant(types.get(port.name))) for port in (model.inputs if inputs else model.outputs))


def _operators(model: Model) -> tuple[OperatorLine, ...]:
    counts = Counter((node.op, node.domain) for node in model.nodes)
    examples = {(node.op, node.domain): node for node in model.nodes}
    return tuple(OperatorLine(op, domain, count, _offered(examples[op, domain])) for (op, domain), count in sorted(counts.items()))


def _offered(node: OnnxNode) -> str:
    names = ONNX_OPS.keys() & qoperator.MICROSOFT if node.domain == "com.microsoft" else ONNX_OPS.keys() - qoperator.MICROSOFT_ONLY
    if node.op in names and node.domain in ("", "com.microsoft"):
        return "yes"
    return "of constants" if not node.domain and (node.op in AT_IMPORT or is_foldable(node)) else "no"


def node_lines(graph: Graph) -> tuple[NodeLine, ...]:
    """The nodes of a Graph in execution order."""
    lines = []
    for index, (node, types, out) in enumerate(graph.walk()):
        weights = sum(graph.type(name).count for name in node.inputs if graph.is_constant(name))
        scale, zero_point = _quant(out[0])
        lines.append(NodeLine(index, node.name, node.op.kind, str(replace(out[0], quant=None)), scale, zero_point, node.op.macs(types, out), weights))
    return tuple(lines)


def _quant(kind: TensorType | None) -> tuple[float, int] | tuple[None, None]:
    """(scale, zero_point) of a value quantized per tensor."""
    if kind is None or kind.quant is None or kind.quant.axis is not None:
        return None, None
    return kind.quant.s, kind.quant.z
