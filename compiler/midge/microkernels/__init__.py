# SPDX-License-Identifier: Apache-2.0
"""Generated inner loops: geometry to assembly and packed constants. The portable twin of each lies in kernels/ and reads the same stream."""
