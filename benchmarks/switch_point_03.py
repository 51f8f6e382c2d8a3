"""The switch point for notebook 03: what it costs to switch too early or too late, and from which starts.

    OMP_NUM_THREADS=1 python benchmarks/switch_point_03.py     writes data/results/03_switch_points.csv

Each row is one full-batch run on the bundled digits, with 300 gradient evaluations. `switch` is the number of
Adam steps before L-BFGS: 0 is L-BFGS alone, 300 Adam alone (over three learning rates, so that it is tuned as
well). Five problems: tanh nets of one hidden layer ("shallow", with the penalty 1e-3/2 ‖w‖²) or three
("deep", without a penalty), whose initial weights are torch's, times `scale`; "float64" where it is not float32.

evals_to_coarse, evals_to_fine: evaluations spent when the loss was first at or below the targets in the columns
beside them; empty where that did not happen. The last digits depend on the number of threads.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from provenance import provenance

from fuse_lib import LBFGS, FusePV, data, models

SEEDS, BUDGET, LR = range(5), 300, 0.03
SWITCHES = [0, 1, 10, 30, 50, 100, 200]
RATES = [0.01, 0.03, 0.1]
OUT = Path(__file__).resolve().parent.parent / "data" / "results" / "03_switch_points.csv"


@dataclass(frozen=True)
class Problem:
    name: str
    hidden: tuple[int, ...]
    scale: float
    penalty: float
    coarse: float
    fine: float
    dtype: torch.dtype = torch.float32


PROBLEMS = [
    Problem("shallow", (32,), 1.0, 1e-3, 0.13, 0.127),
    Problem("deep", (16, 16, 16), 1.0, 0.0, 1.0, 0.1),
    Problem("deep, flat", (16, 16, 16), 0.1, 0.0, 1.0, 0.1),
    Problem("deep, flat, float64", (16, 16, 16), 0.1, 0.0, 1.0, 0.1, torch.float64),
    Problem("deep, saturated", (16, 16, 16), 30.0, 0.0, 1.0, 0.1),
]


def run(
    digits: data.Dataset, problem: Problem, switch: int, seed: int, lr: float = LR, handover: str = "pairs"
) -> dict:
    model = models.build(
        "mlp", in_shape=digits.in_shape, seed=seed, hidden=problem.hidden, activation=torch.nn.Tanh
    ).to(problem.dtype)  # fmt: skip
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(problem.scale)
    x, y = digits.x_train.to(problem.dtype), digits.y_train
    if switch == 0:
        opt = LBFGS(model.parameters(), full_batch=True)
    elif switch == BUDGET:
        opt = torch.optim.Adam(model.parameters(), lr=lr)
    else:
        opt = FusePV(
            model.parameters(), lr=lr, switchover=f"step:{switch}", full_batch=True, handover=handover
        )  # fmt: skip
    evals, spent, stop, pairs = 0, {}, None, None

    def closure() -> torch.Tensor:
        nonlocal evals
        evals += 1
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        if problem.penalty:
            loss = loss + problem.penalty / 2 * sum(p.square().sum() for p in model.parameters())
        loss.backward()
        return loss

    best, began = float("inf"), time.perf_counter()
    while evals < BUDGET and stop is None:
        at, loss = evals, float(opt.step(closure).detach())
        best = min(best, loss)
        for target in ("coarse", "fine"):
            if loss <= getattr(problem, target):
                spent.setdefault(target, at)
        report = getattr(opt, "last_step", None)
        if report is not None:
            pairs = report.handed_over or pairs
            stop = report.stop_reason if report.stop_reason in ("converged", "no_progress") else None
    return {
        "problem": problem.name, "switch": switch, "lr": lr, "handover": handover, "seed": seed, "evals": evals,
        "samples": evals * len(x), "seconds": round(time.perf_counter() - began, 2), "train_loss": loss,
        "lowest_loss": best, "stop_reason": stop, "pairs_kept": None if pairs is None else pairs[0],
        "pairs_collected": None if pairs is None else pairs[1],
        "coarse": problem.coarse, "evals_to_coarse": spent.get("coarse"),
        "fine": problem.fine, "evals_to_fine": spent.get("fine"),
    }  # fmt: skip


def settings():
    """(problem, keyword arguments of `run`), in the order of the table."""
    for problem in PROBLEMS:
        yield from ((problem, {"switch": k}) for k in SWITCHES)
        yield from ((problem, {"switch": BUDGET, "lr": lr}) for lr in RATES)
    for problem in PROBLEMS[:2]:
        for switch in (30, 100):
            yield from ((problem, {"switch": switch, "handover": h}) for h in ("none", "metric", "both"))


if __name__ == "__main__":
    digits = data.load("digits")
    rows = []
    for problem, chosen in settings():
        rows += [run(digits, problem, seed=seed, **chosen) for seed in SEEDS]
        print(f"{problem.name} {chosen}: done", flush=True)
        pd.DataFrame(rows).assign(**provenance()).to_csv(OUT, index=False)
    table = pd.DataFrame(rows)
    print(table.groupby(["problem", "switch", "lr", "handover"])[["evals_to_fine", "train_loss", "seconds"]].mean())
