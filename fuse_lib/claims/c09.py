"""Notebook 09: what the complexity bounds say of measured runs, and whether the best ζ follows ε."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pandas as pd

from fuse_lib.claims.core import Claim, Finding, above, below, signed, unsigned, with_interval
from fuse_lib.lab.statistics import Interval, geometric_mean, interval

MIDDLE = "quadratic 1000"


def strongly_convex(runs: pd.DataFrame) -> Finding:
    """Evaluations against 1/ζ in the first phase and against log 1/ε in the second, on the quadratic of κ = 1000."""
    some = runs[runs.problem == MIDDLE]
    adam = some[(some.optimizer == "Adam") & (some.setting == "constant") & (some.lr == 0.3)]
    lbfgs = some[(some.optimizer == "FUSE-PV") & (some.setting == "always")]
    literal, current = _slopes(adam, "mean", 9e-4, 0.11), _slopes(adam, "now", 9e-9, 1.1e-3)
    names, gaps = _targets(runs, "gap", 1e-10, 1.1e-4)
    decade = interval(_slope(np.log10(1 / gaps), row) for row in lbfgs[names].to_numpy(float))
    effect = (
        f"quadratic, κ = 1000: Adam's evaluations grow like 1/ζ to the power {unsigned(literal)} with the mean over "
        f"all steps, {unsigned(current)} with the present gradient; allowed is 1"
    )
    detail = (
        "the mean is the paper's rule, and 1 its arithmetic; "
        f"L-BFGS takes {unsigned(decade, 1)} evaluations for each power of ten of ε"
    )
    verdict = "not contradicted" if literal.low < 1.05 and current.high < 1 else "does not hold"
    return Finding(verdict, effect, detail=detail)


def non_convex(runs: pd.DataFrame) -> Finding:
    """Slope of log passes over log 1/ε, ε the gradient's norm, on a tanh net."""
    net = runs[(runs.problem == "net") & (runs.optimizer == "FUSE-PV") & (runs.setting == "mean:0.32")]
    found = _slopes(net, "now", 1e-12, 0.11)
    slope = Interval(*(2 * v for v in found[:3]), found.n)  # the columns are of squared norms
    effect = f"tanh net on digits: passes grow like 1/ε to the power {unsigned(slope)}, where the bound allows 2"
    verdict = "not contradicted" if slope.low < 2 else "does not hold"
    return Finding(verdict, effect, detail="ε is the gradient's norm")


def smaller_than(runs: pd.DataFrame) -> Finding:
    """FUSE-PV's evaluations over a baseline's, which is at its best for each ε; geometric means over seeds."""
    some = runs[runs.problem == MIDDLE]
    fuse = some[(some.optimizer == "FUSE-PV") & (some.setting == "last:0.1")].set_index("seed")
    digits = runs[runs.problem == "digits 0.0001, b=32"]
    after_four = digits[(digits.optimizer == "FUSE-PV") & (digits.setting == "passes:4")].set_index("seed")
    found = {
        "κ = 1000, ε = 1e-6, over Adam's": _ratio(fuse, some[some.optimizer == "Adam"], "gap 1e-06"),
        "over SGD's": _ratio(fuse, some[some.optimizer.str.fullmatch(r"SGD [\d.]+")], "gap 1e-06"),
        "at ε = 0.1 over SGD's": _ratio(fuse, some[some.optimizer.str.fullmatch(r"SGD [\d.]+")], "gap 0.1"),
        "digits, minibatches, ε = 0.01, over Adam's with decay": _ratio(
            after_four, digits[digits.optimizer == "Adam, cosine"], "gap 0.01"
        ),
    }
    exact, *_, noisy = map(unsigned, found.values())
    effect = (
        f"evaluations over tuned Adam's: {exact} on a quadratic without noise, to a gap of 1e-6; {noisy} on "
        "minibatches of digits, to 0.01"
    )
    detail = ", ".join(f"{name} {unsigned(ratio)}" for name, ratio in found.items())
    finding = partial(Finding, effect=effect, detail=detail)
    if below(found, 1) and above(found, 1):
        return finding("depends", on="the accuracy wanted and on noise")
    return finding("holds" if below(found, 1) else "does not hold" if above(found, 1) else "not shown")


def zeta_follows(runs: pd.DataFrame) -> Finding:
    """The best number of passes of Adam for each ε: slope of its logarithm over log 1/ε, problem by problem."""
    some = runs[(runs.part == "stochastic") & runs.setting.str.startswith("passes:")]
    some = some.assign(passes=some.setting.str.split(":").str[1].astype(float))
    names, gaps = _targets(runs, "gap", 1e-9, 1.1e-3)
    found = {}
    for name, rows in some[some.passes > 0].groupby("problem", sort=False):
        best = [g.set_index("passes")[names].idxmin().to_numpy(float) for _, g in rows.groupby("seed")]
        found[name] = interval(_slope(np.log(1 / gaps), np.log(row)) for row in best)
    means = [d.mean for d in found.values()]
    effect = (
        f"the best number of Adam's passes changes like 1/ε to the power {with_interval(interval(means), 2)} (mean of "
        f"{len(means)} problems); were ζ to follow ε it would be about 1"
    )
    detail = (
        f"by problem from {signed(min(means), 2)} to {signed(max(means), 2)} over six powers of ten of ε, clearly "
        f"above 0 on {above(found)} of {len(found)}"
    )
    return Finding("does not hold" if below(found, 0.5) == len(found) else "not shown", effect, detail=detail)


def _targets(runs: pd.DataFrame, kind: str, low: float, high: float) -> tuple[list[str], np.ndarray]:
    """(names, values) of the columns of one kind of target between two bounds."""
    names = [c for c in runs if c.startswith(f"{kind} ") and low <= float(c.split()[1]) <= high]
    return names, np.array([float(c.split()[1]) for c in names])


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    there = np.isfinite(x) & np.isfinite(y)
    return float(np.polyfit(x[there], y[there], 1)[0]) if there.sum() >= 3 else math.nan


def _slopes(runs: pd.DataFrame, kind: str, low: float, high: float) -> Interval:
    """Of log cost over log 1/target, seed by seed."""
    names, values = _targets(runs, kind, low, high)
    return interval(_slope(np.log(1 / values), np.log(row)) for row in runs[names].to_numpy(float))


def _best(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """Runs of the setting with the lowest mean where all seeds arrive, by seed."""
    means = runs.groupby(["optimizer", "setting", "lr"])[name].agg(lambda c: c.mean() if c.notna().all() else math.inf)
    return runs.set_index(["optimizer", "setting", "lr"]).loc[[means.idxmin()]].set_index("seed")


def _ratio(fuse: pd.DataFrame, others: pd.DataFrame, name: str) -> Interval:
    return geometric_mean(fuse[name] / _best(others, name)[name])


CLAIMS = [
    Claim("Complexity O(max{1/ζ, log 1/ε}) on strongly convex problems", "summary, key results", ("09_runs.csv",),
          strongly_convex),
    Claim("Complexity O(1/ε²) on non-convex problems", "summary, key results", ("09_runs.csv",), non_convex),
    Claim("Smaller computational complexity than SGD and Adam", "summary, executive summary", ("09_runs.csv",),
          smaller_than),
    Claim("ζ should be tied to ε", "the paper's question 2", ("09_runs.csv",), zeta_follows),
]  # fmt: skip
