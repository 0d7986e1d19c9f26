# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolution along a line: against the reference, assembly against its twins, registers of the blocks, and what is not served."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pytest
from dsp_cases import Case, assert_assembly_matches, symbols
from hypothesis import given, settings
from hypothesis import strategies as st
from support import assert_kernels_match, needs_arm, op_graph, program_of, s8

from midge.ir import DType, Quant, TensorType
from midge.lower import Choice, lower
from midge.microkernels.depthwise_line import COLUMN_ROWS, MOST_TAPS, PAIRS
from midge.microkernels.line_block import BIAS, POOL, block, products, weight_names
from midge.microkernels.line_column import BLOCKS, CHUNK, OUTPUTS, shortest, unpack
from midge.microkernels.line_column import POOL as COLUMN_POOL
from midge.ops.conv import Conv2D
from midge.run.interpreter import Interpreter
from midge.run.reference import run_reference
from midge.schedule.grains import parts
from midge.schedule.plan import HARDLY, Planner, Wish, adopt
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
    cases += [line(rng, 3, outputs, 8, numerics, zero_point=5) for outputs in (15, 28, 37)]
    assert_assembly_matches(cases, target, "balanced", tmp_path, LINE, COLUMN)
    found = {symbol.removesuffix("_tflite") for graph, _ in cases for symbol in program_of(graph, target).routines}
    columns, used = ({symbol for symbol in found if symbol.startswith(f"midge_depthwise_{kind}")} for kind in ("column", "line"))
    assert {len(re.findall(r"_\d+", symbol)) for symbol in columns} >= {2, 3, 4, 5}  # the stride, rows, and none to three shifts
    assert {int(symbol.split("_")[4]) for symbol in columns} == {OUTPUTS * blocks for blocks in range(1, BLOCKS + 1)}
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


@dataclass
class Machine:
    """Runs the instructions of a column's sums: registers and words of memory, bytes from `r0`, `sp` and `lr` on."""

    registers: dict[str, int] = field(default_factory=dict)
    words: dict[tuple[str, int], int] = field(default_factory=dict)
    at: dict[str, int] = field(default_factory=lambda: {"r0": 0, "sp": 0, "lr": 0})

    def run(self, text: str) -> None:
        name, rest = text.split(" ", 1)
        registers = re.findall(r"\b(?:r\d+|sp|lr)\b", rest)
        if name in ("ldm", "stm"):
            self.move(name == "ldm", registers[0], 0, registers[1:])
            self.at[registers[0]] += 4 * len(registers[1:]) if "!" in rest else 0
        elif name[:3] in ("ldr", "str"):
            base, before, after = re.search(r"\[(\w+)(?:, #(-?\d+))?\](?:, #(-?\d+))?", rest).groups()
            self.move(name[0] == "l", base, int(before or 0), registers[:-1])
            self.at[base] += int(after or 0)
        else:
            target, *sources = registers
            self.registers[target] = self.result(name, text, *(self.registers[source] for source in sources))

    def move(self, load: bool, base: str, offset: int, registers: list[str]) -> None:
        for i, register in enumerate(registers):
            place = base, self.at[base] + offset + 4 * i
            if load:
                self.registers[register] = self.words[place]
            else:
                self.words[place] = self.registers[register]

    @staticmethod
    def result(name: str, text: str, a: int, b: int = 0, c: int = 0) -> int:
        if name == "lsls":
            return 0  # for the flags
        if name == "sxtb16":
            a = a >> 8 if "ror #8" in text else a
            return pair(signed(a, 8), signed(a >> 16, 8))
        if name == "sadd16":
            return pair(signed(a, 16) + signed(b, 16), signed(a >> 16, 16) + signed(b >> 16, 16))
        if name == "pkhbt":
            return pair(a, b >> 16)
        (al, ah), (bl, bh) = ((signed(word, 16), signed(word >> 16, 16)) for word in (a, b))
        return c + {"smlad": al * bl + ah * bh, "smladx": al * bh + ah * bl, "smlabb": al * bl, "smlabt": al * bh, "smlatb": ah * bl}[name]


def signed(value: int, bits: int) -> int:
    return ((value & ((1 << bits) - 1)) ^ (1 << (bits - 1))) - (1 << (bits - 1))


def pair(low: int, high: int) -> int:
    return (low & 0xFFFF) | (high & 0xFFFF) << 16


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("taps", range(2, MOST_TAPS + 1))
def test_blocks_of_a_column_sum_their_taps(taps, stride):
    """Instructions run one by one: what a channel's weights are unpacked to, and the sums of each block."""
    rng = np.random.default_rng(taps)
    x, w = rng.integers(-128, 128, ((BLOCKS * OUTPUTS - 1) * stride + taps + 3) // 4 * 4), rng.integers(-128, 128, taps)
    machine = Machine()
    machine.words |= {("r0", 16 * (i // 4) * 2 + i % 4 * 2): pair(x[i], x[i + 1]) for i in range(0, len(x), 2)}
    stored = np.zeros(4 * (taps // 4 + 1), np.int64)
    stored[:taps], stored[-1] = w, 9
    raw = [sum((int(four[i]) & 0xFF) << 8 * at for at, i in enumerate((0, 2, 1, 3))) for four in stored.reshape(-1, 4)]
    raw[-1] = (raw[-1] & 0xFFFFFF) | 9 << 24
    machine.words |= {("lr", 4 * i): word for i, word in enumerate([1000, *raw])}
    lines, held = unpack([BIAS, *weight_names(taps, stride)], taps, 3)
    for text in lines:
        machine.run(text)
    assert machine.at["lr"] == 4 * (1 + len(raw))
    for i in range(BLOCKS):
        sums, accs = shortest(taps, stride, i, frozenset(({} if i else held).items()))
        for text in sums:
            machine.run(text)
        expected = [1000 + 2 * int(x[y * stride : y * stride + taps] @ w) for y in range(OUTPUTS * i, OUTPUTS * (i + 1))]
        assert [machine.registers[acc] for acc in accs] == expected
        assert set(accs) <= set(COLUMN_POOL)
    assert machine.at["r0"] == CHUNK // 4  # to the next channel


def test_strips_are_small():
    rng = np.random.default_rng(0)
    for taps in range(2, 26, 3):
        along, column = (program_of(line(rng, taps, 50, 4, "onnx", across=across)[0], "cortex-m4").calls[0] for across in (True, False))
        assert along.scratch_nbytes <= 16 * PAIRS + 4 * (taps + 3)
        assert column.scratch_nbytes <= CHUNK * -(-max(COLUMN_ROWS, taps + OUTPUTS - 1) // 4)


def test_columns_are_told_each_row_once():
    """A step of any number of rows, wherever they lie, has the pointers that its outputs share."""
    graph, feeds = line(np.random.default_rng(1), 5, 11, 8, "tflite", before=2, after=1)
    expected = run_reference(graph, feeds)["out0"].reshape(-1)
    for grain in (1, 2, 3, 4, 7, (4, 7), (1, 8, 2)):
        planner = Planner(lower(graph, get_target("cortex-m4"), "net", "0" * 64, Choice()), Wish())
        adopt(planner.program, planner.plan([grain]))
        assert [step.count for step in planner.program.steps] == list(parts(grain, 11))
        assert planner.program.calls[0].block == -(-max(parts(grain, 11)) // OUTPUTS) * OUTPUTS
        np.testing.assert_array_equal(Interpreter(planner.program).run([feeds["in0"]])[0].reshape(-1), expected)


def test_steps_are_as_long_as_hardly_costs_ram():
    graph, _ = line(np.random.default_rng(1), 3, 100, 64, "onnx")
    program = lower(graph, get_target("cortex-m4"), "net", "0" * 64, Choice())
    short = Planner(program, Wish()).plan([OUTPUTS])
    for wish in (Wish(), Wish(ram=short.arena), Wish(stream=True)):
        plan = Planner(program, wish).natural()
        assert plan.arena <= (short.arena if wish.ram else short.arena + short.arena // HARDLY)
        counts = parts(plan.grains[0], 100)
        assert sum(counts) == 100
        assert len(counts) < 25 or wish.ram


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
