"""Notebook 13: what happens to somebody who did not tune the switch."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pandas as pd

from fuse_lib.claims.core import Claim, Finding, unsigned
from fuse_lib.lab.sensitivity import fired_at_half

WORSE = math.log10(1.1)  # more than 10 % above Adam's gap
SAFE = 0.1  # the share of such runs that is allowed
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
    bad, n = steps[steps.second_phase == "minibatches"].worse.agg(["sum", "count"])
    effect = (
        f"settings at random: worse than Adam at the same rate in {_span(full)} % of the runs, by task, with a "
        f"full-batch second phase ({len(full)} tasks), in {bad} of {n} runs with minibatches"
    )
    detail = (
        "switch step, learning rate and history size over ranges of 300, 1000 and 33; worse is a gap more than 10 % "
        f"above Adam's: {', '.join(f'{task} {100 * share:.0f} %' for task, share in (*full.items(), *mini.items()))}"
    )
    finding = partial(Finding, effect=effect, detail=detail)
    if full.max() < 0.05 and mini.max() < 0.05:
        return finding("does not hold")
    if full.min() > 0.5:
        return finding("holds")
    return finding("depends", on="the second phase's batches and the task")


def thresholds_travel(runs: pd.DataFrame, tasks: pd.DataFrame) -> Finding:
    """The thresholds at which half of the runs switch, over the tasks, in decades."""
    fuse = effects(runs, tasks)
    head, said, spans = [], [], []
    for rule, symbol, unit in (("gradnorm", "ζ", "norm_sq_start"), ("losschange", "σ", "loss_start")):
        some = fuse[fuse.rule == rule]
        own, relative = (
            some.assign(x=some.threshold / scale).groupby("task").apply(lambda g: fired_at_half(g.x, g.fired)).dropna()
            for scale in (1.0, some[unit])
        )
        spans.append(min(np.ptp(own), np.ptp(relative)))
        head.append(f"{symbol} {np.ptp(own):.1f} over {len(own)} tasks")
        said.append(f"{symbol} {np.ptp(relative):.1f}")
    fired = fuse[fuse.rule != "step"].fired
    effect = (
        f"threshold at which half of the runs switch, spread in powers of ten: {', '.join(head)}; with random "
        f"thresholds {(~fired).sum()} of {len(fired)} runs never switch"
    )
    detail = (
        f"in units of the start by {', '.join(said)} powers of ten; {fuse.task.nunique()} tasks in all, and where a "
        "rule hardly ever fires there is no such threshold; over the ranges tried (1e-6 to 10, 1e-5 to 1) "
        f"{100 * (1 - fired.mean()):.0f} % of the runs never switch"
    )
    return Finding("does not hold" if max(spans) > 1 else "holds", effect, detail=detail)


def safe_range_holds(runs: pd.DataFrame, tasks: pd.DataFrame) -> Finding:
    """The bins of K in which at most one run in ten is worse on each known task, on the held-out ones. Full batch."""
    from scipy.stats import binomtest

    steps = effects(runs, tasks)
    steps = steps[(steps.rule == "step") & (steps.second_phase == "full batch")]
    at = np.log(steps.threshold / EARLIEST) / math.log(1 / EARLIEST) * SIXTHS
    steps = steps.assign(bin=at.astype(int).clip(upper=SIXTHS - 1))
    known = steps[steps.role == "known"].groupby(["bin", "task"]).worse.mean().unstack()
    safe = known.index[(known <= SAFE).all(axis=1)]
    if safe.empty:
        return Finding("not shown", f"safe on all: 0 of {len(known)} ranges, {known.shape[1]} tasks looked at")
    tried = steps[(steps.role == "held out") & steps.bin.isin(safe)]
    bad, n = int(tried.worse.sum()), len(tried)
    low, high = binomtest(bad, n).proportion_ci(method="wilson")
    first, last = (EARLIEST ** (1 - b / SIXTHS) for b in (min(safe), max(safe) + 1))
    effect = (
        f"worse than Adam in {bad} of {n} runs on {tried.task.nunique()} tasks that had no part in choosing the range, "
        f"a share of {unsigned((bad / n, low, high))}, where {SAFE:.2f} counts as safe"
    )
    detail = (
        f"switch after {100 * first:.0f} to {100 * last:.0f} % of the budget's steps, then full batch; median gap "
        f"{10 ** tried.e.median():.2g} times Adam's"
    )
    verdict = "holds" if high <= SAFE else "does not hold" if low > SAFE else "not shown"
    return Finding(verdict, effect, detail=detail)


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
