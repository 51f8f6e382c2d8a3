"""Notebook 11: other pairs. Which phase's choice matters more, and whether another one beats Adam or L-BFGS."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fuse_lib.claims.core import Claim, Finding, with_interval
from fuse_lib.lab.statistics import Interval, geometric_mean, interval, variance_shares

FLOOR = 1e-12  # of the gap: below it a run counts as solved
SEARCHES = ["L-BFGS", "CG", "Newton-CG"]  # second phases with a line search


def results(runs: pd.DataFrame, switch: int = 40) -> dict[str, pd.DataFrame]:
    """problem → its runs, pairs with this switch, and `result`: log10 of the gap after the most calls of 100, 200, 400
    at which at most half of the pairs with a line search are solved, and the second phase has begun."""
    found = {}
    for name, some in runs[runs.switch.isin([switch, 0, 400])].groupby("problem", sort=False):
        for calls in (c for c in (400, 200, 100) if c > switch):
            rows = some.assign(result=np.log10(some[f"gap {calls}"].clip(FLOOR, 10.0)))
            if (_pairs(rows).result > np.log10(FLOOR)).mean() >= 0.5:
                break
        found[name] = rows
    return found


def second_matters_more(runs: pd.DataFrame) -> Finding:
    """Shares of the variance of the result, AdaHessian, by far the slowest, left out: it would decide alone.

    For the switch after a tenth of the budget, and again where it comes latest.
    """
    early, late = (
        {name: variance_shares(_pairs(rows), "result", ("first", "second")) for name, rows in results(runs, s).items()}
        for s in (40, runs[runs.part == "sensitivity"].switch.max())
    )
    said = "; ".join(f"{name} {_both(s)}" for name, s in early.items())
    other = max(late, key=lambda name: late[name]["first"].mean)
    effect = (
        "shares of the variance of log10 gap, second and first phase, switch after a tenth of the calls, AdaHessian "
        f"left out: {said}; after four tenths, {other}: {_both(late[other])}"
    )
    more = all(s["second"].low > s["first"].high for s in early.values())
    less = any(s["first"].low > s["second"].high for s in [*early.values(), *late.values()])
    if more and less:
        return Finding("depends", effect, "how late the switch comes")
    return Finding("holds" if more else "does not hold" if less else "not shown", effect)


def another_second(runs: pd.DataFrame, rates: pd.DataFrame) -> Finding:
    """The best other second phase minus L-BFGS, the mean over first phases start by start, for each problem.

    And beside it what the claim is not about: the methods alone, to a target.
    """
    found = {}
    for name, rows in results(runs).items():
        some = _of_starts(rows[rows["first"] != "none"], "second")
        others = some.drop(columns=["L-BFGS", "none"], errors="ignore")
        best = others.mean().idxmin()
        found[name] = best, interval(others[best] - some["L-BFGS"])
    said = ", ".join(f"{name} {with_interval(d)} ({best})" for name, (best, d) in found.items())
    calls = rates.pivot_table(index=["problem", "seed"], columns="method", values="calls to 1e-5")
    ratios = (calls["Newton-CG"] / calls["L-BFGS"]).dropna()
    alone = {name: geometric_mean(some) for name, some in ratios.groupby(level="problem")}
    effect = (
        f"decades of the gap at equal closure calls, the best other one minus L-BFGS: {said}; alone, Newton-CG's calls "
        f"to an error of 1e-5 over L-BFGS's: {', '.join(f'{name} {_said(d)}' for name, d in alone.items())}"
    )
    return _verdict([d for _, d in found.values()], effect)


def first_helps(runs: pd.DataFrame) -> Finding:
    """L-BFGS after a first phase minus L-BFGS alone: the mean over first phases, start by start."""
    found = {}
    for name, rows in results(runs).items():
        some = _of_starts(rows[rows.second == "L-BFGS"], "first")
        found[name] = interval(some.drop(columns="none").mean(axis=1) - some["none"])
    said = ", ".join(f"{name} {with_interval(d)}" for name, d in found.items())
    effect = (
        f"decades of the gap at equal calls, of which the first phase has 40: five first phases before L-BFGS minus "
        f"L-BFGS alone, without noise: {said}"
    )
    return _verdict([*found.values()], effect)


def _verdict(differences: list[Interval], effect: str) -> Finding:
    """A lower gap is better."""
    better, worse = any(d.high < 0 for d in differences), any(d.low > 0 for d in differences)
    if better and worse:
        return Finding("depends", effect, "the problem")
    return Finding("holds" if better else "does not hold" if worse else "not shown", effect)


def _pairs(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["first"] != "none") & rows.second.isin(SEARCHES)]


def _of_starts(rows: pd.DataFrame, columns: str) -> pd.DataFrame:
    """The mean result by start and a column."""
    return rows.pivot_table(index="seed", columns=columns, values="result")


def _both(shares: dict[str, Interval]) -> str:
    return f"{_said(shares['second'])} and {_said(shares['first'])}"


def _said(share: Interval) -> str:
    return with_interval(share, 2, sign=False)


CLAIMS = [
    Claim("The choice of the second phase matters more than that of the first", "the paper's question 3",
          ("11_runs.csv",), second_matters_more),
    Claim("Another second phase than L-BFGS does better after a first one", "the paper's question 3",
          ("11_runs.csv", "11_rates.csv"), another_second),
    Claim("A first phase before L-BFGS pays without noise, from ordinary starts", "the paper's question 3",
          ("11_runs.csv",), first_helps),
]  # fmt: skip
