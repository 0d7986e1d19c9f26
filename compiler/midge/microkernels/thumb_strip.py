# SPDX-License-Identifier: Apache-2.0
"""Depthwise inner loops for cores without the DSP extension: a few pixels of one channel, each tap loaded once. Layouts are in kernels/depthwise_thumb.h.

Source: ARM DDI 0403 and DDI 0419, the Armv7-M and Armv6-M Architecture Reference Manuals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midge.ir import Array
from midge.microkernels.gemm import Gemm, int32_words
from midge.microkernels.thumb import THUMB1, THUMB2, Form, constants, widths
from midge.microkernels.thumb_quads import finish1, finish2
from midge.program import Routine

PIXELS, TAPS, WIDE_TAPS, RUN = 6, 22, 64, 3  # MIDGE_STRIP_PIXELS, _TAPS, _WIDE_TAPS, _RUN
HEADER = 6  # words
ACCUMULATORS = ("r8", "r9", "r10", "r11", "r12", "lr")


@dataclass(frozen=True)
class Strip:
    """A window (height, width) at `stride`, computed for `pixels` neighbours at once."""

    height: int
    width: int
    stride: int
    pixels: int

    @property
    def runs(self) -> list[int]:
        """Taps of each run."""
        return [min(RUN, self.width - first) for first in range(0, self.width, RUN)] * self.height

    @property
    def taps(self) -> int:
        """Columns of all runs."""
        return sum((self.pixels - 1) * self.stride + run for run in self.runs)

    @property
    def record(self) -> int:
        """Bytes of weights of a channel, padded."""
        return -(-self.height * self.width // 4) * 4


def strip_stream(gemm: Gemm, strip: Strip, form: Form, numerics: str) -> Array:
    """The int32 words that a routine walks, header included."""
    weights = np.zeros((len(gemm.weights), strip.record), np.int8)
    weights[:, : gemm.weights.shape[1]] = gemm.weights
    words, bias = weights.view(np.int32), int32_words(gemm.bias)[:, None]
    requantize = constants(gemm, form, numerics)
    records = [bias, words, requantize] if form is THUMB2 else [bias, requantize, words]
    header = [len(weights), strip.pixels, strip.stride, strip.height, strip.width, len(widths(gemm)) if form is THUMB1 else 0]
    return np.concatenate([np.array(header, np.int32), np.concatenate(records, 1).reshape(-1)])


def strip_routine(strip: Strip, form: Form, split: tuple[int, ...], relu: bool, numerics: str) -> Routine:
    """The routine of a strip; see quads_routine."""
    twice = numerics == "tflite"
    kind = "t1" if form is THUMB1 else "t2"
    lines = _thumb1(strip, split, twice and not relu) if form is THUMB1 else _thumb2(strip, twice, twice and not relu)
    size = f"{strip.height}x{strip.width}_{strip.stride}_{strip.pixels}" + (f"_{len(split)}" if form is THUMB1 else "")
    symbol = f"midge_depthwise_{kind}_{size}" + ("_tflite" if twice else "") + ("_relu" if twice and relu else "")
    twin = f"midge_depthwise_{kind}_s8" + ("_tflite" if twice else "")
    return Routine(symbol, twin, "depthwise_thumb", tuple(lines), 48, form.feature)


def _uses(strip: Strip, run: int) -> list[list[tuple[int, int]]]:
    """For each column of a run, the (pixel, tap) pairs that it is multiplied for."""
    found: list[list[tuple[int, int]]] = [[] for _ in range((strip.pixels - 1) * strip.stride + run)]
    for pixel in range(strip.pixels):
        for tap in range(run):
            found[pixel * strip.stride + tap].append((pixel, tap))
    return found


def _thumb2(strip: Strip, twice: bool, corrects: bool) -> list[str]:
    """r0 walks the taps, r1 the stream, r2 is the channel, r3, r4 taps, r5-r7 weights. Frame: number of channels, taps, outputs."""
    accumulators = ACCUMULATORS[: strip.pixels]
    lines = ["push {r4-r11, lr}", "sub sp, #12", "strd r0, r2, [sp, #4]", "ldr r3, [r1], #24", "str r3, [sp]", "movs r2, #0"]
    lines += ["1:", "ldr r8, [r1], #4", *(f"mov {acc}, r8" for acc in accumulators[1:]), "ldr r0, [sp, #4]"]
    spare = 1 + strip.record - strip.height * strip.width
    for index, run in enumerate(strip.runs):
        for tap in range(run):
            last = index + 1 == len(strip.runs) and tap + 1 == run
            lines.append(f"ldrsb r{5 + tap}, [r1], #{spare if last else 1}")
        uses = _uses(strip, run)
        for column in range(0, len(uses), 2):
            pair = uses[column : column + 2]
            lines.append("ldmia r0!, {r3, r4}" if len(pair) == 2 else "ldr r3, [r0], #4")
            for register, found in zip(("r3", "r4"), pair, strict=False):
                lines += [f"ldrsb {register}, [{register}, r2]"] if found else []
                lines += [f"mla {accumulators[pixel]}, {register}, r{5 + tap}, {accumulators[pixel]}" for pixel, tap in found]
    lines += ["ldr r0, [sp, #8]", "ldmia r1!, {r5-r7}"]
    for pixel, acc in enumerate(accumulators):
        store = [f"ldr {acc}, [r0, #{4 * pixel}]", f"strb r4, [{acc}, r2]"]
        lines += finish2(acc, ("r5", "r6", "r7"), ("r3", "r4"), twice, corrects, store)
    return [*lines, "ldr r3, [sp]", "adds r2, #1", "cmp r2, r3", "bne.w 1b", "add sp, #12", "pop {r4-r11, pc}"]


def _thumb1(strip: Strip, split: tuple[int, ...], corrects: bool) -> list[str]:
    """r0 walks the taps, r1 the stream, r2 is the channel, r3 a tap, r4 a product, r5-r7 weights. Frame: taps, number of channels, outputs."""
    accumulators = ACCUMULATORS[: strip.pixels]
    lines = ["push {r4-r7, lr}", *(f"mov r{4 + i}, r{8 + i}" for i in range(4)), "push {r4-r7}", "sub sp, #12", "ldr r3, [r1]", "adds r1, #24"]
    lines += ["str r0, [sp]", "str r3, [sp, #4]", "str r2, [sp, #8]", "movs r2, #0", "1:", "ldr r0, [sp]", "ldr r3, [r1]"]
    lines += [f"mov {acc}, r3" for acc in accumulators]
    at = 20
    for run in strip.runs:
        for tap in range(run):
            lines += [f"movs r4, #{at}", f"ldrsb r{5 + tap}, [r1, r4]"]
            at += 1
        for found in _uses(strip, run):
            lines += ["ldmia r0!, {r3}", *(["ldrsb r3, [r3, r2]"] if found else [])]
            for pixel, tap in found[:-1]:
                lines += ["mov r4, r3", f"muls r4, r{5 + tap}", f"add {accumulators[pixel]}, r4"]
            for pixel, tap in found[-1:]:
                lines += [f"muls r3, r{5 + tap}", f"add {accumulators[pixel]}, r3"]
    lines += ["ldr r0, [sp, #8]", "ldr r5, [r1, #4]", "ldrh r4, [r1, #16]"]
    for pixel, acc in enumerate(accumulators):
        lines += [f"mov r6, {acc}", *finish1(pixel, 8, split, corrects, ("r3", "r7", "r4", "r5"), [f"ldr r6, [r0, #{4 * pixel}]", "strb r7, [r6, r2]"])]
    lines += [f"adds r1, #{20 + strip.record}", "adds r2, #1", "ldr r3, [sp, #4]", "cmp r2, r3", "beq 3f", "b 1b"]
    for pixel in range(strip.pixels):
        lines += [f"{20 + pixel}:", "asrs r7, r3, #31", "movs r3, #127", "eors r7, r3", f"b {10 + pixel}b"]
    return [*lines, "3:", "add sp, #12", "pop {r4-r7}", *(f"mov r{8 + i}, r{4 + i}" for i in range(4)), "pop {r4-r7, pc}"]
