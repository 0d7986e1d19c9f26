# SPDX-License-Identifier: Apache-2.0
"""Tensors put together and taken apart without a copy: which are, that every byte is right wherever rows lie, and the checker against planted errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from random_models import random_feeds, random_model
from support import needs_arm, op_graph, program_of, run_reference, s8
from view_models import VIEWED, dense_block, feeds, halves, history, inception, side_by_side, skip, stacked, vectors

import midge
from midge.errors import IRError
from midge.ops.join import Concat, Slice
from midge.program import Program
from midge.run.host import run_host
from midge.run.interpreter import Interpreter
from midge.run.qemu import run_qemu
from midge.run.samples import random_samples
from midge.schedule import certify
from midge.schedule.cells import Conflict, make_cells

COPY = "midge_copy_s8"
WAYS: dict[str, dict[str, object]] = {
    "natural": {},
    "least": {"optimize": "ram"},
    "streamed": {"stream_input": True},
    "stepwise": {"stepwise": True},
    "layers": {"schedule": "layers"},
    "memories": {"memory": "fast:400@fast,sram:64K"},
}
Made = Callable[[], onnx.ModelProto]


def compiled(made: Made, way: str = "natural", target: str = "cortex-m4", **more: object) -> midge.Library:
    proto = made()
    return midge.compile(proto.SerializeToString(), target=target, calibration=feeds(proto), name="net", **{**WAYS[way], **more})


def views(program: Program) -> set[str]:
    return {buffer.name for buffer in program.buffers.values() if buffer.pieces}


def copied(program: Program, kind: str) -> list[str]:
    """Layers of a kind that move bytes."""
    return [layer.name for layer in program.layers if layer.kind == kind]


@pytest.mark.parametrize("made", VIEWED)
def test_nothing_is_copied_that_can_be_read_where_it_is(made: Made) -> None:
    program = compiled(made).program
    assert views(program)
    assert not copied(program, "Concat")
    assert not copied(program, "Slice")
    assert all(call.copies for call in program.calls if call.kernel.symbol == COPY)  # the layout of ports is changed, and says so
    assert [layer.index for layer in program.layers] == list(range(len(program.layers)))
    assert {call.layer for call in program.calls} == set(range(len(program.layers)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("made", VIEWED)
def test_every_layer_is_exact_however_it_is_scheduled(made: Made, way: str) -> None:
    """On an arena full of garbage, with one run after the other."""
    library = compiled(made, way)
    interpreter = Interpreter(library.program, seed=3)
    for sample in random_samples(library.graph, 2):
        values = run_reference(library.graph, dict(zip(library.graph.inputs, sample, strict=True)))
        seen: dict[int, np.ndarray] = {}
        outputs = interpreter.run(sample, lambda layer, data, seen=seen: seen.update({layer: data}))  # type: ignore[misc]
        assert sorted(seen) == [layer.index for layer in library.program.layers]
        for layer in library.program.layers:
            assert seen[layer.index].tobytes() == np.ascontiguousarray(values[layer.value]).tobytes(), layer.name
        for name, got in zip(library.graph.outputs, outputs, strict=True):
            np.testing.assert_array_equal(got, values[name])


@pytest.mark.parametrize(
    ("made", "way"),
    [(stacked, "layers"), (halves, "streamed"), (side_by_side, "layers"), (dense_block, "natural"), (inception, "stepwise"), (history, "layers")],
)
def test_emitted_c_is_exact_and_traces_rows_that_lie_apart(made: Made, way: str, tmp_path: Path) -> None:
    library = compiled(made, way, "host")
    samples = random_samples(library.graph, 2)
    run = run_host(library.write(tmp_path / "lib"), [np.stack([np.asarray(sample[0]) for sample in samples])], trace=True, sanitize=True)
    assert run.layers is not None
    for number, sample in enumerate(samples):
        values = run_reference(library.graph, dict(zip(library.graph.inputs, sample, strict=True)))
        for at, name in enumerate(library.graph.outputs):
            assert run.outputs[at][number].tobytes() == values[name].tobytes()
        for layer in library.program.layers:
            assert run.layers[number, layer.index] == np.ascontiguousarray(values[layer.value]).tobytes(), layer.name


@needs_arm
@pytest.mark.parametrize(("made", "target"), [(inception, "cortex-m4"), (vectors, "cortex-m0"), (dense_block, "cortex-m55")])
def test_emitted_c_is_exact_on_emulated_cores(made: Made, target: str, tmp_path: Path) -> None:
    """Among them one that cannot read words that are not aligned."""
    library = compiled(made, "natural", target)
    samples = random_samples(library.graph, 2)
    run = run_qemu(library.write(tmp_path / "lib"), target, [np.stack([np.asarray(sample[0]) for sample in samples])])
    for number, sample in enumerate(samples):
        values = run_reference(library.graph, dict(zip(library.graph.inputs, sample, strict=True)))
        assert [run.outputs[at][number].tobytes() for at in range(len(library.graph.outputs))] == [values[name].tobytes() for name in library.graph.outputs]


@pytest.mark.parametrize("made", VIEWED)
def test_the_least_ram_is_no_more_than_with_copies(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    least, layers = (compiled(made, way).program.arena_nbytes for way in ("least", "layers"))
    monkeypatch.setattr("midge.schedule.plan.take_views", lambda program: None)
    assert least <= compiled(made, "least").program.arena_nbytes
    assert layers <= compiled(made, "layers").program.arena_nbytes + 128  # what keeps its distance is not always as easily placed


def test_what_is_a_view_is_in_the_manifest_and_what_is_not_says_why(tmp_path: Path) -> None:
    manifest = json.loads((compiled(stacked).write(tmp_path / "a") / "manifest.json").read_text())
    shown = {buffer["name"]: buffer["view_of"] for buffer in manifest["buffers"] if "view_of" in buffer}
    assert [len(names) for names in shown.values()] == [2]
    manifest = json.loads((compiled(skip).write(tmp_path / "b") / "manifest.json").read_text())
    assert not any("view_of" in buffer for buffer in manifest["buffers"])
    assert [layer["copies"] for layer in manifest["layers"] if layer["kind"] == "Concat"] == ["what it moves of a row is not in one piece"]


def lowered(op: Concat | Slice, *shapes: tuple[int, ...], out: tuple[int, ...]) -> Program:
    """An operator between ports."""
    return program_of(op_graph(op, [s8(shape, 0.1, 3) for shape in shapes], s8(out, 0.1, 3)))


def test_ports_share_no_bytes() -> None:
    for program in (
        lowered(Concat(1), (1, 2, 3, 4), (1, 5, 3, 4), out=(1, 7, 3, 4)),
        lowered(Slice((0, 1, 0, 0), (1, 3, 3, 4), (1, 1, 1, 1)), (1, 5, 3, 4), out=(1, 2, 3, 4)),
    ):
        assert not views(program)
        assert {call.copies for call in program.calls} == {"it is an output and would share bytes with another port"}


def test_an_output_may_be_rows_of_a_tensor_inside() -> None:
    program = compiled(history).program
    assert program.buffers[program.outputs[0].buffer].contiguous
    assert "Slice" not in {layer.kind for layer in program.layers}


def test_bytes_that_would_be_needed_in_two_places_are_copied() -> None:
    """A tensor beside itself."""

    def twice() -> onnx.ModelProto:
        proto = side_by_side()
        next(node for node in proto.graph.node if node.op_type == "Concat").input[:] = ["a", "a"]
        return proto

    program = compiled(twice).program
    assert not views(program)
    assert {call.copies for call in program.calls if call.name == "the_Concat_c"} == {"'the_Concat_c_concat_nhwc' would need bytes in two places"}


def planted(program: Program, kind: str) -> None:
    view = next(buffer for buffer in program.buffers.values() if buffer.pieces)
    source = program.buffers[view.pieces[0].buffer]
    if kind == "moved":
        view.offsets = (view.offsets[0] + 4, *view.offsets[1:])
    elif kind == "another row":
        view.pieces = (replace(view.pieces[0], start=view.pieces[0].start + source.row_nbytes), *view.pieces[1:])
    elif kind == "twice":
        view.pieces = (view.pieces[0], *view.pieces)
    elif kind == "less":
        view.pieces = view.pieces[1:]
    elif kind == "view of a view":
        source.pieces = (replace(view.pieces[0], buffer=view.name, start=0),)
    elif kind == "outside":
        view.pieces = (replace(view.pieces[0], start=source.nbytes), *view.pieces[1:])
    elif kind == "row of what it shows":
        source.offsets = (source.offsets[0], source.offsets[0], *source.offsets[2:])
    elif kind == "written":
        call = next(call for call in program.calls if call.output == source.name)
        program.calls[program.calls.index(call)] = replace(call, output=view.name)


@pytest.mark.parametrize("made", [stacked, side_by_side, halves, inception])
@pytest.mark.parametrize("kind", ["moved", "another row", "twice", "less", "view of a view", "outside", "row of what it shows", "written"])
def test_planted_errors_are_caught(made: Made, kind: str) -> None:
    program = compiled(made).program
    assert certify(program)
    planted(program, kind)
    with pytest.raises(IRError):
        certify(program)


def test_overwritten_rows_of_a_view_are_caught() -> None:
    """What a view shows is alive as long as anyone reads the view."""
    program = compiled(stacked).program
    view = next(buffer for buffer in program.buffers.values() if buffer.pieces)
    reader = next(i for i, call in enumerate(program.calls) if any(operand.buffer == view.name for operand in call.inputs))
    index = next(i for i, step in enumerate(program.steps) if step.call == reader and step.first == 2)
    writer = next(i for i, step in enumerate(program.steps) if program.calls[step.call].output == view.pieces[0].buffer and step.first == 2)
    assert writer < index
    program.steps.insert(writer, program.steps.pop(index))
    with pytest.raises(IRError):
        certify(program)


def test_misaligned_rows_conflict() -> None:
    program = compiled(side_by_side).program
    view = next(buffer for buffer in program.buffers.values() if buffer.pieces)
    part = view.pieces[1]
    narrow = {name: buffer for name, buffer in program.buffers.items() if name in (view.name, *(piece.buffer for piece in view.pieces))}
    assert make_cells(narrow, set(narrow), {}).objects
    shifted = tuple(replace(piece, at=piece.at + 2 * (index % 2), nbytes=piece.nbytes + 2 - 4 * (index % 2)) for index, piece in enumerate(view.pieces))
    narrow[view.name] = replace(view, pieces=shifted)
    assert part != shifted[1]
    with pytest.raises(Conflict, match=r"aligned|two places|share a place"):
        make_cells(narrow, set(narrow), {})


@pytest.mark.parametrize("seed", [*range(30), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(30, 400))])
def test_random_models_with_and_without_views_give_the_same_bytes(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every schedule and on kernels of different needs, on arenas full of garbage."""
    proto, calibration = random_model(seed), random_feeds(random_model(seed), 4, seed)
    if not {"Concat", "Split", "Slice", "Pad"} & {node.op_type for node in proto.graph.node}:
        return
    target, way = ("host", "cortex-m4", "cortex-m55", "cortex-m0")[seed % 4], ("natural", "least", "layers", "stepwise")[seed // 4 % 4]
    library = midge.compile(proto, target=target, calibration=calibration, name="net", **WAYS[way])
    sample = random_samples(library.graph, 1)[0]
    got = Interpreter(library.program, seed).run(sample)
    monkeypatch.setattr("midge.schedule.plan.take_views", lambda program: None)
    wanted = Interpreter(midge.compile(proto, target=target, calibration=calibration, name="net", **WAYS[way]).program, seed + 1).run(sample)
    assert [data.tobytes() for data in got] == [data.tobytes() for data in wanted]
