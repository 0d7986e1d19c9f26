# SPDX-License-Identifier: Apache-2.0
"""Calibration data from files, and running a Graph in float to see its activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from midge.errors import UsageError
from midge.ir import Array, DType, Graph, TensorType
from midge.ops.build import dequantize

Sample = dict[str, Array]
Tap = Callable[[str, Array], None]
Progress = Callable[[int, int], None]
Calibration = str | Path | Array | Mapping[str, Array]

MAX_SAMPLES = 512
SUFFIXES = (".npz", ".npy")
DATA_KEYS = ("x", "x_train", "train_x", "images", "data", "inputs", "input", "arr_0")


def load_calibration(source: Calibration, inputs: dict[str, TensorType], limit: int = MAX_SAMPLES) -> list[Sample]:
    """Samples for the named inputs from a .npz, a .npy, a folder of them, an array, or arrays by name; each has a leading sample dimension.

    There is one array per input name; for a model with one input its only fitting array will do, or the one called x, x_train,
    images... A sample has the input's shape, with or without dimensions of 1, or any shape for an input that is a plain vector of as
    many elements. An input that is quantized takes its integers or real numbers. More than `limit` samples are thinned to `limit`
    evenly spaced ones.

    Raises: UsageError for a missing or unreadable file, missing inputs, shapes that do not fit, NaN, or integers for a float input.
    """
    if isinstance(source, np.ndarray):
        held = [("calibration array", {"": source})]
    elif isinstance(source, Mapping):
        held = [("calibration arrays", {name: np.asarray(array) for name, array in source.items()})]
    else:
        held = [(f"calibration '{file}'", _read(file)) for file in _files(Path(source))]
    parts = [_select(where, arrays, inputs) for where, arrays in held]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in inputs}
    count = len(next(iter(arrays.values()))) if arrays else 0
    if count == 0:
        raise UsageError(f"{held[0][0]}: no samples")
    chosen = np.arange(count) if count <= limit else np.arange(limit) * count // limit
    for name in inputs:
        if not np.isfinite(arrays[name][chosen]).all():
            raise UsageError(f"{held[0][0]}: array for input '{name}' holds NaN or infinity")
    return [{name: array[i] for name, array in arrays.items()} for i in chosen]


def sample_types(graph: Graph) -> dict[str, TensorType]:
    """What samples of each input may be: as the model declares it; integers that stand for real numbers may be given as those."""
    found = {}
    for name in graph.inputs:
        kind, declared = graph.type(name), graph.model_types.get(name, graph.type(name))
        bare = declared.quant is None and declared.dtype is kind.dtype
        found[name] = declared.with_quant(kind.dtype, kind.quant) if bare else declared
    return found


def _files(path: Path) -> list[Path]:
    """The file, or those in the folder, in the order of their names."""
    if not path.exists():
        raise UsageError(f"calibration '{path}': no such file or folder")
    files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES) if path.is_dir() else [path]
    if not files:
        raise UsageError(f"calibration '{path}': the folder holds no .npz or .npy file")
    return files


def _select(where: str, held: dict[str, Array], inputs: dict[str, TensorType]) -> dict[str, Array]:
    """The samples of each input, shaped and typed like the inputs, one leading dimension more."""
    found = {name: _fit(where, _pick(where, held, name, type, alone=len(inputs) == 1), name, type) for name, type in inputs.items()}
    counts = {name: len(array) for name, array in found.items()}
    if len(set(counts.values())) > 1:
        raise UsageError(f"{where}: inputs have different numbers of samples: {counts}")
    return found


def _read(file: Path) -> dict[str, Array]:
    if file.suffix not in SUFFIXES:
        raise UsageError(f"calibration '{file}': got a {file.suffix or 'file without suffix'}, wanted .npz or .npy (numpy.savez, numpy.save)")
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise UsageError(f"calibration '{file}': cannot be read as numpy data: {error}") from error


def _pick(where: str, held: dict[str, Array], name: str, type: TensorType, *, alone: bool) -> Array:
    """The array meant for input `name`."""
    if name in held:
        return held[name]
    what = f"{where}: no array named '{name}' (has {', '.join(sorted(held)) or 'nothing'})"
    if not alone:
        raise UsageError(f"{what}; the model has several inputs, so name each array after its input")
    fitting = [key for key, array in held.items() if _fits(array, type)] or list(held)
    usual = [key for key in DATA_KEYS if key in fitting]
    if len(fitting) == 1 or usual:
        return held[usual[0] if usual else fitting[0]]
    raise UsageError(f"{what}, and it is not clear which is meant for shape {type.shape}; name the array '{name}'")


def _fits(array: Array, type: TensorType) -> bool:
    """Whether array is (samples, ...) of the input's shape, up to dimensions of 1, or flattens into an input that is a vector."""
    if array.ndim == 0 or array.dtype.kind not in "fiub":
        return False
    got, wanted = [d for d in array.shape[1:] if d != 1], [d for d in type.shape if d != 1]
    return got == wanted or (len(wanted) == 1 and int(np.prod(got)) == wanted[0])


def _fit(where: str, array: Array, name: str, type: TensorType) -> Array:
    """`array` as (samples, *type.shape), in the input's element type or, for real numbers, float32."""
    if not _fits(array, type):
        raise UsageError(f"{where}: array for input '{name}' is {array.dtype}{array.shape}, wanted (samples, {', '.join(map(str, type.shape))})")
    real = array.dtype.kind == "f"
    if type.dtype.is_float and not real:
        raise UsageError(
            f"{where}: array for input '{name}' holds {array.dtype}, the model takes float32; scale it as in training "
            "(for example x.astype(numpy.float32) / 255) and save that"
        )
    if not type.dtype.is_float and not (real and type.quant is not None):
        info = np.iinfo(type.dtype.numpy)
        if real or (array.size and (array.min() < info.min or array.max() > info.max)):
            raise UsageError(f"{where}: array for input '{name}' holds {array.dtype}, the model takes {type.dtype.numpy}")
    return array.astype(np.float32 if real else type.dtype.numpy).reshape(len(array), *type.shape)


def real_type(type: TensorType) -> TensorType:
    """The float type of the real numbers a quantized value stands for; other types stay."""
    return TensorType(DType.F32, type.shape) if type.quant is not None else type


def run_float(graph: Graph, feeds: Sample, tap: Tap) -> None:
    """Execute `graph` on real numbers: quantized constants and integer feeds are dequantized, nothing is rounded between.

    `tap(name, array)` sees every input and every computed value, in execution order.
    """
    held: dict[str, Array] = {}
    for name, value in graph.values.items():
        if value.data is not None:
            held[name] = value.data if value.type.quant is None else dequantize(value.data, value.type.quant)
    for name in graph.inputs:
        array, quant = feeds[name], graph.model_types.get(name, graph.type(name)).quant
        if quant is not None and not np.issubdtype(array.dtype, np.floating):
            array = dequantize(array, quant)
        held[name] = array.reshape(graph.type(name).shape)
        tap(name, held[name])
    last_use = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    for i, (node, types, out) in enumerate(graph.walk()):
        operands = [held[name] for name in node.inputs]
        if node.op.kind == "Quantize":  # the same real numbers in another integer form
            results = operands[:1]
        else:
            results = node.op.reference(operands, [real_type(t) for t in types], [real_type(t) for t in out], graph.numerics)
        for name, array in zip(node.outputs, results, strict=True):
            held[name] = array
            tap(name, array)
        for name in set(node.inputs):
            if last_use[name] == i:
                del held[name]


def observe(graph: Graph, samples: list[Sample], wanted: set[str], observer: str, progress: Progress | None = None) -> dict[str, tuple[float, float]]:
    """(low, high) of each value in `wanted` over all samples, which run one at a time."""
    from midge.ptq.observers import make_observer

    watch = {name: make_observer(observer) for name in sorted(wanted)}

    def tap(name: str, array: Array) -> None:
        if name in watch:
            if not np.isfinite(array).all():
                raise UsageError(f"calibration: value '{name}' becomes NaN or infinite on sample {done}; check how the samples are scaled")
            watch[name].update(array)

    for done, sample in enumerate(samples, 1):
        run_float(graph, sample, tap)
        if progress is not None:
            progress(done, len(samples))
    return {name: observer.range() for name, observer in watch.items()}
