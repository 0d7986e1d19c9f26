# SPDX-License-Identifier: Apache-2.0
"""From a model to the integer Graph that is lowered."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from midge.changes import Sides
from midge.codegen.names import c_identifier, given_name
from midge.errors import UsageError
from midge.fixedpoint import NUMERICS
from midge.importers.onnx import load
from midge.ir import Graph
from midge.passes import canonicalize, integerize
from midge.passes.dead_channels import DeadChannels, eliminate_dead_channels
from midge.ptq import complete, load_calibration, narrow_weights, sample_types
from midge.ptq.narrow import Narrowed
from midge.text import print_graph

Progress = Callable[[int, int], None]
Model = Any  # a path, the bytes of a file, or an onnx.ModelProto


@dataclass(frozen=True)
class Prepared:
    """The Graph to lower, under the name of its library, the digest of the model, what was left out as dead, and what got weights of four bits."""

    graph: Graph
    digest: str
    dead: DeadChannels | None
    narrowed: Narrowed | None

    @property
    def saved(self) -> int:
        """Bytes of weights that were left out, for faster kernels to spend."""
        return self.dead.saved if self.dead and self.narrowed is None else 0


def quantized_graph(
    model: Model,
    *,
    calibration: Any = None,
    observer: str = "minmax",
    numerics: str = "onnx",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    batch: int | None = None,
    progress: Progress | None = None,
) -> Graph:
    """Import, canonicalize and quantize: the Graph in which every activation is an integer.

    numerics: "onnx" rounds once, as ONNX Runtime does on QDQ models; "tflite" rounds twice, as TFLite Micro's reference kernels.

    `calibration`: a path (.npz, .npy or a folder), an array of samples, or a dict of arrays by input name. Needed for float models only.
    """
    if numerics not in NUMERICS:
        raise UsageError(f"no numerics named {numerics!r}; known: {', '.join(NUMERICS)}")
    graph = load(model, shapes=dict(shapes or {}), batch=batch)
    graph.numerics = numerics
    samples = None if calibration is None else load_calibration(calibration, sample_types(graph))
    return complete(canonicalize(graph), samples, observer, progress)


def digest_of(graph: Graph) -> str:
    """SHA-256 over the integer Graph: structure, types and weights, neither its name nor the bytes of the file it came in."""
    return hashlib.sha256(print_graph(replace(graph, name="")).encode()).hexdigest()


def prepared(
    quantized: Graph, name: str | None, io: str, keep_dead_channels: bool, weights: str, calibration: Any = None, nhwc: Sides = (False, False)
) -> Prepared:
    """What is made of a Graph of quantized_graph, which stays as it is. Arguments as for midge.compile."""
    graph = integerize(quantized.copy(), io, nhwc)
    digest, dead, narrowed = digest_of(graph), None, None
    if not keep_dead_channels:
        graph, dead = eliminate_dead_channels(graph)
    if weights == "int4":
        graph, narrowed = narrow_weights(graph, calibration)
        digest = digest_of(graph)
    graph.name = given_name(name) if name else c_identifier(graph.name)
    return Prepared(graph, digest, dead, narrowed)
