# SPDX-License-Identifier: Apache-2.0
"""The same surroundings for all tests, whoever runs them: the same random examples every time, no terminal width, and the scripts of bench/ at hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from cli_support import qdq_model, run, sample_file
from hypothesis import settings

sys.path.append(str(Path(__file__).resolve().parent.parent / "bench"))
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it in its workers, and tables of the command line would be narrower there
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small quantized model."""
    return qdq_model(tmp_path_factory.mktemp("model") / "small.onnx")


@pytest.fixture(scope="module")
def library(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder written by midge compile; tests that change it copy it first."""
    directory = tmp_path_factory.mktemp("library") / "lib"
    assert run("compile", model, "-o", directory, "--name", "kws").exit_code == 0
    return directory


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """A file of samples for the small model."""
    return sample_file(tmp_path / "samples.npz")
