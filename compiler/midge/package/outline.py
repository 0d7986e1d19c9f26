# SPDX-License-Identifier: Apache-2.0
"""What every package says about a library: its names, files and target; and how texts are filled with them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from midge.codegen.header import streams
from midge.errors import IRError
from midge.program import Port, Program
from midge.targets import BOARDS, Board, Target, get_target

VERSION = "1.0.0"
"""Of every package: the first. What users change they version themselves."""
LICENCE = "0BSD"
HASH = f"# SPDX-License-Identifier: {LICENCE}\n"
SLASH = f"/* SPDX-License-Identifier: {LICENCE} */\n"
_WORD = re.compile(r"<<(\w+)>>")


@dataclass(frozen=True)
class Outline:
    """A library as its packages see it. `sources` and `headers` are names in src/; `packages` all that are written together."""

    program: Program
    packages: tuple[str, ...]
    sources: tuple[str, ...]
    headers: tuple[str, ...]

    @staticmethod
    def of(program: Program, files: Iterable[str], packages: tuple[str, ...]) -> Outline:
        """The outline of an emitted library, whose files' relative paths are given."""
        inside = sorted(path.removeprefix("src/") for path in files if path.startswith("src/"))
        return Outline(program, packages, tuple(n for n in inside if n.endswith(".c")), tuple(n for n in inside if n.endswith(".h")))

    @cached_property
    def target(self) -> Target:
        return get_target(self.program.target)

    @cached_property
    def board(self) -> Board | None:
        """The emulated board of the target."""
        return None if self.target.board is None else BOARDS[self.target.board]

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def slug(self) -> str:
        """The name where only lower case is allowed, which is never a word reserved there: registries and languages have such words."""
        return f"midge-{self.name.lower().replace('_', '-')}"

    @property
    def streams(self) -> bool:
        return streams(self.program)

    @property
    def stepwise(self) -> bool:
        return not self.streams and self.program.state_offset >= 0

    @property
    def hands_out(self) -> bool:
        return self.program.hands_out

    @property
    def sink(self) -> str:
        """What the functions that run are given for rows of output."""
        return ", take, NULL" if self.hands_out else ""

    @property
    def summary(self) -> str:
        return f"The neural network {self.name} as a C library, compiled by midge"

    @cached_property
    def words(self) -> dict[str, str]:
        """What <<word>> stands for in the texts of packages."""
        program, target = self.program, self.target
        return {
            "name": self.name,
            "NAME": self.name.upper(),
            "slug": self.slug,
            "crate": self.slug.replace("-", "_"),
            "version": VERSION,
            "licence": LICENCE,
            "summary": self.summary,
            "target": target.name,
            "cpu": target.cpu,
            "prefix": target.prefix,
            "flags": " ".join(target.flags),
            "qemu": "" if self.board is None else " ".join(self.board.qemu_args),
            "digest": program.digest,
            "arena": f"{program.arena_nbytes:,}",
            "arena_bytes": str(program.arena_nbytes),
            "align": str(program.arena_align),
            "weights": f"{program.weight_nbytes:,}",
            "macs": f"{program.macs:,}",
            "numerics": program.numerics,
            "sink": self.sink,
        }

    def fill(self, text: str, **more: str) -> str:
        """`text` with every <<word>> replaced.

        Raises: IRError for a word that stands for nothing.
        """
        words = {**self.words, **more}

        def word(match: re.Match[str]) -> str:
            if match[1] not in words:
                raise IRError(f"package text: <<{match[1]}>> stands for nothing")
            return words[match[1]]

        return _WORD.sub(word, text)

    def source_list(self, form: str) -> str:
        """Every source, one on a line, each put into `form` in place of {}."""
        return "\n".join(form.format(f"src/{name}") for name in self.sources)


def scaled(port: Port) -> bool:
    """Whether a port's header has a scale and a zero point."""
    return port.type.quant is not None and port.type.quant.axis is None


def merge(parts: Iterable[dict[str, str]]) -> dict[str, str]:
    """Files of several packages as one set. Two may want the same file, if they want the same text in it.

    Raises: IRError if they do not.
    """
    files: dict[str, str] = {}
    for part in parts:
        for path, text in part.items():
            if files.setdefault(path, text) != text:
                raise IRError(f"two packages want different texts in {path}")
    return files
