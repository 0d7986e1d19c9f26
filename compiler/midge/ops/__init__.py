# SPDX-License-Identifier: Apache-2.0
"""Operators: one file per family. Importing this package registers every ONNX operator."""
