# SPDX-License-Identifier: Apache-2.0
"""C sources that carry an emitted library onto an emulated board or the host: start-up, linker scripts, port layer, test firmware."""
