# SPDX-License-Identifier: Apache-2.0
"""The routine that walks a line for all channels: four of them to a strip, then one after the other blocks of four outputs. Its twins are in
kernels/depthwise_line_dsp.c.

Source: ARM DDI 0403, Armv7-M Architecture Reference Manual (LDR takes any address; LDM, LDRD, STRD aligned ones).
"""

from __future__ import annotations

from dataclasses import dataclass

from midge.microkernels.line_block import block, weight_names
from midge.program import Routine

HEAD = 3  # words before the stream, as in depthwise_line_dsp.h
FIRST, OUTPUTS, PITCH, CHANNELS = 0, 16, 20, 24  # bytes in `shape`; FIRST, LEFT, PIXELS, ZERO stand together
IN, LEFT_OVER, OUT, STREAM, STEPS, SPAN, END, SHAPE, STRIP_END, REST, FRAME = 0, 4, 8, 12, 16, 24, 28, 32, 36, 40, 44
STRIP = FRAME + 36  # the fifth argument, below nine registers


@dataclass(frozen=True)
class Walk:
    """The routine for a number of taps, a stride, words of a strip and bytes from pixel to pixel (0: any).

    odd_channels: channels beyond the last four. rests: what walks have beyond blocks of four outputs. short: some have no such block. shifts: each with
    a loop of its own; none: read with the channel. twice: double rounding; relu: the output's zero_point is -128, so its sign correction only moves
    values that are clamped to -128 anyway. r0 strip, r1 output, r2 weights.
    """

    taps: int
    stride: int
    depth: int
    pitch: int
    odd_channels: int
    rests: tuple[int, ...]
    short: bool
    shifts: tuple[int, ...]
    twice: bool
    relu: bool

    @property
    def symbol(self) -> str:
        rests = "".join(str(rest) for rest in self.rests)
        marks = ("s" if self.short else "") + (f"c{self.odd_channels}" if self.odd_channels else "") + ("r" if self.twice and self.relu else "")
        shifts = "".join(f"_{n}" for n in self.shifts) or "_any"
        return f"midge_depthwise_line{self.taps}_{self.stride}_{self.depth}_{self.pitch}_{rests}{marks}{shifts}" + ("_tflite" if self.twice else "")

    @property
    def routine(self) -> Routine:
        lines = [*self._setup(), "1:", *self._spread(), *self._begin(), "7:", *self._channel()]
        far: list[str] = []
        for i, n in enumerate(self.shifts or (0,)):
            if i == 0:
                lines += [*([f"cmp r3, #{n}", "bne.w 20f"] if len(self.shifts) > 1 else []), *self._outputs(n)]
            else:
                more = [f"cmp r3, #{n}", f"bne.w {20 + i}f"] if i < len(self.shifts) - 1 else []
                far += [f"{19 + i}:", *more, *self._outputs(n), "b.w 8b"]
        lines += ["8:", f"ldrd r3, r4, [sp, #{STEPS}]", "add r0, r0, r3", "sub r1, r1, r4"]
        lines += [f"ldr r3, [sp, #{STRIP_END}]", "cmp r0, r3", "bne.w 7b", *self._next_four(), f"add sp, #{FRAME}", "pop {r4-r11, pc}", *far]
        twin = "midge_depthwise_line_s8" + ("_tflite" if self.twice else "")
        return Routine(self.symbol, twin, "depthwise_line_dsp", tuple(lines), FRAME + 36)

    def _setup(self) -> list[str]:
        """STEPS: to the strip of the next channel, and back to its first output. SPAN: bytes of all blocks' outputs."""
        lines = ["push {r4-r11, lr}", f"sub sp, #{FRAME}", f"ldr r4, [r3, #{CHANNELS}]", f"strd r0, r4, [sp, #{IN}]"]
        lines += [f"add r1, r1, #{4 * HEAD}", f"strd r2, r1, [sp, #{OUT}]", f"str r3, [sp, #{SHAPE}]", f"ldrd r4, r5, [r3, #{OUTPUTS}]"]
        if len(self.rests) > 1:
            lines += [f"str r4, [sp, #{REST}]", "lsr r7, r4, #1", f"lsl r7, r7, #{1 + self.stride}"]
        else:
            lines += ["lsr r7, r4, #2", f"lsl r7, r7, #{2 + self.stride}"]
        lines += [f"rsb r7, r7, #{4 * self.depth}", "mul r8, r4, r5", "sub r8, r8, #1", f"strd r7, r8, [sp, #{STEPS}]", "bic r4, r4, #3", "mul r4, r4, r5"]
        return [*lines, f"str r4, [sp, #{SPAN}]", f"ldr r4, [sp, #{STRIP}]", f"add r4, r4, #{16 * self.depth}", f"str r4, [sp, #{STRIP_END}]"]

    def _load(self, *registers: str) -> list[str]:
        """Four channels of the next pixels; r0 moves on. Without a pitch known beforehand it is in r12, three times it in lr."""
        if self.pitch:
            return [f"ldr {register}, [r0], #{self.pitch}" for register in registers]
        if len(registers) == 1:
            return [f"ldr {registers[0]}, [r0]", "add r0, r0, r12"]
        places = zip(registers, ("r0", "r0, r12", "r0, r12, lsl #1", "r0, lr"), strict=True)
        return [*(f"ldr {register}, [{place}]" for register, place in places), "add r0, r0, r12, lsl #2"]

    def _spread(self) -> list[str]:
        """r1 place in the strip, r2 pixels to come, r3 zero points; r4 to r10 data."""
        pitch = [] if self.pitch else [f"ldr r12, [r8, #{PITCH}]", "add lr, r12, r12, lsl #1"]
        lines = [f"ldr r0, [sp, #{IN}]", f"ldr r8, [sp, #{SHAPE}]", f"ldr r1, [sp, #{STRIP}]", "ldm r8, {r4-r7}", *pitch]
        lines += ["add r1, r1, r4", "mov r2, r6", "mov r3, r7", "cbz r5, 2f", "mov r4, r3", *self._load("r5"), "sub r2, r2, #1", "b.w 5f"]
        lines += ["2:", "subs r2, #4", "blt.w 4f", "3:", *self._load("r4", "r5", "r6", "r7")]
        lines += ["pkhbt r8, r4, r5, lsl #16", "pkhtb r5, r5, r4, asr #16", "pkhbt r4, r6, r7, lsl #16", "pkhtb r7, r7, r6, asr #16"]
        for channel, (first, second, turn) in enumerate((("r8", "r4", ""), ("r8", "r4", ", ror #8"), ("r5", "r7", ""), ("r5", "r7", ", ror #8"))):
            place = "[r1], #8" if channel == 0 else f"[r1, #{4 * self.depth * channel - 8}]"
            lines += [f"sxtb16 r9, {first}{turn}", f"sxtb16 r10, {second}{turn}", f"strd r9, r10, {place}"]
        lines += ["subs r2, #4", "bge 3b", "4:", "adds r2, #4", "ble.w 6f", *self._load("r4"), "mov r5, r3", "cmp r2, #1"]
        guarded = self._load("r5")
        lines += [f"i{'t' * len(guarded)} gt", *(line.replace(" ", "gt ", 1) for line in guarded), "sub r2, r2, #2"]
        lines += ["5:", "pkhbt r8, r4, r5, lsl #16", "pkhtb r5, r5, r4, asr #16"]
        for channel, (word, turn) in enumerate((("r8", ""), ("r8", ", ror #8"), ("r5", ""), ("r5", ", ror #8"))):
            place = "[r1], #4" if channel == 0 else f"[r1, #{4 * self.depth * channel - 4}]"
            lines += [f"sxtb16 r9, {word}{turn}", f"str r9, {place}"]
        return [*lines, "b.w 2b", "6:"]

    def _begin(self) -> list[str]:
        """The first of four channels."""
        return [f"ldr r0, [sp, #{STRIP}]", f"ldr r1, [sp, #{OUT}]", f"ldr r2, [sp, #{STRIP_END}]", "add r2, r2, #12"]

    def _channel(self) -> list[str]:
        """Constants of a channel to where r2 points; n in r3 if there are loops to choose from."""
        keep = "str r3, [r2, #-12]" if self.shifts else f"str r3, [sp, #{END}]"
        names = weight_names(self.taps, self.stride)
        lines = [f"ldr r3, [sp, #{SPAN}]", "add r3, r3, r1", keep, f"ldr lr, [sp, #{STREAM}]"]
        count = self.taps // 4 + 1
        batch = [f"r{6 + i}" for i in range(min(4, count))]
        lines += [f"ldm lr!, {{r3-r5, {', '.join(batch)}}}", "strd r3, r4, [r2, #-8]"]
        for i in range((self.taps + 1) // 2):
            if i and i % 8 == 0:
                batch = [f"r{6 + j}" for j in range(min(4, count - i // 2))]
                lines.append(f"ldm lr!, {{{', '.join(batch)}}}" if len(batch) > 1 else f"ldr {batch[0]}, [lr], #4")
            mine, other = ("r10", "r11") if i % 2 == 0 else ("r11", "r10")
            lines += [f"sxtb16 {mine}, {batch[i // 2 % 4]}{', ror #8' if i % 2 else ''}", f"sadd16 {mine}, {mine}, {mine}"]
            lines += self._store(names, i, mine, other)
        last = batch[(count - 1) % 4] if self.taps % 16 else "r6"
        lines += [] if self.taps % 16 else ["ldr r6, [lr], #4"]
        lines.append(f"str lr, [sp, #{STREAM}]")
        if not self.shifts:
            return [*lines, f"lsr r3, {last}, #24", "str r3, [r2, #-12]"]
        return [*lines, *([f"lsr r3, {last}, #24"] if len(self.shifts) > 1 else [])]

    def _store(self, names: list[str], i: int, mine: str, other: str) -> list[str]:
        """Pair i of weights, and the one shifted by a tap made from it and the pair before."""
        if i == 0:
            return [f"strd r5, {mine}, [r2]"]
        shifted = [f"pkhbt r12, {mine}, {other}"] if f"O{i}" in names else []
        if f"E{i}" in names:
            place = f"[r2, #{4 * (1 + names.index(f'E{i}'))}]"
            return [*shifted, f"strd {mine}, r12, {place}"] if shifted else [f"str {mine}, {place}"]
        return [*shifted, f"str r12, [r2, #{4 * (1 + names.index(f'O{i}'))}]"]

    def _outputs(self, n: int) -> list[str]:
        """All outputs of a channel."""
        lines: list[str] = []
        if self.short:
            lines += [self._end("r3"), "cmp r1, r3", "beq.w 10f"]
        lines += ["9:", *self._block(4, n), "bne.w 9b", "10:"]
        if len(self.rests) == 1:
            return lines + (self._block(self.rests[0], n) if self.rests[0] else [])
        lines += [f"ldr r3, [sp, #{REST}]", "lsls r3, r3, #31", "bcc.w 11f", *self._block(2, n), "11:", "bpl.w 12f"]
        return [*lines, *self._block(1, n), "12:"]

    def _end(self, register: str) -> str:
        """Where the last block of four ends: beside the other constants if n, which is not read then, leaves room."""
        return f"ldr {register}, [r2, #-12]" if self.shifts else f"ldr {register}, [sp, #{END}]"

    def _block(self, outputs: int, n: int) -> list[str]:
        """Sums of a block, requantized and stored. Four outputs set the flags: equal at the end. Fewer leave them alone."""
        lines, accs, free = block(self.taps, self.stride, outputs)
        extra, multiplier, rounding, value = free[:4]
        lines.append(f"ldmdb r2, {{{extra}, {multiplier}, {rounding}}}")
        if outputs == 4 or (outputs == 2 and len(self.rests) > 1):
            lines.append(f"add r0, r0, #{2 * outputs * self.stride}")
        for acc in accs:
            lines.append(f"{'smmlar' if self.twice else 'smmla'} {value}, {acc}, {multiplier}, {rounding}")
            if self.twice and not self.relu:
                lines.append(f"add {value}, {value}, {acc}, asr #31")
            if n:
                lines.append(f"ssat {acc}, #8, {value}, asr #{n}")
            else:
                lines += [f"asr {value}, {value}, {extra}", f"ssat {acc}, #8, {value}"]
        lines += self._stores(accs, multiplier)
        if outputs < 4:
            return lines
        if not self.shifts:
            lines.append(self._end(extra))
        return [*lines, f"cmp r1, {extra}"]

    def _stores(self, accs: list[str], pitch: str) -> list[str]:
        if self.pitch:
            return [f"strb {acc}, [r1], #{self.pitch}" for acc in accs]
        lines = [f"ldr {pitch}, [sp, #{SHAPE}]", f"ldr {pitch}, [{pitch}, #{PITCH}]"]
        for acc in accs:
            lines += [f"strb {acc}, [r1]", f"add r1, r1, {pitch}"]
        return lines

    def _next_four(self) -> list[str]:
        """Of the last channels that do not come in fours, some are computed again."""
        lines = [f"ldrd r3, r4, [sp, #{IN}]", "add r3, r3, #4", "subs r4, r4, #4", "ble.w 13f"]
        if self.odd_channels:
            back = 4 - self.odd_channels
            lines += ["cmp r4, #4", "bge 14f", f"sub r3, r3, #{back}", f"sub r1, r1, #{back}", "mov r4, #4", "14:"]
        return [*lines, f"strd r3, r4, [sp, #{IN}]", f"str r1, [sp, #{OUT}]", "b.w 1b", "13:"]
