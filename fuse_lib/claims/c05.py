"""Notebook 05: the three rules of the paper, each tuned alike."""

from __future__ import annotations

from functools import partial

import pandas as pd

from fuse_lib.claims.core import DATASETS, Claim, Finding, above, below, extremes, with_interval
from fuse_lib.lab.statistics import paired


def epoch_rule_is_ahead(runs: pd.DataFrame, minima: pd.DataFrame) -> Finding:
    """In gaps to the minimum, in per cent of it: the epoch rule less each of the others, seed by seed."""
    runs = runs[runs.part == "report"].merge(minima[["dataset", "minimum"]], on="dataset")
    runs["gap"] = 100 * (runs.train_loss / runs.minimum - 1)
    found = {}
    for (name, arm), some in runs.groupby(["dataset", "arm"], sort=False):
        if "epoch" in set(some.optimizer):
            for other in ("gradient norm", "loss change"):
                where = f"{DATASETS[name]}, {arm}, against {other}"
                found[where] = paired(some, "gap", "seed", "optimizer", "epoch", other)
    lower, better, worse = sum(d.mean < 0 for d in found.values()), below(found), above(found)
    clearest, worst = min(found, key=lambda where: found[where].high), extremes(found)[1]
    effect = (
        f"excess over the lowest loss, in %, epoch rule minus another: below 0 in {lower} of {len(found)} comparisons, "
        f"clearly in {better}; the clearest {with_interval(found[clearest])}, the worst {with_interval(found[worst])}"
    )
    finding = partial(
        Finding, effect=effect, detail="; ".join(f"{where} {with_interval(d)}" for where, d in found.items())
    )
    if better == len(found):
        return finding("holds")
    if better:
        return finding("depends", on="the data and what follows the switch")
    return finding("does not hold" if worse else "not shown")


CLAIMS = [
    Claim("The epoch rule is slightly better than the gradient-norm and the loss-change rule", "summary, key results",
          ("05_criteria.csv", "05_minima.csv"), epoch_rule_is_ahead),
]  # fmt: skip
