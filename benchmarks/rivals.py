"""Full-batch evaluations and seconds until the objective is near its minimum: fuse_lib beside other optimizers.

    OMP_NUM_THREADS=1 python benchmarks/rivals.py [problem ...]   appends rows to data/results/bench_rivals.csv
    python benchmarks/rivals.py --show                            the medians, and the ratios to the best of fuse_lib

A start that has rows of this machine, these versions and this commit already is not run again, so that a killed script
goes on where it was.

The objective is cross-entropy + 1e-4/2 ‖W‖², biases free, pixels in [0, 1], on the bundled samples: softmax
regression and small nets, in float32, each from five starts. An evaluation is one call of the function with its
gradient, whoever makes it and whatever for. A run is over when a value is near the best known, or after `cap`
evaluations. Seconds count from the making of the optimizer. For one start all contestants run one after
another in one process, the first of them another for each start.

Near is 1e-4 (relative) for softmax regression, which has one minimum, and 1e-2 for the nets, of which a start and an
optimizer lead to one of many: long runs from one start end up to 1e-2 apart, so that less would tell minima apart, not
optimizers. The best known values are found in float64 by long runs of several optimizers from the same start; they
are kept, one row a long run, in bench_rivals_minima.csv. If a contestant finds a lower value, the long runs go on from
there, and all contestants of that start are run again against it.

Who takes part, all L-BFGS with m = 10, 50 and 100, none ended by a tolerance of its own:
    fuse_lib L-BFGS      LBFGS(full_batch=True)
    fuse_lib FUSE-PV     FusePV(full_batch=True), Adam for 20 steps of lr 0.01 first
    … adaptive           the same two with scaling="adaptive"
    torch L-BFGS         strong Wolfe, the whole run in one step, so that no evaluation is repeated
    torch L-BFGS as it comes   torch.optim.LBFGS(params): no line search, m = 100, 20 iterations a step
    Adam, torch L-BFGS   Adam for 20 steps of lr 0.01 first
    torchzero            LBFGS and StrongWolfe
    pytorch-minimize     l-bfgs
    SciPy L-BFGS-B       float64; and its float64 vectors round a function in float32
    Adam; Adam, cosine   tuned: the learning rate and, for cosine decay, the length
The two that switch are there once more, with m = 50, learning rate and switch tuned on the same candidates. Tuning is
done on a start of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd
import torch
import torch.nn.functional as F
from tables import ORIGIN, RESULTS, append, of_origin, origin, read
from torch import Tensor

from fuse_lib import LBFGS, FusePV, data, models

OUT, MINIMA = RESULTS / "bench_rivals.csv", RESULTS / "bench_rivals_minima.csv"
PENALTY = 1e-4
GAPS = (1e-1, 1e-2, 1e-3, 1e-4)
STARTS, TUNING = range(5), 100  # seeds of the initial weights
HISTORY = (10, 50, 100)
SWITCH = (0.01, 20)  # Adam's learning rate and its steps, where an L-BFGS follows


@dataclass(frozen=True)
class Problem:
    """Cross-entropy and penalty of a net on a bundled sample.

    hidden: widths; () is softmax regression. gap: how near to the best known value a run has to come, relatively.
    cap: the most evaluations.
    """

    dataset: str
    hidden: tuple[int, ...] = ()
    activation: Callable[[Tensor], Tensor] = torch.tanh
    gap: float = 1e-4
    cap: int = 3000
    _rows: dict = field(default_factory=dict, compare=False, repr=False)

    def rows(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Images (n, C·H·W) and labels (n,)."""
        if dtype not in self._rows:
            some = data.load(self.dataset)
            self._rows[dtype] = some.x_train.flatten(1).to(dtype), some.y_train
        return self._rows[dtype]

    def start(self, seed: int) -> list[Tensor]:
        """Weights and biases in turn, float32, as torch initialises them."""
        shape = data.load(self.dataset).in_shape
        return [p.detach() for p in models.build("mlp", shape, seed=seed, hidden=self.hidden).parameters()]

    def loss(self, parameters: list[Tensor]) -> Tensor:
        x, y = self.rows(parameters[0].dtype)
        for i in range(0, len(parameters), 2):
            x = F.linear(x if i == 0 else self.activation(x), parameters[i], parameters[i + 1])
        return F.cross_entropy(x, y) + PENALTY / 2 * sum(w.square().sum() for w in parameters[::2])


PROBLEMS = {
    "digits, logistic": Problem("digits"),
    "digits, tanh net": Problem("digits", (32,), gap=1e-2, cap=1000),
    "fashion, logistic": Problem("fashion-mnist-sample"),
    "fashion, ReLU net": Problem("fashion-mnist-sample", (32,), torch.relu, gap=1e-2, cap=1000),
}


class Over(Exception):
    """The target is reached, or the evaluations are spent."""


class Run:
    """A problem from one start, with its evaluations counted: what a contestant is given.

    target: the value that ends the run, after `cap` evaluations at the latest. marks: values whose first reaching is
        to be noted. params: the start, to be moved in place. Or the contestant takes `of_vector` or `of_array`.
    """

    def __init__(self, problem, start: list[Tensor], target: float, cap: int, marks=(), dtype=torch.float32):
        self.problem, self.target, self.cap, self.dtype = problem, target, cap, dtype
        self.params = [p.to(dtype).clone().requires_grad_() for p in start]
        self.evals, self.lowest, self.at_lowest = 0, math.inf, None
        self.marks, self.reached = sorted(marks, reverse=True), []  # of each mark: (evaluations, seconds)
        self.begun = time.perf_counter()

    def closure(self, backward: bool = True) -> Tensor:
        """As torch's optimizers want it; torchzero may ask for the value alone."""
        for p in self.params:
            p.grad = None
        with torch.enable_grad():
            loss = self.problem.loss(self.params)
        if backward:
            loss.backward()
        self._count(loss.item(), self.params)
        return loss

    def of_vector(self, x: Tensor) -> Tensor:
        """As pytorch-minimize wants it: (d,) → loss. It takes the gradient of each."""
        params = self.split(x)
        loss = self.problem.loss(params)
        self._count(loss.item(), params)
        return loss

    def of_array(self, x):
        """As SciPy wants it: float64 array (d,) → loss, gradient."""
        with torch.no_grad():
            for p, new in zip(self.params, self.split(torch.from_numpy(x)), strict=True):
                p.copy_(new)
        loss = self.closure().item()
        return loss, torch.cat([p.grad.flatten() for p in self.params]).double().numpy()

    def split(self, x: Tensor) -> list[Tensor]:
        pieces = x.split([p.numel() for p in self.params])
        return [piece.view(p.shape) for piece, p in zip(pieces, self.params, strict=True)]

    def vector(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.params])

    def _count(self, loss: float, params: list[Tensor]) -> None:
        self.evals += 1
        while len(self.reached) < len(self.marks) and loss <= self.marks[len(self.reached)]:
            self.reached.append((self.evals, time.perf_counter() - self.begun))
        if loss < self.lowest:
            self.lowest = loss
            if loss <= self.target:
                self.at_lowest = [p.detach().clone() for p in params]
        if loss <= self.target or self.evals >= self.cap:
            raise Over


# ---- the contestants: a function of a Run and of what is varied. They go on until the run is over.
def ours(run: Run, m: int, **options) -> None:
    steps(run, LBFGS(run.params, history_size=m, full_batch=True, **options))


def fuse_pv(run: Run, m: int, lr: float = SWITCH[0], switch: int = SWITCH[1], **options) -> None:
    steps(run, FusePV(run.params, lr, switchover=f"step:{switch}", history_size=m, full_batch=True, **options))


def torch_lbfgs(run: Run, m: int) -> None:
    options = {"max_iter": run.cap, "max_eval": 2 * run.cap, "tolerance_grad": 0, "tolerance_change": 0}
    opt = torch.optim.LBFGS(run.params, history_size=m, line_search_fn="strong_wolfe", **options)
    steps(run, opt)


def torch_as_it_comes(run: Run) -> None:
    steps(run, torch.optim.LBFGS(run.params))


def adam_torch_lbfgs(run: Run, m: int, lr: float = SWITCH[0], switch: int = SWITCH[1]) -> None:
    opt = torch.optim.Adam(run.params, lr)
    for _ in range(switch):
        opt.step(run.closure)
    torch_lbfgs(run, m)


def torchzero(run: Run, m: int) -> None:
    import torchzero as tz

    steps(run, tz.Optimizer(run.params, tz.m.LBFGS(m), tz.m.StrongWolfe()))


def pytorch_minimize(run: Run, m: int) -> None:
    import torchmin

    options = {"history_size": m, "gtol": 0, "xtol": -1, "gtd_tol": 0}
    torchmin.minimize(run.of_vector, run.vector(), "l-bfgs", max_iter=run.cap, options=options)


def scipy_lbfgs(run: Run, m: int) -> None:
    from scipy.optimize import minimize

    options = {"maxcor": m, "ftol": 0, "gtol": 0, "maxfun": 2 * run.cap, "maxiter": run.cap}
    minimize(run.of_array, run.vector().double().numpy(), jac=True, method="L-BFGS-B", options=options)


def adam(run: Run, lr: float, decay: int = 0) -> None:
    """decay: steps of the cosine decay to zero, which end the run; 0 for none."""
    opt = torch.optim.Adam(run.params, lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, decay) if decay else None
    for _ in range(decay or run.cap):
        opt.step(run.closure)
        if scheduler:
            scheduler.step()


def steps(run: Run, opt: torch.optim.Optimizer) -> None:
    """Until the run is over, or ten steps in a row brought no lower value."""
    idle, lowest = 0, math.inf
    while idle < 10:
        opt.step(run.closure)
        idle = 0 if run.lowest < lowest else idle + 1
        lowest = run.lowest


@dataclass(frozen=True)
class Contestant:
    """who: does the work. fixed: its arguments. grid: candidates to choose from on the tuning start; or none."""

    who: Callable
    fixed: dict = field(default_factory=dict)
    grid: tuple[dict, ...] = ()
    dtype: torch.dtype = torch.float32


RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
SWITCHES = tuple({"lr": lr, "switch": k} for lr in (3e-3, 1e-2, 3e-2) for k in (5, 20, 50, 100))


def contestants(cap: int = 3000) -> dict[str, Contestant]:
    """By name. cap: the length of the longest cosine decay."""
    found: dict[str, Contestant] = {}
    for m in HISTORY:
        found |= {
            f"fuse_lib L-BFGS, {m}": Contestant(ours, {"m": m}),
            f"fuse_lib FUSE-PV, {m}": Contestant(fuse_pv, {"m": m}),
            f"fuse_lib L-BFGS, adaptive, {m}": Contestant(ours, {"m": m, "scaling": "adaptive"}),
            f"fuse_lib FUSE-PV, adaptive, {m}": Contestant(fuse_pv, {"m": m, "scaling": "adaptive"}),
            f"torch L-BFGS, {m}": Contestant(torch_lbfgs, {"m": m}),
            f"Adam, torch L-BFGS, {m}": Contestant(adam_torch_lbfgs, {"m": m}),
            f"torchzero, {m}": Contestant(torchzero, {"m": m}),
            f"pytorch-minimize, {m}": Contestant(pytorch_minimize, {"m": m}),
            f"SciPy L-BFGS-B, {m}": Contestant(scipy_lbfgs, {"m": m}, dtype=torch.float64),
            f"SciPy L-BFGS-B, f in float32, {m}": Contestant(scipy_lbfgs, {"m": m}),
        }
    decays = tuple({"lr": lr, "decay": k} for lr in RATES[1:] for k in (300, 1000, 3000) if k <= cap)
    return found | {
        "fuse_lib FUSE-PV tuned, 50": Contestant(fuse_pv, {"m": 50}, SWITCHES),
        "Adam, torch L-BFGS tuned, 50": Contestant(adam_torch_lbfgs, {"m": 50}, SWITCHES),
        "torch L-BFGS as it comes": Contestant(torch_as_it_comes),
        "Adam": Contestant(adam, grid=tuple({"lr": lr} for lr in RATES)),
        "Adam, cosine": Contestant(adam, grid=decays),
    }


def run(one: Contestant, setting: dict, problem, start: list[Tensor], best: float, cap: int | None = None) -> Run:
    """One run until the problem's gap to `best`, or its cap, or a smaller one."""
    marks = [best + gap * abs(best) for gap in GAPS if gap >= problem.gap]
    run_ = Run(problem, start, marks[-1], problem.cap if cap is None else cap, marks, one.dtype)
    with contextlib.suppress(Over):
        one.who(run_, **one.fixed, **setting)
    return run_


def tuned(one: Contestant, problem: Problem, best: float) -> dict:
    """The candidate that takes the fewest evaluations from the tuning start; if none arrives, that which comes nearest.

    A candidate is stopped when it has taken as many as the best before it.
    """
    chosen, score = {}, (problem.cap + 1, math.inf)
    for candidate in one.grid:
        done = run(one, candidate, problem, problem.start(TUNING), best, min(problem.cap, score[0]))
        new = (done.evals if done.lowest <= done.target else problem.cap + 1, done.lowest)
        if new < score:
            chosen, score = candidate, new
    return chosen


# ---- the best known values
LONG = {
    "SciPy L-BFGS-B": scipy_lbfgs,
    "fuse_lib L-BFGS": ours,
    "torch L-BFGS": torch_lbfgs,
    "fuse_lib FUSE-PV": fuse_pv,
}


def long_runs(name: str, seed: int, start: list[Tensor]) -> None:
    """Where float64 runs end, in a table. For the convex problems two are enough, for they agree."""
    problem, rows = PROBLEMS[name], []
    for who in list(LONG) if problem.hidden else list(LONG)[:2]:
        one = Run(problem, start, -math.inf, 2000, dtype=torch.float64)
        with contextlib.suppress(Over):
            LONG[who](one, m=50)
        rows.append({"problem": name, "start": seed, "who": who, "lowest": one.lowest, "evals": one.evals, **origin()})
    append(MINIMA, rows)


def minimum(name: str, seed: int, better: list[Tensor] | None = None) -> float:
    """The best known value from this start. better: a point that is better than what was known, to go on from."""
    known = read(MINIMA)
    missing = not len(known) or not ((known.problem == name) & (known.start == seed)).any()
    if missing or better is not None:
        long_runs(name, seed, PROBLEMS[name].start(seed) if better is None else better)
        known = read(MINIMA)
    return known.lowest[(known.problem == name) & (known.start == seed)].min()


# ---- the table
def race(name: str, seed: int, settings: dict[str, dict]) -> list[dict]:
    """All contestants from one start, again if one of them finds a lower value than was known."""
    problem, best = PROBLEMS[name], minimum(name, seed)
    field_, start, rows = list(contestants(problem.cap).items()), problem.start(seed), []
    turn = seed * 7 % len(field_)
    for who, one in field_[turn:] + field_[:turn]:
        done = run(one, settings[who], problem, start, best)
        if done.lowest < best - 1e-6 * abs(best):
            minimum(name, seed, done.at_lowest)
            print(f"{name}, start {seed}: {who} found {done.lowest:.8g} below {best:.8g}; again", flush=True)
            return race(name, seed, settings)
        row = {"problem": name, "d": done.vector().numel(), "contestant": who, "start": seed,
               "setting": " ".join(f"{k}={v}" for k, v in settings[who].items()), "minimum": best,
               "gap": float(f"{done.lowest / best - 1:.3g}"), "wanted": problem.gap, "spent": done.evals,
               "cap": problem.cap}  # fmt: skip
        for i, gap in enumerate(GAPS):
            evals, seconds = done.reached[i] if i < len(done.reached) else (None, None)
            row |= {f"evals {gap:.0e}": evals, f"seconds {gap:.0e}": None if seconds is None else round(seconds, 5)}
        rows.append(row | origin())
    return rows


def measure(names: list[str]) -> None:
    for name in names:
        problem, done = PROBLEMS[name], of_origin(read(OUT), origin())
        left = [s for s in STARTS if not len(done) or not ((done.problem == name) & (done.start == s)).any()]
        if not left:
            continue
        best, all_ = minimum(name, TUNING), contestants(problem.cap)
        for one in all_.values():  # loads what is loaded at first use
            run(one, one.grid[0] if one.grid else {}, problem, problem.start(TUNING), best, 5)
        settings = {who: tuned(one, problem, best) for who, one in all_.items()}
        for seed in left:
            append(OUT, race(name, seed, settings))
            print(f"{name}, start {seed}: done", flush=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Of the runs of one origin, a row a problem and contestant: medians, ranges, and ratios to the best of fuse_lib.

    A run that does not arrive counts as infinitely long, so that a median is finite where most arrived.
    """
    table = arrivals(table).fillna({"evals": math.inf, "seconds": math.inf})
    found = table.groupby(["problem", "contestant"], sort=False).agg(
        arrived=("evals", lambda e: f"{(e < math.inf).sum()} of {len(e)}"), evals=("evals", "median"),
        least=("evals", "min"), most=("evals", "max"), seconds=("seconds", "median"),
    )  # fmt: skip
    for of in ("evals", "seconds"):
        best = found[of][[who.startswith("fuse_lib") for _, who in found.index]].groupby("problem").min()
        found[f"{of} / best of ours"] = (found[of] / found.index.get_level_values(0).map(best)).round(2)
    return found


def arrivals(table: pd.DataFrame) -> pd.DataFrame:
    """The table with columns evals and seconds: those to the gap that the problem wants, NaN where not reached."""
    keys = table.wanted.map("{:.0e}".format)
    return table.assign(**{
        of: [row[f"{of} {key}"] for key, (_, row) in zip(keys, table.iterrows(), strict=True)]
        for of in ("evals", "seconds")
    })  # fmt: skip


def show() -> None:
    rows = read(OUT)
    for where, table in rows.groupby([name for name in ORIGIN if name in rows], sort=False):
        print(*where)
        with pd.option_context("display.width", 200, "display.max_rows", None, "display.max_columns", None):
            print(summary(table).sort_values(["problem", "evals", "seconds"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", help=f"of {', '.join(map(repr, PROBLEMS))}; without one: all")
    parser.add_argument("--show", action="store_true", help="print what the table says")
    args = parser.parse_args()
    if unknown := set(args.problems) - set(PROBLEMS):
        parser.error(f"problems: got {', '.join(sorted(unknown))}; allowed is {', '.join(map(repr, PROBLEMS))}")
    if not args.show:
        measure(args.problems or list(PROBLEMS))
    show()


if __name__ == "__main__":
    main()
