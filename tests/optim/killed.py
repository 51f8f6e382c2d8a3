"""A training script that can be killed at any moment: it goes on from its last checkpoint and ends in the same bits.

    python -m tests.optim.killed CHECKPOINT RULE

It writes one byte to its standard output for each step it begins ("s") and each checkpoint it has half written ("w").
"""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path

import torch

from fuse_lib import FusePV
from tests.optim.tools import closure_for, net

STEPS, EVERY = 36, 3  # steps in all, and from one checkpoint to the next
RULES = ("step:12", "gradnorm:1e3:5")  # the latter fires at once and then collects pairs


def write(path: Path, content: dict, tell) -> None:
    """Atomically: the file is the old one or the new one, whenever this is killed."""
    data = io.BytesIO()
    torch.save(content, data)
    data = data.getvalue()
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        tell(b"w")
        file.write(data[len(data) // 2 :])
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def train(path: Path, rule: str, tell=lambda event: None) -> dict:
    """Minibatches up to the switch, then all rows. Returns the last checkpoint."""
    torch.set_num_threads(1)
    model, x, y = net()
    opt = FusePV(model.parameters(), lr=1e-2, switchover=rule, handover="both", history_size=4)
    batches = torch.Generator().manual_seed(5)
    done, reports = 0, []
    if path.exists():
        saved = torch.load(path, weights_only=True)
        model.load_state_dict(saved["model"])
        opt.load_state_dict(saved["opt"])
        batches.set_state(saved["batches"])
        done, reports = saved["done"], saved["reports"]
    while True:
        if done % EVERY == 0:
            content = {"model": model.state_dict(), "opt": opt.state_dict(), "batches": batches.get_state(),
                       "done": done, "reports": reports}  # fmt: skip
            write(path, content, tell)
            if done == STEPS:
                return content
        tell(b"s")
        rows = torch.arange(len(x))
        if opt.phase == "first_order":
            rows = torch.randperm(len(x), generator=batches)[:16]
        opt.step(closure_for(opt, model, x[rows], y[rows]))
        reports.append(repr(opt.last_step))
        done += 1


def speak_to(descriptor: int):
    def tell(event: bytes) -> None:
        os.write(descriptor, event)
        time.sleep(0.002)  # so that a kill hits here too

    return tell


if __name__ == "__main__":
    train(Path(sys.argv[1]), sys.argv[2], speak_to(1))
