# SPDX-License-Identifier: Apache-2.0
"""The host program that coverage and control flow are looked at with: the library built without optimization, called in order and out of order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from midge.codegen.names import c_integer
from midge.errors import VerifyFailed
from midge.evidence.part import Subject, run
from midge.ir import Array
from midge.run import firmware
from midge.run.adapter import handed_out_refusal
from midge.targets import get_target
from midge.toolchain import compile_objects, link, runtime_dir

INPUT = "input.bin"
EXTREMES = 3  # inputs of extreme values
MOST_SAMPLES = 8  # that coverage and control flow are looked at with: the same, so that both have seen the same lines run


def sample_count(subject: Subject) -> int:
    """How many of the samples are run."""
    return min(MOST_SAMPLES, len(subject.samples))


def build(subject: Subject, work: Path, *, flags: Sequence[str] = (), defines: Sequence[str] = ()) -> Path:
    """A program in `work` that runs the first samples, and inputs of extreme values; `flags` are for the library's sources.

    Raises: ToolMissing without gcc.
    """
    runtime, host = runtime_dir(), get_target("host")
    work.mkdir(parents=True, exist_ok=True)
    text = firmware.adapter_header(subject.manifest) + "\n" + misuse(subject) + "\n" + helpers(subject)
    (work / "midge_model.h").write_text(text, encoding="utf-8")
    model = firmware.Model.from_manifest(subject.manifest)
    inputs = subject.stacked(sample_count(subject))
    inputs = [np.concatenate([array, extremes(array[0])]) for array in inputs]
    (work / INPUT).write_bytes(firmware.pack_inputs(model, inputs))
    includes = (subject.source, runtime, work)
    library = compile_objects(firmware.library_sources(subject.directory), work / "library", host, opt="-O0", includes=includes, extra=flags, cc="gcc")
    own = compile_objects([runtime / "evidence_main.c"], work / "own", host, opt="-O0", includes=includes, defines=defines, extra=flags, cc="gcc")
    return link([*own, *library], work / "evidence", host, extra=flags, cc="gcc")


def extremes(sample: Array) -> Array:
    """Three inputs (3, ...) like `sample`: the least values, the greatest, and both in turn; of real numbers infinities, NaN and what is beyond any scale."""
    kind = sample.dtype
    if kind.kind == "f":
        values = np.array([-1e30, 1e30, np.nan, -np.inf, np.inf], kind)
    else:
        values = np.array([False, True] if kind.kind == "b" else [np.iinfo(kind).min, np.iinfo(kind).max], kind)
    return np.stack([np.full(sample.shape, values[0]), np.full(sample.shape, values[1]), np.resize(values, sample.shape)])


def execute(subject: Subject, command: Sequence[str | Path], work: Path) -> str:
    """Run it to its end; what it wrote to the standard error.

    Raises: VerifyFailed if it says that the library did not do as asked.
    """
    done = run(command, work)
    if done.returncode != 0:
        raise VerifyFailed(f"{subject.name} on the host: {' '.join(map(str, command))[-60:]} ended with {done.returncode}: {done.stderr[-300:].strip()}")
    return done.stderr


def misuse(subject: Subject) -> str:
    """model_misuse(arena): calls that the library must refuse; how many it did not."""
    name, upper = subject.name, subject.name.upper()
    sink = ", model_refuse, &model_nobody" if subject.manifest.get("hands_out") else ""
    calls = {
        "whole": [f"run({{0}}{sink})"],
        "steps": ["begin({0})", f"step({{0}}, 1u{sink})"],
        "stream": ["begin({0})", f"push_rows({{0}}, NULL, 0u{sink})", f"finish({{0}}{sink})"],
    }
    runs = str(subject.manifest.get("runs", "whole"))
    lines = []
    for call in calls[runs]:
        for arena in ("NULL", "(void *)((char *)arena + 1)"):
            lines.append(f"  wrong += {name}_{call.format(arena)} != {upper}_ERROR_ARENA;")
    if runs == "steps":
        lines += [
            f"  wrong += {name}_step(arena, 1u{sink}) != {upper}_ERROR_ORDER;",
            f"  for (int left = {name}_begin(arena); left > 0; left = {name}_step(arena, 3u{sink})) {{",
            "  }",
        ]
    if runs == "stream":
        lines += [
            f"  wrong += {name}_push_rows(arena, (const void *)model_rows, 1u{sink}) != {upper}_ERROR_ORDER;",
            f"  wrong += {name}_finish(arena{sink}) != {upper}_ERROR_ORDER;",
            f"  (void){name}_begin(arena);",
            f"  wrong += {name}_push_rows(arena, NULL, 1u{sink}) != {upper}_ERROR_ORDER;",
            f"  wrong += {name}_push_rows(arena, (const void *)model_rows, {upper}_INPUT_0_ROWS + 1u{sink}) != {upper}_ERROR_ROWS;",
            f"  wrong += {name}_finish(arena{sink}) != {upper}_ERROR_ROWS;",
        ]
    before = []
    if sink:
        before = [handed_out_refusal(subject.manifest)]
        lines += _refusals(subject, runs)
    return "\n".join([*before, "static inline int model_misuse(void *arena) {", "  int wrong = 0;", *lines, "  return wrong;", "}", ""])


def _refusals(subject: Subject, runs: str) -> list[str]:
    """Runs without a function that takes rows of output, and with one that refuses those of one output."""
    name, upper = subject.name, subject.name.upper()
    none, refuse = ", NULL, NULL", ", model_refuse, &output"
    push = f"{name}_push_rows(arena, (const void *)model_rows, {upper}_INPUT_0_ROWS"
    lines = [f"  for (unsigned output = 0; output < {len(subject.manifest['outputs'])}u; ++output) {{"]
    if runs == "whole":
        lines += [f"    wrong += {name}_run(arena{none}) != {upper}_ERROR_OUTPUT;", f"    wrong += {name}_run(arena{refuse}) != {upper}_ERROR_OUTPUT;"]
    if runs == "steps":
        lines += [f"    wrong += {name}_begin(arena) <= 0 || {name}_step(arena, 1u{none}) != {upper}_ERROR_OUTPUT;"]
        lines += [f"    wrong += {name}_step(arena, 0xFFFFFFFFu{refuse}) != {upper}_ERROR_OUTPUT;"]
    if runs == "stream":
        lines += [
            f"    wrong += {name}_begin(arena) <= 0 || {push}{none}) != {upper}_ERROR_OUTPUT;",
            f"    int error = {push}{refuse});",
            f"    wrong += (error < 0 ? error : {name}_finish(arena{refuse})) != {upper}_ERROR_OUTPUT;",
            f"    (void){name}_begin(arena);",
            f"    if ({push}, model_refuse, &model_nobody) == 0) {{",
            f"      wrong += {name}_finish(arena{none}) != {upper}_ERROR_OUTPUT;",
            "    }",
        ]
    return [*lines, "  }"]


def helpers(subject: Subject) -> str:
    """model_helpers(): every conversion of the header, over its whole range, ties, infinities and NaN included."""
    header = (subject.source / f"{subject.name}.h").read_text("utf-8")
    lines = []
    for i in range(len(subject.manifest["inputs"])):
        if f"{subject.name}_quantize_input_{i}(" in header:
            scale = f"{subject.name.upper()}_INPUT_{i}_SCALE"
            lines.append(f"  for (int i = -300; i <= 300; ++i) {{\n    sum += (float){subject.name}_quantize_input_{i}((float)i * {scale} * 0.5f);\n  }}")
            lines += [f"  sum += (float){subject.name}_quantize_input_{i}({value});" for value in ("NAN", "INFINITY", "-INFINITY")]
    for i, port in enumerate(subject.manifest["outputs"]):
        if f"{subject.name}_dequantize_output_{i}(" in header:
            lines.append(f"  sum += {subject.name}_dequantize_output_{i}({c_integer(int(port['zero_point'] or 0), 32)});")
    return "\n".join(["#include <math.h>", "static inline float model_helpers(void) {", "  float sum = 0.0f;", *lines, "  return sum;", "}", ""])
