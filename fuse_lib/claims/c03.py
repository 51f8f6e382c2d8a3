"""Notebook 03: the switch, step by step, on scikit-learn's digits."""

from __future__ import annotations

import pandas as pd

from fuse_lib.claims.core import Claim, Finding, with_interval
from fuse_lib.lab.statistics import paired

FLAT, SATURATED, GOOD = "deep, flat", "deep, saturated", "shallow"


def cures_a_bad_start(runs: pd.DataFrame) -> Finding:
    """L-BFGS alone (switch 0) against ten steps of Adam before it."""
    runs = runs[(runs.handover == "pairs") & (runs.lr == 0.03)]
    flat = runs[runs.problem == FLAT].groupby("switch").evals_to_fine.count()
    seeds = runs[(runs.problem == FLAT) & (runs.switch == 0)].seed.nunique()
    bad = runs[runs.problem == SATURATED]
    gain = paired(bad, "lowest_loss", "seed", "switch", 10, 0)
    plateau, saturated = flat[10] > flat[0], gain.high < 0
    effect = (
        f"flat start, float32: {flat[0]} of {seeds} runs of L-BFGS alone reach the target, {flat[10]} of {seeds} after "
        f"ten steps of Adam; saturated start: lowest loss {with_interval(gain, 2)}"
    )
    if plateau and saturated:
        return Finding("holds", effect)
    if plateau or saturated:
        return Finding("depends", effect, "the start")
    return Finding("does not hold", effect)


def handing_pairs_over(runs: pd.DataFrame) -> Finding:
    """The pairs of Adam's last 30 steps against none. (At 100 steps the deep net has reached its target before.)"""
    gains = {}
    for problem, name in ((GOOD, "shallow net"), ("deep", "deep net")):
        some = runs[(runs.problem == problem) & (runs.switch == 30) & (runs.lr == 0.03)]
        gains[name] = paired(some, "evals_to_fine", "seed", "handover", "pairs", "none")
    helps, harms = sum(g.high < 0 for g in gains.values()), sum(g.low > 0 for g in gains.values())
    said = "; ".join(f"{name} {with_interval(g)}" for name, g in gains.items())
    effect = f"evaluations to the target, with the pairs less without, switch after 30 steps: {said}"
    if helps == len(gains):
        return Finding("holds", effect)
    if helps:
        return Finding("depends", effect, "the problem")
    return Finding("does not hold" if harms else "not shown", effect)


CLAIMS = [
    Claim("Adam's first steps save L-BFGS from a bad start", "summary, method", ("03_switch_points.csv",),
          cures_a_bad_start),
    Claim("Pairs from Adam's path give L-BFGS a better beginning", "the paper's algorithm 4", ("03_switch_points.csv",),
          handing_pairs_over),
]  # fmt: skip
