# SPDX-License-Identifier: Apache-2.0
"""What a report says is so: names that exist, bytes and instructions that add up, the worst first, and what happens to a folder that was changed."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import assert_fails, needs_gcc, qdq_model, run, run_json
from report_support import facts_of, read_json, residual, samples_of, written
from support import needs_arm

import midge
from midge.codegen.manifest import changed_files
from midge.importers.onnx import load
from midge.ops.build import dequantize
from midge.passes import canonicalize
from midge.report.accuracy import compare
from midge.report.facts import Facts
from midge.report.html import page
from midge.report.make import choose_samples, is_float_model
from midge.report.sections import accuracy, arena, layers, worst
from midge.run.reference import run_reference
from midge.schedule.rows import STATE_NBYTES
from midge.schedule.timeline import used


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, samples, and a library for the host with a report."""
    return written(tmp_path_factory.mktemp("host"), "host")


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for a Cortex-M4."""
    return written(tmp_path_factory.mktemp("core"), "cortex-m4")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> midge.Library:
    place = tmp_path_factory.mktemp("library")
    return midge.compile(residual(place / "r.onnx"), calibration=samples_of(place), name="net")


@needs_gcc
def test_the_data_has_these_fields(folder: Path) -> None:
    """Programs read them; a field that goes or changes its meaning needs another format number."""
    report = read_json(folder / "lib" / "report.json")
    assert report["format"] == 2
    assert list(report) == [
        "format", "midge", "name", "target", "numerics", "optimize", "digest", "macs", "weight_nbytes", "signals", "constants", "layers", "code",
        "elsewhere", "arena", "comparison", "verification", "estimate", "stack", "build", "warnings", "missing",
    ]  # fmt: skip
    assert list(report["layers"][0]) == [
        "index", "name", "kind", "text", "value", "origin", "functions", "kernels", "routines", "code_nbytes", "shared_nbytes",
        "refused", "macs", "flash_nbytes", "ram_nbytes", "output_nbytes", "instructions", "estimated_cycles", "snr_db", "exact_in_float", "largest_error",
        "largest_error_steps", "not_compared", "state", "test",
    ]  # fmt: skip
    assert list(report["signals"][0]) == ["name", "dtype", "shape", "scale", "zero_point", "nbytes", "producer", "readers", "axis", "scales", "zero_points"]
    assert list(report["arena"]) == ["nbytes", "align", "lower_bound", "gap", "steps", "peak_step", "peak_layer", "used", "blocks", "memories", "ram_nbytes"]
    assert list(report["code"][0]) == ["name", "kind", "file", "nbytes", "layers"] and list(report["elsewhere"][0]) == ["what", "code", "constants"]
    assert list(report["verification"]) == [
        "on", "target", "place", "samples", "bytes_compared", "constant_bytes", "exact", "changed", "instructions",
        "instructions_between_layers", "instructions_unmarked", "marked", "difference", "unit",
    ]  # fmt: skip
    assert list(report["stack"]) == ["bound", "path", "open_ends", "painted"]


@needs_arm
@needs_gcc
def test_on_an_emulated_core_instructions_and_stack_are_measured(core: Path) -> None:
    found, counted = read_json(core / "lib" / "report.json"), read_json(core / "lib" / "report.json")["verification"]
    assert found["missing"] == {}
    assert sum(layer["instructions"] for layer in found["layers"]) + counted["instructions_between_layers"] == counted["instructions"]
    assert sum(layer["estimated_cycles"] for layer in found["layers"]) + found["estimate"]["between_layers"] == found["estimate"]["cycles"]
    assert 0.9 * counted["instructions"] < counted["instructions_unmarked"] <= counted["instructions"]
    assert 0 < counted["instructions_between_layers"] < 0.1 * counted["instructions"]
    assert found["stack"]["painted"] <= found["stack"]["bound"] <= 1.25 * found["stack"]["painted"] + 16
    assert found["stack"]["path"][0] == "net_run" and not found["stack"]["open_ends"]
    assert "instructions under QEMU, not cycles" in counted["unit"]
    assert all(layer["estimated_cycles"] > layer["instructions"] for layer in found["layers"]) and not found["estimate"]["measured"]
    text = (core / "lib" / "report.html").read_text("utf-8")
    assert "never measured: LDR 2" in text and "STM32F4" in text and f"{found['estimate']['cycles']:,}" in text
    verified = run_json("verify", core / "lib", "--on", "qemu", "--data", core / "samples.npy", "--samples", "1")
    assert verified["counted"] == {"instructions": counted["instructions"], "between_layers": counted["instructions_between_layers"]}
    assert verified["instructions_under_qemu"] == counted["instructions_unmarked"]
    total, unmarked = (f"{counted[name]:,}" for name in ("instructions", "instructions_unmarked"))
    assert text.count(total) == 3 and f"{unmarked} without them" in text  # the figure above, the row of the table, and the sentence that says what was counted


@needs_gcc
@pytest.mark.parametrize("target", ["host", pytest.param("cortex-m4", marks=needs_arm)])
def test_functions_exist_and_bytes_add_up(target: str, request: pytest.FixtureRequest) -> None:
    lib = request.getfixturevalue("folder" if target == "host" else "core") / "lib"
    report, text = read_json(lib / "report.json"), (lib / "report.html").read_text("utf-8")
    code = {each["name"]: each for each in report["code"]}
    for each in code.values():
        assert re.search(rf"\b{each['name']}\(", (lib / "src" / each["file"]).read_text("utf-8")), each
        assert each["name"] in text or each["kind"] in ("driver", "twin")
    for layer in report["layers"]:
        named = [*layer["functions"], *layer["kernels"], *layer["routines"]]
        assert layer["functions"] and layer["kernels"] and all(layer["index"] in code[name]["layers"] for name in named)
        assert {code[name]["kind"] for name in layer["functions"]} == {"layer"} and {code[name]["kind"] for name in layer["kernels"]} == {"kernel"}
    sizes = report["build"]["sizes"]
    assert sum(layer["code_nbytes"] for layer in report["layers"]) + sum(share["code"] for share in report["elsewhere"]) == sizes["text"]
    constants = sum(layer["flash_nbytes"] for layer in report["layers"]) + sum(share["constants"] for share in report["elsewhere"])
    assert constants == sizes["rodata"] + sizes["data"] and f"total, {sizes['text'] + constants:,} bytes as Build says" in text
    assert all(share["code"] >= 0 and share["constants"] >= 0 for share in report["elsewhere"])
    shared = [each for each in code.values() if len(each["layers"]) > 1]
    assert bool(shared) == (target == "host") and all(f"also layer {each['layers'][1]}" in text for each in shared if len(each["layers"]) == 2)
    routines = [each for each in code.values() if each["kind"] == "routine"]
    assert bool(routines) == (target != "host") and all(each["file"] == "net_routines.c" and each["nbytes"] > 0 for each in routines)


@needs_gcc
@pytest.mark.parametrize("target", ["host", pytest.param("cortex-m4", marks=needs_arm)])
def test_the_test_of_a_layer_is_named(target: str, request: pytest.FixtureRequest) -> None:
    lib = request.getfixturevalue("folder" if target == "host" else "core") / "lib"
    where = "on the host" if target == "host" else "on mps2-an386 under QEMU"
    for layer in read_json(lib / "report.json")["layers"]:
        assert layer["test"] == f"integer reference, 3 samples of {layer['output_nbytes']:,} bytes, {where}"
        assert layer["test"] in (lib / "report.html").read_text("utf-8")


def test_with_memories_ram_is_their_sum(folder: Path) -> None:
    library = midge.compile(folder / "r.onnx", calibration=folder / "samples.npy", target="cortex-m4", name="net", memory="dtcm:2K@fast+weights,sram:64K")
    program, found = library.program, facts_of(library)
    beside = found.arena.memories["dtcm"]
    assert beside.nbytes >= max(beside.used) > 0 and 0 < beside.constants_nbytes <= 2048 - beside.nbytes
    assert found.arena.ram_nbytes == program.arena_nbytes + beside.nbytes + beside.constants_nbytes
    assert (found.arena.lower_bound, found.arena.gap) == (None, None)
    both = [arena + other for arena, other in zip(found.arena.used, beside.used, strict=True)]
    assert max(layer.ram_nbytes for layer in found.layers) == max(both) > max(found.arena.used)
    text, report = page(found, library.graph, program), library.report()
    assert f"{found.arena.ram_nbytes:,} B" in text and "lower bound" not in arena(found, "") and "RAM of all memories" in text
    assert report.as_dict()["gap"] is None and f"dtcm {beside.nbytes + beside.constants_nbytes:,}" in str(report) and "gap" not in str(report)


@pytest.mark.parametrize("options", [{}, {"optimize": "ram", "stream_input": True}, {"optimize": "size"}], ids=str)
def test_the_peak_adds_up_to_the_arena(folder: Path, options: dict[str, Any]) -> None:
    library = midge.compile(folder / "r.onnx", calibration=folder / "samples.npy", target="cortex-m4", name="net", **options)
    program, plan = library.program, facts_of(library).arena
    kept = replace(program, state_offset=-1)
    assert [with_state - without for with_state, without in zip(used(program), used(kept), strict=True)] == [
        STATE_NBYTES if program.state_offset >= 0 else 0
    ] * len(program.steps)
    alive, text = plan.used[plan.peak_step], arena(facts_of(library), "")
    assert alive == max(plan.used) and f"at step {plan.peak_step} of the steps 0 to {plan.steps - 1}" in text
    if alive == plan.nbytes:
        assert "all are in use" in text
    else:
        assert f"{alive:,} bytes in use + {plan.nbytes - alive:,} between them, for alignment or placement = {plan.nbytes:,}." in text


def test_the_worst_of_the_comparison_comes_first(library: midge.Library) -> None:
    """No signal is worse than any SNR; what rounding to the step explains is not bad at all, whatever its SNR; no error comes last."""
    found = facts_of(library)
    cases = [(30.0, False, 2.0), (0.0, False, 7e-10), (None, False, 3.0), (None, True, 0.0), (12.5, False, 1.0)]
    assert len(found.layers) >= len(cases)
    cooked = [
        replace(layer, snr_db=snr, exact_in_float=exact, largest_error=steps, largest_error_steps=steps, not_compared=None)
        for layer, (snr, exact, steps) in zip(found.layers, cases, strict=False)
    ]

    def order(facts: Facts) -> list[str]:
        return re.findall(r'<td class="n">(no signal|no error|[\d.]+)</td><td class="n">[^<]*</td><td class="n">[^<]*</td><td class="wide">', accuracy(facts))

    assert order(replace(found, layers=tuple(cooked))) == ["no signal", "12.5", "30.0", "0.0", "no error"]
    assert worst(replace(found, layers=tuple(cooked)))[0] == "no signal"
    figure, where = worst(replace(found, layers=tuple(cooked[:2] + cooked[3:])))
    assert figure == "12.5 dB" and f"layer {cooked[4].index} " in where
    assert worst(replace(found, layers=(cooked[1], cooked[3])))[0] == "rounding only"


def test_layers_counted_by_the_timer_are_said_not_to_sum(library: midge.Library) -> None:
    found = facts_of(library)
    counted = {"marked": False, "unit": "instructions", "instructions": 1000, "instructions_unmarked": 1000, "instructions_between_layers": None}
    text = layers(replace(found, layers=tuple(replace(layer, instructions=300) for layer in found.layers), verification=counted))
    assert "do not sum to the 1,000" in text and f'layers together</th><td><div class="track"></div></td><td class="n much">{300 * len(found.layers):,}' in text
    assert "between layers" not in text


@needs_gcc
def test_a_changed_folder_fails_and_the_page_says_what_was_changed(folder: Path, tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    shutil.copytree(folder / "lib", lib)
    source = lib / "src" / "net_weights.c"
    changed, count = re.subn(r"(net_layer1_bias\[8\] = \{\s*)-?\d+", r"\g<1>1", source.read_text("utf-8"))
    assert count == 1
    source.write_text(changed, "utf-8")
    result = run("report", lib, "-o", tmp_path / "out")
    assert result.exit_code == run("verify", lib).exit_code == 5, result.output
    assert "not as midge wrote them: src/net_weights.c" in result.stderr and "bytes differ" in result.stderr
    text = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Not as midge wrote them: src/net_weights.c" in text and "DIFFERS" in text and "files were changed" in text
    assert read_json(tmp_path / "out" / "report.json")["verification"]["changed"] == ["src/net_weights.c"]


@needs_gcc
def test_a_report_in_the_folder_of_its_library_belongs_to_it(folder: Path, tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    shutil.copytree(folder / "lib", lib)
    before = read_json(lib / "manifest.json")
    assert run_json("report", lib, "-o", lib)["exact"]
    after = read_json(lib / "manifest.json")
    assert changed_files(lib) == [] and [entry["path"] for entry in after["files"]] == [entry["path"] for entry in before["files"]]
    assert {**after, "files": []} == {**before, "files": []}
    assert_fails(run("report", lib, "-o", lib / "manifest.html"), 2, "manifest.json", "a file of the library")
    assert changed_files(lib) == []


def test_an_image_says_how_to_get_at_its_parts(folder: Path, tmp_path: Path) -> None:
    model = qdq_model(tmp_path / "q.onnx")
    assert run("link", f"one={model}", f"two={model}", "--exclusive", "--no-measure", "-o", tmp_path / "image").exit_code == 0
    for command in ("report", "evidence"):
        assert_fails(
            run(command, tmp_path / "image", "-o", tmp_path / "out"), 2, "image of several models (one, two)", "midge verify", "midge compile MODEL --report"
        )


def test_noise_is_measured_against_the_float_model(folder: Path, library: midge.Library) -> None:
    """The figure of the output, by the formula, from two runs done here."""
    reference = canonicalize(load(folder / "r.onnx"))
    assert is_float_model(reference) and not is_float_model(library.graph)
    samples, what = choose_samples(library.graph, None, str(folder / "samples.npy"))
    found = compare(library.graph, samples, what, reference)
    name = library.graph.outputs[0]
    kind, noise, signal = library.graph.type(name).q, 0.0, 0.0
    for sample in samples:
        real = dequantize(sample[0], library.graph.type("x").q)
        wanted = run_reference(reference, {"x": real.reshape(reference.type("x").shape)})[name].astype(float)
        got = dequantize(run_reference(library.graph, {"x": sample[0]})[name], kind)
        noise, signal = noise + float(np.square(wanted - got).sum()), signal + float(np.square(wanted).sum())
    assert found.reference == "the float32 model" and found.samples == len(samples) == 8
    assert found.distances[name].snr_db == pytest.approx(10 * np.log10(signal / noise), abs=0.01)
    assert 15 < 10 * np.log10(signal / noise) < 60


def test_without_the_float_model_the_networks_own_weights_are_the_reference(tmp_path: Path) -> None:
    """The ReLU of the model is in the range of a type only; real arithmetic clips there, or the figures would be wrong by far."""
    library = midge.compile(qdq_model(tmp_path / "q.onnx"))
    samples, what = choose_samples(library.graph, None, None)
    assert not is_float_model(canonicalize(load(tmp_path / "q.onnx")))
    found = compare(library.graph, samples, what)
    assert "dequantized" in found.reference and not found.left_out
    assert all(distance.snr_db is None or distance.snr_db > 25 for distance in found.distances.values())
    assert all(distance.largest_steps <= 1.01 for distance in found.distances.values())
