# SPDX-License-Identifier: Apache-2.0
"""The Python API and what it emits, on one model that uses every family of kernels."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from midge.kernels import FAMILIES
from onnx import TensorProto, helper, numpy_helper
from support import ROOT, needs_arm

import midge
from midge.errors import MidgeError, UsageError
from midge.ir import Array
from midge.ops.build import dequantize, quantize
from midge.run.host import run_host
from midge.run.qemu import undefined_symbols
from midge.run.reference import run_reference
from midge.run.verify import verify
from midge.targets import get_target
from midge.toolchain import compiler_of

TARGETS = ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m33", "cortex-m55")
STRICT = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wmissing-prototypes", "-Werror")
ELSEWHERE = {"clamp", "conv2d_w4", "gemm_w4"}  # follow kernels of a target, or weights of four bits
PORTABLE = {family for family in FAMILIES if not family.endswith(("_dsp", "_mve", "_thumb"))} - ELSEWHERE
SHAPES = {"image": (1, 3, 8, 6), "context": (1, 4)}


def node(op: str, inputs: str, outputs: str, **attrs: object) -> onnx.NodeProto:
    """An ONNX node; `-` stands for an input that is left out."""
    return helper.make_node(op, ["" if name == "-" else name for name in inputs.split()], outputs.split(), name=f"{outputs.split()[0]}_node", **attrs)


@cache
def everything() -> onnx.ModelProto:
    """Two inputs, three outputs, and every kind of layer in between."""
    rng = np.random.default_rng(7)
    held = {
        "w1": rng.normal(size=(8, 3, 3, 3)) / 5, "b1": rng.normal(size=8), "w2": rng.normal(size=(8, 1, 3, 3)) / 3, "w3": rng.normal(size=(4, 8, 1, 1)) / 3,
        "slope": rng.uniform(0.1, 0.5, (8, 1, 1)), "w4": rng.normal(size=(10, 76)) / 7, "b4": rng.normal(size=10), "factor": rng.normal(size=(8, 1, 1)),
    }  # fmt: skip
    whole = {"pads": [0, 0, 0, 1, 0, 0, 1, 0], "flat": [1, -1], "axis": [1], "start": [0], "end": [2], "halves": [2, 2]}
    held = {name: data.astype(np.float32) for name, data in held.items()} | {name: np.array(data, np.int64) for name, data in whole.items()}
    held |= {"half": np.array(0.5, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    nodes = [
        node("Conv", "image w1 b1", "c1", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("PRelu", "c1 slope", "p1"),
        node("Conv", "p1 w2", "c2", pads=[1, 1, 1, 1], group=8),
        node("HardSwish", "c2", "h2"),
        node("Add", "h2 p1", "sum"),
        node("Mul", "sum factor", "scaled"),
        node("Sigmoid", "scaled", "gate"),
        node("Mul", "gate sum", "gated"),
        node("AveragePool", "gated", "pooled", kernel_shape=[2, 3], pads=[1, 1, 0, 1], strides=[1, 1]),
        node("MaxPool", "pooled", "largest", kernel_shape=[2, 3], strides=[2, 3]),
        node("Conv", "largest w3", "c3"),
        node("Resize", "c3 - scales", "grown", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        node("Pad", "grown pads half", "padded"),
        node("Split", "padded halves", "left right", axis=1),
        node("Concat", "left right padded", "joined", axis=1),
        node("Transpose", "joined", "turned", perm=[0, 3, 2, 1]),
        node("Slice", "joined start end axis", "cut"),
        node("GlobalAveragePool", "joined", "means"),
        node("Reshape", "grown flat", "vector"),
        node("Concat", "vector vector", "twice", axis=1),
        node("Softmax", "context", "share"),
        node("Reshape", "means flat", "list"),
        node("Concat", "twice list share", "features", axis=1),
        node("Gemm", "features w4 b4", "logits", transB=1),
        node("Softmax", "logits", "scores"),
    ]
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "everything",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in SHAPES.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("scores", "turned", "cut")],
            [numpy_helper.from_array(data, name) for name, data in held.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    return onnx.shape_inference.infer_shapes(proto, strict_mode=True)


def samples(count: int, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(count, *shape)).astype(np.float32) for name, shape in SHAPES.items()}


@cache
def library(target: str = "host", numerics: str = "onnx", io: str = "quantized") -> midge.Library:
    return midge.compile(everything().SerializeToString(), target=target, calibration=samples(8), numerics=numerics, io=io, name="net")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library().write(tmp_path_factory.mktemp("library") / "net")


@pytest.mark.parametrize("io", ["quantized", "model"])
def test_the_model_uses_every_family_of_kernels(io: str) -> None:
    assert {call.kernel.family for call in library(io=io).program.calls} == (PORTABLE if io == "model" else PORTABLE - {"edge"})


def test_integers_in_integers_out_floats_in_floats_out() -> None:
    net = library()
    floats = [data[0] for data in samples(1, seed=5).values()]
    integers = [quantize(data, port.type.dtype, port.type.q) for data, port in zip(floats, net.program.inputs, strict=True)]
    raw, real, mixed = net.run(*integers), net.run(*floats), net.run(integers[0], floats[1])
    assert [array.dtype for array in raw] == [np.int8] * 3
    for a, b, c, port in zip(raw, real, mixed, net.program.outputs, strict=True):
        assert b.dtype == np.float32
        np.testing.assert_array_equal(b, dequantize(a, port.type.q))
        np.testing.assert_array_equal(c, b)
    assert [array.shape for array in raw] == [(1, 10), (1, 3, 5, 8), (1, 2, 5, 3)]


def test_inputs_by_name_in_any_order_and_without_leading_ones() -> None:
    net, (image, context) = library(), [data[0] for data in samples(1, seed=6).values()]
    for a, b in zip(net.run(image, context), net.run(context=context[0], image=image[0].astype(np.float64)), strict=True):
        np.testing.assert_array_equal(a, b)


GOOD = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}


@pytest.mark.parametrize(
    ("inputs", "named", "message"),
    [
        ([GOOD["image"]], {}, "inputs wanted: image, context; given: input 0"),
        ([], {}, "given: none"),
        ([GOOD["image"], GOOD["context"], GOOD["context"]], {}, "given: input 0, input 1, input 2"),
        ([], {"image": GOOD["image"]}, "given: image"),
        ([], {**GOOD, "other": GOOD["context"]}, "given: image, context, other"),
        ([GOOD["image"], GOOD["context"]], {"other": GOOD["context"]}, "given: input 0, input 1, other"),
        ([GOOD["image"]], {"context": GOOD["context"]}, "given: input 0, context"),
        ([], {**GOOD, "image": np.zeros((1, 8, 6, 3), np.float32)}, r"'image' has shape \(1, 8, 6, 3\), the model wants \(1, 3, 8, 6\)"),
        ([], {**GOOD, "context": np.zeros(5, np.float32)}, r"'context' has shape \(5,\)"),
        ([], {**GOOD, "context": np.zeros(4, np.int32)}, "'context' is int32, the library wants int8 or, where it is quantized, float32"),
        ([], {**GOOD, "context": np.zeros(4, np.uint8)}, "'context' is uint8"),
        ([], {**GOOD, "context": np.array([0, np.nan, 0, 0], np.float32)}, "'context' has NaN or infinite values"),
    ],
)
def test_wrong_inputs_are_named(inputs: list[Array], named: dict[str, Array], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        library().run(*inputs, **named)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"io": "float"}, "--io"),
        ({"numerics": "exact"}, "numerics"),
        ({"target": "cortex-m1"}, "cortex-m1"),
        ({"calibration": None}, "--calibration"),
        ({"observer": "x"}, "'x'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(MidgeError, match=message):
        midge.compile(everything().SerializeToString(), **{"calibration": samples(2), **options})


def test_report_counts_what_the_program_holds() -> None:
    net = library()
    report = net.report()
    assert report.macs == net.program.macs > 0
    assert str(net.program.arena_nbytes) in str(report).replace(",", "").replace(" ", "")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_writing_again_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    first = contents(written)
    assert contents(library().write(tmp_path / "other")) == first
    assert contents(library().write(tmp_path / "other")) == first


_COMPILE = "import midge, numpy as np, sys; midge.compile(sys.argv[1], calibration=dict(np.load(sys.argv[2])), name='net').write(sys.argv[3])"


@pytest.mark.parametrize("seed", ["1", "31337"])
def test_another_process_gives_the_same_bytes(seed: str, written: Path, tmp_path: Path) -> None:
    onnx.save(everything(), tmp_path / "model.onnx")
    np.savez(tmp_path / "samples.npz", **samples(8))
    command = [sys.executable, "-c", _COMPILE, *(str(tmp_path / name) for name in ("model.onnx", "samples.npz", "out"))]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, cwd=tmp_path)
    assert contents(tmp_path / "out") == contents(written)


@pytest.mark.parametrize("numerics", ["onnx", "tflite"])
@pytest.mark.parametrize("io", ["quantized", "model"])
def test_all_inputs_before_and_all_outputs_after_a_run(io: str, numerics: str, tmp_path: Path) -> None:
    net = library(numerics=numerics, io=io)
    rng = np.random.default_rng(2)
    kinds = net.graph.types(net.graph.inputs)
    inputs = [rng.normal(size=(3, *k.shape)).astype(np.float32) if k.dtype.is_float else rng.integers(-128, 128, (3, *k.shape)).astype(np.int8) for k in kinds]
    outputs = run_host(net.write(tmp_path / "net"), inputs, sanitize=True).outputs
    for i, sample in enumerate(zip(*inputs, strict=True)):
        values = run_reference(net.graph, dict(zip(net.graph.inputs, sample, strict=True)))
        for name, got, python in zip(net.graph.outputs, outputs, net.run(*sample), strict=True):
            assert got[i].tobytes() == np.ascontiguousarray(values[name]).tobytes() == python.tobytes(), name


def test_model_ports_are_float_and_agree_with_quantized_ones() -> None:
    inputs = [data[0] for data in samples(1, seed=9).values()]
    for a, b in zip(library(io="model").run(*inputs), library().run(*inputs), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)


def _flip(weights: Path, symbol: str) -> None:
    """Change the first value of a constant in the emitted C by its lowest bit."""
    text = weights.read_text()
    pattern = re.compile(rf"( {re.escape(symbol)}\[\d+\] = \{{\s*)(-?\d+)")
    found = pattern.search(text)
    assert found is not None, symbol
    weights.write_text(pattern.sub(lambda m: f"{m[1]}{int(m[2]) ^ 64}", text, count=1))


def test_verify_is_exact_and_names_the_layer_of_a_changed_weight(tmp_path: Path) -> None:
    net = library()
    folder = net.write(tmp_path / "net")
    inputs = [[data[i] for data in (quantize(samples(3)[p.name], p.type.dtype, p.type.q) for p in net.program.inputs)] for i in range(3)]
    sound = verify(folder, inputs)
    assert sound.exact
    assert sound.changed == ()
    for layer in [layer for layer in net.program.layers if layer.kind in ("Conv2D", "Dense")][1:]:
        original = (folder / "src" / "net_weights.c").read_text()
        _flip(folder / "src" / "net_weights.c", f"net_layer{layer.index}_weights")
        broken = verify(folder, inputs)
        assert not broken.exact
        assert broken.difference is not None
        assert (broken.difference.layer, broken.difference.name, broken.difference.kind) == (layer.index, layer.name, layer.kind)
        assert broken.changed == ("src/net_weights.c",)
        (folder / "src" / "net_weights.c").write_text(original)


@needs_arm
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_but_memory_functions_is_needed(target: str, tmp_path: Path) -> None:
    folder = library(target=target, io="model").write(tmp_path / "net")
    assert undefined_symbols(folder, target) <= {"memcpy", "memset", "memmove"}


@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-none-eabi-gcc"])
@pytest.mark.parametrize("target", ["host", "cortex-m4"])
@pytest.mark.parametrize("numerics", ["onnx", "tflite"])
def test_emitted_sources_compile_without_a_warning(compiler: str, target: str, numerics: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    flags = ["-mcpu=cortex-m4", "-mthumb"] if compiler.startswith("arm") else []
    for io in ("quantized", "model"):
        folder = library(target=target, io=io, numerics=numerics).write(tmp_path / io)
        for source in sorted((folder / "src").glob("*.c")):
            done = subprocess.run([compiler, *STRICT, *flags, "-c", str(source), "-o", str(tmp_path / "x.o")], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


@needs_arm
@pytest.mark.parametrize("target", TARGETS)
def test_kernels_compile_without_optimization(target: str, tmp_path: Path) -> None:
    """As in a debug build, where a frame pointer and variables leave assembly few registers."""
    machine, folder = get_target(target), ROOT / "kernels"
    for source in sorted(folder.glob("[!_]*.c")):
        command = [compiler_of(machine), "-std=c99", "-O0", "-g", *machine.flags, f"-I{folder}", "-c", str(source), "-o", str(tmp_path / "x.o")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_no_path_of_this_machine_is_emitted(written: Path) -> None:
    for name, data in contents(written).items():
        assert str(ROOT).encode() not in data, name
        assert str(Path.home()).encode() + b"/" not in data, name
