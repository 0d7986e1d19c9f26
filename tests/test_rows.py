# SPDX-License-Identifier: Apache-2.0
"""Rows of several layers in turn: every byte as layer by layer, in less RAM; runs in parts; and the checker against two hundred planted errors."""

from __future__ import annotations

import random
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mobilenet import mobilenet_v2
from random_models import random_feeds, random_model
from support import needs_arm, run_reference

import midge
from midge.errors import IRError, UsageError
from midge.ir import Graph
from midge.program import Program, Step
from midge.run.host import run_host
from midge.run.qemu import run_qemu
from midge.run.samples import random_samples
from midge.run.verify import verify
from midge.schedule import certify
from midge.schedule.timeline import timeline, used
from midge.toolchain import find_tool

WAYS: dict[str, dict[str, object]] = {
    "natural": {},
    "least": {"optimize": "ram"},
    "streamed": {"optimize": "ram", "stream_input": True},
    "stepwise": {"stepwise": True},
    "layers": {"schedule": "layers"},
}


def chain(height: int = 12, width: int = 7) -> bytes:
    """Convolutions of stride 1 and 2, depthwise, a residual add, pools and a dense layer, float."""
    import onnx
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(3)
    shapes = {"w0": (8, 3, 3, 3), "w1": (8, 1, 3, 3), "w2": (12, 8, 1, 1), "w3": (12, 12, 3, 3), "w4": (5, 12)}
    held = [numpy_helper.from_array((rng.normal(size=shape) / 3).astype(np.float32), name) for name, shape in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1, 1, 1, 1], strides=[2, 1]),
        helper.make_node("Conv", ["a", "w1"], ["b"], pads=[1, 1, 1, 1], group=8),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "w2"], ["d"]),
        helper.make_node("Conv", ["d", "w3"], ["e"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["d", "e"], ["f"]),
        helper.make_node("MaxPool", ["f"], ["g"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["g"], ["h"]),
        helper.make_node("Flatten", ["h"], ["i"]),
        helper.make_node("Gemm", ["i", "w4"], ["y"], transB=1),
    ]
    ports = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("x", [1, 3, height, width]), ("y", [1, 5]))]
    made = helper.make_model(helper.make_graph(nodes, "chain", ports[:1], ports[1:], held), opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    return bytes(made.SerializeToString())


def compiled(way: str, target: str = "cortex-m4", numerics: str = "onnx") -> midge.Library:
    calibration = np.random.default_rng(1).normal(size=(8, 3, 12, 7)).astype(np.float32)
    return midge.compile(chain(), target=target, numerics=numerics, name="chain", calibration=calibration, **WAYS[way])


def expected(graph: Graph, samples: list[list[np.ndarray]]) -> list[dict[str, np.ndarray]]:
    return [run_reference(graph, dict(zip(graph.inputs, sample, strict=True))) for sample in samples]


@pytest.mark.parametrize("target", ["host", "cortex-m4", "cortex-m55", "cortex-m0"])
@pytest.mark.parametrize("way", WAYS)
def test_every_layer_is_exact_however_it_is_scheduled(way: str, target: str) -> None:
    library = compiled(way, target)
    samples = random_samples(library.graph, 2)
    for sample, values in zip(samples, expected(library.graph, samples), strict=True):
        seen: dict[int, np.ndarray] = {}
        midge.api.Interpreter(library.program).run(sample, lambda layer, data, seen=seen: seen.update({layer: data}))  # type: ignore[misc]
        assert sorted(seen) == [layer.index for layer in library.program.layers]
        for layer in library.program.layers:
            assert seen[layer.index].tobytes() == np.ascontiguousarray(values[layer.value]).tobytes(), layer.name


@pytest.mark.parametrize("way", WAYS)
def test_emitted_c_is_exact_on_the_host_and_traces_every_row(way: str, tmp_path: Path) -> None:
    library = compiled(way, "cortex-m4", "tflite")
    samples = random_samples(library.graph, 3)
    stacked = [np.stack([np.asarray(sample[0]) for sample in samples])]
    run = run_host(library.write(tmp_path / "lib"), stacked, trace=True, sanitize=True)
    assert run.layers is not None
    for number, values in enumerate(expected(library.graph, samples)):
        assert run.outputs[0][number].tobytes() == values[library.graph.outputs[0]].tobytes()
        for layer in library.program.layers:
            data = np.frombuffer(run.layers[number, layer.index], np.uint8)
            assert library.program.buffers[layer.buffer].hwc(data).tobytes() == np.ascontiguousarray(values[layer.value]).tobytes(), layer.name


@needs_arm
@pytest.mark.parametrize("way", ["least", "streamed", "stepwise"])
def test_emitted_c_is_exact_on_an_emulated_core(way: str, tmp_path: Path) -> None:
    library = compiled(way)
    samples = random_samples(library.graph, 2)
    run = run_qemu(library.write(tmp_path / "lib"), "cortex-m4", [np.stack([np.asarray(sample[0]) for sample in samples])])
    assert [row.tobytes() for row in run.outputs[0]] == [values[library.graph.outputs[0]].tobytes() for values in expected(library.graph, samples)]
    assert run.stack_bytes is not None and run.stack_bytes <= 512


def test_rows_need_less_ram_and_never_more_than_layers() -> None:
    arena = {way: compiled(way, "host").program.arena_nbytes for way in WAYS}
    assert arena["least"] <= arena["natural"] < arena["layers"]
    assert arena["streamed"] <= arena["least"] + 8  # what it remembers between rows


def test_the_same_bytes_every_time() -> None:
    first, second = (compiled("least").program for _ in range(2))
    assert (first.steps, [b.offsets for b in first.buffers.values()]) == (second.steps, [b.offsets for b in second.buffers.values()])


def test_ram_is_a_budget() -> None:
    calibration = np.random.default_rng(1).normal(size=(8, 3, 12, 7)).astype(np.float32)
    least = compiled("least", "host").program.arena_nbytes
    for budget in (least, least + 60, 10 * least):
        assert midge.compile(chain(), calibration=calibration, ram=budget).program.arena_nbytes <= budget
    with pytest.raises(UsageError, match=f"--ram {least - 1}: the least that was found is {least} bytes"):
        midge.compile(chain(), calibration=calibration, ram=least - 1)


def test_stream_and_steps_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="--stepwise"):
        midge.compile(chain(), calibration=np.zeros((1, 3, 12, 7), np.float32), stream_input=True, stepwise=True)


def test_timeline_fills_the_arena_it_says() -> None:
    program = compiled("least", "host").program
    occupants = timeline(program)
    assert max(each.offset + each.nbytes for each in occupants) == program.arena_nbytes
    assert max(used(program)) <= program.arena_nbytes
    assert {each.name for each in occupants} >= set(program.buffers)


ORDER = """\
#include <stdio.h>
#include <string.h>
#include "chain.h"
static int32_t memory[(CHAIN_ARENA_BYTES + 3u) / 4u];
static int32_t before[(CHAIN_ARENA_BYTES + 3u) / 4u];
static int8_t rows[CHAIN_INPUT_0_BYTES + CHAIN_INPUT_0_ROW_BYTES];
static int refused(int code) {
  int same = memcmp(memory, before, sizeof memory) == 0;
  return code < 0 && same ? code : 1;
}
int main(void) {
  memset(memory, 0x5A, sizeof memory);
  memcpy(before, memory, sizeof memory);
  printf("%d %d\\n", refused(chain_push_rows(memory, rows, 1)), refused(chain_finish(memory)));
  printf("%d %d\\n", chain_begin(NULL), chain_begin((char *)memory + 1));
  int left = chain_begin(memory);
  memcpy(before, memory, sizeof memory);
  printf("%d %d %d\\n", left, refused(chain_finish(memory)), refused(chain_push_rows(memory, rows, (unsigned)left + 1u)));
  printf("%d\\n", refused(chain_push_rows(memory, NULL, 1)));
  printf("%d\\n", chain_push_rows(memory, rows, 0));
  while (left > 0) {
    left = chain_push_rows(memory, rows, 1);
  }
  memcpy(before, memory, sizeof memory);
  printf("%d %d\\n", left, refused(chain_push_rows(memory, rows, 1)));
  printf("%d\\n", chain_finish(memory));
  memcpy(before, memory, sizeof memory);
  printf("%d %d\\n", refused(chain_finish(memory)), refused(chain_push_rows(memory, rows, 1)));
  return 0;
}
"""


def test_calls_out_of_order_are_refused_and_change_nothing(tmp_path: Path) -> None:
    library = compiled("streamed", "host").write(tmp_path / "lib")
    (tmp_path / "main.c").write_text(ORDER)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", f"-I{library / 'src'}"]
    subprocess.run([str(find_tool("gcc")), *flags, "-o", tmp_path / "main", tmp_path / "main.c", *sorted((library / "src").glob("*.c"))], check=True)
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == ["-2 -2", "-1 -1", "36 -3 -3", "-2", "36", "0 -3", "0", "-2 -2"]  # NCHW: 12 rows of each plane


def mutate(program: Program, rng: random.Random) -> bool:
    """Break a placed Program somewhere; False if by chance what came out is as good as before."""
    occupants = timeline(program)
    kind = rng.choice(["move a row", "swap steps", "scratch", "repeat", "drop"])
    if kind == "move a row":
        a, b = rng.sample([each for each in occupants if each.row >= 0], 2)
        meets = a.first <= b.last and b.first <= a.last and a.nbytes and (a.first, b.first) != (b.last, a.last) and a.last != b.first and b.last != a.first
        buffer = program.buffers[a.name]
        if not meets or a.offset == b.offset:
            return False
        buffer.offsets = (*buffer.offsets[: a.row], b.offset, *buffer.offsets[a.row + 1 :])
        return True
    if kind == "scratch":
        places = [i for i, step in enumerate(program.steps) if program.calls[step.call].scratch_nbytes]
        index = rng.choice(places)
        step = program.steps[index]
        row = rng.choice([each for each in occupants if each.row >= 0 and each.first < index < each.last] or [None])
        if row is None:
            return False
        program.steps[index] = replace(step, scratch=row.offset // 4 * 4)
        return True
    index = rng.randrange(len(program.steps) - 1)
    step = program.steps[index]
    if kind == "swap steps":
        program.steps[index : index + 2] = [program.steps[index + 1], step]
        writer, reader = program.calls[step.call], program.calls[program.steps[index].call]
        return step.call == program.steps[index].call or (any(o.buffer == writer.output for o in reader.inputs) and _needs(program, index))
    if kind == "repeat":
        program.steps.insert(index, step)
    else:
        del program.steps[index]
    return True


def _needs(program: Program, index: int) -> bool:
    """Whether the step at `index` reads a row that the step behind it writes."""
    reader, writer = program.steps[index], program.steps[index + 1]
    call = program.calls[reader.call]
    read = {
        row
        for o in call.inputs
        if o.buffer == program.calls[writer.call].output
        for y in range(reader.first, reader.first + reader.count)
        for row in o.window.rows(y)
    }
    return not read.isdisjoint(range(writer.first, writer.first + writer.count))


def test_two_hundred_planted_errors_are_caught() -> None:
    library, rng, caught = compiled("least"), random.Random(7), 0
    original, offsets = list(library.program.steps), {name: b.offsets for name, b in library.program.buffers.items()}
    while caught < 200:
        library.program.steps = list(original)
        for name, buffer in library.program.buffers.items():
            buffer.offsets = offsets[name]
        if not mutate(library.program, rng):
            continue
        with pytest.raises(IRError):
            certify(library.program)
        caught += 1


def test_random_graphs_stream_and_step() -> None:
    """Whatever has one input may be pushed by rows."""
    tried = 0
    for seed in range(60):
        made = random_model(seed)
        if len(made.graph.input) != 1 or tried == 8:
            continue
        tried += 1
        calibration = random_feeds(made, 4, seed)
        for way in ({"stream_input": True}, {"stepwise": True, "optimize": "ram"}):
            library = midge.compile(made, calibration=calibration, **way)
            sample = random_samples(library.graph, 1)[0]
            outputs = library.run(*sample)
            values = expected(library.graph, [sample])[0]
            for got, name in zip(outputs if isinstance(outputs, list) else [outputs], library.graph.outputs, strict=True):
                np.testing.assert_array_equal(np.asarray(got).reshape(-1), values[name].reshape(-1))
    assert tried == 8


@pytest.mark.parametrize(("seed", "target"), [(20162, "cortex-m4"), (5041, "cortex-m0")])
def test_layers_of_which_some_calls_are_steps_are_traced(seed: int, target: str, tmp_path: Path) -> None:
    """A concat whose parts come in steps, but for one that is copied at once."""
    library = midge.compile(random_model(seed).SerializeToString(), target=target, calibration=random_feeds(random_model(seed), 4, seed), name="net")
    folder = library.write(tmp_path / "net")
    assert verify(folder, random_samples(library.graph, 2)).exact


def test_emitted_steps_say_what_they_are(tmp_path: Path) -> None:
    text = (compiled("least").write(tmp_path / "lib") / "src" / "chain.c").read_text()
    steps = re.search(r"chain_steps\[(\d+)\]", text)
    assert steps is not None and int(steps[1]) > 20
    assert "/* The order in which rows are computed: function, first row, number of rows. */" in text
    assert re.search(r"12 rows|6 rows of \d+ bytes between \d+ and \d+", text)


def test_a_step_outside_is_refused() -> None:
    program = compiled("natural", "host").program
    program.steps.append(Step(0, 6, 1))
    with pytest.raises(IRError):
        certify(program)


@pytest.mark.parametrize("memory", ["dtcm:1K@fast,sram:8K", "dtcm:300@fast,sram:8K", "tcm:64K@fast+weights,sram:64K", "itcm:200@fast,dtcm:400@fast,sram:8K"])
@pytest.mark.parametrize("way", ["natural", "layers", "streamed"])
def test_several_memories(way: str, memory: str, tmp_path: Path) -> None:
    """What is in fast memory fits there, the arena shrinks by it, and every byte stays."""
    calibration = np.random.default_rng(1).normal(size=(8, 3, 12, 7)).astype(np.float32)
    library = midge.compile(chain(), target="cortex-m4", name="chain", calibration=calibration, memory=memory, **WAYS[way])
    program, alone = library.program, compiled(way).program
    assert all(fast.nbytes <= fast.capacity for fast in program.memories) and program.memories
    assert program.arena_nbytes <= alone.arena_nbytes - (200 if "1K" in memory or "64K" in memory else 0)
    samples = random_samples(library.graph, 2)
    run = run_host(library.write(tmp_path / "lib"), [np.stack([np.asarray(sample[0]) for sample in samples])], sanitize=True)
    for number, values in enumerate(expected(library.graph, samples)):
        assert run.outputs[0][number].tobytes() == values[library.graph.outputs[0]].tobytes()
        np.testing.assert_array_equal(np.asarray(library.run(*samples[number])).reshape(-1), values[library.graph.outputs[0]].reshape(-1))
    text = (tmp_path / "lib" / "src" / "chain.c").read_text()
    for fast in program.memories:
        assert not fast.nbytes or f"CHAIN_{fast.name.upper()}_SECTION CHAIN_ALIGN4 static int8_t chain_{fast.name}[" in text


@pytest.mark.parametrize("memory", ["dtcm", "dtcm:64K@fast", "a:1K,a:1K", "DTCM:1K", "dtcm:1Q,sram:2K", "dtcm:64K@fast,sram:10"])
def test_memories_that_cannot_be_are_refused(memory: str) -> None:
    with pytest.raises(UsageError, match="--memory"):
        midge.compile(chain(), calibration=np.zeros((1, 3, 12, 7), np.float32), memory=memory)


@pytest.mark.slow
def test_a_large_model_is_scheduled(tmp_path: Path) -> None:
    """MobileNetV2 at 224 x 224: within 12 % of what no schedule can do without."""
    samples = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    program = midge.compile(mobilenet_v2(224), target="cortex-m4", calibration=samples, name="mobilenet").program
    assert sum(call.rows for call in program.calls) > 1000
    assert program.arena_nbytes <= 1.12 * program.lower_bound
    assert program.arena_nbytes < 200_000
