# SPDX-License-Identifier: Apache-2.0
"""Pad with a constant.

    y[i] = x[i - before]  where that lies inside x, else `value`

Any layout and rank. Quantized: the fill is clamp(round_half_even(value / s) + z) of the Quant that input and output share.
A crop is imported as a Slice, reflection and repetition of the edge over H and W as a Resize.

Source: ONNX Pad-2 to -21.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from midge.errors import ImportFailed, Unsupported
from midge.ir import Array, Node, Op, TensorType
from midge.ops.build import TO_NHWC, Builder, OnnxNode, onnx_op, quantize
from midge.ops.join import Slice
from midge.ops.lowering import Lowering, Variant
from midge.ops.move import block_params, move, pack_nothing, row_major, shared_rows, shared_types
from midge.ops.resize import Resize, resample
from midge.ops.view import axes_input
from midge.program import Kernel, Window


@dataclass(frozen=True)
class Pad(Op):
    """`pads` is (before, after) for each axis, none negative; `value` is a real number."""

    pads: tuple[tuple[int, int], ...]
    value: float = 0.0

    moves_data = True

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        held = types[0]
        if len(self.pads) != len(held.shape) or any(min(pair) < 0 for pair in self.pads):
            raise ImportFailed(f"pad: pads {self.pads} for input {held.shape}; wanted (before, after) of at least 0 for each axis")
        return [held.with_shape(tuple(before + size + after for (before, after), size in zip(self.pads, held.shape, strict=True)))]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        return [np.pad(inputs[0], self.pads, constant_values=self.fill(out[0]))]

    def permuted(self, perm: tuple[int, ...]) -> Pad:
        """The Pad of the input transposed by perm."""
        return dataclasses.replace(self, pads=tuple(self.pads[axis] for axis in perm))

    def fill(self, out: TensorType) -> Array:
        """`value` as one element of the output."""
        if out.quant is None:
            return np.asarray(self.value).astype(out.dtype.numpy)
        return quantize(np.asarray(self.value), out.dtype, out.q)

    def lower(self, ctx: Lowering, node: Node) -> None:
        x, y = shared_types(ctx, node)
        fill = self.fill(y).reshape(1).view(np.int8)
        if (fill != fill[0]).any():
            raise Unsupported(f"{y.dtype.value} filled with {self.value}; only values whose bytes are all alike, such as 0, are offered")
        size, value = y.dtype.nbytes, int(fill[0])
        rows, first = shared_rows([x.shape, y.shape])
        strides = row_major(y.shape[first:], size)
        offset = sum(before * stride for (before, _), stride in zip(self.pads[first:], strides, strict=True))
        params = block_params(x.shape[first:], row_major(x.shape[first:], size), strides, size, out_offset=offset)
        params.update(out_nbytes=size * math.prod(y.shape[first:]), value=value)
        source = ctx.operand(node.inputs[0], flat=rows is None)
        if rows is not None:
            window = Window(x.shape[rows], pad=self.pads[rows][0], rows_out=y.shape[rows])
            source = dataclasses.replace(source, window=window, pad_row=ctx.pad_row(value, source.row_nbytes) if window.may_pad else None)
        ctx.call(node, ctx.choose(KERNELS, params).kernel, params, [source], {}, flat=rows is None)


KERNELS = (Variant(Kernel("midge_pad_s8", "move"), pack_nothing),)


def _resolve_pads(builder: Builder, node: OnnxNode, rank: int) -> list[tuple[int, int]]:
    """(before, after) per axis, negative where the model crops."""
    if node.opset < 11:
        flat = node.ints("pads" if "pads" in node.attrs else "paddings", [])
        axes = None
    else:
        flat = [int(pad) for pad in builder.required(node, 1, "pads").reshape(-1)]
        axes = axes_input(builder, node, 18, 3) if node.opset >= 18 else None
    axes = list(range(rank)) if axes is None else [node.axis(axis, rank) for axis in axes]
    if len(flat) != 2 * len(axes):
        raise ImportFailed(f"{node}: {len(flat)} pads for {len(axes)} axes; wanted two for each")
    pads = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        pads[axis] = (flat[i], flat[i + len(axes)])
    return pads


def _fill_value(builder: Builder, node: OnnxNode) -> float:
    """The constant as a real number. An integer one fills the stored integers of a quantized input."""
    if node.opset < 11:
        return float(node.attrs.get("value", 0.0))
    if not node.input(2):
        return 0.0
    data = builder.required(node, 2, "constant_value").reshape(-1)
    held = builder.type(node.input(0))
    if held.quant is not None and np.issubdtype(data.dtype, np.integer):
        return (float(data[0]) - held.q.z) * held.q.s
    return float(data[0])


@onnx_op("Pad")
def pad_from_onnx(builder: Builder, node: OnnxNode) -> str:
    x, rank = node.input(0), len(builder.type(node.input(0)).shape)
    pads, mode = _resolve_pads(builder, node, rank), node.text("mode", "constant")
    shape = builder.type(x).shape
    if any(size + before + after < 1 for size, (before, after) in zip(shape, pads, strict=True)):
        raise Unsupported(f"{node}: pads {pads} leave nothing of input {shape}; remove the branch")
    if mode != "constant":
        return _pad_by_index(builder, node, pads, mode)
    value = _fill_value(builder, node)
    if any(min(pair) < 0 for pair in pads):
        starts = tuple(max(0, -before) for before, _ in pads)
        ends = tuple(size - max(0, -after) for size, (_, after) in zip(shape, pads, strict=True))
        x = move(builder, Slice(starts, ends, (1,) * rank), [x])
    grown = tuple((max(0, before), max(0, after)) for before, after in pads)
    return move(builder, Pad(grown, value), [x]) if any(map(any, grown)) else x


def _pad_by_index(builder: Builder, node: OnnxNode, pads: list[tuple[int, int]], mode: str) -> str:
    """Modes that repeat elements of x: over H and W of a rank-3 or rank-4 input only."""
    shape = builder.type(node.input(0)).shape
    if mode not in ("reflect", "edge", "wrap"):
        raise ImportFailed(f"{node}: mode {mode!r}; wanted constant, reflect, edge or wrap")
    if len(shape) not in TO_NHWC or any(map(any, pads[:2])) or any(min(pair) < 0 for pair in pads):
        raise Unsupported(f"{node}: mode {mode} with pads {pads} of input {shape}; only H and W can be padded so, use mode constant for other axes")
    if mode == "reflect" and any(max(pair) >= size for pair, size in zip(pads[2:], shape[2:], strict=True) if any(pair)):
        raise ImportFailed(f"{node}: pads {pads} reflect more than input {shape} has")
    tables = [tuple(int(i) for i in np.pad(np.arange(size), pair, mode=mode)) for size, pair in zip(shape[2:], pads[2:], strict=True)]  # type: ignore[call-overload]
    return resample(builder, node.input(0), Resize(tables[0], tables[1] if len(tables) > 1 else (0,)))
