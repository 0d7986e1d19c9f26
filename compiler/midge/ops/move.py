# SPDX-License-Identifier: Apache-2.0
"""Transpose: the same elements under permuted axes; and the block copy that every operator which only moves elements is lowered to.

    y[i[perm[0]], i[perm[1]], ...] = x[i[0], i[1], ...]

Any layout and rank; five axes may move after axes of size 1 are dropped and neighbours that travel together are merged.

Source: ONNX Transpose-1 to -23, DepthToSpace-1 to -13, SpaceToDepth-1/13.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from midge.errors import ImportFailed, IRError, Unsupported
from midge.ir import Array, Node, Op, Quant, TensorType
from midge.ops.build import Builder, OnnxNode, onnx_op
from midge.ops.lowering import Lowering, Variant
from midge.program import Kernel, Window

DIMS = 5  # of the loop nest in kernels/move.c


@dataclass(frozen=True)
class Transpose(Op):
    """Output axis i is input axis perm[i]."""

    perm: tuple[int, ...]

    moves_data = True

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        held = types[0]
        if sorted(self.perm) != list(range(len(held.shape))):
            raise ImportFailed(f"transpose: perm {self.perm} is no permutation of the {len(held.shape)} axes of {held.shape}")
        quant = held.quant
        if quant is not None and quant.axis is not None:
            quant = Quant(quant.scale, quant.zero_point, self.perm.index(quant.axis))
        return [TensorType(held.dtype, tuple(held.shape[axis] for axis in self.perm), quant)]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        return [np.ascontiguousarray(np.transpose(inputs[0], self.perm))]

    def is_view(self, shape: tuple[int, ...]) -> bool:
        """Whether the axes larger than 1 keep their order, so that no byte moves."""
        moved = [axis for axis in self.perm if shape[axis] > 1]
        return moved == sorted(moved)

    def lower(self, ctx: Lowering, node: Node) -> None:
        x, y = shared_types(ctx, node)
        if self.is_view(x.shape):
            ctx.alias(node.outputs[0], node.inputs[0])
            return
        size, strides = x.dtype.nbytes, row_major(x.shape, x.dtype.nbytes)
        rows, first = shared_rows([x.shape, y.shape])
        if rows is None or self.perm[rows] != rows:
            first = 0
        params = block_params(y.shape[first:], [strides[axis] for axis in self.perm[first:]], row_major(y.shape[first:], size), size)
        ctx.call(node, ctx.choose(COPY, params).kernel, params, [ctx.operand(node.inputs[0], flat=not first)], {}, flat=not first)


def pack_nothing() -> dict[str, Array]:
    """These kernels have no constants."""
    return {}


KERNELS = COPY = (Variant(Kernel("midge_copy_s8", "move"), pack_nothing),)


def shared_types(ctx: Lowering, node: Node) -> tuple[TensorType, TensorType]:
    """Types of the first input and the output of a node that moves data.

    Raises: IRError if any input's element type or Quant differs from the output's.
    """
    out = ctx.graph.type(node.outputs[0])
    for name in node.inputs:
        held = ctx.graph.type(name)
        if (held.dtype, held.quant) != (out.dtype, out.quant):
            raise IRError(f"{node.op.kind.lower()} '{node.name}': '{name}' is {held}, the output {out}; they must share one Quant when lowered")
    return ctx.graph.type(node.inputs[0]), out


def rows_axis(shape: tuple[int, ...]) -> int | None:
    """The axis whose indices are the rows of the tensor's buffer (see TensorType.hwc); None if the whole tensor is one row."""
    first = 1 if len(shape) > 1 and shape[0] == 1 else 0
    return first if len(shape) - first in (2, 3) else None


def shared_rows(shapes: Sequence[tuple[int, ...]]) -> tuple[int | None, int]:
    """(axis of rows, first axis inside a row) if all shapes have the same axis of rows, else (None, 0): the tensors are moved whole."""
    found = {rows_axis(shape) for shape in shapes}
    rows = found.pop()
    return (None, 0) if found or rows is None else (rows, rows + 1)


def row_major(dims: Sequence[int], size: int) -> list[int]:
    """Byte strides of a contiguous tensor with elements of `size` bytes."""
    return [size * math.prod(dims[axis + 1 :]) for axis in range(len(dims))]


def block_params(
    dims: Sequence[int], in_strides: Sequence[int], out_strides: Sequence[int], size: int, in_offset: int = 0, out_offset: int = 0
) -> dict[str, int]:
    """midge_move_params of a block of `dims` elements of `size` bytes; strides and offsets are bytes.

    Raises: Unsupported if more than five loops remain after merging.
    """
    merged: list[tuple[int, int, int]] = []  # (dim, in_stride, out_stride), innermost first
    for axis in reversed(range(len(dims))):
        if dims[axis] == 1:
            continue
        step = (in_strides[axis], out_strides[axis])
        if merged and step == (merged[-1][0] * merged[-1][1], merged[-1][0] * merged[-1][2]):
            merged[-1] = (merged[-1][0] * dims[axis], *merged[-1][1:])
        else:
            merged.append((dims[axis], *step))
    nbytes = size
    if merged and merged[0][1:] == (size, size):
        nbytes = merged.pop(0)[0] * size
    if len(merged) > DIMS:
        raise Unsupported(f"{len(merged)} axes move independently, {DIMS} are offered; split the operator in two")
    loops = (merged + [(1, 0, 0)] * DIMS)[:DIMS][::-1]
    params = {f"{name}_{i}": loops[i][which] for which, name in enumerate(("dim", "in_stride", "out_stride")) for i in range(DIMS)}
    return {**params, "in_offset": in_offset, "out_offset": out_offset, "nbytes": nbytes, "out_nbytes": 0, "value": 0}


def affine_window(height: int, start: int, stride: int = 1) -> Window:
    """The Window that reads input row start + y * stride for row y of the call."""
    return Window(height, stride=stride, pad=-start)


def progressions(indices: list[int]) -> list[range]:
    """`indices` as few ascending arithmetic progressions, in order."""
    runs: list[range] = []
    for index in indices:
        last = runs[-1] if runs else range(0)
        step = index - last[-1] if last else 0
        if last and step >= 1 and (len(last) == 1 or step == last.step):
            runs[-1] = range(last.start, index + 1, step)
        else:
            runs.append(range(index, index + 1))
    return runs


def move(builder: Builder, op: Op, inputs: list[str]) -> str:
    """Append an operator that moves data; folded if all its inputs are constants with one Quant per tensor."""
    arrays, types = [builder.graph.data(name) for name in inputs], builder.graph.types(inputs)
    known = [data for data in arrays if data is not None]
    if len(known) == len(inputs) and all((t.dtype, t.quant) == (types[0].dtype, types[0].quant) for t in types):
        out = op.infer(types)
        return builder.constant(inputs[0], op.reference(known, types, out, "onnx")[0], out[0].quant)
    return builder.emit1(op, inputs)


@onnx_op("Transpose")
def transpose_from_onnx(builder: Builder, node: OnnxNode) -> str:
    rank = len(builder.type(node.input(0)).shape)
    perm = tuple(node.ints("perm", list(range(rank))[::-1]))
    if sorted(perm) != list(range(rank)):
        raise ImportFailed(f"{node}: perm {perm} is no permutation of {rank} axes")
    return builder.transpose(node.input(0), perm)


def _block(builder: Builder, node: OnnxNode) -> tuple[str, int, int, int, int]:
    """(NHWC value, H, W, C, block size) of DepthToSpace and SpaceToDepth."""
    shape, block = builder.type(node.input(0)).shape, int(node.attrs.get("blocksize", 0))
    if block < 1 or len(shape) != 4:
        raise ImportFailed(f"{node}: blocksize {block} of input {shape}; wanted at least 1 and rank 4")
    if shape[0] != 1:
        raise Unsupported(f"{node}: a batch of {shape[0]}; export the model with batch 1")
    return builder.nhwc(node.input(0)), shape[2], shape[3], shape[1], block


@onnx_op("DepthToSpace")
def depth_to_space_from_onnx(builder: Builder, node: OnnxNode) -> str:
    """Channels to b x b pixels; their order in the channel is (by, bx, c) in mode DCR and (c, by, bx) in mode CRD."""
    x, height, width, channels, block = _block(builder, node)
    mode = node.text("mode", "DCR")
    if channels % (block * block) or mode not in ("DCR", "CRD"):
        raise ImportFailed(f"{node}: {channels} channels, blocksize {block}, mode {mode}; wanted a multiple of blocksize^2, DCR or CRD")
    depth = channels // (block * block)
    split = (height, width, block, block, depth) if mode == "DCR" else (height, width, depth, block, block)
    y = builder.transpose(builder.reshape(x, split), (0, 2, 1, 3, 4) if mode == "DCR" else (0, 3, 1, 4, 2))
    return builder.nchw(builder.reshape(y, (1, height * block, width * block, depth)))


@onnx_op("SpaceToDepth")
def space_to_depth_from_onnx(builder: Builder, node: OnnxNode) -> str:
    """b x b pixels to channels in the order (by, bx, c)."""
    x, height, width, channels, block = _block(builder, node)
    if height % block or width % block:
        raise ImportFailed(f"{node}: {height}x{width} pixels are no multiple of blocksize {block}")
    split = builder.reshape(x, (height // block, block, width // block, block, channels))
    y = builder.transpose(split, (0, 2, 1, 3, 4))
    return builder.nchw(builder.reshape(y, (1, height // block, width // block, block * block * channels)))
