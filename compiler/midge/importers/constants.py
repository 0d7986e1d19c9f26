# SPDX-License-Identifier: Apache-2.0
"""Which nodes of constants are computed at import, and how large their results get."""

from __future__ import annotations

import math

import numpy as np

from midge.errors import ImportFailed, Unsupported
from midge.ir import Array
from midge.ops.build import OnnxNode

ELEMENTWISE = frozenset(
    {"Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Cos", "Div", "Equal", "Erf", "Exp", "Floor", "Greater", "GreaterOrEqual", "Identity"}
    | {"Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign"}
    | {"Sin", "Sqrt", "Sub", "Sum", "Tanh", "Where", "Xor"}
)
SHRINKING = frozenset(
    {"ArgMax", "ArgMin", "Concat", "Flatten", "NonZero", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"}
    | {"ReduceSumSquare", "Reshape", "ScatterElements", "ScatterND", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
GROWING = frozenset({"ConstantOfShape", "Expand", "Gather", "GatherElements", "GatherND", "Gemm", "MatMul", "Pad", "Range", "Tile"})


def is_foldable(node: OnnxNode) -> bool:
    """Whether a node of constants only is computed at import: exact element moves and arithmetic, no layers."""
    return not node.domain and (node.op in ELEMENTWISE or node.op in SHRINKING or node.op in GROWING)


def constant_value(node: OnnxNode) -> Array:
    """The tensor of a Constant node. Source: ONNX Constant-1 to -24."""
    if len(node.attrs) != 1:
        raise ImportFailed(f"{node}: has {len(node.attrs)} values, wanted one")
    ((name, value),) = node.attrs.items()
    if name == "value" and isinstance(value, np.ndarray):
        return value
    if name in ("value_float", "value_floats"):
        return np.array(value, np.float32)
    if name in ("value_int", "value_ints"):
        return np.array(value, np.int64)
    raise Unsupported(f"{node}: {name} is not offered; store numbers in a dense tensor")


def folded_count(node: OnnxNode, inputs: list[Array | None]) -> int:
    """An upper bound of the elements that computing the node makes."""
    arrays = [data for data in inputs if data is not None]
    sizes = [data.size for data in arrays]
    if node.op in ELEMENTWISE:
        try:
            return math.prod(np.broadcast_shapes(*(data.shape for data in arrays)))
        except ValueError:
            raise ImportFailed(f"{node}: shapes {' and '.join(str(list(data.shape)) for data in arrays)} do not broadcast") from None
    if node.op in ("MatMul", "Gemm", "Gather", "GatherND"):
        return math.prod(size for size in sizes[:2]) if node.op.startswith("Gather") else matmul_count(arrays)
    if node.op == "Range" and len(arrays) == 3:
        start, limit, delta = (float(data.reshape(-1)[0]) if data.size else 0.0 for data in arrays)
        span = (limit - start) / delta if delta else math.inf
        return max(0, math.ceil(span)) if math.isfinite(span) else 1 << 62
    if node.op in ("ConstantOfShape", "Expand", "Tile") and arrays:
        dims = [max(1, abs(int(d))) for d in arrays[-1].reshape(-1)]
        return math.prod(dims) * (sizes[0] if node.op != "ConstantOfShape" else 1)
    if node.op == "Pad" and arrays:
        pads = node.ints("pads", []) or [int(d) for d in (arrays[1].reshape(-1) if len(arrays) > 1 else [])]
        rank = arrays[0].ndim
        if len(arrays) > 3 or len(pads) != 2 * rank:
            return 1 << 62
        return math.prod(max(0, d + a + b) for d, a, b in zip(arrays[0].shape, pads[:rank], pads[rank:], strict=True))
    return sum(sizes)


def matmul_count(arrays: list[Array]) -> int:
    """Elements of a product of matrices: rows of one times columns of the other."""
    if len(arrays) < 2 or not all(data.ndim and data.size for data in arrays[:2]):
        return 0
    return math.prod(data.size // min(data.shape[-1], data.shape[0]) for data in arrays[:2])
