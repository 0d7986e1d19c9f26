# SPDX-License-Identifier: Apache-2.0
"""An ONNX model in plain Python, free of the onnx package, and the rules of a sound one: names, order, sizes."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from midge.errors import ImportFailed, Unsupported, UsageError
from midge.ir import Array
from midge.ops.build import OnnxNode

MAX_COUNT = 1 << 31  # elements of one tensor
MAX_NODES = 20_000


@dataclass(frozen=True)
class Port:
    """An input or output as declared. `dims`: a whole number, or a symbol ('' if it has no name); None if the model gives no shape."""

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int | str, ...] | None


@dataclass
class Model:
    """Inputs (without initializers), outputs, constants and nodes; the inputs and outputs of nodes are names of the model."""

    name: str
    inputs: list[Port]
    outputs: list[Port]
    constants: dict[str, Array]
    nodes: list[OnnxNode] = field(default_factory=list)


def check_count(what: str, shape: tuple[int, ...]) -> None:
    """Raises: ImportFailed for a dimension below 1 or more than 2**31 elements."""
    if any(d < 1 for d in shape) or math.prod(shape) > MAX_COUNT:
        raise ImportFailed(f"{what}: shape {list(shape)} has a dimension below 1 or more than 2**31 elements")


def check_finite(what: str, data: Array) -> None:
    """NaN never, infinity only in a scalar (an open bound of a Clip).

    Raises: ImportFailed.
    """
    if data.dtype.kind != "f" or (data.size == 1 and not np.isnan(data).any()):
        return
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        raise ImportFailed(f"{what}: {bad} of {data.size} elements are NaN or infinite; the training diverged or the export is broken")


def check_names(model: Model) -> None:
    """Every value has one origin and every name read has one.

    Raises: ImportFailed naming the value.
    """
    made = [port.name for port in model.inputs] + list(model.constants) + [name for node in model.nodes for name in node.outputs if name]
    for name, count in Counter(made).items():
        if count > 1:
            raise ImportFailed(f"value '{name}' is defined {count} times (inputs, initializers and node outputs need distinct names)")
    known = set(made)
    for node in model.nodes:
        for name in node.inputs:
            if name and name not in known:
                raise ImportFailed(f"{node}: input '{name}' is produced by no node, and is neither an initializer nor a graph input (missing initializer?)")
    for port in model.outputs:
        if port.name not in known:
            raise ImportFailed(f"graph output '{port.name}' is produced by no node")
    if not model.outputs:
        raise ImportFailed("the graph has no outputs")


def sort_nodes(nodes: list[OnnxNode]) -> list[OnnxNode]:
    """The nodes in execution order, as near to the given order as possible.

    Raises: ImportFailed naming the nodes of a cycle.
    """
    producer = {name: i for i, node in enumerate(nodes) for name in node.outputs if name}
    needs = [{producer[name] for name in node.inputs if name in producer} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for i, sources in enumerate(needs):
        for source in sorted(sources):
            readers[source].append(i)
    waiting = [len(sources) for sources in needs]
    ready = deque(i for i, count in enumerate(waiting) if count == 0)
    order: list[int] = []
    while ready:
        i = ready.popleft()
        order.append(i)
        for reader in readers[i]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    if len(order) < len(nodes):
        cycle = [f"'{nodes[i].name}'" for i in find_cycle(needs, set(range(len(nodes))) - set(order))]
        more = f" and {len(cycle) - 8} more" if len(cycle) > 8 else ""
        raise ImportFailed(f"the graph has a cycle through the nodes {', '.join(cycle[:8])}{more}")
    if all(source < i for i, sources in enumerate(needs) for source in sources):
        return nodes
    return [nodes[i] for i in order]


def find_cycle(needs: list[set[int]], stuck: set[int]) -> list[int]:
    """One cycle among nodes that each wait for another stuck one."""
    path: dict[int, None] = {}
    at = min(stuck)
    while at not in path:
        path[at] = None
        at = min(needs[at] & stuck)
    visited = list(path)
    return visited[visited.index(at) :][::-1]


def check_calls(calls: dict[tuple[str, str], set[tuple[str, str]]]) -> None:
    """Functions, by (domain, name), may not call themselves, directly or through others: inlining them would never end.

    Raises: ImportFailed.
    """
    left = dict(calls)
    while left:
        leaves = [key for key, called in left.items() if not called & left.keys()]
        if not leaves:
            raise ImportFailed(f"the functions {', '.join(name for _, name in sorted(left))} call each other in a circle")
        for key in leaves:
            del left[key]


def needed_nodes(model: Model) -> list[OnnxNode]:
    """The sorted nodes that some output needs."""
    needed = {port.name for port in model.outputs}
    kept = []
    for node in reversed(model.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    return kept[::-1]


def resolve_shape(port: Port, given: tuple[int, ...] | None, batch: int | None) -> tuple[int, ...]:
    """The static shape of an input. `given` comes from the user; the first dimension is the batch, from rank 2 on.

    Raises: UsageError if `given` contradicts the model, Unsupported for an open dimension or a static batch above 1.
    """
    dims = port.dims
    if dims is None:
        if given is None:
            raise Unsupported(f"input '{port.name}' has no shape; give one: --shape {port.name}=1,3,32,32")
        dims = ("",) * len(given)
    if given is not None and len(given) != len(dims):
        raise UsageError(f"--shape {port.name}: {len(given)} dimensions given, the model has {len(dims)}")
    shape: list[int] = []
    for i, dim in enumerate(dims):
        if given is not None:
            if isinstance(dim, int) and dim != given[i] and not (i == 0 and batch == given[i]):
                raise UsageError(f"--shape {port.name}: dimension {i} is {given[i]}, the model fixes it to {dim}")
            shape.append(given[i])
        elif i == 0 and len(dims) > 1 and (batch is not None or not isinstance(dim, int)):
            shape.append(batch or 1)
        elif not isinstance(dim, int):
            example = ",".join(str(d) if isinstance(d, int) else "1" if j == 0 else "32" for j, d in enumerate(dims))
            raise Unsupported(f"input '{port.name}': dimension {i}{f' ({dim})' if dim else ''} is open; fix it, for example --shape {port.name}={example}")
        else:
            shape.append(dim)
    if len(shape) > 1 and shape[0] > 1:
        raise Unsupported(f"input '{port.name}' has a batch of {shape[0]}; one sample is computed at a time, use --batch 1")
    check_count(f"input '{port.name}'", tuple(shape))
    return tuple(shape)
