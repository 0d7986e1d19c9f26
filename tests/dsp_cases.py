# SPDX-License-Identifier: Apache-2.0
"""Random convolutions and dense layers that the kernels of the DSP extension serve, and what is asked of them on the emulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support import joined, op_graph, program_of, s8

from midge.codegen.write import write_library
from midge.ir import Array, DType, Graph, Quant, TensorType
from midge.ops.conv import Conv2D
from midge.run.host import run_host
from midge.run.qemu import run_qemu
from midge.run.reference import run_reference

Case = tuple[Graph, dict[str, Array]]


def convolution(rng: np.random.Generator, op: Conv2D, x: tuple[int, ...], kernel: tuple[int, int], out: int, numerics: str, extreme: bool) -> Case:
    """A graph of one layer and its input. `extreme`: inputs and weights at the ends of their ranges, -128 left out of the weights."""
    shape = (out, *kernel, x[-1])
    data = rng.choice(np.array([-128, 127], np.int8), x) if extreme else rng.integers(-128, 128, x).astype(np.int8)
    depth = kernel[0] * kernel[1] * x[-1]
    top = min(127, 127 * 250 // depth)  # two weights a lane leave 23 bits for a sum
    weights = (rng.choice(np.array([-top, top]), shape) if extreme else rng.integers(-top, top + 1, shape)).astype(np.int8)
    bias = rng.integers(-20000, 20000, out).astype(np.int32)
    weights[rng.random(out) < 0.1] = 0  # constant channels
    scales = np.float32(rng.uniform(0.2, 1.0, out) / (max(1, top / 2) * depth**0.5 * (2 if extreme else 1)))
    tx = s8(x, 0.5, int(rng.choice([-128, -3, 0, 127])))
    tw, tb = TensorType(DType.S8, shape, Quant.of(scales, 0, 0)), TensorType(DType.S32, bias.shape)
    ty = op.infer([tx, tw])[0].with_quant(DType.S8, Quant.of(0.5, int(rng.choice([-128, 5, 127]))))
    return op_graph(op, [tx, (tw, weights), (tb, bias)], ty, numerics), {"in0": data}


def symbols(graph: Graph, target: str = "cortex-m4", optimize: str = "balanced") -> list[str]:
    return [call.kernel.symbol for call in program_of(graph, target, optimize).calls]


def assert_assembly_matches(cases: list[Case], target: str, optimize: str, folder: Path, *kernels: str) -> None:
    """All cases in one library: emulated core == host C (twins) == reference. `kernels` serve them."""
    graph = joined([graph for graph, _ in cases])
    program = program_of(graph, target, optimize, by_rows=False)  # rows of layers side by side take long to order
    assert {call.kernel.symbol for call in program.calls} == set(kernels)
    feeds = {f"g{i}_{name}": data for i, (_, feed) in enumerate(cases) for name, data in feed.items()}
    expected = run_reference(graph, feeds)
    directory = write_library(program, folder / "net")
    inputs = [feeds[name][None] for name in graph.inputs]
    for run in (run_host(directory, inputs, sanitize=True), run_qemu(directory, target, inputs)):
        for name, got in zip(graph.outputs, run.outputs, strict=True):
            np.testing.assert_array_equal(got.view(np.int8).reshape(-1), expected[name].reshape(-1), err_msg=f"{name} {graph.type(name)}")
