# SPDX-License-Identifier: Apache-2.0
"""Doors into midge: other formats to Graph."""
