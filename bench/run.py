# SPDX-License-Identifier: Apache-2.0
"""What compiled models cost on emulated cores, beside what others need for them.

    python bench/run.py [--target CORE ...] [--check] [--layers] [MODEL.onnx[=CALIBRATION] ...]

Without models: the example network, and those of the model collection if it lies beside the checkout. The figures go to bench/results/*.csv, where a
change shows as a difference; --check writes nothing, lists what differs from there, and exits with 1 if instructions grew by more than 1 % or outputs are
not exact any more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from figures import BASELINES, RESULTS, Figure, changed_rows, merge_rows, read_figures, read_rows, write_rows
from measure import LayerRow, ModelRow, Source, example_source, measure_model

from midge.costs.cores import core_of, error_of
from midge.errors import MidgeError
from midge.report.tables import make_console, make_table

COLLECTION = Path(__file__).resolve().parents[2] / "shared"
MLPERF_TINY = ("kws_ref_model", "vww_96", "pretrainedResnet", "ad01", "str_ww_ref_model")
TARGETS = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "cortex-m3", "cortex-m0plus")
TFLM = "TFLM + CMSIS-NN"
ALLOWED_GROWTH = 0.01
QUANTITIES = ("instructions", "estimated cycles", "cycles", "RAM bytes", "code bytes")
MODELS_CSV, LAYERS_CSV, PEERS_CSV = (RESULTS / f"{name}.csv" for name in ("models", "layers", "peers"))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure what compiled models cost, beside others.")
    parser.add_argument("models", nargs="*", metavar="MODEL.onnx[=CALIBRATION]", help="by default the example network and the models of MLPerf Tiny")
    parser.add_argument("--target", action="append", metavar="CORE", help=f"a core, may be repeated; by default {', '.join(TARGETS)}")
    parser.add_argument("--check", action="store_true", help="compare with bench/results instead of writing there")
    parser.add_argument("--layers", action="store_true", help="print a table for each model's layers, too")
    options = parser.parse_args(arguments)
    targets, sources = options.target or TARGETS, list(find_sources(options.models))
    failed: list[str] = []
    models, layers = measure_all(sources, targets, failed)
    for target in targets:
        print_models(target, [row for row in models if row.target == target])
        if options.layers:
            print_layers([row for row in layers if row.target == target])
        print_peers(target, [row for row in models if row.target == target])
    for line in failed:
        print(line, file=sys.stderr)
    if options.check:
        return 1 if check(models, layers) or failed else 0
    if not options.models:  # results/ holds the models that everybody has
        write_rows(MODELS_CSV, merge_rows(read_rows(MODELS_CSV, ModelRow), models))
        write_rows(LAYERS_CSV, merge_rows(read_rows(LAYERS_CSV, LayerRow), layers))
    return 1 if failed else 0


def find_sources(named: Iterable[str]) -> Iterator[Source]:
    """The models to measure."""
    for argument in named:
        path, _, data = argument.partition("=")
        yield Source(Path(path), data or None)
    if not named:
        yield example_source()
        for name in MLPERF_TINY:
            model, golden = COLLECTION / "models" / "mlperf_tiny" / f"{name}_int8_qdq.onnx", COLLECTION / "golden" / f"{name}.npz"
            if model.is_file():
                yield Source(model, None, name, golden if golden.is_file() else None)


def measure_all(sources: Sequence[Source], targets: Sequence[str], failed: list[str]) -> tuple[list[ModelRow], list[LayerRow]]:
    """Rows of every model on every target, in that order; what does not work goes to `failed`."""
    models: list[ModelRow] = []
    layers: list[LayerRow] = []
    with ThreadPoolExecutor(2) as executor:
        jobs = [(source, target, executor.submit(measure_model, source, target)) for source in sources for target in targets]
        for source, target, job in jobs:
            try:
                found = job.result()
            except MidgeError as error:
                failed.append(f"{source.name} on {target}: {error}")
                continue
            models += found[0]
            layers += found[1]
    return models, layers


def tflm_instructions(figures: Iterable[Figure]) -> dict[tuple[str, str, str], int]:
    """(target, model, flags) -> instructions of TFLM; flags '' is its fastest build."""
    found = {}
    for figure in figures:
        if figure.peer == TFLM and figure.quantity == "instructions":
            key = figure.flags if figure.flags == "-Os" else ""
            found[figure.target, figure.model, key] = int(figure.value)
    return found


def print_models(target: str, rows: Sequence[ModelRow]) -> None:
    """One line for each level of optimization."""
    if not rows:
        return
    tflm = tflm_instructions(read_figures(BASELINES))
    columns = ("model", "optimize", "flags", "MACs", "instructions", "TFLM / midge", "estimated cycles", "arena", "stack", "code", "weights", "flash", "exact")
    lines = []
    for row in rows:
        peer = tflm.get((target, row.model, "-Os" if row.flags == "-Os" else ""), tflm.get((target, row.model, "")))
        ratio = f"{peer / row.instructions:.2f}" if peer else ""
        figures = (row.macs, row.instructions, ratio, row.estimated_cycles, row.arena, row.stack, row.code, row.weights, row.flash)
        lines.append((row.model, row.optimize, row.flags, *figures, row.exact))
    print_wide(make_wide(f"{target}: one run, instructions under QEMU; bytes", columns, lines))
    print(f"estimated cycles, not measured: {core_of(target).assumptions} ({core_of(target).source})")
    print(f"their error: {error_of(target)}\n")


def print_layers(rows: Sequence[LayerRow]) -> None:
    """One table for each model and level."""
    for model, optimize in dict.fromkeys((row.model, row.optimize) for row in rows):
        chosen = [row for row in rows if (row.model, row.optimize) == (model, optimize)]
        lines = [(r.layer, r.text, r.kernels, r.macs, r.instructions, f"{r.instructions / r.macs:.2f}" if r.macs else "", r.estimated_cycles) for r in chosen]
        columns = ("#", "layer", "kernels", "MACs", "instructions", "per MAC", "estimated cycles")
        print_wide(make_wide(f"{model} on {chosen[0].target}, {optimize}", columns, lines))


def print_peers(target: str, rows: Sequence[ModelRow]) -> None:
    """What is known of others on a core, by model, below midge at each level. Published cycles are measurements of boards, estimated ones are not."""
    figures = [f for f in (*read_figures(BASELINES), *read_figures(PEERS_CSV)) if f.target == target]
    lines: list[tuple[object, ...]] = []
    if {figure.peer for figure in figures} <= {TFLM}:
        return  # the table of the models has it all
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        fewest = min(row.instructions for row in own)
        for r in own:
            counts = (r.instructions, f"{r.instructions / fewest:.2f}", r.estimated_cycles, None)
            lines.append((model, f"midge, {r.optimize}", r.flags, *counts, r.arena + r.stack, r.code, r.exact))
        for peer, flags in dict.fromkeys((f.peer, f.flags) for f in figures if f.model == model and f.quantity in ("instructions", "cycles", "failed")):
            known = {f.quantity: f.value for f in figures if (f.model, f.peer, f.flags) == (model, peer, flags)}
            count, estimated, cycles, ram, code = (int(known[name]) if name in known else None for name in QUANTITIES)
            ratio = f"{count / fewest:.2f}" if count else ""
            lines.append((model, peer, flags, count, ratio, estimated, cycles, ram, code, known.get("exact", known.get("failed"))))
    if lines:
        columns = ("model", "by", "flags", "instructions", "x fewest", "estimated cycles", "board cycles", "RAM", "code", "exact")
        print_wide(make_wide(f"{target}: others (bench/data/baselines.csv, bench/results/peers.csv)", columns, lines))


def make_wide(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> object:
    """A table whose figures are flush right."""
    table = make_table(title, columns, rows)
    for column in table.columns:
        column.no_wrap = True
        if str(column.header) not in ("model", "optimize", "flags", "layer", "kernels", "by", "exact"):
            column.justify = "right"
    return table


def print_wide(table: object) -> None:
    console = make_console()
    console.width = max(console.width, 200)
    console.print(table)


def check(models: Sequence[ModelRow], layers: Sequence[LayerRow]) -> bool:
    """List what differs from the committed results; whether it got worse."""
    worse = False
    for before, after in changed_rows(read_rows(MODELS_CSV, ModelRow), models):
        print(f"{after.target} {after.model} {after.optimize}: {differences(before, after)}")
        worse |= before is not None and (after.instructions > before.instructions * (1 + ALLOWED_GROWTH) or (after.exact == "no" != before.exact))
    for old, new in changed_rows(read_rows(LAYERS_CSV, LayerRow), layers):
        print(f"{new.target} {new.model} {new.optimize} layer {new.layer}: {differences(old, new)}")
    return worse


def differences(before: object | None, after: object) -> str:
    """'instructions 200 -> 100 (-50.0 %), ...'."""
    if before is None:
        return "new"
    return ", ".join(difference(name, old, vars(after)[name]) for name, old in vars(before).items() if old != vars(after)[name])


def difference(name: str, old: object, new: object) -> str:
    if isinstance(old, int) and isinstance(new, int):
        return f"{name} {old:,} -> {new:,}" + (f" ({new / old - 1:+.1%})" if old else "")
    return f"{name} {old} -> {new}"


if __name__ == "__main__":
    sys.exit(main())
