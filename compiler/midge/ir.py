# SPDX-License-Identifier: Apache-2.0
"""The Graph: what is computed.

A Graph is a flat list of nodes in execution order over named, typed values. Values carry types; quantizing changes types
(`s8`, scale, zero_point), never the class of an operator. Activations are NHWC with N = 1: rank 4 (1, H, W, C), rank 3 (1, L, C)
where L counts rows, rank 2 (1, C). Convolution weights are OHWI, dense weights OI.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from midge.errors import IRError, Unsupported

Array = npt.NDArray[Any]


class DType(Enum):
    """Element types. The value is the name used in text, JSON and C symbols."""

    F32 = "f32"
    S8 = "s8"
    U8 = "u8"
    S16 = "s16"
    S32 = "s32"
    S64 = "s64"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(_NUMPY[self])

    @property
    def nbytes(self) -> int:
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        return self is DType.F32

    @property
    def c(self) -> str:
        """The C type of one element."""
        return _C[self]

    @staticmethod
    def of(dtype: npt.DTypeLike) -> DType:
        """The DType of a numpy dtype.

        Raises: Unsupported for a dtype midge does not know.
        """
        wanted = np.dtype(dtype)
        for candidate, name in _NUMPY.items():
            if np.dtype(name) == wanted:
                return candidate
        raise Unsupported(f"element type {wanted} is not offered (known: {', '.join(d.value for d in DType)})")


_NUMPY = {DType.F32: "float32", DType.S8: "int8", DType.U8: "uint8", DType.S16: "int16", DType.S32: "int32", DType.S64: "int64", DType.BOOL: "bool"}
_C = {DType.F32: "float", DType.S8: "int8_t", DType.U8: "uint8_t", DType.S16: "int16_t", DType.S32: "int32_t", DType.S64: "int64_t", DType.BOOL: "uint8_t"}


@dataclass(frozen=True)
class Quant:
    """real = scale * (q - zero_point); one pair for the tensor (axis None) or one per index of `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None

    @staticmethod
    def of(scale: Any, zero_point: Any = 0, axis: int | None = None) -> Quant:
        """Quant from scalars or arrays; a zero_point scalar is repeated. Scales are kept as float32 values."""
        scales = tuple(float(s) for s in np.asarray(scale, np.float32).reshape(-1))
        points = tuple(int(z) for z in np.asarray(zero_point).reshape(-1))
        if len(points) == 1:
            points *= len(scales)
        return Quant(scales, points, axis if len(scales) > 1 else None)

    @property
    def s(self) -> float:
        """The scale of a per-tensor Quant."""
        if self.axis is not None:
            raise IRError(f"per-tensor scale asked of {self}")
        return self.scale[0]

    @property
    def z(self) -> int:
        """The zero_point of a per-tensor Quant."""
        if self.axis is not None:
            raise IRError(f"per-tensor zero_point asked of {self}")
        return self.zero_point[0]

    def scales(self, count: int) -> npt.NDArray[np.float64]:
        """One scale per channel, repeated if per-tensor."""
        return np.asarray(self.scale * count if len(self.scale) == 1 else self.scale, np.float64)


@dataclass(frozen=True)
class TensorType:
    """Element type, shape and, for quantized values, what the integers mean."""

    dtype: DType
    shape: tuple[int, ...]
    quant: Quant | None = None

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.nbytes

    @property
    def hwc(self) -> tuple[int, int, int]:
        """(H, W, C) of an activation: rank 4 is (1, H, W, C), rank 3 (1, L, C) has L rows of W = 1, rank 2 (1, C) is one pixel.

        A first axis other than 1 (a view without batch) counts like the others: (L, C) has L rows. Any other rank is one pixel.
        """
        shape = self.shape[1:] if len(self.shape) > 1 and self.shape[0] == 1 else self.shape
        if len(shape) == 3:
            return shape[0], shape[1], shape[2]
        if len(shape) == 2:
            return shape[0], 1, shape[1]
        return 1, 1, math.prod(shape)

    @property
    def q(self) -> Quant:
        """The Quant of a quantized value."""
        if self.quant is None:
            raise IRError(f"{self} is not quantized")
        return self.quant

    def with_quant(self, dtype: DType, quant: Quant | None) -> TensorType:
        return replace(self, dtype=dtype, quant=quant)

    def with_shape(self, shape: tuple[int, ...]) -> TensorType:
        return replace(self, shape=tuple(int(d) for d in shape))

    def __str__(self) -> str:
        dims = ",".join(map(str, self.shape))
        if self.quant is None:
            return f"{self.dtype.value}[{dims}]"
        if self.quant.axis is None:
            return f"{self.dtype.value}[{dims}] scale {self.quant.s:.6g} zero_point {self.quant.z}"
        return f"{self.dtype.value}[{dims}] {len(self.quant.scale)} scales on axis {self.quant.axis}"


@dataclass
class Value:
    """A named tensor. `data` is set for constants only."""

    name: str
    type: TensorType
    data: Array | None = None


@dataclass(frozen=True)
class Op:
    """Base of all operators: a frozen dataclass of attributes. ops/<family>.py gives each its meaning (see docs/add-an-operator.md)."""

    @property
    def kind(self) -> str:
        return type(self).__name__

    def infer(self, types: list[TensorType]) -> list[TensorType]:
        """Output types from input types. Keeps float as float; a quantized op gets its output Quant from the pass that quantized it."""
        raise NotImplementedError

    def reference(self, inputs: list[Array], types: list[TensorType], out: list[TensorType], numerics: str) -> list[Array]:
        """The definition of correct: float if `out[0]` is float, else integer under the named numerics ('onnx' or 'tflite')."""
        raise NotImplementedError

    def macs(self, types: list[TensorType], out: list[TensorType]) -> int:
        """Multiply-accumulates of one run."""
        return 0

    # What passes may assume. Each is a fact about the formula, overridden where it holds.
    moves_data = False  # outputs hold input elements unchanged (view, copy, max): input and output share one Quant
    elementwise = False  # output element depends on the input element at the same place only: may run in place, in any layout


@dataclass
class Node:
    """One operator applied to values. `origin` names the model's own nodes that this one came from."""

    name: str
    op: Op
    inputs: list[str]
    outputs: list[str]
    origin: tuple[str, ...] = ()


@dataclass
class Graph:
    """Nodes in execution order, values by name. `output_names` are the model's names of `outputs`; `model_types` keeps the types of inputs and
    outputs, by those names, as the model declared them; `nhwc` names those of them that are NHWC where the model has NCHW."""

    name: str
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    output_names: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    numerics: str = "onnx"
    model_types: dict[str, TensorType] = field(default_factory=dict)
    nhwc: list[str] = field(default_factory=list)

    def copy(self) -> Graph:
        """The same nodes and values, free to be changed; the data of constants are shared."""
        nodes = [replace(node, inputs=list(node.inputs), outputs=list(node.outputs)) for node in self.nodes]
        values = {name: replace(value) for name, value in self.values.items()}
        inputs, outputs, names = list(self.inputs), list(self.outputs), list(self.output_names)
        kept = replace(self, model_types=dict(self.model_types), nhwc=list(self.nhwc))
        return replace(kept, inputs=inputs, outputs=outputs, output_names=names, nodes=nodes, values=values)

    def type(self, name: str) -> TensorType:
        return self.values[name].type

    def types(self, names: list[str]) -> list[TensorType]:
        return [self.values[name].type for name in names]

    def data(self, name: str) -> Array | None:
        """The constant behind a value, or None."""
        return self.values[name].data

    def is_constant(self, name: str) -> bool:
        return self.values[name].data is not None

    def activations(self, node: Node) -> list[str]:
        """The inputs of a node that are computed, not constant."""
        return [name for name in node.inputs if not self.is_constant(name)]

    def producers(self) -> dict[str, Node]:
        return {name: node for node in self.nodes for name in node.outputs}

    def consumers(self) -> dict[str, list[Node]]:
        """Nodes reading each value, once per operand."""
        readers: dict[str, list[Node]] = {name: [] for name in self.values}
        for node in self.nodes:
            for name in node.inputs:
                readers[name].append(node)
        return readers

    def sole_consumer(self, name: str) -> Node | None:
        """The one node that reads a value, if there is exactly one and the value is no output of the graph."""
        readers = [node for node in self.nodes for read in node.inputs if read == name]
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def fresh(self, stem: str) -> str:
        """A value name not in use yet, made from `stem`."""
        if stem not in self.values:
            return stem
        suffix = 1
        while f"{stem}.{suffix}" in self.values:
            suffix += 1
        return f"{stem}.{suffix}"

    def add_value(self, stem: str, type: TensorType, data: Array | None = None) -> str:
        name = self.fresh(stem)
        self.values[name] = Value(name, type, data)
        return name

    def add_constant(self, stem: str, data: Array, quant: Quant | None = None) -> str:
        data = np.asarray(data, order="C")  # ascontiguousarray would make a scalar a vector
        return self.add_value(stem, TensorType(DType.of(data.dtype), data.shape, quant), data)

    def replace_uses(self, old: str, new: str) -> None:
        """Every reader of `old` reads `new`; the place in `outputs` is taken over too."""
        for node in self.nodes:
            node.inputs = [new if name == old else name for name in node.inputs]
        self.outputs = [new if name == old else name for name in self.outputs]

    def prune(self) -> None:
        """Drop nodes and values that no output needs. Inputs stay."""
        needed = set(self.outputs)
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                kept.append(node)
                needed.update(node.inputs)
        self.nodes = kept[::-1]
        used = needed | set(self.inputs) | {name for node in self.nodes for name in node.outputs}
        self.values = {name: value for name, value in self.values.items() if name in used}

    def walk(self) -> Iterator[tuple[Node, list[TensorType], list[TensorType]]]:
        """(node, input types, output types) in execution order."""
        for node in self.nodes:
            yield node, self.types(node.inputs), self.types(node.outputs)
