# SPDX-License-Identifier: Apache-2.0
"""MobileNetV2 with random weights, as float ONNX: a large model for the scheduler."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))  # expansion, channels, repeats, stride


def mobilenet_v2(size: int, width: float = 0.35, classes: int = 10) -> onnx.ModelProto:
    """NCHW input of size x size pixels; channels are `width` times the published ones, rounded to multiples of 8."""
    rng, nodes, held = np.random.default_rng(0), [], []

    def scaled(channels: int) -> int:
        return max(8, int(channels * width + 4) // 8 * 8)

    def conv(x: str, inside: int, out: int, kernel: int, stride: int, groups: int = 1, relu: bool = True) -> str:
        name, fan = f"v{len(nodes)}", inside // groups * kernel * kernel
        held.append(numpy_helper.from_array((rng.normal(size=(out, inside // groups, kernel, kernel)) / np.sqrt(fan)).astype(np.float32), f"{name}_w"))
        nodes.append(helper.make_node("Conv", [x, f"{name}_w"], [name], pads=[kernel // 2] * 4, strides=[stride] * 2, group=groups, name=name))
        if relu:
            nodes.append(helper.make_node("Relu", [name], [f"{name}_relu"], name=f"{name}_relu"))
        return f"{name}_relu" if relu else name

    value, channels = conv("x", 3, scaled(32), 3, 2), scaled(32)
    for expansion, published, repeats, first in BLOCKS:
        for repeat in range(repeats):
            out, stride, before, wide = scaled(published), first if repeat == 0 else 1, value, channels * expansion
            value = conv(value, channels, wide, 1, 1) if expansion > 1 else value
            value = conv(conv(value, wide, wide, 3, stride, groups=wide), wide, out, 1, 1, relu=False)
            if stride == 1 and channels == out:
                nodes.append(helper.make_node("Add", [before, value], [f"sum{len(nodes)}"], name=f"sum{len(nodes)}"))
                value = nodes[-1].output[0]
            channels = out
    nodes.append(helper.make_node("GlobalAveragePool", [conv(value, channels, 1280 // 4, 1, 1)], ["pooled"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"))
    held.append(numpy_helper.from_array((rng.normal(size=(1280 // 4, classes)) / 18).astype(np.float32), "dense_w"))
    nodes.append(helper.make_node("MatMul", ["flat", "dense_w"], ["y"], name="dense"))
    ports = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("x", [1, 3, size, size]), ("y", [1, classes]))]
    model = helper.make_model(helper.make_graph(nodes, "mobilenet_v2", ports[:1], ports[1:], held), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model
