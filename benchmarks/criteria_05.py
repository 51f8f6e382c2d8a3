"""Notebook 05: epoch, gradient-norm and loss-change rule on logistic regression, each tuned on the same budget.

    OMP_NUM_THREADS=1 python benchmarks/criteria_05.py                                the bundled sample
    OMP_NUM_THREADS=1 FUSE_DATA=folder python benchmarks/criteria_05.py mnist-12000   MNIST's first 12,000 images
    OMP_NUM_THREADS=1 FUSE_DATA=folder python benchmarks/criteria_05.py mnist         all of MNIST

write data/results/05_criteria.csv (a row a run, its end) and 05_minima.csv (the minimum, from a long float64
L-BFGS run). A run that is in the table already is not made again, so that a killed script goes on where it was.
Delete the tables to begin anew. `python benchmarks/criteria_05.py --show` prints what the tables say.

The problem is softmax regression with 1e-4/2 ‖W‖² and a free bias. Adam runs on minibatches, and so does FUSE-PV's
first phase, with Adam's tuned learning rate. Its second phase is one of
    minibatch   L-BFGS on the same small batches, m = 10, the last ten pairs of Adam handed over (the defaults);
    full batch  L-BFGS on all rows, m = 50, nothing handed over.
Cost is counted in samples of gradient evaluations, and a run ends before it would exceed its budget.

Tuning: every optimizer has the same number of candidates, and the one with the lowest mean training objective over
the tuning seeds is run on other seeds, which are reported. The candidates of the two value rules are placed so that, on
the tuning seeds, they fire in the median at the same steps as the candidates of the epoch rule.
A seed decides the initial weights and the order of the minibatches.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from provenance import provenance

from fuse_lib import FusePV, data, models

PENALTY, WINDOW = 1e-4, 50
RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"
RUNS, MINIMA = RESULTS / "05_criteria.csv", RESULTS / "05_minima.csv"
KEY = ["dataset", "arm", "optimizer", "setting", "lr", "seed"]
ARMS = {
    "minibatch": {"history_size": 10, "handover": "pairs"},
    "full batch": {"history_size": 50, "handover": "none", "full_batch": True},
}


@dataclass(frozen=True)
class Plan:
    """One data set's share of the work. Epochs and passes are over its training images."""

    batch: int
    passes: int
    rates: tuple[float, ...]
    epochs: tuple[int, ...]
    tuning: range
    reported: range
    bound: float = 1e-5  # see `minimum`


PLANS = {
    "fashion-mnist-sample": Plan(
        125, 60, (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1), (2, 5, 10, 20, 35, 50), range(3), range(100, 110)
    ),
    "mnist-12000": Plan(500, 40, (3e-3, 1e-2, 3e-2), (2, 6, 16), range(2), range(100, 105), bound=1e-3),
    "mnist": Plan(500, 40, (3e-3, 1e-2, 3e-2), (2, 6, 16), range(2), range(100, 105), bound=1e-3),
}


class Spent(Exception):
    """The budget does not allow the evaluation that was asked for."""


@dataclass
class Problem:
    """A data set, flat, with the objective and its minibatches. name: as in PLANS."""

    name: str

    def __post_init__(self) -> None:
        base = self.name.removesuffix("-12000")
        whole = data.load(base)
        self.images = whole if base == self.name else whole.take(train=12_000)
        self.x, self.y = self.images.x_train.flatten(1), self.images.y_train

    def objective(self, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(x), y) + PENALTY / 2 * model[1].weight.square().sum()

    def batches(self, size: int, seed: int):
        """Minibatches without end: a new random order each epoch, a last partial one dropped."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(self.y), generator=generator)
            for rows in order[: len(order) // size * size].split(size):
                yield self.x[rows], self.y[rows]

    def end(self, model: torch.nn.Module) -> dict:
        with torch.no_grad():
            right = model(self.images.x_test).argmax(1) == self.images.y_test
            return {
                "train_loss": self.objective(model, self.x, self.y).item(),
                "test_accuracy": round(right.float().mean().item(), 4),
            }


def run(problem: Problem, plan: Plan, arm: str, optimizer: str, setting: str, lr: float, seed: int, trace=None) -> dict:
    """One run until the budget is spent. setting: a switchover rule. trace: a list for (loss, ‖g‖²) of each step."""
    model = models.build("linear", in_shape=problem.images.in_shape, seed=seed)
    baseline = optimizer.startswith("Adam")
    opt = (
        torch.optim.Adam(model.parameters(), lr=lr)
        if baseline
        else FusePV(model.parameters(), lr=lr, switchover=setting, **ARMS[arm])
    )
    budget = plan.passes * len(problem.y)
    cosine = optimizer == "Adam, cosine"
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, budget // plan.batch) if cosine else None
    batches, samples, steps, switched = problem.batches(plan.batch, seed), 0, 0, None

    def closure() -> torch.Tensor:
        nonlocal samples
        if samples + len(y) > budget:
            raise Spent
        samples += len(y)
        opt.zero_grad()
        loss = problem.objective(model, x, y)
        loss.backward()
        if trace is not None:
            trace.append((loss.item(), sum(p.grad.square().sum().item() for p in model.parameters())))
        return loss

    start = time.perf_counter()
    try:
        while True:
            if switched is None and not baseline and opt.phase == "second_order":
                switched = steps
            x, y = (problem.x, problem.y) if switched is not None and arm == "full batch" else next(batches)
            opt.step(closure)
            steps += 1
            if scheduler is not None:
                scheduler.step()
            if not baseline and opt.last_step.stop_reason in ("converged", "no_progress") and arm == "full batch":
                break
    except Spent:  # the parameters are at the last accepted point
        pass
    seconds = time.perf_counter() - start
    return {
        "dataset": problem.name, "arm": arm, "optimizer": optimizer, "setting": setting, "lr": lr, "seed": seed,
        "part": "tune" if seed in plan.tuning else "report", "switch_step": switched, "steps": steps,
        "samples": samples, "seconds": round(seconds, 2), **problem.end(model),
    }  # fmt: skip


class Table:
    """The recorded runs, written after each."""

    def __init__(self, problem: Problem, plan: Plan) -> None:
        self.problem, self.plan = problem, plan
        rows = pd.read_csv(RUNS).to_dict("records") if RUNS.exists() else []
        self.rows = {tuple(row[k] for k in KEY): row for row in rows}

    def get(self, *key) -> dict:
        full = (self.problem.name, *key)
        if full not in self.rows:
            self.rows[full] = run(self.problem, self.plan, *key) | provenance()
            part = RUNS.with_suffix(".part")
            pd.DataFrame(list(self.rows.values())).astype({"switch_step": "Int64"}).to_csv(part, index=False)
            part.replace(RUNS)
        return self.rows[full]

    def tuned(self, arm: str, optimizer: str, candidates: list[tuple[str, float]]) -> tuple[str, float]:
        """The best candidate (setting, lr) on the tuning seeds, after it was run on the reported ones."""
        means = {c: sum(self.get(arm, optimizer, *c, s)["train_loss"] for s in self.plan.tuning) for c in candidates}
        best = min(means, key=means.get)
        ends = [self.get(arm, optimizer, *best, seed)["train_loss"] for seed in self.plan.reported]
        print(f"{arm}, {optimizer}: {best}, objective {sum(ends) / len(ends):.5f}", flush=True)
        return best


def thresholds(problem: Problem, plan: Plan, lr: float, steps: list[int]) -> dict[str, list[float]]:
    """Where the value rules have to stand to fire at these steps, in the median over the tuning seeds."""
    lowest = {"gradnorm": [], "losschange": []}
    for seed in plan.tuning:
        trace: list = []
        run(problem, plan, "minibatch", "Adam", "never", lr, seed, trace)
        seen = pd.DataFrame(trace, columns=["loss", "norm"])
        lowest["gradnorm"].append(seen.norm.rolling(WINDOW).mean().cummin())
        lowest["losschange"].append(seen.loss.diff().abs().rolling(WINDOW).mean().cummin())
    medians = {name: pd.concat(columns, axis=1).median(axis=1) for name, columns in lowest.items()}
    return {name: [float(f"{m[max(k - 1, WINDOW)]:.3g}") for k in steps] for name, m in medians.items()}


def minimum(problem: Problem, bound: float) -> dict:
    """The objective's minimum in float64.

    Until ‖g‖²/(2·1e-4) is below `bound` times it: were the bias penalised too, that would bound what is missing.
    """
    model = models.build("linear", in_shape=problem.images.in_shape, seed=0).double()
    x, y, evals = problem.x.double(), problem.y, 0
    options = {"max_iter": 50, "history_size": 100, "tolerance_change": 0, "line_search_fn": "strong_wolfe"}
    opt = torch.optim.LBFGS(model.parameters(), lr=1, tolerance_grad=0, **options)

    def closure() -> torch.Tensor:
        nonlocal evals
        evals += 1
        opt.zero_grad()
        loss = problem.objective(model, x, y)
        loss.backward()
        return loss

    while evals < 10_000:
        opt.step(closure)
        loss = closure().item()
        norm_sq = sum(p.grad.square().sum().item() for p in model.parameters())
        if norm_sq / (2 * PENALTY) < bound * loss:
            break
    return {"dataset": problem.name, "minimum": loss, "grad_norm": norm_sq**0.5, "evals": evals} | provenance()


def main(name: str) -> None:
    plan, problem = PLANS[name], Problem(name)
    table = Table(problem, plan)
    _, lr = table.tuned("minibatch", "Adam", [("never", lr) for lr in plan.rates])
    table.tuned("minibatch", "Adam, cosine", [("never", lr) for lr in plan.rates])
    steps = [epoch * (len(problem.y) // plan.batch) for epoch in plan.epochs]
    values = thresholds(problem, plan, lr, steps)
    rules = {
        "epoch": [f"step:{k}" for k in steps],
        "gradient norm": [f"gradnorm:{zeta}:{WINDOW}" for zeta in values["gradnorm"]],
        "loss change": [f"losschange:{sigma}:{WINDOW}" for sigma in values["losschange"]],
    }
    print(rules, flush=True)
    for seed in plan.reported:
        table.get("full batch", "L-BFGS", "always", lr, seed)
    for arm in ("full batch", "minibatch"):
        for rule, candidates in rules.items():
            table.tuned(arm, rule, [(c, lr) for c in candidates])
        known = pd.read_csv(MINIMA).to_dict("records") if MINIMA.exists() else []
        if name not in [row["dataset"] for row in known]:
            pd.DataFrame([*known, minimum(problem, plan.bound)]).to_csv(MINIMA, index=False)
    show()


def show() -> None:
    runs, minima = pd.read_csv(RUNS), pd.read_csv(MINIMA).set_index("dataset").minimum
    runs["gap"] = runs.train_loss / runs.dataset.map(minima) - 1
    columns = ["switch_step", "samples", "train_loss", "gap", "test_accuracy"]
    print(runs[runs.part == "report"].groupby(["dataset", "arm", "optimizer", "setting", "lr"])[columns].mean())
    print(runs[runs.part == "tune"].groupby(["dataset", "arm", "optimizer", "setting", "lr"])[columns].mean())


if __name__ == "__main__":
    if "--show" in sys.argv:
        show()
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "fashion-mnist-sample")
