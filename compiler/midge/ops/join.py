# SPDX-License-Identifier: Apache-2.0
"""Concat and Slice: tensors put together and taken apart along axes.

    Concat: y[..., i, ...] = x_k[..., i - start_k, ...]   where start_k is the sum of the sizes before input k
    Slice:  y[i] = x[starts + i * steps]

Any layout and rank. Split, Tile, and Gather with constant indices are imported as these two.

Source: ONNX Concat-4 to -13, Slice-1 to -13, Split-2 to -18, Tile-6/13, Expand-8/13, Gather-1 to -13.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midge.errors import ImportFailed, Unsupported
from midge.ir import Array, DType, Node, Op, TensorType
from midge.ops.build import Builder, OnnxNode, onnx_op
from midge.ops.lowering import Lowering
from midge.ops.move import COPY, affine_window, block_params, move, progressions, row_major, shared_rows, shared_types


@dataclass(frozen=True)
class Concat(Op):
    """All inputs agree on every axis but `axis`."""

    axis: int

    moves_data = True

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        first = types[0]
        rests = {held.shape[: self.axis] + held.shape[self.axis + 1 :] for held in types}
        if len(rests) != 1 or not 0 <= self.axis < len(first.shape):
            raise ImportFailed(f"concat: inputs {[held.shape for held in types]} differ on more than axis {self.axis}")
        shape = list(first.shape)
        shape[self.axis] = sum(held.shape[self.axis] for held in types)
        alike = all((held.dtype, held.quant) == (first.dtype, first.quant) for held in types)
        return [first.with_shape(tuple(shape)) if alike else TensorType(DType.F32, tuple(shape))]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        return [np.concatenate(inputs, self.axis)]

    def permuted(self, perm: tuple[int, ...]) -> Concat:
        """The Concat of the inputs transposed by perm."""
        return Concat(perm.index(self.axis))

    def lower(self, ctx: Lowering, node: Node) -> None:
        """A call for each input: a run of rows if `axis` is H, a part of every row if it lies inside, a part of the tensor otherwise."""
        _, out = shared_types(ctx, node)
        shapes = [ctx.graph.type(name).shape for name in node.inputs]
        rows, first = shared_rows([*shapes, out.shape])
        if rows is not None and self.axis < rows:
            rows, first = None, 0
        size, strides, start = out.dtype.nbytes, row_major(out.shape, out.dtype.nbytes), 0
        for name, shape in zip(node.inputs, shapes, strict=True):
            count, stacked = shape[self.axis], self.axis == rows
            offset = 0 if stacked else start * strides[self.axis]
            params = block_params(shape[first:], row_major(shape[first:], size), strides[first:], size, out_offset=offset)
            source = ctx.operand(name, flat=rows is None)
            kernel = ctx.choose(COPY, params).kernel
            if stacked:
                ctx.call(node, kernel, params, [source], {}, first_row=start, rows=count)
            else:
                ctx.call(node, kernel, params, [source], {}, flat=rows is None)
            start += count


@dataclass(frozen=True)
class Slice(Op):
    """Every axis: from starts (at least 0) to before ends (at most the size) in steps of at least 1."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    steps: tuple[int, ...]

    moves_data = True

    def ranges(self) -> list[range]:
        """Indices taken of each axis."""
        return [range(*bounds) for bounds in zip(self.starts, self.ends, self.steps, strict=True)]

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        shape, taken = types[0].shape, self.ranges()
        if (
            len(taken) != len(shape)
            or min(self.starts, default=0) < 0
            or min(self.steps, default=1) < 1
            or any(e > n for e, n in zip(self.ends, shape, strict=True))
        ):
            raise ImportFailed(f"slice: {taken} of input {shape}; wanted a range inside every axis")
        return [types[0].with_shape(tuple(map(len, taken)))]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        return [np.ascontiguousarray(inputs[0][tuple(slice(r.start, r.stop, r.step) for r in self.ranges())])]

    def permuted(self, perm: tuple[int, ...]) -> Slice:
        """The Slice of the input transposed by perm."""
        return Slice(*(tuple(bounds[axis] for axis in perm) for bounds in (self.starts, self.ends, self.steps)))

    def lower(self, ctx: Lowering, node: Node) -> None:
        x, y = shared_types(ctx, node)
        size = x.dtype.nbytes
        rows, first = shared_rows([x.shape, y.shape])
        strides = row_major(x.shape, size)
        offset = sum(start * stride for start, stride in zip(self.starts[first:], strides[first:], strict=True))
        stepped = [step * stride for step, stride in zip(self.steps[first:], strides[first:], strict=True)]
        params = block_params(y.shape[first:], stepped, row_major(y.shape[first:], size), size, in_offset=offset)
        window = affine_window(x.shape[rows], self.starts[rows], self.steps[rows]) if rows is not None else None
        ctx.call(node, ctx.choose(COPY, params).kernel, params, [ctx.operand(node.inputs[0], window, flat=rows is None)], {}, flat=rows is None)


def take(builder: Builder, x: str, axis: int, wanted: range) -> str:
    """x[..., wanted, ...] along one axis; x itself if that is all of it."""
    shape = builder.type(x).shape
    if wanted == range(shape[axis]):
        return x
    starts, ends, steps = [0] * len(shape), list(shape), [1] * len(shape)
    starts[axis], ends[axis], steps[axis] = wanted.start, wanted[-1] + 1, wanted.step
    return move(builder, Slice(tuple(starts), tuple(ends), tuple(steps)), [x])


@onnx_op("Concat")
def concat_from_onnx(builder: Builder, node: OnnxNode) -> str:
    inputs = [name for name in node.inputs if name and builder.type(name).count]
    if not inputs:
        raise ImportFailed(f"{node}: no input has any element")
    rank = len(builder.type(inputs[0]).shape)
    if any(len(builder.type(name).shape) != rank for name in inputs):
        raise ImportFailed(f"{node}: inputs of different rank: {[builder.type(name).shape for name in inputs]}")
    return inputs[0] if len(inputs) == 1 else move(builder, Concat(node.axis(int(node.attrs.get("axis", 1)), rank)), inputs)


@onnx_op("Slice")
def slice_from_onnx(builder: Builder, node: OnnxNode) -> str:
    shape = builder.type(node.input(0)).shape
    if node.opset < 10:
        starts, ends = node.ints("starts", []), node.ints("ends", [])
        axes, steps = node.ints("axes", list(range(len(starts)))), [1] * len(starts)
    else:
        starts, ends = ([int(v) for v in builder.required(node, i, what).reshape(-1)] for i, what in ((1, "starts"), (2, "ends")))
        axes = [int(v) for v in builder.required(node, 3, "axes").reshape(-1)] if node.input(3) else list(range(len(starts)))
        steps = [int(v) for v in builder.required(node, 4, "steps").reshape(-1)] if node.input(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise ImportFailed(f"{node}: starts {starts}, ends {ends}, axes {axes}, steps {steps}; wanted equally many, and steps other than 0")
    if min(steps, default=1) < 0:
        raise Unsupported(f"{node}: steps {steps}; steps of at least 1 are offered: reverse the order of the weights that follow instead")
    taken = [range(size) for size in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = node.axis(axis, len(shape))
        taken[at] = range(shape[at])[start:end:step]
    if not all(taken):
        raise Unsupported(f"{node}: nothing is left of input {shape}; remove the branch")
    if taken == [range(size) for size in shape]:
        return node.input(0)
    op = Slice(tuple(r.start for r in taken), tuple(r[-1] + 1 for r in taken), tuple(r.step for r in taken))
    return move(builder, op, [node.input(0)])


@onnx_op("Split")
def split_from_onnx(builder: Builder, node: OnnxNode) -> list[str]:
    """One Slice for each output."""
    shape = builder.type(node.input(0)).shape
    axis, count = node.axis(int(node.attrs.get("axis", 0)), len(shape)), len(node.outputs)
    if node.opset < 13 and "split" in node.attrs:
        sizes = node.ints("split", [])
    elif node.input(1):
        sizes = [int(v) for v in builder.required(node, 1, "split").reshape(-1)]
    else:
        each = -(-shape[axis] // count)
        sizes = [each] * (count - 1) + [shape[axis] - each * (count - 1)]
    if sum(sizes) != shape[axis] or len(sizes) != count or min(sizes) < 1:
        raise ImportFailed(f"{node}: split {sizes} into {count} outputs; axis {axis} of {shape} has {shape[axis]}")
    starts = [sum(sizes[:i]) for i in range(count)]
    return [take(builder, node.input(0), axis, range(start, start + size)) for start, size in zip(starts, sizes, strict=True)]


def _repeat(builder: Builder, node: OnnxNode, x: str, repeats: list[int]) -> str:
    """x repeated along every axis, as Concats of x with itself."""
    if max(repeats, default=1) > 16:
        raise Unsupported(f"{node}: repeats {repeats}; up to 16 are offered: let the operator that follows broadcast instead")
    for axis, times in enumerate(repeats):
        x = move(builder, Concat(axis), [x] * times) if times > 1 else x
    return x


@onnx_op("Tile")
def tile_from_onnx(builder: Builder, node: OnnxNode) -> str:
    repeats = [int(v) for v in builder.required(node, 1, "repeats").reshape(-1)]
    shape = builder.type(node.input(0)).shape
    if len(repeats) != len(shape) or min(repeats, default=1) < 1:
        raise ImportFailed(f"{node}: repeats {repeats} of input {shape}; wanted at least 1 for each axis")
    return _repeat(builder, node, node.input(0), repeats)


@onnx_op("Expand")
def expand_from_onnx(builder: Builder, node: OnnxNode) -> str:
    """Broadcasting spelled out; nothing to do where the shape already fits."""
    x, wanted = node.input(0), tuple(int(v) for v in builder.required(node, 1, "shape").reshape(-1))
    try:
        target = np.broadcast_shapes(builder.type(x).shape, wanted)
    except ValueError:
        raise ImportFailed(f"{node}: input {builder.type(x).shape} does not broadcast to {wanted}") from None
    x = builder.reshape(x, (1,) * (len(target) - len(builder.type(x).shape)) + builder.type(x).shape)
    held = builder.type(x).shape
    return _repeat(builder, node, x, [want // have for want, have in zip(target, held, strict=True)])


@onnx_op("Gather")
def gather_from_onnx(builder: Builder, node: OnnxNode) -> str:
    """Constant indices: a Slice for each arithmetic progression among them."""
    x, indices = node.input(0), builder.required(node, 1, "indices").astype(np.int64)
    shape = builder.type(x).shape
    axis = node.axis(int(node.attrs.get("axis", 0)), len(shape))
    if indices.size == 0 or indices.min() < -shape[axis] or indices.max() >= shape[axis]:
        raise ImportFailed(f"{node}: indices {indices.tolist()} of axis {axis} of {shape}")
    runs = progressions([int(i) % shape[axis] for i in indices.reshape(-1)])
    if len(runs) > 16:
        raise Unsupported(f"{node}: {len(runs)} separate runs of indices, up to 16 are offered; reorder the weights around it instead")
    parts = [take(builder, x, axis, run) for run in runs]
    joined = parts[0] if len(parts) == 1 else move(builder, Concat(axis), parts)
    return builder.reshape(joined, shape[:axis] + indices.shape + shape[axis + 1 :])
