# SPDX-License-Identifier: Apache-2.0
"""Post-training quantization: observers, calibration, schemes."""
