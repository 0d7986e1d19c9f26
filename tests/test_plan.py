# SPDX-License-Identifier: Apache-2.0
"""midge plan: the schedules it lists are those that midge compile gives for the same options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_support import run, run_json
from images import denoiser, noise
from support import ROOT

import midge
from midge.errors import UsageError
from midge.front import front
from midge.ops import conv_w4

SIZE = 24


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network from image to image and samples for it."""
    folder = tmp_path_factory.mktemp("image")
    (folder / "net.onnx").write_bytes(denoiser(1, SIZE))
    np.save(folder / "x.npy", noise(1, SIZE))
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weights": "int4"},
        {"stream_input": True, "stream_output": True, "input_layout": "nhwc", "output_layout": "nhwc"},
        {"weights": "int4", "optimize": "size", "output_layout": "nhwc"},
    ],
    ids=str,
)
def test_points_are_what_compile_gives(image: Path, options: dict[str, object]) -> None:
    given = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value) if word is not True]
    common = (image / "net.onnx", "--calibration", image / "x.npy", "--no-measure")
    points = {point["name"]: point["arena_bytes"] for point in run_json("plan", *common, *given)["points"]}
    ways: dict[str, dict[str, object]] = {"layer by layer": {"schedule": "layers"}, "rows that cost no time": {}, "least RAM": {"optimize": "ram"}}
    compared = [name for name in points if name in ways and not (name == "least RAM" and "optimize" in options)]
    assert compared
    for name in compared:
        library = midge.compile(image / "net.onnx", target="cortex-m4", calibration=image / "x.npy", **{**options, **ways[name]})
        assert points[name] == library.program.arena_nbytes


def test_weights_of_four_bits_are_planned_with(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv_w4, "WORTH", 1)
    options = {"calibration": image / "x.npy", "input_layout": "nhwc"}
    plain, narrow = (front(image / "net.onnx", measure=False, weights=weights, **options)[-1].library for weights in ("int8", "int4"))
    assert plain.narrowed is None and narrow.narrowed is not None and narrow.narrowed.layers
    assert narrow.program.weight_nbytes < 0.7 * plain.program.weight_nbytes
    assert (
        narrow.program.constants.keys()
        == midge.compile(image / "net.onnx", target="cortex-m4", weights="int4", optimize="ram", **options).program.constants.keys()
    )


def test_values_that_are_not_known_are_refused(image: Path) -> None:
    with pytest.raises(UsageError, match="no --weights named 'int2'; known: int8, int4"):
        front(image / "net.onnx", calibration=image / "x.npy", weights="int2")
    assert run("plan", ROOT / "examples" / "mnist_cnn.onnx", "--weights", "int2").exit_code == 2
