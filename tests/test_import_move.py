# SPDX-License-Identifier: Apache-2.0
"""Views and data movement as ONNX writes them: the imported Graph against ONNX Runtime, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from support import run_reference

from midge.errors import ImportFailed, Unsupported
from midge.importers.onnx import load
from midge.ir import Array, Graph
from midge.ops.view import Reshape

INT64 = np.int64


def model(op: str, shapes: list[tuple[int, ...]], opset: int, constants: list[Array | None] | None = None, outputs: int = 1, **attrs: object) -> bytes:
    """One ONNX node: computed inputs of `shapes`, then constant ones (None: absent)."""
    names = [f"x{i}" for i in range(len(shapes))]
    held = [f"c{i}" if data is not None else "" for i, data in enumerate(constants or [])]
    node = helper.make_node(op, names + held, [f"y{i}" for i in range(outputs)], name="node", **attrs)
    tensors = [numpy_helper.from_array(data, name) for data, name in zip(constants or [], held, strict=True) if data is not None]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip(names, shapes, strict=True)]
    ports = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(outputs)]
    graph = helper.make_graph([node], "net", inputs, ports, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def assert_import_matches(data: bytes, shapes: list[tuple[int, ...]]) -> Graph:
    """References of the imported Graph == ONNX Runtime, exactly; returns the Graph."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    feeds = {f"x{i}": np.random.default_rng(i).standard_normal(shape).astype(np.float32) for i, shape in enumerate(shapes)}
    expected = session.run(None, feeds)
    graph = load(data)
    values = run_reference(graph, feeds)
    for name, want in zip(graph.outputs, expected, strict=True):
        np.testing.assert_array_equal(values[name], want)
        assert graph.type(name).shape == want.shape
    return graph


def ints(*values: int) -> Array:
    return np.array(values, INT64)


shapes_any = st.integers(2, 4).flatmap(lambda rank: st.tuples(st.just(1), *[st.integers(1, 5)] * (rank - 1)))


@pytest.mark.parametrize(
    ("op", "shape", "opset", "constants", "attrs", "want"),
    [
        ("Reshape", (1, 4, 6), 13, [ints(0, -1)], {}, (1, 24)),
        ("Reshape", (1, 4, 6), 14, [ints(2, 0, -1)], {}, (2, 4, 3)),
        ("Reshape", (1, 4, 6), 14, [ints(-1)], {"allowzero": 1}, (24,)),
        ("Reshape", (1, 49, 10, 1), 13, [ints(49, 10)], {}, (49, 10)),
        ("Flatten", (1, 2, 3, 4), 13, None, {}, (1, 24)),
        ("Flatten", (1, 2, 3, 4), 13, None, {"axis": -1}, (6, 4)),
        ("Flatten", (1, 2, 3), 9, None, {"axis": 3}, (6, 1)),
        ("Flatten", (1, 2, 3), 11, None, {"axis": 0}, (1, 6)),
        ("Squeeze", (1, 2, 1, 4), 11, None, {}, (2, 4)),
        ("Squeeze", (1, 2, 1, 4), 11, None, {"axes": [-2]}, (1, 2, 4)),
        ("Squeeze", (1, 2, 1, 4), 13, [ints(0)], {}, (2, 1, 4)),
        ("Unsqueeze", (1, 4), 11, None, {"axes": [0, 3]}, (1, 1, 4, 1)),
        ("Unsqueeze", (1, 4), 13, [ints(-1, 0)], {}, (1, 1, 4, 1)),
        ("Identity", (1, 3), 13, None, {}, (1, 3)),
        ("Dropout", (1, 3), 13, None, {}, (1, 3)),
        ("Dropout", (1, 3), 7, None, {"ratio": 0.3}, (1, 3)),
        ("Cast", (1, 3), 13, None, {"to": TensorProto.FLOAT}, (1, 3)),
    ],
)
def test_views(op, shape, opset, constants, attrs, want):
    graph = assert_import_matches(model(op, [shape], opset, constants, **attrs), [shape])
    assert graph.type(graph.outputs[0]).shape == want
    assert all(isinstance(node.op, Reshape) for node in graph.nodes)


def test_reshape_written_for_a_larger_batch():
    graph = load(model("Reshape", [(1, 4, 6)], 13, [ints(8, 24)]))
    assert graph.type(graph.outputs[0]).shape == (1, 24)


@pytest.mark.parametrize(
    ("op", "shape", "constants", "attrs"),
    [
        ("Reshape", (1, 4, 6), [ints(5, -1)], {}),
        ("Reshape", (1, 4, 6), [ints(-1, -1)], {}),
        ("Reshape", (1, 4, 6), [ints(1, 1, 1, 0)], {}),
        ("Squeeze", (1, 4, 6), [ints(1)], {}),
        ("Unsqueeze", (1, 4), [ints(0, 0)], {}),
        ("Flatten", (1, 4), None, {"axis": 3}),
        ("Transpose", (1, 4, 6), None, {"perm": [0, 1, 1]}),
        ("Pad", (1, 4), [ints(0, 1, 0)], {}),
        ("Slice", (1, 4), [ints(0), ints(2), ints(2)], {}),
        ("Slice", (1, 4), [ints(0), ints(2), ints(1), ints(0)], {}),
        ("Split", (1, 5), [ints(2, 2)], {"axis": 1, "outputs": 2}),
        ("Gather", (1, 5), [ints(5)], {"axis": 1}),
        ("Tile", (1, 5), [ints(2)], {}),
        ("Expand", (1, 5), [ints(1, 4)], {}),
        ("DepthToSpace", (1, 6, 2, 2), None, {"blocksize": 2}),
        ("SpaceToDepth", (1, 6, 2, 3), None, {"blocksize": 2}),
        ("Resize", (1, 1, 2, 2), [None, None, ints(1, 1, 4)], {}),
    ],
)
def test_broken_models_are_refused_by_name(op, shape, constants, attrs):
    with pytest.raises(ImportFailed, match=f"{op} 'node'|onnx|node"):
        load(model(op, [shape], 13, constants, **attrs))


@pytest.mark.parametrize(
    ("op", "shape", "constants", "attrs", "reason"),
    [
        ("Slice", (1, 9), [ints(8), ints(0), ints(1), ints(-1)], {}, "steps of at least 1"),
        ("Slice", (1, 9), [ints(5), ints(5), ints(1)], {}, "nothing is left"),
        ("Pad", (1, 4), [ints(0, 1, 0, 1)], {"mode": "reflect"}, "only H and W"),
        ("Resize", (1, 1, 2, 2), [None, np.float32([1, 1, 2, 2])], {"mode": "linear"}, "export with mode 'nearest'"),
        ("Resize", (1, 2, 2, 2), [None, np.float32([1, 2, 1, 1])], {}, "only H and W"),
        ("Tile", (1, 4), [ints(1, 17)], {}, "up to 16"),
        ("Gather", (1, 40), [np.arange(40, dtype=INT64)[::-1].copy()], {"axis": 1}, "separate runs"),
        ("Cast", (1, 4), None, {"to": TensorProto.INT8}, "f32 to int8"),
    ],
)
def test_what_is_not_offered_says_the_way_out(op, shape, constants, attrs, reason):
    with pytest.raises(Unsupported, match=f"{op} 'node'.*{reason}"):
        load(model(op, [shape], 13, constants, **attrs))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_transpose_import(data):
    shape = data.draw(shapes_any)
    perm = data.draw(st.permutations(range(len(shape))))
    assert_import_matches(model("Transpose", [shape], 13, perm=perm), [shape])


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_pad_import(data):
    shape, opset = data.draw(shapes_any), data.draw(st.sampled_from([10, 11, 13, 18]))
    mode = data.draw(st.sampled_from(["constant", "constant", "edge", "reflect"]))
    rank, value = len(shape), np.float32(data.draw(st.sampled_from([0, 1.5, -2])))
    if mode == "constant":
        pads = [[data.draw(st.integers(-1 if size > 2 else 0, 3)) for size in shape] for _ in range(2)]
    else:
        assume(rank > 2)
        pads = [[0, 0] + [data.draw(st.integers(0, size - 1)) for size in shape[2:]] for _ in range(2)]
    flat = pads[0] + pads[1]
    if opset < 11:
        case = model("Pad", [shape], opset, mode=mode, pads=flat, value=float(value))
    elif opset < 18 or data.draw(st.booleans()):
        case = model("Pad", [shape], opset, [ints(*flat), np.array(value)], mode=mode)
    else:
        chosen = [axis for axis in range(rank) if pads[0][axis] or pads[1][axis]] or [rank - 1]
        flat = [side[axis] for side in pads for axis in chosen]
        case = model("Pad", [shape], opset, [ints(*flat), np.array(value), ints(*[axis - rank for axis in chosen])], mode=mode)
    assert_import_matches(case, [shape])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_concat_import(data):
    first, axis = data.draw(shapes_any), data.draw(st.integers(-1, 1))
    shapes = [list(first) for _ in range(data.draw(st.integers(1, 4)))]
    for shape in shapes:
        shape[axis] = data.draw(st.integers(1, 4)) if axis else 1
    shapes = [tuple(shape) for shape in shapes]
    assert_import_matches(model("Concat", shapes, 13, axis=axis), shapes)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_slice_import(data):
    shape, opset = data.draw(shapes_any), data.draw(st.sampled_from([9, 10, 13]))
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape), unique=True))
    starts = [data.draw(st.integers(-shape[axis] - 1, shape[axis] - 1)) for axis in axes]
    ends = [data.draw(st.sampled_from([shape[axis], 2**63 - 1, 2**31 - 1, start % shape[axis] + 1, -1])) for axis, start in zip(axes, starts, strict=True)]
    steps = [data.draw(st.integers(1, 3)) if opset > 9 else 1 for _ in axes]
    assume(all(len(range(shape[axis])[s:e:t]) for axis, s, e, t in zip(axes, starts, ends, steps, strict=True)))
    if opset < 10:
        case = model("Slice", [shape], opset, starts=starts, ends=ends, axes=axes)
    else:
        case = model("Slice", [shape], opset, [ints(*starts), ints(*ends), ints(*[axis - len(shape) for axis in axes]), ints(*steps)])
    assert_import_matches(case, [shape])


@pytest.mark.parametrize(
    ("opset", "constants", "attrs", "outputs"),
    [
        (11, None, {"axis": 1}, 3),
        (11, None, {"axis": 1, "split": [1, 3, 2]}, 3),
        (13, [ints(1, 5)], {"axis": -3}, 2),
        (13, None, {"axis": 1}, 2),
        (18, None, {"axis": 2, "num_outputs": 2}, 2),
        (18, None, {"axis": 1, "num_outputs": 4}, 4),
    ],
)
def test_split_import(opset, constants, attrs, outputs):
    shape = (1, 6, 5, 2) if attrs.get("num_outputs") != 4 else (1, 7, 5, 2)
    assert_import_matches(model("Split", [shape], opset, constants, outputs, **attrs), [shape])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_resize_import(data):
    shape, opset = data.draw(st.sampled_from([(1, 2, 3, 4), (1, 1, 5, 2), (1, 3, 1, 7), (1, 2, 5)])), data.draw(st.sampled_from([9, 10, 11, 13, 18, 19]))
    spatial = len(shape) - 2
    scales = np.float32([1, 1] + [data.draw(st.sampled_from([1, 2, 3, 1.5, 2.6] + [0.5, 0.75] * (opset > 9))) for _ in range(spatial)])
    assume(all(int(size * scale) for size, scale in zip(shape, scales, strict=True)))
    if opset < 11:
        assert_import_matches(model("Upsample" if opset == 9 else "Resize", [shape], opset, [scales], mode="nearest"), [shape])
        return
    modes = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"] + (["half_pixel_symmetric"] if opset == 19 else [])
    attrs = {
        "coordinate_transformation_mode": data.draw(st.sampled_from(modes)),
        "nearest_mode": data.draw(st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])),
    }
    symmetric = attrs["coordinate_transformation_mode"] == "half_pixel_symmetric"
    assume(not symmetric or all(size * scale % 1 == 0 for size, scale in zip(shape, scales, strict=True)))  # others end in float32 ties
    none = np.array([], np.float32)
    if not symmetric and data.draw(st.booleans()):
        sizes = list(shape[:2]) + [data.draw(st.integers(1, 12)) for _ in range(spatial)]
        policy = data.draw(st.sampled_from(["stretch", "not_larger", "not_smaller"])) if opset >= 18 else "stretch"
        if policy != "stretch":
            assume(min(want / size for want, size in zip(sizes[2:], shape[2:], strict=True)) * min(shape[2:]) >= 1)  # else an axis vanishes
            attrs |= {"keep_aspect_ratio_policy": policy, "axes": list(range(2, len(shape)))}
            sizes = sizes[2:]
        constants = [none, none, ints(*sizes)]
    else:
        constants = [none, scales]
    assert_import_matches(model("Resize", [shape], opset, constants, mode="nearest", **attrs), [shape])


@pytest.mark.parametrize(
    ("op", "shape", "opset", "constants", "attrs"),
    [
        ("Upsample", (1, 2, 3, 3), 7, None, {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "nearest"}),
        ("DepthToSpace", (1, 12, 2, 3), 13, None, {"blocksize": 2}),
        ("DepthToSpace", (1, 18, 2, 3), 11, None, {"blocksize": 3, "mode": "CRD"}),
        ("SpaceToDepth", (1, 3, 4, 6), 13, None, {"blocksize": 2}),
        ("Tile", (1, 3, 4), 13, [ints(1, 2, 3)], {}),
        ("Expand", (1, 3, 1), 13, [ints(2, 1, 3, 4)], {}),
        ("Expand", (1, 3, 4), 13, [ints(1)], {}),
        ("Gather", (1, 5, 4), 13, [np.array(2, INT64)], {"axis": 1}),
        ("Gather", (1, 5, 4), 13, [ints(-1, 0, 1, 3)], {"axis": 1}),
        ("Gather", (1, 5, 4), 13, [np.array([[0, 1], [1, 2]], INT64)], {"axis": -1}),
        ("Pad", (1, 2, 3, 4), 13, [ints(0, 0, 2, 1, 0, 0, 1, 3)], {"mode": "reflect"}),
    ],
)
def test_other_imports(op, shape, opset, constants, attrs):
    assert_import_matches(model(op, [shape], opset, constants, **attrs), [shape])
