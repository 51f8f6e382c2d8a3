"""Notebook 11: any first phase with any second phase. Which of the two matters more, and how fast each converges.

    OMP_NUM_THREADS=1 python benchmarks/pairs_11.py [--only tuning runs sensitivity rates]

makes data/results/11_tuning.csv, 11_runs.csv (part "grid" and part "sensitivity"), 11_rates.csv and 11_traces.csv.
Runs that are in a table already are not made again, so that a killed script goes on where it was. Delete a table to
begin anew.

All on all rows, in float64. Cost is counted in closure calls, products with the Hessian among them. A run has `budget`
calls; what counts is the last accepted point within them, `gap` = (f − f*)/(f₀ − f*). The net has no one minimum: in
the place of f* stands 0.99 of the lowest value of any run, so that no run has a gap of zero.

The pairs `switch` after so many first-order steps (0 is the second alone, the whole budget the first alone).
Rates of learning were chosen on other seeds: of the first phase for the point of the switch and, alone, for the end of
the budget; AdaHessian's alone.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path

import complexity_problems as problems
import numpy as np
import pandas as pd
import torch
from complexity_problems import Problem
from provenance import provenance
from tables import append, read

from fuse_lib import Fuse
from fuse_lib.problems import valleys

RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"
TUNING, RUNS, RATES, TRACES = (RESULTS / f"11_{name}.csv" for name in ("tuning", "runs", "rates", "traces"))
SEEDS, OTHERS = [0, 1, 2, 3, 4], [100, 101, 102]  # reported, and for choosing rates of learning
BUDGET = 400
SHARE, SHARES = 0.1, [0.025, 0.4]  # of the budget for the first phase; and for its sensitivity
AT = [100, 200, 300, BUDGET]  # calls at which f is recorded
MAX_EVALS = 100  # of one step: Newton–CG may solve its system
ADAPTIVE = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0]
FIRST: dict[str, tuple[type, dict, list[float]]] = {
    "Adam": (torch.optim.Adam, {}, ADAPTIVE),
    "AdamW": (torch.optim.AdamW, {}, ADAPTIVE),
    "SGD": (torch.optim.SGD, {"momentum": 0.9}, [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 0.3, 1.0, 3.0]),
    "RMSprop": (torch.optim.RMSprop, {}, [1e-4, *ADAPTIVE]),
    "NAdam": (torch.optim.NAdam, {}, ADAPTIVE),
}
SECOND = {"L-BFGS": "lbfgs", "CG": "cg", "Newton-CG": "newton-cg", "AdaHessian": "adahessian"}
ADAHESSIAN = [0.03, 0.1, 0.3, 1.0, 3.0]


def rosenbrock(d: int = 20) -> Problem:
    """From uniform starts in its domain."""
    function = valleys.rosenbrock(d).function

    def start(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1000 + seed)
        return 2.048 * (2 * torch.rand(d, dtype=torch.float64, generator=generator) - 1)

    problem = Problem(f"rosenbrock-{d}", lambda W, rows: function(W), start, 1, 1, math.nan, math.nan)
    problem.minimum = 0.0
    return problem


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "quadratic": lambda: problems.quadratic(1e4),
    "rosenbrock-20": rosenbrock,
    "softmax": lambda: problems.softmax("digits", 1e-3, 32),
    "net": problems.net,
}


def train(
    problem: Problem,
    first: str,
    second: str,
    lr: float,
    seed: int,
    share: float,
    budget: int = BUDGET,
    adahessian: float = 0.1,
) -> tuple[list[tuple[int, float]], float]:
    """One run: [(closure calls, f) of each accepted point, the start's first], and the process's seconds.

    first, second: names in FIRST and SECOND, or "none". It ends when it has converged, or with the budget.
    """
    w = torch.nn.Parameter(problem.start(seed))
    switch = "never" if second == "none" else f"step:{round(share * budget)}" if first != "none" else "always"
    cls, args, _ = FIRST["Adam" if first == "none" else first]
    own = {"lr": adahessian} if second == "AdaHessian" else None
    opt = Fuse([w], lr=lr, switchover=switch, first_order=cls, first_order_args=args, full_batch=True,
               max_evals=MAX_EVALS, second_order=SECOND.get(second, "lbfgs"), second_order_args=own)  # fmt: skip

    def closure() -> torch.Tensor:
        opt.zero_grad()
        loss = problem.loss(w.unsqueeze(0), None)[0]
        loss.backward()
        return loss

    def value() -> float:
        with torch.no_grad():
            return problem.loss(w.unsqueeze(0), None)[0].item()

    points, calls, begin = [(0, value())], 0, time.process_time()
    while calls < budget:
        phase = opt.phase
        opt.step(closure)
        report = opt.last_step
        calls += report.evals
        after = None if phase == "first_order" else report.loss_after
        f = value() if after is None else after
        points.append((calls, f))
        stuck = report.stop_reason in ("converged", "no_progress", "non_finite")
        if not math.isfinite(f) or (phase != "first_order" and stuck):
            break
    return points, time.process_time() - begin


def at(points: list[tuple[int, float]], calls: int) -> float:
    """f at the last accepted point within so many calls; inf where it is not finite."""
    f = [f for c, f in points if c <= calls][-1]
    return f if math.isfinite(f) else math.inf


def tune() -> None:
    """Rates of learning, alone and on other seeds: f at the switches and at the end."""
    done = read(TUNING)
    known = set(zip(done.problem, done.method, done.lr, strict=True)) if len(done) else set()
    for name, make in PROBLEMS.items():
        problem = make()
        tried = [(m, lr) for m, (_, _, lrs) in FIRST.items() for lr in lrs] + [("AdaHessian", lr) for lr in ADAHESSIAN]
        for method, lr in tried:
            if (name, method, lr) in known:
                continue
            rows = []
            for seed in OTHERS:
                pair = ("none", method) if method == "AdaHessian" else (method, "none")
                points, _ = train(problem, *pair, lr, seed, 1.0, adahessian=lr)
                values = {f"at {s:g}": at(points, round(s * BUDGET)) for s in sorted([SHARE, *SHARES, 1.0])}
                rows.append({"problem": name, "method": method, "lr": lr, "seed": seed, **values, **provenance()})
            append(TUNING, rows)
        print("tuning", name, flush=True)


def chosen(problem: str, method: str, share: float) -> float:
    """The rate of learning with the lowest geometric mean of f − (a bit less than the lowest) there."""
    some = read(TUNING).query("problem == @problem and method == @method")
    column = f"at {share:g}"
    low = read(TUNING).query("problem == @problem").groupby("seed")["at 1"].min()
    logs = np.log((some[column] - some.seed.map(low) + 1e-12 * low.abs().max() + 1e-300).clip(upper=1e300))
    return float(some.assign(log=logs).groupby("lr").log.mean().idxmin())


def run(part: str, shares: list[float], seeds: list[int]) -> None:
    """The grid of pairs, and each method alone."""
    for name, make in PROBLEMS.items():
        problem, done = make(), read(RUNS)
        keys = ["problem", "first", "second", "switch", "seed"]
        known = set(done[keys].itertuples(index=False, name=None)) if len(done) else set()
        adahessian = chosen(name, "AdaHessian", 1.0)
        cells = [(f, s, share) for f in FIRST for s in SECOND for share in shares]
        if part == "grid":
            cells += [(f, "none", 1.0) for f in FIRST] + [("none", s, 0.0) for s in SECOND]
        for first, second, share in cells:
            lr = chosen(name, first, share) if first != "none" else math.nan
            rows = []
            for seed in seeds:
                if (name, first, second, round(share * BUDGET), seed) in known:
                    continue
                points, seconds = train(
                    problem, first, second, 1e-3 if first == "none" else lr, seed, share, adahessian=adahessian
                )
                rows.append({
                    "part": part, "problem": name, "first": first, "second": second,
                    "switch": round(share * BUDGET), "seed": seed, "lr": lr,
                    "second lr": adahessian if second == "AdaHessian" else math.nan,
                    "start": points[0][1], **{f"f {c}": at(points, c) for c in AT},
                    "lowest": min(f for _, f in points if math.isfinite(f)), "calls": points[-1][0],
                    "seconds": round(seconds, 3), **provenance(),
                })  # fmt: skip
            if rows:
                append(RUNS, rows)
        print(part, name, flush=True)


# ---- local rates
def curvature(problem: Problem, w: torch.Tensor) -> tuple[float, float]:
    """The extreme eigenvalues of the Hessian at w, μ and L."""
    hessian = torch.autograd.functional.hessian(lambda v: problem.loss(v.unsqueeze(0), None)[0], w)
    values = torch.linalg.eigvalsh(hessian)
    return values[0].item(), values[-1].item()


def minimiser(problem: Problem) -> tuple[torch.Tensor, float]:
    """w* and f* of a convex problem."""
    w = torch.nn.Parameter(problem.start(0))
    opt = Fuse([w], switchover="always", full_batch=True, history_size=100, scaling="adaptive")

    def closure() -> torch.Tensor:
        opt.zero_grad()
        loss = problem.loss(w.unsqueeze(0), None)[0]
        loss.backward()
        return loss

    while not (opt.last_step and opt.last_step.stop_reason in ("converged", "no_progress")):
        opt.step(closure)
    return w.detach(), problem.minimum


def gradient_method(problem: Problem, lr: float, momentum: float, seed: int, steps: int) -> list[tuple[int, float]]:
    """SGD on all rows, as `train` gives it."""
    w = torch.nn.Parameter(problem.start(seed))
    opt, points = torch.optim.SGD([w], lr=lr, momentum=momentum), []
    for k in range(steps):
        opt.zero_grad()
        loss = problem.loss(w.unsqueeze(0), None)[0]
        points.append((k, loss.item()))
        loss.backward()
        opt.step()
    return points


def fitted(errors: np.ndarray, high: float, low: float) -> tuple[float, int]:
    """(factor by which the error falls in an iteration, over how many iterations), by least squares on the logarithm.

    The window is where the error is between two shares of the first; if it never falls below `high`, the last half of
    all iterations. NaN where there are fewer than three.
    """
    k = np.arange(len(errors))
    below, end = np.flatnonzero(errors <= high), np.flatnonzero(errors < low)
    start = below[0] if len(below) else len(k) // 2
    some = (k >= start) & (k < (end[0] if len(end) else len(k))) & (errors > 0)
    if some.sum() < 3:
        return math.nan, int(some.sum())
    return float(np.exp(np.polyfit(k[some], np.log(errors[some]), 1)[0])), int(some.sum())


def rates() -> None:
    """Error = √((f − f*)/(f₀ − f*)) at each iteration of each method alone on the two problems whose f* is known."""
    if RATES.exists():
        return
    rows, traces = [], []
    for name, steps in (("quadratic", 3000), ("softmax", 1000)):
        problem = PROBLEMS[name]()
        w, least = minimiser(problem)
        mu, L = curvature(problem, w)
        root, kappa = math.sqrt(L / mu), L / mu
        heavy = (4 / (math.sqrt(L) + math.sqrt(mu)) ** 2, ((root - 1) / (root + 1)) ** 2)
        theory = {"gradient, 2/(L+μ)": (kappa - 1) / (kappa + 1), "heavy ball": (root - 1) / (root + 1),
                  "CG": (root - 1) / (root + 1)}  # fmt: skip
        methods = ["gradient, 2/(L+μ)", "heavy ball", *FIRST, *SECOND]
        for method in methods:
            for seed in SEEDS:
                if method == "gradient, 2/(L+μ)":
                    points = gradient_method(problem, 2 / (L + mu), 0.0, seed, steps)
                elif method == "heavy ball":
                    points = gradient_method(problem, *heavy, seed, steps)
                elif method in FIRST:
                    points, _ = train(problem, method, "none", chosen(name, method, 1.0), seed, 1.0, steps)
                else:
                    points, _ = train(problem, "none", method, 1e-3, seed, 0.0, 2 * steps,
                                      adahessian=chosen(name, "AdaHessian", 1.0))  # fmt: skip
                gap = np.array([f for _, f in points]) - least
                errors = np.sqrt(np.clip(gap, 0, None) / gap[0])
                floor = 3e-7 if name == "softmax" else 1e-8
                rate, iterations = fitted(errors, 1e-2, floor)
                last = errors[errors > floor]
                steepest = min((b / a for a, b in itertools.pairwise(last)), default=math.nan)
                calls = next((c for (c, _), e in zip(points, errors, strict=True) if e <= 1e-5), math.nan)
                rows.append({"problem": name, "method": method, "seed": seed, "mu": mu, "L": L, "rate": rate,
                             "iterations": iterations, "best factor": steepest, "calls to 1e-5": calls,
                             "end": errors[-1], "theory": theory.get(method, math.nan), **provenance()})  # fmt: skip
                if seed == 0:
                    grid = sorted({round(1.04**k) for k in range(250)} | set(range(40)))
                    traces += [{"problem": name, "method": method, "iteration": k, "calls": points[k][0],
                                "error": errors[k]} for k in grid if k < len(errors)]  # fmt: skip
            print("rates", name, method, flush=True)
    pd.DataFrame(rows).to_csv(RATES, index=False, float_format="%.6g")
    pd.DataFrame(traces).to_csv(TRACES, index=False, float_format="%.6g")


# ---- what the tables say
def with_gaps() -> None:
    """Columns `gap c` of all runs: (f − f*)/(f₀ − f*) after c calls, between 1e-14 and 10."""
    runs = read(RUNS)
    for name, some in runs.groupby("problem"):
        least = 0.99 * some.lowest.min() if name == "net" else PROBLEMS[name]().minimum
        for c in AT:
            gap = (some[f"f {c}"] - least) / (some.start - least)
            runs.loc[some.index, f"gap {c}"] = [float(f"{g:.6g}") for g in gap.clip(1e-14, 10.0)]
    part = RUNS.with_suffix(".part")
    runs.to_csv(part, index=False)
    part.replace(RUNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=["tuning", "runs", "rates", "sensitivity"])
    parts = {"tuning": tune, "runs": lambda: run("grid", [SHARE], SEEDS), "rates": rates,
             "sensitivity": lambda: run("sensitivity", SHARES, SEEDS[:3])}  # fmt: skip
    for name in parser.parse_args().only:
        parts[name]()
    if RUNS.exists():
        with_gaps()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
