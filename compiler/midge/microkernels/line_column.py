# SPDX-License-Identifier: Apache-2.0
"""The routine for output rows of a column, in blocks of four: four channels at a time to a strip, then one after the other the sums of a channel. Its twins
are in kernels/depthwise_line_dsp.c, the layout of the strip in depthwise_line_dsp.h.

Weights are named as in midge.microkernels.line_block. A channel's are unpacked to the stack, where blocks find them; the first block has them in registers.

Source: ARM DDI 0403, Armv7-M Architecture Reference Manual (SMLAD, SMLADX, SMLATB, SMMLA, SMMLAR, SXTB16, PKHBT, PKHTB, SSAT; flags outlive all of them).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import product

from midge.microkernels.line_block import BIAS, Block, products, weight_names
from midge.program import Routine

HEAD = 3  # words before the stream, as in depthwise_line_dsp.h
POOL = tuple(f"r{n}" for n in range(3, 13))  # r0 strip, r1 channel, r2 rows of output, lr stream
OUTPUTS = 4  # of a block
BLOCKS = 4  # that are spelled out
CHUNK = 32  # bytes of the strip for four rows of four channels
MARKS = (0, 0x80, 0xC0)  # in the byte of n: which of the shifts it is, to branch on carry and minus


@dataclass(frozen=True)
class Column:
    """The routine for a number of taps, a stride and at most so many blocks. odd_channels: channels beyond the last four. shifts: that are spelled out; none:
    read with the channel. twice: double rounding; relu: the output's zero_point is -128, so its sign correction only moves values that are clamped to -128
    anyway."""

    taps: int
    stride: int
    blocks: int
    odd_channels: int
    shifts: tuple[int, ...]
    twice: bool
    relu: bool

    @property
    def words(self) -> int:
        """Bytes of bias and weights on the stack."""
        return 4 * (1 + len(weight_names(self.taps, self.stride)))

    @property
    def frame(self) -> int:
        """Bytes below the registers that were pushed: the words, then OUTPUTS, CHANNELS, ROWS, IN."""
        return self.words + 16

    @property
    def routine(self) -> Routine:
        names = [BIAS, *weight_names(self.taps, self.stride)]
        unpacked, held = unpack(names, self.taps, max(1, len(self.shifts)))
        lines = [*self._setup(), "1:", *self._spread(), "7:", *unpacked]
        lines += ["bcs.w 20f"] if len(self.shifts) > 1 else []
        far: list[str] = []
        for i, n in enumerate(self.shifts or (0,)):
            if i == 0:
                lines += [*self._blocks(held, n, "8f"), "8:"]
            else:
                far += [f"{19 + i}:", *([f"bmi.w {20 + i}f"] if i + 1 < len(self.shifts) else []), *self._blocks(held, n, "8b"), "b.w 8b"]
        lines += [*self._next(), f"add sp, #{self.frame}", "pop {r4-r11, pc}", *far]
        marks = (f"_c{self.odd_channels}" if self.odd_channels else "") + ("_r" if self.twice and self.relu else "")
        shifts = "".join(f"_{n}" for n in self.shifts) or "_any"
        symbol = f"midge_depthwise_column{self.taps}_{self.stride}_{OUTPUTS * self.blocks}{marks}{shifts}"
        ending = "_tflite" if self.twice else ""
        return Routine(symbol + ending, f"midge_depthwise_column_s8{ending}", "depthwise_line_dsp", tuple(lines), self.frame + 36)

    def _setup(self) -> list[str]:
        lines = ["push {r4-r11, lr}", f"sub sp, #{self.frame}", "ldm r3, {r4-r6}", *(["add r5, r5, #3", "bic r5, r5, #3"] if self.blocks > 1 else [])]
        lines += [f"strd r5, r6, [sp, #{self.words}]", f"strd r4, r0, [sp, #{self.words + 8}]"]
        return [*lines, f"add lr, r1, #{4 * HEAD}", "mov r1, #0"]

    def _spread(self) -> list[str]:
        """r0 pointers to rows, r12 rows to come, r3 place in the strip."""
        lines = [f"ldrd r12, r0, [sp, #{self.words + 8}]", f"ldr r3, [sp, #{self.frame + 36}]", "subs r12, #4", *(["blt.w 4f"] if self.taps < 4 else []), "3:"]
        lines += ["ldm r0!, {r4-r7}", *(f"ldr {register}, [{register}, r1]" for register in ("r4", "r5", "r6", "r7"))]
        lines += ["pkhtb r8, r5, r4, asr #16", "pkhbt r4, r4, r5, lsl #16", "pkhtb r9, r7, r6, asr #16", "pkhbt r5, r6, r7, lsl #16"]
        for at in (4, 5, 8, 9):
            lines += [f"sxtb16 r{at + 2}, r{at}, ror #8", f"sxtb16 r{at}, r{at}"]
        lines += ["stm r3!, {r4-r11}", "subs r12, #4", "bge 3b", "4:", "lsls r12, r12, #31", "bcc.w 5f"]  # carry: two are left, minus: one
        lines += ["ldm r0!, {r4, r5}", "ldr r4, [r4, r1]", "ldr r5, [r5, r1]", "pkhtb r8, r5, r4, asr #16", "pkhbt r4, r4, r5, lsl #16"]
        lines += ["sxtb16 r6, r4, ror #8", "sxtb16 r4, r4", "sxtb16 r10, r8, ror #8", "sxtb16 r8, r8"]
        lines += ["str r4, [r3], #4", "str r6, [r3, #4]", "str r8, [r3, #12]", "str r10, [r3, #20]"]
        lines += ["5:", "bpl.w 6f", "ldr r4, [r0]", "ldr r4, [r4, r1]", "sxtb16 r5, r4", "sxtb16 r6, r4, ror #8", "asr r7, r5, #16", "asr r8, r6, #16"]
        lines += [f"str {register}, [r3, #{8 * channel}]" for channel, register in enumerate(("r5", "r6", "r7", "r8"))]
        return [*lines, "6:", f"ldr r0, [sp, #{self.frame + 36}]"]

    def _blocks(self, held: dict[str, str], n: int, end: str) -> list[str]:
        """All outputs of a channel, shifted by n, or as the channel says if that is 0."""
        lines = self._block(0, held, n)
        for i in range(1, self.blocks):
            lines += [f"ldr r3, [sp, #{self.words}]", f"cmp r3, #{OUTPUTS * (i + 1)}"] if i % 2 else []
            lines += [f"{'blt' if i % 2 else 'beq'}.w {end}", *self._block(i, {}, n)]
        return lines

    def _block(self, i: int, held: dict[str, str], n: int) -> list[str]:
        sums, accs = shortest(self.taps, self.stride, i, frozenset(held.items()))
        lines = list(sums)
        multiplier, rounding, value, shift, *_ = [register for register in POOL if register not in accs]
        lines += [] if n else [f"ldrb {shift}, [lr, #{-9 if i else -1}]"]
        lines += [f"ldrd {multiplier}, {rounding}, [lr, #-8]" if i else f"ldrd {multiplier}, {rounding}, [lr], #8"]
        for acc in accs:
            lines.append(f"{'smmlar' if self.twice else 'smmla'} {value}, {acc}, {multiplier}, {rounding}")
            lines += [f"add {value}, {value}, {acc}, asr #31"] if self.twice and not self.relu else []
            lines += [f"ssat {acc}, #8, {value}, asr #{n}"] if n else [f"asr {value}, {value}, {shift}", f"ssat {acc}, #8, {value}"]
        rows = [multiplier, rounding, value, shift]
        loads = [f"ldrd {rows[at]}, {rows[at + 1]}, [r2, #{16 * i + 4 * at}]" for at in (0, 2)]
        lines += loads if i else [f"ldm r2, {{{', '.join(rows)}}}"]
        return [*lines, *(f"strb {acc}, [{row}, r1]" for acc, row in reversed(list(zip(accs, rows, strict=True))))]

    def _next(self) -> list[str]:
        """Of the last channels that do not come in fours, some are computed again."""
        lines = ["add r1, r1, #1", *self._fourth(), "bne.w 7b", f"ldr r3, [sp, #{self.words + 4}]"]
        if not self.odd_channels:
            return [*lines, "cmp r1, r3", "bne.w 1b"]
        return [*lines, "subs r3, r3, r1", "beq.w 13f", "cmp r3, #4", "it lt", f"sublt r1, r1, #{4 - self.odd_channels}", "b.w 1b", "13:"]

    def _fourth(self) -> list[str]:
        """Equal after four channels."""
        if not self.odd_channels:
            return ["tst r1, #3"]
        return [f"ldr r3, [sp, #{self.frame + 36}]", f"add r3, r3, #{CHUNK}", "cmp r0, r3"]


def unpack(names: list[str], taps: int, shifts: int) -> tuple[list[str], dict[str, str]]:
    """(instructions, what registers hold then): bias and weights from the stream to the stack, as many at a time as there are registers. Flags say at the end
    which of two or three shifts the channel has: carry not the first, minus the third."""
    lines, held, done = list[str](), dict[str, str](), 0
    while done < len(names):
        group = names[done:] if len(names) - done <= len(POOL) and not done else _words(names[done:])
        before = f"E{int(group[0][1:]) - 1}" if done else ""
        carried = [held[before]] if before in held else []
        held = dict(zip(group, POOL, strict=False))
        raw: dict[int, str] = {}
        for name in group:
            if name != BIAS:
                raw.setdefault(int(name[1:]) // 2, held[name])
        last = done + len(group) == len(names)
        if last:
            raw.setdefault(taps // 4, POOL[min(len(group), len(POOL) - 1)])  # where n is
        loaded = [*([held[BIAS]] if BIAS in held else []), *raw.values()]
        lines.append(f"ldm lr!, {{{', '.join(loaded)}}}" if len(loaded) > 1 else f"ldr {loaded[0]}, [lr], #4")
        if last and shifts > 1:
            other = next(register for register in POOL if register not in (*loaded, *carried))
            lines.append(f"lsls {other}, {loaded[-1]}, #1")
        lines += _pairs(held, raw, carried)
        registers = list(held.values())
        if not done:
            lines.append(f"stm sp, {{{', '.join(registers)}}}")
        else:
            lines += [f"strd {a}, {b}, [sp, #{4 * (done + 2 * at)}]" for at, (a, b) in enumerate(zip(registers[::2], registers[1::2], strict=False))]
            lines += [f"str {registers[-1]}, [sp, #{4 * (len(names) - 1)}]"] if len(registers) % 2 else []
        done += len(group)
    return lines, held


def _words(names: list[str]) -> list[str]:
    """As many of the names as eight registers hold whole words of weights for."""
    count = 8
    while count < len(names) and int(names[count][1:]) // 2 == int(names[count - 1][1:]) // 2:
        count -= 1
    return names[:count]


def _pairs(held: dict[str, str], raw: dict[int, str], carried: list[str]) -> list[str]:
    """Weights, doubled, from the words that `raw` has."""
    lines = []
    for word, register in raw.items():
        for i in (2 * word + 1, 2 * word):  # the even one takes the place of the word
            place = held.get(f"E{i}", held.get(f"O{i}"))
            if place:
                lines += [f"sxtb16 {place}, {register}{', ror #8' if i % 2 else ''}", f"sadd16 {place}, {place}, {place}"]
        for i in (2 * word, 2 * word + 1):
            if f"O{i}" in held:
                before = held.get(f"E{i - 1}") or carried[0]
                lines.append(f"pkhbt {held[f'O{i}']}, {held.get(f'E{i}', held[f'O{i}'])}, {before}")
    return lines


@cache
def shortest(taps: int, stride: int, i: int, unpacked: frozenset[tuple[str, str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(instructions, registers of the sums) of block i, as few as some choice of loads gives. unpacked: registers of what need not be loaded, by name."""
    best: Block | None = None
    names = weight_names(taps, stride)
    kept = sorted(unpacked, key=lambda item: POOL.index(item[1]))
    found = products(taps, stride, OUTPUTS)
    choices = [(keep, 0) for keep in range(1, len(kept) + 1)] if kept and kept[0][0] == BIAS else [(0, count) for count in range(1, len(names) + 2)]
    for (keep, weights), pairs, order in product(choices, (True, False), (0, 1)):
        held: dict[str | int, str] = dict(kept[:keep])
        free = [register for register in POOL if register not in held.values()]
        todo = sorted(found, key=lambda p: (p.word, -p.acc)) if order else found
        tried = Block(todo, names, free, held, constants="sp", first=CHUNK * stride * i - (8 if i else 0), pitch=CHUNK)
        try:
            tried.run(weights, 0, pairs)
        except IndexError:
            continue
        if best is None or len(tried.lines) < len(best.lines):
            best = tried
    assert best is not None
    lines = best.lines
    if not i:  # the first load moves on to the next channel
        lines = [re.sub(r"\[r0, #(\d+)\]", lambda found: f"[r0, #{int(found[1]) - 8}]", line) for line in lines]
        at = next(at for at, line in enumerate(lines) if "[r0" in line)
        assert "[r0, #-8]" in lines[at]
        lines[at] = lines[at].replace("[r0, #-8]", "[r0], #8")
    return tuple(lines), tuple(best.accs(OUTPUTS))
