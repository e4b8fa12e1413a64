"""`python -m nnfast` is the command `nnfast`."""

from __future__ import annotations

import sys

from nnfast.cli import main

if __name__ == "__main__":
    sys.exit(main())
