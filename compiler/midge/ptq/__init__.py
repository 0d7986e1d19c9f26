# SPDX-License-Identifier: Apache-2.0
"""Post-training quantization: observers, calibration, schemes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from midge.ptq.calibration import Calibration, Progress, load_calibration, sample_types
from midge.ptq.narrow import narrow_weights
from midge.ptq.schemes import complete, quantize, quantize_graph
from midge.ptq.weights import finish_weights

if TYPE_CHECKING:
    import onnx


def quantize_model(
    source: str | Path | bytes | onnx.ModelProto, calibration: Calibration, observer: str = "minmax", progress: Progress | None = None
) -> onnx.ModelProto:
    """A float ONNX model as an int8 QDQ model with the same inputs and outputs, calibrated on `calibration` (see load_calibration).

    Raises: UsageError for calibration data that does not fit, ImportFailed and Unsupported for the model.
    """
    from midge.importers.onnx import load
    from midge.importers.onnx_export import write_qdq
    from midge.passes import canonicalize

    graph = canonicalize(load(source))
    samples = load_calibration(calibration, {name: graph.model_types.get(name, graph.type(name)) for name in graph.inputs})
    return write_qdq(quantize(graph, samples, observer, progress))


__all__ = ["complete", "finish_weights", "load_calibration", "narrow_weights", "quantize", "quantize_graph", "quantize_model", "sample_types"]
