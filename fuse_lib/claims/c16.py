"""Notebook 16: a switchover rule without a threshold, beside the best fixed point and beside Adam on minibatches."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from fuse_lib.claims.core import Claim, Finding, unsigned, with_interval
from fuse_lib.lab.statistics import best_in_hindsight, geometric_mean, interval

BUDGET = 400  # evaluations of a run; what did not arrive is counted with so many
TARGET = "gap 0.001"
NEAR = 1.15
AFTER = 20  # evaluations
ALLOWED = 1.0  # per cent above Adam's loss


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
        f"evaluations over those of the best fixed switch point: {unsigned(every)} in the mean, {unsigned(held)} on "
        f"held-out tasks; at most {NEAR} on {near} of {every.n} tasks, at worst {unsigned(each[worst])}"
    )
    detail = (
        f"full batch, to a gap of 1e-3, trials included; the best of {len(fixed)} points, chosen on one half of "
        f"{len(ratios[worst])} seeds, charged on the other; {held.n} tasks held out, intervals over tasks; the upper "
        f"end of a task's interval is at most {NEAR} on {within}, its lower end is above on {beyond}; the worst is "
        f"{worst[1]}; one fixed point for all of them is at worst {others.min():.2f} ({others.idxmin()}) to "
        f"{others.max():.2f} ({others.idxmax()})"
    )
    return _of_so_many(near, len(over), "the task", effect, detail)


def no_way_back(runs: pd.DataFrame) -> Finding:
    """Lowest loss after some more evaluations: L-BFGS going on, or Adam taking over where it is."""
    lowest = runs.pivot_table(index=["task", "evals", "seed"], columns="how", values=f"lowest {AFTER}").dropna()
    ahead = lowest[["adam", "new adam"]].min(axis=1) < lowest["second phase"] - 1e-12 * lowest["second phase"].abs()
    effect = (
        f"Adam that takes over from L-BFGS has the lower loss {AFTER} evaluations later in {ahead.sum()} of "
        f"{len(ahead)} cases on {runs.task.nunique()} tasks without noise"
    )
    detail = (
        f"full batch, from where L-BFGS is after {_list(sorted(runs.evals.unique()))} evaluations; Adam with its "
        "moments as they were or new, whichever is lower"
    )
    finding = partial(Finding, effect=effect, detail=detail)
    return finding("does not hold") if ahead.mean() < 0.05 else finding("depends", on="the task")


def _list(values: list) -> str:
    return ", ".join(map(str, values[:-1])) + f" or {values[-1]}"


def not_worse_than_adam(runs: pd.DataFrame) -> Finding:
    """Final training loss of `auto` over Adam's at equal samples, in per cent, seed by seed."""
    loss = runs.pivot_table(index=["held_out", "task", "seed"], columns="rule", values="train_loss")
    more = 100 * (loss["auto"] / loss["never"] - 1)
    found = {key: interval(some) for key, some in more.groupby(level=["held_out", "task"])}
    trials = runs[runs.rule == "auto"].groupby(["held_out", "task"])["trials"].sum()
    fine = sum(i.high <= ALLOWED for i in found.values())
    worst = max(found, key=lambda key: found[key].high)
    effect = (
        f"training loss, with its interval, at most {ALLOWED:g} % above Adam's on {fine} of {len(found)} tasks, at "
        f"worst {with_interval(found[worst])} %; on {int((trials == 0).sum())} no switch was tried: the runs are Adam's"
    )
    detail = f"final loss at equal samples; the worst is {worst[1]}"
    return _of_so_many(fine, len(found), "the batch size", effect, detail)


def _of_so_many(good: int, tasks: int, on: str, effect: str, detail: str) -> Finding:
    """It holds on all tasks, on some or on none."""
    finding = partial(Finding, effect=effect, detail=detail)
    if good == tasks:
        return finding("holds")
    return finding("depends", on=on) if good else finding("does not hold")


CLAIMS = [
    Claim("The switch can be chosen without a threshold, near the best point", "summary, limitations",
          ("16_full.csv",), near_the_best),
    Claim("A switch that came too early is mended by going back to Adam", "a question of this course",
          ("16_back.csv",), no_way_back),
    Claim("On minibatches an automatic switch is no worse than Adam", "summary, limitations",
          ("16_minibatch.csv",), not_worse_than_adam),
]  # fmt: skip
