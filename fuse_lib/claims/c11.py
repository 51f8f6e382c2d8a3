"""Notebook 11: other pairs. Which phase's choice matters more, and whether another one beats Adam or L-BFGS."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from fuse_lib.claims.core import Claim, Finding, above, below, extremes, middle, unsigned, with_interval
from fuse_lib.lab.statistics import Interval, geometric_mean, interval, variance_shares

FLOOR = 1e-12  # of the gap: below it a run counts as solved
CALLS, EARLY = 400, 40  # closure calls of a run, and those before the switch
SEARCHES = ["L-BFGS", "CG", "Newton-CG"]  # second phases with a line search


def results(runs: pd.DataFrame, switch: int = EARLY) -> dict[str, pd.DataFrame]:
    """problem → its runs, pairs with this switch, and `result`: log10 of the gap after the most calls of 100, 200, 400
    at which at most half of the pairs with a line search are solved, and the second phase has begun."""
    found = {}
    for name, some in runs[runs.switch.isin([switch, 0, CALLS])].groupby("problem", sort=False):
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
    last = runs[runs.part == "sensitivity"].switch.max()
    early, late = (
        {name: variance_shares(_pairs(rows), "result", ("first", "second")) for name, rows in results(runs, s).items()}
        for s in (EARLY, last)
    )
    other = max(late, key=lambda name: late[name]["first"].mean)
    effect = (
        f"share of the variance due to the second phase ({other}): {unsigned(early[other]['second'])} with a switch "
        f"after {100 * EARLY / CALLS:.0f} % of the calls, {unsigned(late[other]['second'])} after "
        f"{100 * last / CALLS:.0f} %; the larger one on {_larger(early)}, then {_larger(late)} of {len(early)} problems"
    )
    detail = "; ".join(
        f"{when}, second and first phase: {', '.join(f'{name} {_both(s)}' for name, s in shares.items())}"
        for when, shares in (("log10 gap, AdaHessian left out, early switch", early), ("late", late))
    )
    finding = partial(Finding, effect=effect, detail=detail)
    more = _larger(early) == len(early)
    less = any(s["first"].low > s["second"].high for s in [*early.values(), *late.values()])
    if more and less:
        return finding("depends", on="how late the switch comes")
    return finding("holds" if more else "does not hold" if less else "not shown")


def _larger(shares: dict[str, dict[str, Interval]]) -> int:
    """On how many problems the second phase's share is clearly larger than the first's."""
    return sum(s["second"].low > s["first"].high for s in shares.values())


def another_second(runs: pd.DataFrame, rates: pd.DataFrame) -> Finding:
    """The best other second phase minus L-BFGS, the mean over first phases start by start, for each problem.

    And beside it what the claim is not about: the methods alone, to a target.
    """
    found, best = {}, {}
    for name, rows in results(runs).items():
        some = _of_starts(rows[rows["first"] != "none"], "second")
        others = some.drop(columns=["L-BFGS", "none"], errors="ignore")
        best[name] = others.mean().idxmin()
        found[name] = interval(others[best[name]] - some["L-BFGS"])
    said = ", ".join(f"{name} {with_interval(d)} ({best[name]})" for name, d in found.items())
    calls = rates.pivot_table(index=["problem", "seed"], columns="method", values="calls to 1e-5")
    ratios = (calls["Newton-CG"] / calls["L-BFGS"]).dropna()
    alone = {name: geometric_mean(some) for name, some in ratios.groupby(level="problem")}
    typical = with_interval(found[middle(found)])
    effect = (
        "powers of ten of the gap at equal calls, the best other second phase minus L-BFGS: clearly lower on "
        f"{below(found)}, higher on {above(found)} of {len(found)} problems; the middle one {typical}"
    )
    detail = (
        f"{said}; alone, Newton-CG's calls to an error of 1e-5 over L-BFGS's: "
        f"{', '.join(f'{name} {unsigned(d)}' for name, d in alone.items())}"
    )
    return _judged(found, effect, detail)


def first_helps(runs: pd.DataFrame) -> Finding:
    """L-BFGS after a first phase minus L-BFGS alone: the mean over first phases, start by start."""
    found = {}
    for name, rows in results(runs).items():
        some = _of_starts(rows[rows.second == "L-BFGS"], "first")
        found[name] = interval(some.drop(columns="none").mean(axis=1) - some["none"])
    low, high = (with_interval(found[name]) for name in extremes(found))
    effect = (
        f"powers of ten of the gap at equal calls, with a first phase minus without: clearly lower on {below(found)}, "
        f"higher on {above(found)} of {len(found)} problems; from {low} to {high}"
    )
    said = ", ".join(f"{name} {with_interval(d)}" for name, d in found.items())
    detail = f"mean of five first phases before L-BFGS, which have {EARLY} of the calls, minus L-BFGS alone: {said}"
    return _judged(found, effect, detail)


def _judged(differences: dict[str, Interval], effect: str, detail: str) -> Finding:
    """A lower gap is better."""
    finding = partial(Finding, effect=effect, detail=detail)
    better, worse = below(differences), above(differences)
    if better and worse:
        return finding("depends", on="the problem")
    return finding("holds" if better else "does not hold" if worse else "not shown")


def _pairs(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["first"] != "none") & rows.second.isin(SEARCHES)]


def _of_starts(rows: pd.DataFrame, columns: str) -> pd.DataFrame:
    """The mean result by start and a column."""
    return rows.pivot_table(index="seed", columns=columns, values="result")


def _both(shares: dict[str, Interval]) -> str:
    return f"{unsigned(shares['second'])} and {unsigned(shares['first'])}"


CLAIMS = [
    Claim("The choice of the second phase matters more than that of the first", "the paper's question 3",
          ("11_runs.csv",), second_matters_more),
    Claim("Another second phase than L-BFGS does better after a first one", "the paper's question 3",
          ("11_runs.csv", "11_rates.csv"), another_second),
    Claim("A first phase before L-BFGS pays without noise, from ordinary starts", "the paper's question 3",
          ("11_runs.csv",), first_helps),
]  # fmt: skip
