"""Notebook 12: whether the noise of a second phase can be reduced, and whether that saves passes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fuse_lib.claims.core import Claim, Finding, with_interval
from fuse_lib.lab.statistics import Interval, interval

NAMES = {"usps": "USPS", "mnist": "MNIST", "kmnist": "KMNIST", "fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
GOALS = {"passes 1e-03": 0.6, "passes 1e-04": 0.7}
OURS = "Adam, then anchored"


def less_noise(directions: pd.DataFrame, race: pd.DataFrame) -> Finding:
    """The cosine of a noisy direction with the one of all rows; and the gap after the same number of passes."""
    some = directions[directions.what == "direction"]
    plain, svrg, ours = "same-batch pairs", "SVRG, Hessian-vector pairs", "anchored"
    cosines = {r: interval(some.cosine[some.recipe == r]) for r in (plain, svrg, ours)}
    final = race[race.chosen & (race.dataset == "kmnist")]
    gaps = {r: g.set_index("seed").gap for r, g in final.groupby("recipe")}
    over = {r: _said(_exp(interval(np.log((gaps[r] / gaps["Adam, cosine"]).dropna())))) for r in (plain, svrg, ours)}
    effect = (
        f"cosine of the direction with that of all rows, USPS: {plain} {_said(cosines[plain])}, SVRG "
        f"{_said(cosines[svrg])} (32 rows), corrected at an anchor {_said(cosines[ours])} "
        f"({some.batch[some.recipe == ours].iloc[0]} rows, one batch a round); gap after ten passes over tuned Adam's, "
        f"KMNIST: {plain} {over[plain]}, SVRG {over[svrg]}, anchored {over[ours]}"
    )
    if cosines[ours].low <= cosines[plain].high:
        return Finding("not shown", effect)
    return Finding("depends", effect, "the recipe: mended pairs are not enough, the gradient's noise is what counts")


def fewer_passes(runs: pd.DataFrame) -> Finding:
    """Adam, then anchored, over L-BFGS alone with its best history and scaling for each gap."""
    alone = runs[runs.recipe.str.startswith("L-BFGS")].groupby("dataset")[list(GOALS)].min()
    said, met = [], {}
    for name in sorted(alone.index, key=list(NAMES).index):
        ours = runs[(runs.dataset == name) & (runs.recipe == OURS)]
        found = {g: (ours[g] / alone.loc[name, g]).dropna() for g in GOALS}
        met[name] = all(len(v) == len(ours) and v.mean() <= GOALS[g] for g, v in found.items())
        numbers = ", ".join(_said(interval(v)) if len(v) > 1 else f"{v.mean():.2f}" for v in found.values())
        said.append(f"{NAMES[name]} {numbers}")
    effect = (
        f"passes to 1e-3, 1e-4 over those of L-BFGS alone at its best (one seed where no interval): {'; '.join(said)}"
    )
    if all(met.values()):
        return Finding("holds", effect)
    return Finding("depends", effect, "the data set") if any(met.values()) else Finding("does not hold", effect)


def nets(runs: pd.DataFrame) -> Finding:
    """Final train loss over tuned Adam's with cosine decay, seed by seed."""
    final, said, ahead = runs[runs.chosen], [], []
    for kind, some in final.groupby("net", sort=False):
        by = {r: g.set_index("seed").train_loss for r, g in some.groupby("recipe", sort=False)}
        for recipe in ("Adam, then full-batch L-BFGS", OURS):
            ratio = _exp(interval(np.log((by[recipe] / by["Adam, cosine"]).dropna())))
            ahead.append(ratio.high < 1)
            said.append(f"{kind.upper()}, {recipe} {_said(ratio)}")
    effect = f"USPS, 12 passes, train loss over that of Adam with cosine decay: {'; '.join(said)}"
    if all(ahead):
        return Finding("holds", effect)
    return Finding("depends", effect, "the net") if any(ahead) else Finding("does not hold", effect)


def _exp(found: Interval) -> Interval:
    return Interval(*np.exp(found[:3]), found.n)


def _said(found: Interval) -> str:
    return with_interval(found, 2, sign=False)


CLAIMS = [
    Claim("The variance of the second phase can be reduced without larger batches", "the paper's question 4",
          ("12_directions.csv", "12_recipes.csv"), less_noise),
    Claim("With less noise the second phase takes 0.6 (to 1e-3) and 0.7 (to 1e-4) of L-BFGS's passes or less",
          "a goal of this course", ("12_runs.csv",), fewer_passes),
    Claim("On nets a second phase with less noise beats tuned Adam at equal samples", "a goal of this course",
          ("12_nets.csv",), nets),
]  # fmt: skip
