# SPDX-License-Identifier: Apache-2.0
"""C kernels: their sources, which the emitter copies from, and Cython copies that run them on the host.

The compiled parts are optional: importing, compiling and inspecting a model needs the sources only.
"""

from __future__ import annotations

from pathlib import Path

SOURCES = Path(__file__).resolve().parent
FAMILIES = tuple(sorted(path.stem for path in SOURCES.glob("*.c") if not path.stem.startswith("_")))


def functions() -> dict[str, object]:
    """Every kernel by C symbol, as a callable (params, in_rows, constants, out_rows, rows, scratch): see arguments.pxi.

    Raises: ImportError when the extensions were not built (no C compiler at install time).
    """
    import importlib

    found: dict[str, object] = {}
    for family in FAMILIES:
        found.update(importlib.import_module(f"midge.kernels._{family}").KERNELS)
    return found


def addresses() -> dict[str, int]:
    """Addresses of the portable twins of generated routines, by C symbol."""
    import importlib

    found: dict[str, int] = {}
    for family in FAMILIES:
        found.update(getattr(importlib.import_module(f"midge.kernels._{family}"), "ADDRESSES", {}))
    return found
