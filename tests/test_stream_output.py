# SPDX-License-Identifier: Apache-2.0
"""Outputs that are handed out in rows, and ports that are NHWC where the model has NCHW."""

from __future__ import annotations

import random
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import images
import numpy as np
import pytest
from click.testing import CliRunner
from onnx import helper
from random_models import random_feeds, random_model

import midge
from midge.cli import main
from midge.codegen.reference import load_reference
from midge.errors import IRError, MidgeError, Unsupported, UsageError
from midge.ir import Graph
from midge.reload import reload
from midge.run.golden import golden_files
from midge.run.host import run_host
from midge.run.qemu import run_qemu
from midge.run.reference import run_reference
from midge.run.samples import load_samples, random_samples
from midge.run.verify import verify
from midge.schedule.certify import certify
from midge.schedule.timeline import timeline, used
from midge.toolchain import find_tool

try:
    find_tool("arm-none-eabi-gcc"), find_tool("qemu-system-arm")
    ARM = True
except MidgeError:
    ARM = False
needs_arm = pytest.mark.skipif(not ARM, reason="arm-none-eabi-gcc or qemu-system-arm is missing")
SIZE = 24
NHWC = {"input_layout": "nhwc", "output_layout": "nhwc"}
WAYS = {
    "whole": {},
    "least": {"optimize": "ram"},
    "streamed": {"optimize": "ram", "stream_input": True},
    "stepwise": {"stepwise": True},
    "layers": {"schedule": "layers"},
}


@cache
def denoiser(channels: int = 1) -> bytes:
    return images.denoiser(channels, SIZE)


@cache
def two_outputs() -> bytes:
    """An image, a vector, and a mean: outputs of several rows and of one, done at different times."""
    rng = np.random.default_rng(6)
    held = {"w0": rng.normal(size=(4, 3, 3, 3)) / 4, "w1": rng.normal(size=(5, 4)) / 2}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["image"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["image"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Gemm", ["f", "w1"], ["g"], transB=1),
        helper.make_node("Softmax", ["g"], ["scores"]),
    ]
    return images.onnx_file(nodes, held, {"x": [1, 3, SIZE, SIZE], "image": [1, 4, SIZE, SIZE], "scores": [1, 5]})


def compiled(model: bytes, channels: int = 1, target: str = "cortex-m4", **options: object) -> midge.Library:
    calibration = images.noise(channels, SIZE)
    return midge.compile(model, target=target, name="net", calibration=calibration, stream_output=True, **options)


def expected(graph: Graph, samples: list[list[np.ndarray]]) -> list[list[bytes]]:
    found = [run_reference(graph, dict(zip(graph.inputs, sample, strict=True))) for sample in samples]
    return [[np.ascontiguousarray(values[name]).tobytes() for name in graph.outputs] for values in found]


def stacked(samples: list[list[np.ndarray]]) -> list[np.ndarray]:
    return [np.stack([np.asarray(sample[i]) for sample in samples]) for i in range(len(samples[0]))]


@pytest.mark.parametrize("model", [denoiser, two_outputs], ids=["denoiser", "two outputs"])
@pytest.mark.parametrize("way", WAYS)
def test_rows_are_handed_out_in_order_and_exact(way: str, model: object, tmp_path: Path) -> None:
    """Interpreter and emitted C; the runner refuses rows out of their order, and the wrong context."""
    channels = 1 if model is denoiser else 3
    library = compiled(model(), channels, **NHWC, **WAYS[way])  # type: ignore[operator]
    program = library.program
    samples = random_samples(library.graph, 2)
    wanted = expected(library.graph, samples)
    assert [[y.tobytes() for y in midge.api.Interpreter(program).run(sample)] for sample in samples] == wanted
    run = run_host(library.write(tmp_path / "lib"), stacked(samples), trace=True, sanitize=True)
    assert [[output[i].tobytes() for output in run.outputs] for i in range(2)] == wanted
    assert verify(tmp_path / "lib", samples, sanitize=True).exact
    assert sum(step.count for step in program.steps if step.output >= 0) == sum(program.buffers[port.buffer].rows for port in program.outputs)


@needs_arm
@pytest.mark.parametrize("way", ["least", "streamed", "stepwise"])
def test_exact_on_an_emulated_core(way: str, tmp_path: Path) -> None:
    library = compiled(denoiser(), **NHWC, **WAYS[way])
    samples = random_samples(library.graph, 2)
    run = run_qemu(library.write(tmp_path / "lib"), "cortex-m4", stacked(samples))
    assert [[output[i].tobytes() for output in run.outputs] for i in range(2)] == expected(library.graph, samples)
    assert run.stack_bytes is not None and run.stack_bytes <= 512


def test_outputs_are_not_in_the_arena() -> None:
    """Input and output of a denoiser in rows: of neither are there more than the rows that kernels take, and the arena shrinks by what they were."""
    both, one = (compiled(denoiser(), target="host", optimize="ram", stream_input=streamed, **NHWC).program for streamed in (True, False))
    image = SIZE * SIZE
    assert both.arena_nbytes <= one.arena_nbytes - image // 4
    alive = timeline(both)
    for port, most in ((both.inputs[0], 12), (both.outputs[0], 1)):
        rows = [each for each in alive if each.name == port.buffer]
        assert len(rows) == SIZE and max(sum(each.first <= i <= each.last for each in rows) for i in range(len(both.steps))) <= most
    assert max(used(both)) <= both.arena_nbytes < image * 11  # a tensor of 8 channels and the image, by layers


MAIN = """\
#include <stdio.h>
#include <string.h>
#include "net.h"
static int32_t memory[(NET_ARENA_BYTES + 3u) / 4u];
static int8_t image[NET_INPUT_0_BYTES], got[NET_OUTPUT_0_BYTES];
static unsigned next, refused_at = ~0u;
static int nested;
static int take(void *context, unsigned output, const int8_t *rows, unsigned first, unsigned count) {
  if (context != got || output != 0u || first != next || first == refused_at) {
    return 7;
  }
NESTED
  memcpy(got + first * NET_OUTPUT_0_ROW_BYTES, rows, count * NET_OUTPUT_0_ROW_BYTES);
  next += count;
  return 0;
}
static void say(int number) {
  printf("%d ", number);
}
int main(void) {
  for (unsigned i = 0; i < sizeof image; ++i) {
    image[i] = (int8_t)(i * 37u % 251u);
  }
BODY
  printf("nested %d", nested);
  return 0;
}
"""
BODIES = {
    "least": """\
  memcpy(net_input_0(memory), image, sizeof image);
  say(net_run(memory, NULL, got));
  say(net_run((char *)memory + 1, take, got));
  say(net_run(memory, take, got));
  say((int)next);
  next = 0, refused_at = 3;
  memcpy(net_input_0(memory), image, sizeof image);
  say(net_run(memory, take, got));
  say((int)next);""",
    "stepwise": """\
  say(net_step(memory, 1, take, got));
  memcpy(net_input_0(memory), image, sizeof image);
  int left = net_begin(memory);
  say(net_step(memory, 1, NULL, got));
  while (left > 0) {
    left = net_step(memory, 5, take, got);
  }
  say(left);
  say((int)next);
  say(net_step(memory, 1, take, got));
  next = 0, refused_at = 3;
  memcpy(net_input_0(memory), image, sizeof image);
  left = net_begin(memory);
  say(net_step(memory, (unsigned)left, take, got));
  say((int)next);
  say(net_step(memory, 1, take, got));""",
    "streamed": """\
  say(net_push_rows(memory, image, 1, take, got));
  say(net_finish(memory, take, got));
  unsigned early = 0;
  int left = net_begin(memory);
  say(left);
  say(net_push_rows(memory, image, 1, NULL, got));
  say(net_finish(memory, take, got));
  say(net_push_rows(memory, image, 25, take, got));
  say(net_push_rows(memory, NULL, 1, take, got));
  for (const int8_t *row = image; left > 0; row += NET_INPUT_0_ROW_BYTES) {
    left = net_push_rows(memory, row, 1, take, got);
    early = left == 12 ? next : early;
  }
  say(left);
  say(early >= 4u && early < 12u);
  say(net_finish(memory, NULL, got));
  say(net_finish(memory, take, got));
  say((int)next);
  say(net_finish(memory, take, got));
  next = 0, refused_at = 3;
  (void)net_begin(memory);
  say(net_push_rows(memory, image, 24, take, got));
  say((int)next);
  say(net_finish(memory, take, got));""",
}
NESTED = {
    "least": "",
    "stepwise": "  nested += net_step(memory, 1, take, got) == NET_ERROR_ORDER;",
    "streamed": "  nested += net_finish(memory, take, got) == NET_ERROR_ORDER;",
}
SAYS = {
    "least": "-4 -1 0 24 -4 3 nested 0",
    "stepwise": "-2 -4 0 24 -2 -4 3 -2 nested 27",
    "streamed": "-2 -2 24 -4 -3 -3 -2 0 1 -4 0 24 -2 -4 3 -2 nested 27",
}


@pytest.mark.parametrize("way", BODIES)
def test_what_callers_see(way: str, tmp_path: Path) -> None:
    """Rows come while the input arrives; a run may be ended; NULL, calls out of order and from within are refused."""
    library = compiled(denoiser(), target="host", **NHWC, **WAYS[way])
    source = library.write(tmp_path / "lib") / "src"
    (tmp_path / "main.c").write_text(MAIN.replace("BODY", BODIES[way]).replace("NESTED", NESTED[way]))
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsanitize=address,undefined", f"-I{source}"]
    subprocess.run([str(find_tool("gcc")), *flags, "-o", tmp_path / "main", tmp_path / "main.c", *sorted(source.glob("*.c"))], check=True)
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    assert done.stdout == SAYS[way]


def test_planted_errors_are_caught() -> None:
    """Hand-outs that are left out, repeated, too early or of rows that are gone."""
    program = compiled(denoiser(), target="host", optimize="ram", stream_input=True, **NHWC).program
    original, rng, caught = list(program.steps), random.Random(3), 0
    places = [i for i, step in enumerate(original) if step.output >= 0]
    assert len(places) == SIZE
    for _ in range(60):
        index, kind = rng.choice(places), rng.choice(["drop", "repeat", "early", "late", "another"])
        steps = list(original)
        step = steps.pop(index)
        if kind == "repeat":
            steps[index:index] = [step, step]
        elif kind == "early":
            steps.insert(max(0, index - 200), step)
        elif kind == "late" and index != places[-1]:
            steps.insert(places[-1], step)
        elif kind == "another":
            steps.insert(index, replace(step, call=step.call - 1))
        program.steps = steps
        with pytest.raises(IRError):
            certify(program)
        caught += 1
    program.steps = original
    certify(program)
    assert caught == 60


def test_random_graphs_hand_out() -> None:
    """Whatever the outputs are: several, views, constants, images or vectors."""
    for seed in range(14):
        model = random_model(seed)
        calibration = random_feeds(model, 4, seed)
        for options in ({"optimize": "ram"}, {"stepwise": True}, {"schedule": "layers"}):
            library = midge.compile(model, calibration=calibration, stream_output=True, **options)
            samples = random_samples(library.graph, 1)
            assert [[y.tobytes() for y in midge.api.Interpreter(library.program).run(sample)] for sample in samples] == expected(library.graph, samples)


def test_memories_and_a_reloaded_library(tmp_path: Path) -> None:
    library = compiled(denoiser(), memory="dtcm:1K@fast,sram:64K", stream_input=True, **NHWC)
    samples = random_samples(library.graph, 1)
    folder = library.write(tmp_path / "lib")
    assert verify(folder, samples, sanitize=True).exact
    assert reload(folder).program.steps == library.program.steps


SKETCH = """\
#include <cstddef>
struct { void begin(long) {} void print(const char *) {}
         void print(char) {} void print(long) {} void print(int) {} void println(int) {} void println() {} } Serial;
static void delay(int) {}
#include "arduino.ino"
"""


@pytest.mark.parametrize("way", ["least", "streamed", "stepwise"])
def test_test_bench_and_examples(way: str, tmp_path: Path) -> None:
    """The bench of a written library passes; the examples take rows and show what comes first of the output."""
    library = compiled(denoiser(), target="host", **NHWC, **WAYS[way])
    samples = random_samples(library.graph, 2)
    folder = library.write(tmp_path / "lib", ("make", "arduino"), golden_files(library.program, library.graph, samples))
    subprocess.run(["make", "-C", folder / "test", "check"], check=True, capture_output=True)
    done = subprocess.run(["make", "-s", "-C", folder, "run"], capture_output=True, text=True, check=True)
    first = np.frombuffer(expected(library.graph, samples)[0][0], np.int8)[:32]
    assert done.stdout.strip() == f"output 0: {' '.join(map(str, first))}"
    (tmp_path / "sketch.cpp").write_text(SKETCH)
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{folder / 'src'}", f"-I{folder / 'examples' / 'arduino'}"]
    subprocess.run([str(find_tool("g++")), *flags, str(tmp_path / "sketch.cpp")], check=True)
    assert "take(context, output, rows, first, count)" in (folder / "README.md").read_text()
    with pytest.raises(Unsupported, match=r"--package rust.*--stream-output"):
        library.write(tmp_path / "crate", ("rust",))


def test_layout_of_ports(tmp_path: Path) -> None:
    """The library takes and gives NHWC; Python and files have the layout of the model; bytes are the same."""
    model = denoiser(3)
    calibration = images.noise(3, SIZE)
    plain = midge.compile(model, target="host", name="net", calibration=calibration)
    turned = midge.compile(model, target="host", name="net", calibration=calibration, **NHWC)
    assert [port.type.shape for port in turned.program.inputs + turned.program.outputs] == [(1, SIZE, SIZE, 3)] * 2
    assert turned.graph.nhwc == ["x", "y"] and not any(node.op.kind == "Transpose" for node in turned.graph.nodes)
    np.testing.assert_array_equal(turned.run(calibration[:1]), plain.run(calibration[:1]))
    assert "; NHWC, the channels of a pixel together" in (turned.write(tmp_path / "lib") / "src" / "net.h").read_text()
    np.save(tmp_path / "x.npy", calibration)
    graph = load_reference(tmp_path / "lib")
    assert graph.nhwc == turned.graph.nhwc
    (first,) = load_samples(tmp_path / "x.npy", graph, 1)
    np.testing.assert_array_equal(first[0], np.transpose(load_samples(tmp_path / "x.npy", plain.graph, 1)[0][0], (0, 2, 3, 1)))
    assert verify(tmp_path / "lib", [first], sanitize=True).exact
    with pytest.raises(UsageError, match=r"the model wants \(1, 3, 24, 24\)"):
        turned.run(np.zeros((1, SIZE, SIZE, 3), np.int8))


@pytest.mark.parametrize("io", ["quantized", "model"])
def test_one_port_may_be_turned(io: str) -> None:
    calibration = images.noise(3, SIZE)
    plain = midge.compile(two_outputs(), target="host", calibration=calibration, io=io)
    for options, shapes in (
        ({"input_layout": "nhwc"}, [(1, SIZE, SIZE, 3), (1, 4, SIZE, SIZE)]),
        ({"output_layout": "nhwc"}, [(1, 3, SIZE, SIZE), (1, SIZE, SIZE, 4)]),
    ):
        turned = midge.compile(two_outputs(), target="host", calibration=calibration, io=io, **options)
        assert [turned.program.inputs[0].type.shape, turned.program.outputs[0].type.shape] == shapes
        for got, wanted in zip(turned.run(calibration[1]), plain.run(calibration[1]), strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_what_is_nhwc_already_stays() -> None:
    """As in models that come from TensorFlow: turning it would add a transpose."""
    held = {"w": np.random.default_rng(2).normal(size=(4, 3, 3, 3))}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1]),
    ]
    model = images.onnx_file(nodes, held, {"x": [1, 8, 8, 3], "y": [1, 8, 8, 4]})
    calibration = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype(np.float32)
    for option in NHWC:
        with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} nhwc: nothing to gain"):
            midge.compile(model, calibration=calibration, **{option: "nhwc"})


def test_command_line(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(denoiser())
    np.save(tmp_path / "x.npy", images.noise(1, SIZE))
    common = [str(tmp_path / "net.onnx"), "--calibration", str(tmp_path / "x.npy"), "--stream-output"]
    done = CliRunner().invoke(main, ["compile", *common, "-o", str(tmp_path / "lib"), "--output-layout", "nhwc"])
    assert done.exit_code == 0 and "net_run(arena, take, context);" in done.output and "net_output_rows function of yours" in done.output
    assert CliRunner().invoke(main, ["verify", str(tmp_path / "lib"), "--data", str(tmp_path / "x.npy")]).exit_code == 0
    done = CliRunner().invoke(main, ["verify", *common, "--stream-input", "--target", "host"])
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(main, ["plan", *common, "--no-measure", "--target", "host"]).exit_code == 0
