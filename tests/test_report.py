# SPDX-License-Identifier: Apache-2.0
"""midge report: everything is in it, nothing from a model becomes markup, and a folder's report is that of its model."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cli_support import assert_fails, float_model, needs_gcc, run, run_json, sample_file
from random_models import random_feeds, random_model
from report_support import Page, facts_of, read_json, residual, written

import midge
from midge.codegen.c import emit
from midge.errors import UsageError
from midge.reload import reload
from midge.report.diagram import arrange, boxes, with_dummies
from midge.report.html import TITLES, page
from midge.report.markup import escape, shortened
from midge.report.stack import CallGraph, bound
from midge.schedule.timeline import used

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>]]>\u202e\x1b[2J</title></style>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model r.onnx, samples.npy, and `lib`: compiled with a report."""
    return written(tmp_path_factory.mktemp("report"), "host")


@pytest.fixture(scope="module")
def library(folder: Path) -> midge.Library:
    return midge.compile(folder / "r.onnx", calibration=folder / "samples.npy", name="net")


@needs_gcc
def test_the_page_has_every_section_and_fetches_nothing(folder: Path) -> None:
    text = (folder / "lib" / "report.html").read_text("utf-8")
    found = Page(text)
    assert [attributes["id"] for attributes in found.all("section")] == list(TITLES)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in found.all("meta")
    for _, attributes in found.elements:
        assert "src" not in attributes and not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))
    assert set(re.findall(r"https?://[^\"' )]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "@media print" in text and "prefers-color-scheme: dark" in text
    assert len(found.all("script")) == 1 and "default-src 'none'" in str(found.all("meta"))


@needs_gcc
def test_every_layer_is_in_every_part(folder: Path, library: midge.Library) -> None:
    report, text = read_json(folder / "lib" / "report.json"), (folder / "lib" / "report.html").read_text("utf-8")
    assert [layer["name"] for layer in report["layers"]] == [layer.name for layer in library.program.layers]
    parts = {name: text[text.index(f'<section id="{name}"') :] for name in TITLES}
    for layer in library.program.layers:
        label = f"{layer.index} {layer.kind}"
        assert f"{layer.index}  {layer.kind}</text>" in parts["model"]
        assert all(label in parts[name].split("</section>")[0] for name in ("arena", "layers", "accuracy", "traceability"))
    source = emit(library.program)["src/net.c"]
    for found in report["layers"]:
        assert found["origin"] and found["functions"] and found["state"] == "exact"
        assert all(f"{function}(" in source for function in found["functions"])
    assert sum(found["flash_nbytes"] for found in report["layers"]) == library.program.weight_nbytes == report["weight_nbytes"]
    assert sum(found["macs"] for found in report["layers"]) == library.program.macs
    assert max(found["ram_nbytes"] for found in report["layers"]) == max(used(library.program))
    for name in ("x", "y"):
        assert any(signal["name"] == name for signal in report["signals"]) or name in text


def test_hostile_names_stay_text(folder: Path, tmp_path: Path) -> None:
    library = midge.compile(residual(tmp_path / "h.onnx", HOSTILE), calibration=folder / "samples.npy", name="net")
    for value in list(library.graph.values.values()):
        assert value.name  # the names of values come from the model, too
    library.program.warnings.append(HOSTILE)
    found = facts_of(library)
    found = replace(found, layers=tuple(replace(layer, refused=(f"kernel: {HOSTILE}",)) for layer in found.layers))
    text = page(found, library.graph, library.program)
    parsed = Page(text)
    assert len(parsed.all("script")) == len(parsed.all("title")) - len(parsed.all("svg")) - text.count("<g><title>") - text.count('class="block"') == 1
    assert not parsed.all("img") and "alert(1)</script>" not in text
    assert "\x1b" not in text and "\u202e" not in text
    assert any(HOSTILE[:8] in piece for piece in parsed.text)
    assert json.loads(json.dumps(found.as_dict()))["warnings"] == [HOSTILE]


def test_escape_and_shorten() -> None:
    assert escape("<a href=\"x\" title='y'>&\n\ud800") == "&lt;a href=&quot;x&quot; title=&#x27;y&#x27;&gt;&amp;\\n\\ud800"
    assert shortened("abc", 3) == "abc" and shortened("abcdefghij", 6) == "abc…ij" and len(shortened("x" * 99, 30)) == 30


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_have_reports(seed: int) -> None:
    proto = random_model(seed)
    library = midge.compile(proto, calibration=random_feeds(proto, 3), target="cortex-m4")
    found = facts_of(library)
    Page(page(found, library.graph, library.program))
    json.dumps(found.as_dict(), allow_nan=False)
    points = with_dummies(boxes(library.graph, library.program))
    ranks = arrange(points)
    assert sorted(i for rank in ranks for i in rank) == list(range(len(points)))
    for rank in ranks:
        placed = sorted((points[i].x - points[i].width / 2, points[i].x + points[i].width / 2) for i in rank)
        assert all(right <= left + 1e-6 for (_, right), (left, _) in pairwise(placed))
    assert all(points[source].rank == point.rank - 1 for point in points for source in point.above)
    assert sum(bool(point.lines) for point in points) == len(library.graph.inputs) + len(library.graph.nodes) + len(library.graph.outputs)


@needs_gcc
def test_the_report_of_a_folder_is_that_of_its_model(folder: Path, tmp_path: Path) -> None:
    found = run_json("report", folder / "lib", "-o", tmp_path / "page.html", "--data", folder / "samples.npy")
    assert found["exact"] and found["files"] == {"report.html": str(tmp_path / "page.html"), "report.json": str(tmp_path / "page.json")}
    again, first = read_json(tmp_path / "page.json"), read_json(folder / "lib" / "report.json")
    for name in ("digest", "arena", "signals", "build", "weight_nbytes", "missing"):
        assert again[name] == first[name]
    assert first["comparison"]["reference"] == "the float32 model" and "dequantized" in again["comparison"]["reference"]
    assert "instructions" in found["missing"] and "host" in found["missing"]["instructions"]


@needs_gcc
def test_the_same_model_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    options = ("--calibration", folder / "samples.npy", "--target", "host", "--name", "net")
    result = run("report", folder / "r.onnx", "-o", tmp_path / "out", *options)
    assert result.exit_code == 0 and "left out: instructions" in result.stderr
    for name in ("report.html", "report.json"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / "lib" / name).read_bytes()
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text("utf-8")
    listed = {entry["path"] for entry in read_json(folder / "lib" / "manifest.json")["files"]}
    assert {"report.html", "report.json"} <= listed


@needs_gcc
def test_folders_that_cannot_be_compiled_again_are_refused(folder: Path, tmp_path: Path) -> None:
    assert_fails(run("report", folder / "lib", "-o", tmp_path / "o", "--optimize", "speed"), 2, "--optimize", "compiled already")
    assert_fails(run("report", folder / "lib", "-o", tmp_path / "o", "--target", "host"), 2, "--target", "compiled already")
    assert_fails(run("report", folder, "-o", tmp_path / "o"), 2, "manifest.json")
    copy = tmp_path / "lib"
    shutil.copytree(folder / "lib", copy)
    manifest = read_json(copy / "manifest.json")
    for change, words in (({"request": None}, "what was asked for"), ({"target": "cortex-m4"}, "comes out differently")):
        (copy / "manifest.json").write_text(json.dumps({**manifest, **change}))
        with pytest.raises(UsageError, match=words):
            reload(copy)
    (copy / "manifest.json").write_text(json.dumps({**manifest, "request": {**manifest["request"], "own_costs": True}}))
    with pytest.raises(UsageError, match="--costs"):
        reload(copy)
    (tmp_path / "file").write_text("")
    assert_fails(run("report", folder / "lib", "-o", tmp_path / "file" / "x"), 2, "cannot be written")


@pytest.mark.parametrize("options", [{"memory": "dtcm:1K@fast,sram:64K"}, {"optimize": "ram", "stream_input": True}, {"optimize": "size"}], ids=str)
def test_a_folder_is_compiled_again_as_it_was(folder: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    first = midge.compile(folder / "r.onnx", calibration=folder / "samples.npy", target="cortex-m4", name="net", **options)
    again = reload(first.write(tmp_path / "lib"))
    assert emit(again.program) == emit(first.program)
    found = facts_of(again)
    assert set(found.arena.memories) == {memory.name for memory in first.program.memories}
    assert ("not drawn" in page(found, again.graph, again.program)) == ("memory" in options)


def test_without_tools_the_report_says_what_is_missing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    samples = sample_file(tmp_path / "s.npz")
    found = run_json("report", float_model(tmp_path / "f.onnx"), "--calibration", samples, "-o", tmp_path / "out")
    assert (
        found["exact"] is None and {"instructions", "estimated cycles", "verification", "code size", "stack bound", "painted stack"} == found["missing"].keys()
    )
    text = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert text.count("apt-get install") >= 4 and "Not verified" in text and "exact</span>" not in text


def test_the_stack_bound_names_what_it_cannot_bound() -> None:
    graph = CallGraph()
    graph.read(
        'node: { title: "net_run" label: "net_run\\nnet.c:1:1\\n40 bytes (static)" }\n'
        'node: { title: "a.c:inner" label: "inner\\na.c:1:1\\n100 bytes (dynamic)" }\n'
        'node: { title: "printf" label: "printf" shape : ellipse }\n'
        'edge: { sourcename: "net_run" targetname: "a.c:inner" }\nedge: { sourcename: "net_run" targetname: "memcpy" }\n'
        'edge: { sourcename: "a.c:inner" targetname: "a.c:inner" }\nedge: { sourcename: "a.c:inner" targetname: "printf" }\n'
    )
    found = bound(graph, ["net_run"])
    assert (found.nbytes, found.path[:2]) == (140, ("net_run", "inner"))
    assert found.open_ends == ("inner calls itself", "inner has a frame of unknown size", "printf is not part of the library")


@pytest.mark.slow
@needs_gcc
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it(folder: Path, tmp_path: Path, width: int) -> None:
    """No error on the console, the script runs, and nothing makes a phone's page scroll sideways."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    probe = "<script>onload=function(){var d=document.querySelector('iframe').contentDocument.documentElement;document.title='wide '+d.scrollWidth}</script>"
    frame = tmp_path / "frame.html"
    inner = (folder / "lib" / "report.html").read_text("utf-8")
    frame.write_text(f'{probe}<iframe style="width:{width}px;height:900px;border:0" srcdoc="{escape_attribute(inner)}"></iframe>', "utf-8")
    common = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    for subject in (folder / "lib" / "report.html", frame):
        done = subprocess.run([*common, subject.as_uri()], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0 and "CONSOLE" not in done.stderr, done.stderr
        if subject == frame:
            assert int(re.findall(r"<title>wide (\d+)", done.stdout)[0]) <= width
        else:
            assert "Point at a block" in done.stdout and all(f'<section id="{name}">' in done.stdout for name in TITLES)


def escape_attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;")
