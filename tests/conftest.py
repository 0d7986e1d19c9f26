# SPDX-License-Identifier: Apache-2.0
"""The same surroundings for all tests, whoever runs them: the same random examples every time, and no terminal width."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it in its workers, and tables of the command line would be narrower there
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")
