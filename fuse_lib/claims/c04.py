"""Notebook 04: test functions with valleys, many minima, and gradient noise."""

from __future__ import annotations

import pandas as pd

from fuse_lib.claims.core import Claim, Finding
from fuse_lib.lab.statistics import sign_test


def solves_more(runs: pd.DataFrame) -> Finding:
    """Starts that only one of the two solves, over all functions without noise."""
    solved = (
        runs[runs.noise == "none"].pivot(index=["problem", "start"], columns="optimizer", values="solved").astype(bool)
    )
    parts = []
    for other in ("Adam, cosine", "L-BFGS"):
        more, fewer = (solved["FUSE-PV"] & ~solved[other]).sum(), (~solved["FUSE-PV"] & solved[other]).sum()
        parts.append((other, more, fewer, sign_test(more, fewer)))
    effect = "; ".join(
        f"{more} starts solved by FUSE-PV and not by {other}, {fewer} the other way (p = {p:.2g})"
        for other, more, fewer, p in parts
    )
    ahead = [more > fewer and p < 0.05 for _, more, fewer, p in parts]
    if all(ahead):
        return Finding("holds", effect)
    return Finding("depends", effect, "the baseline") if any(ahead) else Finding("not shown", effect)


def cures_saturation(runs: pd.DataFrame) -> Finding:
    """On Rosenbrock's function with noise on the gradient: starts at which FUSE-PV ends below Adam."""
    some = runs[(runs.problem == "rosenbrock") & (runs.noise == "fresh")]
    gaps = some.pivot(index=["sigma", "start"], columns="optimizer", values="gap")
    counts = (gaps["FUSE-PV"] < gaps["Adam"]).groupby("sigma").agg(["sum", "count"])
    said, better, worse = [], 0, 0
    for sigma, (wins, n) in counts.iterrows():
        p = sign_test(wins, n - wins)
        better, worse = better + (p < 0.05 and 2 * wins > n), worse + (p < 0.05 and 2 * wins < n)
        said.append(f"σ = {sigma:g}: below Adam from {wins} of {n} starts (p = {p:.2g})")
    effect = "fresh noise, exact loss; " + "; ".join(said)
    if better and worse:
        return Finding("depends", effect, "how large the noise is")
    return Finding("holds" if better else "does not hold" if worse else "not shown", effect)


CLAIMS = [
    Claim("FUSE-PV finds the minimum of test functions from more starts than Adam and L-BFGS", "summary, mechanism 1",
          ("04_runs.csv",), solves_more),
    Claim("Where noise makes Adam saturate, switching to L-BFGS goes further", "summary, section IV", ("04_runs.csv",),
          cures_saturation),
]  # fmt: skip
