"""Notebook 08: the protocol behind the paper's headline, as it stands and mended one switch at a time."""

from __future__ import annotations

import pandas as pd

from fuse_lib.claims.core import Claim, Finding, with_interval
from fuse_lib.lab.statistics import Interval, paired


def headline(runs: pd.DataFrame) -> Finding:
    """FUSE less Adam in points of accuracy, seed by seed: as it stands, at equal cost, mended, and on a dense net."""
    runs = _largest(runs)
    found = {rung: _difference(runs, rung) for rung in (0, 2, 7, 8)}
    fuse, adam = (100 * runs[(runs.rung == 0) & (runs.contestant == who)].accuracy.mean() for who in ("fuse", "adam"))
    effect = (
        f"{runs.epochs.iloc[0]} epochs, not 100; protocol as it stands: {fuse:.1f} % against {adam:.1f} %, difference "
        f"{with_interval(found[0])} points, at {_cost(runs):.1f} times Adam's cost in evaluations; at equal cost, on "
        f"all test images: {with_interval(found[2])}; with every switch as in the paper's text: "
        f"{with_interval(found[7])}, on a net with dense layers as well: {with_interval(found[8])}"
    )
    if all(d.low > 0 for d in found.values()):
        return Finding("holds", effect)
    if any(d.low > 0 for d in found.values()):
        return Finding("depends", effect, "what is counted as cost and on the protocol")
    return Finding("does not hold" if any(d.high < 0 for d in found.values()) else "not shown", effect)


def epoch_rule(runs: pd.DataFrame) -> Finding:
    """FUSE under the epoch rule less FUSE under the rule that the public code runs, at equal cost, seed by seed."""
    runs = _largest(runs)
    fuse = runs[(runs.contestant == "fuse") & runs.rung.isin([2, 3])].assign(points=lambda t: 100 * t.accuracy)
    found = paired(fuse, "points", "seed", "name", "epoch rule", "equal cost")
    effect = (
        f"CIFAR-10, protocol of the public code, {runs.epochs.iloc[0]} epochs, equal cost: L-BFGS for good after three "
        f"epochs of Adam, less L-BFGS whenever the last loss is below 2.0: {with_interval(found)} points of accuracy"
    )
    return Finding("holds" if found.low > 0 else "does not hold" if found.high < 0 else "not shown", effect)


def _largest(runs: pd.DataFrame) -> pd.DataFrame:
    """The ladder at the largest scale that is recorded."""
    return runs[(runs.part == "ladder") & (runs.epochs == runs.epochs.max()) & (runs.dataset == "cifar10")]


def _difference(runs: pd.DataFrame, rung: int) -> Interval:
    points = runs[runs.rung == rung].assign(points=lambda t: 100 * t.accuracy)
    return paired(points, "points", "seed", "contestant", "fuse", "adam")


def _cost(runs: pd.DataFrame) -> float:
    samples = runs[runs.rung == 0].groupby("contestant").samples.mean()
    return samples["fuse"] / samples["adam"]


CLAIMS = [
    Claim("FUSE reaches 36.6 % on CIFAR-10 with a DenseNet, Adam 34.3 %", "summary, primary result", ("08_runs.csv",),
          headline),
    Claim("The epoch rule is better than the rule that the public code runs in its place", "a question of this course",
          ("08_runs.csv",), epoch_rule),
]  # fmt: skip
