# SPDX-License-Identifier: Apache-2.0
"""Budgets that cannot be met: the ways out are ranked, their numbers are those of the code that the options give, and the peak is named."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from cli_support import qdq_model, run, save
from images import denoiser, noise
from onnx import helper
from support import ROOT, needs_arm

import midge
from midge import budget
from midge.codegen.c import emit
from midge.costs import load_costs
from midge.costs.cycles import SPREAD, estimate_cycles, load_factors, offered
from midge.errors import Unsupported, UsageError
from midge.ir import Array
from midge.ops import conv_w4
from midge.run.qemu import run_qemu
from midge.run.samples import random_samples
from midge.run.size import flash_of
from midge.schedule.timeline import used
from midge.targets import get_target

EXAMPLE = ROOT / "examples" / "mnist_cnn.onnx"
LINE = re.compile(r"^  \d+\. (?P<name>.+): (?P<value>[\d,]+), saves (?P<saved>[\d,]+); (?P<fits>fits|[\d,]+ too many)(?P<note>; .*)?", re.M)


def image_model(tmp_path: Path, rows: int = 48) -> tuple[Path, Array]:
    """One convolution over an image that is larger than all else, rows of pixels as cameras give them, and samples for it."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], name="planes", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"], name="conv", strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"], name="act"),
        helper.make_node("GlobalAveragePool", ["r"], ["y"], name="mean"),
    ]
    model = save(tmp_path / "image.onnx", nodes, {"w": random.normal(0, 0.3, (2, 3, 3, 3)).astype(np.float32)}, (1, rows, 48, 3))
    return model, random.normal(0, 1, (2, rows, 48, 3)).astype(np.float32)


def digits() -> Array:
    return np.random.default_rng(0).random((2, 1, 28, 28), np.float32)


def ways(text: str) -> dict[str, tuple[int, bool]]:
    """Name -> (value, whether it fits)."""
    return {m["name"]: (int(m["value"].replace(",", "")), m["fits"] == "fits") for m in LINE.finditer(text)}


def number(text: str) -> int:
    """What the ways start from."""
    found = re.search(r"^ways out, from ([\d,]+) ", text, re.M)
    assert found is not None, text
    return int(found[1].replace(",", ""))


def assert_ranked(text: str, limit: int) -> dict[str, tuple[int, bool]]:
    """Those that fit first, then those that change no output, then by value; what is saved is the difference."""
    found = ways(text)
    assert found, text
    noted = {match["name"] for match in LINE.finditer(text) if match["note"]}
    order = [(not fits, name in noted, value) for name, (value, fits) in found.items()]
    assert order == sorted(order)
    for match in LINE.finditer(text):
        value, fits = found[match["name"]]
        assert int(match["saved"].replace(",", "")) == number(text) - value > 0
        assert fits == (value <= limit)
    return found


def test_ways_out_of_too_little_ram_are_what_the_options_give(tmp_path: Path) -> None:
    model, data = image_model(tmp_path)
    with pytest.raises(UsageError, match="--ram 6000: the least that was found is") as failed:
        midge.compile(model, target="cortex-m4", calibration=data, ram=6000)
    text = str(failed.value)
    found = assert_ranked(text, 6000)
    streamed = midge.compile(model, target="cortex-m4", calibration=data, optimize="ram", stream_input=True).program
    assert found["--stream-input"] == (streamed.arena_nbytes, True)
    assert midge.compile(model, target="cortex-m4", calibration=data, ram=6000, stream_input=True).program.arena_nbytes <= 6000
    least = midge.compile(model, target="cortex-m4", calibration=data, optimize="ram").program
    assert number(text) == least.arena_nbytes
    small, samples = image_model(tmp_path, rows=24)
    half = midge.compile(small, target="cortex-m4", calibration=samples, optimize="ram").program
    assert found["a smaller input window, half the rows of 'x'"] == (half.arena_nbytes, half.arena_nbytes <= 6000)
    assert re.search(r"a smaller input window.*; the network has to be trained again for that window$", text, re.M)


def test_ways_out_of_images_are_compiled_too() -> None:
    """Rows that go, and channels of a pixel together: several at once only where none of them alone is enough, and then no more than needed."""
    model, calibration = denoiser(1, 32), noise(1, 32)
    nhwc = {"input_layout": "nhwc", "output_layout": "nhwc"}
    layouts = "--input-layout nhwc --output-layout nhwc"
    options = {
        layouts: nhwc,
        "--stream-input": {"stream_input": True},
        "--stream-output": {"stream_output": True},
        f"--stream-input {layouts}": {"stream_input": True, **nhwc},
        f"--stream-output {layouts}": {"stream_output": True, **nhwc},
        f"--stream-input --stream-output {layouts}": {"stream_input": True, "stream_output": True, **nhwc},
    }

    def arena(**wish: object) -> int:
        return midge.compile(model, target="host", calibration=calibration, optimize="ram", **wish).program.arena_nbytes

    needs = {name: arena(**wish) for name, wish in options.items()}
    start, all_of_them = arena(), f"--stream-input --stream-output {layouts}"
    assert needs[all_of_them] < min(value for name, value in needs.items() if name != all_of_them) < needs[layouts] < start
    for limit, fits in ((needs[layouts], {layouts}), (needs[all_of_them], {all_of_them}), (100, set())):
        with pytest.raises(UsageError, match=f"--ram {limit}: ") as failed:
            midge.compile(model, target="host", calibration=calibration, ram=limit)
        found = assert_ranked(str(failed.value), limit)
        assert number(str(failed.value)) == start
        assert {name for name, (_, fit) in found.items() if fit and "window" not in name} == fits
        assert {name: value for name, (value, _) in found.items() if name in needs}.items() <= needs.items()
        assert (all_of_them in found) == (limit != needs[layouts])


def test_ports_that_are_as_asked_are_not_asked_again() -> None:
    model, calibration = denoiser(3, 24), noise(3, 24)
    options: dict[str, object] = {"stream_output": True, "input_layout": "nhwc", "optimize": "size"}
    with pytest.raises(UsageError) as failed:
        midge.compile(model, target="host", calibration=calibration, ram=100, **options)
    text = str(failed.value)
    assert {"--output-layout nhwc", "--stream-input --output-layout nhwc"} <= set(ways(text))
    assert "--stream-output" not in text and "--input-layout" not in text and "--optimize size" not in text


def test_the_peak_is_named(tmp_path: Path) -> None:
    model, data = image_model(tmp_path)
    program = midge.compile(model, target="cortex-m4", calibration=data, optimize="ram").program
    alive = used(program)
    assert alive[program.peak_step] == max(alive)
    text = budget.peak(program)
    assert f"step {program.peak_step} (of steps 0 to {len(program.steps) - 1})" in text
    assert f"'{program.calls[program.steps[program.peak_step].call].name}'" in text
    largest = re.search(r"tensor '(\S+)' ([\d,]+)", text)
    assert largest is not None
    assert largest[1] == program.inputs[0].buffer
    assert int(largest[2].replace(",", "")) > program.inputs[0].type.nbytes // 2


def test_layer_by_layer_is_held_to_the_budget_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="layer by layer the arena has") as failed:
        midge.compile(EXAMPLE, target="cortex-m4", calibration=digits(), ram=6000, schedule="layers", stepwise=True, keep_dead_channels=True)
    found = assert_ranked(str(failed.value), 6000)
    rows = midge.compile(EXAMPLE, target="cortex-m4", calibration=digits(), ram=6000, stepwise=True, keep_dead_channels=True).program
    assert found["--schedule rows"][1]
    assert rows.arena_nbytes <= 6000
    assert found["no --stepwise"][0] < number(str(failed.value))


def test_ways_out_of_too_little_flash_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = qdq_model(tmp_path / "m.onnx")
    sizes = {"-O2": 900, "-Os": 700}
    monkeypatch.setattr(budget, "flash_of", lambda sources, target, opt="-O2": sizes[opt] + sum("dsp" in path for path in sources))
    with pytest.raises(Unsupported, match="--flash 800: ") as failed:
        midge.compile(model, target="cortex-m4", flash=800)
    found = assert_ranked(str(failed.value), 800)
    assert found["the C compiled with -Os"] == (number(str(failed.value)) - 200, True)
    assert found["--optimize size"][0] == 900
    assert "measured with -O2" in str(failed.value)
    assert "layer 0 '" in str(failed.value)


def test_weights_of_four_bits_are_a_way_out_of_too_little_flash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How far the outputs move stands beside the number; where they have four bits already, nothing is said of them."""
    model, data = image_model(tmp_path)
    monkeypatch.setattr(conv_w4, "WORTH", 1)
    monkeypatch.setattr(budget, "flash_of", lambda sources, target, opt="-O2": 1000 - 200 * any("w4" in path for path in sources))
    with pytest.raises(Unsupported, match="--flash 850: ") as failed:
        midge.compile(model, target="cortex-m4", calibration=data, flash=850)
    found = assert_ranked(str(failed.value), 850)
    assert found["--weights int4"] == found["--weights int4 --optimize size"] == (800, True)
    assert re.search(r"--weights int4: .*; outputs change: .*the same largest one in \d of 2 calibration samples$", str(failed.value), re.M)
    with pytest.raises(Unsupported, match="--flash 100: ") as failed:
        midge.compile(model, target="cortex-m4", calibration=data, flash=100, weights="int4")
    assert "--weights" not in str(failed.value)


@needs_arm
def test_flash_is_held_against_the_compiler(tmp_path: Path) -> None:
    model = qdq_model(tmp_path / "m.onnx")
    free = midge.compile(model, target="cortex-m4", optimize="size")
    nbytes = flash_of(emit(free.program), get_target("cortex-m4"))
    assert nbytes is not None
    with pytest.raises(Unsupported, match=rf"(?s)--flash {nbytes - 1}: .*from {nbytes:,} bytes of flash, measured with -O2") as failed:
        midge.compile(model, target="cortex-m4", optimize="size", flash=nbytes - 1)
    assert ways(str(failed.value))["the C compiled with -Os"][0] == flash_of(emit(free.program), get_target("cortex-m4"), "-Os")


def test_without_a_compiler_tables_say_how_much_flash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "flash_of", lambda sources, target, opt="-O2": None)
    with pytest.raises(Unsupported, match="--flash 100: the smallest choice of kernels needs") as failed:
        midge.compile(qdq_model(tmp_path / "m.onnx"), target="cortex-m4", flash=100)
    assert "by the tables of code" in str(failed.value)
    assert "-Os" not in str(failed.value)


def test_ways_out_of_too_many_cycles(tmp_path: Path) -> None:
    limit = 1_500_000
    with pytest.raises(Unsupported, match=rf"--cycles {limit}: the run takes about [\d,]+ cycles, an estimate \(from ") as failed:
        midge.compile(EXAMPLE, target="cortex-m4", calibration=digits(), cycles=limit)
    found = assert_ranked(str(failed.value), limit)
    for name, target, optimize in (("--optimize speed", "cortex-m4", "speed"), ("--target cortex-m7", "cortex-m7", "balanced")):
        program = midge.compile(EXAMPLE, target=target, calibration=digits(), optimize=optimize).program
        assert found[name][0] == estimate_cycles(program, load_costs(target)).middle
    assert midge.compile(EXAMPLE, target="cortex-m7", calibration=digits(), cycles=limit).program.calls
    assert "head/conv" in str(failed.value).splitlines()[1]


@needs_arm
def test_estimated_instructions_are_near_those_executed(tmp_path: Path) -> None:
    library = midge.compile(EXAMPLE, target="cortex-m4", calibration=digits())
    inputs = [np.asarray(array)[None] for array in random_samples(library.graph, 1)[0]]
    executed = run_qemu(library.write(tmp_path / "library"), "cortex-m4", inputs).instructions
    assert executed is not None
    found = estimate_cycles(library.program, load_costs("cortex-m4"))
    assert not found.guessed
    assert abs(found.instructions / executed - 1) < SPREAD


def test_factors_are_those_of_the_measured_networks() -> None:
    with (ROOT / "bench" / "results" / "models.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["flags"] == "-O2"]
    assert rows
    for row in rows:
        factor, ratio = load_factors()[row["target"]], int(row["estimated_cycles"]) / int(row["instructions"])
        assert factor.low * 0.9 <= ratio <= factor.high * 1.1
        assert factor.low <= factor.middle <= factor.high


def test_cycles_are_offered_where_tables_are(tmp_path: Path) -> None:
    assert "cortex-m4" in offered()
    for target in ("host", "cortex-m0", "cortex-m3"):
        assert target not in offered()
        with pytest.raises(UsageError, match=f"figures for {target}.*offered for cortex-m"):
            midge.compile(qdq_model(tmp_path / "m.onnx"), target=target, cycles=10**9)


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave one of") as failed:
        midge.compile(qdq_model(tmp_path / "m.onnx"), target="host", ram=10, stream_input=True, stepwise=True)
    assert "ways out" not in str(failed.value)


def test_the_command_line_shows_every_way(tmp_path: Path) -> None:
    model = qdq_model(tmp_path / "m.onnx")
    result = run("compile", model, "-o", tmp_path / "out", "--ram", "100")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --ram 100: ")
    assert ways(result.stderr)
    result = run("compile", model, "-o", tmp_path / "out", "--cycles", "10")
    assert result.exit_code == 4
    assert "--target cortex-m7" in result.stderr
    assert not (tmp_path / "out").exists()


def test_every_budget_between_the_least_and_the_fast_kernels_is_met() -> None:
    """Kernels with less scratch are taken as far as they are needed."""
    small = midge.compile(EXAMPLE, target="cortex-m4", calibration=digits(), optimize="size", ram=10**6).program
    small = midge.compile(EXAMPLE, target="cortex-m4", calibration=digits(), optimize="size", ram=small.lower_bound + 64).program
    fast = midge.compile(EXAMPLE, target="cortex-m4", calibration=digits(), optimize="ram").program
    assert small.arena_nbytes < fast.arena_nbytes
    portable = sum(not call.kernel.features for call in small.calls)
    for ram in range(small.arena_nbytes, fast.arena_nbytes, max(1, (fast.arena_nbytes - small.arena_nbytes) // 3)):
        found = midge.compile(EXAMPLE, target="cortex-m4", calibration=digits(), ram=ram).program
        assert found.arena_nbytes <= ram
        assert sum(not call.kernel.features for call in found.calls) < portable


@needs_arm
def test_every_budget_of_flash_down_to_portable_kernels_is_met(tmp_path: Path) -> None:
    model, data = image_model(tmp_path)

    def built(**options: object) -> int:
        program = midge.compile(model, target="cortex-m4", calibration=data, **options).program
        nbytes = flash_of(emit(program), get_target("cortex-m4"))
        assert nbytes is not None
        return nbytes

    small, fast = built(optimize="size"), built()
    assert small < fast
    for flash in (small, (small + fast) // 2, fast - 1, fast):
        assert built(flash=flash) <= flash
    with pytest.raises(Unsupported, match=f"--flash {small - 1}: "):
        built(flash=small - 1)
