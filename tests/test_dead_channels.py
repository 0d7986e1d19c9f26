# SPDX-License-Identifier: Apache-2.0
"""Dead channels: what is removed from known models and from nets with planted constants, and that no byte of any value that is left changes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from dead_channel_nets import BOTH, eliminate, planted
from hypothesis import given, settings
from hypothesis import strategies as st
from support import program_of, shared

from midge.api import quantized_graph
from midge.ir import Graph
from midge.passes import INTEGER
from midge.passes.dead_channels import eliminate_dead_channels
from midge.run.interpreter import Interpreter
from midge.text import print_graph


@settings(max_examples=150)
@given(st.integers(0, 1 << 32), st.sampled_from(["onnx", "tflite"]))
def test_nothing_that_is_left_changes(seed, numerics):
    graph = planted(seed, numerics)
    small, dead = eliminate(graph, seed)
    assert all(node.op.infer(types)[0].shape == out[0].shape for node, types, out in small.walk())
    assert dead.macs[1] <= dead.macs[0] and dead.weight_nbytes[1] <= dead.weight_nbytes[0]


def test_the_planted_nets_lose_channels_around_every_operator():
    """Otherwise the test above shows nothing."""
    thinner: Counter[str] = Counter()
    for seed in range(300):
        graph = planted(seed, "onnx")
        _, dead = eliminate_dead_channels(graph)
        thinner.update({node.op.kind for node in graph.nodes if dead.kept.get(node.outputs[0])})
        thinner.update({f"no {node.op.kind}" for node in graph.nodes if dead.kept.get(node.outputs[0]) == ()})
    wanted = {
        "Conv2D",
        "Dense",
        "Add",
        "Sub",
        "Mul",
        "Mean",
        "Sigmoid",
        "LeakyRelu",
        "Math",
        "Clip",
        "PRelu",
        "AveragePool",
        "MaxPool",
        "Slice",
        "Concat",
        "Pad",
        "Resize",
    }
    assert wanted | {"Transpose", "Reshape", "no Conv2D", "no Sigmoid"} <= thinner.keys()
    assert thinner["Conv2D"] > 150


MODELS = {
    "mlperf_tiny/vww_96_int8_qdq": ((7489664, 3727313), (208112, 29066)),
    "zoo/tflm_person_detect": ((7157888, 7077246), (207968, 207676)),
}


ALIVE = [f"mlperf_tiny/{name}_int8_qdq" for name in ("kws_ref_model", "pretrainedResnet", "ad01", "str_ww_ref_model")]
ALIVE += [f"zoo/{name}" for name in ("tflm_micro_speech_quantized", "tinymaix_mnist_dw_q", "tinymaix_mnist_resnet_q", "tinymaix_cifar10_q")]


def integer_graph(name: str, numerics: str) -> Graph:
    graph = quantized_graph(shared(f"models/{name}.onnx"), numerics=numerics)
    for run in INTEGER:
        graph = run(graph)
    return graph


@BOTH
@pytest.mark.parametrize("name", MODELS)
def test_models_with_dead_channels(name, numerics):
    graph = integer_graph(name, numerics)
    small, dead = eliminate(graph)
    assert (dead.macs, dead.weight_nbytes) == MODELS[name]
    _, again = eliminate_dead_channels(small)
    assert not again


@pytest.mark.parametrize("name", MODELS)
def test_golden_bytes_without_dead_channels(name):
    golden = np.load(shared(f"golden/{name.split('/')[1].removesuffix('_int8_qdq')}.npz"))
    run = Interpreter(program_of(eliminate_dead_channels(integer_graph(name, "tflite"))[0]))
    for x, y in (("x", "y_tflm"), ("x_real", "y_real_tflm")):
        for sample, want in zip(golden[x], golden[y], strict=True):
            shape = run.program.inputs[0].type.shape
            np.testing.assert_array_equal(run.run([sample.reshape(shape)])[0].reshape(-1), want.reshape(-1))


@pytest.mark.parametrize("name", ALIVE)
def test_models_without_dead_channels_stay_as_they_are(name):
    graph = integer_graph(name, "onnx")
    small, dead = eliminate_dead_channels(graph)
    assert not dead and dead.kept == {}
    assert print_graph(small) == print_graph(graph)
