"""Notebook 15: whether L-BFGS gains from curvature, taken apart step by step between Adam and L-BFGS.

The ladder, from Adam to L-BFGS; each step changes one thing. Gains are powers of ten of the gap at equal evaluations.

    averaging      Adam on single batches → Adam on the batches that L-BFGS has
    line search    → steepest descent with a line search
    one number     → the same along −g/γ, γ from the newest pair
    directions     → L-BFGS with its true pairs
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from fuse_lib.claims.core import Claim, Finding, with_interval
from fuse_lib.lab.statistics import Interval, interval

TUNING = 4  # the starts before it choose L-BFGS's batch, and are not reported
STEPS = ("averaging", "line search", "one number", "directions")
FLAT_OR_CHAOTIC = ("plateau", "ripples 0.3, 0.05", "ripples 3, 0.05", "ripples 3, 1")


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
    found = {c: interval(ladder(runs, *c, 100 if c[1] == "none" else 500).directions) for c in cases(runs)}
    exact, noisy = ({c: i for c, i in found.items() if (c[1] == "none") == want} for want in (True, False))
    valley, total = (interval(ladder(runs, "valley 1000", "none", 100)[step]) for step in ("directions", "total"))
    effect = (
        f"powers of ten that the pairs' directions take off the gap, beyond line search, scale and batch: without "
        f"noise, 100 evaluations, clearly positive on {_above(exact)} of {len(exact)} landscapes and clearly negative "
        f"on {_below(exact)} (valley of κ = 1000: {with_interval(valley)} of {with_interval(total)} in all); with "
        f"noise, 500 evaluations, positive on {_above(noisy)} of {len(noisy)}, negative on {_below(noisy)}"
    )
    return _depends(found, effect, "the landscape and on noise")


def against_noise(runs: pd.DataFrame, long: pd.DataFrame) -> Finding:
    """L-BFGS on its best batch against Adam, which is tuned in rate, decay and batch, where there is noise; and, of a
    larger budget with larger batches, whether it is any different."""
    found = {c: gain(runs, *c, "Adam", "true", 500) for c in cases(runs) if c[1] != "none"}
    worst, best = (pick(found, key=lambda c: found[c].mean) for pick in (min, max))
    later = {c: gain(long, *c, "Adam", "true", 4000) for c in cases(long)}
    effect = (
        f"gap of L-BFGS below that of tuned Adam, powers of ten, 500 evaluations, each on its best batch: clearly "
        f"positive in {_above(found)} of {len(found)} cases with noise and negative in {_below(found)}, from "
        f"{with_interval(found[worst])} ({', '.join(worst)}) to {with_interval(found[best])} ({', '.join(best)}); "
        f"4,000 evaluations, batches to 256: positive in {_above(later)} of {len(later)}, negative in {_below(later)}"
    )
    return _depends(found | {(*c, "long"): i for c, i in later.items()}, effect, "the noise")


def flat_or_chaotic(runs: pd.DataFrame) -> Finding:
    """L-BFGS against Adam on plateau and ripples, without noise: the summary expects no advantage."""
    found = {(name, "none"): gain(runs, name, "none", "Adam", "true", 100) for name in FLAT_OR_CHAOTIC}
    told = ", ".join(f"{name} {with_interval(i)}" for (name, _), i in found.items())
    effect = f"gap of L-BFGS below that of tuned Adam, powers of ten, 100 evaluations without noise: {told}"
    if all(i.low <= 0 for i in found.values()):
        return Finding("holds", effect)
    if all(i.low > 0 for i in found.values()):
        return Finding("does not hold", effect)
    return Finding("depends", effect, "what is flat or chaotic")


def adam_first(runs: pd.DataFrame) -> Finding:
    """FUSE-PV (a fifth of the budget is Adam) against L-BFGS at once, each on its best batch."""
    found = {c: gain(runs, *c, "true", "FUSE-PV", 500) for c in cases(runs)}
    sides = []
    for name, want in (("without noise", True), ("with noise", False)):
        some = {c: i for c, i in found.items() if (c[1] == "none") == want}
        sides.append(f"{name} lower on {_above(some)} and higher on {_below(some)} of {len(some)}")
    low, high = (pick(found, key=lambda c: found[c].mean) for pick in (min, max))
    effect = (
        f"gap of FUSE-PV against L-BFGS at once, 500 evaluations: {'; '.join(sides)}; from "
        f"{with_interval(found[low])} ({', '.join(low)}) to {with_interval(found[high])} ({', '.join(high)}) powers "
        "of ten"
    )
    return _depends(found, effect, "the landscape and on noise")


def _above(found: dict) -> int:
    return sum(i.low > 0 for i in found.values())


def _below(found: dict) -> int:
    return sum(i.high < 0 for i in found.values())


def _depends(found: dict, effect: str, on: str) -> Finding:
    """ "holds" where all intervals are above 0, "does not hold" where none is and some are below."""
    if _above(found) == len(found):
        return Finding("holds", effect)
    if _above(found):
        return Finding("depends", effect, on)
    return Finding("does not hold" if _below(found) else "not shown", effect)


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
