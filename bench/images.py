# SPDX-License-Identifier: Apache-2.0
"""Networks from image to image, built here: float32 and NCHW, as PyTorch exports them, with random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from midge.ir import Array

SAME = [1, 1, 1, 1]  # padding around kernels of 3 x 3
TWICE = np.array([1, 1, 2, 2])  # scales of a Resize


def onnx_file(nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Array], ports: Mapping[str, Sequence[int]], inputs: int = 1) -> bytes:
    """The bytes of a float32 model. ports: shapes by name, those of the inputs first."""
    infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in ports.items()]
    kept = [numpy_helper.from_array(data.astype(np.float32), name) for name, data in constants.items()]
    model = helper.make_model(helper.make_graph(nodes, "net", infos[:inputs], infos[inputs:], kept), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return bytes(model.SerializeToString())


def denoiser(channels: int, size: int) -> bytes:
    """Encoder, decoder with a skip connection, and what is left subtracted from the image."""
    weights = _weights({"w0": (8, channels, 3, 3), "w1": (12, 8, 3, 3), "w2": (8, 20, 3, 3), "w3": (channels, 8, 3, 3)})
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a0"], pads=SAME),
        helper.make_node("Relu", ["a0"], ["a"]),
        helper.make_node("Conv", ["a", "w1"], ["b0"], pads=SAME, strides=[2, 2]),
        helper.make_node("Relu", ["b0"], ["b"]),
        helper.make_node("Resize", ["b", "", "by"], ["c"], mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
        helper.make_node("Concat", ["a", "c"], ["d"], axis=1),
        helper.make_node("Conv", ["d", "w2"], ["e0"], pads=SAME),
        helper.make_node("Relu", ["e0"], ["e"]),
        helper.make_node("Conv", ["e", "w3"], ["r"], pads=SAME),
        helper.make_node("Sub", ["x", "r"], ["y"]),
    ]
    shape = [1, channels, size, size]
    return onnx_file(nodes, weights | {"by": TWICE}, {"x": shape, "y": shape})


def upscaler(channels: int, size: int) -> bytes:
    """Three convolutions, with pixels repeated before the last."""
    weights = _weights({"w0": (8, channels, 3, 3), "w1": (8, 8, 3, 3), "w2": (channels, 8, 3, 3)})
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a0"], pads=SAME),
        helper.make_node("Relu", ["a0"], ["a"]),
        helper.make_node("Conv", ["a", "w1"], ["b0"], pads=SAME),
        helper.make_node("Relu", ["b0"], ["b"]),
        helper.make_node("Resize", ["b", "", "by"], ["c"], mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
        helper.make_node("Conv", ["c", "w2"], ["y"], pads=SAME),
    ]
    return onnx_file(nodes, weights | {"by": TWICE}, {"x": [1, channels, size, size], "y": [1, channels, 2 * size, 2 * size]})


def noise(channels: int, size: int, seed: int = 1) -> Array:
    """Four images to calibrate on."""
    return np.random.default_rng(seed).normal(size=(4, channels, size, size)).astype(np.float32)


def _weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    random = np.random.default_rng(5)
    return {name: random.normal(size=shape) / np.sqrt(np.prod(shape[1:])) for name, shape in shapes.items()}
