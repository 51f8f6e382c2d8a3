"""The problems of `complexity_09.py`: their constants are known, and their minima in float64.

A problem takes the parameters of several runs at once, W of shape (runs, d), and gives the losses, (runs,). Adam and
SGD work element by element, so that the runs of all seeds go through one tensor and stay independent.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fuse_lib import LBFGS, data


class Problem:
    """A function to minimise. Where it is a mean over n rows, minibatches can be drawn.

    Args:
        name: in the tables.
        loss: (W of (runs, d), rows of (runs, b) or None for all) → (runs,).
        start: seed → (d,).
        n, batch: rows, and how many of them a minibatch has; n = 1 where there are none.
        mu, L: bounds of the Hessian's eigenvalues, ∇²f ⪰ μ I and ∇²f ⪯ L I; NaN where there are none.
    """

    def __init__(self, name: str, loss: Callable, start: Callable, n: int, batch: int, mu: float, L: float) -> None:
        self.name, self.loss, self.start = name, loss, start
        self.n, self.batch, self.mu, self.L = n, batch, mu, L

    def starts(self, seeds: list[int]) -> Tensor:
        return torch.stack([self.start(seed) for seed in seeds])

    def batches(self, seeds: list[int]) -> Iterator[Tensor | None]:
        """Rows of the minibatches, (seeds, b), without end: each seed has its own random order in each epoch."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        while True:
            if self.n == 1:
                yield None
                continue
            orders = torch.stack([torch.randperm(self.n, generator=g) for g in generators])
            yield from orders[:, : self.n // self.batch * self.batch].split(self.batch, dim=1)

    def look(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """(f, ‖∇f‖²) over all rows, (runs,) each."""
        with torch.enable_grad():
            W = W.detach().requires_grad_()
            f = self.loss(W, None)
            (g,) = torch.autograd.grad(f.sum(), W)
        return f.detach(), g.square().sum(-1)

    @functools.cached_property
    def minimum(self) -> float:
        """f*, by L-BFGS in float64 until nothing can be gained; then f − f* ≤ ‖∇f‖²/(2μ) must be of no account."""
        w = torch.nn.Parameter(self.starts([0]))
        opt = LBFGS([w], history_size=100, full_batch=True, scaling="adaptive")
        for _ in range(20_000):
            opt.zero_grad()
            opt.step(lambda: _backward(self, w, opt))
            if opt.last_step.stop_reason in ("converged", "no_progress"):
                break
        f, norm_sq = self.look(w)
        if not norm_sq.item() / (2 * self.mu) < 1e-13 * max(1.0, abs(f.item())):
            raise ArithmeticError(f"{self.name}: the minimum is known to {norm_sq.item() / (2 * self.mu):.1e} only")
        return f.item()


def _backward(problem: Problem, w: Tensor, opt: LBFGS) -> Tensor:
    opt.zero_grad()
    loss = problem.loss(w, None)[0]
    loss.backward()
    return loss


def _spectrum(condition: float, d: int, kind: str) -> Tensor:
    """Eigenvalues from 1/condition to 1: even on a log scale, or on a linear one."""
    low = 1.0 / condition
    if kind == "log":
        return torch.logspace(math.log10(low), 0.0, d, dtype=torch.float64)
    return torch.linspace(low, 1.0, d, dtype=torch.float64)


def _rotation(d: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator))[0]


def _normal(d: int, scale: float) -> Callable[[int], Tensor]:
    return lambda seed: (
        scale * torch.randn(d, dtype=torch.float64, generator=torch.Generator().manual_seed(1000 + seed))
    )


def quadratic(condition: float, d: int = 200) -> Problem:
    """½ wᵀ Q diag(λ) Qᵀ w, λ from 1/condition to 1, even on a log scale; minimum 0 at 0. No rows, no noise."""
    A = _rotation(d, 0) @ torch.diag(_spectrum(condition, d, "log")) @ _rotation(d, 0).T
    problem = Problem(
        f"quadratic {condition:g}", lambda W, rows: 0.5 * (W @ A * W).sum(-1), _normal(d, 1.0), 1, 1, 1 / condition, 1.0
    )
    problem.minimum = 0.0
    return problem


def ridge(
    condition: float, kind: str = "log", d: int = 50, n: int = 1024, batch: int = 16, noise: float = 0.5
) -> Problem:
    """Least squares, 1/(2n) ‖X w − y‖², the eigenvalues of XᵀX/n given; y with noise, so that no w fits all rows."""
    U = torch.linalg.qr(torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    X = math.sqrt(n) * U * _spectrum(condition, d, kind).sqrt() @ _rotation(d, 2).T
    truth, errors = _normal(d, 1.0)(-3), _normal(n, noise)(-4)
    y = X @ truth + errors

    def loss(W: Tensor, rows: Tensor | None) -> Tensor:
        if rows is None:
            return 0.5 * (W @ X.T - y).square().mean(-1)
        return 0.5 * ((X[rows] @ W.unsqueeze(-1)).squeeze(-1) - y[rows]).square().mean(-1)

    problem = Problem(
        f"least squares {condition:g} {kind}, b={batch}", loss, _normal(d, 1.0), n, batch, 1 / condition, 1.0
    )
    best = torch.linalg.lstsq(X, y.unsqueeze(-1)).solution.squeeze(-1)
    problem.minimum = loss(best.unsqueeze(0), None).item()
    return problem


def _images(name: str) -> tuple[Tensor, Tensor]:
    """(n, p) pixels with a column of ones, float64, and labels. Fashion-MNIST's are halved to 14×14."""
    images = data.load(name)
    x = images.x_train.double()
    if x.shape[-1] == 28:
        x = torch.nn.functional.avg_pool2d(x, 2)
    x = x.flatten(1)
    return torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1), images.y_train


def softmax(name: str, penalty: float, batch: int = 32) -> Problem:
    """Softmax regression with λ/2 ‖w‖² on all parameters, the bias too, so that μ ≥ λ; L ≤ λ + ½ λ_max(XᵀX/n)."""
    X, y = _images(name)
    p = X.shape[1]

    def loss(W: Tensor, rows: Tensor | None) -> Tensor:
        weights = W.unflatten(-1, (p, 10))
        x, labels = (X, y.expand(len(W), -1)) if rows is None else (X[rows], y[rows])
        scores = x @ weights
        right = scores.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return (scores.logsumexp(-1) - right).mean(-1) + penalty / 2 * W.square().sum(-1)

    top = torch.linalg.eigvalsh(X.T @ X / len(X))[-1].item()
    short = name.removesuffix("-mnist-sample")
    return Problem(
        f"{short} {penalty:g}, b={batch}", loss, _normal(p * 10, 0.1), len(X), batch, penalty, penalty + top / 2
    )


def net(batch: int = 32, hidden: int = 16, penalty: float = 1e-4) -> Problem:
    """A tanh net on the digits, 64-16-10: not convex. Its stationary points differ; there is no one minimum."""
    X, y = _images("digits")
    p, h = X.shape[1], hidden

    def loss(W: Tensor, rows: Tensor | None) -> Tensor:
        first = W[:, : p * h].unflatten(-1, (p, h))
        second = W[:, p * h :].unflatten(-1, (h + 1, 10))
        x, labels = (X, y.expand(len(W), -1)) if rows is None else (X[rows], y[rows])
        scores = (x @ first).tanh() @ second[:, :-1] + second[:, -1:]
        right = scores.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return (scores.logsumexp(-1) - right).mean(-1) + penalty / 2 * W.square().sum(-1)

    def start(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(1000 + seed)
        first = torch.randn(p * h, dtype=torch.float64, generator=generator) / math.sqrt(p)
        second = torch.randn((h + 1) * 10, dtype=torch.float64, generator=generator) / math.sqrt(h)
        return torch.cat([first, second])

    problem = Problem("net", loss, start, len(X), batch, math.nan, math.nan)
    problem.minimum = math.nan
    return problem
