# SPDX-License-Identifier: Apache-2.0
"""The rules of a valid Graph, as a readable list. A broken rule is a bug in midge (IRError), except scales, which come from the model."""

from __future__ import annotations

import math
from collections.abc import Iterator

from midge.errors import ImportFailed, IRError
from midge.ir import DType, Graph, Quant

RANGE = {DType.S8: (-128, 127), DType.U8: (0, 255), DType.S16: (-32768, 32767), DType.S32: (0, 0)}


def check(graph: Graph) -> Graph:
    """Hold `graph` against every rule; returns it.

    Raises: IRError naming the node and the rule, ImportFailed for scales and zero points that mean nothing.
    """
    for problem in (*_names(graph), *_types(graph)):
        raise IRError(problem)
    for name, value in graph.values.items():
        if value.type.quant is not None:
            problem = quant_problem(value.type.dtype, value.type.quant, value.type.shape)
            if problem:
                raise ImportFailed(f"value '{name}': {problem}")
    return graph


def _names(graph: Graph) -> Iterator[str]:
    """Every operand is defined before it is read, every value is written once."""
    known = set(graph.inputs) | {name for name, value in graph.values.items() if value.data is not None}
    for node in graph.nodes:
        for name in node.inputs:
            if name not in known:
                yield f"node '{node.name}' reads '{name}' before anything computes it"
        for name in node.outputs:
            if name in known:
                yield f"node '{node.name}' writes '{name}', which exists already"
            known.add(name)
    for name in graph.outputs:
        if name not in known:
            yield f"output '{name}' is computed by nothing"


def _types(graph: Graph) -> Iterator[str]:
    """Shapes are what infer says; constants have the shape and dtype of their type."""
    for node, types, out in graph.walk():
        inferred = node.op.infer(types)
        for name, want, got in zip(node.outputs, inferred, out, strict=False):
            if want.shape != got.shape:
                yield f"node '{node.name}' ({node.op.kind}): '{name}' has shape {got.shape}, infer says {want.shape}"
    for name, value in graph.values.items():
        if value.data is not None and (value.data.shape != value.type.shape or DType.of(value.data.dtype) is not value.type.dtype):
            yield f"constant '{name}' is {value.data.dtype}{value.data.shape}, its type says {value.type}"


def quant_problem(dtype: DType, quant: Quant, shape: tuple[int, ...]) -> str:
    """What is wrong with a Quant, '' if nothing."""
    for scale in quant.scale:
        if not math.isfinite(scale) or scale <= 0.0:
            return f"scale {scale} is not a finite number above 0"
    if quant.axis is not None and (quant.axis >= len(shape) or len(quant.scale) != shape[quant.axis]):
        return f"{len(quant.scale)} scales on axis {quant.axis} of shape {shape}"
    if dtype in RANGE:
        low, high = RANGE[dtype]
        for zero_point in quant.zero_point:
            if not low <= zero_point <= high:
                return f"zero_point {zero_point} is outside {dtype.value}'s {low}..{high}"
    return ""
