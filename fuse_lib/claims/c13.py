"""Notebook 13: what happens to somebody who did not tune the switch."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from fuse_lib.claims.core import Claim, Finding
from fuse_lib.lab.sensitivity import fired_at_half

WORSE = math.log10(1.1)  # more than 10 % above Adam's gap
SIXTHS, EARLIEST = 6, 0.003  # K goes from this share of the budget's steps to all of them


def effects(runs: pd.DataFrame, tasks: pd.DataFrame) -> pd.DataFrame:
    """The runs of FUSE-PV. e: log10 of the gap over that of the same point's run of Adam; with the task's columns."""
    runs = runs.merge(tasks[tasks.role != "afterwards"], on="task")
    gap = np.maximum(runs.loss - runs.least, 1e-12 * (runs.loss_start - runs.least))
    runs = runs.assign(gap=gap).set_index(["task", "point"])
    fuse = runs[runs.rule != "never"].join(runs[runs.rule == "never"].gap.rename("adam"))
    fuse["e"] = np.log10(fuse.gap / fuse.adam)
    return fuse.assign(worse=fuse.e > WORSE, fired=fuse.switched.notna()).reset_index()


def needs_tuning(runs: pd.DataFrame, tasks: pd.DataFrame) -> Finding:
    """The share of runs under step:K that end worse than Adam, whatever K, lr and m are."""
    steps = effects(runs, tasks)
    steps = steps[steps.rule == "step"]
    shares = {kind: some.groupby("task", sort=False).worse.mean() for kind, some in steps.groupby("second_phase")}
    full, mini = shares["full batch"], shares["minibatches"]
    effect = (
        f"switch step, learning rate and history size at random over ranges of 300, 1000 and 33: more than 10 % above "
        f"Adam's gap end {_span(full)} % of the runs on {len(full)} tasks with a full-batch "
        f"second phase, and {_span(mini)} % of those with minibatches"
    )
    if full.max() < 0.05 and mini.max() < 0.05:
        return Finding("does not hold", effect)
    if full.min() > 0.5:
        return Finding("holds", effect)
    return Finding("depends", effect, "the second phase's batches and the task")


def thresholds_travel(runs: pd.DataFrame, tasks: pd.DataFrame) -> Finding:
    """The thresholds at which half of the runs switch, over the tasks, in decades."""
    fuse = effects(runs, tasks)
    said, spans = [], []
    for rule, symbol, unit in (("gradnorm", "ζ", "norm_sq_start"), ("losschange", "σ", "loss_start")):
        some = fuse[fuse.rule == rule]
        own, relative = (
            some.assign(x=some.threshold / scale).groupby("task").apply(lambda g: fired_at_half(g.x, g.fired)).dropna()
            for scale in (1.0, some[unit])
        )
        spans.append(min(np.ptp(own), np.ptp(relative)))
        said.append(
            f"{symbol} {np.ptp(own):.1f} decades over {len(own)} tasks, {np.ptp(relative):.1f} in units of the start"
        )
    never = 1 - fuse[fuse.rule != "step"].fired.mean()
    effect = (
        f"the threshold at which half of the runs switch varies by {'; '.join(said)} ({fuse.task.nunique()} tasks in "
        f"all; where it hardly ever fires there is none); over the ranges tried (1e-6 to 10, 1e-5 to 1) "
        f"{100 * never:.0f} % of the runs never switch"
    )
    return Finding("does not hold" if max(spans) > 1 else "holds", effect)


def safe_range_holds(runs: pd.DataFrame, tasks: pd.DataFrame) -> Finding:
    """The bins of K in which at most one run in ten is worse on each known task, on the held-out ones. Full batch."""
    from scipy.stats import binomtest

    steps = effects(runs, tasks)
    steps = steps[(steps.rule == "step") & (steps.second_phase == "full batch")]
    at = np.log(steps.threshold / EARLIEST) / math.log(1 / EARLIEST) * SIXTHS
    steps = steps.assign(bin=at.astype(int).clip(upper=SIXTHS - 1))
    known = steps[steps.role == "known"].groupby(["bin", "task"]).worse.mean().unstack()
    safe = known.index[(known <= 0.1).all(axis=1)]
    if safe.empty:
        return Finding("not shown", f"no range is safe on all {known.shape[1]} tasks that it was looked for on")
    tried = steps[(steps.role == "held out") & steps.bin.isin(safe)]
    bad, n = int(tried.worse.sum()), len(tried)
    low, high = binomtest(bad, n).proportion_ci(method="wilson")
    first, last = (EARLIEST ** (1 - b / SIXTHS) for b in (min(safe), max(safe) + 1))
    effect = (
        f"switch after {100 * first:.0f} to {100 * last:.0f} % of the budget's steps, then full batch: worse than Adam "
        f"{bad} of {n} runs on {tried.task.nunique()} tasks that had no part in choosing the range, {bad / n:.2f} "
        f"[{low:.2f}, {high:.2f}]; median gap {10 ** tried.e.median():.2g} times Adam's"
    )
    return Finding("holds" if high <= 0.1 else "does not hold" if low > 0.1 else "not shown", effect)


def _span(shares: pd.Series) -> str:
    """In percent, without the sign."""
    low, high = 100 * shares.min(), 100 * shares.max()
    return f"{low:.0f}" if len(shares) == 1 else f"{low:.0f} to {high:.0f}"


TABLES = ("13_runs.csv", "13_tasks.csv")
CLAIMS = [
    Claim("Switchover criteria require careful tuning", "summary, limitations", TABLES, needs_tuning),
    Claim("A threshold ζ or σ carries over from task to task", "summary, next check 1", TABLES, thresholds_travel),
    Claim("A range of switch steps found on some tasks is safe on others", "summary, next check 1", TABLES,
          safe_range_holds),
]  # fmt: skip
