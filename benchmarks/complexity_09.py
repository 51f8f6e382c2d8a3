"""Notebook 09: evaluations to a target over the target, for FUSE-PV, Adam, SGD and L-BFGS; and the best ζ.

    OMP_NUM_THREADS=1 python benchmarks/complexity_09.py

makes data/results/09_runs.csv and 09_problems.csv (the problems' constants).

A row is a run of one seed, which decides the start and the order of the minibatches. A group of runs that is in the
table already is not made again, so that a killed script goes on where it was. Delete the tables to begin anew.

Cost is counted in passes: gradient evaluations of b rows cost b/n; on the quadratics, which have no rows, an evaluation
is a pass. Columns of a run:
    gap E     passes until (f − f*)/(f₀ − f*) ≤ E at an evaluated point
    now Z     passes until ‖∇f‖²/‖∇f₀‖² ≤ Z (over all rows)
    mean Z    passes until the mean over all steps so far of the ‖g‖² that the optimizer sees is ≤ Z ‖∇f₀‖²
    switch    passes before the switch; zeta: ‖∇f‖²/‖∇f₀‖² there
A cell is empty where it was not reached. What is over all rows is looked at on a geometric grid of steps (5 % apart)
while minibatches run, which costs nothing in the table, and at each evaluation on all rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import complexity_problems as problems
import pandas as pd
import torch
from complexity_problems import Problem
from provenance import provenance

from fuse_lib import FusePV
from fuse_lib.optim.observation import Observation
from fuse_lib.switchover import Criterion

RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"
RUNS, PROBLEMS = RESULTS / "09_runs.csv", RESULTS / "09_problems.csv"
SEEDS = [0, 1, 2, 3, 4]
GAPS = [10.0**-k for k in range(1, 11)]
NOW = [10.0**-k for k in range(1, 15)]
MEAN = [10.0 ** (-k / 2) for k in range(1, 9)]
KEY = ["problem", "part", "optimizer", "setting", "lr"]

# Deterministic, m = 10 as in the reference code; the finite sums, m = 50, whose minimum is not d steps away.
QUADRATICS = [10.0, 100.0, 1000.0, 10_000.0]
EVALS = 3000
PASSES = 100.0
COSINE = [4.0, 8.0, 16.0, 32.0, 64.0]
POINTS = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]  # passes of Adam before the switch


@dataclass(frozen=True)
class Slower(Criterion):
    """The derived rule: switch when Adam's rate, in e-folds of ‖g‖² a pass, has fallen below L-BFGS's.

    Adam's is p/t after t passes where ‖g‖² falls like t^−p; p is measured from the means over the last half of the
    steps and over the quarter before. rate: L-BFGS's, e-folds of ‖∇f‖² an evaluation. cost: passes a step.
    """

    rate: float
    cost: float
    reads = ("grad_norm_sq",)

    def memory(self) -> dict:
        return super().memory() | {"sums": [0.0] * 10_000, "count": 0}  # cumulated; more steps are not asked for here

    def met(self, seen: Observation, memory: dict) -> bool:
        t, sums = memory["count"] + 1, memory["sums"]
        memory["count"], sums[t] = t, sums[t - 1] + seen.grad_norm_sq
        if t < 8:
            return False
        last, before = t - t // 2, t // 2 - t // 4
        falls = math.log((sums[t // 2] - sums[t // 4]) / before) - math.log((sums[t] - sums[t // 2]) / last)
        return falls / math.log(2.0) < self.rate * t * self.cost


class Targets:
    """When each target was met first, in passes."""

    def __init__(self, problem: Problem, seed: int) -> None:
        f, norm_sq = problem.look(problem.starts([seed]))
        self.f0, self.norm0 = f.item() - problem.minimum, norm_sq.item()
        self.minimum, self.met = problem.minimum, {}
        self.left = {"gap": GAPS[:], "now": NOW[:], "mean": MEAN[:]}

    def see(self, passes: float, f: float, norm_sq: float) -> None:
        """Of all rows, at an evaluated point."""
        self._meet("gap", (f - self.minimum) / self.f0, passes)
        self._meet("now", norm_sq / self.norm0, passes)

    def step(self, passes: float, mean: float) -> None:
        """The running mean of ‖g‖² as the optimizer sees it."""
        self._meet("mean", mean / self.norm0, passes)

    def _meet(self, kind: str, value: float, passes: float) -> None:
        left = self.left[kind]
        while left and value <= left[0]:
            self.met[f"{kind} {left.pop(0):.2g}"] = round(passes, 4)


def looks(steps: int) -> set[int]:
    """Steps on a geometric grid."""
    return {round(1.05**k) for k in range(int(math.log(max(steps, 1)) / math.log(1.05)) + 1)} | {steps}


def first_order(
    problem: Problem, kind: str, lr: float, passes: float, cosine: bool, seeds: list[int] = SEEDS
) -> list[dict]:
    """Adam or SGD for so many passes, all seeds at once (they are independent: both work element by element)."""
    W = torch.nn.Parameter(problem.starts(seeds))
    momentum = float(kind.partition(" ")[2] or 0.0)
    opt = torch.optim.Adam([W], lr=lr) if kind == "Adam" else torch.optim.SGD([W], lr=lr, momentum=momentum)
    cost = problem.batch / problem.n
    steps = round(passes / cost)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps) if cosine else None
    seen, targets = looks(steps), [Targets(problem, seed) for seed in seeds]
    batches, total = problem.batches(seeds), torch.zeros(len(seeds), dtype=torch.float64)
    for step in range(1, steps + 1):
        opt.zero_grad()
        f = problem.loss(W, next(batches))
        f.sum().backward()
        norm_sq = W.grad.square().sum(-1)
        total += norm_sq
        if problem.n == 1:  # the evaluation is of the function itself
            for t, *values in zip(targets, f.tolist(), norm_sq.tolist(), strict=True):
                t.see(step, *values)
        for t, mean in zip(targets, (total / step).tolist(), strict=True):
            t.step(step * cost, mean)
        opt.step()
        if schedule is not None:
            schedule.step()
        if problem.n > 1 and step in seen:
            for t, *values in zip(targets, *(v.tolist() for v in problem.look(W)), strict=True):
                t.see(step * cost, *values)
        if not all(math.isfinite(v) for v in total.tolist()):
            break
    f, norm_sq = problem.look(W)
    ends = ((f - problem.minimum) / torch.tensor([t.f0 for t in targets])).tolist()
    shares = (norm_sq / torch.tensor([t.norm0 for t in targets])).tolist()
    return [
        {"seed": s, "switch": None, "zeta": None, "end gap": e, "end norm": z, **t.met}
        for s, t, e, z in zip(seeds, targets, ends, shares, strict=True)
    ]


def _relative(zeta: float, tail: str, norm_sq: float) -> str:
    return f"gradnorm:{zeta * norm_sq!r}{tail}"


def fuse(
    problem: Problem, rule: str | Criterion | Callable, lr: float, limit: float, seed: int, m: int, adam_limit: float
) -> dict:
    """FUSE-PV: Adam on minibatches, then L-BFGS on all rows, until nothing can be gained or so many passes are spent.

    rule: a switchover string, or a function of ‖∇f₀‖² to one.
    """
    w = torch.nn.Parameter(problem.starts([seed]))
    targets, batches = Targets(problem, seed), problem.batches([seed])
    rule = rule(targets.norm0) if callable(rule) else rule
    handover = "pairs" if problem.n == 1 else "none"
    opt = FusePV([w], lr=lr, switchover=rule, history_size=m, full_batch=True, handover=handover)
    passes, step, total, switch, zeta = 0.0, 0, 0.0, None, None
    grid, rows = looks(10**6), None  # rows: of the coming evaluation; None for all

    def closure() -> torch.Tensor:
        nonlocal passes, norm_sq
        passes += 1.0 if rows is None else problem.batch / problem.n
        opt.zero_grad()
        loss = problem.loss(w, rows)[0]
        loss.backward()
        norm_sq = w.grad.square().sum().item()
        if rows is None:
            targets.see(passes, loss.item(), norm_sq)
        return loss

    norm_sq = math.nan
    while passes < limit:
        first = opt.phase == "first_order"
        if first and passes >= adam_limit:
            break
        if not first and switch is None:
            switch, zeta = passes, problem.look(w)[1].item() / targets.norm0
        rows = next(batches) if first else None
        opt.step(closure)
        step += 1
        if first:
            total += norm_sq
            targets.step(passes, total / step)
            if rows is not None and step in grid:
                targets.see(passes, *(v.item() for v in problem.look(w)))
        elif opt.last_step.stop_reason in ("converged", "no_progress"):
            break
    f, end = problem.look(w)
    gap = (f.item() - problem.minimum) / targets.f0
    return {
        "seed": seed,
        "switch": switch,
        "zeta": zeta,
        "end gap": gap,
        "end norm": end.item() / targets.norm0,
        **targets.met,
    }


class Table:
    """The recorded runs, written after each group."""

    def __init__(self) -> None:
        self.rows = pd.read_csv(RUNS).to_dict("records") if RUNS.exists() else []
        self.known = {tuple(row[k] for k in KEY) for row in self.rows}

    def group(self, problem: Problem, part: str, optimizer: str, setting: str, lr: float, make: Callable) -> list[dict]:
        key = (problem.name, part, optimizer, setting, lr)
        if key not in self.known:
            start = time.process_time()
            made = make()
            seconds = round((time.process_time() - start) / len(made), 3)
            about = dict(zip(KEY, key, strict=True))
            self.rows += [about | row | {"seconds": seconds} | provenance() for row in made]
            self.known.add(key)
            self._write()
            print(*key, f"{seconds * len(made):.1f} s", flush=True)
        return [row for row in self.rows if tuple(row[k] for k in KEY) == key]

    def _write(self) -> None:
        columns = [f"gap {e:.2g}" for e in GAPS] + [f"now {z:.2g}" for z in NOW] + [f"mean {z:.2g}" for z in MEAN]
        front = [*KEY, "seed", "switch", "zeta", "end gap", "end norm", "seconds", *columns]
        table = pd.DataFrame(self.rows)
        table = table.reindex(columns=front + [c for c in table.columns if c not in front])
        part = RUNS.with_suffix(".part")
        table.to_csv(part, index=False, float_format="%.5g")
        part.replace(RUNS)


def best_lr(rows: dict[float, list[dict]], column: str) -> float:
    """The lr with the lowest mean cost in a column, seeds that did not arrive counting as infinitely dear."""
    cost = {lr: sum(math.inf if pd.isna(row.get(column)) else row[column] for row in some) for lr, some in rows.items()}
    return min(cost, key=cost.get)


def lowest_end(rows: dict[float, list[dict]], column: str = "end gap") -> float:
    mean = {
        lr: sum(row[column] if row[column] == row[column] else math.inf for row in some) for lr, some in rows.items()
    }
    return min(mean, key=mean.get)


def fuse_group(table: Table, problem: Problem, part: str, rule, setting: str, lr: float, limit, m, adam_limit=math.inf):
    return table.group(
        problem, part, "FUSE-PV", setting, lr,
        lambda: [fuse(problem, rule, lr, limit, seed, m, adam_limit) for seed in SEEDS],
    )  # fmt: skip


def deterministic(
    table: Table, problem: Problem, adam: list[float], sgd: list[tuple[str, float]], target: str, zetas: list[float]
) -> None:
    """Adam, SGD, L-BFGS and FUSE-PV under the literal rule and the last-step one, over ζ; the net on minibatches."""
    part, rows = "deterministic" if problem.n == 1 else "non-convex", {}
    for lr in adam:
        rows[lr] = table.group(
            problem, part, "Adam", "constant", lr, lambda lr=lr: first_order(problem, "Adam", lr, EVALS, False)
        )
    for kind, lr in sgd:
        table.group(
            problem, part, kind, "constant", lr, lambda kind=kind, lr=lr: first_order(problem, kind, lr, EVALS, False)
        )
    for budget in (30, 100, 300, 1000, 3000):
        for lr in adam:
            table.group(problem, part, "Adam, cosine", f"budget:{budget}", lr,
                        lambda lr=lr, budget=budget: first_order(problem, "Adam", lr, budget, True))  # fmt: skip
    lr = best_lr(rows, target)
    fuse_group(table, problem, part, "always", "always", lr, EVALS, 10)
    for zeta in zetas:
        for name, tail in (("mean", ""), ("last", ":1")):
            rule = partial(_relative, zeta, tail)
            fuse_group(table, problem, part, rule, f"{name}:{zeta:.2g}", lr, 2 * EVALS, 10, EVALS)


def stochastic(
    table: Table, problem: Problem, adam: list[float], sgd: list[tuple[str, float]], baselines: bool
) -> float:
    """Minibatches: Adam (and SGD) alone, and Adam then full-batch L-BFGS over the switch point."""
    part, rows = "stochastic", {}
    for lr in adam:
        rows[lr] = table.group(
            problem, part, "Adam", "4 passes", lr, lambda lr=lr: first_order(problem, "Adam", lr, 4, False)
        )
    lr = lowest_end(rows)
    for point in POINTS:
        steps = round(point * problem.n / problem.batch)
        fuse_group(table, problem, part, f"step:{steps}", f"passes:{point:g}", lr, 2000, 50)
    if baselines:
        for rate in adam:
            table.group(
                problem,
                part,
                "Adam",
                "constant",
                rate,
                lambda rate=rate: first_order(problem, "Adam", rate, PASSES, False),
            )
        for kind, rate in sgd:
            table.group(problem, part, kind, "constant", rate,
                        lambda kind=kind, rate=rate: first_order(problem, kind, rate, PASSES, False))  # fmt: skip
        for budget in COSINE:
            for kind, rate in [*(("Adam", rate) for rate in adam), *sgd]:
                make = partial(first_order, problem, kind, rate, budget, True)
                table.group(problem, part, f"{kind}, cosine", f"budget:{budget:g}", rate, make)
    return lr


def score(rows: list[dict], best: dict[str, float]) -> float:
    """Geometric mean, over the gaps below 1e-2, of a rule's mean cost over the best switch point's."""
    logs = []
    for column, least in best.items():
        costs = [row.get(column) for row in rows]
        logs.append(math.inf if any(pd.isna(c) for c in costs) else math.log(sum(costs) / len(costs) / least))
    return math.exp(sum(logs) / len(logs))


def cheapest(table: Table, name: str) -> dict[str, float]:
    """For each gap below 1e-2, the lowest mean cost over the switch points."""
    runs = pd.DataFrame([r for r in table.rows if r["problem"] == name and str(r["setting"]).startswith("passes:")])
    columns = [f"gap {e:.2g}" for e in GAPS[2:8]]
    return runs.groupby("setting")[columns].mean().min().to_dict()


def rules(table: Table, made: dict[str, tuple[Problem, float]], tuning: list[str]) -> None:
    """Rules tuned on some problems, and run on all of them. made: name → problem and Adam's lr."""
    rates, scores = [], {}
    for name in tuning:
        problem, lr = made[name]
        alone = [r for r in table.rows if r["problem"] == name and r["setting"] == "passes:0"]
        rates += [math.log(1e6) / (r["now 1e-08"] - r["now 0.01"]) for r in alone]
        best = cheapest(table, name)
        for zeta in THRESHOLDS:
            rows = fuse_group(table, problem, "rule", f"gradnorm:{zeta}:50", f"gradnorm:{zeta}:50", lr, 2000, 50, 64)
            scores.setdefault(f"gradnorm:{zeta}:50", []).append(score(rows, best))
        for point in POINTS:
            rows = [r for r in table.rows if r["problem"] == name and r["setting"] == f"passes:{point:g}"]
            scores.setdefault(f"passes:{point:g}", []).append(score(rows, best))
    mean = {setting: math.prod(values) ** (1 / len(values)) for setting, values in scores.items()}
    print({k: round(v, 3) for k, v in mean.items()})
    tuned = min((k for k in mean if k.startswith("gradnorm")), key=mean.get)
    rate = math.exp(sum(map(math.log, rates)) / len(rates))
    print(
        f"tuned: {tuned}, {min((k for k in mean if k.startswith('passes')), key=mean.get)}, rate {rate:.3f}", flush=True
    )
    for problem, lr in made.values():
        for setting in ("gradnorm:1e-3:50", tuned):
            fuse_group(table, problem, "rule", setting, setting, lr, 2000, 50, 64)
        slower = Slower(rate, problem.batch / problem.n)
        fuse_group(table, problem, "rule", slower, f"slower:{rate:.3f}", lr, 2000, 50, 64)


ADAM = {"least": [1e-2, 3e-2, 0.1, 0.3], "images": [3e-3, 1e-2, 3e-2, 0.1]}
SGD = {
    "least": [("SGD 0.9", lr) for lr in (3e-3, 1e-2, 3e-2, 1e-1)],
    "images": [("SGD 0.9", lr) for lr in (1e-2, 3e-2, 0.1, 0.3)],
}
GRID = [("SGD 0", 1.0), ("SGD 0", 1.9), ("SGD 0.9", 0.3), ("SGD 0.9", 1.0), ("SGD 0.9", 3.0), ("SGD 0.99", 0.1),
        ("SGD 0.99", 0.5), ("SGD 0.99", 2.0)]  # fmt: skip
TUNING = [lambda: problems.ridge(100.0), lambda: problems.ridge(3000.0), lambda: problems.softmax("digits", 1e-2)]
HELD_OUT = [
    lambda: problems.ridge(1000.0, batch=64), lambda: problems.ridge(1000.0, "linear", d=100),
    lambda: problems.softmax("digits", 1e-4), lambda: problems.softmax("fashion-mnist-sample", 1e-3, batch=64),
    lambda: problems.softmax("digits", 1e-3, batch=8),
]  # fmt: skip
BASELINES = ["least squares 1000 log, b=64", "digits 0.0001, b=32"]
THRESHOLDS = [1.0, 0.3, 0.1, 0.03, 0.01]  # of gradnorm, absolute as in the library; window 50 as in its default


def main() -> None:
    torch.set_num_threads(1)
    table, made = Table(), {}
    for make in [*TUNING, *HELD_OUT]:
        problem = make()
        kind = "least" if problem.name.startswith("least") else "images"
        made[problem.name] = problem, stochastic(table, problem, ADAM[kind], SGD[kind], baselines=False)
    rules(table, made, list(made)[: len(TUNING)])
    constants = {
        name: {"n": p.n, "batch": p.batch, "mu": p.mu, "L": p.L, "minimum": p.minimum} for name, (p, _) in made.items()
    }
    pd.DataFrame([{"problem": name} | about | provenance() for name, about in constants.items()]).to_csv(
        PROBLEMS, index=False
    )
    for condition in QUADRATICS:
        deterministic(table, problems.quadratic(condition), [3e-3, 1e-2, 3e-2, 0.1, 0.3], GRID, "gap 0.001", MEAN)
    sgd = [("SGD 0", 0.3), ("SGD 0", 1.0), ("SGD 0.9", 0.03), ("SGD 0.9", 0.1), ("SGD 0.9", 0.3), ("SGD 0.99", 0.03)]
    deterministic(table, problems.net(), [3e-4, 1e-3, 3e-3, 1e-2, 3e-2], sgd, "now 0.0001", MEAN[:1])
    for make in HELD_OUT:
        problem = make()
        if problem.name in BASELINES:
            kind = "least" if problem.name.startswith("least") else "images"
            stochastic(table, problem, ADAM[kind], SGD[kind], baselines=True)


if __name__ == "__main__":
    main()
