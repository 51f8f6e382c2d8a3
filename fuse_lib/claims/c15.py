"""Notebook 15: whether L-BFGS gains from curvature, taken apart step by step between Adam and L-BFGS.

The ladder, from Adam to L-BFGS; each step changes one thing. Gains are powers of ten of the gap at equal evaluations.

    averaging      Adam on single batches → Adam on the batches that L-BFGS has
    line search    → steepest descent with a line search
    one number     → the same along −g/γ, γ from the newest pair
    directions     → L-BFGS with its true pairs
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from fuse_lib.claims.core import Claim, Finding, above, below, extremes, middle, with_interval
from fuse_lib.lab.statistics import Interval, interval

TUNING = 4  # the starts before it choose L-BFGS's batch, and are not reported
STEPS = ("averaging", "line search", "one number", "directions")
FLAT_OR_CHAOTIC = ("plateau", "ripples 0.3, 0.05", "ripples 3, 0.05", "ripples 3, 1")
RIPPLES = {
    "ripples 0.3, 0.05": "weak ripples",
    "ripples 3, 0.05": "strong short ripples",
    "ripples 3, 1": "long ripples",
}
SHORT, BUDGET, LONG = 100, 500, 4000  # evaluations: without noise, with noise, and of 15_long.csv


def log_gaps(runs: pd.DataFrame, problem: str, noise: str, arm: str, batch: int, budget: int) -> pd.Series:
    """log₁₀ of the gap after so many evaluations, by start: all starts of that arm."""
    some = runs[(runs.problem == problem) & (runs.noise == noise) & (runs.arm == arm) & (runs.batch == batch)]
    return np.log10(some.set_index("start")[f"gap {budget}"].dropna()).sort_index()


def reported(gaps: pd.Series) -> pd.Series:
    return gaps[gaps.index >= TUNING]


def batch_of(runs: pd.DataFrame, problem: str, noise: str, arm: str, budget: int) -> int:
    """The batch with the lowest mean log gap of an arm on the tuning starts; 1 without noise."""
    if noise == "none":
        return 1
    batches = sorted(runs[(runs.problem == problem) & (runs.noise == noise) & (runs.arm == arm)].batch.unique())
    means = {}
    for batch in batches:
        gaps = log_gaps(runs, problem, noise, arm, batch, budget)
        means[batch] = gaps[gaps.index < TUNING].mean()
    return int(min(means, key=means.get))


def ladder(runs: pd.DataFrame, problem: str, noise: str, budget: int) -> pd.DataFrame:
    """Gains in powers of ten, a row a start: STEPS, and "total", their sum. > 0: the step lowers the gap."""
    batch = batch_of(runs, problem, noise, "true", budget)
    rungs = [("Adam", 1), ("Adam", batch), ("steepest", batch), ("identity", batch), ("true", batch)]
    gaps = [reported(log_gaps(runs, problem, noise, arm, b, budget)) for arm, b in rungs]
    steps = pd.DataFrame({step: gaps[i] - gaps[i + 1] for i, step in enumerate(STEPS)})
    return steps.assign(total=gaps[0] - gaps[-1])


def gain(runs: pd.DataFrame, problem: str, noise: str, one: str, other: str, budget: int) -> Interval:
    """How many powers of ten the gap of `other` is below that of `one`, each on its own best batch."""
    sides = []
    for arm in (one, other):
        batch = batch_of(runs, problem, noise, arm, budget)
        sides.append(reported(log_gaps(runs, problem, noise, arm, batch, budget)))
    return interval((sides[0] - sides[1]).dropna())


def cases(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """(problem, noise) in the table's order."""
    return list(dict.fromkeys(zip(runs.problem, runs.noise, strict=True)))


def from_curvature(runs: pd.DataFrame) -> Finding:
    """The directions' step of the ladder, without noise at 100 evaluations and with noise at 500."""
    found = {c: interval(ladder(runs, *c, SHORT if c[1] == "none" else BUDGET).directions) for c in cases(runs)}
    exact, noisy = _without_and_with_noise(found)
    valley, total = (interval(ladder(runs, "valley 1000", "none", SHORT)[step]) for step in ("directions", "total"))
    effect = f"powers of ten that curvature takes off the gap: {_on_both(exact, noisy)}"
    detail = (
        f"the directions of the pairs, beyond line search, scale and batch; without noise, {SHORT} evaluations, "
        f"clearly negative on {below(exact)} (valley of κ = 1000: {with_interval(valley)} of {with_interval(total)} in "
        f"all); with noise, {BUDGET} evaluations, negative on {below(noisy)}"
    )
    return _depends(found, "the landscape and on noise", effect, detail)


def against_noise(runs: pd.DataFrame, long: pd.DataFrame) -> Finding:
    """L-BFGS on its best batch against Adam, which is tuned in rate, decay and batch, where there is noise; and, of a
    larger budget with larger batches, whether it is any different."""
    found = {c: gain(runs, *c, "Adam", "true", BUDGET) for c in cases(runs) if c[1] != "none"}
    later = {c: gain(long, *c, "Adam", "true", LONG) for c in cases(long)}
    effect = (
        f"L-BFGS's gain over tuned Adam with noise, powers of ten of the gap: clearly positive in {above(found)}, "
        f"negative in {below(found)} of {len(found)} cases; the middle one {_middle(found)}"
    )
    detail = (
        f"{BUDGET} evaluations, each on its best batch, {_from_to(found)}; {LONG:,} evaluations, batches to "
        f"{long.batch.max()}: positive in {above(later)} of {len(later)}, negative in {below(later)}"
    )
    return _depends(found | {(*c, "long"): i for c, i in later.items()}, "the noise", effect, detail)


def flat_or_chaotic(runs: pd.DataFrame) -> Finding:
    """L-BFGS against Adam on plateau and ripples, without noise: the summary expects no advantage."""
    found = {name: gain(runs, name, "none", "Adam", "true", SHORT) for name in FLAT_OR_CHAOTIC}
    low, high = (f"{with_interval(found[name])} ({RIPPLES.get(name, name)})" for name in extremes(found))
    effect = f"L-BFGS's gain over tuned Adam without noise, powers of ten of the gap: from {low} to {high}"
    told = ", ".join(f"{name} {with_interval(i)}" for name, i in found.items())
    finding = partial(
        Finding, effect=effect, detail=f"{SHORT} evaluations: {told} (of ripples, strength and wavelength)"
    )
    if not above(found):
        return finding("holds")
    if above(found) == len(found):
        return finding("does not hold")
    return finding("depends", on="what is flat or chaotic")


def adam_first(runs: pd.DataFrame) -> Finding:
    """FUSE-PV (a fifth of the budget is Adam) against L-BFGS at once, each on its best batch."""
    found = {c: gain(runs, *c, "true", "FUSE-PV", BUDGET) for c in cases(runs)}
    exact, noisy = _without_and_with_noise(found)
    effect = f"gain over L-BFGS at once, powers of ten of the gap: {_on_both(exact, noisy)}"
    detail = (
        f"{BUDGET} evaluations; clearly negative on {below(exact)} without noise and {below(noisy)} with noise; "
        f"{_from_to(found)}"
    )
    return _depends(found, "the landscape and on noise", effect, detail)


def _without_and_with_noise(found: dict[tuple[str, str], Interval]) -> list[dict[tuple[str, str], Interval]]:
    return [{c: i for c, i in found.items() if (c[1] == "none") == exact} for exact in (True, False)]


def _on_both(exact: dict[tuple[str, str], Interval], noisy: dict[tuple[str, str], Interval]) -> str:
    return (
        f"clearly positive on {above(exact)} of {len(exact)} landscapes without noise (the middle one "
        f"{_middle(exact)}), on {above(noisy)} of {len(noisy)} with noise ({_middle(noisy)})"
    )


def _middle(found: dict[tuple[str, str], Interval]) -> str:
    return with_interval(found[middle(found)])


def _from_to(found: dict[tuple[str, str], Interval]) -> str:
    low, high = (f"{with_interval(found[case])} ({', '.join(case)})" for case in extremes(found))
    return f"from {low} to {high}"


def _depends(found: dict, on: str, effect: str, detail: str) -> Finding:
    """ "holds" where all intervals are above 0, "does not hold" where none is and some are below."""
    finding = partial(Finding, effect=effect, detail=detail)
    if above(found) == len(found):
        return finding("holds")
    if above(found):
        return finding("depends", on=on)
    return finding("does not hold" if below(found) else "not shown")


_TABLE = ("15_runs.csv",)
CLAIMS = [
    Claim("L-BFGS's benefit comes from curvature, beyond noise reduction", "summary, next check 3", _TABLE,
          from_curvature),
    Claim("That benefit survives gradient noise", "summary, next check 3", ("15_runs.csv", "15_long.csv"),
          against_noise),
    Claim("On flat or chaotic landscapes L-BFGS has no advantage over Adam", "summary, mechanism 1", _TABLE,
          flat_or_chaotic),
    Claim("Adam first makes L-BFGS go further on non-convex landscapes", "summary, mechanism 1", _TABLE, adam_first),
]  # fmt: skip
