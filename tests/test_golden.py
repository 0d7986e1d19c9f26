# SPDX-License-Identifier: Apache-2.0
"""Golden vectors of TFLite Micro's reference kernels: every byte, from the emitted C, on the host and on an emulated Cortex-M4."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support import needs_arm, shared

import midge
from midge.ir import Graph
from midge.run.host import run_host
from midge.run.qemu import image_sizes, run_qemu
from midge.run.reference import run_reference

MODELS = {
    "kws_ref_model": "mlperf_tiny/kws_ref_model_int8_qdq.onnx",
    "vww_96": "mlperf_tiny/vww_96_int8_qdq.onnx",
    "pretrainedResnet": "mlperf_tiny/pretrainedResnet_int8_qdq.onnx",
    "ad01": "mlperf_tiny/ad01_int8_qdq.onnx",
    "str_ww_ref_model": "mlperf_tiny/str_ww_ref_model_int8_qdq.onnx",
    "tflm_micro_speech_quantized": "zoo/tflm_micro_speech_quantized.onnx",
    "tflm_person_detect": "zoo/tflm_person_detect.onnx",
    "tinymaix_mnist_dw_q": "zoo/tinymaix_mnist_dw_q.onnx",
    "tinymaix_mnist_resnet_q": "zoo/tinymaix_mnist_resnet_q.onnx",
    "tinymaix_cifar10_q": "zoo/tinymaix_cifar10_q.onnx",
    "tflm_hello_world_int8": "zoo/tflm_hello_world_int8.onnx",
}
ARENA = {"kws_ref_model": 3960, "vww_96": 28060, "pretrainedResnet": 10400, "ad01": 768, "str_ww_ref_model": 3776, "tflm_person_detect": 12400}
LEAST = {"kws_ref_model": 4400, "vww_96": 28300, "pretrainedResnet": 12000, "ad01": 768, "str_ww_ref_model": 4000, "tflm_person_detect": 13500}
STREAMED = {
    "kws_ref_model": (3640, 4000),
    "vww_96": (9980, 11400),
    "pretrainedResnet": (9300, 11200),
    "str_ww_ref_model": (3776, 4000),
    "tflm_person_detect": (9800, 11400),
}
CODE = {"balanced": 16_384, "size": 8_192}  # bytes of a whole image's code, start-up included, at -Os and at -O2
OTHERS = (
    *(f"trained/{model}_{kind}.onnx" for model in ("digits_mlp", "fsdd_dscnn", "mnist5k_mbv2") for kind in ("int8_qdq", "ortq_qdq_s8", "ortq_qop_u8")),
    *(f"trained/str_ww_ref_model_{kind}.onnx" for kind in ("ortq_qdq_s8", "ortq_qop_u8")),
    *(f"zoo/micro_kws_m_{kind}.onnx" for kind in ("qdq", "static_qdq", "static_qoperator")),
    *(f"zoo/mww_{model}_stateful_qdq.onnx" for model in ("okay_nabu", "vad")),
)
LARGE = ("vww_96", "tflm_person_detect")  # what has the most code
GAP = {"ad01": 1.0, "vww_96": 1.0, "kws_ref_model": 1.01, "str_ww_ref_model": 1.01}
INSTRUCTIONS = {"kws_ref_model": 24_300_000, "vww_96": 58_300_000, "pretrainedResnet": 66_000_000, "ad01": 975_000}  # portable kernels, -O2
COMPARED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "SOFTMAX"}
KINDS = {"Conv2D", "Dense", "Add", "AveragePool", "MaxPool", "Mean", "Softmax"}


@cache
def compiled(name: str, optimize: str = "size") -> midge.Library:
    """`size` as midge makes it; `portable` keeps dead channels too, so that every golden layer has its counterpart."""
    whole = optimize == "portable"
    return midge.compile(
        shared(f"models/{MODELS[name]}"), target="cortex-m4", numerics="tflite", optimize="size" if whole else optimize, keep_dead_channels=whole
    )


@cache
def written(name: str, folder: Path, optimize: str = "size") -> Path:
    return compiled(name, optimize).write(folder / optimize / name)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("golden")


def vectors(name: str) -> tuple[np.ndarray, np.ndarray]:
    """All (inputs, outputs) of a golden file: random, real and photo inputs, whichever it has."""
    golden = np.load(shared(f"golden/{name}.npz"))
    pairs = [(golden[x], golden[y]) for x, y in (("x", "y_tflm"), ("x_real", "y_real_tflm")) if y in golden]
    if "y_img_tflm" in golden:
        pairs.append(((golden["x_img_u8"].astype(np.int16) - 128).astype(np.int8), golden["y_img_tflm"]))
    return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])


@pytest.mark.parametrize("optimize", ["portable", "ram", "balanced", "speed"])
@pytest.mark.parametrize("name", MODELS)
def test_host_c_equals_every_golden_byte(name, optimize, folder):
    x, y = vectors(name)
    run = run_host(written(name, folder, optimize), [x])
    np.testing.assert_array_equal(run.outputs[0].reshape(y.shape[0], -1).view(np.int8), y.reshape(y.shape[0], -1))


@needs_arm
@pytest.mark.parametrize("optimize", ["portable", "ram", "balanced", "speed"])
@pytest.mark.parametrize("name", MODELS)
def test_cortex_m4_equals_every_golden_byte(name, optimize, folder):
    x, y = vectors(name)
    run = run_qemu(written(name, folder, optimize), "cortex-m4", [x])
    np.testing.assert_array_equal(run.outputs[0].reshape(y.shape[0], -1).view(np.int8), y.reshape(y.shape[0], -1))


@needs_arm
@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_instructions_on_cortex_m4(name, folder):
    x, _ = vectors(name)
    assert run_qemu(written(name, folder, "portable"), "cortex-m4", [x[:1]]).instructions <= INSTRUCTIONS[name]


@needs_arm
def test_flash_of_a_whole_image(folder):
    sizes = image_sizes(written("kws_ref_model", folder), "cortex-m4", "-Os")
    assert sizes.total_flash < 45_000


@needs_arm
@pytest.mark.parametrize("optimize", CODE)
@pytest.mark.parametrize("name", [name if name in LARGE else pytest.param(name, marks=pytest.mark.slow) for name in MODELS])
def test_code_of_a_whole_image(name, optimize, folder):
    for flags in ("-Os", "-O2"):
        assert image_sizes(written(name, folder, optimize), "cortex-m4", flags).text <= CODE[optimize]


@needs_arm
@pytest.mark.slow
@pytest.mark.parametrize("optimize", CODE)
@pytest.mark.parametrize("path", OTHERS)
def test_code_of_other_models(path, optimize, tmp_path):
    directory = midge.compile(shared(f"models/{path}"), target="cortex-m4", optimize=optimize).write(tmp_path / "net")
    assert image_sizes(directory, "cortex-m4", "-Os").text <= CODE[optimize]


@needs_arm
@pytest.mark.slow
@pytest.mark.parametrize("more", [{"schedule": "layers"}, {"stream_input": True}], ids=str)
@pytest.mark.parametrize("name", LARGE)
def test_code_of_other_schedules(name, more, tmp_path):
    library = midge.compile(shared(f"models/{MODELS[name]}"), target="cortex-m4", numerics="tflite", **more)
    assert image_sizes(library.write(tmp_path / "net"), "cortex-m4", "-Os").text <= CODE["balanced"]


@pytest.mark.parametrize("name", MODELS)
def test_arena_is_at_the_bound(name):
    """Rows leave at most 3 % between what was placed and what no schedule can do without."""
    program = compiled(name, "portable").program
    assert program.arena_nbytes <= program.lower_bound * GAP.get(name, 1.03)
    for level, limits in (("portable", ARENA), ("ram", LEAST)):
        if name in limits:
            assert compiled(name, level).program.arena_nbytes <= limits[name]


@pytest.mark.parametrize("name", STREAMED)
def test_arena_when_rows_are_pushed(name):
    for target, optimize, limit in (("host", "ram", STREAMED[name][0]), ("cortex-m4", "ram", STREAMED[name][1])):
        program = midge.compile(shared(f"models/{MODELS[name]}"), target=target, numerics="tflite", optimize=optimize, stream_input=True).program
        assert program.arena_nbytes <= limit
        assert program.arena_nbytes <= program.lower_bound * 1.03


def layer_values(graph: Graph, sample: np.ndarray) -> list[tuple[str, np.ndarray]]:
    values = run_reference(graph, {graph.inputs[0]: sample.reshape(graph.type(graph.inputs[0]).shape)})
    return [(node.op.kind, values[node.outputs[0]]) for node in graph.nodes if node.op.kind in KINDS]


@pytest.mark.parametrize(
    "name", ["ad01", "kws_ref_model", "pretrainedResnet", "str_ww_ref_model", "tflm_micro_speech_quantized", "tflm_person_detect", "vww_96"]
)
@pytest.mark.parametrize("which", ["rnd", "real"])
def test_layers_equal_golden_layers(name, which):
    golden = np.load(shared(f"golden/layers/{name}.npz"))
    if f"{which}/input" not in golden:
        pytest.skip(f"the golden file has no {which} input")
    wanted = [golden[key] for key in golden if key.startswith(f"{which}/") and key.split("_", 1)[-1] in COMPARED]
    got = layer_values(compiled(name, "portable").graph, golden[f"{which}/input"])
    assert len(got) == len(wanted)
    left = list(wanted)
    for kind, value in got:
        match = next((i for i, w in enumerate(left) if w.size == value.size and (w.reshape(-1) == value.reshape(-1)).all()), None)
        assert match is not None, f"a {kind} of shape {value.shape} equals no golden layer"
        left.pop(match)
