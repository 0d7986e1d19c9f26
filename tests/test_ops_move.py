# SPDX-License-Identifier: Apache-2.0
"""Data movement: kernels against references, the law of `permuted`, what is emitted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from midge.kernels import functions
from support import assert_kernels_match, op_graph, program_of, s8

from midge.errors import IRError, Unsupported
from midge.ir import Array, DType, Graph, Node, Op, Quant, TensorType
from midge.ops.join import Concat, Slice
from midge.ops.move import DIMS, Transpose, block_params, progressions
from midge.ops.pad import Pad
from midge.ops.resize import Resize, row_windows
from midge.ops.view import Reshape

shapes_4d = st.tuples(st.just(1), *[st.integers(1, 6)] * 3)
shapes_any = st.integers(2, 4).flatmap(lambda rank: st.tuples(st.just(1), *[st.integers(1, 5)] * (rank - 1)))


# Random operators on random int8 tensors: (op, input types). Ranks 2 to 4, with and without a batch axis.

shapes_rows = st.one_of(shapes_4d, shapes_any, st.tuples(*[st.integers(2, 4)] * 3), st.tuples(*[st.integers(2, 5)] * 2))


@st.composite
def pads_of(draw):
    shape = draw(shapes_rows)
    return Pad(tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in shape), draw(st.sampled_from([0.0, -np.inf, 0.7]))), [shape]


@st.composite
def slices_of(draw):
    shape = draw(shapes_rows)
    starts = tuple(draw(st.integers(0, size - 1)) for size in shape)
    ends = tuple(draw(st.integers(start + 1, size)) for start, size in zip(starts, shape, strict=True))
    return Slice(starts, ends, tuple(draw(st.integers(1, 3)) for _ in shape)), [shape]


@st.composite
def concats_of(draw):
    shape = draw(shapes_rows)
    axis = draw(st.integers(0, len(shape) - 1))
    sizes = [draw(st.integers(1, 4)) for _ in range(draw(st.integers(1, 4)))]
    return Concat(axis), [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


@st.composite
def resizes_of(draw):
    shape = draw(st.one_of(shapes_4d, st.tuples(st.just(1), st.integers(1, 6), st.integers(1, 5))))
    cols = shape[2] if len(shape) == 4 else 1
    tables = [tuple(draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=9))) for size in (shape[1], cols)]
    return Resize(tables[0], tables[1] if len(shape) == 4 else (0,)), [shape]


@st.composite
def transposes_of(draw):
    shape = draw(st.one_of(shapes_rows, st.tuples(*[st.integers(1, 3)] * 5)))
    return Transpose(tuple(draw(st.permutations(range(len(shape)))))), [shape]


cases = st.one_of(pads_of(), slices_of(), concats_of(), resizes_of(), transposes_of())


def with_copy(op: Op, shapes: list[tuple[int, ...]], zero_point: int) -> Graph:
    """`op` between copies: its inputs and output are then ordinary buffers, whatever it is lowered to."""
    types = [s8(shape, 0.05, zero_point) for shape in shapes]
    graph = op_graph(op, list(types), op.infer(types)[0])
    shape = graph.type("out0").shape
    last = graph.add_value("copy", graph.type("out0"))
    graph.nodes.append(Node("copy", Slice((0,) * len(shape), shape, (1,) * len(shape)), ["out0"], [last]))
    graph.outputs = [last]
    return graph


def random_feeds(graph: Graph, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(-128, 128, graph.type(name).shape).astype(np.int8) for name in graph.inputs}


@settings(max_examples=500, deadline=None)
@given(cases, st.sampled_from([-128, 3, 127]))
def test_kernels_equal_reference(case, zero_point):
    graph = with_copy(*case, zero_point)
    assert_kernels_match(graph, random_feeds(graph))


@settings(max_examples=100, deadline=None)
@given(st.one_of(pads_of(), slices_of(), concats_of()), st.randoms(use_true_random=False))
def test_permuted_commutes_with_transpose(case, random):
    op, shapes = case
    perm = list(range(len(shapes[0])))
    random.shuffle(perm)
    types = [s8(shape, 0.05, 3) for shape in shapes]
    turned = [held.with_shape(tuple(held.shape[axis] for axis in perm)) for held in types]
    arrays = [np.random.default_rng(i).integers(-128, 128, shape).astype(np.int8) for i, shape in enumerate(shapes)]
    plain = op.reference(arrays, types, op.infer(types), "onnx")[0]
    other = op.permuted(tuple(perm))
    got = other.reference([np.transpose(array, perm) for array in arrays], turned, other.infer(turned), "onnx")[0]
    np.testing.assert_array_equal(got, np.transpose(plain, perm))


@pytest.mark.parametrize("op", [Pad(((0, 0), (1, 2), (2, 0), (0, 3))), Slice((0, 1, 0, 0), (1, 5, 4, 2), (1, 2, 3, 1)), Transpose((0, 1, 3, 2))])
def test_float_elements_move_too(op):
    kind = TensorType(DType.F32, (1, 6, 4, 3))
    graph = op_graph(op, [kind], op.infer([kind])[0])
    assert_kernels_match(graph, {"in0": np.random.default_rng(0).standard_normal(kind.shape).astype(np.float32)})


def test_a_view_of_other_rows_is_read_by_its_own_shape():
    """(1, 6, 4, 2) seen as (1, 3, 16): the pad must read rows of 16 bytes, not the buffer's rows of 8."""
    view, pad = Reshape((1, 3, 16)), Pad(((0, 0), (1, 1), (2, 2)))
    kind = s8((1, 6, 4, 2), 0.1, 4)
    graph = op_graph(view, [kind], view.infer([kind])[0])
    graph.outputs = [graph.add_value("padded", pad.infer([graph.type("out0")])[0])]
    graph.nodes.append(Node("pad", pad, ["out0"], list(graph.outputs)))
    assert_kernels_match(graph, random_feeds(graph))


def test_operands_must_share_one_quant_when_lowered():
    a, b = s8((1, 2, 2, 3), 0.1, 0), s8((1, 2, 2, 3), 0.2, 0)
    assert Concat(3).infer([a, b])[0].dtype is DType.F32
    with pytest.raises(IRError, match=r"concat 'node': 'in1' is .* they must share one Quant"):
        program_of(op_graph(Concat(3), [a, b], s8((1, 2, 2, 6), 0.1, 0)))


@pytest.mark.parametrize(("perm", "shape", "view"), [((0, 3, 1, 2), (1, 1, 1, 8), True), ((0, 2, 3, 1), (1, 1, 4, 5), True), ((0, 2, 1), (1, 4, 5), False)])
def test_a_transpose_that_moves_nothing_emits_nothing(perm, shape, view):
    graph = with_copy(Transpose(perm), [shape], 0)
    assert ("Transpose" in {layer.kind for layer in program_of(graph).layers}) != view


def test_rows_stream_where_they_can():
    """One call, row by row, for what keeps H apart; one call for the whole tensor only where rows mix."""
    kind = (1, 8, 4, 3)
    for op, calls, rows in (
        (Pad(((0, 0), (1, 1), (2, 0), (0, 0))), 1, 10),
        (Slice((0, 1, 0, 1), (1, 8, 4, 3), (1, 3, 2, 1)), 1, 3),
        (Transpose((0, 1, 3, 2)), 1, 8),
        (Transpose((0, 3, 1, 2)), 1, 1),
        (Resize(tuple(y // 2 for y in range(16)), tuple(x // 2 for x in range(8))), 1, 16),
        (Resize((0, 1, 2, 2, 3), (0, 1, 2, 3)), 2, 2),
    ):
        program = program_of(op_graph(op, [s8(kind, 0.1, 0)], op.infer([s8(kind, 0.1, 0)])[0]))
        assert (len(program.calls), program.calls[-1].rows) == (calls, rows), op


def test_a_transpose_of_too_many_axes_is_refused():
    shape = (2,) * 6
    with pytest.raises(Unsupported, match="6 axes move independently, 5 are offered"):
        program_of(with_copy(Transpose((5, 4, 3, 2, 1, 0)), [shape], 0))
    assert DIMS == 5


def test_pad_fills_with_the_quantized_value():
    kind = s8((1, 2), 0.5, 10)
    fills = [int(Pad(((0, 0), (0, 1)), value).fill(kind)) for value in (0.0, 0.75, 1.25, -np.inf, 1e9)]
    assert fills == [10, 12, 12, -128, 127]  # 0.75 and 1.25 are ties: to even


@given(st.lists(st.integers(0, 20), max_size=30))
def test_progressions_spell_the_indices(indices):
    runs = progressions(indices)
    assert list(itertools.chain(*runs)) == indices
    assert all(run.step >= 1 for run in runs)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=20))
def test_row_windows_read_the_rows_asked_for(rows):
    read = [window.rows(y)[0] for _, count, window in row_windows(tuple(rows), 8) for y in range(count)]
    assert read == rows


@pytest.mark.parametrize("symbol", ["midge_copy_s8", "midge_pad_s8", "midge_gather_s8"])
@pytest.mark.parametrize("nbytes", [1, 2, 5])
def test_kernels_stay_inside_their_rows(symbol, nbytes):
    """Several rows a call; the bytes around every output row stay as they were."""
    dims, rows = (2, 3, 2, 1, 4), 3
    strides = [int(np.prod(dims[i + 1 :])) * nbytes for i in range(5)]
    count = 4 if symbol == "midge_gather_s8" else int(np.prod(dims))
    row = count * nbytes
    rng = np.random.default_rng(0)
    source = rng.integers(-128, 128, (rows, row)).astype(np.int8)
    guarded = rng.integers(-128, 128, (rows, row + 32)).astype(np.int8)
    before = guarded.copy()
    columns = np.array([3, 0, 0, 2], np.int16)
    params = [*dims, *strides, *strides, 0, 0, nbytes, row, -7]
    in_rows = [source[y].ctypes.data for y in range(rows)]
    out_rows = [guarded[y, 16:].ctypes.data for y in range(rows)]
    functions()[symbol](params, in_rows, [columns.ctypes.data], out_rows, rows, 0)
    want = source.reshape(rows, count, nbytes)[:, columns if symbol == "midge_gather_s8" else slice(None)].reshape(rows, row)
    np.testing.assert_array_equal(guarded[:, 16:-16], want)
    np.testing.assert_array_equal(guarded[:, :16], before[:, :16])
    np.testing.assert_array_equal(guarded[:, -16:], before[:, -16:])


def test_block_params_merge_what_is_contiguous():
    params = block_params([1, 4, 5, 6], [120, 30, 6, 1], [120, 30, 6, 1], 1)
    assert params["nbytes"] == 120
    assert [params[f"dim_{i}"] for i in range(5)] == [1] * 5
    cut = block_params([4, 5, 3], [30, 6, 1], [15, 3, 1], 1)
    assert (cut["nbytes"], cut["dim_4"], cut["in_stride_4"], cut["out_stride_4"], cut["dim_3"]) == (3, 20, 6, 3, 1)


def test_quant_axis_follows_a_transpose():
    kind = TensorType(DType.S8, (2, 3, 4), Quant.of([0.1, 0.2, 0.3], 0, 1))
    assert Transpose((2, 0, 1)).infer([kind])[0].q.axis == 2
