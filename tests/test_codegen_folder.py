# SPDX-License-Identifier: Apache-2.0
"""A written library: its manifest, what was changed in it, and that it lands on disk whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from codegen_support import placed, stack

from midge.codegen.manifest import changed_files, load_manifest
from midge.codegen.write import write_library
from midge.errors import UsageError


def test_manifest_describes_the_program(tmp_path):
    program = placed(stack())
    write_library(program, tmp_path / "lib", {"reference/graph.txt": "graph"})
    manifest = load_manifest(tmp_path / "lib")
    assert (manifest["name"], manifest["arena_bytes"], manifest["macs"]) == ("kws", program.arena_nbytes, program.macs)
    port = manifest["inputs"][0]
    assert (port["nbytes"], port["dtype"], port["shape"], port["offset"]) == (375, "s8", [1, 25, 5, 3], program.buffers["x"].offset)
    assert port["zero_point"] == program.inputs[0].type.q.z
    assert [layer["kernels"] for layer in manifest["layers"]] == [[call.kernel.symbols("onnx")[0]] for call in program.calls]
    listed = {entry["path"]: entry["sha256"] for entry in manifest["files"]}
    present = {path.relative_to(tmp_path / "lib").as_posix() for path in (tmp_path / "lib").rglob("*") if path.is_file()}
    assert listed.keys() == present - {"manifest.json"}
    assert listed["reference/graph.txt"] == hashlib.sha256(b"graph").hexdigest()


def test_changed_files_are_found(tmp_path):
    library = tmp_path / "lib"
    write_library(placed(stack()), library)
    assert changed_files(library) == []
    (library / "src/kws.h").write_text("changed")
    (library / "src/kws_weights.c").unlink()
    (library / "src/own.c").write_text("int x;")
    (library / "notes.txt").write_text("not compiled")
    assert changed_files(library) == ["src/kws.h", "src/kws_weights.c", "src/own.c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no manifest.json"),
        ("{", "cannot be read"),
        ("[" * 100000, "cannot be read"),
        ("[]", "was not written by midge"),
        ('{"name": "web app"}', "was not written by midge"),
        ('{"format": 99, "model_digest": ""}', "has format 99"),
        ('{"format": 1, "model_digest": ""}', "broken at name"),
    ],
)
def test_load_manifest_refuses(tmp_path, text, message):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_manifest(tmp_path)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "", 5])
def test_load_manifest_refuses_paths_outside(tmp_path, path):
    write_library(placed(stack()), tmp_path / "lib")
    body = json.loads((tmp_path / "lib/manifest.json").read_text())
    body["files"][2]["path"] = path
    (tmp_path / "lib/manifest.json").write_text(json.dumps(body))
    with pytest.raises(UsageError, match=r"files\[2\]"):
        changed_files(tmp_path / "lib")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_writing_replaces_what_midge_wrote(tmp_path):
    library = tmp_path / "deep/lib"
    assert write_library(placed(stack(), "old"), library) == library
    (library / "src/main.c").write_text("mine")
    (library / "link").symlink_to("nowhere")
    write_library(placed(stack(), "kws"), library)
    found = snapshot(library)
    assert "src/kws.c" in found
    assert not any("old" in path for path in found)
    assert found["src/main.c"] == b"mine"
    assert (library / "link").is_symlink()
    assert [path.name for path in library.parent.iterdir()] == ["lib"]
    assert library.stat().st_mode & 0o055 == tmp_path.joinpath("deep").stat().st_mode & 0o055


def test_writing_refuses_what_midge_did_not_write(tmp_path):
    program = placed(stack())
    (tmp_path / "empty").mkdir()
    write_library(program, tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/manifest.json").write_text('{"name": "web app"}')
    (tmp_path / "more").mkdir()
    (tmp_path / "more/a.txt").write_text("x")
    before = snapshot(tmp_path)
    for name, message in (("file", "is a file"), ("other", "was not written by midge"), ("more", "is not empty"), ("file/lib", "cannot be written")):
        with pytest.raises(UsageError, match=message):
            write_library(program, tmp_path / name)
    assert snapshot(tmp_path) == before


def test_a_failed_write_leaves_the_old_library(tmp_path, monkeypatch):
    write_library(placed(stack(), "old"), tmp_path / "lib")
    before, rename = snapshot(tmp_path), Path.rename

    def failing(self, target):
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(UsageError, match="No space left"):
        write_library(placed(stack()), tmp_path / "lib")
    assert snapshot(tmp_path) == before
