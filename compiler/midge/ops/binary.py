# SPDX-License-Identifier: Apache-2.0
"""Sum, difference and product of two tensors, element by element, with numpy broadcasting.

    y[..., c] = clamp(a[..., c] + b[..., c], low, high)        Sub: a - b, Mul: a * b

Any rank up to 4, any layout; the operand with fewer axes is extended on the left. Quantized: a, b and y int8 per tensor; constants too.
`onnx` numerics: s_a / s_y * (a - z_a) + s_b / s_y * (b - z_b) in units of 2**-32, rounded once, ties to even, before z_y is added.
`tflite`: both operands are brought to the scale 2 * max(s_a, s_b) * 2**-20, added, and rescaled; Mul is one requantization of the product.

Source: ONNX Add, Sub, Mul, Div-7 to -14, Sum-8; TensorFlow Lite ADD, SUB and MUL for int8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from midge.errors import ImportFailed, IRError, Unsupported
from midge.fixedpoint import Int64, activation_range, quantize_multiplier, requantize, shift_right_half_even
from midge.ir import Array, DType, Node, Op, TensorType
from midge.ops.binary_dyadic import find_dyadic, lower_dyadic
from midge.ops.binary_linear import find_linear, lower_linear, takes_linear
from midge.ops.binary_product import find_product
from midge.ops.binary_terms import TERMS_NBYTES, Terms, find_terms, lower_terms
from midge.ops.build import Builder, OnnxNode, dequantize, onnx_op
from midge.ops.lowering import Lowering
from midge.ops.unary import call_table
from midge.program import Kernel, Window

ADD_SHIFT = 20  # bits that tflite's Add and Sub gain before the operands are scaled
MAX_SHIFT = 20  # operands have 9 bits: beyond that a scaled one does not fit in 32
SPARE_NBYTES = 16384  # of tables that "balanced" adds to a model
SATURATING = 4096.0  # a product of integers other than 0 times this saturates any 8-bit output


@dataclass(frozen=True)
class Binary(Op):
    """What Add, Sub and Mul share; low and high are the fused clamp in real numbers."""

    low: float = -math.inf
    high: float = math.inf

    elementwise = True

    def combine(self, a: Array, b: Array) -> Array:
        """The operation itself, on real numbers or on exact integers."""
        raise NotImplementedError

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        try:
            shape = np.broadcast_shapes(types[0].shape, types[1].shape)
        except ValueError:
            raise ImportFailed(f"{self.kind.lower()}: shapes {types[0].shape} and {types[1].shape} do not broadcast") from None
        plain = all(not t.dtype.is_float and t.quant is None for t in types)  # shape arithmetic
        return [TensorType(types[0].dtype if plain else DType.F32, shape)]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        if out[0].quant is None:
            y = np.clip(self.combine(*(x if out[0].dtype is not DType.F32 else x.astype(np.float64) for x in inputs)), self.low, self.high)
            return [np.asarray(y, out[0].dtype.numpy)]
        p = binary_params(self, types, out[0], numerics, flat=False)
        a, b = inputs[0].astype(np.int64) - p["a_zero_point"], inputs[1].astype(np.int64) - p["b_zero_point"]
        y = np.clip(self.scaled(a, b, p, numerics) + p["zero_point"], p["act_min"], p["act_max"])
        return [y.astype(np.int8)]

    def scaled(self, a: Int64, b: Int64, p: dict[str, int], numerics: str) -> Int64:
        """The output in its own scale, from operands without zero points."""
        if numerics == "onnx":
            return shift_right_half_even(self.combine((a << p["shift"]) * p["a_multiplier"], (b << p["shift"]) * p["b_multiplier"]), 32)
        a = requantize(a << ADD_SHIFT, p["a_multiplier"], p["a_shift"], numerics)
        b = requantize(b << ADD_SHIFT, p["b_multiplier"], p["b_shift"], numerics)
        return requantize(self.combine(a, b), p["multiplier"], p["shift"], numerics)

    def factors(self, types: list[TensorType], out: TensorType, numerics: str) -> dict[str, int]:
        """Multipliers and shifts of midge_binary_params."""
        scales = types[0].q.s, types[1].q.s
        if numerics == "onnx":
            (a, b), shift = word_multipliers([scale / out.q.s for scale in scales])
            return {"a_multiplier": a, "a_shift": 0, "b_multiplier": b, "b_shift": 0, "multiplier": 0, "shift": shift}
        largest = 2.0 * max(scales)
        pairs = [quantize_multiplier(ratio) for ratio in (scales[0] / largest, scales[1] / largest, largest / (out.q.s * (1 << ADD_SHIFT)))]
        if pairs[2][1] > 0:
            raise Unsupported(f"{self.kind.lower()}: the output scale {out.q.s} is under 2**-20 of the larger input scale {max(scales)}")
        return dict(zip(("a_multiplier", "a_shift", "b_multiplier", "b_shift", "multiplier", "shift"), (n for pair in pairs for n in pair), strict=True))

    def lower(self, ctx: Lowering, node: Node) -> None:
        types, out = ctx.graph.types(node.inputs), ctx.graph.type(node.outputs[0])
        every = np.arange(-128, 128, dtype=np.int8)
        if ctx.root(node.inputs[0]) == ctx.root(node.inputs[1]) and types[0].count == out.count:
            return self.lower_table(ctx, node, 0, [every, every])
        for index in (0, 1):
            constant = ctx.graph.data(node.inputs[1 - index])
            if constant is not None and constant.size == 1 and types[index].count == out.count:
                return self.lower_table(ctx, node, index, [every, constant.reshape(1)][:: 1 if index == 0 else -1])
        signs, limits = self.signs(), activation_range(self.low, self.high, out.q.s, out.q.z)
        whole_tensors = all(t.count == out.count for t in types)
        a, b = (sign * float(t.q.s) / float(out.q.s) for sign, t in zip(signs or (0, 0), types, strict=True))
        if signs and takes_linear(ctx, types, out):
            linear = find_linear(self.all_results(ctx, types, out), a, b, out.q.z - a * types[0].q.z - b * types[1].q.z, limits)
            if linear is not None:
                return lower_linear(ctx, node, linear, limits)
        terms = self.terms(ctx, types, out) if whole_tensors else "an operand is broadcast"
        if isinstance(terms, Terms):
            return lower_terms(ctx, node, terms, limits)
        ctx.refusals = [f"terms_s8: {terms}"] if terms else []
        if signs and whole_tensors and ctx.optimize != "size" and ctx.graph.numerics == "onnx":
            dyadic = find_dyadic(self.all_results(ctx, types, out), (a, b), (types[0].q.z, types[1].q.z, out.q.z), limits)
            if dyadic is not None:
                return lower_dyadic(ctx, node, dyadic, limits)
        flat = whole_tensors
        operands = [ctx.operand(name, None if flat else row_window(kind, out), flat=flat) for name, kind in zip(node.inputs, types, strict=True)]
        whole = (i for i in (0, 1) if types[i].count == out.count and not ctx.graph.is_constant(node.inputs[i]))
        params = binary_params(self, types, out, ctx.graph.numerics, flat=flat)
        kind, factors = self.kind.lower(), None
        if kind == "mul" and ctx.optimize != "size":
            factors = find_product(self.all_results(ctx, types, out), types[0].q.s * types[1].q.s / out.q.s, params, ctx.graph.numerics)
        kernel = Kernel(f"midge_{'product' if factors else kind}_s8", "elementwise", profiled=True)
        ctx.call(node, kernel, params | (factors or {}), operands, {}, flat=flat, in_place=next(whole, None), splits=("channels",) if flat else ())
        return None

    def terms(self, ctx: Lowering, types: list[TensorType], out: TensorType) -> Terms | str:
        """Both operands as tables whose sum is the output, or why there are none; '' where there never are."""
        signs = self.signs()
        if signs is None or ctx.optimize == "size":
            return "costs more bytes than the portable kernel" if signs else ""
        spent = sum(c.data.nbytes for name, c in ctx.program.constants.items() if "_terms" in name)
        if ctx.optimize != "speed" and (spent + TERMS_NBYTES > SPARE_NBYTES or out.count < TERMS_NBYTES // 2):
            return f"{TERMS_NBYTES} bytes of tables for {out.count} elements, after {spent}"
        every = np.arange(-128, 128, dtype=np.int64)
        a, b = (sign * (every - t.q.z) * t.q.s / out.q.s for sign, t in zip(signs, types, strict=True))
        limits = activation_range(self.low, self.high, out.q.s, out.q.z)
        return find_terms(self.all_results(ctx, types, out), a, b, out.q.z, limits) or "no two tables give every sum exactly"

    def all_results(self, ctx: Lowering, types: list[TensorType], out: TensorType) -> Int64:
        """The output for every pair of operands, indexed by a + 128 and b + 128."""
        every = np.arange(-128, 128, dtype=np.int64)
        pairs = [np.repeat(every, 256).astype(np.int8), np.tile(every, 256).astype(np.int8)]
        return self.reference(pairs, types, [out.with_shape((1 << 16,))], ctx.graph.numerics)[0].astype(np.int64).reshape(256, 256)

    def signs(self) -> tuple[int, int] | None:
        """Factors of both operands if the operation is their sum."""
        return None

    def lower_table(self, ctx: Lowering, node: Node, index: int, inputs: list[Array]) -> None:
        """Against one constant number, or itself, operand `index` is the only variable. `inputs` let it take its 256 values."""
        types, out = ctx.graph.types(node.inputs), ctx.graph.type(node.outputs[0])
        call_table(ctx, node, node.inputs[index], self.reference(inputs, types, [out.with_shape((256,))], ctx.graph.numerics)[0])


class Add(Binary):
    """a + b"""

    def signs(self) -> tuple[int, int] | None:
        return 1, 1

    def combine(self, a: Array, b: Array) -> Array:
        return np.asarray(a + b)


class Sub(Binary):
    """a - b"""

    def signs(self) -> tuple[int, int] | None:
        return 1, -1

    def combine(self, a: Array, b: Array) -> Array:
        return np.asarray(a - b)


class Mul(Binary):
    """a * b"""

    def combine(self, a: Array, b: Array) -> Array:
        return np.asarray(a * b)

    def scaled(self, a: Int64, b: Int64, p: dict[str, int], numerics: str) -> Int64:
        if numerics == "onnx":
            return shift_right_half_even(a * b * p["multiplier"], 31 - p["shift"])
        return requantize(a * b, p["multiplier"], p["shift"], numerics)

    def factors(self, types: list[TensorType], out: TensorType, numerics: str) -> dict[str, int]:
        multiplier, shift = quantize_multiplier(min(types[0].q.s * types[1].q.s / out.q.s, SATURATING))
        return {"a_multiplier": 0, "a_shift": 0, "b_multiplier": 0, "b_shift": 0, "multiplier": multiplier, "shift": shift}


def word_multipliers(ratios: list[float]) -> tuple[list[int], int]:
    """(multipliers, shift): ratio ~ multiplier * 2**(shift - 32) for all of them, with the least shift >= 0 for which every multiplier fits in 31 bits.

    A scaled sum of 9-bit integers is then off by at most 2**(shift - 24), and its integer part is a whole machine word.

    Raises: Unsupported for NaN, infinite or absurdly large ratios.
    """
    largest = max(abs(ratio) for ratio in ratios)
    if not all(map(math.isfinite, ratios)) or largest >= 2.0 ** (MAX_SHIFT - 1):
        raise Unsupported(f"scale factor {largest!r} is 2**{MAX_SHIFT - 1} or more: the scales of input and output do not belong together")
    shift = max(0, math.frexp(largest)[1] + 1)
    if math.floor(largest * 2.0 ** (32 - shift) + 0.5) >= 1 << 31:
        shift += 1
    return [math.floor(ratio * 2.0 ** (32 - shift) + 0.5) for ratio in ratios], shift


def extended_hwc(kind: TensorType, out: TensorType) -> tuple[int, int, int]:
    """(H, W, C) of an operand once it has as many axes as the result."""
    return kind.with_shape((1,) * (len(out.shape) - len(kind.shape)) + kind.shape).hwc


def row_window(kind: TensorType, out: TensorType) -> Window:
    """Row y of the operand for row y of the result, or its only row for all of them."""
    height, width, channels = extended_hwc(kind, out)
    if (height, width, channels) != kind.hwc:
        raise IRError(f"operand {kind} of a rank-{len(out.shape)} result: reshape it to the full rank")
    return Window(1, stride=0) if height == 1 else Window(height)


def binary_params(op: Binary, types: list[TensorType], out: TensorType, numerics: str, *, flat: bool) -> dict[str, int]:
    """midge_binary_params. `flat`: the whole tensor as one row; equal shapes then are one pixel of many channels."""
    height, width, channels = out.hwc
    equal = flat and all(t.count == out.count for t in types)
    params = {"width": 1 if equal else height * width if flat else width, "channels": out.count if equal else channels}
    for name, kind in zip("ab", types, strict=True):
        h, w, c = extended_hwc(kind, out)
        params[f"{name}_pixel_stride"] = 0 if equal or (w == 1 and not (flat and h > 1)) else c
        params[f"{name}_channel_stride"] = 0 if c == 1 and params["channels"] > 1 and not equal else 1
    act_min, act_max = activation_range(op.low, op.high, out.q.s, out.q.z)
    factors = op.factors(types, out, numerics)
    zero_points = {"a_zero_point": types[0].q.z, "b_zero_point": types[1].q.z}
    return params | zero_points | factors | {"zero_point": out.q.z, "act_min": act_min, "act_max": act_max}


def full_rank(builder: Builder, value: str, rank: int) -> str:
    """The value with leading axes of 1; a constant quantized along an axis becomes float again, to be quantized per tensor."""
    kind, data = builder.type(value), builder.graph.data(value)
    if data is not None and kind.quant is not None and kind.quant.axis is not None:
        value = builder.constant(value, dequantize(data, kind.quant))
    return builder.reshape(value, (1,) * (rank - len(kind.shape)) + kind.shape)


def emit_binary(builder: Builder, node: OnnxNode, op: Binary, a: str, b: str) -> str:
    """The node on operands of equal rank, in the layout they have."""
    rank = max(len(builder.type(a).shape), len(builder.type(b).shape))
    if rank > 4:
        raise Unsupported(f"{node}: rank {rank}; up to 4 is offered")
    return builder.emit1(op, [full_rank(builder, a, rank), full_rank(builder, b, rank)])


@onnx_op("Add", "Sum")
def add_from_onnx(builder: Builder, node: OnnxNode) -> str:
    if not node.inputs or not all(node.inputs):
        raise ImportFailed(f"{node}: an input is missing")
    total = node.inputs[0]
    for value in node.inputs[1:]:
        total = emit_binary(builder, node, Add(), total, value)
    return total


@onnx_op("Sub")
def sub_from_onnx(builder: Builder, node: OnnxNode) -> str:
    return emit_binary(builder, node, Sub(), *both(node))


@onnx_op("Mul")
def mul_from_onnx(builder: Builder, node: OnnxNode) -> str:
    return emit_binary(builder, node, Mul(), *both(node))


@onnx_op("Div")
def div_from_onnx(builder: Builder, node: OnnxNode) -> str:
    """Division by a constant is multiplication by its reciprocal."""
    a, b = both(node)
    divisor = builder.required(node, 1, "divisor")
    if not builder.type(a).dtype.is_float and builder.type(a).quant is None:
        raise Unsupported(f"{node}: division of integers; fold it before export")
    if not np.all(divisor):
        raise ImportFailed(f"{node}: division by 0")
    return emit_binary(builder, node, Mul(), a, builder.constant(f"{b}_reciprocal", (1.0 / divisor).astype(np.float32)))


def both(node: OnnxNode) -> tuple[str, str]:
    if len(node.inputs) != 2 or not all(node.inputs):
        raise ImportFailed(f"{node}: two inputs wanted, got {list(node.inputs)}")
    return node.inputs[0], node.inputs[1]
