"""Notebook 16: a switchover rule without a threshold, beside the best fixed point and beside Adam on minibatches."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fuse_lib.claims.core import Claim, Finding, with_interval
from fuse_lib.lab.statistics import Interval, best_in_hindsight, geometric_mean, interval

BUDGET = 400  # evaluations of a run; what did not arrive is counted with so many
TARGET = "gap 0.001"
NEAR = 1.15


def near_the_best(runs: pd.DataFrame) -> Finding:
    """Evaluations of `auto` over those of the best fixed switch point of each task, known from the other half of the
    seeds."""
    costs = runs.assign(cost=runs[TARGET].fillna(BUDGET)).pivot_table(
        index=["held_out", "task", "seed"], columns="rule", values="cost"
    )
    fixed = [rule for rule in costs if rule.startswith("step:")]
    ratios = {
        key: some.div(best_in_hindsight(some[fixed]), axis=0) for key, some in costs.groupby(level=["held_out", "task"])
    }
    over = pd.DataFrame({key: np.exp(np.log(some).mean()) for key, some in ratios.items()}).T
    each = {key: geometric_mean(some["auto"]) for key, some in ratios.items()}
    every, held = geometric_mean(over["auto"]), geometric_mean(over["auto"][[held for held, _ in over.index]])
    near, within, beyond = (
        sum(map(fine, each.values()))
        for fine in (lambda d: d.mean <= NEAR, lambda d: d.high <= NEAR, lambda d: d.low > NEAR)
    )
    worst, others = over["auto"].idxmax(), over[fixed].max()
    effect = (
        f"full batch, evaluations to a gap of 1e-3, trials included, over those of the best of five fixed points "
        f"(chosen on one half of {len(ratios[worst])} seeds, charged on the other): {_said(every)} on {every.n} tasks, "
        f"{_said(held)} on the {held.n} held out (intervals over tasks); at most {NEAR} on {near} (the interval's "
        f"upper end on {within}, its lower end is above on {beyond}), at worst {_said(each[worst])} ({worst[1]}); one "
        f"fixed point for all of them is at worst {others.min():.2f} ({others.idxmin()}) to {others.max():.2f} "
        f"({others.idxmax()})"
    )
    return _of_so_many(near, len(over), effect, "the task")


def _said(ratio: Interval) -> str:
    return with_interval(ratio, 2, sign=False)


def no_way_back(runs: pd.DataFrame) -> Finding:
    """Lowest loss after 20 more evaluations: L-BFGS going on, or Adam taking over where it is."""
    lowest = runs.pivot_table(index=["task", "evals", "seed"], columns="how", values="lowest 20").dropna()
    ahead = lowest[["adam", "new adam"]].min(axis=1) < lowest["second phase"] - 1e-12 * lowest["second phase"].abs()
    effect = (
        f"full batch, from where L-BFGS is after {_list(sorted(runs.evals.unique()))} evaluations: Adam, with its "
        f"moments as they were or new, has the lower loss after 20 more in {ahead.sum()} of {len(ahead)} cases on "
        f"{runs.task.nunique()} tasks"
    )
    return Finding("does not hold", effect) if ahead.mean() < 0.05 else Finding("depends", effect, "the task")


def _list(values: list) -> str:
    return ", ".join(map(str, values[:-1])) + f" or {values[-1]}"


def not_worse_than_adam(runs: pd.DataFrame) -> Finding:
    """Final training loss of `auto` over Adam's at equal samples, in per cent, seed by seed."""
    loss = runs.pivot_table(index=["held_out", "task", "seed"], columns="rule", values="train_loss")
    more = 100 * (loss["auto"] / loss["never"] - 1)
    found = {key: interval(some) for key, some in more.groupby(level=["held_out", "task"])}
    trials = runs[runs.rule == "auto"].groupby(["held_out", "task"])["trials"].sum()
    fine = sum(i.high <= 1.0 for i in found.values())
    worst = max(found, key=lambda key: found[key].high)
    effect = (
        f"minibatches, final training loss beside Adam's at equal samples: the interval's upper end is at most +1 % on "
        f"{fine} of {len(found)} tasks, at worst {with_interval(found[worst])} % ({worst[1]}); on "
        f"{int((trials == 0).sum())} tasks no trial was made, and the runs are Adam's"
    )
    return _of_so_many(fine, len(found), effect, "the batch size")


def _of_so_many(good: int, tasks: int, effect: str, on: str) -> Finding:
    """It holds on all tasks, on some or on none."""
    if good == tasks:
        return Finding("holds", effect)
    return Finding("depends", effect, on) if good else Finding("does not hold", effect)


CLAIMS = [
    Claim("The switch can be chosen without a threshold, near the best point", "summary, limitations",
          ("16_full.csv",), near_the_best),
    Claim("A switch that came too early is mended by going back to Adam", "a question of this course",
          ("16_back.csv",), no_way_back),
    Claim("On minibatches an automatic switch is no worse than Adam", "summary, limitations",
          ("16_minibatch.csv",), not_worse_than_adam),
]  # fmt: skip
