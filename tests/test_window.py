# SPDX-License-Identifier: Apache-2.0
"""The network of a smaller input window: layer for layer what the model would be had it been built for that window."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import model, net, node, value
from random_models import random_feeds, random_model
from support import assert_kernels_match, program_of

from midge.errors import MidgeError
from midge.ir import Array, Graph
from midge.passes import integerize
from midge.passes.window import regrouped, with_less_rows
from midge.prepare import quantized_graph

HALF = Fraction(1, 2)


def weights(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).normal(0, 0.3, shape).astype(np.float32)


def image(rows: int) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """Convolutions with a way around, a pool over all that is left, and a dense layer."""
    constants = {"w": weights(8, 3, 3, 3), "v": weights(8, 8, 3, 3), "d": weights(8, 5), "b": weights(5)}
    nodes = [
        node("Conv", ["x", "w"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", ["c", "v"], ["e"], pads=[1, 1, 1, 1]),
        node("Add", ["c", "e"], ["s"]),
        node("AveragePool", ["s"], ["p"], kernel_shape=[rows // 2, 8]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "d", "b"], ["y"]),
    ]
    return net(nodes, constants, (1, 3, rows, 16)), (1, 3, rows, 16)


def spectrum(rows: int) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """A vector that is seen as an image; a factor for each of its rows; a dense layer over all pixels."""
    constants = {"shape": np.array([1, 1, rows, 6]), "w": weights(4, 1, 3, 3), "m": weights(rows, 1), "d": weights(24 * rows, 5)}
    nodes = [
        node("Reshape", ["x", "shape"], ["r"]),
        node("Conv", ["r", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Mul", ["c", "m"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("MatMul", ["f", "d"], ["y"]),
    ]
    return net(nodes, constants, (1, 6 * rows)), (1, 6 * rows)


def sequence(rows: int) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """A last convolution that covers all time steps, as those of keyword spotters."""
    nodes = [node("Conv", ["x", "w"], ["c"], kernel_shape=[3]), node("Relu", ["c"], ["r"]), node("Conv", ["r", "v"], ["y"])]
    return net(nodes, {"w": weights(4, 5, 3), "v": weights(3, 4, rows - 2)}, (1, 5, rows)), (1, 5, rows)


def decoder(rows: int) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """Rows that are added, taken away, repeated and joined."""
    constants = {
        "pads": np.array([0, 0, 1, 0, 0, 0, 1, 0]),
        "starts": np.array([1]),
        "ends": np.array([rows + 2]),
        "axes": np.array([2]),
        "roi": np.zeros(0, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "bias": weights(1, 1, rows, 1),
    }
    nodes = [
        node("Pad", ["x", "pads"], ["p"]),
        node("Slice", ["p", "starts", "ends", "axes"], ["s"]),
        node("MaxPool", ["s"], ["m"], kernel_shape=[2, 1]),
        node("Add", ["m", "bias"], ["a"]),
        node("Concat", ["a", "x"], ["j"], axis=1),
        node("Resize", ["j", "roi", "scales"], ["y"], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    ]
    return net(nodes, constants, (1, 2, rows, 4)), (1, 2, rows, 4)


def vector(rows: int) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    nodes = [node("MatMul", ["x", "a"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "b"], ["y"])]
    return net(nodes, {"a": weights(rows, 8), "b": weights(8, 3)}, (1, rows)), (1, rows)


Built = Callable[[int], tuple[onnx.ModelProto, tuple[int, ...]]]


def integers(built: Built, rows: int) -> Graph:
    proto, shape = built(rows)
    return integerize(quantized_graph(proto, calibration=np.random.default_rng(0).normal(0, 1, (4, *shape[1:])).astype(np.float32)))


def shapes(graph: Graph) -> list[tuple[str, Any, list[tuple[int, ...]]]]:
    return [(node.name, node.op, [kind.shape for kind in (*types, *out)]) for node, types, out in graph.walk()]


@pytest.mark.parametrize("built", [image, spectrum, sequence, decoder, vector])
def test_the_cut_network_is_the_one_that_is_built_smaller(built: Built) -> None:
    cut, small = with_less_rows(integers(built, 16), HALF), integers(built, 8)
    assert [kind.shape for kind in cut.types(cut.inputs + cut.outputs)] == [kind.shape for kind in small.types(small.inputs + small.outputs)]
    assert shapes(cut) == shapes(small)
    assert program_of(cut).arena_nbytes == program_of(small).arena_nbytes
    assert program_of(cut).weight_nbytes == program_of(small).weight_nbytes
    feeds = {name: np.random.default_rng(1).integers(-128, 128, cut.type(name).shape, np.int8) for name in cut.inputs}
    assert_kernels_match(cut, feeds)


def test_the_model_itself_is_left_as_it_is() -> None:
    graph = integers(image, 16)
    before = shapes(graph)
    with_less_rows(graph, HALF)
    assert shapes(graph) == before


def test_a_part_is_rounded_up() -> None:
    cut = with_less_rows(integers(image, 18), Fraction(3, 4))
    assert cut.type(cut.inputs[0]).shape == (1, 3, 14, 16)


def test_what_cannot_be_smaller_is_refused() -> None:
    two = model([node("Add", ["x", "z"], ["y"])], [value("x", (1, 4)), value("z", (1, 4))], [value("y", None)])
    pair = integerize(quantized_graph(two, calibration={"x": weights(2, 4), "z": weights(2, 4)}))
    with pytest.raises(MidgeError, match="2 inputs"):
        with_less_rows(pair, HALF)
    with pytest.raises(MidgeError, match="one row"):
        with_less_rows(integers(vector, 1), HALF)
    narrow = net([node("Conv", ["x", "w"], ["c"]), node("Conv", ["c", "v"], ["y"])], {"w": weights(4, 5, 7), "v": weights(3, 4, 2)}, (1, 5, 12))
    with pytest.raises(MidgeError, match="does not fit"):
        with_less_rows(integerize(quantized_graph(narrow, calibration=weights(2, 5, 12))), HALF)


def test_shapes_are_matched_in_groups() -> None:
    assert regrouped((1, 49, 10, 1), (1, 490), (1, 25, 10, 1)) == (1, 250)
    assert regrouped((1, 490), (1, 49, 10, 1), (1, 250)) == (1, 25, 10, 1)
    assert regrouped((1, 8, 4, 3), (1, 32, 3), (1, 4, 4, 3)) == (1, 16, 3)
    assert regrouped((1, 8, 4, 3), (1, 8, 12, 1, 1), (1, 4, 4, 3)) == (1, 4, 12, 1, 1)
    assert regrouped((1, 1, 6), (6,), (1, 1, 3)) == (3,)
    with pytest.raises(MidgeError, match="cannot be seen as"):
        regrouped((1, 490), (1, 49, 10, 1), (1, 245))


def test_random_models_are_cut_to_networks_that_run_or_refused() -> None:
    ran = 0
    for seed in range(30):
        proto = random_model(seed)
        graph = integerize(quantized_graph(proto, calibration=random_feeds(proto, 4)))
        try:
            cut = with_less_rows(graph, HALF)
        except MidgeError:
            continue
        random = np.random.default_rng(seed)
        assert_kernels_match(cut, {name: random.integers(-128, 128, cut.type(name).shape, np.int8) for name in cut.inputs})
        ran += 1
    assert ran >= 5
