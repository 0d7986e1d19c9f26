# SPDX-License-Identifier: Apache-2.0
"""Operators: one file per family. Importing this package registers every ONNX operator."""

from midge.ops import binary, conv, dense, join, mean, move, pad, pool, prelu, quantize, resize, softmax, unary, view

__all__ = ["binary", "conv", "dense", "join", "mean", "move", "pad", "pool", "prelu", "quantize", "resize", "softmax", "unary", "view"]
