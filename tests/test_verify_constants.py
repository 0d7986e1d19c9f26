# SPDX-License-Identifier: Apache-2.0
"""Constants are compared themselves: bits that no sample shows are found in all three places, and what was not compared is said not to be."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
from cli_support import LAYER, assert_fails, needs_gcc, qdq_model, run, run_json
from hil_support import Cable, build_server

from midge.codegen.manifest import load_manifest
from midge.codegen.reference import load_reference
from midge.errors import VerifyFailed
from midge.run.constants import compare_constants, listed
from midge.run.samples import random_samples
from midge.run.verify import verify

pytestmark = needs_gcc
needs_arm = pytest.mark.skipif(
    shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None, reason="needs arm-none-eabi-gcc and qemu-system-arm"
)
PLACES = ["host", "serial", pytest.param("qemu", marks=needs_arm)]
MULTIPLIER = 1 << 30  # of the mean; its lowest bit is lost in rounding
UNSEEN = "layer 1 'mean' (Mean): the 4 bytes of constant kws_layer1_multiplier are not the model's: CRC-32 "


def changed(library: Path, to: Path, file: str, old: str, new: str) -> Path:
    """A copy in which a file has another text at one place."""
    shutil.copytree(library, to)
    text = (to / file).read_text()
    assert text.count(old) == 1
    (to / file).write_text(text.replace(old, new))
    return to


def flipped(library: Path, to: Path) -> Path:
    """A copy in which a bit is flipped that shows in no output."""
    return changed(library, to, "src/kws_weights.c", f"    {MULTIPLIER},", f"    {MULTIPLIER + 1},")


def without_list(library: Path, to: Path) -> Path:
    """A copy whose manifest is as it was before constants were compared."""
    shutil.copytree(library, to)
    manifest = load_manifest(to)
    for entry in manifest["constants"]:
        for key in ("crc32", "layers", "c_name"):
            del entry[key]
    (to / "manifest.json").write_text(json.dumps(manifest))
    return to


def test_every_constant_is_listed_with_its_layers(library: Path) -> None:
    manifest, constants = load_manifest(library), listed(load_manifest(library))
    assert constants is not None and sum(constant.nbytes for constant in constants) == manifest["weights_bytes"] == 158
    users = {constant.name.removeprefix("kws_"): constant.layers for constant in constants}
    assert users["layer0_bias"] == users["pad_row_m3"] == (0,) and users["layer1_shift"] == (1,) and all(users.values())
    assert next(constant.crc32 for constant in constants if constant.name == "kws_pad_row_m3") == zlib.crc32(b"\xfd" * 8)


def test_each_constant_is_held_against_its_own_sum(library: Path) -> None:
    manifest = load_manifest(library)
    sums = [entry["crc32"] for entry in manifest["constants"]]
    assert compare_constants(manifest, sums) == (158, ())
    for index, entry in enumerate(manifest["constants"]):
        _, wrong = compare_constants(manifest, [crc ^ (position == index) for position, crc in enumerate(sums)])
        assert [constant.name for constant in wrong] == [entry["c_name"]]
        assert str(wrong[0]).startswith(f"layer {entry['layers'][0]} ")
    with pytest.raises(VerifyFailed, match=f"{len(sums) - 1} of {len(sums)} constants came back"):
        compare_constants(manifest, sums[1:])
    manifest["constants"][0]["layers"] = [0, 1]
    assert str(compare_constants(manifest, [0, *sums[1:]])[1][0]).startswith(f"layer 0 '{LAYER}' (Conv2D) and 1 more: ")


@pytest.mark.parametrize("place", PLACES)
def test_a_flip_that_no_sample_shows_is_found(library: Path, tmp_path: Path, place: str) -> None:
    wrong, graph = flipped(library, tmp_path / "wrong"), load_reference(library)
    if place == "serial":
        with Cable(build_server(wrong, tmp_path / "server")) as cable:
            found = verify(library, random_samples(graph, 1), on=cable.place)
            assert not verify(library, random_samples(graph, 2), on=cable.place, hertz=100).exact
            result = run("verify", library, "--on", cable.place, "--no-layers")
    else:
        found = verify(wrong, random_samples(graph, 1), on=place)
        result = run("verify", wrong, "--on", place, "--no-layers")
    assert found.difference is None and not found.exact and found.wrong.startswith(UNSEEN)
    assert (found.constant_bytes, found.wrong_constants[0].layers) == (158, (1,))
    assert result.exit_code == 5 and result.stderr.startswith(f"error: {UNSEEN}")
    assert "of outputs only, none of 2 layers, and 158 bytes of constants compared: not equal" in result.stdout


def test_the_table_and_the_json_name_the_layer(library: Path, tmp_path: Path) -> None:
    wrong = flipped(library, tmp_path / "wrong")
    found = run_json("verify", wrong, code=5)
    assert [line["state"] for line in found["layers"]] == ["exact", "constant differs"] and found["difference"] is None and not found["exact"]
    assert [entry["name"] for entry in found["wrong_constants"]] == ["kws_layer1_multiplier"]
    shown = run("verify", library).stdout
    assert shown.rstrip().endswith("bytes of 2 layers and 158 bytes of constants compared: all equal")
    assert "constant differs" in run("verify", wrong).stdout and "constant differs" not in shown


@needs_arm
def test_constants_of_an_image_are_those_of_their_model(model: Path, tmp_path: Path) -> None:
    assert run("link", f"a={model}", f"b={qdq_model(tmp_path / 'm.onnx')}", "--exclusive", "-o", tmp_path / "image").exit_code == 0
    right = run("verify", tmp_path / "image", "--on", "qemu", "--samples", "1")
    assert right.exit_code == 0 and right.stdout.count("158 bytes of constants compared: all equal") == 2
    wrong = changed(tmp_path / "image", tmp_path / "wrong", "src/image_weights.c", f"    {MULTIPLIER},", f"    {MULTIPLIER + 1},")
    result = run("verify", wrong)
    assert result.exit_code == 5 and "a: layer 1 'mean'" in result.stderr and "image_a_layer1_multiplier" in result.stderr


@pytest.mark.parametrize("place", PLACES)
def test_a_library_without_the_list_is_verified_without_it(library: Path, tmp_path: Path, place: str) -> None:
    old = without_list(flipped(library, tmp_path / "flipped"), tmp_path / "old")
    if place == "serial":
        with Cable(build_server(old, tmp_path / "server")) as cable:
            found = verify(old, random_samples(load_reference(old), 1), on=cable.place)
            assert_fails(
                run("verify", library, "--on", cable.place), 2, "the board has 'kws'", "2 layers, 0 constants; wanted", "8 constants: put this library"
            )
    else:
        found = verify(old, random_samples(load_reference(old), 1), on=place)
    assert found.exact and found.constant_bytes is None
    assert "all equal; constants were not compared: the manifest does not list their CRC-32" in found.said and "of constants" not in found.said


def test_a_board_that_comes_back_with_another_library_is_refused(library: Path, tmp_path: Path) -> None:
    assert run("compile", qdq_model(tmp_path / "m.onnx"), "-o", tmp_path / "other", "--name", "other", "--numerics", "tflite").exit_code == 0
    servers = [build_server(folder, tmp_path / folder.name) for folder in (library, tmp_path / "other")]
    for after, exit_code in ((servers[0], 0), (servers[1], 5)):
        with Cable(servers[0], reset_after=900) as cable:
            cable.command = after
            result = run("verify", library, "--on", cable.place, "--samples", "2")
        assert result.exit_code == exit_code, result.output
    assert "the board was reset, and it has 'other', model " in result.stderr and " now, and had 'kws', model " in result.stderr


def test_edited_files_are_no_clean_pass(library: Path, tmp_path: Path) -> None:
    edited = changed(library, tmp_path / "edited", "src/kws.c", "/* SPDX", "/* mine */ /* SPDX")
    result = run("verify", edited)
    assert result.exit_code == 0 and not result.stderr
    assert result.stdout.splitlines()[-1] == "not as midge wrote them: src/kws.c; the result is about what ran, not about what midge wrote"
    assert run("verify", edited, "--json").stderr == "warning: not as midge wrote them: src/kws.c\n"
    (edited / "reference.txt").write_text((edited / "reference.txt").read_text() + "\n")
    assert_fails(run("verify", edited), 5, "reference.txt: is not as midge wrote it")


@pytest.mark.parametrize("place", ["host", pytest.param("qemu", marks=needs_arm)])
def test_edited_c_that_does_not_build_is_its_editors(library: Path, tmp_path: Path, place: str) -> None:
    edited = changed(library, tmp_path / "edited", "src/kws.c", "/* SPDX", "this is not C; /* SPDX")
    assert_fails(run("verify", edited, "--on", place), 2, "src/kws.c: not as midge wrote it; ", "refused kws.c: ", "kws.c:1:1: error: ")
    (edited / "src" / "kws.c").unlink()
    assert_fails(run("verify", edited, "--on", place), 2, "linking", "undefined reference to `kws_run'")


def test_a_sanitizer_s_finding_is_in_the_first_line(library: Path, tmp_path: Path) -> None:
    edited = changed(library, tmp_path / "edited", "src/kws.c", "return KWS_OK;", "return KWS_OK + (int)((volatile char *)arena)[KWS_ARENA_BYTES];")
    result = run("verify", edited, "--sanitize")
    assert result.exit_code == 5
    assert result.stderr.splitlines()[0].startswith(
        "error: kws on the host with sanitizers: stopped with exit code 1: ERROR: AddressSanitizer: use-after-poison"
    )


def test_long_names_take_one_line(library: Path, tmp_path: Path) -> None:
    shutil.copytree(library, tmp_path / "lib")
    manifest: dict[str, Any] = load_manifest(library)
    manifest["layers"][0]["name"] = ";".join(["a/long/way/to/a/convolution/" * 4] * 3)
    (tmp_path / "lib" / "manifest.json").write_text(json.dumps(manifest))
    shown = run("verify", tmp_path / "lib").stdout
    assert len(shown.splitlines()) == len(run("verify", library).stdout.splitlines()) and "…" in shown
