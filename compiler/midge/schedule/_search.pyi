# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Sequence

from midge.schedule.tables import Tables

class Engine:
    chains: int
    tasks: int
    objects: int
    def __init__(self, tables: Tables) -> None: ...
    def usage(self, begin: Sequence[int], order: Sequence[int]) -> list[int]: ...
    def replay(self, begin: Sequence[int], vias: Sequence[tuple[int, int]]) -> list[int]: ...

def best_first(
    engine: Engine, begin: Sequence[int], key: int, below: int, cap: int, report: Callable[[int, int], None] | None = None
) -> tuple[list[int] | None, int, int, bool]: ...
def beam(engine: Engine, begin: Sequence[int], key: int, width: int) -> tuple[list[int], int]: ...
