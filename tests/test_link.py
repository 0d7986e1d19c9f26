# SPDX-License-Identifier: Apache-2.0
"""Several models in one image: bit-exact one by one and by turns in one arena, smaller than apart, and refused where names clash."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cli_support import assert_fails, float_model, needs_gcc, qdq_model, run, run_json, sample_file
from support import needs_arm

import midge
from midge.codegen.link import link_files, link_programs
from midge.errors import Unsupported, UsageError
from midge.link import Image, folders, link
from midge.run.samples import random_samples
from midge.run.verify import verify
from midge.targets import get_target
from midge.toolchain import LIBRARY_FLAGS

TARGET = "cortex-m4"


def libraries(tmp_path: Path, target: str = TARGET, **options: object) -> list[midge.Library]:
    """Two models that use the same kernels; the second one rounds twice, so that both twins of its kernels are needed."""
    first = midge.compile(qdq_model(tmp_path / "first.onnx"), target=target, **options)
    data = sample_file(tmp_path / "x.npz")
    second = midge.compile(float_model(tmp_path / "second.onnx"), target=target, calibration=data, batch=1, numerics="tflite", **options)
    return [first, second]


def sizes(directory: Path, work: Path) -> int:
    """Bytes of code and data of every object, by arm-none-eabi-size."""
    work.mkdir(parents=True)
    flags = ["-c", *LIBRARY_FLAGS, "-O2", *get_target(TARGET).flags, "-Wall", "-Wextra", "-Werror", "-Wmissing-prototypes"]
    sources = sorted((directory / "src").glob("*.c"))
    subprocess.run(["arm-none-eabi-gcc", *flags, "-I", directory / "src", *sources], cwd=work, check=True, timeout=300)
    lines = subprocess.run(["arm-none-eabi-size", *sorted(work.glob("*.o"))], capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    return sum(int(line.split()[0]) + int(line.split()[1]) for line in lines[1:])


def assert_exact(directory: Path, found: list[midge.Library], on: str) -> None:
    with folders(directory) as parts:
        assert [part.name for part in parts] == [library.program.name for library in found]
        for part, library in zip(parts, found, strict=True):
            result = verify(part, random_samples(library.graph, 2), on=on)
            assert result.exact
            assert not result.changed
            assert result.layers == len(library.program.layers)


@needs_gcc
@pytest.mark.parametrize("options", [{}, {"stream_input": True}, {"stepwise": True}, {"stream_output": True}], ids=["whole", "stream", "steps", "out"])
def test_every_model_is_exact_on_the_host(tmp_path: Path, options: dict[str, bool]) -> None:
    found = libraries(tmp_path, "host", **options)
    image = link(found, exclusive=not options, measure=False)
    assert_exact(image.write(tmp_path / "image"), found, "host")


@needs_arm
def test_an_image_is_exact_on_an_emulated_core_and_measured(tmp_path: Path) -> None:
    found = libraries(tmp_path)
    image = link(found, name="pair", exclusive=True)
    assert_exact(image.write(tmp_path / "image"), found, "qemu")
    alone = [sizes(library.write(tmp_path / library.program.name), tmp_path / f"{library.program.name}.o") for library in found]
    together = sizes(tmp_path / "image", tmp_path / "image.o")
    assert together < 1.05 * sum(alone)  # hardly anything is shared here, and kernels that serve two models are less cut to either
    report = image.report
    assert [each.flash for each in report.alone] == alone
    assert report.together.flash == together
    assert (report.saved.flash, report.added.flash) == (max(0, sum(alone) - together), max(0, together - sum(alone)))
    assert report.together.ram == max(library.program.arena_nbytes for library in found)
    assert json.loads((tmp_path / "image" / "manifest.json").read_text())["report"] == json.loads(json.dumps(report.as_dict()))


def test_kernels_are_there_once_and_in_both_numerics(tmp_path: Path) -> None:
    linked = link_programs([library.program for library in libraries(tmp_path, "host")], "pair", exclusive=True)
    sources = link_files(linked)
    text = "\n".join(sources.values())
    symbols = {(s, call.kernel) for program in linked.programs for call in program.calls for s in call.kernel.symbols(program.numerics)}
    assert {s.endswith("_tflite") for s, kernel in symbols if kernel.profiled} == {False, True}
    for symbol, _ in symbols:
        assert len(re.findall(rf"\bvoid {symbol.replace('midge', 'pair')}\(", text)) == 2, "declared and defined"
    assert "midge_" not in text
    own = {path for path in sources if not path.startswith("src/pair")}
    assert own == {"src/first.c", "src/first.h", "src/second.c", "src/second.h"}


def test_equal_constants_are_there_once(tmp_path: Path) -> None:
    model = qdq_model(tmp_path / "m.onnx")
    twice = [midge.compile(model, target="host", name=name) for name in ("left", "right")]
    image = link(twice, name="twins", exclusive=False, measure=False)
    assert image.report.together.constants == image.report.alone[0].constants
    assert image.report.saved.constants == image.report.alone[1].constants > 0
    assert "twins_right_" not in image.sources["src/twins_weights.c"]
    assert image.report.saved.kernels == image.report.alone[0].kernels


def test_arenas_of_concurrent_models_lie_apart(tmp_path: Path) -> None:
    found = libraries(tmp_path, "host")
    linked = link_programs([library.program for library in found], "pair", exclusive=False)
    first, second = (library.program.arena_nbytes for library in found)
    assert linked.places[0] == 0
    assert linked.places[1] % 16 == 0
    assert linked.places[1] >= first
    assert linked.nbytes == linked.places[1] + second < first + second + 16
    report = link(found, exclusive=False, measure=False).report
    assert (report.saved.ram, report.added.ram) == (0, linked.nbytes - first - second)


def by_turns(image: Image, rounds: int) -> tuple[str, list[bytes]]:
    """A program that writes garbage to the arena once, then runs the models in turn, and the outputs it is to print."""
    name, upper = image.linked.pool.name, image.linked.pool.name.upper()
    lines, wanted = [], []
    for turn in range(rounds):
        for library in image.libraries:
            model, sample = library.program.name, random_samples(library.graph, turn + 1)[turn]
            data = ", ".join(str(value) for value in np.ravel(sample[0]).tolist())
            lines += [
                f"  {{ static const int8_t x[] = {{{data}}};",
                f"    void *own = {name}_{model}_arena(arena.bytes);",
                f"    memcpy({model}_input_0(own), x, sizeof x);",
                f"    if ({model}_run(own) != 0) {{ return 1; }}",
                f"    fwrite({model}_output_0(own), 1, {model.upper()}_OUTPUT_0_BYTES, stdout); }}",
            ]
            wanted.append(np.ascontiguousarray(library.run(*sample)).tobytes())
    memory = f"static union {{ int8_t bytes[{upper}_ARENA_BYTES]; long long align[2]; }} arena __attribute__((aligned(16)));"
    head = f'#include <stdio.h>\n#include <string.h>\n#include "{name}.h"\n{memory}'
    return f"{head}\nint main(void) {{\n  memset(arena.bytes, 0xA5, sizeof arena.bytes);\n" + "\n".join(lines) + "\n  return 0;\n}\n", wanted


@needs_gcc
@pytest.mark.parametrize("exclusive", [True, False], ids=["exclusive", "concurrent"])
def test_models_run_by_turns_in_one_arena(tmp_path: Path, exclusive: bool) -> None:
    image = link(libraries(tmp_path, "host"), name="pair", exclusive=exclusive, measure=False)
    directory = image.write(tmp_path / "image")
    text, wanted = by_turns(image, 3)
    (tmp_path / "main.c").write_text(text)
    flags = ["-std=c99", "-Wall", "-Wextra", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = sorted((directory / "src").glob("*.c"))
    subprocess.run(["gcc", *flags, "-I", directory / "src", tmp_path / "main.c", *sources, "-o", tmp_path / "main"], check=True, timeout=300)
    environment = {"ASAN_OPTIONS": "detect_leaks=0"}
    assert subprocess.run([tmp_path / "main"], capture_output=True, check=True, timeout=60, env=environment).stdout == b"".join(wanted)


def test_the_same_models_give_the_same_bytes(tmp_path: Path) -> None:
    found = libraries(tmp_path, "host")
    a, b = (link(found, exclusive=True, measure=False).write(tmp_path / name) for name in "ab")
    files = sorted(path.relative_to(a) for path in a.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(b) for path in b.rglob("*") if path.is_file())
    assert all((a / path).read_bytes() == (b / path).read_bytes() for path in files)


def test_what_cannot_be_linked_is_refused(tmp_path: Path) -> None:
    model = qdq_model(tmp_path / "m.onnx")
    one, other, arm = (midge.compile(model, target=target, name=name) for target, name in (("host", "kws"), ("host", "KWS"), ("cortex-m4", "arm")))
    wrong = (([one, other], "both", "another model"), ([one], "Kws", "of the image"), ([one, arm], "both", "one target"), ([one], "a b", "is no name"))
    for pair, name, words in wrong:
        with pytest.raises(UsageError, match=words):
            link(pair, name=name, exclusive=True, measure=False)
    odd = midge.compile(model, target="host", name="both_weights")
    with pytest.raises(UsageError, match="give the models other names"):
        link([one, odd], name="both", exclusive=True, measure=False)
    fast = midge.compile(model, target="host", name="fast", memory="tcm:1K@fast,ram:64K")
    with pytest.raises(Unsupported, match="--memory"):
        link([one, fast], exclusive=True, measure=False)


@needs_gcc
def test_the_command_line_links_and_verifies(tmp_path: Path) -> None:
    a, b, data = qdq_model(tmp_path / "a.onnx"), float_model(tmp_path / "b.onnx"), sample_file(tmp_path / "x.npz")
    arguments = ["link", f"left={a}", f"right={b}", "--calibration", f"right={data}", "-o", tmp_path / "out", "--target", "host"]
    assert_fails(run(*arguments), 2, "--exclusive")
    shown = run(*arguments, "--exclusive", "--name", "pair")
    assert shown.exit_code == 0, shown.output
    assert all(word in shown.stdout for word in ("left_run(pair_left_arena(arena));", "saved", "flash"))
    found = run_json(*arguments, "--concurrent")  # replaces what is there
    assert found["models"] == ["left", "right"]
    assert found["saved"]["flash"] == found["sum"]["flash"] - found["together"]["flash"] > 0
    assert run_json("verify", tmp_path / "out", "--samples", "1")["models"].keys() == {"left", "right"}
    weights = tmp_path / "out" / "src" / "image_weights.c"
    text, count = re.subn(r"(const int8_t image_right_layer0_w\w+\[\d+\] = \{\n +)-?\d+", r"\g<1>99", weights.read_text())
    assert count == 1
    weights.write_text(text)
    broken = run("verify", tmp_path / "out")
    assert broken.exit_code == 5
    assert "error: right: layer 0" in broken.stderr
    assert "not as midge wrote them: src/image_weights.c" in broken.stdout
    assert_fails(run("verify", tmp_path / "out", "--calibration", data), 2, "compiled already")
    assert_fails(run("verify", tmp_path / "out", "--data", data), 2, "image of several models")
    assert run(*arguments, "--exclusive", "--ram", "10").stderr.startswith("error: left: --ram 10: ")
    assert_fails(run("link", f"class={a}", "-o", tmp_path / "no", "--exclusive"), 2, "name 'class': is taken", "for example class_net")
    assert_fails(run(*arguments[:3], "--calibration", f"other={data}", *arguments[5:], "--exclusive"), 2, "no model is named so")
