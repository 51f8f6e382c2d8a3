"""What the numbers of a recorded table depend on beside its settings."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import torch

from fuse_lib import __version__


def provenance() -> dict[str, object]:
    """Threads, machine, versions and commit, as columns of a table."""
    here = Path(__file__).resolve().parent
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return {
        "threads": torch.get_num_threads(), "machine": platform.machine(), "torch": torch.__version__,
        "fuse_lib": __version__, "commit": commit.stdout.strip() or "unknown",
    }  # fmt: skip
