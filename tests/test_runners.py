# SPDX-License-Identifier: Apache-2.0
"""The runners on a hand-written library of two layers: outputs, traces, counts and stack are known, and so is every way to fail."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from midge.errors import IRError, ToolMissing, Unsupported, UsageError, VerifyFailed
from midge.run.firmware import Model, RunResult, adapter_header, pack_inputs
from midge.run.host import run_host
from midge.run.qemu import image_sizes, run_qemu, undefined_symbols
from midge.targets import TARGETS, get_board, get_target
from midge.toolchain import find_tool, runtime_dir

needs_arm = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None,
    reason="needs arm-none-eabi-gcc and qemu-system-arm",
)
BOARD_TARGETS = ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "cortex-m85")
LOOPS = 1_000_000
STACK = 512
WEIGHTS = np.array([1, 2, 3, 4, -1, -2, -3, -4], np.int8)

HEADER = """\
#ifndef TINY_H
#define TINY_H
#include <stdint.h>
#define TINY_ARENA_BYTES 24u
#define TINY_ARENA_ALIGN 16u
int8_t *tiny_input_0(void *arena);
const int8_t *tiny_output_0(const void *arena);
int tiny_run(void *arena);
#endif
"""

# Layer 0 adds 1 in two blocks of four bytes, the second block first; layer 1 multiplies by a table, then runs a loop of LOOPS times three instructions.
SOURCE = """\
#include "tiny.h"
#ifndef MIDGE_HOOK_BEGIN
#define MIDGE_HOOK_BEGIN(layer)
#define MIDGE_HOOK_END(layer, row, ptr, nbytes)
#endif
extern const int8_t tiny_weights[8];
const int8_t tiny_weights[8] = {1, 2, 3, 4, -1, -2, -3, -4};
static void spin(uint32_t n) {
#if defined(__arm__)
    __asm__ volatile(".syntax unified\\n 1: subs %0, %0, #1\\n nop\\n bne 1b" : "+l"(n) : : "cc");
#else
    (void)n;
#endif
}
int8_t *tiny_input_0(void *arena) { return (int8_t *)arena; }
const int8_t *tiny_output_0(const void *arena) { return (const int8_t *)arena + 16; }
int tiny_run(void *arena) {
    int8_t *a = arena;
    for (int block = 1; block >= 0; block--) {
        MIDGE_HOOK_BEGIN(0);
        for (int i = 4 * block; i < 4 * block + 4; i++) a[8 + i] = (int8_t)(a[i] + 1);
        MIDGE_HOOK_END(0, block, a + 8 + 4 * block, 4);
    }
    MIDGE_HOOK_BEGIN(1);
    for (int i = 0; i < 8; i++) a[16 + i] = (int8_t)(a[8 + i] * tiny_weights[i]);
    spin(LOOPS);
    MIDGE_HOOK_END(1, 0, a + 16, 8);
    EXTRA
    return 0;
}
"""
UNDEFINED_INSTRUCTION = '__asm__ volatile(".short 0xde00");'
WRITE_PAST_END = "((volatile int8_t *)a)[24] = 1;"
WRITE_BEFORE = "((volatile int8_t *)a)[-3] = 1;"
USE_STACK = f"volatile uint8_t big[{STACK}]; for (int i = 0; i < {STACK}; i++) big[i] = 1;"
MUCH_STACK = "volatile uint8_t big[100000]; for (int i = 99999; i >= 0; i--) big[i] = 1;"


def write_library(folder: Path, extra: str = "", loops: int = 10) -> Path:
    """Write the library; `extra` is C that runs before tiny_run returns."""
    tensor = {"name": "t", "nbytes": 8, "dtype": "s8", "shape": [1, 8], "scale": 1.0, "zero_point": 0}
    layers = [{"index": 0, "name": "add", "nbytes": 8}, {"index": 1, "name": "mul", "nbytes": 8}]
    manifest = {"name": "tiny", "arena_bytes": 24, "arena_align": 16, "inputs": [tensor], "outputs": [tensor], "layers": layers}
    (folder / "src").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "src" / "tiny.h").write_text(HEADER)
    (folder / "src" / "tiny.c").write_text(SOURCE.replace("EXTRA", extra).replace("LOOPS", f"{loops}u"))
    return folder


def samples(count: int = 3) -> NDArray[np.int8]:
    return np.random.default_rng(1).integers(-30, 30, (count, 8)).astype(np.int8)


def check_outputs(result: RunResult, x: NDArray[np.int8]) -> None:
    assert len(result.outputs) == 1
    assert np.array_equal(result.outputs[0].view(np.int8), (x + np.int8(1)) * WEIGHTS)


def check_trace(result: RunResult, x: NDArray[np.int8]) -> None:
    layers = (x + np.int8(1), (x + np.int8(1)) * WEIGHTS)
    assert result.layers == {(n, layer): layers[layer][n].tobytes() for n in range(len(x)) for layer in (0, 1)}


@pytest.mark.parametrize("sanitize", [False, True])
def test_host_outputs_and_trace(tmp_path: Path, sanitize: bool) -> None:
    x = samples()
    result = run_host(write_library(tmp_path), [x], trace=True, sanitize=sanitize)
    check_outputs(result, x)
    check_trace(result, x)
    assert result.instructions is None
    assert result.stack_bytes is None


def test_host_without_trace_has_no_layers(tmp_path: Path) -> None:
    result = run_host(write_library(tmp_path), [samples(1)])
    check_outputs(result, samples(1))
    assert result.layers is None


@pytest.mark.parametrize(
    ("extra", "sanitize", "message"),
    [
        (WRITE_PAST_END, False, r"sample 0: tiny_run wrote past the end of its arena \(24 bytes\)"),
        (WRITE_BEFORE, False, "wrote before the start of its arena"),
        (WRITE_PAST_END, True, "AddressSanitizer"),
        ("(void)((volatile int8_t *)a)[24];", True, "AddressSanitizer"),
        ("return a[0] / 0 + 0x7fffffff;", True, "runtime error"),
        ("return -3;", False, "tiny_run returned -3"),
        ("*(volatile int *)16 = 1;", False, "SIGSEGV"),
    ],
)
def test_host_failures_name_the_cause(tmp_path: Path, extra: str, sanitize: bool, message: str) -> None:
    with pytest.raises(VerifyFailed, match=message):
        run_host(write_library(tmp_path, extra), [samples(1)], sanitize=sanitize)


def test_refused_source_is_our_bug(tmp_path: Path) -> None:
    with pytest.raises(IRError, match=r"refused tiny\.c"):
        run_host(write_library(tmp_path, "this is not C;"), [samples(1)])


def test_wrong_inputs_are_usage_errors() -> None:
    model = Model("tiny", 24, (8, 4), (8,), {0: "add"})
    with pytest.raises(UsageError, match="got 1 input arrays, the model has 2"):
        pack_inputs(model, [samples()])
    with pytest.raises(UsageError, match="input 1 is int8"):
        pack_inputs(model, [samples(), samples()])
    assert pack_inputs(model, [np.ones((2, 8), np.int8), np.full((2, 1), 2.0, np.float32)])[8:12] == np.float32(2).tobytes()


def test_header_serves_several_inputs_and_outputs() -> None:
    text = adapter_header(
        {
            "name": "kws",
            "arena_bytes": 8,
            "arena_align": 4,
            "inputs": [{"nbytes": 3}, {"nbytes": 5}],
            "outputs": [{"nbytes": 7}],
            "layers": [{"index": 4, "name": "last"}],
        }
    )
    for part in ("kws_input_1(arena)", "return 5u;", "kws_output_0(arena)", "#define MODEL_LAYER_COUNT 5u", "#define MODEL_ARENA_ALIGN 4u"):
        assert part in text


@needs_arm
@pytest.mark.parametrize("name", BOARD_TARGETS)
def test_board_counts_instructions_and_stack(tmp_path: Path, name: str) -> None:
    x = samples()
    short = run_qemu(write_library(tmp_path / "short"), name, [x])
    check_outputs(short, x)
    result = run_qemu(write_library(tmp_path / "long", USE_STACK, LOOPS), name, [x[:1]])
    assert short.instructions is not None
    assert result.instructions is not None
    bound = LOOPS * 3 * 1e-4 + 40
    assert 30 < short.instructions < 300
    # The stores to the stack and the loop around them take between 3 and 6 instructions each.
    assert LOOPS * 3 + STACK * 2 < result.instructions < LOOPS * 3 + STACK * 8 + bound
    assert short.stack_bytes is not None
    assert result.stack_bytes is not None
    assert 0 <= short.stack_bytes < 64
    assert STACK <= result.stack_bytes < STACK + 64
    assert short.sizes is not None
    assert short.sizes.rodata == 8
    assert short.sizes.text > 40


@needs_arm
@pytest.mark.parametrize("name", BOARD_TARGETS)
def test_board_calibration(tmp_path: Path, name: str) -> None:
    plain = run_qemu(write_library(tmp_path, loops=LOOPS), name, [samples(1)])
    assert plain.instructions is not None
    assert abs(plain.instructions - 3 * LOOPS - 120) < 3 * LOOPS * 1e-4 + 40
    profile = run_qemu(tmp_path, name, [samples(2)], profile=True).layer_instructions
    assert profile is not None
    assert set(profile) == {0, 1}
    assert 10 < profile[0] < 120
    assert abs(profile[1] - 3 * LOOPS - 50) < 3 * LOOPS * 1e-4 + 40


@needs_arm
@pytest.mark.parametrize("name", ["cortex-m0", "cortex-m4", "cortex-m55"])
def test_board_trace(tmp_path: Path, name: str) -> None:
    x = samples()
    result = run_qemu(write_library(tmp_path), name, [x], trace=True)
    check_outputs(result, x)
    check_trace(result, x)


@needs_arm
@pytest.mark.parametrize("name", ["cortex-m0", "cortex-m4", "cortex-m33", "cortex-m55"])
@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (UNDEFINED_INSTRUCTION, "(HardFault|UsageFault) at pc 0x[0-9a-f]+ in tiny_run"),
        (WRITE_PAST_END, "wrote past the end of its arena"),
        (MUCH_STACK, "stack|emulator stopped"),
    ],
)
def test_board_failures_name_the_cause(tmp_path: Path, name: str, extra: str, message: str) -> None:
    with pytest.raises(VerifyFailed, match=f"tiny on {name} .*{message}"):
        run_qemu(write_library(tmp_path, extra), name, [samples(1)], seconds=20)


@needs_arm
def test_board_failures_of_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(VerifyFailed, match="did not end within 1 seconds"):
        run_qemu(write_library(tmp_path / "forever", "for (volatile int i = 1; i;) {}"), "cortex-m4", [samples(1)], seconds=1)
    with pytest.raises(VerifyFailed, match="returned -3"):
        run_qemu(write_library(tmp_path / "code", "return -3;"), "cortex-m4", [samples(1)])
    with pytest.raises(UsageError, match="exclude each other"):
        run_qemu(tmp_path / "code", "cortex-m4", [samples(1)], trace=True, profile=True)


@needs_arm
def test_image_too_large_for_the_board(tmp_path: Path) -> None:
    extra = "static const volatile int8_t big[3 << 20] = {1}; a[0] = big[a[1]];"
    with pytest.raises(Unsupported, match="does not fit the board's memories: region `FLASH' overflowed"):
        image_sizes(write_library(tmp_path, extra), "cortex-m0")


@needs_arm
def test_image_sizes_and_symbols(tmp_path: Path) -> None:
    directory = write_library(tmp_path, "a[0] = (int8_t)(a[1] / a[2]); __builtin_memset(a, a[1], (unsigned)a[3]);")
    for name in BOARD_TARGETS:
        sizes = image_sizes(directory, name)
        assert sizes.weights == 8
        assert 8 <= sizes.rodata <= 16
        assert 200 < sizes.total_flash < 1500
        assert sizes.total_flash == sizes.text + sizes.rodata + sizes.data
        assert 24 <= sizes.bss <= 64
        assert undefined_symbols(directory, name) == {"memset"}


def test_targets() -> None:
    with pytest.raises(UsageError, match="target 'z80': not known; the targets are host, cortex-m0"):
        get_target("z80")
    with pytest.raises(UsageError, match="'riscv32': has no emulated board"):
        get_board(get_target("riscv32"))
    for target in TARGETS.values():
        if target.board is not None:
            script = (runtime_dir() / get_board(target).linker_script).read_text()
            for memory in get_board(target).memories:
                assert f"{memory.name} (r" in script
                assert f"ORIGIN = {memory.origin:#010x}" in script


def test_missing_tool_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ToolMissing, match="apt-get install gcc-arm-none-eabi"):
        find_tool("arm-none-eabi-gcc")
