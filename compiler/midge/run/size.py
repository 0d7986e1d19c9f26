# SPDX-License-Identifier: Apache-2.0
"""How much flash sources take, as their target's compiler builds them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from midge.errors import ToolMissing
from midge.targets import Target
from midge.toolchain import compile_objects, section_sizes

OPT = "-O2"


def flash_of(sources: Mapping[str, str], target: Target, opt: str = OPT) -> int | None:
    """Bytes of code, constants and initialized variables of all objects of src/*.c, None if the target's compiler is not installed."""
    with tempfile.TemporaryDirectory(prefix="midge-size-") as folder:
        work = Path(folder)
        for path, text in sources.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(text, "utf-8")
        try:
            objects = compile_objects(sorted((work / "src").glob("*.c")), work / "objects", target, opt=opt, includes=(work / "src",))
        except ToolMissing:
            return None
        return sum(section_sizes(path).flash for path in objects)
