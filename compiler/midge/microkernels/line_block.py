# SPDX-License-Identifier: Apache-2.0
"""Sums of up to four outputs of a line, spelled out: which products there are, and registers for them with the fewest loads.

Word j of the strip holds pixels 2j and 2j + 1. Weights are E0 = (w0, w1), E1 = (w2, w3)... for outputs that begin with a word, and O1 = (w2, w1),
O2 = (w4, w3)... for those that begin within one, which take w0 of the word's upper half first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

POOL = ("r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")  # r0 strip, r1 output, r2 weights
BIAS = "bias"


@dataclass(frozen=True)
class Product:
    """acc += word of the strip * weights, two taps or one by `kind` of the instruction."""

    acc: int
    kind: str
    word: int
    weights: str


def weight_names(taps: int, stride: int) -> list[str]:
    """The order of weights in memory."""
    half = taps // 2
    if stride == 2:
        return [f"E{i}" for i in range((taps + 1) // 2)]
    return ["E0", *(f"{kind}{i}" for i in range(1, half) for kind in "EO"), *([f"O{half}"] if taps % 2 else [])]


def products(taps: int, stride: int, outputs: int) -> list[Product]:
    """All of a block, in the order in which words of the strip can be dropped early."""
    half, odd, found = taps // 2, taps % 2, []
    for i in range(half + 1):
        for acc in range(outputs):
            within, word = stride * acc % 2, stride * acc // 2 + i
            if not within:
                if i < half:
                    found.append(Product(acc, "smlad", word, f"E{i}"))
                elif odd:
                    found.append(Product(acc, "smlabb", word, f"E{i}" if stride == 2 else f"O{i}"))
            elif i == 0:
                found.append(Product(acc, "smlatb", word, "E0"))
            elif i < half or odd:
                found.append(Product(acc, "smladx", word, f"O{i}"))
            else:
                found.append(Product(acc, "smlabt", word, f"E{i - 1}"))
    return found


@dataclass
class Block:
    """Registers while a block is written down. Raises IndexError where they do not suffice."""

    todo: list[Product]
    names: list[str]  # weights in memory
    free: list[str] = field(default_factory=lambda: list(POOL))
    held: dict[str | int, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    constants: str = "r2"  # where bias and weights are
    first: int = 0  # bytes to the first word
    pitch: int = 8  # bytes from a pair of words to the next

    def run(self, weights: int, words: int, pairs: bool) -> list[str]:
        """`weights`, bias included, and `words` are loaded at the start; later ones two at a time if `pairs`."""
        last = self.todo[-1].word if self.todo else 0
        self._batch([BIAS, *self.names][:weights], self.constants)
        if self.pitch == 8:
            self._batch([*range(min(words, last + 1))], "r0")
        for at, item in enumerate(self.todo):
            for key in (item.weights, item.word):
                if key not in self.held:
                    self._fetch(key, last, pairs)
            self._write(item, self.todo[at + 1 :])
        return self.lines

    def accs(self, outputs: int) -> list[str]:
        return [self.held[f"acc{i}"] for i in range(outputs)]

    def _batch(self, keys: list[str] | list[int], base: str) -> None:
        if not keys:
            return
        registers = [self._take(key) for key in keys]
        self.lines.append(f"ldm {base}, {{{', '.join(registers)}}}" if len(registers) > 1 else f"ldr {registers[0]}, [{base}]")

    def _take(self, key: str | int) -> str:
        self.held[key] = self.free.pop(0)
        return self.held[key]

    def _fetch(self, key: str | int, last: int, pairs: bool) -> None:
        if isinstance(key, str):
            at = 1 + self.names.index(key)
            place = f"[{self.constants}, #{4 * at}]"
            following: str | int | None = self.names[at] if at < len(self.names) else None
        else:
            place = f"[r0, #{self.first + key // 2 * self.pitch + key % 2 * 4}]"
            following = key + 1 if key < last and (self.pitch == 8 or key % 2 == 0) else None
        if pairs and following is not None and following not in self.held and len(self.free) > 1:
            self.lines.append(f"ldrd {self._take(key)}, {self._take(following)}, {place}")
        else:
            self.lines.append(f"ldr {self._take(key)}, {place}")

    def _write(self, item: Product, later: list[Product]) -> None:
        """What is not needed later leaves its register to the accumulator or to others."""
        acc = f"acc{item.acc}"
        word, weights, add = self.held[item.word], self.held[item.weights], self.held.get(acc, self.held[BIAS] if acc not in self.held else "")
        dead: list[str | int] = [key for key in (item.word, item.weights) if all(key not in (p.word, p.weights) for p in later)]
        started = {key for key in self.held if isinstance(key, str) and key.startswith("acc")} | {acc}
        if BIAS in self.held and all(f"acc{p.acc}" in started for p in later):
            dead.append(BIAS)
        self.free = sorted([*self.free, *(self.held.pop(key) for key in dead)], key=POOL.index)
        target = self.held[acc] if acc in self.held else self._take(acc)
        self.lines.append(f"{item.kind} {target}, {word}, {weights}, {add}")


def block(taps: int, stride: int, outputs: int) -> tuple[list[str], list[str], list[str]]:
    """(instructions, registers of the sums, other registers): the shortest that some choice of loads gives."""
    best: Block | None = None
    names = weight_names(taps, stride)
    for weights, words, pairs in product(range(1, len(POOL)), range(1, len(POOL)), (True, False)):
        if weights > len(names) + 1:
            continue
        tried = Block(products(taps, stride, outputs), names)
        try:
            tried.run(weights, words, pairs)
        except IndexError:
            continue
        if best is None or len(tried.lines) < len(best.lines):
            best = tried
    assert best is not None
    accs = best.accs(outputs)
    return best.lines, accs, [register for register in POOL if register not in accs]
