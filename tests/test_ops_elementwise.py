# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators: references against plain floats, ONNX Runtime and recorded TensorFlow Lite Micro bytes; kernels against references."""

from __future__ import annotations

import math
import zlib

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from midge.kernels import functions
from onnx import TensorProto, helper, numpy_helper
from support import assert_kernels_match, op_graph, program_of, s8

from midge.errors import ImportFailed, IRError, Unsupported
from midge.ir import DType, Op, Quant, TensorType
from midge.ops.binary import Add, Mul, Sub, binary_params, word_multipliers
from midge.ops.prelu import PRelu
from midge.ops.quantize import Dequantize, Quantize
from midge.ops.unary import MATH, Clip, Elu, Gelu, HardSigmoid, HardSwish, LeakyRelu, Math, Sigmoid, Tanh

BYTES = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)
PAIRS = tuple(np.ascontiguousarray(m.astype(np.int8).reshape(1, -1)) for m in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
BINARY = {"Add": Add(), "Sub": Sub(), "Mul": Mul()}
UNARY = [
    ("Relu", {}, Clip(0.0)),
    ("LeakyRelu", {"alpha": 0.3}, LeakyRelu(0.3)),
    ("Sigmoid", {}, Sigmoid()),
    ("Tanh", {}, Tanh()),
    ("HardSigmoid", {"alpha": 0.25}, HardSigmoid(0.25)),
    ("HardSwish", {}, HardSwish()),
    ("Gelu", {}, Gelu()),
    ("Gelu", {"approximate": "tanh"}, Gelu(True)),
    ("Elu", {"alpha": 0.7}, Elu(0.7)),
] + [(name, {}, Math(name)) for name in sorted(MATH) if name not in ("Log", "Sqrt", "Reciprocal")]  # ONNX Runtime's integers of NaN and inf are not defined
OPTIMIZED, AS_WRITTEN = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL

# crc32 of the output of TensorFlow Lite Micro's reference kernels for all inputs: operator, (scale, zero_point) of input and output
TFLITE_UNARY = [
    (Sigmoid(), (0.01, 5), (1 / 256, -128), 0x899D748A),
    (Sigmoid(), (1.5, -128), (1 / 256, -128), 0xAF9D9F1F),
    (Tanh(), (0.01, 5), (1 / 128, 0), 0xCF6B9C6B),
    (LeakyRelu(0.3), (0.05, -3), (0.07, 11), 0x0F97AD72),
    (HardSwish(), (1.5, -128), (0.4, 3), 0xC4069DA5),
    (Clip(0.0), (0.05, -3), (0.09, -128), 0x26184DCE),
]
TFLITE_BINARY = [
    (Add(), (0.02, -128), (0.05, 3), (0.06, -7), 0xF67866AA),
    (Add(), (0.9, 5), (0.011, -20), (0.5, 127), 0x6C5EC5A2),
    (Sub(), (0.9, 5), (0.011, -20), (0.5, 127), 0x6F496F4F),
    (Mul(), (0.02, -128), (0.05, 3), (0.06, -7), 0x691C7C08),
    (Mul(), (0.9, 5), (0.011, -20), (0.5, 127), 0x83D6E918),
]


def integer(op: Op, inputs, types, out, numerics="onnx"):
    return op.reference(list(inputs), types, [out], numerics)[0]


def onnxruntime_qdq(name, level, operands, out, constants=(), **attrs):
    """int8 output of DequantizeLinear -> operator -> QuantizeLinear; operands are (array, scale, zero_point)."""
    nodes, ports, names = [], [], []
    held = [numpy_helper.from_array(np.float32(out[0]), "s"), numpy_helper.from_array(np.int8(out[1]), "z")]
    for i, (array, scale, zero_point) in enumerate(operands):
        held += [numpy_helper.from_array(np.float32(scale), f"s{i}"), numpy_helper.from_array(np.int8(zero_point), f"z{i}")]
        ports.append(helper.make_tensor_value_info(f"q{i}", TensorProto.INT8, array.shape))
        nodes.append(helper.make_node("DequantizeLinear", [f"q{i}", f"s{i}", f"z{i}"], [f"x{i}"]))
        names.append(f"x{i}")
    for i, constant in enumerate(constants):
        held.append(numpy_helper.from_array(constant, f"c{i}"))
        names.append(f"c{i}")
    nodes += [helper.make_node(name, names, ["y"], **attrs), helper.make_node("QuantizeLinear", ["y", "s", "z"], ["q"])]
    graph = helper.make_graph(nodes, "g", ports, [helper.make_tensor_value_info("q", TensorProto.INT8, None)], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {f"q{i}": operand[0] for i, operand in enumerate(operands)})[0]


def assert_nearly_equal(pairs):
    """At least 99.999 % of all elements equal, none more than 1 apart."""
    differences = np.concatenate([np.abs(a.astype(int) - b.astype(int)).reshape(-1) for a, b in pairs])
    assert differences.max() <= 1
    assert (differences > 0).sum() <= 1e-5 * differences.size


@pytest.mark.parametrize("level", [OPTIMIZED, AS_WRITTEN])
@pytest.mark.parametrize("name", BINARY)
def test_binary_equals_onnxruntime(name, level):
    rng, pairs = np.random.default_rng(7), []
    for _ in range(20):
        (sa, sb), z = np.float32(10 ** rng.uniform(-3, 0, 2)), rng.integers(-128, 128, 3)
        sy = np.float32(sa * sb * 100 * rng.uniform(0.3, 3) if name == "Mul" else max(sa, sb) * rng.uniform(0.6, 2.5))
        got = integer(BINARY[name], PAIRS, [s8(PAIRS[0].shape, sa, z[0]), s8(PAIRS[0].shape, sb, z[1])], s8(PAIRS[0].shape, sy, z[2]))
        pairs.append((got, onnxruntime_qdq(name, level, [(PAIRS[0], sa, z[0]), (PAIRS[1], sb, z[1])], (sy, z[2]))))
    assert_nearly_equal(pairs)


@pytest.mark.parametrize("level", [OPTIMIZED, AS_WRITTEN])
@pytest.mark.parametrize(("name", "attrs", "op"), UNARY)
def test_unary_equals_onnxruntime(name, attrs, op, level):
    rng, pairs = np.random.default_rng(3), []
    for _ in range(6):
        (sx, sy), z = np.float32(10 ** rng.uniform(-2.5, -0.3, 2)), rng.integers(-128, 128, 2)
        pairs.append(
            (integer(op, [BYTES], [s8((1, 256), sx, z[0])], s8((1, 256), sy, z[1])), onnxruntime_qdq(name, level, [(BYTES, sx, z[0])], (sy, z[1]), **attrs))
        )
    assert_nearly_equal(pairs)


@pytest.mark.parametrize("level", [OPTIMIZED, AS_WRITTEN])
def test_prelu_equals_onnxruntime(level):
    rng, pairs = np.random.default_rng(5), []
    x = np.ascontiguousarray(np.broadcast_to(BYTES.reshape(1, 256, 1), (1, 256, 7)))
    for _ in range(20):
        sx, sy, z, slope = (
            np.float32(rng.uniform(0.01, 0.1)),
            np.float32(rng.uniform(0.01, 0.1)),
            rng.integers(-128, 128, 2),
            rng.normal(0, 0.5, 7).astype(np.float32),
        )
        got = integer(PRelu(), [x, slope], [s8(x.shape, sx, z[0]), TensorType(DType.F32, (7,))], s8(x.shape, sy, z[1]))
        pairs.append((got, onnxruntime_qdq("PRelu", level, [(x, sx, z[0])], (sy, z[1]), [slope])))
    assert_nearly_equal(pairs)


def test_exact_ties_round_to_even():
    """Equal input scales and twice that for the output: every odd sum is a tie."""
    types, out = [s8(PAIRS[0].shape, 0.25, 1), s8(PAIRS[0].shape, 0.25, -2)], s8(PAIRS[0].shape, 0.5, 3)
    total = PAIRS[0].astype(np.float64) - 1 + PAIRS[1] + 2
    for op, real in ((Add(), total), (Sub(), PAIRS[0].astype(np.float64) - 1 - PAIRS[1] - 2)):
        np.testing.assert_array_equal(integer(op, PAIRS, types, out), np.clip(np.rint(real / 2) + 3, -128, 127))


@pytest.mark.parametrize(("op", "x", "y", "crc"), TFLITE_UNARY)
def test_unary_equals_tflite_micro(op, x, y, crc):
    assert zlib.crc32(integer(op, [BYTES], [s8((1, 256), *x)], s8((1, 256), *y), "tflite").tobytes()) == crc


@pytest.mark.parametrize(("op", "a", "b", "y", "crc"), TFLITE_BINARY)
def test_binary_equals_tflite_micro(op, a, b, y, crc):
    shape = PAIRS[0].shape
    assert zlib.crc32(integer(op, PAIRS, [s8(shape, *a), s8(shape, *b)], s8(shape, *y), "tflite").tobytes()) == crc


@pytest.mark.parametrize("numerics", ["onnx", "tflite"])
@pytest.mark.parametrize("op", [*BINARY.values(), Add(0.0, 1.0), *(op for _, _, op in UNARY)])
def test_integers_are_near_the_real_result(op, numerics):
    """Against the float reference on dequantized inputs: half a step, and a little for the fixed point of tflite numerics."""
    rng = np.random.default_rng(11)
    types = [s8((1, 256), 0.03, -9), s8((1, 256), 0.05, 20)][: 2 if isinstance(op, (Add, Sub, Mul)) else 1]
    inputs = [rng.integers(-128, 128, (1, 256)).astype(np.int8) for _ in types]
    reals = [np.float32(t.q.s) * (x.astype(np.float32) - t.q.z) for x, t in zip(inputs, types, strict=True)]
    floats = [TensorType(DType.F32, (1, 256))] * len(types)
    expected = op.reference(reals, floats, op.infer(floats), numerics)[0] / 0.04 + 6
    got = integer(op, inputs, types, s8((1, 256), 0.04, 6), numerics)
    slack = 0.51 if numerics == "onnx" else 1.0
    assert np.abs(got - np.clip(expected, -128, 127)).max() <= slack


SHAPES = st.sampled_from([(1, 1), (1, 7), (1, 5, 3), (1, 3, 4, 5), (1, 2, 3, 1), (1, 1, 6, 2), (1, 4, 1, 3)])
SCALES = st.sampled_from([0.003, 0.05, 0.25, 0.5, 3.7])  # 0.25 to 0.5: ties
POINTS = st.sampled_from([-128, -17, 0, 4, 127])
SEEDS = st.integers(0, 2**32 - 1)


def noise(rng, shape, extreme):
    return rng.choice(np.array([-128, 127], np.int8), shape) if extreme else rng.integers(-128, 128, shape).astype(np.int8)


@st.composite
def binaries(draw):
    """(graph, feeds): any broadcast of either operand, constants, scalars, one value read twice."""
    shape, rng, extreme = draw(SHAPES), np.random.default_rng(draw(SEEDS)), draw(st.booleans())
    op = draw(st.sampled_from([Add(), Sub(), Mul(), Add(0.0), Sub(-0.7, 0.9), Mul(0.0, 6.0)]))
    shrink = [draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape))) for _ in range(2)]
    shrink[1] = [b and not a for a, b in zip(*shrink, strict=True)] if draw(st.booleans()) else [False] * len(shape)
    shapes = [tuple(1 if cut else d for d, cut in zip(shape, cuts, strict=True)) for cuts in shrink]
    if draw(st.booleans()):
        shapes.reverse()
    types = [s8(s, draw(SCALES), draw(POINTS)) for s in shapes]
    arrays = [noise(rng, s, extreme) for s in shapes]
    constant = draw(st.sampled_from([None, 0, 1]))
    inputs = [(t, a) if i == constant else t for i, (t, a) in enumerate(zip(types, arrays, strict=True))]
    out = op.infer(types)[0].with_quant(DType.S8, Quant.of(draw(SCALES), draw(POINTS)))
    graph = op_graph(op, inputs, out, draw(st.sampled_from(["onnx", "tflite"])))
    if constant is None and shapes[0] == shapes[1] and draw(st.booleans()):
        graph.nodes[0].inputs = ["in0", "in0"]
        graph.inputs = ["in0"]
        del graph.values["in1"]
    return graph, {name: arrays[int(name[2])] for name in graph.inputs}


@settings(max_examples=400, deadline=None, derandomize=True)
@given(binaries())
def test_binary_kernels_equal_reference(case):
    assert_kernels_match(*case)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from([op for _, _, op in UNARY] + [Clip(-0.5, 0.5)]), SHAPES, SCALES, SCALES, POINTS, POINTS, SEEDS, st.sampled_from(["onnx", "tflite"]))
def test_table_kernel_equals_reference(op, shape, sx, sy, zx, zy, seed, numerics):
    x = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
    assert_kernels_match(op_graph(op, [s8(shape, sx, zx)], s8(shape, sy, zy), numerics), {"in0": x})


@settings(max_examples=100, deadline=None, derandomize=True)
@given(SHAPES, SCALES, SCALES, POINTS, POINTS, st.booleans(), st.booleans(), SEEDS, st.sampled_from(["onnx", "tflite"]))
def test_prelu_kernels_equal_reference(shape, sx, sy, zx, zy, extreme, quantized, seed, numerics):
    rng = np.random.default_rng(seed)
    slope = (TensorType(DType.F32, shape[-1:]), rng.normal(0, 1, shape[-1:]).astype(np.float32))
    if quantized:
        slope = (s8(shape[-1:], 0.01, zy), noise(rng, shape[-1:], extreme))
    x = noise(rng, shape, extreme)
    x.reshape(-1)[::2] = np.clip(zx + rng.integers(-1, 2, x.reshape(-1)[::2].shape), -128, 127)
    assert_kernels_match(op_graph(PRelu(), [s8(shape, sx, zx), slope], s8(shape, sy, zy), numerics), {"in0": x})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SHAPES, st.sampled_from([DType.S8, DType.U8]), SCALES, SEEDS, st.booleans())
def test_edge_kernels_equal_reference(shape, dtype, scale, seed, odd):
    rng, info = np.random.default_rng(seed), np.iinfo(dtype.numpy)
    x = np.float32(rng.integers(-300, 300, shape) / 2 * scale) if odd else np.float32(rng.normal(0, 100 * scale, shape))
    special = rng.permutation(np.array([np.nan, np.inf, -np.inf, 3e38, -2e7 * scale, -0.0], np.float32))[: x.size // 2]
    x.reshape(-1)[: special.size] = special
    zero_point = int(rng.choice([info.min, info.max, 3]))
    quantized = TensorType(dtype, shape, Quant.of(scale, zero_point))
    plain = TensorType(DType.F32, shape)
    with np.errstate(over="ignore"):
        assert_kernels_match(op_graph(Quantize(dtype, quantized.q), [plain], quantized), {"in0": x})
    q = rng.integers(info.min, info.max + 1, shape).astype(dtype.numpy)
    assert_kernels_match(op_graph(Dequantize(), [quantized], plain), {"in0": q})


def call_of(op, inputs, out, numerics="onnx"):
    calls = program_of(op_graph(op, inputs, out, numerics)).calls
    assert len(calls) == 1
    return calls[0]


def test_lowering_picks_table_flat_and_rows():
    x, row, column = s8((1, 4, 5, 3), 0.1, 0), s8((1, 1, 1, 3), 0.1, 0), s8((1, 4, 1, 1), 0.1, 0)
    scalar = s8((1, 1, 1, 1), 0.1, 0)
    assert call_of(Sub(), [(scalar, np.ones(scalar.shape, np.int8)), x], x).kernel.symbol == "midge_table_s8"
    equal = call_of(Add(), [x, x], s8(x.shape, 0.13, 0))
    assert (equal.rows, equal.in_place, equal.params["width"], equal.params["channels"]) == (1, 0, 1, 60)
    channel = call_of(Add(), [row, x], x)
    assert (channel.rows, channel.in_place, channel.params["width"], channel.params["a_pixel_stride"]) == (4, 1, 5, 0)
    rows = call_of(Mul(), [x, (column, np.ones(column.shape, np.int8))], x)
    assert (rows.rows, rows.inputs[1].window.stride, rows.params["b_channel_stride"]) == (4, 1, 0)
    assert call_of(Mul(), [row, column], s8((1, 4, 1, 3), 0.1, 0)).in_place is None


@pytest.mark.parametrize("numerics", ["onnx", "tflite"])
def test_kernel_takes_several_rows_and_stays_inside(numerics):
    op, rows, width, channels = Sub(), 3, 5, 3
    kind = s8((1, rows, width, channels), 0.03, -128)
    rng = np.random.default_rng(2)
    a, b = (rng.integers(-128, 128, (rows, width, channels)).astype(np.int8) for _ in range(2))
    guarded = np.full((rows, width * channels + 16), 85, np.int8)
    params = binary_params(op, [kind, kind], kind, numerics, flat=False)
    ins = [array[y].ctypes.data for y in range(rows) for array in (a, b)]
    symbol = "midge_sub_s8" + ("_tflite" if numerics == "tflite" else "")
    functions()[symbol](list(params.values()), ins, [0], [guarded[y, 8:].ctypes.data for y in range(rows)], rows)
    expected = integer(op, [a[None], b[None]], [kind, kind], kind, numerics)
    np.testing.assert_array_equal(guarded[:, 8:-8].reshape(expected.shape), expected)
    assert (guarded[:, :8] == 85).all()
    assert (guarded[:, -8:] == 85).all()


def test_word_multipliers_use_31_bits_at_most():
    for ratio in (1e-9, 0.25, 0.49999999999, 0.5, 1.0, 3.999999999999, 1000.0):
        (multiplier, negative), shift = word_multipliers([ratio, -ratio / 3])
        assert 0 <= multiplier < 1 << 31
        assert negative < 0 or ratio < 1e-8
        assert multiplier * 2.0 ** (shift - 32) == pytest.approx(ratio, abs=2.0 ** (shift - 32))
    for bad in (math.nan, math.inf, 2.0**19):
        with pytest.raises(Unsupported, match="scale factor"):
            word_multipliers([bad, 1.0])


def test_what_no_kernel_serves_is_refused():
    x = s8((1, 4), 0.1, 0)
    with pytest.raises(ImportFailed, match="do not broadcast"):
        Add().infer([x, s8((1, 3), 0.1, 0)])
    with pytest.raises(ImportFailed, match="4 channels"):
        PRelu().infer([x, TensorType(DType.F32, (3,))])
    with pytest.raises(Unsupported, match=r"2\*\*-20"):
        binary_params(Add(), [x, x], s8((1, 4), 1e-8, 0), "tflite", flat=True)
    with pytest.raises(Unsupported, match="1/128"):
        integer(HardSwish(), [BYTES], [s8((1, 256), 1.0, 0)], s8((1, 256), 1e-3, 0), "tflite")
    with pytest.raises(Unsupported, match="int8 and uint8 per tensor"):
        Quantize(DType.S16, Quant.of(1.0)).infer([x])
    with pytest.raises(IRError, match="full rank"):
        program_of(op_graph(Add(), [s8((1, 2, 3, 4), 0.1, 0), s8((3, 1), 0.1, 0)], s8((1, 2, 3, 4), 0.1, 0)))
