"""Notebook 16: a switchover rule without a threshold, beside the best fixed point and beside Adam on minibatches."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fuse_lib.claims.core import Claim, Finding, with_interval
from fuse_lib.lab.statistics import Interval, interval

BUDGET = 400  # evaluations of a run; what did not arrive is counted with so many
TARGET = "gap 0.001"


def near_the_best(runs: pd.DataFrame) -> Finding:
    """Evaluations of `auto` over those of the best fixed switch point of each task, which is known after the fact."""
    ratios, logs = {}, {}
    for (held, task), some in runs.groupby(["held_out", "task"]):
        cost = some.assign(cost=some[TARGET].fillna(BUDGET)).pivot_table(index="seed", columns="rule", values="cost")
        best = cost[[rule for rule in cost if rule.startswith("step:")]].mean().idxmin()
        logs[held, task] = np.log(cost["auto"] / cost[best])
        ratios[held, task] = float(np.exp(logs[held, task].mean()))
    held = {task: ratio for (out, task), ratio in ratios.items() if out}
    by_seed = interval(pd.DataFrame({task: logs[True, task] for task in held}).mean(axis=1))
    found = Interval(*np.exp(by_seed[:3]), by_seed.n)
    near = sum(ratio <= 1.15 for ratio in ratios.values())
    worst = max(ratios, key=ratios.get)
    effect = (
        f"full batch, evaluations to a gap of 1e-3, trials included, over those of the best of five fixed points: "
        f"{with_interval(found, 2, sign=False)} on {len(held)} held-out tasks; at most 1.15 on {near} of all "
        f"{len(ratios)}, at worst {ratios[worst]:.2f} ({worst[1]})"
    )
    return _of_so_many(near, len(ratios), effect, "the task")


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
    Claim("On minibatches an automatic switch is no worse than Adam", "summary, limitations",
          ("16_minibatch.csv",), not_worse_than_adam),
]  # fmt: skip
