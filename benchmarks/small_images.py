"""CIFAR-10 with each image averaged over squares of pixels, for runs on few cores."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from fuse_lib import data


def cifar10(side: int, kept: Path) -> str:
    """The data set's name: "cifar10", or at another side "cifar10-16", which is made once, below `kept`.

    FUSE_DATA then names the folder that it is in, for this process and the workers that it starts.
    """
    if side == 32:
        return "cifar10"
    folder = kept / "data" / f"cifar10-{side}"
    if not (folder / "test.npz").exists():
        full = data.load("cifar10")
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("train", "test"):  # the test part last: where it is, both are
            x, y = getattr(full, f"x_{part}"), getattr(full, f"y_{part}")
            small = F.avg_pool2d(x, 32 // side).add_(1).mul_(127.5).round_().to(torch.uint8).permute(0, 2, 3, 1)
            np.savez(folder / f"{part}.npz", x=small.numpy(), y=y.numpy(), classes=np.array(full.classes))
    os.environ["FUSE_DATA"] = str(folder.parent)
    return folder.name
