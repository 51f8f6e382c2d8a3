"""Notebook 00: a small net on 2,000 images, full batch."""

from __future__ import annotations

import pandas as pd

from fuse_lib.claims.core import Claim, Finding, with_interval
from fuse_lib.lab.statistics import paired


def finishes_lower(runs: pd.DataFrame) -> Finding:
    """Each at the learning rate that is best for its loss; the same number of gradient evaluations."""
    best = runs.groupby(["optimizer", "lr"]).train_loss.mean().groupby("optimizer").idxmin()
    tuned = runs[[(o, lr) in set(best) for o, lr in zip(runs.optimizer, runs.lr, strict=True)]]
    adam = paired(tuned, "train_loss", "seed", "optimizer", "FUSE-PV", "Adam, cosine")
    alone = paired(tuned, "train_loss", "seed", "optimizer", "FUSE-PV", "L-BFGS")
    accuracy = paired(
        tuned.assign(points=100 * tuned.test_accuracy), "points", "seed", "optimizer", "FUSE-PV", "Adam, cosine"
    )
    verdict = "holds" if adam.high < 0 else "does not hold" if adam.low > 0 else "not shown"
    ours, theirs = (tuned[tuned.optimizer == who].train_loss.mean() for who in ("FUSE-PV", "Adam, cosine"))
    effect = (
        f"training objective at equal cost, each tuned: FUSE-PV {ours:.3f}, Adam with cosine decay {theirs:.3f}, "
        f"difference {with_interval(adam, 3)}; from L-BFGS alone {with_interval(alone, 3)}"
    )
    detail = (
        f"test accuracy {with_interval(accuracy)} points against Adam; tuned: the learning rate is best for the loss"
    )
    return Finding(verdict, effect, detail=detail)


CLAIMS = [
    Claim("After the switch L-BFGS converges faster than Adam would (full batch)", "summary, mechanism 1",
          ("00_learning_rates.csv",), finishes_lower),
]  # fmt: skip
