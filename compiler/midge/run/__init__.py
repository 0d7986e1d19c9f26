# SPDX-License-Identifier: Apache-2.0
"""Ways to execute: the interpreter on a Program, the host and emulated boards on an emitted C library."""
