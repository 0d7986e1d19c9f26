# SPDX-License-Identifier: Apache-2.0
"""Several models in one image: what they have in common is stored once.

In short:

    from midge.link import link
    image = link([midge.compile("kws.onnx"), midge.compile("vww.onnx")], name="ears_and_eyes", exclusive=True)
    image.write("image")
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from midge.api import Library
from midge.codegen.c import emit
from midge.codegen.link import Linked, link_files, link_programs
from midge.codegen.manifest import FORMAT, MANIFEST, digest, load_manifest, manifest_text, midge_version
from midge.codegen.reference import REFERENCE, reference_files
from midge.codegen.write import write_files
from midge.errors import UsageError
from midge.program import Program
from midge.run.size import flash_of
from midge.targets import get_target

MODELS = "models"  # folder of each model's manifest and reference
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Footprint:
    """Bytes of one model as a library of its own, or of all in one image. flash: code and constants as compiled, None without the target's compiler;
    kernels: C functions that compute rows; ram: of the arena."""

    name: str
    flash: int | None
    constants: int
    kernels: int
    ram: int


@dataclass(frozen=True)
class LinkReport:
    """What linking saves."""

    mode: str
    target: str
    alone: tuple[Footprint, ...]
    together: Footprint

    @property
    def sums(self) -> Footprint:
        """All models as libraries of their own, side by side."""
        flash = None if any(each.flash is None for each in self.alone) else sum(each.flash or 0 for each in self.alone)
        parts = [sum(getattr(each, key) for each in self.alone) for key in ("constants", "kernels", "ram")]
        return Footprint("sum of these", flash, *parts)

    @property
    def saved(self) -> Footprint:
        """What the image has less than that."""
        return _excess("saved", self.sums, self.together)

    @property
    def added(self) -> Footprint:
        """What it has more: padding between arenas that lie one behind the other; code of kernels that are less cut to each of the models."""
        return _excess("added", self.together, self.sums)

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        parts = {"sum": self.sums, "saved": self.saved, "added": self.added}
        return {**asdict(self), **{key: asdict(part) for key, part in parts.items()}}


def _excess(name: str, a: Footprint, b: Footprint) -> Footprint:
    flash = None if a.flash is None or b.flash is None else max(0, a.flash - b.flash)
    return Footprint(name, flash, *(max(0, getattr(a, key) - getattr(b, key)) for key in ("constants", "kernels", "ram")))


@dataclass(frozen=True)
class Image:
    """Several libraries as one, ready to be written."""

    libraries: tuple[Library, ...]
    linked: Linked
    sources: Mapping[str, str]
    report: LinkReport

    def write(self, directory: str | Path) -> Path:
        """Write sources, manifest and each model's reference. An emitted directory is replaced as a whole.

        Raises: UsageError if the directory holds something else.
        """
        files = dict(self.sources)
        for library, program in zip(self.libraries, self.linked.programs, strict=True):
            folder = f"{MODELS}/{program.name}"
            references = reference_files(library.graph)
            manifest = manifest_text(program, {**self.sources, **references})
            files |= {f"{folder}/{path}": text for path, text in references.items()} | {f"{folder}/{MANIFEST}": manifest}
        write_files({**files, MANIFEST: self._manifest(files)}, Path(directory))
        return Path(directory)

    def _manifest(self, files: Mapping[str, str]) -> str:
        linked, programs = self.linked, self.linked.programs
        body = {
            "format": FORMAT,
            "midge": midge_version(),
            "name": linked.pool.name,
            "target": linked.pool.target,
            "numerics": linked.pool.numerics,
            "model_digest": digest(" ".join(program.digest for program in programs).encode()),
            "arena_bytes": linked.nbytes,
            "arena_align": linked.align,
            "weights_bytes": linked.pool.weight_nbytes,
            "inputs": [],
            "outputs": [],
            "layers": [],
            "models": [_model(program, place) for program, place in zip(programs, linked.places, strict=True)],
            "report": self.report.as_dict(),
            "files": [{"path": path, "sha256": digest(text.encode())} for path, text in sorted(files.items())],
            "warnings": sorted({warning for program in programs for warning in program.warnings}),
        }
        return json.dumps(body, indent=1) + "\n"


def _model(program: Program, place: int) -> dict[str, Any]:
    facts = {"name": program.name, "digest": program.digest, "numerics": program.numerics}
    return {**facts, "arena_offset": place, "arena_bytes": program.arena_nbytes, "weights_bytes": program.weight_nbytes}


def link(libraries: Sequence[Library], *, name: str = "image", exclusive: bool, measure: bool = True, progress: Progress | None = None) -> Image:
    """Put compiled models into one image.

    exclusive: models never run at the same time and share one arena, as large as the largest of theirs; otherwise each has its own. measure: compile
    for the target, each model alone and all together, where its compiler is installed.

    Raises: UsageError for names that clash or targets that differ.
    """
    programs = [library.program for library in libraries]
    linked = link_programs(programs, name, exclusive=exclusive)
    sources = link_files(linked)
    jobs = [(program.name, [program], sources_of(program), program.arena_nbytes, program.weight_nbytes) for program in programs]
    jobs.append((name, programs, sources, linked.nbytes, linked.pool.weight_nbytes))
    found = []
    for title, of, files, ram, constants in jobs:
        found.append(Footprint(title, flash_of(files, get_target(linked.pool.target)) if measure else None, constants, _kernels(of), ram))
        if progress is not None:
            progress(len(found), len(jobs))
    report = LinkReport("exclusive" if exclusive else "concurrent", linked.pool.target, tuple(found[:-1]), found[-1])
    return Image(tuple(libraries), linked, sources, report)


def sources_of(program: Program) -> dict[str, str]:
    """The sources of a library."""
    return {path: text for path, text in emit(program).items() if path != MANIFEST}


def _kernels(programs: Sequence[Program]) -> int:
    symbols = {symbol for program in programs for call in program.calls for symbol in call.kernel.symbols(program.numerics)}
    return len(symbols | {symbol for program in programs for symbol in program.routines})


@contextmanager
def folders(directory: Path) -> Iterator[list[Path]]:
    """The folder of a library, or one for each model of an image: with the image's sources, its own manifest and its own reference.

    Raises: UsageError if `directory` was not written by midge.
    """
    names = [entry["name"] for entry in load_manifest(directory).get("models", [])]
    if not names:
        yield [directory]
        return
    with tempfile.TemporaryDirectory(prefix="midge-image-") as work:
        found = []
        for name in names:
            folder, own = Path(work) / name, directory / MODELS / name
            missing = [path for path in (own / MANIFEST, own / REFERENCE) if not path.is_file()]
            if missing:
                raise UsageError(f"{missing[0]}: is not there; link the models again")
            shutil.copytree(directory / "src", folder / "src")
            for path in (MANIFEST, REFERENCE):
                shutil.copy2(own / path, folder / path)
            found.append(folder)
        yield found
