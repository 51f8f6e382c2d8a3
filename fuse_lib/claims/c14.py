"""Notebook 14: what a step costs, and what it takes to a target."""

from __future__ import annotations

import pandas as pd

from fuse_lib.claims.core import Claim, Finding, with_interval
from fuse_lib.lab.statistics import Interval, geometric_mean

PROBLEMS = ("digits, logistic", "fashion, logistic")  # where tuned Adam arrives
FUSE, ALONE = "fuse_lib FUSE-PV, 100", "fuse_lib L-BFGS, 100"


def saves_time(rivals: pd.DataFrame, steps: pd.DataFrame) -> Finding:
    """A step's cost; and seconds to a relative loss of 1e-2 above the minimum, full batch, as ratios start by start."""
    over = {name: [_ratio(rivals, problem, name) for problem in PROBLEMS] for name in ("Adam", ALONE)}
    first = steps["fuse / torch"].agg(["min", "max"])
    adam, alone = (", ".join(with_interval(d, 2, sign=False) for d in found) for found in over.values())
    effect = (
        f"a step of the first phase takes {first['min']:.2f} to {first['max']:.2f} times Adam's; seconds to 1e-2 above "
        f"the minimum, full batch, over tuned Adam's: {adam} (softmax regression on digits, Fashion sample); over "
        f"those of L-BFGS alone: {alone}"
    )
    faster = [all(d.high < 1 for d in found) for found in over.values()]
    if all(faster):
        return Finding("holds", effect)
    return Finding("depends", effect, "whom it is compared with") if any(faster) else Finding("not shown", effect)


def _ratio(rivals: pd.DataFrame, problem: str, other: str) -> Interval:
    """FUSE-PV's seconds over another's: geometric mean over starts, with its interval."""
    seconds = rivals[rivals.problem == problem].pivot(index="start", columns="contestant", values="seconds 1e-02")
    return geometric_mean(seconds[FUSE] / seconds[other])


CLAIMS = [
    Claim("FUSE-PV saves computing time", "summary, next check 2", ("bench_rivals.csv", "bench_first_phase.csv"),
          saves_time),
]  # fmt: skip
