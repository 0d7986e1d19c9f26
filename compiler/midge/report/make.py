# SPDX-License-Identifier: Apache-2.0
"""From a Library to the two files of its report: what is run, on which samples, against what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from midge.ir import Array, Graph, TensorType
from midge.ops.build import quantize
from midge.passes.ports import from_port, to_port
from midge.program import Program
from midge.ptq.calibration import load_calibration
from midge.ptq.schemes import float_activations
from midge.report.accuracy import SAMPLES, compare
from midge.report.facts import Facts, gather
from midge.report.html import files
from midge.report.measure import measure
from midge.run.samples import load_samples, random_samples

VERIFIED = 3  # samples that are run on the emulator, layer by layer
Samples = Sequence[Sequence[Array]]


def choose_samples(graph: Graph, data: str | None, calibration: str | None, types: Mapping[str, TensorType] | None = None) -> tuple[list[list[Array]], str]:
    """(samples in the types of the ports, what they are): of `data`, else of the calibration data, else random ones. `types` are the inputs that the
    calibration data is for, by default those of `graph`.

    Raises: UsageError for files that do not fit.
    """
    if data is not None:
        return load_samples(Path(data), graph, SAMPLES), f"the first of {Path(data).name}"
    if calibration is None:
        return random_samples(graph, SAMPLES), "random ones over the whole range of the inputs; real data may do better or worse"
    shown = {name: from_port(np.empty(graph.type(name).shape, bool), name in graph.nhwc).shape for name in graph.inputs}
    named = dict(types or {name: graph.type(name).with_shape(shown[name]) for name in graph.inputs})
    chosen = load_calibration(calibration, named, SAMPLES)
    turned = [[to_port(sample[name].reshape(shown[name]), name in graph.nhwc) for name in graph.inputs] for sample in chosen]
    return [[_to_port(array, graph.type(name)) for name, array in zip(graph.inputs, sample, strict=True)] for sample in turned], "of the calibration data"


def _to_port(array: Array, kind: TensorType) -> Array:
    array = array.reshape(kind.shape)
    return quantize(array, kind.dtype, kind.quant) if kind.quant is not None and array.dtype.kind == "f" else array.astype(kind.dtype.numpy)


def is_float_model(graph: Graph) -> bool:
    """Whether no activation of a Graph is quantized yet, so that it can be the reference."""
    computed = [*graph.inputs, *(name for node in graph.nodes for name in node.outputs)]
    return bool(float_activations(graph)) and all(graph.type(name).quant is None for name in computed)


def make_report(
    graph: Graph,
    program: Program,
    directory: Path,
    samples: Samples,
    data: str,
    float_graph: Graph | None = None,
    kept: Mapping[str, tuple[int, ...]] | None = None,
) -> tuple[Facts, dict[str, str]]:
    """The Facts of the library written to `directory`, and report.html and report.json as text. Arguments as for midge.report.accuracy.compare.

    Raises: VerifyFailed if the emitted code crashes.
    """
    reference = float_graph if float_graph is not None and is_float_model(float_graph) else None
    accuracy = compare(graph, [list(sample) for sample in samples], data, reference, kept)
    facts = gather(graph, program, accuracy, measure(directory, program, samples[:VERIFIED]))
    return facts, files(facts, graph, program)
