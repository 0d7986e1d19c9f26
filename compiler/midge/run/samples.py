# SPDX-License-Identifier: Apache-2.0
"""Samples to run a library on: from numpy files, or random."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from midge.errors import UsageError
from midge.ir import Array, DType, Graph, TensorType
from midge.ops.build import quantize
from midge.passes.ports import from_port, to_port

SEED = 20240229
FLOAT_SPAN = 4.0  # random floats for an input whose range is not known lie in [-FLOAT_SPAN, FLOAT_SPAN]
INTEGER_SPAN = 1 << 15  # integers wider than 16 bits are indices or counters: random ones stay small
Sample = list[Array]


def load_samples(path: Path, graph: Graph, limit: int) -> list[Sample]:
    """The first `limit` samples of a .npz or .npy file, one array per input of `graph`, each in the element type and shape of the input.
    Files have the layout of the model; what is NHWC in the library only is transposed.

    A .npz has one array per input name; for one input, its only array will do. An array is one sample, or has a leading sample dimension. Arrays
    of the input's element type are taken as they are, float arrays are quantized by its scale and zero_point.

    Raises: UsageError for a file that cannot be read, lacks an input, holds no sample or does not fit.
    """
    held = _read(path)
    arrays = []
    for name in graph.inputs:
        if name not in held and not (len(held) == len(graph.inputs) == 1):
            raise UsageError(f"data '{path}': no array named '{name}' (has {', '.join(sorted(held)) or 'nothing'}); name each array after its input")
        moved, kind = name in graph.nhwc, graph.type(name)
        shape = from_port(np.empty(kind.shape, bool), moved).shape
        array = _fit(path, held[name] if name in held else next(iter(held.values())), name, kind.with_shape(shape), limit)
        arrays.append(np.stack([to_port(sample, moved) for sample in array]) if moved and len(array) else array)
    counts = {len(array) for array in arrays}
    if counts != {max(counts, default=0)}:
        raise UsageError(f"data '{path}': the inputs have different numbers of samples: {', '.join(map(str, sorted(counts)))}")
    if not max(counts):
        raise UsageError(f"data '{path}': no samples")
    return [list(sample) for sample in zip(*arrays, strict=True)]


def _read(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise UsageError(f"data '{path}': no such file")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise UsageError(f"data '{path}': cannot be read as .npy or .npz of numbers ({type(error).__name__})") from None


def _fit(path: Path, array: Array, name: str, kind: TensorType, limit: int) -> Array:
    """`array` as (samples, *shape) of the element type of the input; dimensions of 1 may be missing."""
    what = f"data '{path}': array for input '{name}' is {array.dtype}{list(array.shape)}"
    wanted = [d for d in kind.shape if d != 1]
    if array.ndim and [d for d in array.shape[1:] if d != 1] == wanted:
        array = array[:limit].reshape(-1, *kind.shape)
    elif [d for d in array.shape if d != 1] == wanted:
        array = array.reshape(1, *kind.shape)
    else:
        raise UsageError(f"{what}, wanted [samples, {', '.join(map(str, kind.shape))}]")
    if array.dtype == kind.dtype.numpy:
        return array
    if array.dtype.kind != "f" or not (kind.dtype.is_float or kind.quant is not None):
        raise UsageError(f"{what}, wanted {kind.dtype.numpy}{' or, to be quantized, float32' if kind.quant is not None else ''}")
    if not np.isfinite(array).all():
        raise UsageError(f"{what} and holds NaN or infinity")
    return array.astype(np.float32) if kind.quant is None else quantize(array.astype(np.float32), kind.dtype, kind.quant)


def random_samples(graph: Graph, count: int, seed: int = SEED) -> list[Sample]:
    """`count` samples over the full range of every input, always the same ones; the last consists of the two extreme values only."""
    random = np.random.default_rng(seed)
    return [[_draw(random, graph, name, extreme=number == count - 1) for name in graph.inputs] for number in range(count)]


def _draw(random: np.random.Generator, graph: Graph, name: str, *, extreme: bool) -> Array:
    kind = graph.type(name)
    if kind.dtype is DType.BOOL:
        return random.integers(0, 2, kind.shape).astype(bool)
    if kind.dtype.is_float:
        low, high = float_range(graph, name)
        values = random.uniform(low, high, kind.shape)
        return np.where(values < (low + high) / 2, low, high).astype(np.float32) if extreme else values.astype(np.float32)
    low_q, high_q = integer_range(kind.dtype)
    integers = random.integers(low_q, high_q + 1, kind.shape)
    return (np.where(integers < 0 if low_q < 0 else integers <= high_q // 2, low_q, high_q) if extreme else integers).astype(kind.dtype.numpy)


def integer_range(dtype: DType) -> tuple[int, int]:
    """What random integers of a type lie in."""
    info = np.iinfo(dtype.numpy)
    return max(int(info.min), -INTEGER_SPAN), min(int(info.max), 2 * INTEGER_SPAN - 1)


def float_range(graph: Graph, name: str) -> tuple[float, float]:
    """The range of what a float input is quantized to, and a bit more on either side, so that values saturate."""
    for node in graph.consumers()[name]:
        kind = graph.type(node.outputs[0])
        if kind.quant is not None and kind.quant.axis is None and not kind.dtype.is_float:
            info = np.iinfo(kind.dtype.numpy)
            low, high = ((int(bound) - kind.quant.z) * kind.quant.s for bound in (info.min, info.max))
            return low - 0.05 * (high - low), high + 0.05 * (high - low)
    return -FLOAT_SPAN, FLOAT_SPAN
