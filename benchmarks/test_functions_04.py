"""Success rates and basins of attraction on test functions, for notebook 04.

    OMP_NUM_THREADS=1 python benchmarks/test_functions_04.py     10 minutes on one core; resumable

It writes three tables under data/results/, a setting at a time, and goes on where it was stopped:

    04_runs.csv      one row a run: how far it came from a start that was not used for tuning
    04_settings.csv  one row a setting (problem, noise, optimizer): the tuned learning rates, counts, versions
    04_basins.csv    Himmelblau's function: at which minimum a start on a grid ends

Every run may spend BUDGET gradient evaluations; the two-phase methods change at SWITCH. The learning rates are
those of the grids below that solve most of TUNING starts, ties broken by the mean of log10 of the gap, then by the
evaluations needed; the REPORTED starts are others. Adam+SGD has two learning rates and is tuned over both. L-BFGS has
none. float64.

First-order runs are made all at once: their updates work on each number for itself, so a batch of starts
under the sum of the losses is as many single runs. L-BFGS and FUSE-PV run one by one.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from provenance import provenance
from torch import Tensor

from fuse_lib import LBFGS, FusePV, problems
from fuse_lib.problems import NoisyGradient, Problem

BUDGET, SWITCH = 300, 150
TUNING, REPORTED = 10, 50  # starts; seeds 1 and 0
ADAM_RATES = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0]
SGD_RATES = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
NOISY = ("rosenbrock", "rastrigin")  # the two that the paper's summary names
SIGMAS = (0.01, 0.1, 1.0)
MOMENTUM = 0.9
SINGLE = ("L-BFGS", "FUSE-PV")
OPTIMIZERS = ("Adam", "Adam, cosine", "SGD", "Adam+SGD", *SINGLE)
CELLS, BASIN_RATE = 40, 0.1  # the basins: a grid of CELLS x CELLS starts, and Adam's learning rate
RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"
KEY = ["problem", "noise", "sigma", "optimizer"]
Rates = tuple[float, ...]


# ---- one setting's runs: starts (n, d) → end points (n, d), and after how many evaluations each was solved
def descend(noisy: NoisyGradient, x: torch.nn.Parameter, opt: torch.optim.Optimizer, steps: int, after=None) -> Tensor:
    """Some steps of a first-order method from all starts at once; `after(step)` is called after each."""
    for step in range(1, steps + 1):
        opt.zero_grad()
        noisy(x).sum().backward()
        opt.step()
        if after is not None:
            after(step)
    return x.detach()


def adam(x: torch.nn.Parameter, lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam([x], lr=lr)


def sgd(x: torch.nn.Parameter, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([x], lr=lr, momentum=MOMENTUM)


def together(f: Problem, noisy: NoisyGradient, name: str, starts: Tensor, rates: Rates) -> tuple[Tensor, Tensor]:
    """A first-order method from all starts at once: (end points, evaluations until solved)."""
    x = torch.nn.Parameter(starts.clone())
    first = torch.full((len(starts),), math.nan, dtype=torch.float64)
    opt = (sgd if name == "SGD" else adam)(x, rates[0])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(opt, BUDGET) if name == "Adam, cosine" else None

    def after(step: int, before: int = 0) -> None:
        if scheduler is not None:
            scheduler.step()
        first[f.solved(x.detach()) & first.isnan()] = before + step

    if name != "Adam+SGD":
        return descend(noisy, x, opt, BUDGET, after), first
    descend(noisy, x, opt, SWITCH, after)
    descend(noisy, x, sgd(x, rates[1]), BUDGET - SWITCH, lambda step: after(step, SWITCH))
    return x.detach(), first


def alone(
    f: Problem, noisy: NoisyGradient, name: str, start: Tensor, rates: Rates, switch: int = SWITCH
) -> tuple[Tensor, float]:
    """L-BFGS or FUSE-PV from one start: (end point, evaluations until solved). A step beyond the budget counts not."""
    x = torch.nn.Parameter(start.clone())
    promise = noisy.deterministic
    if name == "L-BFGS":
        opt = LBFGS([x], full_batch=promise)
    else:
        opt = FusePV([x], lr=rates[0], switchover=f"step:{switch}", full_batch=promise)
    evals, first, end = 0, math.nan, start

    def closure() -> Tensor:
        nonlocal evals
        evals += 1
        opt.zero_grad()
        loss = noisy(x)
        loss.backward()
        return loss

    while evals < BUDGET:
        noisy.redraw()  # of use where the noise is held for a step
        opt.step(closure)
        if evals > BUDGET:
            break
        end = x.detach().clone()
        if math.isnan(first) and bool(f.solved(end)):
            first = evals
        if promise and opt.last_step.stop_reason in ("converged", "no_progress"):
            break
    return end, first


def ends(f: Problem, noise: str, sigma: float, name: str, starts: Tensor, rates: Rates) -> tuple[Tensor, Tensor]:
    held = {"loss": "tilted", "hold": True} if noise == "held" else {}
    if name not in SINGLE:
        return together(f, NoisyGradient(f, sigma, seed=0, **held), name, starts, rates)
    found = [alone(f, NoisyGradient(f, sigma, seed=i, **held), name, s, rates) for i, s in enumerate(starts)]
    return torch.stack([end for end, _ in found]), torch.tensor([first for _, first in found], dtype=torch.float64)


# ---- tuning
def grid(name: str) -> list[Rates]:
    if name == "L-BFGS":
        return [()]
    if name == "SGD":
        return [(lr,) for lr in SGD_RATES]
    return [(lr,) for lr in ADAM_RATES]


def score(f: Problem, x: Tensor, first: Tensor) -> tuple[int, float, float]:
    """What is to be large: starts solved; if equal, how small the gaps are; if equal, how soon they were solved."""
    gap = f.gap(x).nan_to_num(nan=1e3).clamp(1e-12, 1e3)
    return int(f.solved(x).sum()), round(-float(gap.log10().mean()), 2), -float(first.nan_to_num(nan=BUDGET).mean())


def tuned(f: Problem, noise: str, sigma: float, name: str) -> Rates:
    starts = f.sample(TUNING, seed=1)
    if name == "Adam+SGD":
        return tuned_pair(f, NoisyGradient(f, sigma, seed=0), starts)
    candidates = grid(name)
    if len(candidates) == 1:
        return candidates[0]
    return max(candidates, key=lambda rates: score(f, *ends(f, noise, sigma, name, starts, rates)))


def tuned_pair(f: Problem, noisy: NoisyGradient, starts: Tensor) -> Rates:
    """Of Adam+SGD: Adam's half once for each of its rates, then SGD's half from all of these points together.

    The third part of the score counts from the start of SGD's half here, for all candidates alike.
    """
    halves = []
    for lr in ADAM_RATES:
        x = torch.nn.Parameter(starts.clone())
        halves.append(descend(noisy, x, adam(x, lr), SWITCH))
    scores = {}
    for lr_second in SGD_RATES:
        x = torch.nn.Parameter(torch.stack(halves))
        first = torch.full(x.shape[:-1], math.nan, dtype=torch.float64)

        def after(step: int, x: Tensor = x, first: Tensor = first) -> None:
            first[f.solved(x.detach()) & first.isnan()] = step

        end = descend(noisy, x, sgd(x, lr_second), BUDGET - SWITCH, after)
        for lr, end_of, first_of in zip(ADAM_RATES, end, first, strict=True):
            scores[lr, lr_second] = score(f, end_of, first_of)
    return max(scores, key=scores.get)


# ---- tables
def read(name: str) -> pd.DataFrame:
    path = RESULTS / name
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def write(name: str, table: pd.DataFrame) -> None:
    """A killed run leaves the old table or the new one, never half of one."""
    path = RESULTS / name
    table.to_csv(path.with_suffix(".part"), index=False)
    path.with_suffix(".part").replace(path)


def settings() -> list[tuple[str, str, float, str]]:
    """(problem, noise, sigma, optimizer). "fresh": a draw each evaluation, the loss exact; "held": a draw each step."""
    plain = [(p, "none", 0.0, o) for p in problems.NAMES for o in OPTIMIZERS]
    fresh = [(p, "fresh", s, o) for p in NOISY for s in SIGMAS for o in OPTIMIZERS]
    held = [("rosenbrock", "held", s, o) for s in SIGMAS for o in SINGLE]
    return plain + sorted(fresh + held, key=lambda setting: NOISY.index(setting[0]))


def known_rates(done: pd.DataFrame, setting: tuple[str, str, float, str]) -> Rates:
    """Noise that is held is the same for a first phase, so that the rate tuned on fresh noise is taken over."""
    problem, _, sigma, optimizer = setting
    row = done.set_index(KEY).loc[(problem, "fresh", sigma, optimizer)]
    return () if optimizer == "L-BFGS" else (float(row.lr),)


def success(chosen: list[tuple[str, str, float, str]]) -> None:
    for setting in chosen:
        runs, done = read("04_runs.csv"), read("04_settings.csv")
        if len(done) and setting in set(done[KEY].itertuples(index=False, name=None)):
            continue
        name, noise, sigma, optimizer = setting
        f, start = problems.get(name), time.process_time()
        rates = known_rates(done, setting) if noise == "held" else tuned(f, noise, sigma, optimizer)
        x, first = ends(f, noise, sigma, optimizer, f.sample(REPORTED, seed=0), rates)
        solved = f.solved(x)
        rows = {
            "start": range(REPORTED),
            "gap": f.gap(x).nan_to_num(nan=math.inf),
            "solved": solved.int(),
            "evals_to_solve": first,
        }
        rows = pd.DataFrame(dict(zip(KEY, setting, strict=True)) | rows)
        rows["gap"] = rows.gap.map(lambda v: float(f"{v:.3g}"))
        rows["evals_to_solve"] = rows.evals_to_solve.astype("Int64")
        lr, lr_second = (*rates, math.nan, math.nan)[:2]
        row = dict(zip(KEY, setting, strict=True)) | {
            "lr": lr, "lr_second": lr_second, "budget": BUDGET, "switch": SWITCH, "solved": int(solved.sum()),
            "starts": REPORTED, "cpu_seconds": round(time.process_time() - start, 1), **provenance(),
        }  # fmt: skip
        write("04_runs.csv", pd.concat([runs, rows], ignore_index=True))
        write("04_settings.csv", pd.concat([done, pd.DataFrame([row])], ignore_index=True))
        print(*setting, f"lr {rates}: {row['solved']} of {REPORTED}, median gap {rows.gap.median():.1e}, "
              f"{row['cpu_seconds']} s", flush=True)  # fmt: skip


def basins() -> None:
    """Where starts on a grid end: Adam alone, L-BFGS alone, and FUSE-PV with two early switches."""
    if len(read("04_basins.csv")):
        return
    f = problems.get("himmelblau")
    points = f.grid(CELLS).reshape(-1, 2)
    exact = NoisyGradient(f, 0.0)
    table = pd.DataFrame({"x": points[:, 0].numpy().round(4), "y": points[:, 1].numpy().round(4)})
    table["never"] = f.nearest(together(f, exact, "Adam", points, (BASIN_RATE,))[0])[0].numpy()
    for column, name, switch in [("switch 0", "L-BFGS", 0), ("switch 10", "FUSE-PV", 10), ("switch 30", "FUSE-PV", 30)]:
        end = torch.stack([alone(f, exact, name, p, (BASIN_RATE,), switch)[0] for p in points])
        number, distance = f.nearest(end)
        table[column] = torch.where(distance < 0.1, number, -1).numpy()  # -1: at none of the four
        print(f"basins of {column}: done", flush=True)
    write("04_basins.csv", table.assign(lr=BASIN_RATE))


if __name__ == "__main__":
    if torch.get_num_threads() != 1:
        print("warning: the recorded numbers are of one thread; set OMP_NUM_THREADS=1", file=sys.stderr)
    success([s for s in settings() if s[1] == "none"])
    basins()
    success([s for s in settings() if s[1] != "none"])
