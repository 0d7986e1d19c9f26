# SPDX-License-Identifier: Apache-2.0
"""Reshape: the same elements in the same order under another shape. No bytes move and no code is emitted.

    y = x.reshape(shape)

Any rank. Reshape counts elements in the layout of the tensor it reads, so the importer emits it in ONNX's (NCHW) layout.

Source: ONNX Reshape-1 to -21, Flatten-1 to -13, Squeeze-1/13, Unsqueeze-1/13, Identity, Dropout-1 to -13 (inference), Cast between float types.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from midge.errors import ImportFailed, Unsupported
from midge.ir import Array, DType, Node, Op, TensorType
from midge.ops.build import Builder, OnnxNode, onnx_op
from midge.ops.lowering import Lowering


@dataclass(frozen=True)
class Reshape(Op):
    """`shape` is the full target shape: no 0 and no -1 left in it."""

    shape: tuple[int, ...]

    moves_data = True

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        held = types[0]
        if math.prod(self.shape) != held.count:
            raise ImportFailed(f"reshape: {held.count} elements of {held.shape} do not fit shape {self.shape}")
        if held.quant is not None and held.quant.axis is not None:
            raise Unsupported("reshape: the activation is quantized per channel; quantize activations per tensor")
        return [held.with_shape(self.shape)]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        return [inputs[0].reshape(self.shape)]

    def lower(self, ctx: Lowering, node: Node) -> None:
        ctx.alias(node.outputs[0], node.inputs[0])


def resolve_shape(node: OnnxNode, held: tuple[int, ...], wanted: list[int], *, allow_zero: bool) -> tuple[int, ...]:
    """`wanted` without 0 (copy the axis of `held`, unless allow_zero) and -1 (what remains).

    A first axis that was written down for a larger batch becomes 1.
    Raises: ImportFailed if the counts of elements cannot agree.
    """
    shape = list(wanted)
    if not allow_zero:
        if any(size == 0 and axis >= len(held) for axis, size in enumerate(shape)):
            raise ImportFailed(f"{node}: shape {wanted} copies an axis that input {held} does not have")
        shape = [held[axis] if size == 0 else size for axis, size in enumerate(shape)]
    count, known = math.prod(held), math.prod(size for size in shape if size != -1)
    if min(shape, default=1) < -1 or shape.count(-1) > 1:
        raise ImportFailed(f"{node}: shape {wanted}; wanted sizes of at least 0 and at most one -1")
    if -1 in shape and known > 0 and count % known == 0:
        shape[shape.index(-1)] = count // known
    elif -1 not in shape and known != count and held[:1] == (1,) and math.prod(shape[1:]) == count:
        shape[0] = 1
    if -1 in shape or math.prod(shape) != count:
        raise ImportFailed(f"{node}: {count} elements of {held} do not fit shape {wanted}")
    return tuple(shape)


@onnx_op("Reshape")
def reshape_from_onnx(builder: Builder, node: OnnxNode) -> str:
    wanted = node.ints("shape", []) if node.opset < 5 else [int(size) for size in builder.required(node, 1, "shape").reshape(-1)]
    held = builder.type(node.input(0)).shape
    return builder.reshape(node.input(0), resolve_shape(node, held, wanted, allow_zero=bool(node.attrs.get("allowzero", 0))))


@onnx_op("Flatten")
def flatten_from_onnx(builder: Builder, node: OnnxNode) -> str:
    """(product of the axes before `axis`, product of the rest)."""
    shape, axis = builder.type(node.input(0)).shape, int(node.attrs.get("axis", 1))
    if axis != len(shape):
        axis = node.axis(axis, len(shape))
    return builder.reshape(node.input(0), (math.prod(shape[:axis]), math.prod(shape[axis:])))


def axes_input(builder: Builder, node: OnnxNode, since: int, index: int = 1) -> list[int] | None:
    """`axes`, an attribute before opset `since` and input `index` from then on; None if absent."""
    if node.opset < since:
        return node.ints("axes", []) if "axes" in node.attrs else None
    return [int(axis) for axis in builder.required(node, index, "axes").reshape(-1)] if node.input(index) else None


@onnx_op("Squeeze")
def squeeze_from_onnx(builder: Builder, node: OnnxNode) -> str:
    shape, axes = builder.type(node.input(0)).shape, axes_input(builder, node, 13)
    dropped = {axis for axis, size in enumerate(shape) if size == 1} if axes is None else {node.axis(axis, len(shape)) for axis in axes}
    if any(shape[axis] != 1 for axis in dropped):
        raise ImportFailed(f"{node}: axes {sorted(dropped)} of {shape} are not all 1")
    return builder.reshape(node.input(0), tuple(size for axis, size in enumerate(shape) if axis not in dropped))


@onnx_op("Unsqueeze")
def unsqueeze_from_onnx(builder: Builder, node: OnnxNode) -> str:
    shape, axes = builder.type(node.input(0)).shape, axes_input(builder, node, 13)
    if axes is None:
        raise ImportFailed(f"{node}: axes are missing")
    rank = len(shape) + len(axes)
    added = {node.axis(axis, rank) for axis in axes}
    if len(added) != len(axes):
        raise ImportFailed(f"{node}: axes {axes} name one axis twice")
    sizes = iter(shape)
    return builder.reshape(node.input(0), tuple(1 if axis in added else next(sizes) for axis in range(rank)))


@onnx_op("Identity")
def identity_from_onnx(builder: Builder, node: OnnxNode) -> str:
    return node.input(0)


@onnx_op("Dropout")
def dropout_from_onnx(builder: Builder, node: OnnxNode) -> list[str]:
    """Inference: y = x; the mask, if asked for, keeps everything."""
    if node.input(2) and bool(builder.required(node, 2, "training_mode").reshape(-1)[0]):
        raise Unsupported(f"{node}: training mode; export the model in evaluation mode")
    if len(node.outputs) < 2 or not node.outputs[1]:
        return [node.input(0)]
    return [node.input(0), builder.constant(f"{node.name}_mask", np.ones(builder.type(node.input(0)).shape, np.bool_))]


_CAST = {1: "float32", 2: "uint8", 3: "int8", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}  # TensorProto.DataType


@onnx_op("Cast")
def cast_from_onnx(builder: Builder, node: OnnxNode) -> str:
    """Constants are converted; a computed value may only change between float types, which midge does not tell apart."""
    x, wanted = node.input(0), _CAST.get(node.attrs.get("to", 0))
    if wanted is None:
        raise Unsupported(f"{node}: data type {node.attrs.get('to')}; float, int8 to int64, uint8 and bool are offered")
    held, data = builder.type(x), builder.real(x)
    to_float = np.issubdtype(np.dtype(wanted), np.floating)
    if data is not None:
        return builder.constant(x, data.astype(np.float32 if to_float else wanted))
    real = held.dtype.is_float or held.quant is not None
    if (real and to_float) or (not real and held.dtype is DType.of(wanted if not to_float else np.float32)):
        return x
    raise Unsupported(f"{node}: {held.dtype.value} to {wanted} at run time; cast constants only, or quantize with QuantizeLinear")
