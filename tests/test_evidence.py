# SPDX-License-Identifier: Apache-2.0
"""midge evidence: every part passes on sound libraries, fails on what it is there to find, and says so when its tool is missing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support import ROOT, needs_arm, shared
from test_docs import command, steps

import midge
from midge import evidence
from midge.cli import main
from midge.codegen.manifest import MANIFEST
from midge.codegen.reference import load_reference
from midge.errors import ToolMissing, VerifyFailed
from midge.evidence import control_flow, coverage, deviations, misra, overflow, page, sanitize, sbom, stack
from midge.evidence.part import FAILED, NOT_RUN, PASSED, Part, Subject, Table
from midge.evidence.rules import Bound, reach_of
from midge.run.samples import random_samples
from midge.targets import TARGETS

MLPERF = ("ad01", "kws_ref_model", "pretrainedResnet", "str_ww_ref_model", "vww_96")
CORES = ("host", "cortex-m0", "cortex-m4", "cortex-m55")


def needs(*tools: str) -> pytest.MarkDecorator:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


def subject_of(directory: Path, count: int = 4) -> Subject:
    return Subject.of(directory, random_samples(load_reference(directory), count))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example network for a Cortex-M4."""
    data = np.random.default_rng(0).random((4, 1, 28, 28), np.float32)
    library = midge.compile(ROOT / "examples" / "mnist_cnn.onnx", calibration=data, target="cortex-m4", name="digits")
    return library.write(tmp_path_factory.mktemp("evidence") / "digits")


@needs_arm
def test_the_stack_bound_holds(digits: Path) -> None:
    found = stack.prove(subject_of(digits))
    assert found.status == PASSED, found.summary
    assert found.figures["painted"] <= found.figures["bound"] <= 1.25 * found.figures["painted"]
    frames = next(table for table in found.tables if table.title == "generated assembly")
    assert all(0 < counted <= stated for _, stated, counted in frames.rows)


@needs_arm
def test_a_routine_that_states_too_little_is_found(digits: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(digits, wrong)
    path = wrong / "src" / "digits_routines.c"
    path.write_text(re.sub(r"on \d+ bytes of stack", "on 4 bytes of stack", path.read_text("utf-8")), "utf-8")
    found = stack.prove(subject_of(wrong))
    assert found.status == FAILED
    assert "more pushed than stated" in found.summary


def test_pushes_are_counted_in_a_listing() -> None:
    listing = """
00000000 <first>:
   0:	b5f0      	push	{r4, r5, r6, r7, lr}
   2:	ed2d 8b04 	vpush	{d8-d9}
   4:	b085      	sub	sp, #20
   6:	f84d ed04 	str.w	lr, [sp, #-4]!
   8:	f7ff fffe 	bl	0 <second>
			8: R_ARM_THM_CALL	second

00000010 <second>:
  10:	e92d 4ff0 	stmdb	sp!, {r4, r5, r6, r7, r8, r9, sl, fp, lr}
  14:	4770      	bx	lr
"""
    counted, calls = stack.pushes(listing)
    assert counted == {"first": 20 + 16 + 20 + 4, "second": 36}
    assert calls == {"first": {"second"}}


def test_accumulators_of_the_example_cannot_overflow(digits: Path) -> None:
    found = overflow.prove(subject_of(digits))
    assert found.status == PASSED, found.summary
    layers = {row[0] for row in found.tables[0].rows}
    assert {row["index"] for row in json.loads((digits / MANIFEST).read_text("utf-8"))["layers"] if row["kind"] in ("Conv2D", "Dense")} <= layers


def test_weights_that_are_not_the_librarys_prove_nothing(digits: Path) -> None:
    subject = subject_of(digits)
    graph = subject.graph
    conv = next(node for node in graph.nodes if node.op.kind == "Conv2D")
    value = graph.values[conv.inputs[1]]
    assert value.data is not None
    graph.values[conv.inputs[1]] = replace(value, data=value.data ^ np.int8(1))
    found = overflow.prove(subject)
    assert found.status == FAILED
    assert "not proved" in found.summary


def test_a_reach_is_that_of_the_worst_input() -> None:
    """Against every input of a small channel."""
    weights, bias = np.array([[3, -128], [127, 127]], np.int8), np.array([-7, 1000])
    every = np.stack(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)), -1).reshape(-1, 2)
    sums = np.abs(every @ weights.astype(np.int64).T + bias).max(0)
    reach = reach_of(weights, bias)
    assert (sums <= reach).all() and (reach <= sums + 2 * 131).all()
    assert Bound("", reach, int(reach.max()) + 1).holds
    assert not Bound("", reach, int(reach.max())).holds
    assert Bound("", reach, 1 << 31).worst[0] == 1


@needs("gcc")
def test_sanitizers_find_nothing(digits: Path) -> None:
    found = sanitize.prove(subject_of(digits, 2))
    assert found.status == PASSED, found.summary
    assert "no finding" in found.files[sanitize.LOG]


@needs("gcc", "valgrind")
def test_control_flow_and_coverage(digits: Path) -> None:
    subject = subject_of(digits, 8)
    sites = control_flow.watch(subject)
    flow = control_flow.judge(subject, sites)
    assert flow.status == PASSED, flow.summary
    assert any(site.function.endswith("_clamp") for site in sites)
    found = coverage.prove(subject, sites)
    assert found.status == PASSED, found.summary
    assert found.figures["taken"] <= found.figures["branches"] - found.figures["constant"]
    assert found.figures["percent"] == round(100 * found.figures["taken"] / found.figures["branches"], 2) >= coverage.WANTED
    assert found.summary.startswith(coverage.percent(found.figures["taken"], found.figures["branches"]))
    assert coverage.prove(subject).figures["constant"] == 0


@needs("gcc", "valgrind")
def test_a_loop_that_depends_on_data_is_found(digits: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(digits, wrong)
    path = wrong / "src" / "digits.c"
    extra = "int digits_run(void *arena) {\n  const int8_t *input = digits_input_0(arena);\n  for (int i = 0; i < input[0]; ++i) {\n    digits_spin = i;\n  }\n"
    text = path.read_text("utf-8").replace("DIGITS_CODE_SECTION int digits_run(void *arena) {\n", "static volatile int digits_spin;\n" + extra)
    path.write_text(text, "utf-8")
    found = control_flow.prove(subject_of(wrong, 1))
    assert found.status == FAILED
    assert "digits_run" in found.summary


REPORT = """<?xml version="1.0"?><valgrindoutput><error><kind>{kind}</kind><what>w</what><stack>
<frame><fn>net_clamp</fn><file>net_fixedpoint.h</file><line>3</line></frame></stack></error></valgrindoutput>"""


def test_reports_of_memcheck_are_read() -> None:
    site = control_flow.Site("jump", "net_clamp", "net_fixedpoint.h", 3)
    assert control_flow.sites_of(REPORT.format(kind="UninitCondition")) == {site}
    assert control_flow.exempted(site, "net") is not None
    assert control_flow.exempted(replace(site, function="net_run"), "net") is None
    with pytest.raises(VerifyFailed, match="InvalidRead"):
        control_flow.sites_of(REPORT.format(kind="InvalidRead"))


@pytest.mark.slow
@needs("cppcheck")
def test_every_deviation_is_documented(digits: Path) -> None:
    found = misra.prove(subject_of(digits, 1))
    assert found.status == PASSED, found.summary
    assert found.figures["findings"] > 0


@pytest.mark.slow
@needs("cppcheck")
def test_a_new_finding_fails(digits: Path, tmp_path: Path) -> None:
    """Of a rule that has no deviation, and of one that has, elsewhere."""
    wrong = tmp_path / "wrong"
    shutil.copytree(digits, wrong)
    path = wrong / "src" / "digits.c"
    path.write_text(path.read_text("utf-8") + "\nint digits_spare(int a) {\n  int b;\n  b = 1, a = 2;\n  goto out;\nout:\n  return a + b;\n}\n", "utf-8")
    found = misra.prove(subject_of(wrong, 1))
    assert found.status == FAILED
    assert {"Rule 12.3", "Rule 15.1"} <= set(found.figures["undocumented"])
    assert "NO DEVIATION" in found.files[misra.LOG]


def test_deviations_name_rules_and_give_reasons() -> None:
    for each in deviations.DEVIATIONS:
        assert re.fullmatch(r"\d+\.\d+|[a-z]\w+", each.rule)
        assert len(each.reason) > 30 and each.reason.endswith(".")
        assert re.compile(each.files) and re.compile(each.construct)
    assert "| Rule 12.1 |" in deviations.deviations_text()


@pytest.mark.parametrize(
    ("rule", "file", "line", "covered"),
    [
        ("12.3", "conv2d.c", "for (int32_t x = 0; x < 4; ++x, out += 2) {", True),
        ("12.3", "conv2d.c", "  int32_t a = 1, b = 2;", True),
        ("12.3", "conv2d.c", "  a = 1, b = 2;", False),
        ("8.9", "model.c", "static const kws_params layer0_params = {", True),
        ("8.9", "conv2d.c", "static const int32_t table[4] = {", False),
        ("15.1", "conv2d.c", "  goto out;", False),
        ("15.5", "routines.c", "  return 0;", False),
    ],
)
def test_a_deviation_is_for_one_construct_in_some_files(rule: str, file: str, line: str, covered: bool) -> None:
    assert (deviations.deviation_of(rule, file, line) is not None) == covered


def test_files_are_named_without_their_library() -> None:
    assert [misra.plain_name(f"kws{end}", "kws") for end in (".c", ".h", "_conv2d_dsp.c")] == ["model.c", "api.h", "conv2d_dsp.c"]


def test_digests_and_bill_of_materials(digits: Path) -> None:
    found = sbom.prove(subject_of(digits))
    assert found.status == PASSED, found.summary
    for line in found.files[sbom.SUMS].splitlines():
        digest, path = line.split("  ")
        assert hashlib.sha256((digits / path).read_bytes()).hexdigest() == digest
    bill = json.loads(found.files[sbom.SBOM])
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.5", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    items = [bill["metadata"]["component"], *bill["components"]]
    refs = [item["bom-ref"] for item in items]
    assert len(refs) == len(set(refs)) and {entry["ref"] for entry in bill["dependencies"]} == set(refs)
    assert {ref for entry in bill["dependencies"] for ref in entry["dependsOn"]} <= set(refs)
    kinds = {"library", "machine-learning-model", "file"}
    assert all(item["type"] in kinds and re.fullmatch(r"[0-9a-f]{64}", item["hashes"][0]["content"]) for item in items)
    assert str(digits) not in found.files[sbom.SBOM]


def test_a_changed_file_is_found(digits: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(digits, wrong)
    with (wrong / "src" / "digits.c").open("a", encoding="utf-8") as file:
        file.write("\n")
    found = sbom.prove(subject_of(wrong))
    assert found.status == FAILED
    assert "digits.c" in found.summary


def test_a_missing_tool_is_not_run_and_never_passed(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise ToolMissing(f"{name}: not found; on Debian or Ubuntu: apt-get install {name}")

    for module in (stack, sanitize, control_flow, coverage, misra, sbom):
        monkeypatch.setattr(module, "find_tool", nothing)
    monkeypatch.setattr("midge.toolchain.find_tool", nothing)
    parts = evidence.collect(subject_of(digits, 1))
    status = {part.key: part.status for part in parts}
    assert status == {**dict.fromkeys(("stack", "sanitizers", "control_flow", "coverage", "misra"), NOT_RUN), "overflow": PASSED, "digests": PASSED}
    assert all(re.match(r"not run: tool \S+ missing", part.summary) for part in parts if part.status == NOT_RUN)
    assert evidence.overall(parts) == NOT_RUN


def test_the_page_escapes_and_fetches_nothing(digits: Path) -> None:
    rows = tuple((f"<b>{i}", i) for i in range(page.SHOWN_ROWS + 1))
    part = Part("key", "T<i>", FAILED, "a & b", "<script>", tables=(Table("long", ("name", "n"), rows),), files={"x.txt": ""})
    text = page.page(subject_of(digits, 1), [part])
    assert "<script" not in text and "<b>" not in text and "T&lt;i&gt;" in text and '<details class="long">' in text
    assert re.findall(r'(?:src|href)="(?!#|data:)([^"]*)"', text) == ["x.txt"]
    assert json.loads(page.data(subject_of(digits, 1), [part]))["status"] == FAILED


def test_the_command_line_refuses_foreign_folders_and_options(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x", "utf-8")
    for arguments, words in (
        ([str(digits), "-o", str(tmp_path)], "holds no evidence"),
        ([str(digits), "-o", str(tmp_path / "mine.txt")], "is a file"),
        ([str(digits), "-o", str(tmp_path / "new"), "--ram", "100"], "compiled already"),
    ):
        done = CliRunner().invoke(main, ["evidence", *arguments])
        assert done.exit_code == 2, done.output
        assert words in done.output


def test_a_folder_may_hold_the_library_it_is_about(digits: Path, tmp_path: Path) -> None:
    (tmp_path / evidence.LIBRARY).mkdir()
    assert evidence.write(subject_of(digits, 1), [], tmp_path).is_file()


def test_tables_of_weights_are_read_in_part_and_lines_stay() -> None:
    files = {
        "n_weights.c": "const int8_t a[40] = {\n    " + ",\n    ".join(map(str, range(40))) + "};\nconst int8_t b[2] = {1, 2};\nend",
        "n_internal.h": "extern const int8_t a[40];\nextern const int8_t b[2];",
        "n.c": "static const int8_t c[40] = {" + "1, " * 39 + "1};",
    }
    short = misra.shortened(files)
    assert short["n.c"] == files["n.c"] and short["n_internal.h"] == "extern const int8_t a[16];\nextern const int8_t b[2];"
    assert "a[16] = {\n    0,\n    1," in short["n_weights.c"] and "    15};" in short["n_weights.c"]
    assert short["n_weights.c"].splitlines()[-2:] == files["n_weights.c"].splitlines()[-2:]
    assert short["n_weights.c"].count("\n") == files["n_weights.c"].count("\n")


@pytest.mark.slow
@needs_arm
@needs("gcc", "valgrind", "cppcheck")
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("model", MLPERF)
def test_all_of_it_on_the_benchmark(model: str, core: str, tmp_path: Path) -> None:
    library = midge.compile(shared(f"models/mlperf_tiny/{model}_int8_qdq.onnx"), target=core, name="net")
    subject = subject_of(library.write(tmp_path / "library"))
    parts = evidence.collect(subject)
    left = {part.key: part.summary for part in parts if part.status != PASSED}
    if core == "host":
        assert left.keys() == {"stack"} and "made for Cortex-M" in left["stack"]
        return
    assert left == {}
    figures = parts[0].figures
    assert figures["painted"] <= figures["bound"] <= 1.25 * figures["painted"]
    assert TARGETS[core].board is not None


@pytest.mark.slow
@needs_arm
@needs("gcc", "valgrind", "cppcheck")
@pytest.mark.parametrize("options", [{"stream_input": True}, {"stepwise": True, "stream_output": True}, {"io": "model", "numerics": "tflite"}])
def test_other_ways_to_run(options: dict[str, object], tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((4, 1, 28, 28), np.float32)
    library = midge.compile(ROOT / "examples" / "mnist_cnn.onnx", calibration=data, target="cortex-m4", name="digits", **options)
    directory, output = library.write(tmp_path / "library"), tmp_path / "evidence"
    done = CliRunner().invoke(main, ["evidence", str(directory), "-o", str(output), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["status"] == PASSED
    assert (output / "index.html").is_file() and (output / "sbom.cdx.json").is_file()
    again = CliRunner().invoke(main, ["evidence", str(directory), "-o", str(output), "--samples", "2", "--json"])
    assert again.exit_code == 0, again.output


@pytest.mark.slow
@needs_arm
@needs("gcc", "valgrind", "cppcheck")
def test_the_commands_of_the_page_about_it_work(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    np.save(tmp_path / "samples.npy", np.random.default_rng(0).random((8, 1, 28, 28), np.float32))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ran = 0
    for language, text in steps("docs/evidence.md"):
        done = subprocess.run(command(language, text, tmp_path), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran == 2 and (tmp_path / "evidence" / "index.html").is_file()
