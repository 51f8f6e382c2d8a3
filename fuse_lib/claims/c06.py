"""Notebook 06: image classification at equal budgets, every optimizer tuned alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from fuse_lib.claims.core import DATASETS, Claim, Finding, above, below, extremes, unsigned, with_interval
from fuse_lib.lab.statistics import Interval, paired

MODELS = {"linear": "softmax regression", "mlp": "MLP", "cnn": "CNN", "densenet": "DenseNet"}
BASELINES = {"adam_cosine": "Adam with cosine decay", "adam": "Adam with a constant rate"}


def _differences(runs: pd.DataFrame, value: str, baseline: str) -> dict[tuple[str, str], Interval]:
    return {
        where: paired(some, value, "seed", "contestant", "fuse_pv", baseline)
        for where, some in runs.groupby(["dataset", "model"], sort=False)
    }


def better_accuracy(runs: pd.DataFrame) -> Finding:
    """In points of test accuracy, seed by seed, against Adam with cosine decay and Adam with a constant rate."""
    runs = runs.assign(points=100 * runs.test_accuracy)
    found = {name: _differences(runs, "points", baseline) for baseline, name in BASELINES.items()}
    ahead, behind, cases = (sum(map(count, found.values())) for count in (above, below, len))
    decayed, constant = found.values()
    worst, best = (with_interval(decayed[where]) for where in extremes(decayed))
    effect = (
        f"test accuracy minus tuned Adam's with cosine decay, points: clearly higher on {above(decayed)}, lower on "
        f"{below(decayed)} of {len(decayed)} pairs of data and model; {worst} to {best}; against a constant rate "
        f"{above(constant)} and {below(constant)}"
    )
    detail = "; ".join(f"against {name} from {_from_to(some, with_interval)} points" for name, some in found.items())
    finding = partial(Finding, effect=effect, detail=detail)
    if ahead == cases:
        return finding("holds")
    if ahead and behind:
        return finding("depends", on="data, model and baseline")
    return finding("does not hold" if behind else "not shown")


def lower_loss(runs: pd.DataFrame) -> Finding:
    """Training loss at equal gradient evaluations over that of tuned Adam with cosine decay, seed by seed."""
    found = _differences(runs.assign(log_loss=np.log(runs.train_loss)), "log_loss", "adam_cosine")
    found = {where: Interval(*np.exp(d[:3]), d.n) for where, d in found.items()}
    low, high = (unsigned(found[where]) for where in extremes(found))
    effect = (
        f"training loss over that of tuned Adam with cosine decay: clearly lower on {below(found, 1)}, higher on "
        f"{above(found, 1)} of {len(found)} pairs of data and model; from {low} to {high} times"
    )
    finding = partial(Finding, effect=effect, detail=f"from {_from_to(found, unsigned)} times")
    if below(found, 1) == len(found):
        return finding("holds")
    if below(found, 1):
        return finding("depends", on="data, model and the second phase's batches")
    return finding("does not hold" if above(found, 1) else "not shown")


def _from_to(found: dict[tuple[str, str], Interval], number: Callable[[Interval], str]) -> str:
    """The lowest and the highest, and where."""
    low, high = (f"{number(found[where])} ({DATASETS[where[0]]}, {MODELS[where[1]]})" for where in extremes(found))
    return f"{low} to {high}"


CLAIMS = [
    Claim("FUSE-PV classifies better than Adam (MNIST, Fashion-MNIST, KMNIST, USPS, CIFAR-10)", "summary, key results",
          ("06_runs.csv",), better_accuracy),
    Claim("FUSE-PV reaches a lower training loss than Adam on them", "summary, mechanism 1", ("06_runs.csv",),
          lower_loss),
]  # fmt: skip
