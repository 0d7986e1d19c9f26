# SPDX-License-Identifier: Apache-2.0
"""Where and when buffers live: the planner and an independent checker."""
