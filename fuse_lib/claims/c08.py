"""Notebook 08: the protocol behind the paper's headline, as it stands and mended one switch at a time."""

from __future__ import annotations

from functools import partial

import pandas as pd

from fuse_lib.claims.core import Claim, Finding, above, below, with_interval
from fuse_lib.lab.statistics import Interval, paired


def headline(runs: pd.DataFrame) -> Finding:
    """FUSE less Adam in points of accuracy, seed by seed: as it stands, at equal cost, mended, and on a dense net."""
    runs = _largest(runs)
    found = {rung: _difference(runs, rung) for rung in (0, 2, 7, 8)}
    fuse, adam = (100 * runs[(runs.rung == 0) & (runs.contestant == who)].accuracy.mean() for who in ("fuse", "adam"))
    effect = (
        f"{runs.epochs.iloc[0]} epochs, not 100: {fuse:.1f} % against Adam's {adam:.1f} %, {with_interval(found[0])} "
        f"points, with the code as it stands; {with_interval(found[8])} with everything as in the paper's text"
    )
    detail = (
        f"as it stands FUSE has {_cost(runs):.1f} times Adam's cost in evaluations; at equal cost, on all test images "
        f"{with_interval(found[2])} points; with every switch as in the paper's text {with_interval(found[7])}, on a "
        f"net with dense layers as well {with_interval(found[8])}"
    )
    finding = partial(Finding, effect=effect, detail=detail)
    if above(found) == len(found):
        return finding("holds")
    if above(found):
        return finding("depends", on="what is counted as cost and on the protocol")
    return finding("does not hold" if below(found) else "not shown")


def epoch_rule(runs: pd.DataFrame) -> Finding:
    """FUSE under the epoch rule less FUSE under the rule that the public code runs, at equal cost, seed by seed."""
    runs = _largest(runs)
    fuse = runs[(runs.contestant == "fuse") & runs.rung.isin([2, 3])].assign(points=lambda t: 100 * t.accuracy)
    found = paired(fuse, "points", "seed", "name", "epoch rule", "equal cost")
    effect = (
        f"accuracy on CIFAR-10 at equal cost, epoch rule less the code's rule: {with_interval(found)} points "
        f"({found.n} pairs of runs, {runs.epochs.iloc[0]} epochs)"
    )
    detail = (
        "protocol of the public code; L-BFGS for good after three epochs of Adam, less L-BFGS whenever the last loss "
        "is below 2.0"
    )
    verdict = "holds" if found.low > 0 else "does not hold" if found.high < 0 else "not shown"
    return Finding(verdict, effect, detail=detail)


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
