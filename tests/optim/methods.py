"""Minimisers that tests compare: a method is a function of (f, start) that calls f until it stops by itself or
f raises `Enough`. To add one, write it and put it into METHODS.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fuse_lib import LBFGS

STOPPED = ("converged", "no_progress", "non_finite")


class Enough(Exception):
    """The function was called as often as was allowed, or is as low as was asked for."""


class Counted:
    """f and its gradient, with a record of every evaluation.

    done: (value, gradient norm) → whether to stop. values, norms: of all evaluations so far.
    noise: relative and bounded, on each value and each entry of each gradient that is handed out; the
        record has the true ones. dtype: what is handed out is rounded to; the default is that of x.
    """

    def __init__(
        self,
        f: Callable[[Tensor], Tensor],
        budget: int,
        done: Callable[[float, float], bool] = lambda value, norm: False,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.f, self.budget, self.done, self.noise = f, budget, done, noise
        self.random = torch.Generator().manual_seed(seed)
        self.stop_reason: str | None = None  # what ours said in the end
        self.values: list[float] = []
        self.norms: list[float] = []

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if len(self.values) == self.budget or (self.values and self.done(self.values[-1], self.norms[-1])):
            raise Enough
        with torch.enable_grad():
            exact = x.detach().double().requires_grad_()
            value = self.f(exact)
            (gradient,) = torch.autograd.grad(value, exact)
        value = value.detach()
        self.values.append(value.item())
        self.norms.append(gradient.norm().item())
        return self.blurred(value).to(x.dtype), self.blurred(gradient).to(x.dtype)

    def blurred(self, exact: Tensor) -> Tensor:
        if not self.noise:
            return exact
        uniform = torch.rand(exact.shape, generator=self.random, dtype=exact.dtype)
        return exact * (1 + self.noise * (2 * uniform - 1))

    def closure(self, x: Tensor) -> Callable[[], Tensor]:
        def evaluate() -> Tensor:
            value, x.grad = self(x)
            return value

        return evaluate

    def first(self, reached: Callable[[float, float], bool]) -> float:
        """The number of the first evaluation at which (value, gradient norm) is good enough, or inf."""
        pairs = enumerate(zip(self.values, self.norms, strict=True), 1)
        return next((k for k, pair in pairs if reached(*pair)), math.inf)


def ours(f: Counted, start: Tensor, history_size: int = 10) -> None:
    x = torch.nn.Parameter(start.clone())
    opt = LBFGS([x], full_batch=not f.noise, history_size=history_size)
    while f.stop_reason not in STOPPED:
        opt.step(f.closure(x))
        f.stop_reason = opt.last_step.stop_reason


def torchs(f: Counted, start: Tensor, history_size: int = 10) -> None:
    """All its iterations in one step, which is cheapest: each step evaluates its start anew."""
    x = torch.nn.Parameter(start.clone())
    limits = {"max_iter": 10**6, "max_eval": 10**6, "tolerance_change": 0, "tolerance_grad": 1e-300}
    torch.optim.LBFGS([x], history_size=history_size, line_search_fn="strong_wolfe", **limits).step(f.closure(x))


def scipys(f: Counted, start: Tensor, history_size: int = 10) -> None:
    optimize = pytest.importorskip("scipy.optimize")

    def evaluate(x):
        value, gradient = f(torch.tensor(x).to(start.dtype))
        return value.item(), gradient.double().numpy()

    options = {"maxcor": history_size, "ftol": 0, "gtol": 0, "maxiter": 10**6, "maxfun": 10**6}
    optimize.minimize(evaluate, start.numpy(), jac=True, method="L-BFGS-B", options=options)


METHODS = {"ours": ours, "scipy": scipys, "torch": torchs}


def run(method: str, f: Counted, start: Tensor) -> Counted:
    with contextlib.suppress(Enough):
        METHODS[method](f, start)
    return f
