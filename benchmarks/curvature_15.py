"""Notebook 15: does L-BFGS gain from curvature, or from its line search and from larger batches?

    OMP_NUM_THREADS=1 python benchmarks/curvature_15.py

makes data/results/15_runs.csv, 15_tuning.csv and 15_long.csv (four of the problems with noise at a budget of 4,000
evaluations, and batches up to 256). `--only NAME` takes the problems whose names hold NAME.

On landscapes of known curvature (fuse_lib.problems), at equal cost, from the same starts: Adam, the arms of
`curvature_arms.py`, and FUSE-PV. Cost: evaluations. With noise, an evaluation on a batch `batch` times as large costs
`batch` evaluations, and its noise is 1/√batch of it. Noise, by its name:
    none      an evaluation is exact
    held σ    f + ξᵀx, ξ normal with E‖ξ‖² = σ²‖∇f(x0)‖², drawn anew for each step and held within it: as a minibatch is
    fresh σ   the same ξ in the gradient only, drawn anew at each evaluation; the loss is exact
    rows b    b random rows of the tanh net's, drawn anew for each step

A row is a run from one start. `gap B`: (f − f*)/(f(start) − f*) at the last iterate of B evaluations, without noise.
`to E`: evaluations until the gap is ≤ E. `escape`: until half of the way from the saddle's value down to f* is done.
Adam's learning rate and schedule are the best of a grid for each budget, noise and batch, on TUNING other starts
(15_tuning.csv); the arms have nothing to tune but the batch, for which they are run on those as well. With noise six
starts are reported in the place of ten ("exact", whose Hessians take the time, from five of them). Groups that are in
the table are not made again.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from curvature_arms import ARMS, Arm
from curvature_tasks import EXACT, FLOOR, NOISES, NOISY, STARTS, TUNING, Task, objective, tasks
from provenance import provenance
from torch import Tensor

from fuse_lib import FusePV

RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"
RUNS, TUNED, LONG = RESULTS / "15_runs.csv", RESULTS / "15_tuning.csv", RESULTS / "15_long.csv"
BUDGETS = (100, 500)
LRS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
BATCHES = (1, 4, 16)
LONGER, LARGER = 4000, (16, 64, 256)  # the budget and the batches of 15_long.csv
LEVELS = (1e-1, 1e-2, 1e-4, 1e-8)
SHARE = 5  # FUSE-PV switches after a fifth of the budget
KEY = ["problem", "noise", "arm", "batch"]


# ---- the two kinds of runs
class Seen:
    """What is written down of runs from some starts: gaps at the budgets, when levels were met, when they escaped."""

    def __init__(self, task: Task, x0: Tensor, budget: int) -> None:
        self.task, self.x0, self.budgets = task, x0, {*BUDGETS, budget}
        self.rows = [{} for _ in x0]
        self.level = task.escaped(x0)

    def look(self, used: float, x: Tensor) -> Tensor:
        """x: (n, d) after so many evaluations. Returns the gaps."""
        gaps = self.task.gap(x, self.x0)
        for i, gap in enumerate(gaps.tolist()):
            row = self.rows[i]
            for budget in self.budgets:
                if used <= budget:
                    row[f"gap {budget}"] = gap
            for level in LEVELS:
                if gap <= level:
                    row.setdefault(f"to {level:g}", used)
            if self.level is not None and gap <= float(self.level[i]):
                row.setdefault("escape", used)
        return gaps


def adam(task: Task, noise: str, batch: int, lr: float, cosine: bool, budget: int, x0: Tensor) -> list[dict]:
    """Adam from many starts at once (it works element by element)."""
    x, seen = torch.nn.Parameter(x0.clone()), Seen(task, x0, budget)
    opt = torch.optim.Adam([x], lr=lr)
    steps = budget // batch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps) if cosine else None
    loss = objective(task, noise, batch, seed=1)
    for step in range(1, steps + 1):
        loss.redraw()
        opt.zero_grad()
        loss(x).sum().backward()
        opt.step()
        if schedule:
            schedule.step()
        seen.look(step * batch, x.detach())
    return seen.rows


class Spent(Exception):
    """The budget is used up."""


def second(task: Task, noise: str, arm: str, batch: int, budget: int, x0: Tensor, seed: int, lr: float = 0.0) -> dict:
    """One of ARMS from one start, or "FUSE-PV": Adam on single batches for a fifth of the budget, then L-BFGS."""
    x, seen = torch.nn.Parameter(x0.clone()), Seen(task, x0[None], budget)
    exact = noise == "none"
    if arm == "FUSE-PV":
        opt = FusePV(
            [x], lr=lr, switchover=f"step:{budget // SHARE}", full_batch=exact, handover="pairs" if exact else "none"
        )
    else:
        opt = Arm([x], ARMS[arm], task.f.hessian, full_batch=exact)
    small, large = objective(task, noise, 1, seed), objective(task, noise, batch, seed + 1000)
    used, steps = 0, 0

    def closure() -> Tensor:
        nonlocal used
        cost = 1 if opt.phase == "first_order" else batch
        if used + cost > budget:
            raise Spent
        used += cost
        opt.zero_grad()
        loss = (small if opt.phase == "first_order" else large)(x)
        loss.backward()
        return loss

    seen.look(0, x.detach()[None])
    while True:
        small.redraw(), large.redraw()
        try:
            opt.step(closure)
        except Spent:
            break
        steps += 1
        gap = float(seen.look(used, x.detach()[None]))
        if gap <= FLOOR or (exact and opt.last_step.stop_reason in ("converged", "no_progress")):
            break
    return {**seen.rows[0], "used": used, "steps": steps}


# ---- the grid
def tune(task: Task, noise: str, batch: int, budgets: tuple[int, ...] = BUDGETS) -> list[dict]:
    """Adam over learning rates and schedules, for each budget: geometric mean gaps of the tuning starts."""
    x0, rows = task.starts()[:TUNING], []
    for cosine in (False, True):
        for lr in LRS:
            for budget in budgets:
                gaps = [row[f"gap {budget}"] for row in adam(task, noise, batch, lr, cosine, budget, x0)]
                mean = math.exp(sum(map(math.log, gaps)) / len(gaps))
                rows.append({"schedule": "cosine" if cosine else "constant", "lr": lr, "budget": budget, "gap": mean})
    return rows


def best(rows: list[dict], budget: int, schedule: str | None = None) -> dict:
    some = [r for r in rows if r["budget"] == budget and schedule in (None, r["schedule"])]
    return min(some, key=lambda r: r["gap"])


class Table:
    """A recorded table, written after each group."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = pd.read_csv(path).to_dict("records") if path.exists() else []

    def group(self, key: tuple, make: Callable[[], list[dict]]) -> list[dict]:
        """The rows with this key, made where there are none."""
        found = [row for row in self.rows if tuple(row[k] for k in KEY) == key]
        if not found:
            began = time.process_time()
            found = [dict(zip(KEY, key, strict=True)) | row | provenance() for row in make()]
            self.rows += found
            part = self.path.with_suffix(".part")
            pd.DataFrame(self.rows).to_csv(part, index=False, float_format="%.4g")
            part.replace(self.path)
            print(*key, f"{time.process_time() - began:.1f} s", flush=True)
        return found


def record_long(task: Task, noise: str, long: Table) -> None:
    """Whether a larger budget, for which larger batches can be had, turns the verdict under noise."""
    settings = functools.cache(lambda: tune(task, noise, 1, (LONGER // SHARE, LONGER)))
    long.group((task.name, noise, "Adam", 1), lambda: tuned_adam(task, noise, 1, [*settings()], budgets=(LONGER,)))
    for batch in LARGER:
        for arm in ("steepest", "identity", "true"):
            long.group(
                (task.name, noise, arm, batch), functools.partial(arm_runs, task, noise, arm, batch, 0.0, LONGER)
            )

        def fuse(batch: int = batch) -> list[dict]:
            lr = best(settings(), LONGER // SHARE, "constant")["lr"]
            return arm_runs(task, noise, "FUSE-PV", batch, lr, LONGER)

        long.group((task.name, noise, "FUSE-PV", batch), fuse)


def numbered(rows: list[dict], first: int = 0) -> list[dict]:
    return [{"start": first + i, **row} for i, row in enumerate(rows)]


def tuned_adam(
    task: Task, noise: str, batch: int, settings: list[dict], budgets: tuple[int, ...] = BUDGETS
) -> list[dict]:
    """All starts, at the best setting for each budget; a row has the gap of its own budget only."""
    rows = []
    for budget in budgets:
        setting = best(settings, budget)
        runs = adam(task, noise, batch, setting["lr"], setting["schedule"] == "cosine", budget, task.starts())
        for row in numbered(runs if noise == "none" else runs[: TUNING + NOISY]):
            row = {k: v for k, v in row.items() if not k.startswith("gap") or k == f"gap {budget}"}
            rows.append(row | {"budget": budget, "lr": setting["lr"], "schedule": setting["schedule"]})
    return rows


def record(task: Task, noise: str, runs: Table, tuned: Table) -> None:
    """All arms and batches on one task under one noise."""
    lr = 0.0
    for batch in BATCHES if noise != "none" else (1,):
        key = (task.name, noise, "Adam", batch)
        found = tuned.group(key, functools.partial(tune, task, noise, batch))
        lr = lr or best(found, BUDGETS[0], "constant")["lr"]  # FUSE-PV's first phase has single batches
        runs.group(key, functools.partial(tuned_adam, task, noise, batch, found))
        for arm in (*ARMS, "FUSE-PV"):
            runs.group((task.name, noise, arm, batch), functools.partial(arm_runs, task, noise, arm, batch, lr))


def arm_runs(task: Task, noise: str, arm: str, batch: int, lr: float, budget: int = BUDGETS[-1]) -> list[dict]:
    """A row a start. lr: of FUSE-PV's first phase."""
    starts = task.starts()
    first = TUNING if noise == "none" or arm == "exact" else 0  # else the batch is chosen on those before
    last = TUNING + (STARTS if noise == "none" else EXACT if arm == "exact" else NOISY)
    rows = [second(task, noise, arm, batch, budget, starts[i], i, lr) for i in range(first, last)]
    return [row | {"lr": lr} if arm == "FUSE-PV" else row for row in numbered(rows, first)]


def main() -> None:
    parser = argparse.ArgumentParser(description="The runs behind notebook 15.")
    parser.add_argument("--only", default="", help="problems whose names hold this")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    runs, tuned = Table(RUNS), Table(TUNED)
    some = [task for task in tasks() if only in task.name]
    for task in some:
        record(task, "none", runs, tuned)
    for task in some:
        for noise in NOISES.get(task.name, ()):
            record(task, noise, runs, tuned)
    long = Table(LONG)
    for task in some:
        if task.name in ("valley 100", "saddle 0.001", "ripples 3, 0.05", "linear net"):
            record_long(task, "held 0.1", long)


if __name__ == "__main__":
    main()
