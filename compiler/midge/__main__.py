# SPDX-License-Identifier: Apache-2.0
"""`python -m midge`: the command line."""

from midge.cli import main

if __name__ == "__main__":
    main()
