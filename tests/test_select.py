# SPDX-License-Identifier: Apache-2.0
"""Choice of kernels: by measured cost, under a budget of flash, and what the table says of shapes it does not know."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import needs_arm, op_graph, s8

from midge.costs import FIELDS, Costs, load_costs
from midge.errors import Unsupported, UsageError
from midge.ir import DType, Quant, TensorType
from midge.lower import Choice, lower, offers
from midge.ops.conv import Conv2D
from midge.ptq.narrow import narrow_weights
from midge.run.tune import tune
from midge.select import Candidate, evaluate, select
from midge.targets import get_target


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_the_solver_equals_trying_everything(seed):
    rng = random.Random(seed)
    units, ladders = "abcde", ("r1", "r2", "r3", "r4")  # of which longer ones stand in for shorter ones

    def candidate(i: int) -> Candidate:
        size = rng.randint(1, 4)
        routines = (tuple(ladders[n] for n in (size - 1, *range(3, size - 1, -1))),) if rng.random() < 0.7 else ()
        return Candidate(f"v{i}", rng.randint(10, 999), rng.randint(0, 300), frozenset(rng.sample(units, rng.randint(1, 2))), routines)

    layers = {layer: [candidate(i) for i in range(rng.randint(1, 3))] for layer in range(rng.randint(1, 5))}
    code, fixed = {unit: rng.randint(50, 500) for unit in (*units, *ladders)}, rng.randint(0, 100)
    every = [evaluate(layers, code, fixed, dict(zip(layers, [c.name for c in names], strict=True))) for names in itertools.product(*layers.values())]
    budget = rng.randint(min(choice.nbytes for choice in every), max(choice.nbytes for choice in every))
    found = select(layers, code, fixed, budget)
    assert found.nbytes <= budget
    assert found.instructions == min(choice.instructions for choice in every if choice.nbytes <= budget)


def test_a_budget_nothing_fits_says_the_least_that_would():
    layers = {0: [Candidate("v", 1, 100, frozenset("a"))]}
    with pytest.raises(Unsupported, match="needs 157 bytes"):
        select(layers, {"a": 50}, 7, 156)


def conv_graph(channels=8, out=8, size=6, groups=1):
    rng = np.random.default_rng(0)
    w = rng.integers(-50, 50, (out, 1, 1, channels // groups)).astype(np.int8)
    bias = rng.integers(-500, 500, out).astype(np.int32)
    kind = TensorType(DType.S8, w.shape, Quant.of(np.full(out, 0.01), 0, 0))
    x = s8((1, size, size, channels), 0.05, -3)
    return op_graph(Conv2D(groups=groups), [x, (kind, w), (TensorType(DType.S32, bias.shape), bias)], s8((1, size, size, out), 0.1, -128))


def taken(graph, choice, target="cortex-m4"):
    return lower(graph, get_target(target), "net", "0" * 64, choice).calls[0]


def test_objectives_differ_in_what_they_spend():
    graph = conv_graph()
    portable, packed, wide = (taken(graph, Choice(optimize)) for optimize in ("size", "balanced", "speed"))
    assert portable.kernel.symbol == "midge_conv2d_s8"
    assert packed.kernel.features
    assert any("stores more bytes of weights" in reason for reason in packed.refused)
    assert wide.kernel.features
    assert not any("stores more bytes" in reason for reason in wide.refused)
    assert any("needs" in reason for reason in taken(graph, Choice(), "cortex-m3").refused)


def weighted(op, shape, kernel, out, weights, reader=None):
    """A convolution and a depthwise layer behind it, of zero points 0, so that no bias depends on the weights."""
    channels = shape[-1] // op.groups
    kind = TensorType(DType.S8, (out, *kernel, channels), Quant.of(np.linspace(0.004, 0.01, out), 0, 0))
    bias = np.zeros(out, np.int32)
    x = s8(shape, 0.05, 0)
    y = op.infer([x, kind])[0].with_quant(DType.S8, Quant.of(0.1, 0))
    graph = op_graph(op, [x, (kind, weights(kind.shape)), (TensorType(DType.S32, bias.shape), bias)], y)
    if reader:
        then = weighted(reader, y.shape, (3, 3), out, weights)
        graph.values |= {f"then_{name}": replace(value, name=f"then_{name}") for name, value in then.values.items()}
        node = then.nodes[0]
        graph.nodes.append(replace(node, name="then", inputs=["out0", "then_in1", "then_in2"], outputs=["then_out0"]))
        graph.outputs = ["then_out0"]
    return graph


GEOMETRIES = {
    "window": (Conv2D(pads=(1, 1, 1, 1)), (1, 8, 8, 12), (3, 3), 16),
    "pointwise": (Conv2D(), (1, 8, 8, 32), (1, 1), 16),
    "pointwise of eight": (Conv2D(), (1, 8, 8, 8), (1, 1), 16),
    "dense": (Conv2D(), (1, 1, 1, 64), (1, 1), 12),
    "strip": (Conv2D(pads=(1, 1, 1, 1), groups=12), (1, 8, 8, 12), (3, 3), 12),
    "direct": (Conv2D(pads=(2, 2, 2, 2), groups=12), (1, 8, 8, 12), (5, 5), 12),
    "line": (Conv2D(pads=(0, 3, 0, 3), groups=8), (1, 1, 40, 8), (1, 7), 8),
    "column": (Conv2D(groups=8), (1, 30, 1, 8), (7, 1), 8),
}


@pytest.mark.parametrize("name", [*GEOMETRIES, "planar"])
def test_balanced_stores_no_more_bytes_than_weights(name):
    """Of what is stored, only as many bytes depend on the weights as there are weights."""
    rng, found = np.random.default_rng(0), []
    top = 5 if name == "window" else 30

    def weights(shape):
        return (rng.integers(1, top, shape) * rng.choice([-1, 1], shape)).astype(np.int8)

    for _ in range(10):
        reader = Conv2D(pads=(1, 1, 1, 1), groups=16)
        graph = weighted(*GEOMETRIES["pointwise" if name == "planar" else name], weights, reader=reader if name == "planar" else None)
        program = lower(graph, get_target("cortex-m4"), "net", "0" * 64, Choice("balanced"))
        assert all(call.kernel.features for call in program.calls)
        assert any(call.kernel.symbol == "midge_depthwise_planar_s8" for call in program.calls) == (name == "planar")
        found.append(np.concatenate([np.frombuffer(constant.data.tobytes(), np.uint8) for constant in program.constants.values()]))
    count = sum(value.data.size for value in graph.values.values() if value.data is not None and value.type.dtype is DType.S8)
    dependent = int((np.ptp(np.stack(found), axis=0) > 0).sum())
    assert count * 0.95 < dependent <= count


def test_no_room_for_scratch_leaves_the_portable_kernel():
    tight, roomy = (taken(conv_graph(32), Choice("balanced", room={"out0": nbytes})) for nbytes in (8, 4096))
    assert not tight.kernel.features
    assert any("bytes of scratch, 8 are free" in reason for reason in tight.refused)
    assert roomy.kernel.features


def test_measured_costs_decide():
    graph = conv_graph()
    ((names, shape),) = offers(graph, get_target("cortex-m4")).values()
    costs = Costs()
    for name in names:
        costs.add(name, shape, 10 if name == "conv2d_s8" else 1000)
    call = taken(graph, Choice("speed", costs))
    assert call.kernel.symbol == "midge_conv2d_s8"
    assert any("about 1,000 instructions" in reason for reason in call.refused)


def test_flash_moves_the_choice_and_an_impossible_budget_is_refused():
    graph = conv_graph(64, 64)
    target = get_target("cortex-m4")
    free = lower(graph, target, "net", "0" * 64, Choice("speed"))
    tight = lower(graph, target, "net", "0" * 64, Choice("speed", flash=free.weight_nbytes - 1000))
    assert tight.weight_nbytes < free.weight_nbytes - 1000
    with pytest.raises(Unsupported, match="smallest choice of kernels needs"):
        lower(graph, target, "net", "0" * 64, Choice("speed", flash=100))


def test_require_fast_names_the_layer_and_the_reason():
    with pytest.raises(Unsupported, match=r"layer 0 'node': .*grouped"):
        taken(conv_graph(groups=2), Choice(require_fast=True))
    assert taken(conv_graph(), Choice(require_fast=True)).kernel.features


def test_fit_and_measurement_are_told_apart():
    rng, costs = np.random.default_rng(1), Costs()
    for _ in range(40):
        shape = (*tuple(int(v) for v in rng.integers(1, 9, len(FIELDS) - 1)), 3)
        shape = (*shape[:4], 1, *shape[5:])
        known = dict(zip(FIELDS, shape, strict=True))
        pixels = known["out_width"] * known["rows"]
        costs.add("k", shape, 5 * pixels * known["out_channels"] * known["kernel_height"] * known["kernel_width"] * known["in_channels"] + 11 * pixels + 70)
    assert costs.estimate("k", shape).measured
    assert costs.fit_error("k") < 1e-6
    other = costs.estimate("k", (50, 16, 50, 8, 1, 3, 3, 1, 1, 1, 50))
    assert not other.measured
    assert other.instructions == pytest.approx(5 * 2500 * 8 * 9 * 16 + 11 * 2500 + 70, rel=1e-3)
    assert costs.estimate("unknown", shape) is None


def test_a_file_that_is_no_table_is_one_error(tmp_path):
    path = tmp_path / "costs.csv"
    path.write_text("kernel,instructions\nconv2d_s8,1\n")
    with pytest.raises(UsageError, match="no table of costs"):
        load_costs("cortex-m4", path)
    with pytest.raises(UsageError, match="cannot be read"):
        load_costs("cortex-m4", tmp_path / "missing.csv")


@needs_arm
def test_tuning_measures_each_variant_once(tmp_path):
    graph, target = conv_graph(), get_target("cortex-m4")
    costs = tune(graph, target, Costs())
    ((names, shape),) = offers(graph, target).values()
    ((narrow, _),) = offers(narrow_weights(graph)[0], target, narrow=True).values()
    assert set(costs.rows) == {*names, *(narrow if len(narrow) > 1 else ())}
    assert all(costs.rows[name][shape] > 1000 for name in names)
    assert costs.rows["conv2d_dsp_s8"][shape] < costs.rows["conv2d_s8"][shape]
    assert not tune(graph, target, costs).rows
    path = tmp_path / "costs.csv"
    path.write_text(costs.text())
    again = load_costs("cortex-m4", path)
    assert all(again.rows[name][shape] == costs.rows[name][shape] for name in names)
