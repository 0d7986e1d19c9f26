# SPDX-License-Identifier: Apache-2.0
"""Estimated cycles beside published ones, for code that can be rebuilt and whose cycles were measured on boards, to bench/results/published.csv.

    git clone https://github.com/jnk0le/cortexm-AES; python bench/published.py cortexm-AES

bench/data/published.csv lists the figures: one AES-128 block in assembly, written for each core. What a block takes depends neither on its data nor on the
tables, so those are zeros here. A source whose code is not as long as the published one's is of another version and is left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from executed import executed
from figures import HERE, RESULTS, read_rows, write_rows

from midge.errors import MidgeError
from midge.targets import Target, get_target
from midge.toolchain import compile_objects, find_tool, function_sizes

DATA, MEASURED_CSV = HERE / "data" / "published.csv", RESULTS / "published.csv"
KEY_BYTES, BLOCK_BYTES, ROUNDS = 176, 16, 10

HEADER = f"""\
#ifndef NET_H
#define NET_H
#include <stdint.h>
#define NET_ARENA_BYTES {KEY_BYTES + 2 * BLOCK_BYTES}u
int net_run(void *arena);
static inline int8_t *net_input_0(void *arena) {{ return (int8_t *)arena + {KEY_BYTES}; }}
static inline const int8_t *net_output_0(const void *arena) {{ return (const int8_t *)arena + {KEY_BYTES + BLOCK_BYTES}; }}
#endif
"""
WRAPPER = """\
#include "net.h"
const uint32_t AES_Te2[256] = {{0}};
const uint32_t AES_sbox[64] = {{0}};
__asm__(".pushsection .text.{symbol}, \\"ax\\"\\n.include \\"{code}\\"\\n.ltorg\\n.size {symbol}, . - {symbol}\\n.popsection");
void {symbol}(const void *key, const void *in, void *out, uint32_t rounds);
int net_run(void *arena) {{
  {symbol}(arena, net_input_0(arena), (int8_t *)arena + {output}, {rounds});
  return 0;
}}
"""
MANIFEST = {"name": "net", "arena_bytes": KEY_BYTES + 2 * BLOCK_BYTES, "arena_align": 8, "layers": []}


@dataclass(frozen=True)
class Published:
    """A line of bench/data/published.csv. code: a file of the repository that `source` names, at `version`; nbytes: its size; cycles: on `board`."""

    target: str
    code: str
    version: str
    nbytes: int
    cycles: int
    board: str
    source: str


@dataclass(frozen=True)
class Compared:
    """What a published figure is to what is estimated for the same code."""

    target: str
    code: str
    board: str
    cycles: int
    instructions: int
    estimated_cycles: int

    @property
    def text(self) -> str:
        """'AES-128 block (CM3_1T) on STM32F4: 600 estimated, 626 measured (-4.2 %)'."""
        error = self.estimated_cycles / self.cycles - 1
        return f"{self.code} on {self.board}: {self.estimated_cycles:,} cycles estimated, {self.cycles:,} measured ({error:+.1%})"


def compare(row: Published, checkout: Path) -> Compared:
    """Assemble, run and count.

    Raises: MidgeError if the code is not the published one.
    """
    target, symbol = get_target(row.target), Path(row.code).stem
    with TemporaryDirectory(prefix="midge-published-") as folder:
        directory = Path(folder) / "net"
        write_wrapper(checkout / row.code, symbol, directory, target)
        objects = compile_objects([directory / "src" / "net.c"], Path(folder), target)
        nbytes = function_sizes(objects[0])[symbol]
        if nbytes - row.nbytes not in range(4):  # words behind it are aligned
            raise MidgeError(f"{row.code}: {nbytes} bytes of code, the published figure is of {row.nbytes} (version {row.version})")
        cost = executed(directory, row.target, [np.zeros((1, BLOCK_BYTES), np.int8)]).total
    return Compared(row.target, f"AES-128 block ({symbol.removesuffix('_AES_encrypt')})", row.board, row.cycles, cost.instructions, cost.cycles)


def write_wrapper(source: Path, symbol: str, directory: Path, target: Target) -> None:
    """The assembly and around it what makes it a library the test firmware can run."""
    (directory / "src").mkdir(parents=True)
    code = directory / "code.s"
    subprocess.run([find_tool(f"{target.prefix}gcc"), *target.flags, "-E", "-P", str(source), "-o", str(code)], check=True, timeout=100)
    (directory / "src" / "net.h").write_text(HEADER, "utf-8")
    (directory / "src" / "net.c").write_text(WRAPPER.format(symbol=symbol, code=code, output=KEY_BYTES + BLOCK_BYTES, rounds=ROUNDS), "utf-8")
    ports = {"inputs": [{"nbytes": BLOCK_BYTES}], "outputs": [{"nbytes": BLOCK_BYTES}]}
    (directory / "manifest.json").write_text(json.dumps(MANIFEST | ports), "utf-8")


def compared_lines(target: str) -> list[str]:
    """Lines that say how far estimates of a target were from published cycles."""
    return [row.text for row in read_rows(MEASURED_CSV, Compared) if row.target == target]


def main(checkout: Path) -> int:
    rows = []
    for row in read_rows(DATA, Published):
        try:
            rows.append(compare(row, checkout))
        except (MidgeError, OSError, subprocess.CalledProcessError) as error:
            print(f"{row.target} {row.code}: {error}", file=sys.stderr)
            return 1
        print(f"{row.target}: {rows[-1].text}")
    write_rows(MEASURED_CSV, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
