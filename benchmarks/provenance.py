"""What the numbers of a recorded table depend on beside its settings."""

from __future__ import annotations

from fuse_lib import lab

COLUMNS = ("threads", "machine", "torch", "fuse_lib", "commit")


def provenance() -> dict[str, object]:
    """Threads, machine, versions and commit, as columns of a table."""
    about = lab.provenance()
    return {name: about[name] for name in COLUMNS}
