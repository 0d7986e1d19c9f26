# SPDX-License-Identifier: Apache-2.0
"""Estimated cycles beside published ones, for code that can be rebuilt, to compiler/midge/costs/published.csv, which midge prints beside its estimates.

    git clone https://github.com/jnk0le/cortexm-AES; python bench/published.py cortexm-AES dhrystone

bench/data/published.csv lists the figures. An AES-128 block in assembly, written for each core and measured on a board: what a block takes depends neither
on its data nor on the tables, so those are zeros here; a source whose code is not as long as the published one's is of another version and is refused. And
Dhrystone 2.1 (a folder with dhry.h, dhry_1.c and dhry_2.c as published in 1988), whose rate per MHz Arm states for each core: two files, no inlining, as its
rules want. There the compiler differs, Arm's own against gcc, so the error is that of both.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from figures import HERE, read_rows, write_rows

from midge.costs.cores import PUBLISHED, Compared
from midge.errors import MidgeError
from midge.run.executed import executed
from midge.targets import Target, get_target
from midge.toolchain import compile_objects, find_tool, function_sizes

DATA = HERE / "data" / "published.csv"
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


VAX_DHRYSTONES = 1757
"""Dhrystones a second of the machine that does one DMIPS."""
FEW, MANY = 100, 300  # rounds whose difference is measured
DHRYSTONE_HEADER = """\
#ifndef NET_H
#define NET_H
#include <stdint.h>
#define NET_ARENA_BYTES 32u
int net_run(void *arena);
static inline int8_t *net_input_0(void *arena) { return (int8_t *)arena; }
static inline const int8_t *net_output_0(const void *arena) { return (const int8_t *)arena + 16; }
#endif
"""
DHRYSTONE_MAIN = """\
#pragma GCC optimize("no-inline")
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "net.h"
static char pool[256];
static int taken;
static char *take(unsigned nbytes) {{
  taken += 64;
  return pool + (taken - 64) % 256 + 0 * nbytes;
}}
static long no_time() {{ return 0; }}
#define TIME
#define time no_time
#define malloc take
#define printf(...) 0
#define scanf(format, count) (*(count) = {rounds})
#define fopen(...) ((FILE *)1)
#define exit(code) 0
#define fprintf(...) 0
#define fclose(file) 0
#define main dhrystone
#include "{source}/dhry_1.c"
int net_run(void *arena) {{
  (void)arena;
  dhrystone();
  return 0;
}}
"""
DHRYSTONE_REST = '#pragma GCC optimize("no-inline")\n#define TIME\n#include <string.h>\n#include "{source}/dhry_2.c"\n'


@dataclass(frozen=True)
class Published:
    """A line of bench/data/published.csv. code: a file of what `source` names, at `version`; nbytes: its size, 0 if that is the compiler's; cycles: of one
    round on `board`."""

    target: str
    code: str
    version: str
    nbytes: int
    cycles: int
    board: str
    source: str


def compare(row: Published, checkout: Path) -> Compared:
    """Build, run and count.

    Raises: MidgeError if the code is not the published one.
    """
    if not row.nbytes:
        few, many = (run_dhrystone(row.target, checkout.resolve(), rounds) for rounds in (FEW, MANY))
        each = [round((more - less) / (MANY - FEW)) for less, more in zip(few, many, strict=True)]
        return Compared(row.target, f"Dhrystone {row.version}", row.board, row.cycles, *each)
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


def run_dhrystone(target: str, source: Path, rounds: int) -> tuple[int, int]:
    """(instructions, estimated cycles) of so many rounds and what is around them."""
    with TemporaryDirectory(prefix="midge-published-") as folder:
        directory = Path(folder) / "net"
        (directory / "src").mkdir(parents=True)
        (directory / "src" / "net.h").write_text(DHRYSTONE_HEADER, "utf-8")
        (directory / "src" / "net.c").write_text(DHRYSTONE_MAIN.format(source=source, rounds=rounds), "utf-8")
        (directory / "src" / "rest.c").write_text(DHRYSTONE_REST.format(source=source), "utf-8")
        ports = {"arena_bytes": 32, "inputs": [{"nbytes": BLOCK_BYTES}], "outputs": [{"nbytes": BLOCK_BYTES}]}
        (directory / "manifest.json").write_text(json.dumps(MANIFEST | ports), "utf-8")
        cost = executed(directory, target, [np.zeros((1, BLOCK_BYTES), np.int8)]).total
    return cost.instructions, cost.cycles


def write_wrapper(source: Path, symbol: str, directory: Path, target: Target) -> None:
    """The assembly and around it what makes it a library the test firmware can run."""
    (directory / "src").mkdir(parents=True)
    code = directory / "code.s"
    subprocess.run([find_tool(f"{target.prefix}gcc"), *target.flags, "-E", "-P", str(source), "-o", str(code)], check=True, timeout=100)
    (directory / "src" / "net.h").write_text(HEADER, "utf-8")
    (directory / "src" / "net.c").write_text(WRAPPER.format(symbol=symbol, code=code, output=KEY_BYTES + BLOCK_BYTES, rounds=ROUNDS), "utf-8")
    ports = {"inputs": [{"nbytes": BLOCK_BYTES}], "outputs": [{"nbytes": BLOCK_BYTES}]}
    (directory / "manifest.json").write_text(json.dumps(MANIFEST | ports), "utf-8")


def main(checkouts: list[Path]) -> int:
    rows = []
    for row in read_rows(DATA, Published):
        try:
            found = [checkout for checkout in checkouts if (checkout / row.code).is_file()]
            if not found:
                raise MidgeError("not in any folder that was named")
            rows.append(compare(row, found[0]))
        except (MidgeError, OSError, subprocess.CalledProcessError) as error:
            print(f"{row.target} {row.code}: {error}", file=sys.stderr)
            return 1
        print(f"{row.target}: {rows[-1].text}")
    write_rows(PUBLISHED, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
