# SPDX-License-Identifier: Apache-2.0
"""A product of int8 tensors without what the general kernel does for exact halves and for shifts to the left, where neither is needed.

onnx:   y = clamp(round_half_up(a * b * multiplier / 2**32) + zero_point)
tflite: the two roundings of a requantization, for shifts to the right only
"""

from __future__ import annotations

import numpy as np

from midge.fixedpoint import Int64

TRIED = 3  # units that the multiplier may be moved by, each way


def find_product(wanted: Int64, ratio: float, params: dict[str, int], numerics: str) -> dict[str, int] | None:
    """Multiplier and shift of midge_binary_params that give wanted[a + 128, b + 128] for all pairs, or None. `ratio` is s_a * s_b / s_y."""
    if numerics == "tflite":
        return {"multiplier": params["multiplier"], "shift": params["shift"]} if params["shift"] < 0 else None
    if ratio >= 0.5:
        return None
    every = np.arange(-128, 128, dtype=np.int64)
    products = (every[:, None] - params["a_zero_point"]) * (every - params["b_zero_point"])
    exact = round(ratio * 2.0**32)
    for multiplier in sorted(range(exact - TRIED, exact + TRIED + 1), key=lambda m: abs(m - exact)):
        result = ((products * multiplier + (1 << 31)) >> 32) + params["zero_point"]
        if 0 < multiplier < 1 << 31 and np.array_equal(np.clip(result, params["act_min"], params["act_max"]), wanted):
            return {"multiplier": multiplier, "shift": 0}
    return None
