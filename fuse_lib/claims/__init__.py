"""What is claimed of FUSE, and what the recorded runs say: `python -m fuse_lib claims`.

    from fuse_lib import claims

    claims.every()                  # the claims, in the order of the notebooks
    claims.table()                  # a pandas table, computed anew from data/results
    claims.write(Path("README.md")) # puts it between the two marks in that file

Each notebook that tests claims has a file `cNN.py` with a list CLAIMS. A claim's function reads a recorded table and
returns a `Finding`: its verdict follows from the numbers, so a new table can change it, and a test fails until the
README says so too. The README has the headline of each finding, its `effect`; the command has the `detail` as well.
"""

from fuse_lib.claims.core import Claim, Finding, every, is_current, markdown, table, write

__all__ = ["Claim", "Finding", "every", "is_current", "markdown", "table", "write"]
