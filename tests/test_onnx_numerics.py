# SPDX-License-Identifier: Apache-2.0
"""The onnx profile against ONNX Runtime on quantized models: every operator on ONNX Runtime's own inputs, and whole models end to end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import SHARED, shared

from midge.api import quantized_graph
from midge.ir import Array, DType, Graph, Node, TensorType
from midge.ops.build import dequantize
from midge.passes import integerize
from midge.run.reference import run_reference

MODELS = [str(path.relative_to(SHARED)) for path in sorted(SHARED.glob("models/*/*.onnx")) if "_q" in path.name] or ["models/none.onnx"]
QDQ = [name for name in MODELS if "qop" not in name]
SAMPLES = 4
NEEDED = 0.99999  # share of elements that are equal, over everything compared
LOGITS_APART = 6  # steps; differences of one step add up from layer to layer
VIEWS = ("Reshape", "Squeeze", "Flatten", "Identity", "Unsqueeze")
POINT = {"QuantizeLinear": 2, "QLinearConv": 7, "QLinearMatMul": 7, "QLinearAdd": 7, "QLinearMul": 7, "QGemm": 8}  # input that is the zero_point of the output
NEAR = 2e-3  # steps from a half: what float32 sums may be off
QUIET = {"Reshape", "Transpose", "Slice", "Concat", "Quantize", "Split", "Pad"}  # only move data


@dataclass
class Tally:
    """Elements compared and how far apart they are."""

    elements: int = 0
    different: int = 0
    unexplained: int = 0  # different though the real number is no tie
    worst: int = 0

    def add(self, got: Array, wanted: Array, steps: Array) -> None:
        """`steps`: the real result in steps of the output."""
        far = np.abs(got.astype(np.int64) - wanted.astype(np.int64))
        from_half = np.abs(np.abs(steps - np.trunc(steps)) - 0.5).reshape(far.shape)
        self.elements += far.size
        self.different += int((far != 0).sum())
        self.unexplained += int(((far != 0) & (from_half > NEAR)).sum())
        self.worst = max(self.worst, int(far.max(initial=0)))

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.elements + other.elements, self.different + other.different, self.unexplained + other.unexplained, max(self.worst, other.worst))


class Oracle:
    """A quantized model under ONNX Runtime with every quantized tensor as an output, found by the name of the node that computes it."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.tensors: dict[str, str] = {}  # name of an ONNX node -> quantized tensor
        producers = {output: node for node in proto.graph.node for output in node.output}
        kinds = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
        declared = {port.name for port in proto.graph.output}
        proto = onnx.ModelProto.FromString(proto.SerializeToString())
        for node in proto.graph.node:
            output, kind = node.output[0], _integer_kind(node, kinds)
            if kind is None:
                continue
            kinds[output] = kind
            self.tensors[node.name] = output
            source = producers.get(node.input[0]) if node.op_type == "QuantizeLinear" else None
            while source is not None:
                self.tensors.setdefault(source.name, output)
                source = producers.get(source.input[0]) if source.op_type in VIEWS else None
            if output not in declared:
                proto.graph.output.append(helper.make_tensor_value_info(output, kind, None))
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level, options.log_severity_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, 4
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """Quantized tensors by name, uint8 brought to int8, and the outputs of the model."""
        outputs = [port.name for port in self.session.get_outputs()]
        found = dict(zip(outputs, self.session.run(None, feeds), strict=True))
        return {name: (data.astype(np.int16) - 128).astype(np.int8) if data.dtype == np.uint8 else data for name, data in found.items()}

    def tensor(self, node: Node) -> str | None:
        """The quantized tensor that a node of the Graph computes: that of the last ONNX node it came from."""
        return next((self.tensors[name] for name in reversed(node.origin) if name in self.tensors), None)


def _integer_kind(node: onnx.NodeProto, kinds: dict[str, int]) -> int | None:
    """The element type of a node's quantized output, None if its output is float."""
    if node.op_type in (*VIEWS, "MaxPool", "Transpose"):
        return kinds.get(node.input[0])
    position = POINT.get(node.op_type, 4 if node.op_type.startswith("QLinear") else None)
    return None if position is None else kinds[node.input[position]]


def random_inputs(graph: Graph, seed: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """(inputs of the Graph, the same for the model) over the whole range of the integers."""
    rng, ours, theirs = np.random.default_rng(seed), {}, {}
    for name in graph.inputs:
        kind, declared = graph.type(name), graph.model_types[name]
        info = np.iinfo(kind.dtype.numpy)
        ours[name] = rng.integers(info.min, info.max + 1, kind.shape).astype(kind.dtype.numpy)
        theirs[name] = dequantize(ours[name], kind.q) if declared.dtype is DType.F32 else ours[name]
    return ours, theirs


def in_layout(theirs: Array, ours: Array) -> Array:
    """ONNX Runtime's tensor in the layout of ours: the order of axes, of those that fit, in which they agree best."""
    candidates = [theirs]
    if theirs.ndim in (3, 4):
        candidates.append(np.moveaxis(theirs, 1, -1))
    fitting = [np.ascontiguousarray(c).reshape(ours.shape) for c in candidates if [d for d in c.shape if d > 1] == [d for d in ours.shape if d > 1]]
    assert fitting, f"{theirs.shape} against {ours.shape}"
    return min(fitting, key=lambda c: int((c != ours).sum()))


def real_steps(graph: Graph, node: Node, inputs: list[Array]) -> Array:
    """What a node computes in real numbers on the values of integers, in steps of its output."""
    kinds, out = graph.types(node.inputs), graph.type(node.outputs[0])
    floats = [data if kind.quant is None else dequantize(data, kind.quant) for data, kind in zip(inputs, kinds, strict=True)]
    result = node.op.reference(floats, [TensorType(DType.F32, kind.shape) for kind in kinds], [TensorType(DType.F32, out.shape)], "onnx")[0]
    return result.astype(np.float64) / out.q.s


def node_by_node(graph: Graph, oracle: Oracle, seed: int) -> Iterator[tuple[Node, Array, Array, Array]]:
    """(node, our output on ONNX Runtime's inputs, ONNX Runtime's output, the real output in steps) of every node that computes."""
    values, feeds = random_inputs(graph, seed)
    truth = oracle.run(feeds)
    values.update({name: value.data for name, value in graph.values.items() if value.data is not None})
    for node, types, out in graph.walk():
        inputs = [values[name] for name in node.inputs]
        results = node.op.reference(inputs, types, out, "onnx")
        values.update(zip(node.outputs, results, strict=True))
        name = None if node.op.kind in QUIET else oracle.tensor(node)
        if name is not None:
            values[node.outputs[0]] = in_layout(truth[name], results[0])
            yield node, results[0], values[node.outputs[0]], real_steps(graph, node, inputs)


@cache
def compared(model: str) -> dict[str, Tally]:
    """Tallies of a model by kind of operator."""
    path = shared(model)
    graph, oracle = integerize(quantized_graph(path)), Oracle(onnx.load(path))
    tallies: dict[str, Tally] = {}
    for seed in range(SAMPLES):
        seen = Counter()
        for node, got, wanted, steps in node_by_node(graph, oracle, seed):
            tallies.setdefault(node.op.kind, Tally()).add(got, wanted, steps)
            seen[node.op.kind] += 1
        assert seen == Counter(node.op.kind for node in graph.nodes if node.op.kind not in QUIET), "a node has no counterpart in ONNX Runtime"
    return tallies


@pytest.mark.parametrize("model", MODELS)
def test_every_operator_is_within_one_step_of_onnxruntime(model: str) -> None:
    for kind, tally in compared(model).items():
        assert tally.worst <= 1, f"{kind}: {tally}"


def test_nearly_all_elements_equal_onnxruntime() -> None:
    """Where they differ, the real number is a tie but for float32; average pools, whose ties are exact and frequent, are counted apart."""
    shared(QDQ[0])
    total: dict[str, Tally] = {}
    for model in QDQ:
        for kind, tally in compared(model).items():
            total[kind] = total.get(kind, Tally()) + tally
    everything, rest = sum(total.values(), Tally()), sum((t for kind, t in total.items() if kind != "AveragePool"), Tally())
    print(f"\n{everything.elements} elements of {len(QDQ)} QDQ models compared, {everything.different} differ, by one step")
    for kind, tally in sorted(total.items()):
        print(f"  {kind:12} {tally.elements:9} compared {tally.different:5} differ")
    assert rest.elements > 1_000_000
    assert rest.different <= (1.0 - NEEDED) * rest.elements
    assert everything.unexplained == 0


def _logits(graph: Graph) -> str:
    """The value that a final softmax or sigmoid reads, else the output."""
    producers, name = graph.producers(), graph.outputs[0]
    while name in producers and producers[name].op.kind in ("Softmax", "Sigmoid", "Reshape", "Quantize"):
        name = producers[name].inputs[0]
    return name


@pytest.mark.parametrize("model", MODELS)
def test_whole_models_stay_close_to_onnxruntime(model: str) -> None:
    path = shared(model)
    graph, oracle = integerize(quantized_graph(path)), Oracle(onnx.load(path))
    name = _logits(graph)
    tally, same = Tally(), 0
    for seed in range(SAMPLES):
        ours, theirs = random_inputs(graph, seed)
        got = run_reference(graph, ours)[name]
        tensor = oracle.tensor(graph.producers()[name])
        assert tensor is not None
        wanted = in_layout(oracle.run(theirs)[tensor], got)
        tally.add(got, wanted, np.full(got.shape, 0.5))
        same += int(got.argmax() == wanted.argmax())
    print(f"\n{model}: {tally.different} of {tally.elements} logits differ, by at most {tally.worst} steps; same class in {same} of {SAMPLES}")
    assert tally.worst <= LOGITS_APART


IMAGE, FLAT = (1, 4, 7, 6), (1, 24)
SINGLES: dict[str, tuple[str, tuple[int, ...], int, list[Any], dict[str, Any]]] = {  # operator, shape, activations, constants, attributes
    "conv": ("Conv", IMAGE, 1, [(5, 4, 3, 3), (5,)], {"pads": [1, 0, 1, 2], "strides": [2, 1]}),
    "depthwise": ("Conv", IMAGE, 1, [(8, 1, 3, 2)], {"group": 4}),
    "conv1d": ("Conv", (1, 3, 20), 1, [(6, 3, 4), (6,)], {"dilations": [2]}),
    "gemm": ("Gemm", FLAT, 1, [(24, 9), (9,)], {}),
    "matmul": ("MatMul", FLAT, 1, [(24, 9)], {}),
    "add": ("Add", IMAGE, 2, [], {}),
    "sub": ("Sub", IMAGE, 2, [], {}),
    "mul": ("Mul", IMAGE, 2, [], {}),
    "mul_constant": ("Mul", IMAGE, 1, [(4, 1, 1)], {}),
    "max_pool": ("MaxPool", IMAGE, 1, [], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
    "average_pool": ("AveragePool", IMAGE, 1, [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "global_average_pool": ("GlobalAveragePool", IMAGE, 1, [], {}),
    "concat": ("Concat", IMAGE, 2, [], {"axis": 1}),
    "softmax": ("Softmax", FLAT, 1, [], {"axis": -1}),
    "leaky_relu": ("LeakyRelu", IMAGE, 1, [], {"alpha": 0.3}),
    "prelu": ("PRelu", IMAGE, 1, [(4, 1, 1)], {}),
    **{name.lower(): (name, IMAGE, 1, [], {}) for name in ("Relu", "Sigmoid", "Tanh", "HardSwish", "Gelu")},
}


def single(name: str, rng: np.random.Generator) -> onnx.ModelProto:
    """Q, DQ, the operator, Q, DQ; weights with one scale per output channel, bias in s_x * s_w."""
    op, shape, count, constants, attrs = SINGLES[name]
    nodes, held, operands, scales = [], {}, [], []

    def store(tag: str, data: Any, dtype: Any) -> str:
        held[tag] = np.asarray(data, dtype)
        return tag

    for i in range(count):
        scales.append(float(rng.uniform(0.01, 0.1)))
        pair = [store(f"s{i}", scales[i], np.float32), store(f"z{i}", rng.integers(-128, 128), np.int8)]
        nodes += [helper.make_node("QuantizeLinear", [f"x{i}", *pair], [f"q{i}"]), helper.make_node("DequantizeLinear", [f"q{i}", *pair], [f"r{i}"])]
        operands.append(f"r{i}")
    for i, size in enumerate(constants):
        per_channel = op == "Conv"
        scale = rng.uniform(0.002, 0.02, size[0] if per_channel else ()) if i == 0 else np.asarray(scales[0], np.float32) * held["ws0"]
        kind = np.int8 if i == 0 else np.int32
        data = rng.integers(-127, 128, size) if i == 0 else rng.integers(-2000, 2000, size)
        names = [store(f"w{i}", data, kind), store(f"ws{i}", scale, np.float32), store(f"wz{i}", np.zeros(np.shape(scale)), kind)]
        nodes.append(helper.make_node("DequantizeLinear", names, [f"k{i}"], **({"axis": 0} if per_channel else {})))
        operands.append(f"k{i}")
    unit = op in ("Softmax", "Sigmoid")
    ends = [store("sy", 1 / 256 if unit else rng.uniform(0.02, 0.12), np.float32), store("zy", -128 if unit else rng.integers(-128, 128), np.int8)]
    nodes += [helper.make_node(op, operands, ["y"], "single", **attrs), helper.make_node("QuantizeLinear", ["y", *ends], ["qy"])]
    nodes.append(helper.make_node("DequantizeLinear", ["qy", *ends], ["out"]))
    inputs = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, shape) for i in range(count)]
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", inputs, [output], [numpy_helper.from_array(data, tag) for tag, data in held.items()])
    return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9))


@pytest.mark.parametrize("name", SINGLES)
def test_single_operators_at_random_scales(name: str) -> None:
    """Within one step, and different only where float32 decides a tie."""
    rng, tally = np.random.default_rng(len(name)), Tally()
    for seed in range(12):
        proto = single(name, rng)
        graph, oracle = integerize(quantized_graph(proto.SerializeToString())), Oracle(proto)
        ours, theirs = random_inputs(graph, seed)
        output = graph.outputs[0]
        got, wanted = run_reference(graph, ours)[output], oracle.run(theirs)["qy"]
        tally.add(got, wanted, real_output(graph, ours) + graph.type(output).q.z)
    assert tally.worst <= 1, tally
    assert tally.unexplained == 0, tally
    assert tally.different <= 0.02 * tally.elements, tally


def real_output(graph: Graph, inputs: dict[str, Array]) -> Array:
    """The output in steps, computed in real numbers from the integers of the inputs without rounding in between."""
    held = {**{name: value.data for name, value in graph.values.items() if value.data is not None}, **inputs}
    reals = {name: data if graph.type(name).quant is None else dequantize(data, graph.type(name).q) for name, data in held.items()}
    for node, types, out in graph.walk():
        floats = [[TensorType(DType.F32, kind.shape) for kind in kinds] for kinds in (types, out)]
        operands = [reals[name] for name in node.inputs]
        reals.update(zip(node.outputs, operands if node.op.kind == "Quantize" else node.op.reference(operands, *floats, "onnx"), strict=True))
    return reals[graph.outputs[0]].astype(np.float64) / graph.type(graph.outputs[0]).q.s
