"""Notebook 13: how much the end of a run depends on the rule's threshold, the learning rate and the history size.

    OMP_NUM_THREADS=1 FUSE_DATA=folder python benchmarks/sensitivity_13.py [--only digits-softmax …] [--points 100]

makes data/results/13_runs.csv, a row a run, and 13_tasks.csv, a row a task: its size, and the least value that its loss
can have. A run that is in the table is not made again, so a killed script goes on where it was. `--show` prints what
the table says. USPS is the only set that is not bundled.

The design: POINTS points of a Latin hypercube over (threshold, lr, m), the same on every task. Each point is run under
four rules: never (Adam alone), `step:K`, `gradnorm:ζ:50` and `losschange:σ:50`, with the same seed, learning rate and
budget of gradient evaluations in samples. So every run of FUSE-PV has its own run of Adam to be compared with. The
point's number decides the seed (five of them), and with it the initial parameters and the order of the rows. lr, m, ζ,
σ and K are even on a log scale between the bounds of RANGES; K is a share of the steps that the budget pays for.

Four tasks are for finding out (TASKS), three are held out (HELD_OUT): what the first four recommend is tried on those.
One more (AFTERWARDS) was added when the held-out ones had spoken: USPS with four times the budget, under `never` and
`step` only, at those of the first fifty points whose K is in the range that the first four had recommended.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from scipy.stats import qmc
from tables import append, read
from tqdm.auto import tqdm

from fuse_lib import LBFGS, FusePV, data, lab, models, problems
from fuse_lib.lab.batches import Batches
from fuse_lib.lab.objective import Objective, Spent

OUT = Path(__file__).resolve().parent.parent / "data" / "results" / "13_runs.csv"
POINTS, SEEDS, WINDOW = 100, 5, 50
RULES = ("never", "step", "gradnorm", "losschange")
RANGES = {
    "lr": (1e-4, 1e-1),
    "m": (3, 100),
    "step": (0.003, 1.0),  # of the steps in the budget
    "gradnorm": (1e-6, 1e1),
    "losschange": (1e-5, 1e0),
}


@dataclass(frozen=True)
class Images:
    """A net on images, Adam on minibatches. second: rows of an L-BFGS evaluation; 0: all, as in notebook 05."""

    dataset: str
    model: str
    batch: int
    second: int
    passes: int
    l2: float = 1e-4

    def begin(self, seed: int) -> Problem:
        images = _loaded(self.dataset)
        model = models.build(self.model, images.in_shape, len(images.classes), seed=seed)
        rows = len(images.y_train)
        objective = Objective(model, self.passes * rows, self.l2, chunk=10_000)
        batches = Batches(images.x_train, images.y_train, seed)

        def closure(phase: str) -> Callable:
            second = phase == "second_order"
            return objective.closure(*batches.draw((self.second or rows) if second else self.batch))

        def look() -> tuple[float, float]:
            return objective.train_loss(images.x_train, images.y_train)

        steps = self.passes * rows // self.batch
        return Problem(objective.params, closure, look, steps, full_batch=not self.second, handover="none"
                       if not self.second else "pairs", spent=lambda: objective.samples / objective.budget)  # fmt: skip


@dataclass(frozen=True)
class Function:
    """A test function from a random point of its domain; no rows and no noise."""

    name: str
    dim: int
    evals: int

    def begin(self, seed: int) -> Problem:
        function = getattr(problems, self.name)(dim=self.dim)
        x = torch.nn.Parameter(function.sample(1, seed)[0])
        used = 0

        def evaluate() -> torch.Tensor:
            nonlocal used
            if used == self.evals:
                raise Spent
            used += 1
            x.grad = None
            loss = function(x)
            loss.backward()
            return loss.detach()

        def look() -> tuple[float, float]:
            loss = function(x)
            (g,) = torch.autograd.grad(loss, x)
            return loss.item(), g.norm().item()

        return Problem([x], lambda phase: evaluate, look, self.evals, full_batch=True, handover="pairs",
                       spent=lambda: used / self.evals)  # fmt: skip


@dataclass
class Problem:
    """What a run needs. closure: phase → the function that is evaluated there. look: () → (loss, gradient's norm).
    steps: of Adam that the budget pays for. spent: () → share of the budget."""

    params: list
    closure: Callable
    look: Callable
    steps: int
    full_batch: bool
    handover: str
    spent: Callable


TASKS = {
    "digits-softmax": Images("digits", "linear", 50, 0, 40),
    "digits-mlp": Images("digits", "mlp", 50, 0, 60),
    "fashion-mlp-minibatch": Images("fashion-mnist-sample", "mlp", 100, 500, 20),
    "rosenbrock-10": Function("rosenbrock", 10, 1000),
}
HELD_OUT = {
    "usps-mlp": Images("usps", "mlp", 100, 0, 15),
    "fashion-softmax": Images("fashion-mnist-sample", "linear", 100, 0, 40),
    "valley-20": Function("valley", 20, 600),
}
AFTERWARDS = {"usps-mlp-60": Images("usps", "mlp", 100, 0, 60)}
EVERY = TASKS | HELD_OUT | AFTERWARDS
LATE = 0.5  # the recommended range: the upper half of K's, on its log scale


def role(task: str) -> str:
    return "known" if task in TASKS else "held out" if task in HELD_OUT else "afterwards"


def least(task: str) -> float:
    """What a gap is counted from: the minimum of a convex task, by L-BFGS in float64, and of a test function; of a net,
    whose minimum nobody knows, 0."""
    about = EVERY[task]
    if isinstance(about, Function) or about.model != "linear":
        return 0.0
    images = _loaded(about.dataset)
    model = models.build(about.model, images.in_shape, len(images.classes), seed=0).double()
    objective = Objective(model, math.inf, about.l2, chunk=10_000)
    closure = objective.closure(images.x_train.double(), images.y_train)
    opt = LBFGS(objective.params, history_size=100, full_batch=True, scaling="adaptive")
    while (opt.last_step is None or not opt.last_step.stop_reason) and objective.evals < 20_000:
        opt.step(closure)
    loss, norm = objective.train_loss(images.x_train.double(), images.y_train)
    error = norm**2 / (2 * about.l2)  # f − f* ≤ ‖∇f‖²/(2μ) with μ ≥ λ: the penalty is on all parameters
    if error > 1e-9:
        raise ArithmeticError(f"{task}: the minimum is known to {error:.1e} only")
    return loss


def describe() -> pd.DataFrame:
    """The tasks, a row each."""
    rows = []
    for task, about in EVERY.items():
        problem = about.begin(0)
        rows.append({"task": task, "role": role(task), "parameters": sum(p.numel() for p in problem.params),
                     "steps": problem.steps, "second_phase": "full batch" if problem.full_batch else "minibatches",
                     "least": least(task)})  # fmt: skip
    return pd.DataFrame(rows)


def design(points: int = POINTS) -> pd.DataFrame:
    """threshold, lr and m of each point as shares of their (log) ranges, 0 … 1; and the seed."""
    unit = qmc.LatinHypercube(d=3, rng=0, optimization="random-cd").random(points)
    table = pd.DataFrame(unit, columns=["u_threshold", "u_lr", "u_m"]).round(6)
    return table.assign(point=range(points), seed=[i % SEEDS for i in range(points)])


def wanted(task: str, rule: str, point: int, u_threshold: float) -> bool:
    """Whether this run is part of the experiment: all are but for the task that was added afterwards."""
    return task not in AFTERWARDS or (rule in ("never", "step") and point < 50 and u_threshold >= LATE)


def value(name: str, u: float) -> float:
    low, high = RANGES[name]
    return low * (high / low) ** u


def run(task: str, rule: str, threshold: float, lr: float, m: int, seed: int) -> dict:
    """One run until the budget is spent or L-BFGS says that going on is of no use.

    threshold: K as a share of the steps, ζ or σ; of no account under the rule "never".
    """
    problem = EVERY[task].begin(seed)
    loss, norm = problem.look()
    begun = {"loss_start": loss, "norm_sq_start": norm**2}
    opt = FusePV(problem.params, lr=lr, switchover=_rule(rule, threshold, problem.steps), history_size=m,
                 handover=problem.handover, full_batch=problem.full_batch)  # fmt: skip
    switched, clock = math.nan, time.perf_counter()
    try:
        while True:
            if math.isnan(switched) and opt.phase == "second_order":
                switched = problem.spent()
            opt.step(problem.closure(opt.phase))
            if problem.full_batch and opt.last_step.stop_reason in ("converged", "no_progress"):
                break
    except Spent:
        pass
    seconds = time.perf_counter() - clock
    loss, norm = problem.look()
    return {"task": task, "rule": rule, "threshold": threshold, "lr": lr, "m": m, "seed": seed, "switched": switched,
            "spent": problem.spent(), "seconds": round(seconds, 3), **begun, "loss": loss, "norm_sq": norm**2,
            "stop_reason": opt.last_step.stop_reason or ""}  # fmt: skip


def _rule(rule: str, threshold: float, steps: int) -> str:
    if rule == "never":
        return "never"
    return f"step:{max(1, round(threshold * steps))}" if rule == "step" else f"{rule}:{threshold!r}:{WINDOW}"


_sets: dict[str, data.Dataset] = {}


def _loaded(name: str) -> data.Dataset:
    if name not in _sets:
        _sets[name] = data.load(name)
    return _sets[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=EVERY, help="tasks")
    parser.add_argument("--points", type=int, default=POINTS, help="of the design")
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    if args.show:
        show()
        return
    about = lab.provenance()
    origin = {k: about[k] for k in ("threads", "machine", "torch", "fuse_lib", "commit")}
    done = read(OUT)
    done = set(zip(done["task"], done["point"], done["rule"], strict=True)) if len(done) else set()
    describe().to_csv(OUT.with_name("13_tasks.csv"), index=False)
    for task in args.only or EVERY:
        rows = []
        for at in tqdm(design(args.points).itertuples(), total=args.points, desc=task):
            lr, m = value("lr", at.u_lr), round(value("m", at.u_m))
            for rule in RULES:
                if (task, at.point, rule) in done or not wanted(task, rule, at.point, at.u_threshold):
                    continue
                threshold = math.nan if rule == "never" else float(f"{value(rule, at.u_threshold):.6g}")
                rows.append({"point": at.point, **run(task, rule, threshold, lr, m, at.seed), **origin})
            if len(rows) >= 40 or (at.point == args.points - 1 and rows):
                append(OUT, rows)
                rows = []


def show() -> None:
    table = pd.read_csv(OUT)
    print(table.groupby(["task", "rule"], sort=False).agg(
        runs=("loss", "size"), fired=("switched", lambda s: s.notna().mean()), median=("loss", "median"),
        best=("loss", "min"), seconds=("seconds", "median")).round(5).to_string())  # fmt: skip


if __name__ == "__main__":
    main()
