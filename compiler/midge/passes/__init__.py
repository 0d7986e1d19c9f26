# SPDX-License-Identifier: Apache-2.0
"""Graph to Graph: plain functions in one pipeline."""
