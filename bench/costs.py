# SPDX-License-Identifier: Apache-2.0
"""Make the tables of costs that midge ships: every kernel on every layer of the models given, and the bytes of every kernel's code.

    python bench/costs.py --target cortex-m4 MODEL.onnx[=CALIBRATION.npz] ...

Rows of a table that is there are kept unless --fresh is given; counts are instructions under QEMU.
"""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

from midge.kernels import SOURCES

from midge import api
from midge.costs import Costs, read
from midge.run.tune import code_sizes
from midge.targets import get_target

TABLES = Path(__file__).resolve().parent.parent / "compiler" / "midge" / "costs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--fresh", action="store_true", help="measure every shape again")
    parser.add_argument("models", nargs="+", metavar="MODEL[=CALIBRATION]")
    arguments = parser.parse_args()
    path = TABLES / f"{arguments.target}.csv"
    if arguments.fresh:
        path.unlink(missing_ok=True)
    costs = Costs()
    for kernel, shape, count in read(path.read_text("utf-8"), path.name) if path.is_file() else []:
        costs.add(kernel, shape, count)
    for entry in arguments.models:
        model, _, calibration = entry.partition("=")
        for keep in (False, True):
            path.write_text(costs.text(), "utf-8")
            found = api.tune(model, target=arguments.target, costs=path, keep_dead_channels=keep, calibration=calibration or None)
            for kernel, shapes in found.rows.items():
                for shape, count in shapes.items():
                    costs.add(kernel, shape, count)
        print(f"{Path(model).name}: {sum(map(len, costs.rows.values()))} rows")
    path.write_text(costs.text(), "utf-8")
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["symbol", "nbytes"])
    rows.writerows(sorted(code_sizes(SOURCES, get_target(arguments.target)).items()))
    (TABLES / f"code-{arguments.target}.csv").write_text(out.getvalue(), "utf-8")


if __name__ == "__main__":
    main()
