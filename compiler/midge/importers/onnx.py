# SPDX-License-Identifier: Apache-2.0
"""ONNX files to Graphs. The only importer that touches the onnx package: reading, its own checks before any C++ of onnx runs, folding.

Source: ONNX IR specification (ir_version 3 to the newest known to the installed onnx), operator sets 7 to the newest known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.reference
import onnx.shape_inference
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from midge.errors import ImportFailed, Unsupported, UsageError
from midge.importers.files import c_name, read_external, read_file
from midge.importers.model import MAX_COUNT, MAX_NODES, Model, Port, check_calls, check_finite, check_names, needed_nodes, resolve_shape, sort_nodes
from midge.importers.walk import Walk
from midge.ir import Array, DType, Graph, TensorType
from midge.ops.build import OnnxNode

MIN_OPSET = 7
DEFAULT_DOMAINS = ("", "ai.onnx")
NUMPY_OF = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.INT16: "int16",
    onnx.TensorProto.UINT16: "uint16",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.UINT32: "uint32",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.UINT64: "uint64",
    onnx.TensorProto.BOOL: "bool",
}


def load(source: str | Path | bytes | onnx.ModelProto, *, shapes: dict[str, tuple[int, ...]] | None = None, batch: int | None = None) -> Graph:
    """The Graph of an ONNX model, in the model's own layout, float or quantized as the model is.

    `shapes` fixes open dimensions by input name. `batch` (only 1) replaces a static batch; open batches become 1 anyway.

    Raises: UsageError for a wrong request, ImportFailed for a broken model, Unsupported naming every node that is not offered.
    """
    if batch not in (None, 1):
        raise UsageError(f"--batch {batch}: one sample is computed at a time, only 1 is offered")
    proto, path = read(source)
    opsets = check_header(proto)
    if proto.functions:
        proto = inline_functions(proto)
    check_text(proto.graph)
    reader = Reader(proto, opsets, path.parent.resolve() if path else None)
    model = reader.model(c_name(path.stem if path else proto.graph.name))
    check_names(model)
    model.nodes = sort_nodes(model.nodes)
    model.nodes = needed_nodes(model)
    shapes = shapes or {}
    for name in shapes:
        if name not in {port.name for port in model.inputs}:
            raise UsageError(f"--shape {name}: no such input; the model has {', '.join(port.name for port in model.inputs)}")
    resolved = {port.name: resolve_shape(port, shapes.get(port.name), batch) for port in model.inputs}
    return Walk(model, resolved, reader.evaluate, reader.guess_type).run()


def read(source: str | Path | bytes | onnx.ModelProto) -> tuple[onnx.ModelProto, Path | None]:
    """The protobuf, and its path if it comes from a file."""
    if isinstance(source, onnx.ModelProto):
        return source, None
    path = None if isinstance(source, bytes) else Path(source)
    data = source if isinstance(source, bytes) else read_file(Path(source))
    what = str(path) if path else "model"
    if not data:
        raise ImportFailed(f"{what}: the file is empty")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, ValueError, RecursionError):
        raise ImportFailed(f"{what}: not an ONNX file, or a truncated one (the protobuf does not parse)") from None
    if not proto.ir_version or not proto.HasField("graph"):
        raise ImportFailed(f"{what}: not an ONNX model (it has no {'graph' if proto.ir_version else 'ir_version'}); it may be truncated")
    return proto, path


def check_header(proto: onnx.ModelProto) -> dict[str, int]:
    """Operator set versions by domain ('' for ai.onnx)."""
    if not 3 <= proto.ir_version <= onnx.IR_VERSION:
        raise Unsupported(f"ir_version {proto.ir_version}: the installed onnx {onnx.__version__} knows 3 to {onnx.IR_VERSION}; update onnx or export again")
    opsets = {"" if entry.domain in DEFAULT_DOMAINS else entry.domain: int(entry.version) for entry in proto.opset_import}
    if "" not in opsets:
        raise ImportFailed("the model imports no operator set of ai.onnx")
    newest = onnx.defs.onnx_opset_version()
    if not MIN_OPSET <= opsets[""] <= newest:
        raise Unsupported(f"opset {opsets['']}: {MIN_OPSET} to {newest} are offered; convert with onnx.version_converter or export again")
    return opsets


def inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without local functions. A function that calls itself would never end, so that is checked first."""
    check_calls({(f.domain, f.name): {(node.domain, node.op_type) for node in f.node} for f in proto.functions})
    try:
        return onnx.inliner.inline_local_functions(proto)
    except Exception as error:
        raise ImportFailed(f"the functions of the model cannot be inlined: {first_line(error)}") from None


def check_text(graph: onnx.GraphProto) -> None:
    """Names are text; the protobuf package hands out bytes where they are not valid UTF-8.

    Raises: ImportFailed.
    """
    named = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
    texts = [graph.name, *(item.name for item in named)] + [entry.value for tensor in graph.initializer for entry in tensor.external_data]
    for node in graph.node:
        texts += [node.name, node.op_type, node.domain, *node.input, *node.output, *(attribute.name for attribute in node.attribute)]
    for found in texts:
        if not isinstance(found, str):
            raise ImportFailed(f"the name {found!r} is not text; the file is damaged")


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


@dataclass
class Reader:
    """Turns a protobuf into a Model, and evaluates nodes of constants."""

    proto: onnx.ModelProto
    opsets: dict[str, int]
    folder: Path | None
    protos: dict[str, onnx.NodeProto] = field(default_factory=dict)
    suffixes: dict[str, int] = field(default_factory=dict)
    guessed: dict[str, TensorType] | None = None

    def model(self, name: str) -> Model:
        graph = self.proto.graph
        if graph.sparse_initializer:
            raise Unsupported(f"sparse initializer '{graph.sparse_initializer[0].values.name}': store it dense")
        if len(graph.node) > MAX_NODES:
            raise Unsupported(f"the graph has {len(graph.node)} nodes, up to {MAX_NODES} are read")
        constants: dict[str, Array] = {}
        for tensor in graph.initializer:
            if not tensor.name or tensor.name in constants:
                raise ImportFailed(f"initializer '{tensor.name}' has no name" if not tensor.name else f"initializer '{tensor.name}' is there twice")
            constants[tensor.name] = self.array(tensor, f"initializer '{tensor.name}'")
            check_finite(f"initializer '{tensor.name}'", constants[tensor.name])
        inputs = [port(info, "input") for info in graph.input if info.name not in constants]
        outputs = [port(info, "output") for info in graph.output]
        return Model(name, inputs, outputs, constants, [self.node(node, i) for i, node in enumerate(graph.node)])

    def node(self, proto: onnx.NodeProto, index: int) -> OnnxNode:
        """A node with a unique name; its own one, or operator and first output."""
        stem = proto.name or f"{proto.op_type}_{next((name for name in proto.output if name), index)}"
        name = stem
        while name in self.protos:
            self.suffixes[stem] = self.suffixes.get(stem, 0) + 1
            name = f"{stem}_{self.suffixes[stem]}"
        self.protos[name] = proto
        domain = "" if proto.domain in DEFAULT_DOMAINS else proto.domain
        if domain not in self.opsets and domain:
            raise ImportFailed(f"{proto.op_type} '{name}': the model does not import operators of domain '{domain}'")
        attrs: dict[str, Any] = {}
        for attribute in proto.attribute:
            if attribute.name in attrs:
                raise ImportFailed(f"{proto.op_type} '{name}': attribute '{attribute.name}' is there twice")
            attrs[attribute.name] = self.attribute(attribute, f"{proto.op_type} '{name}'")
        node = OnnxNode(proto.op_type, name, domain, self.opsets[domain], tuple(proto.input), tuple(proto.output), attrs)
        if not domain:
            check_schema(node, proto)
        return node

    def attribute(self, attribute: onnx.AttributeProto, where: str) -> Any:
        """As plain Python: numbers, text, lists of them, numpy for tensors; subgraphs and the like stay protobufs, for the walk to refuse."""
        if attribute.ref_attr_name:
            raise ImportFailed(f"{where}: attribute '{attribute.name}' refers to a function's attribute outside a function")
        if attribute.type == onnx.AttributeProto.TENSOR:
            return self.array(attribute.t, f"{where}: attribute '{attribute.name}'")
        try:
            value = onnx.helper.get_attribute_value(attribute)
            if isinstance(value, bytes):
                return value.decode()
            if attribute.type in (onnx.AttributeProto.FLOATS, onnx.AttributeProto.INTS, onnx.AttributeProto.STRINGS):
                return [v.decode() if isinstance(v, bytes) else v for v in value]
            return value
        except (ValueError, TypeError) as error:
            raise ImportFailed(f"{where}: attribute '{attribute.name}' cannot be read ({first_line(error)})") from None

    def array(self, tensor: onnx.TensorProto, where: str) -> Array:
        """A tensor as numpy array, its data read from beside the model if external."""
        kind = "int8" if tensor.data_type == onnx.TensorProto.INT4 and not tensor.external_data else NUMPY_OF.get(tensor.data_type)
        if kind is None:
            if tensor.data_type in onnx.TensorProto.DataType.values() and tensor.data_type != onnx.TensorProto.UNDEFINED:
                raise Unsupported(f"{where}: element type {onnx.TensorProto.DataType.Name(tensor.data_type)}; export in float32 or int8")
            raise ImportFailed(f"{where}: unknown element type {tensor.data_type}")
        dims = tuple(tensor.dims)
        if any(d < 0 for d in dims) or math.prod(dims) > MAX_COUNT:
            raise ImportFailed(f"{where}: shape {list(dims)} has a negative dimension or more than 2**31 elements")
        dtype = np.dtype(kind)
        try:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                entry = {str(item.key): str(item.value) for item in tensor.external_data}
                data = read_external(self.folder, entry, math.prod(dims) * dtype.itemsize, where)
                return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(dims)
            return np.array(onnx.numpy_helper.to_array(tensor), dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise ImportFailed(f"{where}: the data does not fit shape {list(dims)} of {dtype} ({first_line(error)})") from None

    def evaluate(self, node: OnnxNode, inputs: list[Array | None]) -> list[Array]:
        """The outputs of a node from constants, by ONNX's reference evaluator."""
        proto = self.protos[node.name]
        names = [name for name in dict.fromkeys(proto.input) if name]
        graph = onnx.helper.make_graph(
            [proto],
            "fold",
            [onnx.helper.make_empty_tensor_value_info(name) for name in names],
            [onnx.helper.make_empty_tensor_value_info(name) for name in proto.output if name],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", self.opsets[""])])
        feeds = {name: data for name, data in zip(proto.input, inputs, strict=True) if name}
        try:
            with np.errstate(all="ignore"):
                results = onnx.reference.ReferenceEvaluator(model).run(None, feeds)
        except Exception as error:
            raise ImportFailed(f"{node}: cannot be computed from its constant inputs ({first_line(error)})") from None
        if not all(isinstance(result, np.ndarray | np.generic) for result in results):
            raise Unsupported(f"{node}: gives something else than tensors")
        return [np.asarray(result) for result in results]

    def guess_type(self, name: str, inputs: dict[str, tuple[int, ...]]) -> TensorType | None:
        """What the model or ONNX's shape inference says of a value. Only serves to find further nodes to complain about."""
        if self.guessed is None:
            self.guessed = infer_types(self.proto, inputs)
        return self.guessed.get(name)


def port(info: onnx.ValueInfoProto, what: str) -> Port:
    """A declared input or output."""
    if not info.name:
        raise ImportFailed(f"an {what} of the graph has no name")
    if info.type.WhichOneof("value") not in ("tensor_type", None):
        raise Unsupported(f"{what} '{info.name}' is a {info.type.WhichOneof('value')}, only dense tensors are offered")
    tensor = info.type.tensor_type
    if tensor.elem_type not in NUMPY_OF:
        raise ImportFailed(f"{what} '{info.name}': element type {tensor.elem_type} is missing, unknown or not offered; use float32, int8 or uint8")
    dims = tuple(dim.dim_value if dim.dim_value > 0 else dim.dim_param for dim in tensor.shape.dim)
    return Port(info.name, np.dtype(NUMPY_OF[tensor.elem_type]), dims if tensor.HasField("shape") else None)


def check_schema(node: OnnxNode, proto: onnx.NodeProto) -> None:
    """Counts of inputs and outputs, names and types of attributes of an ai.onnx operator; an unknown operator is the walk's to report.

    Raises: ImportFailed.
    """
    if not onnx.defs.has(node.op):
        return
    if not onnx.defs.has(node.op, node.opset):
        raise ImportFailed(f"{node}: there is no such operator in opset {node.opset}")
    schema = onnx.defs.get_schema(node.op, node.opset)
    limits = (len(node.inputs), schema.min_input, schema.max_input), (len(node.outputs), schema.min_output, schema.max_output)
    for what, (count, low, high) in zip(("inputs", "outputs"), limits, strict=True):
        if not low <= count <= high:
            raise ImportFailed(f"{node}: {count} {what}, opset {node.opset} wants {low}" + (f" to {high}" if high != low else ""))
    for attribute in proto.attribute:
        known = schema.attributes.get(attribute.name)
        if known is None:
            raise ImportFailed(f"{node}: opset {node.opset} has no attribute '{attribute.name}'")
        if int(known.type.value) != attribute.type:
            raise ImportFailed(f"{node}: attribute '{attribute.name}' is a {onnx.AttributeProto.AttributeType.Name(attribute.type)}, wanted {known.type.name}")
    missing = [name for name, known in schema.attributes.items() if known.required and name not in node.attrs]
    if missing:
        raise ImportFailed(f"{node}: attribute '{missing[0]}' is missing")


def infer_types(proto: onnx.ModelProto, inputs: dict[str, tuple[int, ...]]) -> dict[str, TensorType]:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for info in copy.graph.input:
        for dim, size in zip(info.type.tensor_type.shape.dim, inputs.get(info.name, ()), strict=False):
            dim.dim_value = size
    try:
        copy = onnx.shape_inference.infer_shapes(copy, data_prop=True)
    except Exception:  # a guess is optional: the values the model declares remain
        copy = proto
    types: dict[str, TensorType] = {}
    for info in [*copy.graph.value_info, *copy.graph.output]:
        tensor = info.type.tensor_type
        shape = tuple(1 if i == 0 and not dim.dim_value else dim.dim_value for i, dim in enumerate(tensor.shape.dim))
        if tensor.elem_type in NUMPY_OF and tensor.HasField("shape") and min(shape, default=1) > 0:
            dtype = np.dtype(NUMPY_OF[tensor.elem_type])
            types[info.name] = TensorType(DType.F32 if dtype.kind == "f" else DType.of(dtype), shape)
    return types
