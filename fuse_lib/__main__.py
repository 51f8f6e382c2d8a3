"""`python -m fuse_lib`."""

import sys

from fuse_lib.cli import main

if __name__ == "__main__":
    sys.exit(main())
