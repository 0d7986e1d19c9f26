# SPDX-License-Identifier: Apache-2.0
"""midge: ahead-of-time compiler from ONNX networks to small, verified C libraries for microcontrollers.

In short:

    import midge
    library = midge.compile("kws.onnx", target="cortex-m4")
    scores = library.run(x)
    library.write("kws_lib")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from midge.api import Library as Library
    from midge.api import compile as compile
    from midge.api import quantize as quantize

__all__ = ["Library", "compile", "quantize"]


def __getattr__(name: str) -> Any:
    """The public API is loaded on first use, so that importing a part of midge does not import all of it."""
    if name in __all__:
        return getattr(importlib.import_module("midge.api"), name)
    raise AttributeError(f"module 'midge' has no attribute {name!r}")
