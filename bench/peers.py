# SPDX-License-Identifier: Apache-2.0
"""Measure emx-onnx-cgen on the same models, compiler, flags and emulator, to bench/results/peers.csv.

    pip install ".[bench]"; python bench/peers.py

It compiles QDQ models to C that computes in float and takes its memory from the heap; what is built around it here is an arena of input and output, a heap
of all the RAM the board has left, and a second output with the most bytes of heap in use. Nothing in midge imports it. Other peers' figures, which need
more than a package, are in bench/data/baselines.csv.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from figures import Figure, merge_rows, read_figures, write_rows
from run import COLLECTION, MLPERF_TINY, PEERS_CSV

from midge.errors import MidgeError
from midge.run.executed import executed
from midge.run.qemu import image_sizes, run_qemu

PEER, PACKAGE, TARGET = "emx-onnx-cgen, QDQ model", "emx-onnx-cgen", "cortex-m4"
FLAGS = ("-O2", "-O3")
HEAP_BYTES = 4_050_000
SECONDS = 600
SOURCE = "measured by bench/peers.py under QEMU; RAM = heap, stack, input and output; code = flash beyond weights"

HEADER = """\
#ifndef NET_H
#define NET_H
#include <stdint.h>
#define NET_ARENA_BYTES {arena}u
int net_run(void *arena);
static inline int8_t *net_input_0(void *arena) {{ return arena; }}
static inline const int8_t *net_output_0(const void *arena) {{ return (const int8_t *)arena + {output}; }}
static inline const uint32_t *net_output_1(const void *arena) {{ return (const uint32_t *)((const int8_t *)arena + {heap}); }}
#endif
"""
WRAPPER = """\
#include "net.h"
#include <stddef.h>
static uint64_t heap[{heap_bytes} / 8];
static uint32_t used, most;
static int failed;
void *_sbrk(ptrdiff_t count);
void *_sbrk(ptrdiff_t count) {{
  if ((ptrdiff_t)used + count > (ptrdiff_t)sizeof heap) {{
    failed = 1;
    return (void *)-1;
  }}
  void *bytes = (int8_t *)heap + used;
  used += (uint32_t)count;
  most = used > most ? used : most;
  return bytes;
}}
void model({parameters});
int net_run(void *arena) {{
  model({arguments});
  *(uint32_t *)((int8_t *)arena + {heap}) = most;
  return failed ? -1 : 0;
}}
"""


def main() -> int:
    try:
        installed = version(PACKAGE)
    except PackageNotFoundError:
        print(f'{PACKAGE}: not installed; pip install "midge[bench]"', file=sys.stderr)
        return 6
    rows = []
    for name in MLPERF_TINY:
        model, golden = COLLECTION / "models" / "mlperf_tiny" / f"{name}_int8_qdq.onnx", COLLECTION / "golden" / f"{name}.npz"
        if not model.is_file() or not golden.is_file():
            print(f"{name}: not in the model collection beside the checkout", file=sys.stderr)
            continue
        for flags in FLAGS:
            found = measure(model, golden, flags)
            rows += [Figure(PEER, installed, TARGET, name, flags, quantity, str(value), SOURCE) for quantity, value in found.items()]
            print(f"{name} {flags}: {', '.join(f'{quantity} {value}' for quantity, value in found.items())}", flush=True)
    write_rows(PEERS_CSV, merge_rows(read_figures(PEERS_CSV), rows))
    return 0


def measure(model: Path, golden: Path, flags: str) -> dict[str, object]:
    """Quantities of one model; {'failed': why} if it cannot be had."""
    data = np.load(golden)
    x, y = data["x"][:1], data["y_ort_qdq"][:1]
    with TemporaryDirectory(prefix="midge-peer-") as folder:
        directory = Path(folder)
        try:
            emit(model, directory, x.nbytes, y.nbytes)
            run = run_qemu(directory, TARGET, [x], opt=flags)
            cost = executed(directory, TARGET, [x], flags)
            sizes = image_sizes(directory, TARGET, flags)
        except subprocess.CalledProcessError as error:
            return {"failed": last_line(error.stderr)}
        except MidgeError as error:
            return {"failed": str(error).splitlines()[0]}
    wrong = np.abs(run.outputs[0].view(np.int8).reshape(-1).astype(int) - y.reshape(-1)).max()
    heap = int(run.outputs[1].view(np.uint32).reshape(-1)[0])
    return {
        "instructions": cost.total.instructions,
        "estimated cycles": cost.total.cycles,
        "RAM bytes": heap + (run.stack_bytes or 0) + x.nbytes + y.nbytes,
        "code bytes": sizes.text,
        "exact": "as onnxruntime" if wrong == 0 else f"within {wrong} of onnxruntime",
    }


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"


def emit(model: Path, directory: Path, input_nbytes: int, output_nbytes: int) -> None:
    """The generated C in `directory`/src, and around it what makes it a library the test firmware can run."""
    source = directory / "src" / "model.c"
    source.parent.mkdir()
    options = ["--model-name", "model", "--large-weight-threshold", "0"]
    command = [sys.executable, "-m", "emx_onnx_cgen", "compile", *options, str(model), str(source)]
    subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
    signature = re.search(r"^void model\((.*)\) \{", source.read_text("utf-8"), re.M)
    assert signature is not None
    parameters = signature[1].split(", ")
    output = -(-input_nbytes // 8) * 8
    heap = output + -(-output_nbytes // 8) * 8
    arguments = ["1"] * sum(p.startswith("int ") for p in parameters) + ["arena", f"(void *)((int8_t *)arena + {output})"]
    plain = ["int"] * (len(arguments) - 2) + ["const void *", "void *"]
    texts = {"arena": heap + 8, "output": output, "heap": heap, "heap_bytes": HEAP_BYTES, "parameters": ", ".join(plain), "arguments": ", ".join(arguments)}
    (directory / "src" / "net.h").write_text(HEADER.format(**texts), "utf-8")
    (directory / "src" / "wrapper.c").write_text(WRAPPER.format(**texts), "utf-8")
    ports = {"inputs": [{"nbytes": input_nbytes}], "outputs": [{"nbytes": output_nbytes}, {"nbytes": 4}]}
    manifest = {"name": "net", "arena_bytes": heap + 8, "arena_align": 8, "layers": [], **ports}
    (directory / "manifest.json").write_text(json.dumps(manifest), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
