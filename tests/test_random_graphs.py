# SPDX-License-Identifier: Apache-2.0
"""Random small models: every way of computing one agrees. A failing seed reproduces with `random_model(seed)`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from random_models import random_feeds, random_model, text
from support import needs_arm, program_of

import midge
from midge.errors import Unsupported
from midge.importers.onnx import load
from midge.ir import Array, Graph
from midge.passes import canonicalize, integerize
from midge.program import Program
from midge.ptq import complete
from midge.run.host import run_host
from midge.run.interpreter import Interpreter
from midge.run.qemu import run_qemu
from midge.run.reference import run_reference
from midge.schedule import certify

CALIBRATION = 4  # samples
WIDE = {"MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "Concat", "Split", "Slice", "Pad", "Resize", "Transpose", "Reshape", "Flatten", "Squeeze"}
WIDE |= {"Conv", "BatchNormalization", "Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "HardSwish", "Gelu", "Add", "Sub", "Mul", "Gemm", "MatMul"}
WIDE |= {"Unsqueeze", "Softmax", "Identity"}


def seeds(fast: Sequence[int], slow: Sequence[int]) -> list[object]:
    return [*fast, *(pytest.param(seed, marks=pytest.mark.slow) for seed in slow)]


@cache
def model(seed: int) -> onnx.ModelProto:
    return random_model(seed)


def runtime_outputs(proto: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return list(onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds))


def quantized(seed: int, numerics: str) -> Graph:
    graph = canonicalize(load(model(seed)))
    graph.numerics = numerics
    feeds = random_feeds(model(seed), CALIBRATION, seed)
    return integerize(complete(graph, [{name: data[i] for name, data in feeds.items()} for i in range(CALIBRATION)]))


def random_inputs(graph: Graph, count: int, seed: int) -> list[Array]:
    """(count, *shape) for every input: the whole range of integers, floats a little beyond what calibration saw."""
    rng = np.random.default_rng(seed)
    found: list[Array] = []
    for kind in graph.types(graph.inputs):
        shape = (count, *kind.shape)
        found.append((rng.normal(size=shape) * 1.5).astype(np.float32) if kind.dtype.is_float else rng.integers(-128, 128, shape).astype(kind.dtype.numpy))
    return found


def test_the_models_cover_every_operator_and_odd_edges():
    protos = [model(seed) for seed in range(60)]
    assert {node.op_type for proto in protos for node in proto.graph.node} >= WIDE
    inputs = [{port.name for port in proto.graph.input} for proto in protos]
    outputs = [{port.name for port in proto.graph.output} for proto in protos]
    read = [{name for node in proto.graph.node for name in node.input} for proto in protos]
    assert any(a & b for a, b in zip(inputs, outputs, strict=True)), "no input is an output"
    assert any(a - b for a, b in zip(inputs, read, strict=True)), "every input is read"
    assert any(a & b for a, b in zip(outputs, read, strict=True)), "no output is read inside"
    assert max(map(len, inputs)) > 1 and max(map(len, outputs)) > 2


@pytest.mark.parametrize("seed", seeds(range(60), range(60, 1000)))
def test_float_references_equal_onnxruntime_before_and_after_canonicalize(seed: int) -> None:
    feeds = {name: data[0] for name, data in random_feeds(model(seed), 1, seed).items()}
    wanted = runtime_outputs(model(seed), feeds)
    for graph in (load(model(seed)), canonicalize(load(model(seed)))):
        values = run_reference(graph, feeds)
        for name, want in zip(graph.outputs, wanted, strict=True):
            np.testing.assert_allclose(values[name], want, rtol=1e-4, atol=2e-5, err_msg=f"{name} of\n{text(model(seed))}")


def differing_layer(program: Program, values: dict[str, Array], inputs: list[Array]) -> tuple[str | None, list[Array]]:
    """(the first layer whose bytes differ from the reference, outputs)."""
    wrong: list[str] = []

    def compare(layer: int, data: Array) -> None:
        wanted = np.ascontiguousarray(values[program.layers[layer].value]).tobytes()
        if data.tobytes() != wanted:
            wrong.append(program.layers[layer].text)

    outputs = Interpreter(program).run(inputs, compare)
    return (wrong or [None])[0], outputs


@pytest.mark.parametrize("numerics", ["onnx", "tflite"])
@pytest.mark.parametrize("seed", seeds(range(60), range(60, 1000)))
def test_interpreter_equals_reference_in_every_layer(seed: int, numerics: str) -> None:
    graph = quantized(seed, numerics)
    program = program_of(graph)
    certify(program)
    for sample in zip(*random_inputs(graph, 2, seed), strict=True):
        values = run_reference(graph, dict(zip(graph.inputs, sample, strict=True)))
        wrong, outputs = differing_layer(program, values, list(sample))
        assert wrong is None, f"{wrong} in\n{text(model(seed))}"
        for name, got in zip(graph.outputs, outputs, strict=True):
            np.testing.assert_array_equal(got, values[name])


def compiled(seed: int, target: str, **options: bool) -> midge.Library:
    """Numerics and ports vary with the seed."""
    io, numerics = ("quantized", "model")[seed % 2], ("onnx", "tflite")[seed // 2 % 2]
    feeds = random_feeds(model(seed), CALIBRATION, seed)
    return midge.compile(model(seed).SerializeToString(), target=target, calibration=feeds, numerics=numerics, io=io, name="net", **options)


def assert_equals_reference(graph: Graph, inputs: list[Array], outputs: list[Array]) -> None:
    """Raw outputs (samples, bytes) of emitted C are those of the reference."""
    for i, sample in enumerate(zip(*inputs, strict=True)):
        values = run_reference(graph, dict(zip(graph.inputs, sample, strict=True)))
        for name, got in zip(graph.outputs, outputs, strict=True):
            np.testing.assert_array_equal(got[i].view(graph.type(name).dtype.numpy), values[name].reshape(-1), err_msg=name)


@pytest.mark.parametrize("seed", seeds(range(100, 112), range(112, 200)))
def test_emitted_c_with_sanitizers_equals_reference(seed: int, tmp_path: Path) -> None:
    library = compiled(seed, "host")
    inputs = random_inputs(library.graph, 3, seed)
    assert_equals_reference(library.graph, inputs, run_host(library.write(tmp_path / "net"), inputs, sanitize=True).outputs)


@needs_arm
@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("seed", seeds(range(204, 208), range(208, 240)))
def test_emulated_cores_equal_reference(seed: int, target: str, tmp_path: Path) -> None:
    library = compiled(seed, target)
    inputs = random_inputs(library.graph, 2, seed)
    assert_equals_reference(library.graph, inputs, run_qemu(library.write(tmp_path / "net"), target, inputs).outputs)


@pytest.mark.parametrize("seed", seeds(range(60, 80), range(80, 400)))
def test_a_quantized_file_means_what_quantizing_on_the_fly_does(seed: int, tmp_path: Path) -> None:
    """quantize() to QDQ ONNX and import again: the very outputs of the library compiled in one go."""
    feeds = random_feeds(model(seed), CALIBRATION, seed)
    np.savez(tmp_path / "samples.npz", **feeds)
    onnx.save(model(seed), tmp_path / "float.onnx")
    graph = canonicalize(load(model(seed)))
    if set(graph.inputs) & set(graph.outputs):
        with pytest.raises(Unsupported, match="is an input passed through"):
            midge.quantize(tmp_path / "float.onnx", tmp_path / "samples.npz")
        return
    direct = midge.compile(tmp_path / "float.onnx", calibration=feeds)
    reimported = midge.compile(midge.quantize(tmp_path / "float.onnx", tmp_path / "samples.npz"), name="net")
    sample = [data[0] for data in feeds.values()]
    wanted, got = ([out] if isinstance(out, np.ndarray) else out for out in (direct.run(*sample), reimported.run(*sample)))
    for port, a, b in zip(direct.program.outputs, wanted, got, strict=True):
        np.testing.assert_array_equal(b, a, err_msg=f"{port.name} of\n{text(model(seed))}")


@pytest.mark.parametrize("seed", seeds([*range(300, 340), 657], [*range(340, 657), *range(658, 900)]))
def test_leaving_out_dead_channels_changes_no_output(seed: int) -> None:
    """On the kernels of all targets, which differ in how they pack weights."""
    target = ("host", "cortex-m0", "cortex-m4", "cortex-m55")[seed % 4]
    whole, pruned = compiled(seed, target, keep_dead_channels=True), compiled(seed, target)
    for sample in zip(*random_inputs(whole.graph, 3, seed), strict=True):
        values = run_reference(whole.graph, dict(zip(whole.graph.inputs, sample, strict=True)))
        for library in (whole, pruned):
            outputs = library.run(*sample)
            for name, got in zip(whole.graph.outputs, [outputs] if isinstance(outputs, np.ndarray) else outputs, strict=True):
                np.testing.assert_array_equal(got, values[name], err_msg=f"{name} of\n{text(model(seed))}")
