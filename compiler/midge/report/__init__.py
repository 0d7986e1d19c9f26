# SPDX-License-Identifier: Apache-2.0
"""Numbers and pictures for people."""
