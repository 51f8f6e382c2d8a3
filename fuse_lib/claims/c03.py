"""Notebook 03: the switch, step by step, on scikit-learn's digits."""

from __future__ import annotations

from functools import partial

import pandas as pd

from fuse_lib.claims.core import Claim, Finding, above, below, with_interval
from fuse_lib.lab.statistics import paired

FLAT, SATURATED, GOOD = "deep, flat", "deep, saturated", "shallow"
EARLY, LATER = 10, 30  # steps of Adam before the switch


def cures_a_bad_start(runs: pd.DataFrame) -> Finding:
    """L-BFGS alone (switch 0) against some steps of Adam before it."""
    runs = runs[(runs.handover == "pairs") & (runs.lr == 0.03)]
    flat = runs[runs.problem == FLAT].groupby("switch").evals_to_fine.count()
    seeds = runs[(runs.problem == FLAT) & (runs.switch == 0)].seed.nunique()
    bad = runs[runs.problem == SATURATED]
    gain = paired(bad, "lowest_loss", "seed", "switch", EARLY, 0)
    plateau, saturated = flat[EARLY] > flat[0], gain.high < 0
    effect = (
        f"flat start: L-BFGS alone reaches the target in {flat[0]} of {seeds} runs, after {EARLY} steps of Adam in "
        f"{flat[EARLY]} of {seeds}; saturated start: these steps change the lowest loss by {with_interval(gain, 2)}"
    )
    finding = partial(Finding, effect=effect, detail="deep nets; the flat start in float32")
    if plateau and saturated:
        return finding("holds")
    if plateau or saturated:
        return finding("depends", on="the start")
    return finding("does not hold")


def handing_pairs_over(runs: pd.DataFrame) -> Finding:
    """The pairs of Adam's last 30 steps against none. (At 100 steps the deep net has reached its target before.)"""
    gains, said = {}, []
    for problem, name in ((GOOD, "shallow net"), ("deep", "deep net")):
        some = runs[(runs.problem == problem) & (runs.switch == LATER) & (runs.lr == 0.03)]
        gains[name] = paired(some, "evals_to_fine", "seed", "handover", "pairs", "none")
        without = some[some.handover == "none"].evals_to_fine.mean()
        said.append(f"{name} {with_interval(gains[name])} of {without:.0f}")
    effect = f"evaluations to the target, with the pairs less without them: {'; '.join(said)}"
    finding = partial(Finding, effect=effect, detail=f"full batch, switch after {LATER} steps of Adam")
    if below(gains) == len(gains):
        return finding("holds")
    if below(gains):
        return finding("depends", on="the problem")
    return finding("does not hold" if above(gains) else "not shown")


CLAIMS = [
    Claim("Adam's first steps save L-BFGS from a bad start", "summary, method", ("03_switch_points.csv",),
          cures_a_bad_start),
    Claim("Pairs from Adam's path give L-BFGS a better beginning", "the paper's algorithm 4", ("03_switch_points.csv",),
          handing_pairs_over),
]  # fmt: skip
