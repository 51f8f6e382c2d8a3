"""Notebook 10: general FUSE (Algorithm 3), x_{k+1} = θ x^A + (1 − θ) x^L, beside hard switches and Adam at equal cost.

    OMP_NUM_THREADS=1 python benchmarks/soft_switchover_10.py                    makes data/results/10_runs.csv
    OMP_NUM_THREADS=1 python benchmarks/soft_switchover_10.py --only rosenbrock  the problems of this name

A row is a run of one seed. Settings are chosen on the seeds TUNING for each budget by itself, and the chosen ones are
run on the seeds REPORTED; a seed decides the start, and the order of the minibatches where there are any. Runs that
are in the table already are not made again, so that a killed script goes on where it was.

Cost is counted in passes over the rows: an evaluation of b of n rows costs b/n, on a function without rows 1. A blend
pays for its line search and for the blended point, and the second phase for the one evaluation that tests the
full-batch promise.

Columns of a run:
    e C        f − f*; full batch: of the lowest f seen within C passes; minibatches: over all rows, at the parameters
               then. Of the nets f* is not known, and e is f itself
    seconds C  processor seconds until then
    e0         at the start; steps: calls of `step`
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import complexity_problems
import pandas as pd
import torch
from complexity_problems import Problem
from provenance import provenance

from fuse_lib import Fuse, problems

RUNS = Path(__file__).resolve().parent.parent / "data" / "results" / "10_runs.csv"
TUNING, REPORTED = tuple(range(100, 110)), tuple(range(10))
POINTS = [2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0]
KEY = ["problem", "family", "setting", "lr", "seed"]
LENGTHS = (10, 40, 160)  # of schedules, and steps before a hard switch
ANGLES = ((0.05, 0.95), (0.05, 0.5), (0.5, 0.95))


@dataclass(frozen=True)
class Task:
    """A problem and its scale. lrs: of the first phase, four. budgets: short and long, in passes, so that nobody's e
    is at the rounding floor. tuning, reported: how many seeds."""

    problem: Callable[[], Problem]
    lrs: tuple[float, ...]
    budgets: tuple[float, float] = (40.0, 320.0)
    tuning: int = 2
    reported: int = 10


def rosenbrock(dim: int = 10) -> Problem:
    """Rosenbrock's valley from starts in De Jong's domain; there is a local minimum of about 4, too."""
    f = problems.rosenbrock(dim)
    made = Problem(f.name, lambda W, rows: f(W), lambda seed: f.sample(1, seed)[0], 1, 1, math.nan, math.nan)
    made.minimum = f.least
    return made


TASKS = {
    "quadratic-100": Task(lambda: complexity_problems.quadratic(100.0), (0.03, 0.1, 0.3, 1.0), (20.0, 80.0), tuning=3),
    "quadratic-10000": Task(lambda: complexity_problems.quadratic(10_000.0), (0.03, 0.1, 0.3, 1.0), tuning=3),
    "rosenbrock": Task(rosenbrock, (0.03, 0.1, 0.3, 1.0), (20.0, 80.0), tuning=8),
    "digits": Task(lambda: complexity_problems.softmax("digits", 1e-3, 1437), (0.01, 0.03, 0.1, 0.3), (20.0, 80.0)),
    "net": Task(lambda: complexity_problems.net(1437), (3e-3, 0.01, 0.03, 0.1)),
    "net-minibatch": Task(lambda: complexity_problems.net(128), (3e-3, 0.01, 0.03, 0.1), (5.0, 40.0)),
    "fashion": Task(
        lambda: complexity_problems.softmax("fashion-mnist-sample", 1e-3, 2000),
        (3e-3, 0.01, 0.03, 0.1),
        (20.0, 160.0),
        reported=5,
    ),
}


def settings(task: Task, minibatches: bool) -> list[tuple[str, str, float]]:
    """(family, setting, lr) of all that is tried. But for L-BFGS alone, which has nothing to tune, each family has 12.

    θ = 0.9, 0.5 and 0.1 are one family of constant θ; the notebook shows them one by one as well.
    """
    tried = [("L-BFGS", "always", 0.0)]
    for lr in task.lrs:
        tried += [("constant θ", f"theta:{value}", lr) for value in (0.9, 0.5, 0.1)]
        tried += [("aligned θ", f"theta:aligned:{low}:{high}", lr) for low, high in ANGLES]
        for n in LENGTHS:
            tried += [("hard switch", f"step:{n}", lr), ("linear θ", f"theta:linear:{n}", lr)]
            tried += [("cosine θ", f"theta:cosine:{n}", lr)]
            if minibatches:
                tried += [("hard switch, then all rows", f"step:{n}", lr)]
    finer = [float(f"{task.lrs[0] * 10 ** (k / 4):.3g}") for k in range(-2, 10)]
    tried += [("Adam", "never", lr) for lr in finer]
    for budget in task.budgets:
        tried += [("Adam, cosine decay", f"budget:{budget:g}", lr) for lr in finer[::2]]
    return tried


class Counted:
    """Evaluations of one run in passes, and what was seen when the points of the table were reached."""

    def __init__(self, problem: Problem, w: torch.nn.Parameter, opt: torch.optim.Optimizer, budget: float) -> None:
        self.problem, self.w, self.opt, self.budget = problem, w, opt, budget
        self.passes, self.lowest, self.row = 0.0, math.inf, {}
        self.least = 0.0 if math.isnan(problem.minimum) else problem.minimum
        self.left = [p for p in POINTS if p <= budget]
        self.begun, self.rows, self.away = time.process_time(), None, 0.0

    def __call__(self) -> torch.Tensor:
        self.passes += 1.0 if self.rows is None else self.problem.batch / self.problem.n
        self.opt.zero_grad()
        loss = self.problem.loss(self.w, self.rows)[0]
        loss.backward()
        if self.problem.batch in (1, self.problem.n):  # each evaluation is of f itself
            if self.passes <= self.budget:
                self.lowest = min(self.lowest, loss.item())  # NaN is not below
            self.keep()
        return loss

    def keep(self) -> None:
        """Write what is known now under each point that was passed."""
        while self.left and self.passes >= self.left[0] - 1e-9:
            point, seconds = self.left.pop(0), time.process_time() - self.begun - self.away
            value = self.lowest
            if self.problem.batch not in (1, self.problem.n):
                before = time.process_time()
                value = self.problem.look(self.w)[0].item()
                self.away += time.process_time() - before  # what is only for the table costs nothing
            self.row[f"e {point:g}"], self.row[f"seconds {point:g}"] = value - self.least, seconds

    def finish(self) -> None:
        """The run has ended by itself: it stays where it is."""
        self.passes = max(self.passes, self.budget)
        self.keep()


def optimizer(family: str, setting: str, lr: float, w: torch.nn.Parameter, minibatches: bool, steps: int):
    """(the optimizer, its scheduler or None)."""
    if family.startswith("Adam"):
        opt = torch.optim.Adam([w], lr=lr)
        decays = setting.startswith("budget")
        return opt, torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps) if decays else None
    full = not minibatches or family.endswith("all rows")
    handover = "none" if minibatches else "pairs"
    return Fuse([w], lr=lr or 1e-3, switchover=setting, full_batch=full, handover=handover), None


def run(problem: Problem, family: str, setting: str, lr: float, seed: int, budget: float) -> dict:
    """One run until the budget is spent or nothing can be gained any more. → its columns."""
    w = torch.nn.Parameter(problem.starts([seed]))
    minibatches = problem.batch not in (1, problem.n)
    budget = float(setting.split(":")[1]) if setting.startswith("budget") else budget
    opt, schedule = optimizer(family, setting, lr, w, minibatches, round(budget * problem.n / problem.batch))
    closure, batches, steps = Counted(problem, w, opt, budget), problem.batches([seed]), 0
    e0 = problem.look(w)[0].item() - closure.least
    while closure.left:
        over_all = family.endswith("all rows") and opt.phase == "second_order"
        closure.rows = next(batches) if minibatches and not over_all else None
        opt.step(closure)
        steps += 1
        if minibatches:
            closure.keep()
        if schedule is not None:
            schedule.step()
        elif isinstance(opt, Fuse) and opt.last_step.stop_reason in ("converged", "no_progress"):
            over = opt.phase == "second_order" and (over_all or not minibatches)
            if over or opt.last_step.loss == 0.0:
                closure.finish()
    return {"e0": e0, "steps": steps, **closure.row}


class Table:
    """The runs, written after each setting."""

    def __init__(self, path: Path = RUNS) -> None:
        self.path = path
        self.rows = pd.read_csv(path).to_dict("records") if path.exists() else []
        self.known = {tuple(row[k] for k in KEY) for row in self.rows}

    def add(self, name: str, problem: Problem, task: Task, setting: tuple[str, str, float], seeds: tuple) -> None:
        new = [s for s in seeds if (name, *setting, s) not in self.known]
        for seed in new:
            row = dict(zip(KEY, (name, *setting, seed), strict=True))
            part = "tuning" if seed in TUNING else "reported"
            self.rows.append({**row, "part": part, **run(problem, *setting, seed, task.budgets[1]), **provenance()})
            self.known.add((name, *setting, seed))
        if new:
            self.write()

    def write(self) -> None:
        table = pd.DataFrame(self.rows)
        front = [*KEY, "part", "e0", "steps", *(f"e {p:g}" for p in POINTS)]
        table = table.reindex(columns=front + [c for c in table.columns if c not in front])
        part = self.path.with_suffix(".part")
        table.to_csv(part, index=False, float_format="%.6g")
        part.replace(self.path)


def score(rows: pd.DataFrame, budget: float) -> float:
    """Mean over seeds of log10 of e/e0 at a budget; the lower, the better. What diverged counts as the start."""
    share = (rows[f"e {budget:g}"] / rows.e0).fillna(1.0).clip(1e-13, 1.0)
    return share.map(math.log10).mean()


def chosen(table: pd.DataFrame, name: str, budget: float) -> dict[str, tuple[str, str, float]]:
    """The best setting of each family, and of each constant θ, at a budget on the tuning seeds."""
    some = table[(table.problem == name) & (table.part == "tuning")]
    # Cosine decay is tuned for one budget; the others pass through the short one on their way to the long one.
    some = some[~some.setting.str.startswith("budget") | (some.setting == f"budget:{budget:g}")]
    scores = [(score(rows, budget), *key) for key, rows in some.groupby(["family", "setting", "lr"])]
    best: dict[str, tuple] = {}
    for _, family, setting, lr in sorted(scores):
        best.setdefault(family, (family, setting, lr))
        if family == "constant θ":
            best.setdefault(setting, (family, setting, lr))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="the problem of this name")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    table = Table()
    for name, task in TASKS.items():
        if only not in ("", name):
            continue
        problem, begun = task.problem(), time.process_time()
        for setting in settings(task, problem.batch not in (1, problem.n)):
            table.add(name, problem, task, setting, TUNING[: task.tuning])
        tuned = time.process_time() - begun
        frame = pd.DataFrame(table.rows)
        for setting in sorted({s for budget in task.budgets for s in chosen(frame, name, budget).values()}):
            table.add(name, problem, task, setting, REPORTED[: task.reported])
        print(f"{name}: tuning {tuned:.0f} s, all {time.process_time() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
