# SPDX-License-Identifier: Apache-2.0
"""Rows of four channels to the planar strip that midge.microkernels.depthwise reads. Its layout is in kernels/depthwise_dsp.h, where the twin is.

Source: ARM DDI 0403, Armv7-M Architecture Reference Manual (SXTB16, PKHBT, PKHTB; LDR takes any address).
"""

from __future__ import annotations

from midge.program import Routine

NARROW = 8  # input columns that a routine spells out, at most
TWIN, FAMILY = "midge_depthwise_spread_s8", "depthwise_dsp"
SHAPE = ("lines", "pixel", "left", "full", "right", "zero", "span", "round", "pairs", "channel", "count")
FIELD = {name: 4 * i for i, name in enumerate(SHAPE)}
CHANNEL, FULL, LEFT, ZERO, FRAME = 0, 8, 16, 20, 24  # of the routine for any width


def spread_routine(depth: int, width: int, left: bool) -> Routine:
    """For rows of `width` pixels, the first of which is on the right of its pair if `left`."""
    return _narrow(depth, width, left) if width <= NARROW else _wide(depth)


def _field(register: str, name: str) -> str:
    return f"ldr {register}, [r2, #{FIELD[name]}]"


def _narrow(depth: int, width: int, left: bool) -> Routine:
    """r0 lines, r1 place in the strip, r2 pixel, r3 bytes a pixel, r4 three of them, r11 end of lines, r12 zero points, r14 channel."""
    lines = ["push {r4-r11, lr}", "mov lr, r3", _field("r3", "pixel"), "add r4, r3, r3, lsl #1", _field("r11", "lines"), "add r11, r0, r11, lsl #2"]
    lines += [_field("r12", "zero"), "sxtb16 r12, r12", "1:", "ldr r2, [r0], #4", "add r2, r2, lr"]
    at, columns = 0, [None] * left + [*range(width)] + [None] * ((left + width) % 2)
    for pair, (first, second) in enumerate(zip(columns[0::2], columns[1::2], strict=True)):
        for register, column in (("r6", first), ("r7", second)):
            if column is not None:
                if column - at > 4 or (column - at == 4 and width > at + 5):
                    lines.append("add r2, r2, r3, lsl #2")
                    at += 4
                lines.append(f"ldr {register}, [r2{('', ', r3', ', r3, lsl #1', ', r4', ', r3, lsl #2')[column - at]}]")
        lines += _pair(depth, pair, first is not None, second is not None)
    lines += ["adds r1, #4", "cmp r0, r11", "bne.w 1b", "pop {r4-r11, pc}"]
    return Routine(f"midge_depthwise_spread{depth}_{width}" + ("_left" if left else ""), TWIN, FAMILY, tuple(lines), 36)


def _wide(depth: int) -> Routine:
    """r0 lines, r1 place in the strip, r2 pixel, r3 bytes a pixel, r4 three of them, r5 whether a pair on the right is to come, r11 full pairs to come,
    r14 end of lines."""
    lines = ["push {r4-r11, lr}", f"sub sp, #{FRAME}", f"strd r3, r1, [sp, #{CHANNEL}]", _field("r3", "pixel"), "add r4, r3, r3, lsl #1"]
    lines += [_field("r6", "left"), _field("r7", "full"), _field("r8", "right"), _field("r9", "zero"), _field("r10", "lines"), "add lr, r0, r10, lsl #2"]
    lines += [f"strd r7, r8, [sp, #{FULL}]", f"strd r6, r9, [sp, #{LEFT}]"]
    lines += ["1:", "ldr r2, [r0], #4", f"ldrd r6, r1, [sp, #{CHANNEL}]", "add r2, r2, r6", "adds r6, r1, #4", f"str r6, [sp, #{CHANNEL + 4}]"]
    lines += [f"ldrd r11, r5, [sp, #{FULL}]", f"ldrd r7, r6, [sp, #{LEFT}]", "cbz r7, 4f", "ldr r7, [r2]", "add r2, r2, r3", "b 3f"]
    lines += ["2:", "ldr r6, [r2]", "ldr r7, [r2, r3]", "add r2, r2, r3, lsl #1", "sub r11, r11, #1", "3:", *_pair(depth, 0), f"add r1, r1, #{16 * depth}"]
    lines += ["4:", "lsrs r6, r11, #1", "bcs 2b", "beq 6f"]
    lines += ["5:", "ldr r6, [r2]", "ldr r7, [r2, r3]", *_pair(depth, 0), "ldr r6, [r2, r3, lsl #1]", "ldr r7, [r2, r4]", *_pair(depth, 1)]
    lines += ["add r2, r2, r3, lsl #2", f"add r1, r1, #{32 * depth}", "subs r11, r11, #2", "bne.w 5b"]
    lines += ["6:", "cbz r5, 7f", "movs r5, #0", "ldr r6, [r2]", f"ldr r7, [sp, #{ZERO}]", "b.w 3b"]
    lines += ["7:", "cmp r0, lr", "bne.w 1b", f"add sp, #{FRAME}", "pop {r4-r11, pc}"]
    return Routine(f"midge_depthwise_spread{depth}", TWIN, FAMILY, tuple(lines), FRAME + 36)


def _pair(depth: int, pair: int, first: bool = True, second: bool = True) -> list[str]:
    """Four channels of the pixels r6 and r7 to a column pair; zero points in r12 stand for one that is missing."""
    lines, low, high = [], "r8" if first else "r12", "r9" if second else "r12"
    for channel, turn in ((0, ""), (1, ", ror #8")):
        lines += [f"sxtb16 {pixel}, {word}{turn}" for pixel, word, real in (("r8", "r6", first), ("r9", "r7", second)) if real]
        for place, pack in ((channel, f"pkhbt r10, {low}, {high}, lsl #16"), (channel + 2, f"pkhtb r10, {high}, {low}, asr #16")):
            lines += [pack, f"str r10, [r1, #{4 * depth * (4 * pair + place)}]"]
    return lines
