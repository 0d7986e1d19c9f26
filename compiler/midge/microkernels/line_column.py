# SPDX-License-Identifier: Apache-2.0
"""The routine for four output rows of a column: four channels at a time to a strip, then one after the other the sums of a channel, weights straight from the
stream. Its twins are in kernels/depthwise_line_dsp.c.

Word j of the strip holds rows 2j and 2j + 1. Weights are named as in midge.microkernels.line_block.

Source: ARM DDI 0403, Armv7-M Architecture Reference Manual (SMLAD, SMLADX, SMLATB, SMMLA, SMMLAR, SXTB16, PKHBT, PKHTB, SSAT).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from midge.microkernels.line_block import products
from midge.program import Routine

HEAD = 3  # words before the stream, as in depthwise_line_dsp.h
ROWS, CHANNELS = 0, 8  # bytes in `shape`
OUT, IN, LEFT_OVER, LINES, FRAME = 0, 16, 20, 24, 28
STRIP = FRAME + 36  # the fifth argument, below nine registers
POOL = tuple(f"r{n}" for n in range(2, 12))  # r0 strip, r1 channel, r12 end of the strip, lr stream
OUTPUTS = 4


@dataclass(frozen=True)
class Op:
    """An instruction on values: `text` has {name} for each."""

    text: str
    makes: tuple[str, ...]
    takes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """The routine for a number of taps and a stride. odd_channels: channels beyond the last four. shifts: that are spelled out; none: read with the channel.
    twice: double rounding; relu: the output's zero_point is -128, so its sign correction only moves values that are clamped to -128 anyway."""

    taps: int
    stride: int
    odd_channels: int
    shifts: tuple[int, ...]
    twice: bool
    relu: bool

    @property
    def depth(self) -> int:
        """Words of the strip for a channel."""
        return ((OUTPUTS - 1) * self.stride + self.taps + 1) // 2

    @property
    def routine(self) -> Routine:
        sums, accs = shortest(self.taps, self.stride)
        free = [register for register in POOL if register not in accs]
        lines = [*self._setup(), "1:", *self._spread(), "7:", *sums, f"ldrd {free[1]}, {free[2]}, [lr], #{12 + 4 * (self.taps // 4 + 1)}"]
        lines += [f"ldrb {free[3]}, [lr, #-1]"] if len(self.shifts) != 1 else []
        far: list[str] = []
        for i, n in enumerate(self.shifts or (0,)):
            other = [f"cmp {free[3]}, #{n}", f"bne.w {20 + i}f"] if i + 1 < len(self.shifts) else []
            if i == 0:
                lines += [*other, *self._requantize(accs, free, n), "8:"]
            else:
                far += [f"{19 + i}:", *other, *self._requantize(accs, free, n), "b.w 8b"]
        lines += [f"ldm sp, {{{', '.join(free[:4])}}}", *(f"strb {acc}, [{row}, r1]" for acc, row in reversed(list(zip(accs, free[:4], strict=True))))]
        lines += [*self._next(), f"add sp, #{FRAME}", "pop {r4-r11, pc}", *far]
        marks = (f"_c{self.odd_channels}" if self.odd_channels else "") + ("_r" if self.twice and self.relu else "")
        shifts = "".join(f"_{n}" for n in self.shifts) or "_any"
        symbol = f"midge_depthwise_column{self.taps}_{self.stride}{marks}{shifts}"
        ending = "_tflite" if self.twice else ""
        return Routine(symbol + ending, f"midge_depthwise_column_s8{ending}", "depthwise_line_dsp", tuple(lines), FRAME + 36)

    def _setup(self) -> list[str]:
        lines = ["push {r4-r11, lr}", f"sub sp, #{FRAME}", "ldm r2, {r4-r7}", f"strd r4, r5, [sp, #{OUT}]", f"strd r6, r7, [sp, #{OUT + 8}]"]
        lines += [f"ldr r4, [r3, #{CHANNELS}]", f"strd r0, r4, [sp, #{IN}]", f"ldr r5, [r3, #{ROWS}]", f"ldr r4, [sp, #{STRIP}]"]
        return [*lines, f"str r5, [sp, #{LINES}]", f"add r12, r4, #{16 * self.depth}", f"add lr, r1, #{4 * HEAD}", "mov r1, #0"]

    def _spread(self) -> list[str]:
        """r0 pointers to rows, r2 rows to come, r3 place in the strip."""
        lines = [f"ldr r0, [sp, #{IN}]", f"ldr r2, [sp, #{LINES}]", f"ldr r3, [sp, #{STRIP}]", "subs r2, #4", "blt.w 4f", "3:", "ldm r0!, {r4-r7}"]
        lines += [f"ldr {register}, [{register}, r1]" for register in ("r4", "r5", "r6", "r7")]
        lines += ["pkhbt r8, r4, r5, lsl #16", "pkhtb r5, r5, r4, asr #16", "pkhbt r4, r6, r7, lsl #16", "pkhtb r7, r7, r6, asr #16"]
        for channel, (first, second, turn) in enumerate((("r8", "r4", ""), ("r8", "r4", ", ror #8"), ("r5", "r7", ""), ("r5", "r7", ", ror #8"))):
            place = "[r3], #8" if channel == 0 else f"[r3, #{4 * self.depth * channel - 8}]"
            lines += [f"sxtb16 r9, {first}{turn}", f"sxtb16 r10, {second}{turn}", f"strd r9, r10, {place}"]
        lines += ["subs r2, #4", "bge 3b", "4:", "lsls r2, r2, #31", "bcc.w 5f"]  # carry: two are left, minus: one
        lines += ["ldm r0!, {r4, r5}", "ldr r4, [r4, r1]", "ldr r5, [r5, r1]", "pkhbt r8, r4, r5, lsl #16", "pkhtb r5, r5, r4, asr #16"]
        for channel, (word, turn) in enumerate((("r8", ""), ("r8", ", ror #8"), ("r5", ""), ("r5", ", ror #8"))):
            lines += [f"sxtb16 r9, {word}{turn}", f"str r9, {'[r3], #4' if channel == 0 else f'[r3, #{4 * self.depth * channel - 4}]'}"]
        lines += ["5:", "bpl.w 6f", "ldr r4, [r0]", "ldr r4, [r4, r1]", "sxtb16 r5, r4", "sxtb16 r6, r4, ror #8", "asr r7, r5, #16", "asr r8, r6, #16"]
        lines += [f"str {register}, [r3, #{4 * self.depth * channel}]" for channel, register in enumerate(("r5", "r6", "r7", "r8"))]
        return [*lines, "6:", f"ldr r0, [sp, #{STRIP}]"]

    def _requantize(self, accs: list[str], free: list[str], n: int) -> list[str]:
        """Sums to bytes, shifted by n, or by a register if that is 0."""
        (value, multiplier, rounding, shift), lines = free[:4], list[str]()
        for acc in accs:
            lines.append(f"{'smmlar' if self.twice else 'smmla'} {value}, {acc}, {multiplier}, {rounding}")
            lines += [f"add {value}, {value}, {acc}, asr #31"] if self.twice and not self.relu else []
            lines += [f"ssat {acc}, #8, {value}, asr #{n}"] if n else [f"asr {value}, {value}, {shift}", f"ssat {acc}, #8, {value}"]
        return lines

    def _next(self) -> list[str]:
        """Of the last channels that do not come in fours, some are computed again."""
        lines = ["add r1, r1, #1", "cmp r0, r12", "bne.w 7b", f"ldr r2, [sp, #{LEFT_OVER}]", "subs r2, r2, #4", "ble.w 13f"]
        if self.odd_channels:
            lines += ["cmp r2, #4", "bge 14f", f"sub r1, r1, #{4 - self.odd_channels}", "mov r2, #4", "14:"]
        return [*lines, f"str r2, [sp, #{LEFT_OVER}]", "b.w 1b", "13:"]


def shortest(taps: int, stride: int) -> tuple[list[str], list[str]]:
    """(instructions, registers of the sums): loads in pairs as far as there are registers."""
    for wide_words, wide_weights in product((True, False), repeat=2):
        ops = operations(taps, stride, wide_words, wide_weights)
        registers = allocate(ops)
        if registers:
            break
    return [op.text.format(**{name: register[1:] for name, register in registers.items()}) for op in ops], [registers[f"acc{i}"] for i in range(OUTPUTS)]


def operations(taps: int, stride: int, wide_words: bool, wide_weights: bool) -> list[Op]:
    """Values in the order of the strip's words: what is loaded and made on the way is what the next product takes."""
    todo = sorted(products(taps, stride, OUTPUTS), key=lambda p: (p.word, -p.acc))
    words, raw, ops, made = todo[-1].word + 1, taps // 4 + 1, list[Op](), set[str]()
    depth = ((OUTPUTS - 1) * stride + taps + 1) // 2  # the first load moves on to the strip of the next channel

    def load(key: str, following: str, wide: bool, place: str) -> None:
        names = (key, following) if wide else (key,)
        ops.append(Op(f"{'ldrd' if wide else 'ldr'} {', '.join(f'r{{{name}}}' for name in names)}, {place}", names))
        made.update(names)

    def weights(name: str) -> None:
        if name in made:
            return
        i = int(name[1:])
        if name[0] == "O":
            weights(f"E{i - 1}")
            weights(f"E{i}")
            ops.append(Op(f"pkhbt r{{{name}}}, r{{E{i}}}, r{{E{i - 1}}}", (name,), (f"E{i}", f"E{i - 1}")))
        else:
            if f"W{i // 2}" not in made:
                load(f"W{i // 2}", f"W{i // 2 + 1}", wide_weights and 2 * i + 4 < taps and i // 2 + 1 < raw, f"[lr, #{12 + 4 * (i // 2)}]")
            ops.append(Op(f"sxtb16 r{{{name}}}, r{{W{i // 2}}}{', ror #8' if i % 2 else ''}", (name,), (f"W{i // 2}",)))
            ops.append(Op(f"sadd16 r{{{name}}}, r{{{name}}}, r{{{name}}}", (name,), (name,)))
        made.add(name)

    load("bias", "W0", True, "[lr, #8]")
    for item in todo:
        weights(item.weights)
        word, acc = f"P{item.word}", f"acc{item.acc}"
        if word not in made:
            load(word, f"P{item.word + 1}", wide_words and item.word + 1 < words, f"[r0, #{4 * (item.word - depth)}]" if item.word else f"[r0], #{4 * depth}")
        before = acc if acc in made else "bias"
        ops.append(Op(f"{item.kind} r{{{acc}}}, r{{{word}}}, r{{{item.weights}}}, r{{{before}}}", (acc,), (word, item.weights, before)))
        made.add(acc)
    return ops


def allocate(ops: list[Op]) -> dict[str, str]:
    """A register for each value, held from where it is made to where it is last taken; none if there are too few."""
    last = {name: at for at, op in enumerate(ops) for name in (*op.makes, *op.takes)} | {f"acc{i}": len(ops) for i in range(OUTPUTS)}
    free, found = list(POOL), dict[str, str]()
    for at, op in enumerate(ops):
        free += [found[name] for name in dict.fromkeys(op.takes) if last[name] == at]
        free.sort(key=POOL.index)
        for name in op.makes:
            if name not in found:
                if not free:
                    return {}
                found[name] = free.pop(0)
        free += [found[name] for name in op.makes if last[name] == at and name not in op.takes]
    return found
