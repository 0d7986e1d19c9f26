# SPDX-License-Identifier: Apache-2.0

from midge.schedule.tables import Ints

class Conflicts:
    items: int
    pairs: int
    def __init__(self, at: Ints, other: Ints, low: Ints, high: Ints, align: Ints, span: Ints) -> None: ...
    def first_fit(self, order: Ints, top: Ints, align: Ints, tight: bool, stop: int) -> tuple[Ints | None, int]: ...
    def squeak(self, order: Ints, tops: Ints, align: Ints, target: int, odds: int, patience: int, seed: int) -> tuple[Ints, int, int]: ...
