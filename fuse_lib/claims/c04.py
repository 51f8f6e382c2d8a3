"""Notebook 04: test functions with valleys, many minima, and gradient noise."""

from __future__ import annotations

from functools import partial

import pandas as pd

from fuse_lib.claims.core import Claim, Finding
from fuse_lib.lab.statistics import sign_test


def solves_more(runs: pd.DataFrame) -> Finding:
    """Starts that only one of the two solves, over all functions without noise."""
    solved = (
        runs[runs.noise == "none"].pivot(index=["problem", "start"], columns="optimizer", values="solved").astype(bool)
    )
    parts = []
    for other, name in (("Adam, cosine", "Adam with cosine decay"), ("L-BFGS", "L-BFGS")):
        more, fewer = (solved["FUSE-PV"] & ~solved[other]).sum(), (~solved["FUSE-PV"] & solved[other]).sum()
        parts.append((name, more, fewer, sign_test(more, fewer)))
    said = "; ".join(f"FUSE-PV {more}, {name} {fewer} (p = {p:.2g})" for name, more, fewer, p in parts)
    effect = f"of {len(solved)} starts, solved by only one of the two: {said}"
    detail = f"{solved.index.unique('problem').size} functions without noise; sign test"
    finding = partial(Finding, effect=effect, detail=detail)
    ahead = [more > fewer and p < 0.05 for _, more, fewer, p in parts]
    if all(ahead):
        return finding("holds")
    return finding("depends", on="the baseline") if any(ahead) else finding("not shown")


def cures_saturation(runs: pd.DataFrame) -> Finding:
    """On Rosenbrock's function with noise on the gradient: starts at which FUSE-PV ends below Adam.

    The headline has the smallest and the largest noise, the detail those between.
    """
    some = runs[(runs.problem == "rosenbrock") & (runs.noise == "fresh")]
    gaps = some.pivot(index=["sigma", "start"], columns="optimizer", values="gap")
    counts = (gaps["FUSE-PV"] < gaps["Adam"]).groupby("sigma").agg(["sum", "count"])
    said, better, worse = [], 0, 0
    for sigma, (wins, n) in counts.iterrows():
        p = sign_test(wins, n - wins)
        better, worse = better + (p < 0.05 and 2 * wins > n), worse + (p < 0.05 and 2 * wins < n)
        said.append(f"{wins} of {n} starts with noise σ = {sigma:g} (p = {p:.2g})")
    effect = f"Rosenbrock's function: FUSE-PV ends below Adam from {said[0]}, from {said[-1]}"
    detail = f"from {', '.join(said[1:-1])}; fresh noise on each gradient, exact loss, sign test"
    finding = partial(Finding, effect=effect, detail=detail)
    if better and worse:
        return finding("depends", on="how large the noise is")
    return finding("holds" if better else "does not hold" if worse else "not shown")


CLAIMS = [
    Claim("FUSE-PV finds the minimum of test functions from more starts than Adam and L-BFGS", "summary, mechanism 1",
          ("04_runs.csv",), solves_more),
    Claim("Where noise makes Adam saturate, switching to L-BFGS goes further", "summary, section IV", ("04_runs.csv",),
          cures_saturation),
]  # fmt: skip
