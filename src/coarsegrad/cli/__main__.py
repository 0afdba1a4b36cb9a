"""``python -m coarsegrad.cli``."""

import sys

from coarsegrad.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
