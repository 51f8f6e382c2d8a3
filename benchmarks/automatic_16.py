"""Notebook 16: what `Auto` costs beside the best fixed switch point, and beside Adam on minibatches.

    OMP_NUM_THREADS=1 FUSE_DATA=folder python benchmarks/automatic_16.py            (all parts)
    OMP_NUM_THREADS=1 python benchmarks/automatic_16.py --only full

makes data/results/16_full.csv, 16_back.csv and 16_minibatch.csv. Tasks are in automatic_tasks.py; about half of each
part were not looked at while `Auto` was designed (`held_out`). What is in a table already is not made again.

full: one row a run, of one task, seed and rule. Adam's lr is the best of five by the loss after 200 evaluations on a
seed that is not reported. Each rule runs for at most 400 evaluations; `step:K` for K in POINTS is the sweep. Columns:
    gap E      evaluations to the first point with (f − f_ref)/(f₀ − f_ref) ≤ E. f_ref of a task and seed is the highest
               of the lowest values of the fixed switch points: a value that all of them reach. Empty: not reached.
    trials, back   of Auto: its trials, and how often it went back
    first_trial    of Auto: the call after which it made the first
back: whether there is a way back that pays. After `step:3` and `evals` evaluations in all L-BFGS goes on, or Adam does
with its moments as they were, or a new Adam: the lowest loss of each after AHEAD more evaluations.
minibatch: one row a run: the mean loss over all training rows and over the test rows at equal samples. Adam's lr is the
best of five for a constant one and for cosine decay each, by the training loss on two other seeds. `half` switches when
half of the samples are spent.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator

import automatic_tasks as tasks
import numpy as np
import tables
import torch
from automatic_tasks import Batches, Task
from provenance import provenance
from torch import Tensor
from torch.nn.functional import cross_entropy

from fuse_lib import FusePV, data, models

FULL, BACK, MINIBATCH = (tables.RESULTS / f"16_{part}.csv" for part in ("full", "back", "minibatch"))
SEEDS, TUNING = (0, 1, 2, 3, 4), (100, 101)  # a task of part `full` says itself how many seeds it has
BUDGET, LOOK = 400, 200
POINTS = (0, 3, 10, 30, 100)
RULES = [*(f"step:{k}" for k in POINTS), "auto", "never"]
SPENT, AHEAD = (40, 80, 160), (10, 20, 40, 60)
GAPS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1)


def watched(task: Task, seed: int) -> tuple[list, Callable[[], Tensor], list[float]]:
    """(parameters, closure, the loss at each of its calls so far)."""
    params, loss = task.make(seed)
    losses: list[float] = []

    def closure() -> Tensor:
        for p in params:
            p.grad = None
        value = loss()
        value.backward()
        losses.append(value.item())
        return value

    return params, closure, losses


def run(task: Task, seed: int, rule: str, lr: float, budget: int = BUDGET) -> tuple[list[float], FusePV]:
    """The loss at every evaluation, in their order, and the optimizer at the end."""
    params, closure, losses = watched(task, seed)
    opt = FusePV(params, lr=lr, switchover=rule, full_batch=True)
    while len(losses) < budget:
        opt.step(closure)
        if opt.last_step.stop_reason in ("converged", "no_progress") and opt.phase == "second_order":
            break
    return losses[:budget], opt


def evaluations(losses: list[float], value: float) -> int | None:
    """Evaluations up to the first that is at most a value."""
    met = np.flatnonzero(np.array(losses) <= value)
    return int(met[0]) + 1 if len(met) else None


def tuned(task: Task) -> float:
    ends = {lr: min(run(task, TUNING[0], "never", lr, LOOK)[0]) for lr in RATES}
    return min(ends, key=lambda lr: ends[lr] if math.isfinite(ends[lr]) else math.inf)


def tried(opt: FusePV) -> dict[str, int]:
    """What Auto's log says."""
    verdicts = [d.verdict for d in opt.decisions]
    first = next((d.call for d in opt.decisions if d.verdict == "trial"), None)
    return {
        "trials": verdicts.count("trial"),
        "back": sum(v.startswith("back") for v in verdicts),
        "first_trial": first,
    }


def of_seed(task: Task, seed: int, lr: float) -> Iterator[dict]:
    """The rows of one task and seed; the reference value needs all fixed switch points."""
    made = {}
    for rule in RULES:
        began = time.process_time()
        losses, opt = run(task, seed, rule, lr)
        made[rule] = losses, opt, time.process_time() - began
    start = made["step:0"][0][0]
    reference = max(min(made[f"step:{k}"][0]) for k in POINTS)
    for rule, (losses, opt, seconds) in made.items():
        targets = {f"gap {e:g}": evaluations(losses, reference + e * (start - reference)) for e in GAPS}
        about = {"task": task.name, "held_out": task.held_out, "seed": seed, "rule": rule, "lr": lr}
        ends = {"start": start, "reference": reference, "lowest": min(losses), "evals": len(losses)}
        yield about | ends | targets | tried(opt) | {"seconds": round(seconds, 2)} | provenance()


def full(only: str) -> None:
    known = tables.read(FULL)
    done = set(zip(known.task, known.seed, strict=True)) if len(known) else set()
    for task in tasks.full_batch():
        todo = [seed for seed in range(task.seeds) if (task.name, seed) not in done and only in task.name]
        lr = tuned(task) if todo else None
        for seed in todo:
            tables.append(FULL, list(of_seed(task, seed, lr)))
            print(task.name, seed, lr, flush=True)


def went_on(task: Task, seed: int, lr: float, evals: int, how: str) -> dict | None:
    """From where L-BFGS is after so many evaluations, on in one of three ways. None where it had ended before."""
    params, closure, losses = watched(task, seed)
    opt = FusePV(params, lr=lr, switchover="step:3", full_batch=True)
    while len(losses) < evals:
        opt.step(closure)
        if opt.last_step.stop_reason in ("converged", "no_progress"):
            return None
    start, spent = opt.last_step.loss_after, len(losses)
    if how == "second phase":
        while len(losses) < spent + AHEAD[-1] and opt.last_step.stop_reason not in ("converged", "no_progress"):
            opt.step(closure)
    else:
        adam = torch.optim.Adam(params, lr=lr)
        if how == "adam":
            names = ("step", "exp_avg", "exp_avg_sq")
            moments = {i: {name: opt.state[p][name] for name in names} for i, p in enumerate(params)}
            adam.load_state_dict({**adam.state_dict(), "state": moments})
        spent += 1  # its first evaluation is where it stands, and not charged
        while len(losses) < spent + AHEAD[-1]:
            adam.step(closure)
    return {"start": start} | {f"lowest {n}": min([start, *losses[spent : spent + n]]) for n in AHEAD}


def back(only: str) -> None:
    known, full = tables.read(BACK), tables.read(FULL)
    done = set(known.task) if len(known) else set()
    for task in tasks.full_batch():
        if task.name in done or only not in task.name:
            continue
        lr = full[full.task == task.name].lr.iloc[0]
        rows = []
        for seed, evals, how in itertools.product(SEEDS, SPENT, ("second phase", "adam", "new adam")):
            if (ends := went_on(task, seed, lr, evals, how)) is not None:
                about = {"task": task.name, "seed": seed, "lr": lr, "evals": evals, "how": how}
                rows.append(about | ends | provenance())
        tables.append(BACK, rows)
        print(task.name, flush=True)


def train(task: Batches, seed: int, lr: float, rule: str, cosine: bool = False) -> dict:
    """One run at the task's samples, whatever the rule does with them."""
    sets = data.load(task.data).take(train=task.rows)
    x, y = sets.x_train, sets.y_train
    steps = task.rows // task.b * task.passes
    rule = f"step:{steps // 2}" if rule == "half" else rule
    model = models.build(task.model, sets.in_shape, len(sets.classes), seed=seed)
    opt = FusePV(model.parameters(), lr=lr, switchover=rule)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps) if cosine else None
    generator, left = torch.Generator().manual_seed(seed), steps * task.b

    def batches() -> Iterator[Tensor]:
        while True:
            order = torch.randperm(task.rows, generator=generator)
            yield from order[: task.rows // task.b * task.b].split(task.b)

    for rows in batches():

        def closure(rows: Tensor = rows) -> Tensor:
            nonlocal left
            left -= task.b
            opt.zero_grad()
            loss = cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            return loss

        opt.step(closure)
        if schedule is not None:
            schedule.step()
        if left <= 0:
            break
    with torch.no_grad():
        loss = cross_entropy(model(x), y).item()
        test = cross_entropy(model(sets.x_test), sets.y_test).item()
    return {"train_loss": loss, "test_loss": test, "samples": steps * task.b - left} | tried(opt)


def minibatch(only: str) -> None:
    known = tables.read(MINIBATCH)
    done = set(known.task) if len(known) else set()
    for task in tasks.minibatch():
        if task.name in done or only not in task.name:
            continue
        rows = []
        lrs = {}
        for cosine in (False, True):
            ends = {lr: sum(train(task, s, lr, "never", cosine)["train_loss"] for s in TUNING) for lr in RATES}
            lrs[cosine] = min(ends, key=ends.get)
        for rule, cosine in (("never", False), ("auto", False), ("half", False), ("never", True)):
            for seed in SEEDS:
                name = "cosine" if cosine else rule
                about = {"task": task.name, "held_out": task.held_out, "seed": seed, "rule": name, "lr": lrs[cosine]}
                rows.append(about | train(task, seed, lrs[cosine], rule, cosine) | provenance())
        tables.append(MINIBATCH, rows)
        print(task.name, lrs, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["full", "back", "minibatch"], help="one part")
    parser.add_argument("--task", default="", help="tasks whose name has this in it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for part in (full, back, minibatch):
        if args.only in (None, part.__name__):
            part(args.task)


if __name__ == "__main__":
    main()
