# SPDX-License-Identifier: Apache-2.0
"""Functions of one element: y[i] = f(x[i]), in any shape and layout.

Quantized: x and y are 8-bit per tensor, so f is a table of 256 bytes, made when lowering: dequantize in float32, f, divide by s_y, round half
to even. `tflite` numerics builds the table as TensorFlow Lite Micro's int8 kernels compute: Clip and LeakyRelu by requantization, Sigmoid
(y of scale 1/256, zero_point -128) and Tanh (1/128, 0) and HardSwish by fixed_functions; every other function has the table of `onnx`.

Source: ONNX Relu-6 to -14, Clip-6/11, LeakyRelu-6, Sigmoid-6, Tanh-6, HardSigmoid-6, HardSwish-14, Gelu-20, Elu-6 and the functions in MATH.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from midge.errors import ImportFailed, IRError
from midge.fixedpoint import Int64, quantize_multiplier, requantize, rounding_shift_right_half_away
from midge.ir import Array, DType, Node, Op, TensorType
from midge.ops.build import Builder, OnnxNode, dequantize, onnx_op, quantize
from midge.ops.fixed_functions import fixed_hard_swish, fixed_logistic, fixed_tanh, saturating
from midge.ops.lowering import Lowering
from midge.program import Kernel

TABLE = Kernel("midge_table_s8", "elementwise")


@dataclass(frozen=True)
class Unary(Op):
    """What every function of one element shares; a subclass defines `function` and its attributes."""

    elementwise = True

    def function(self, x: Array) -> Array:
        """f in float64."""
        raise NotImplementedError

    def tflite(self, x: TensorType, y: TensorType) -> Callable[[Int64], Int64] | None:
        """f as TensorFlow Lite Micro computes it, from q_x - z_x to q_y - z_y; None if as `onnx`."""
        return None

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        return [TensorType(DType.F32, types[0].shape)]

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        if out[0].quant is None:
            with np.errstate(all="ignore"):
                return [np.asarray(self.function(inputs[0].astype(np.float64)), np.float32)]
        return [self.evaluate(inputs[0], types[0], out[0], numerics)]

    def evaluate(self, q: Array, x: TensorType, y: TensorType, numerics: str) -> Array:
        """Output integers of input integers."""
        fixed = self.tflite(x, y) if numerics == "tflite" else None
        if fixed is not None:
            info = np.iinfo(y.dtype.numpy)
            return np.clip(fixed(q.astype(np.int64) - x.q.z) + y.q.z, info.min, info.max).astype(y.dtype.numpy)
        with np.errstate(all="ignore"):
            real = self.function(dequantize(q, x.q).astype(np.float64)).astype(np.float32)
        return quantize(np.nan_to_num(real, nan=0.0, posinf=np.inf, neginf=-np.inf), y.dtype, y.q)

    def lower(self, ctx: Lowering, node: Node) -> None:
        x, y = ctx.graph.type(node.inputs[0]), ctx.graph.type(node.outputs[0])
        call_table(ctx, node, node.inputs[0], self.evaluate(every_byte(x.dtype), x, y, ctx.graph.numerics))


def every_byte(dtype: DType) -> Array:
    """The inputs of a table in its order: -128 to 127, for unsigned ones the same bytes."""
    return np.arange(-128, 128, dtype=np.int8).view(dtype.numpy)


def call_table(ctx: Lowering, node: Node, source: str, table: Array) -> None:
    """One flat Call of midge_table_s8 from `source` to the output of `node`."""
    if table.size != 256 or table.dtype.itemsize != 1 or ctx.graph.type(source).dtype.nbytes != 1:
        raise IRError(f"'{node.name}': a table maps 256 bytes to bytes")
    operands, constants = [ctx.operand(source, flat=True)], {"table": table.view(np.int8)}
    ctx.call(node, TABLE, {"count": ctx.graph.type(source).count}, operands, constants, flat=True, in_place=0, splits=("count",))


def rescaled(q: Int64, factor: float) -> Int64:
    """q * factor with double rounding."""
    return requantize(q, *quantize_multiplier(factor), "tflite")


@dataclass(frozen=True)
class Clip(Unary):
    """min(max(x, low), high); Relu is Clip(0, inf)."""

    low: float = -math.inf
    high: float = math.inf

    def function(self, x: Array) -> Array:
        return np.clip(x, self.low, self.high)

    def tflite(self, x: TensorType, y: TensorType) -> Callable[[Int64], Int64] | None:
        low, high = (quantize(np.array([bound], np.float32), y.dtype, y.q).item() - y.q.z for bound in (self.low, self.high))
        return lambda q: np.clip(rescaled(q, float(np.float32(x.q.s) / np.float32(y.q.s))), low, high)


@dataclass(frozen=True)
class LeakyRelu(Unary):
    """x for x >= 0, alpha * x below."""

    alpha: float = 0.01

    def function(self, x: Array) -> Array:
        return np.where(x >= 0, x, self.alpha * x)

    def tflite(self, x: TensorType, y: TensorType) -> Callable[[Int64], Int64] | None:
        if self.alpha < 0:
            return None
        s_x, s_y = np.float32(x.q.s), np.float32(y.q.s)
        return lambda q: np.where(q >= 0, rescaled(q, float(s_x / s_y)), rescaled(q, float(s_x * np.float32(self.alpha) / s_y)))


@dataclass(frozen=True)
class Sigmoid(Unary):
    """1 / (1 + exp(-x))"""

    def function(self, x: Array) -> Array:
        return np.asarray(np.exp(-np.logaddexp(0.0, -x)))

    def tflite(self, x: TensorType, y: TensorType) -> Callable[[Int64], Int64] | None:
        fits = y.dtype is DType.S8 and (y.q.s, y.q.z) == (1 / 256, -128)
        return (lambda q: saturating(q, x.q.s, 0, 255, lambda raw: rounding_shift_right_half_away(fixed_logistic(raw), 23))) if fits else None


@dataclass(frozen=True)
class Tanh(Unary):
    """tanh(x)"""

    def function(self, x: Array) -> Array:
        return np.tanh(x)

    def tflite(self, x: TensorType, y: TensorType) -> Callable[[Int64], Int64] | None:
        fits = y.dtype is DType.S8 and (y.q.s, y.q.z) == (1 / 128, 0)
        return (lambda q: saturating(q, x.q.s, -128, 127, lambda raw: rounding_shift_right_half_away(fixed_tanh(raw), 24))) if fits else None


@dataclass(frozen=True)
class HardSigmoid(Unary):
    """max(0, min(1, alpha * x + beta))"""

    alpha: float = 0.2
    beta: float = 0.5

    def function(self, x: Array) -> Array:
        return np.clip(self.alpha * x + self.beta, 0.0, 1.0)


@dataclass(frozen=True)
class HardSwish(Unary):
    """x * max(0, min(1, x / 6 + 1 / 2))"""

    def function(self, x: Array) -> Array:
        return np.asarray(x * np.clip(x / 6.0 + 0.5, 0.0, 1.0))

    def tflite(self, x: TensorType, y: TensorType) -> Callable[[Int64], Int64] | None:
        return lambda q: fixed_hard_swish(q, x.q.s, y.q.s)


@dataclass(frozen=True)
class Gelu(Unary):
    """x / 2 * (1 + erf(x / sqrt(2))); approximate: x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))"""

    approximate: bool = False

    def function(self, x: Array) -> Array:
        inner = np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)) if self.approximate else erf(x / math.sqrt(2.0))
        return np.asarray(0.5 * x * (1.0 + inner))


@dataclass(frozen=True)
class Elu(Unary):
    """x for x >= 0, alpha * (exp(x) - 1) below."""

    alpha: float = 1.0

    def function(self, x: Array) -> Array:
        return np.where(x >= 0, x, self.alpha * np.expm1(np.minimum(x, 0.0)))


def erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


MATH: dict[str, Callable[[Array], Array]] = {
    "Abs": np.abs,
    "Erf": erf,
    "Exp": np.exp,
    "Log": np.log,
    "Neg": np.negative,
    "Reciprocal": np.reciprocal,
    "Softplus": lambda x: np.logaddexp(0.0, x),
    "Softsign": lambda x: x / (1.0 + np.abs(x)),
    "Sqrt": np.sqrt,
}


@dataclass(frozen=True)
class Math(Unary):
    """A function without attributes, by its ONNX name in MATH."""

    name: str

    def function(self, x: Array) -> Array:
        return np.asarray(MATH[self.name](x))


@onnx_op(*MATH)
def math_from_onnx(builder: Builder, node: OnnxNode) -> str:
    return builder.emit1(Math(node.op), [node.input(0)])


@onnx_op("Relu")
def relu_from_onnx(builder: Builder, node: OnnxNode) -> str:
    return builder.emit1(Clip(0.0), [node.input(0)])


@onnx_op("Clip")
def clip_from_onnx(builder: Builder, node: OnnxNode) -> str:
    """Bounds are attributes up to opset 10, constant inputs since; an absent one does not limit."""

    def bound(index: int, name: str, absent: float) -> float:
        if node.opset < 11:
            return float(node.attrs.get(name, absent))
        if not node.input(index):
            return absent
        data = builder.required(node, index, name)
        if data.size != 1:
            raise ImportFailed(f"{node}: {name} has {data.size} elements, one is wanted")
        return float(data.reshape(-1)[0])

    return builder.emit1(Clip(bound(1, "min", -math.inf), bound(2, "max", math.inf)), [node.input(0)])


@onnx_op("LeakyRelu", "Elu", "HardSigmoid")
def slope_from_onnx(builder: Builder, node: OnnxNode) -> str:
    op = {"LeakyRelu": LeakyRelu, "Elu": Elu, "HardSigmoid": HardSigmoid}[node.op]
    given = {name: float(value) for name, value in node.attrs.items() if name in ("alpha", "beta")}
    return builder.emit1(op(**given), [node.input(0)])


@onnx_op("Sigmoid", "Tanh", "HardSwish")
def plain_from_onnx(builder: Builder, node: OnnxNode) -> str:
    op = {"Sigmoid": Sigmoid, "Tanh": Tanh, "HardSwish": HardSwish}[node.op]
    return builder.emit1(op(), [node.input(0)])


@onnx_op("Gelu")
def gelu_from_onnx(builder: Builder, node: OnnxNode) -> str:
    mode = node.attrs.get("approximate", "none")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    if mode not in ("none", "tanh"):
        raise ImportFailed(f"{node}: approximate is {mode!r}, 'none' or 'tanh' is wanted")
    return builder.emit1(Gelu(mode == "tanh"), [node.input(0)])
