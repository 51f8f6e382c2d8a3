"""Notebook 07: batch sizes, and the noise of gradients and L-BFGS directions."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from fuse_lib.claims.core import Claim, Finding, with_interval
from fuse_lib.lab.statistics import Ratio, interval, variance_ratio

MINIBATCH = "both"  # the kind of direction whose pairs and gradient are those of minibatches
SMALL, LARGE = 32, 2048
TRAINS = (128, 512, 2048)  # at 32 FUSE-PV ends at chance in four of five seeds, and a spread says nothing


def larger_batches_steady(noise: pd.DataFrame, runs: pd.DataFrame) -> Finding:
    """The exponent p of median error ~ b^p, averaged over a trajectory's points; its interval is over trajectories."""
    some = noise[(noise.side == 16) & (noise.kind == MINIBATCH)]
    fits = {key: np.polyfit(np.log(t.batch), np.log(t.error_median), 1)[0] for key, t in some.groupby(["seed", "step"])}
    found = interval(pd.Series(fits).groupby(level=0).mean())
    typical = np.exp(np.log(some.error_median).groupby(some.batch).mean())
    effect = (
        f"squared relative error of a minibatch L-BFGS direction: {typical[SMALL]:.2g} at {SMALL} images, "
        f"{typical[LARGE]:.2g} at {LARGE}, like the batch size to the power {with_interval(found, 2)}"
    )
    detail = (
        f"CIFAR-10 (16x16), {found.n} trajectories, medians; but final accuracy of FUSE-PV and Adam at equal budgets: "
        f"{_accuracies(runs)}"
    )
    verdict = "holds" if found.high < 0 else "does not hold" if found.low > 0 else "not shown"
    return Finding(verdict, effect, detail=detail)


def samples(runs: pd.DataFrame, optimizer: str, batches: tuple[int, ...]) -> list[np.ndarray]:
    some = runs[(runs.side == 16) & (runs.optimizer == optimizer)]
    return [100 * some[some.batch == b].test_accuracy.to_numpy() for b in batches]


def fuse_varies_more(runs: pd.DataFrame) -> Finding:
    """Variance of the final accuracy over seeds, FUSE-PV's over Adam's, pooled over TRAINS."""
    found = variance_ratio(samples(runs, "fuse_pv", TRAINS), samples(runs, "adam", TRAINS))
    effect = (
        f"variance of the final accuracy over seeds, FUSE-PV's over Adam's at equal budgets: {_said(found)} "
        "(CIFAR-10, 16x16)"
    )
    detail = f"pooled over batches of {', '.join(map(str, TRAINS))}, {_seeds(runs)} seeds each"
    verdict = "holds" if found.low > 1 else "does not hold" if found.high < 1 else "not shown"
    return Finding(verdict, effect, detail=detail)


def larger_batches_mitigate(runs: pd.DataFrame) -> Finding:
    """Variance of FUSE-PV's final accuracy over seeds, the largest batches' over the smallest at which it trains."""
    small = TRAINS[0]
    found = variance_ratio(*(samples(runs, "fuse_pv", (b,)) for b in (LARGE, small)))
    effect = (
        f"variance of FUSE-PV's final accuracy over seeds, with batches of {LARGE} over that with {small}: "
        f"{_said(found)}; {_seeds(runs)} seeds can only show a factor of {found.high / found.ratio:.0f}"
    )
    verdict = "holds" if found.high < 1 else "does not hold" if found.low > 1 else "not shown"
    return Finding(verdict, effect, detail="the same runs")


def _seeds(runs: pd.DataFrame) -> int:
    return runs[runs.side == 16].seed.nunique()


def _accuracies(runs: pd.DataFrame) -> str:
    fuse, adam = ([np.mean(v) for v in samples(runs, who, (SMALL, *TRAINS))] for who in ("fuse_pv", "adam"))
    said = (f"{a:.1f} and {b:.1f} % at {size}" for a, b, size in zip(fuse, adam, (SMALL, *TRAINS), strict=True))
    return ", ".join(said)


def _said(found: Ratio) -> str:
    low, high = (f"{x:.2g}" if math.isfinite(x) else "∞" for x in (found.low, found.high))
    return f"{found.ratio:.2g} [{low}, {high}]"


CLAIMS = [
    Claim("Larger batches stabilize the second-order updates", "summary, first experiments",
          ("07_variance.csv", "07_runs.csv"), larger_batches_steady),
    Claim("FUSE's results vary slightly more than Adam's", "summary, section IV", ("07_runs.csv",), fuse_varies_more),
    Claim("Larger batches mitigate that variance", "summary, section IV", ("07_runs.csv",), larger_batches_mitigate),
]  # fmt: skip
