"""Notebook 10: each inequality of the proof, left side against right side, on runs of general FUSE.

    OMP_NUM_THREADS=1 python benchmarks/soft_inequalities_10.py

makes data/results/10_inequalities.csv (a row a run and inequality: steps looked at, violations, how close it came) and
10_steps.csv (both sides at each step of two runs). A run takes CALLS calls, or ends where e = f − f* is below SMALL
of its first value, since there rounding is all that a difference of two values of f shows.

The inequalities, with a = x^A − x_k, and constants of the function, μ and L:
    convexity    f(x_{k+1}) ≤ θ f(x^A) + (1 − θ) f(x^L)
    decrease     f(x^L) − f* ≤ (1 − 2 c1 (1 − c2) cos² μ/L) e_k,  cos: between −g_k and x^L − x_k
    step bound   max |a_i| ≤ R lr,  R² = (1 − β1)² / ((1 − β2)(1 − β1²/β2))
    rise         f(x^A) − f* ≤ (√e_k + √(L/2) ‖a‖)²
    together     e_{k+1} ≤ θ (√e_k + √(L/2) ‖a‖)² + (1 − θ) ρ_k e_k,  ρ_k: of `decrease`
    pairs        sᵀy ≥ μ sᵀs and yᵀy ≤ L sᵀy, s and y of the blended step; the worse of the two as a ratio
    theorem      e_k ≤ q^k e_0 + θ δ/((1 − θ)(1 − ρ)), q = 1 − (1 − θ)(1 − ρ); constant θ; ρ: the largest of the run's
                 (f(x^L) − f*)/e_k, δ: the largest rise f(x^A) − f(x_k), not below 0
Where f is not convex, only the first is looked at.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import complexity_problems
import pandas as pd
import torch
from complexity_problems import Problem
from provenance import provenance
from soft_switchover_10 import rosenbrock
from torch import Tensor

from fuse_lib import Fuse

RESULTS = Path(__file__).resolve().parent.parent / "data" / "results"
RULES = ["theta:0.9", "theta:0.5", "theta:0.1", "theta:linear:100", "theta:cosine:100", "theta:aligned"]
SEEDS, CALLS, SMALL = range(5), 150, 1e-10
SHOWN = [("quadratic-10000", "theta:0.5", 0), ("digits", "theta:0.5", 0)]
C1, C2, BETA1, BETA2 = 1e-4, 0.9, 0.9, 0.999  # of the line search, of Adam
R = (1 - BETA1) / math.sqrt((1 - BETA2) * (1 - BETA1**2 / BETA2))
PROBLEMS = {
    "quadratic-100": (lambda: complexity_problems.quadratic(100.0), 0.3),
    "quadratic-10000": (lambda: complexity_problems.quadratic(10_000.0), 0.3),
    "digits": (lambda: complexity_problems.softmax("digits", 1e-3, 1437), 0.1),
    "fashion": (lambda: complexity_problems.softmax("fashion-mnist-sample", 1e-3, 2000), 0.03),
    "rosenbrock": (rosenbrock, 0.03),
    "net": (lambda: complexity_problems.net(1437), 0.03),
}


class Step(NamedTuple):
    """One blended step: θ, the points (d,) and the gradient at the first, values of f, the gradient where it ended."""

    theta: float
    x: Tensor
    first: Tensor
    second: Tensor
    end: Tensor
    f: float
    f_first: float
    f_second: float
    f_end: float
    g: Tensor
    g_end: Tensor


def blends(problem: Problem, rule: str, lr: float, seed: int) -> Iterator[Step]:
    """The blended steps of a run of `Fuse`. x^A comes from an Adam of its own, which is fed the same gradients."""
    w, twin = (torch.nn.Parameter(problem.starts([seed])) for _ in range(2))
    opt, adam = Fuse([w], lr=lr, switchover=rule, full_batch=True), torch.optim.Adam([twin], lr=lr)

    def closure() -> Tensor:
        opt.zero_grad()
        loss = problem.loss(w, None)[0]
        loss.backward()
        return loss

    def look(x: Tensor) -> tuple[float, Tensor]:
        leaf = x.clone().requires_grad_()
        loss = problem.loss(leaf, None)[0]
        return loss.item(), torch.autograd.grad(loss, leaf)[0][0]

    for _ in range(CALLS):
        theta, x = opt.theta, w.detach().clone()
        f, g = look(x)
        opt.step(closure)
        if theta == 0.0:  # Adam has ended, and what follows is L-BFGS
            return
        with torch.no_grad():
            twin.copy_(x)
        twin.grad = g.unsqueeze(0).clone()
        adam.step()
        if theta == 1.0 or opt.last_step.step_length == 0.0:
            continue
        first, end = twin.detach().clone(), w.detach().clone()
        second = (end - theta * first) / (1 - theta)
        f_end, g_end = look(end)
        yield Step(theta, x[0], first[0], second[0], end[0], f, look(first)[0], look(second)[0], f_end, g, g_end)


def sides(step: Step, problem: Problem, lr: float) -> dict[str, tuple[float, float]]:
    """Left and right side of each inequality."""
    theta, minimum = step.theta, problem.minimum
    found = {"convexity": (step.f_end, theta * step.f_first + (1 - theta) * step.f_second)}
    if math.isnan(problem.mu):
        return found
    mu, L, e = problem.mu, problem.L, step.f - minimum
    a, p = step.first - step.x, step.second - step.x
    cos = (-step.g.dot(p) / (step.g.norm() * p.norm())).item()
    rho = 1 - 2 * C1 * (1 - C2) * cos**2 * mu / L
    risen = (math.sqrt(e) + math.sqrt(L / 2) * a.norm().item()) ** 2
    s, y = step.end - step.x, step.g_end - step.g
    ss, sy, yy = s.dot(s).item(), s.dot(y).item(), y.dot(y).item()
    return found | {
        "decrease": (step.f_second - minimum, rho * e),
        "step bound": (a.abs().max().item(), R * lr),
        "rise": (step.f_first - minimum, risen),
        "together": (step.f_end - minimum, theta * risen + (1 - theta) * rho * e),
        "pairs": (max(mu * ss / sy, yy / (L * sy)), 1.0),
    }


def theorem(steps: list[Step], minimum: float) -> list[tuple[float, float]]:
    """Both sides of the theorem for a constant θ, at each step after the first."""
    theta, e = steps[0].theta, [s.f - minimum for s in steps] + [steps[-1].f_end - minimum]
    rho = max((s.f_second - minimum) / (s.f - minimum) for s in steps)
    delta = max(0.0, *(s.f_first - s.f for s in steps))
    q = 1 - (1 - theta) * (1 - rho)
    return [(e[k], q**k * e[0] + theta * delta / (1 - q)) for k in range(1, len(e))]


def table_of(problem: Problem, rule: str, lr: float, seed: int) -> pd.DataFrame:
    """A row a step and inequality: step, inequality, left, right, in units of the function; and the step's rounding."""
    steps, rows, e0 = [], [], math.nan
    for step in blends(problem, rule, lr, seed):
        e0 = e0 if steps else step.f - problem.minimum
        if step.f_end - problem.minimum < SMALL * e0:
            break
        steps.append(step)
    for k, step in enumerate(steps, 1):
        rounding = 1e-13 * max(1.0, abs(step.f))
        rows += [(k, name, *both, rounding) for name, both in sides(step, problem, lr).items()]
    constant = len({s.theta for s in steps}) == 1 and len(steps) > 1
    if constant and not math.isnan(problem.mu):
        rows += [(k, "theorem", *both, 1e-13) for k, both in enumerate(theorem(steps, problem.minimum), 1)]
    return pd.DataFrame(rows, columns=["step", "inequality", "left", "right", "rounding"])


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row an inequality: steps, violations, and the largest left/right."""
    table = table.assign(broken=table.left > table.right + table.rounding, ratio=table.left / table.right)
    return table.groupby("inequality", sort=False).agg(
        steps=("step", "size"), violations=("broken", "sum"), closest=("ratio", "max")
    )


def main() -> None:
    torch.set_num_threads(1)
    rows, kept = [], []
    for name, (make, lr) in PROBLEMS.items():
        problem, begun = make(), time.process_time()
        for rule in RULES:
            for seed in SEEDS:
                table = table_of(problem, rule, lr, seed)
                about = {"problem": name, "rule": rule, "lr": lr, "seed": seed, "mu": problem.mu, "L": problem.L}
                rows += [about | row | provenance() for row in summary(table).reset_index().to_dict("records")]
                if (name, rule, seed) in SHOWN:
                    kept.append(table.drop(columns="rounding").assign(problem=name, rule=rule, seed=seed))
        print(f"{name}: {time.process_time() - begun:.0f} s", flush=True)
    pd.DataFrame(rows).to_csv(RESULTS / "10_inequalities.csv", index=False, float_format="%.6g")
    steps = pd.concat(kept, ignore_index=True)
    steps.assign(**provenance()).to_csv(RESULTS / "10_steps.csv", index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
