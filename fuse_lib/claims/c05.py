"""Notebook 05: the three rules of the paper, each tuned alike."""

from __future__ import annotations

import pandas as pd

from fuse_lib.claims.core import Claim, Finding, with_interval
from fuse_lib.lab.statistics import paired


def epoch_rule_is_ahead(runs: pd.DataFrame, minima: pd.DataFrame) -> Finding:
    """In gaps to the minimum: the epoch rule less each of the others, seed by seed."""
    runs = runs[runs.part == "report"].merge(minima[["dataset", "minimum"]], on="dataset")
    runs["gap"] = 100 * (runs.train_loss / runs.minimum - 1)
    found = []
    for (name, arm), some in runs.groupby(["dataset", "arm"], sort=False):
        if "epoch" in set(some.optimizer):
            for other in ("gradient norm", "loss change"):
                found.append(
                    (f"{name}, {arm}, against {other}", paired(some, "gap", "seed", "optimizer", "epoch", other))
                )
    better = [(where, d) for where, d in found if d.high < 0]
    worse = [(where, d) for where, d in found if d.low > 0]
    clear = "; ".join(f"{where}: {with_interval(d)}" for where, d in better + worse)
    lower = sum(d.mean < 0 for _, d in found)
    effect = (
        f"the gap to the minimum, in points, is lower under the epoch rule in {lower} of {len(found)} comparisons, "
        f"clearly in {len(better)}" + (f" ({clear})" if clear else "")
    )
    if len(better) == len(found):
        return Finding("holds", effect)
    if better:
        return Finding("depends", effect, "the data and what follows the switch")
    return Finding("does not hold" if worse else "not shown", effect)


CLAIMS = [
    Claim("The epoch rule is slightly better than the gradient-norm and the loss-change rule", "summary, key results",
          ("05_criteria.csv", "05_minima.csv"), epoch_rule_is_ahead),
]  # fmt: skip
