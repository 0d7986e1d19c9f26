# SPDX-License-Identifier: Apache-2.0
"""The measuring scripts: their counts agree with the emulator's clock, their files show changes, and what is committed is whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import figures as files
import images
import measure
import published
import pytest
import ram
import run as bench
from cli_support import qdq_model
from support import needs_arm

from midge.costs.cores import compared
from midge.errors import MidgeError
from midge.run.executed import executed
from midge.run.qemu import run_qemu

ROW = measure.ModelRow("cortex-m4", "kws", "speed", "-O2", "tflite", 10, 1000, 1500, 64, 32, 900, 300, 1200, "golden")
LAYER = measure.LayerRow("cortex-m4", "kws", "speed", 0, "Conv2D", "k", 10, 900, 1300)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> measure.Source:
    return measure.Source(qdq_model(tmp_path_factory.mktemp("model") / "small.onnx"))


@needs_arm
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0plus"])
def test_a_model_at_every_level(small: measure.Source, target: str) -> None:
    models, layers = measure.measure_model(small, target)
    assert [(row.optimize, row.flags, row.exact) for row in models] == [
        ("size", "-Os", "reference"),
        ("balanced", "-O2", "reference"),
        ("speed", "-O2", "reference"),
    ]
    for row in models:
        assert row.exact == "reference"
        own = [layer for layer in layers if layer.optimize == row.optimize]
        assert {layer.layer for layer in own} == {0, 1}
        within = sum(layer.instructions for layer in own)
        assert 0.9 * row.instructions < within < row.instructions < row.estimated_cycles
        assert row.macs == sum(layer.macs for layer in own) > 0
        assert row.flash >= row.code + row.weights > 0


@needs_arm
def test_counts_agree_with_the_clock(small: measure.Source, tmp_path: Path) -> None:
    """The plugin and the timer of the board are independent of each other; the timer resolves a few instructions."""
    library = measure.midge.compile(small.path, target="cortex-m4", name="net", schedule="layers")  # a hook each row would count for itself
    directory = library.write(tmp_path / "net")
    inputs, _ = measure.samples(small, library)
    clock = run_qemu(directory, "cortex-m4", inputs).instructions
    profile = run_qemu(directory, "cortex-m4", inputs, profile=True).layer_instructions
    counted = executed(directory, "cortex-m4", [array[:1] for array in inputs])
    assert clock is not None and profile is not None
    assert counted.total.instructions == pytest.approx(clock, rel=0.002)
    for layer, cost in counted.layers.items():
        assert cost.instructions == pytest.approx(profile[layer], rel=0.01, abs=20)


def test_rows_survive_a_file_and_replace_what_was_measured_again(tmp_path: Path) -> None:
    other = replace(ROW, target="cortex-m3")
    files.write_rows(tmp_path / "models.csv", files.merge_rows([], [ROW, replace(ROW, optimize="size"), other]))
    kept = files.read_rows(tmp_path / "models.csv", measure.ModelRow)
    assert kept == [other, replace(ROW, optimize="size"), ROW]
    faster = replace(ROW, instructions=500)
    assert files.merge_rows(kept, [faster]) == [other, faster]
    assert files.changed_rows(kept, [faster, other]) == [(ROW, faster)]
    assert files.read_rows(tmp_path / "none.csv", measure.ModelRow) == []


@pytest.mark.parametrize(
    ("after", "code", "line"),
    [
        (ROW, 0, ""),
        (replace(ROW, instructions=1010, stack=40), 0, "cortex-m4 kws speed: instructions 1,000 -> 1,010 (+1.0%), stack 32 -> 40 (+25.0%)\n"),
        (replace(ROW, instructions=1011), 1, "cortex-m4 kws speed: instructions 1,000 -> 1,011 (+1.1%)\n"),
        (replace(ROW, exact="no"), 1, "cortex-m4 kws speed: exact golden -> no\n"),
        (replace(ROW, model="new"), 0, "cortex-m4 new speed: new\n"),
    ],
)
def test_check(after: measure.ModelRow, code: int, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench, "MODELS_CSV", tmp_path / "models.csv")
    monkeypatch.setattr(bench, "LAYERS_CSV", tmp_path / "layers.csv")
    monkeypatch.setattr(bench, "find_sources", lambda named: [])
    monkeypatch.setattr(bench, "measure_all", lambda sources, targets, failed: ([after], [LAYER]))
    files.write_rows(bench.MODELS_CSV, [ROW])
    files.write_rows(bench.LAYERS_CSV, [LAYER])
    before = bench.MODELS_CSV.read_text("utf-8")
    assert bench.main(["--check", "--target", "cortex-m4"]) == code
    assert bench.MODELS_CSV.read_text("utf-8") == before
    printed = capsys.readouterr().out
    assert printed.endswith(line)
    assert "->" in printed or "->" not in line
    assert "estimated cycles, not measured" in printed and "STM32F4" in printed


def test_results_are_written_unless_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "MODELS_CSV", tmp_path / "models.csv")
    monkeypatch.setattr(bench, "LAYERS_CSV", tmp_path / "layers.csv")
    monkeypatch.setattr(bench, "measure_all", lambda sources, targets, failed: ([ROW], [LAYER]))
    assert bench.main(["some.onnx"]) == 0 and not bench.MODELS_CSV.exists()
    monkeypatch.setattr(bench, "find_sources", lambda named: [])
    assert bench.main(["--layers"]) == 0
    assert files.read_rows(bench.MODELS_CSV, measure.ModelRow) == [ROW] and files.read_rows(bench.LAYERS_CSV, measure.LayerRow) == [LAYER]


def test_ram_from_image_to_image(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows on both sides save where the channels of a pixel are together; the table has a line for each layout."""
    monkeypatch.setattr(ram, "IMAGES", {"small": (images.upscaler, 2, 12)})
    monkeypatch.setattr(ram, "TARGETS", ("host",))
    rows = list(ram.measure_images("small"))
    arenas = {(row.model, row.schedule): row.arena for row in rows}
    assert len(arenas) == 2 * len(ram.IMAGE_WAYS) and all(row.arena >= row.bound for row in rows)
    both = arenas["small, NHWC", "ram, both"]
    assert both < min(arena for key, arena in arenas.items() if key != ("small, NHWC", "ram, both"))
    ram.print_table("images", rows, ram.IMAGE_WAYS)
    assert f"{both:,}" in capsys.readouterr().out


def test_what_does_not_compile_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main([str(tmp_path / "no.onnx"), "--target", "cortex-m4"]) == 1
    assert "no on cortex-m4: " in capsys.readouterr().err


def test_baselines_name_their_source() -> None:
    figures = files.read_figures(files.BASELINES)
    assert len({figure.key for figure in figures}) == len(figures) > 100
    assert figures == sorted(figures, key=lambda figure: figure.key)
    for figure in figures:
        assert figure.source.startswith(("measured: QEMU 7.2, ", "published: ")) and int(figure.value) > 0
        assert (figure.quantity == "cycles") <= figure.source.startswith("published: ")
    assert {model for _, model, _ in bench.tflm_instructions(figures)} == set(bench.MLPERF_TINY)


def test_committed_results_are_exact() -> None:
    rows = files.read_rows(bench.MODELS_CSV, measure.ModelRow)
    assert rows == sorted(rows, key=lambda row: row.key) and rows
    assert {row.exact for row in rows} <= {"golden", "reference"}


def test_published_cycles_have_estimates() -> None:
    """Every figure was compared with an estimate."""
    figures = files.read_rows(published.DATA, published.Published)
    assert [(f.target, f.board, f.cycles) for f in figures] == [(row.target, row.board, row.cycles) for row in compared()]


LOOP = """\
.syntax unified
.thumb
.global loop
.type loop, %function
loop:
1: ldr r2, [r0]
subs r3, #1
bne 1b
bx lr
"""


@needs_arm
def test_published_code_is_counted(tmp_path: Path) -> None:
    """Ten rounds of a load of 2 cycles, 1 for the count, 2 for the branch taken, with a call around them; other code than the published is refused."""
    (tmp_path / "loop.S").write_text(LOOP, "utf-8")
    row = published.Published("cortex-m4", "loop.S", "1", 8, 50, "a board", "here")
    found = published.compare(row, tmp_path)
    assert 30 < found.instructions - 1 < 45 and 49 < found.estimated_cycles < 75
    with pytest.raises(MidgeError, match="8 bytes of code, the published figure is of 20"):
        published.compare(replace(row, nbytes=20), tmp_path)


ROUND = """\
#include <stdio.h>
extern char *malloc ();
extern long time();
int rest ();
char *kept;
main ()
{
  int run, runs;
  FILE *file;
  if ((file = fopen ("dhry.res", "a+")) == NULL) { printf ("no file"); exit (1); }
  kept = malloc (8);
  printf ("runs: ");
  scanf ("%d", &runs);
  for (run = 0; run < runs; ++run) rest (run);
  if (time ((long *) 0) < 2) printf ("too fast");
  else fprintf (file, "%d", run);
}
"""


@needs_arm
def test_rounds_of_dhrystone_are_counted(tmp_path: Path) -> None:
    """As in the published sources, the program asks for the rounds and prints; neither counts. A round here is a call, a load of 1 byte and the loop."""
    (tmp_path / "dhry_1.c").write_text(ROUND, "utf-8")
    (tmp_path / "dhry_2.c").write_text("extern char *kept;\nint rest (run)\nint run;\n{ return kept[0] + run; }\n", "utf-8")
    found = published.compare(published.Published("cortex-m4", "dhry_1.c", "2.1", 0, 20, "a board", "here"), tmp_path)
    assert found.code == "Dhrystone 2.1" and 8 <= found.instructions <= 16 and found.instructions < found.estimated_cycles < 30
