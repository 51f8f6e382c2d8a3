"""Notebook 06: image classification at equal budgets, every optimizer tuned alike."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fuse_lib.claims.core import Claim, Finding, with_interval
from fuse_lib.lab.statistics import Interval, paired

MODELS = {"linear": "softmax regression", "mlp": "MLP", "cnn": "CNN", "densenet": "DenseNet"}


def _differences(runs: pd.DataFrame, value: str, baseline: str) -> dict[tuple[str, str], Interval]:
    return {
        where: paired(some, value, "seed", "contestant", "fuse_pv", baseline)
        for where, some in runs.groupby(["dataset", "model"], sort=False)
    }


def better_accuracy(runs: pd.DataFrame) -> Finding:
    """In points of test accuracy, seed by seed, against Adam with cosine decay and Adam with a constant rate."""
    runs = runs.assign(points=100 * runs.test_accuracy)
    effects, ahead, behind, cases = [], 0, 0, 0
    for baseline, name in (("adam_cosine", "Adam with cosine decay"), ("adam", "Adam with a constant rate")):
        found = _differences(runs, "points", baseline)
        clear = [w for w, d in found.items() if d.high < 0 or d.low > 0]
        more, fewer = sum(found[w].mean > 0 for w in clear), sum(found[w].mean < 0 for w in clear)
        best, worst = (f(found, key=lambda w: found[w].mean) for f in (max, min))
        effects.append(
            f"against tuned {name} clearly ahead on {more} and behind on {fewer} of {len(found)} pairs of data set and "
            f"model, from {_said(worst, found[worst])} to {_said(best, found[best])} points"
        )
        ahead, behind, cases = ahead + more, behind + fewer, cases + len(found)
    effect = "test accuracy, " + "; ".join(effects)
    if ahead == cases:
        return Finding("holds", effect)
    if ahead and behind:
        return Finding("depends", effect, "data, model and baseline")
    return Finding("does not hold" if behind else "not shown", effect)


def lower_loss(runs: pd.DataFrame) -> Finding:
    """Training loss at equal gradient evaluations over that of tuned Adam with cosine decay, seed by seed."""
    found = _differences(runs.assign(log_loss=np.log(runs.train_loss)), "log_loss", "adam_cosine")
    found = {where: Interval(*np.exp(d[:3]), d.n) for where, d in found.items()}
    ahead, behind = sum(d.high < 1 for d in found.values()), sum(d.low > 1 for d in found.values())
    best, worst = (f(found, key=lambda w: found[w].mean) for f in (min, max))
    effect = (
        f"training loss over that of tuned Adam with cosine decay: clearly lower on {ahead} and higher on {behind} of "
        f"{len(found)}, from {_ratio(best, found[best])} to {_ratio(worst, found[worst])} times Adam's"
    )
    if ahead == len(found):
        return Finding("holds", effect)
    if ahead:
        return Finding("depends", effect, "data, model and the second phase's batches")
    return Finding("does not hold" if behind else "not shown", effect)


def _ratio(where: tuple[str, str], d: Interval) -> str:
    return f"{with_interval(d, 2, sign=False)} ({where[0]}, {MODELS[where[1]]})"


def _said(where: tuple[str, str], d: Interval) -> str:
    return f"{with_interval(d)} ({where[0]}, {MODELS[where[1]]})"


CLAIMS = [
    Claim("FUSE-PV classifies better than Adam (MNIST, Fashion-MNIST, KMNIST, USPS, CIFAR-10)", "summary, key results",
          ("06_runs.csv",), better_accuracy),
    Claim("FUSE-PV reaches a lower training loss than Adam on them", "summary, mechanism 1", ("06_runs.csv",),
          lower_loss),
]  # fmt: skip
