"""Notebook 14: what a step costs, and what it takes to a target."""

from __future__ import annotations

from functools import partial

import pandas as pd

from fuse_lib.claims.core import Claim, Finding, unsigned
from fuse_lib.lab.statistics import Interval, geometric_mean

PROBLEMS = {"digits": "digits, logistic", "Fashion-MNIST": "fashion, logistic"}  # where tuned Adam arrives
FUSE, ALONE = "fuse_lib FUSE-PV, 100", "fuse_lib L-BFGS, 100"


def saves_time(rivals: pd.DataFrame, steps: pd.DataFrame) -> Finding:
    """A step's cost; and seconds to a relative loss of 1e-2 above the minimum, full batch, as ratios start by start."""
    over = {name: [_ratio(rivals, problem, name) for problem in PROBLEMS.values()] for name in ("Adam", ALONE)}
    first = steps["fuse / torch"].agg(["min", "max"])
    said = "; ".join(
        f"{name} {unsigned(adam)}, {unsigned(alone)}"
        for name, adam, alone in zip(PROBLEMS, *over.values(), strict=True)
    )
    effect = f"seconds to 1 % above the minimum over tuned Adam's, over L-BFGS's: {said}"
    detail = (
        "full batch, softmax regression, a sample of Fashion-MNIST, L-BFGS alone; a step of the first phase takes "
        f"{first['min']:.2f} to {first['max']:.2f} times Adam's"
    )
    finding = partial(Finding, effect=effect, detail=detail)
    faster = [all(d.high < 1 for d in found) for found in over.values()]
    if all(faster):
        return finding("holds")
    return finding("depends", on="whom it is compared with") if any(faster) else finding("not shown")


def _ratio(rivals: pd.DataFrame, problem: str, other: str) -> Interval:
    """FUSE-PV's seconds over another's: geometric mean over starts, with its interval."""
    seconds = rivals[rivals.problem == problem].pivot(index="start", columns="contestant", values="seconds 1e-02")
    return geometric_mean(seconds[FUSE] / seconds[other])


CLAIMS = [
    Claim("FUSE-PV saves computing time", "summary, next check 2", ("bench_rivals.csv", "bench_first_phase.csv"),
          saves_time),
]  # fmt: skip
