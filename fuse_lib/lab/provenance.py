"""What the numbers of a run depend on beside its settings."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from pathlib import Path

import torch

from fuse_lib import __version__


def provenance(device: torch.device | str = "cpu") -> dict[str, object]:
    """Versions, commit, machine, device and threads, as plain values.

    >>> sorted(provenance())
    ['commit', 'cpus', 'device', 'fuse_lib', 'machine', 'processor', 'python', 'system', 'threads', 'torch']
    """
    device = torch.device(device)
    return {
        "fuse_lib": __version__, "commit": commit(), "torch": torch.__version__, "python": platform.python_version(),
        "system": platform.system(), "machine": platform.machine(), "processor": _processor(),
        "cpus": os.cpu_count(), "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }  # fmt: skip


@functools.cache
def commit() -> str:
    """The checkout's commit, "-dirty" where tracked files were changed; "unknown" where the library is installed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # else the answer would be that of a repository around the installation
        return "unknown"
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


@functools.cache
def _processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
