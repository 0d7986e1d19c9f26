# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolution along a line: against the reference, assembly against its twins, registers of the blocks, and what is not served."""

from __future__ import annotations

import re

import numpy as np
import pytest
from dsp_cases import Case, assert_assembly_matches, symbols
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_kernels_match, needs_arm, op_graph, program_of, s8

from midge.ir import DType, Quant, TensorType
from midge.lower import Choice, lower
from midge.microkernels.depthwise_line import MOST_TAPS, PAIRS
from midge.microkernels.line_block import POOL, block, products, weight_names
from midge.microkernels.line_column import OUTPUTS, Op, allocate, operations, shortest
from midge.microkernels.line_column import POOL as COLUMN_POOL
from midge.ops.conv import Conv2D
from midge.run.interpreter import Interpreter
from midge.run.reference import run_reference
from midge.schedule.plan import Planner, Wish, adopt
from midge.targets import get_target

LINE, COLUMN = "midge_depthwise_line_dsp_s8", "midge_depthwise_column_dsp_s8"


def line(rng: np.random.Generator, taps: int, outputs: int, channels: int, numerics: str, **more: int | bool) -> Case:
    """A graph of one layer, a column or `flat` in a few rows, and its input, extremes included. `even`: shifts within a factor of two."""
    stride, dilation, before, after = int(more.get("stride", 1)), int(more.get("dilation", 1)), int(more.get("before", 0)), int(more.get("after", 0))
    across, zero_point = bool(more.get("across")), int(more.get("zero_point", -128))
    length = (outputs - 1) * stride + dilation * (taps - 1) + 1 - before - after
    assert length > 0
    shape, kernel = ((1, 3, length, channels), (1, taps)) if across else ((1, length, 1, channels), (taps, 1))
    op = Conv2D((1, stride), (1, dilation), (0, before, 0, after), channels) if across else Conv2D((stride, 1), (dilation, 1), (before, 0, after, 0), channels)
    ends = np.array([-128, 127], np.int8)
    x = rng.choice(ends, shape) if rng.random() < 0.3 else rng.integers(-128, 128, shape).astype(np.int8)
    weights = rng.choice(ends, (channels, *kernel, 1)) if rng.random() < 0.3 else rng.integers(-128, 128, (channels, *kernel, 1)).astype(np.int8)
    weights[rng.random(channels) < 0.1] = 0  # constant channels
    bias = rng.integers(-9000, 9000, channels).astype(np.int32)
    top = rng.choice([-9.0, -6.0, -2.0])
    scales = np.float32(2.0 ** rng.uniform(top - 1.5 if more.get("even", True) else -12.0, top, channels))
    tx, tb = s8(shape, 0.5, int(rng.choice([-128, -3, 0, 127]))), TensorType(DType.S32, bias.shape)
    tw = TensorType(DType.S8, weights.shape, Quant.of(scales, 0, 0))
    ty = op.infer([tx, tw])[0].with_quant(DType.S8, Quant.of(0.5, zero_point))
    return op_graph(op, [tx, (tw, weights), (tb, bias)], ty, numerics), {"in0": x}


def any_line(rng: np.random.Generator, numerics: str) -> Case:
    """Any length, padding, stride or dilation, pitches on both sides of 255 bytes and channel counts that do not come in fours."""
    taps = int(rng.integers(2, MOST_TAPS + 1) if rng.random() < 0.3 else rng.integers(2, 12))
    stride = int(rng.integers(1, 3))
    dilation = int(rng.integers(1, 4)) if stride == 1 else 1
    outputs = int(rng.integers(4 * dilation, 4 * dilation + (60 if rng.random() < 0.3 else 20)))
    reach = dilation * (taps - 1)
    before = int(rng.integers(0, reach + 1)) if rng.random() < 0.5 else 0
    after = int(rng.integers(0, reach + 1)) if rng.random() < 0.5 else 0
    before = max(0, min(before, (outputs - 1) * stride + reach - after))
    channels = int(rng.choice([4, 5, 6, 7, 8, 11, 12, 131, 258], p=[0.2, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1, 0.05, 0.05]))
    more = {"stride": stride, "dilation": dilation, "before": before, "after": after, "across": bool(rng.random() < 0.4)}
    return line(rng, taps, outputs, channels, numerics, **more, zero_point=int(rng.choice([-128, 5, 127])), even=bool(rng.random() < 0.7))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["onnx", "tflite"]))
def test_lines_equal_reference(seed, numerics):
    graph, feeds = any_line(np.random.default_rng(seed), numerics)
    op = graph.nodes[0].op
    assert isinstance(op, Conv2D)
    lies = graph.type(graph.nodes[0].inputs[1]).shape[2] > 1 or op.dilations[0] > 1
    assert symbols(graph) == [LINE if lies else COLUMN]
    assert_kernels_match(graph, feeds, "cortex-m4")


@needs_arm
@pytest.mark.parametrize(("numerics", "target"), [("onnx", "cortex-m4"), ("tflite", "cortex-m33"), ("tflite", "cortex-m4")])
def test_assembly_equals_twin(numerics, target, tmp_path):
    """Many tap counts, rests of one to three outputs, channels with one, few and many shifts."""
    rng = np.random.default_rng(3)
    cases = [any_line(rng, numerics) for _ in range(20)]
    for taps in (*range(2, 20), 23, 24, 25, 31, 32):
        outputs, stride = 4 + taps % 9, 1 + taps % 5 // 4
        more = {"stride": stride, "zero_point": (-128, 3)[taps % 2], "even": bool(taps % 3), "before": taps % 4 // 3}
        cases += [line(rng, taps, outputs, 4 + taps % 3, numerics, **more, across=across) for across in (False, True)[: 1 + taps % 2]]
    assert_assembly_matches(cases, target, "balanced", tmp_path, LINE, COLUMN)
    found = {symbol.removesuffix("_tflite") for graph, _ in cases for symbol in program_of(graph, target).routines}
    columns, used = ({symbol for symbol in found if symbol.startswith(f"midge_depthwise_{kind}")} for kind in ("column", "line"))
    assert {len(re.findall(r"_\d+", symbol)) for symbol in columns} >= {1, 2, 3, 4}  # the stride, and none to three shifts
    assert any("_c" in symbol for symbol in columns)
    assert any("_r_" in symbol for symbol in columns) == (numerics == "tflite")
    assert any(symbol.endswith("_any") for symbol in used)
    assert any(len(symbol.split("_")) == 10 for symbol in used)  # three shifts
    assert "0" in {symbol.split("_")[5] for symbol in used}  # a pitch that is no immediate
    rests = [re.fullmatch(r"(\d+)(s?)(c\d)?(r?)", symbol.split("_")[6]) for symbol in used]
    assert {"0", "1", "2", "3"} < {found[1] for found in rests if found}
    assert any(found and len(found[1]) > 1 and found[2] for found in rests)  # walks without a block of four beside others
    assert all(any(found and found[i] for found in rests) for i in ((3, 4) if numerics == "tflite" else (3,)))


@pytest.mark.parametrize("outputs", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("taps", range(2, MOST_TAPS + 1))
def test_blocks_take_each_tap_once(taps, stride, outputs):
    """Every product's pixels and weights, looked up by name, are those of the definition."""
    seen = {(acc, tap): 0 for acc in range(outputs) for tap in range(taps)}
    for p in products(taps, stride, outputs):
        index = int(p.weights[1:])
        low, high = (2 * index, 2 * index + 1) if p.weights[0] == "E" else (2 * index, 2 * index - 1)
        first, second = 2 * p.word - stride * p.acc, 2 * p.word + 1 - stride * p.acc
        met = {"smlad": [(first, low), (second, high)], "smladx": [(first, high), (second, low)]}
        met |= {"smlabb": [(first, low)], "smlabt": [(first, high)], "smlatb": [(second, low)]}
        for tap, weight in met[p.kind]:
            assert tap == weight
            seen[p.acc, tap] += 1
        assert p.weights in weight_names(taps, stride)
    assert set(seen.values()) == {1}
    lines, accs, free = block(taps, stride, outputs)
    assert sorted([*accs, *free], key=POOL.index) == list(POOL)
    assert sum(text.startswith("sml") for text in lines) == len(products(taps, stride, outputs))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("taps", range(2, MOST_TAPS + 1))
def test_columns_keep_each_value_until_it_is_taken(taps, stride):
    """Instructions run on names instead of numbers: what a register holds is what was meant to be read, and strip and stream move on."""
    text, accs = shortest(taps, stride)
    assert len(set(accs)) == OUTPUTS
    ops = operations(taps, stride, True, True)
    registers = allocate(ops) or allocate(ops := operations(taps, stride, False, False))
    held: dict[str, str] = {}
    for op in ops:
        assert all(held[registers[name]] == name for name in op.takes if name not in op.makes or name in held.values()), op
        held |= {registers[name]: name for name in op.makes}
    assert set(registers.values()) <= set(COLUMN_POOL)
    assert sum("smla" in line for line in text) == len(products(taps, stride, OUTPUTS))
    assert sum("[r0], #" in line for line in text) == 1


def test_too_few_registers_are_noticed():
    assert allocate([Op("ldr r{0}", tuple(f"v{i}" for i in range(len(COLUMN_POOL) + 1)))]) == {}


def test_strips_are_small():
    rng = np.random.default_rng(0)
    for taps in range(2, 26, 3):
        along, column = (program_of(line(rng, taps, 50, 4, "onnx", across=across)[0], "cortex-m4").calls[0] for across in (True, False))
        assert along.scratch_nbytes <= 16 * PAIRS + 4 * (taps + 3)
        assert column.scratch_nbytes <= 16 * (taps // 2 + 2)


def test_columns_are_told_each_row_once():
    """A step of any number of rows, wherever they lie, has the pointers that its outputs share."""
    graph, feeds = line(np.random.default_rng(1), 5, 11, 8, "tflite", before=2, after=1)
    expected = run_reference(graph, feeds)["out0"].reshape(-1)
    for grain in (1, 2, 3, 4, 7):
        planner = Planner(lower(graph, get_target("cortex-m4"), "net", "0" * 64, Choice()), Wish())
        adopt(planner.program, planner.plan([grain]))
        assert {step.count for step in planner.program.steps} == {grain, 11 % grain or grain}
        np.testing.assert_array_equal(Interpreter(planner.program).run([feeds["in0"]])[0].reshape(-1), expected)


def test_layers_that_are_not_served_say_why():
    rng = np.random.default_rng(0)
    for graph, reason in (
        (line(rng, MOST_TAPS + 1, 8, 4, "onnx")[0], f"{MOST_TAPS + 1} taps"),
        (line(rng, 5, 3, 4, "onnx")[0], "3 outputs"),
        (line(rng, 5, 8, 4, "onnx", stride=3)[0], "stride 3"),
        (line(rng, 5, 8, 4, "onnx", stride=2, dilation=2)[0], "stride 2, dilated"),
        (line(rng, 5, 8, 3, "onnx")[0], "fewer than four channels"),
    ):
        call = program_of(graph, "cortex-m4").calls[0]
        assert call.kernel.symbol not in (LINE, COLUMN)
        kernels = ("depthwise_line_dsp_s8: ", "depthwise_column_dsp_s8: ")
        assert any(text.startswith(kernels) and reason in text for text in call.refused), (reason, call.refused)
