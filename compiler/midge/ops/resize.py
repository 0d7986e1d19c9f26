# SPDX-License-Identifier: Apache-2.0
"""Resize by nearest neighbour: rows and columns repeated, dropped or reordered.

    y[h, w, c] = x[rows[h], cols[w], c]

x is (1, H, W, C), or (1, L, C) with cols = (0,). Factors, coordinate transformation and rounding of ONNX are resolved into `rows` and `cols` at import.

Source: ONNX Resize-10 to -19 (mode nearest), Upsample-7/9, Pad-2 to -21 (modes reflect, edge, wrap).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from midge.errors import ImportFailed, Unsupported
from midge.ir import Array, Node, Op, TensorType
from midge.ops.build import Builder, OnnxNode, onnx_op
from midge.ops.lowering import Lowering, Packed, Variant
from midge.ops.move import COPY, affine_window, block_params, move, progressions, shared_types
from midge.program import Kernel, Window


@dataclass(frozen=True)
class Resize(Op):
    """Input row of each output row, input column of each output column."""

    rows: tuple[int, ...]
    cols: tuple[int, ...]

    moves_data = True

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        height, width, channels = types[0].hwc
        for table, size in ((self.rows, height), (self.cols, width)):
            if not table or min(table) < 0 or max(table) >= size:
                raise ImportFailed(f"resize: indices {table} of an axis of {size}")
        if len(types[0].shape) == 4:
            return [types[0].with_shape((1, len(self.rows), len(self.cols), channels))]
        if len(types[0].shape) != 3 or self.cols != (0,):
            raise ImportFailed(f"resize: input {types[0].shape}; wanted (1, H, W, C), or (1, L, C) with one column")
        return [types[0].with_shape((1, len(self.rows), channels))]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        return [inputs[0].reshape(types[0].hwc)[np.ix_(self.rows, self.cols)].reshape(out[0].shape)]

    def lower(self, ctx: Lowering, node: Node) -> None:
        """One call for each run of rows that a Window can describe; whole-number factors and plain steps need a single one."""
        x, _ = shared_types(ctx, node)
        height, width, channels = x.hwc
        size = x.dtype.nbytes
        constants: Mapping[str, Packed] = {}
        if self.cols == tuple(range(width)):
            row = [width * channels]
            params = block_params(row, [size], [size], size)
            kernel = ctx.choose(COPY, params).kernel
        else:
            if width > 1 << 15:
                raise Unsupported(f"a row of {width} pixels; up to {1 << 15} are offered")
            params = block_params([len(self.cols)], [0], [0], size) | {"dim_4": len(self.cols), "nbytes": channels * size}
            variant = ctx.choose(KERNELS, params)
            kernel, constants = variant.kernel, variant.pack(self.cols)
        windows = row_windows(self.rows, height)
        for first, count, window in windows:
            source = ctx.operand(node.inputs[0], window)
            ctx.call(node, kernel, params, [source], constants, first_row=first, rows=count)


def row_windows(rows: tuple[int, ...], height: int) -> list[tuple[int, int, Window]]:
    """(first row, row count, Window) of as few calls as read the input rows `rows`."""
    up = rows.count(rows[0])
    if up > 1 and rows == tuple(y // up for y in range(len(rows))):
        return [(0, len(rows), Window(height, up=up))]
    found, first = [], 0
    for run in progressions(list(rows)):
        found.append((first, len(run), affine_window(height, run.start, run.step)))
        first += len(run)
    return found


def pack_columns(cols: tuple[int, ...]) -> dict[str, Array]:
    """midge_move_constants of a gather."""
    return {"columns": np.asarray(cols, np.int16)}


KERNELS = (Variant(Kernel("midge_gather_s8", "move"), pack_columns),)


def resample(builder: Builder, x: str, op: Resize) -> str:
    """The NCHW value of an NCHW value resized; itself if every pixel stays."""
    shape = builder.type(x).shape
    if (op.rows, op.cols) == (tuple(range(shape[2])), tuple(range(shape[3])) if len(shape) > 3 else (0,)):
        return x
    return builder.nchw(move(builder, op, [builder.nhwc(x)]))


def _coordinates(node: OnnxNode, size: int, count: int, scale: np.float32, mode: str) -> Array:
    """Place in the input of each of `count` output elements, in float32 as runtimes compute it."""
    at, half = np.arange(count, dtype=np.float32), np.float32(0.5)
    if mode == "asymmetric":
        return at / scale
    if mode == "align_corners":
        return at * np.float32(size - 1) / np.float32(count - 1) if count > 1 else at
    if mode == "tf_half_pixel_for_nn":
        return (at + half) / scale
    if mode == "pytorch_half_pixel" and count == 1:
        return at
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return (at + half) / scale - half
    if mode == "half_pixel_symmetric":  # runtimes differ in the order of these operations, so float32 ties may fall either way
        adjustment = np.float32(count) / (scale * np.float32(size))
        return np.float32(size) * half * (1 - adjustment) + (at + half) / scale - half
    raise Unsupported(f"{node}: coordinate_transformation_mode {mode!r}; export with asymmetric, half_pixel or align_corners")


def _nearest(node: OnnxNode, places: Array, size: int, mode: str) -> tuple[int, ...]:
    """Index of the element nearest to each place."""
    places = places.astype(np.float64)  # so that adding a half is exact
    rounded = {
        "round_prefer_floor": np.ceil(places - 0.5),
        "round_prefer_ceil": np.floor(places + 0.5 + 1e-5),  # ONNX Runtime takes a place that float32 put just below the half as the half
        "floor": np.floor(places),
        "ceil": np.ceil(places),
    }
    if mode not in rounded:
        raise ImportFailed(f"{node}: nearest_mode {mode!r}; wanted one of {', '.join(rounded)}")
    return tuple(int(i) for i in np.clip(rounded[mode], 0, size - 1))


def _factors(builder: Builder, node: OnnxNode, shape: tuple[int, ...]) -> tuple[list[np.float32], list[int]]:
    """(scale, output size) of each axis, from `scales` or `sizes`."""
    rank = len(shape)
    axes = [node.axis(axis, rank) for axis in node.ints("axes", list(range(rank)))]
    scales, sizes = [np.float32(1)] * rank, list(shape)
    at = 2 if node.opset >= 11 else 1
    if node.op == "Resize" and node.opset >= 11 and node.input(3):
        wanted = [int(v) for v in builder.required(node, 3, "sizes").reshape(-1)]
        if len(wanted) != len(axes) or min(wanted) < 1:
            raise ImportFailed(f"{node}: sizes {wanted} for axes {axes}")
        ratios = [np.float32(want) / np.float32(shape[axis]) for want, axis in zip(wanted, axes, strict=True)]
        policy = node.text("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            ratios, wanted = [ratio] * len(axes), [math.floor(ratio * np.float32(shape[axis]) + np.float32(0.5)) for axis in axes]
        for axis, want, ratio in zip(axes, wanted, ratios, strict=True):
            sizes[axis], scales[axis] = want, ratio
        return scales, sizes
    factors = np.asarray(node.attrs["scales"] if node.opset < 9 else builder.required(node, at if node.op == "Resize" else 1, "scales"), np.float32)
    if factors.size != len(axes) or factors.min() <= 0:
        raise ImportFailed(f"{node}: scales {factors.tolist()} for axes {axes}; wanted a positive one for each")
    for axis, factor in zip(axes, factors.reshape(-1), strict=True):
        scales[axis], sizes[axis] = factor, math.floor(np.float32(shape[axis]) * factor)
    return scales, sizes


@onnx_op("Resize", "Upsample")
def resize_from_onnx(builder: Builder, node: OnnxNode) -> str:
    shape = builder.type(node.input(0)).shape
    scales, sizes = _factors(builder, node, shape)
    if sizes == list(shape) and all(scale == 1 for scale in scales):
        return node.input(0)
    mode = node.text("mode", "nearest")
    if mode != "nearest":
        raise Unsupported(f"{node}: mode {mode!r}; export with mode 'nearest', or use a transposed convolution")
    if len(shape) not in (3, 4) or sizes[:2] != list(shape[:2]) or min(sizes) < 1:
        raise Unsupported(f"{node}: {shape} to {tuple(sizes)}; only H and W of a rank-3 or rank-4 input can be resized")
    legacy = node.op == "Upsample" or node.opset < 11
    transform = "asymmetric" if legacy else node.text("coordinate_transformation_mode", "half_pixel")
    tables = []
    for size, count, scale in zip(shape[2:], sizes[2:], scales[2:], strict=True):
        rounding = ("ceil" if scale < 1 else "floor") if legacy else node.text("nearest_mode", "round_prefer_floor")
        identity = scale == 1 and size == count  # runtimes leave such an axis alone, whatever the modes say
        tables.append(tuple(range(size)) if identity else _nearest(node, _coordinates(node, size, count, scale, transform), size, rounding))
    return resample(builder, node.input(0), Resize(tables[0], tables[1] if len(tables) > 1 else (0,)))
