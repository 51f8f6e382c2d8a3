"""The tasks of `automatic_16.py`: what is minimised, from which start, and when it counts as done."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from fuse_lib import data, problems

Made = tuple[list[nn.Parameter], Callable[[], Tensor]]  # the parameters, and () → the loss


@dataclass(frozen=True)
class Task:
    """One function, in float64. make: seed → Made. held_out: it was not looked at while the rule was designed."""

    name: str
    make: Callable[[int], Made]
    held_out: bool


@dataclass(frozen=True)
class Batches:
    """A model on minibatches of b rows, in float32, for so many passes over the first `rows` of a data set."""

    data: str
    model: str
    rows: int
    b: int
    passes: int
    held_out: bool

    @property
    def name(self) -> str:
        return f"{self.model}, {self.data}, b={self.b}"


def _function(f: Callable[[Tensor], Tensor], start: Callable[[torch.Generator], Tensor]) -> Callable[[int], Made]:
    def make(seed: int) -> Made:
        x = nn.Parameter(start(torch.Generator().manual_seed(seed)))
        return [x], lambda: f(x)

    return make


def _quadratic(condition: float, d: int) -> Callable[[int], Made]:
    generator = torch.Generator().manual_seed(0)
    Q = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0]
    A = Q @ torch.diag(torch.logspace(-math.log10(condition), 0, d, dtype=torch.float64)) @ Q.T
    return _function(lambda x: 0.5 * x @ A @ x, lambda g: torch.randn(d, generator=g, dtype=torch.float64))


@functools.cache
def rows(name: str, n: int) -> tuple[Tensor, Tensor]:
    """The first n rows of a bundled set, flat, in float64, and the labels."""
    some = data.load(name, dtype=torch.float64)
    return some.x_train[:n].flatten(1), some.y_train[:n]


def _net(name: str, n: int, layers: list[int], activation: type[nn.Module], decay: float, target: str = "label"):
    """A net on the first n images. Weight decay is part of the loss, so that there is a minimum."""

    def make(seed: int) -> Made:
        x, y = rows(name, n)
        net = sequence([x.shape[1], *layers], activation, seed)
        params = list(net.parameters())

        def loss() -> Tensor:
            out = net(x)
            fit = nn.functional.cross_entropy(out, y) if target == "label" else (out - x).square().mean()
            return fit + 0.5 * decay * sum(p.square().sum() for p in params if p.dim() > 1) if decay else fit

        return params, loss

    return make


def sequence(widths: list[int], activation: type[nn.Module], seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: list[nn.Module] = []
        for a, b in pairwise(widths):
            parts += [nn.Linear(a, b, dtype=torch.float64), activation()]
    return nn.Sequential(*parts[:-1])


def _poisson(seed: int) -> Made:
    """u'' = −(4π)² sin 4πx on [0, 1], u = 0 at the ends, by a tanh net of two layers of 20: residuals at 64 points."""
    net, x = sequence([1, 20, 20, 1], nn.Tanh, seed), torch.linspace(0, 1, 64, dtype=torch.float64)[:, None]
    force, ends = (4 * torch.pi) ** 2 * torch.sin(4 * torch.pi * x), x[[0, -1]]

    def loss() -> Tensor:
        at = x.clone().requires_grad_()
        u1 = torch.autograd.grad(net(at).sum(), at, create_graph=True)[0]
        u2 = torch.autograd.grad(u1.sum(), at, create_graph=True)[0]
        return 1e-3 * (u2 + force).square().mean() + 10.0 * net(ends).square().mean()

    return list(net.parameters()), loss


def _convection(seed: int) -> Made:
    """u_t + 5 u_x = 0 on [0, 2π] × [0, 1], u(x, 0) = sin x, periodic, by a tanh net of two layers of 20."""
    net = sequence([2, 20, 20, 1], nn.Tanh, seed)
    axis, time = torch.linspace(0, 2 * torch.pi, 24, dtype=torch.float64), torch.linspace(0, 1, 12, dtype=torch.float64)
    inside, first = torch.cartesian_prod(axis, time), torch.cartesian_prod(axis, time[:1])
    left, right = torch.cartesian_prod(axis[:1], time), torch.cartesian_prod(axis[-1:], time)

    def loss() -> Tensor:
        at = inside.clone().requires_grad_()
        du = torch.autograd.grad(net(at).sum(), at, create_graph=True)[0]
        start = (net(first) - torch.sin(first[:, :1])).square().mean()
        return (du[:, 1] + 5.0 * du[:, 0]).square().mean() + start + (net(left) - net(right)).square().mean()

    return list(net.parameters()), loss


def _near(standard: Tensor, spread: float) -> Callable[[torch.Generator], Tensor]:
    return lambda g: standard + spread * torch.randn(len(standard), generator=g, dtype=torch.float64)


def _box(generator: torch.Generator) -> Tensor:
    return 8 * torch.rand(20, generator=generator, dtype=torch.float64) - 4


def full_batch() -> list[Task]:
    rosen2, rosen20, tang = problems.rosenbrock(), problems.rosenbrock(dim=20), problems.styblinski_tang(dim=20)
    tanh, relu = nn.Tanh, nn.ReLU
    return [
        Task("softmax, digits", _net("digits", 600, [10], tanh, 1e-3), False),
        Task("tanh net, digits", _net("digits", 600, [16, 10], tanh, 1e-4), False),
        Task("rosenbrock 20-d", _function(rosen20, _near(rosen20.x0(), 0.3)), False),
        Task("quadratic 1e4", _quadratic(1e4, 100), False),
        Task("physics: poisson", _poisson, False),
        Task("softmax, fashion", _net("fashion-mnist-sample", 400, [10], tanh, 1e-3), True),
        Task("relu net, digits", _net("digits", 600, [16, 10], relu, 1e-4), True),
        Task("rosenbrock 2-d", _function(rosen2, _near(rosen2.x0(), 0.3)), True),
        Task("styblinski-tang 20-d", _function(tang, _box), True),
        Task("autoencoder, digits", _net("digits", 600, [16, 64], tanh, 0.0, "image"), True),
        Task("physics: convection", _convection, True),
    ]


def minibatch() -> list[Batches]:
    return [
        Batches("fashion-mnist-sample", "linear", 2000, 64, 10, False),
        Batches("digits", "mlp", 1437, 128, 20, False),
        Batches("digits", "mlp", 1437, 512, 40, False),
        Batches("digits", "linear", 1437, 720, 60, False),
        Batches("fashion-mnist-sample", "cnn", 1000, 128, 8, True),
        Batches("usps", "mlp", 3000, 256, 20, True),
        Batches("mnist", "linear", 5000, 512, 20, True),
        Batches("usps", "linear", 3000, 1024, 60, True),
    ]
