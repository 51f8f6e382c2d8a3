"""Losses of physics-informed nets, for `automatic_tasks.py`: a tanh net of two layers of 20 is to satisfy an equation.

Each function: seed → (the parameters, () → the loss), in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

Made = tuple[list[nn.Parameter], Callable[[], Tensor]]  # the parameters, and () → the loss


def sequence(widths: list[int], activation: type[nn.Module], seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: list[nn.Module] = []
        for a, b in pairwise(widths):
            parts += [nn.Linear(a, b, dtype=torch.float64), activation()]
    return nn.Sequential(*parts[:-1])


def _derivatives(u: Tensor, at: Tensor) -> Tensor:
    """du/d(at), a row a point."""
    return torch.autograd.grad(u.sum(), at, create_graph=True)[0]


def _space_time(low: float, high: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points (x, t) of [low, high] × [0, 1]: a grid of 24 × 12; those at t = 0, at the left and right end."""
    axis, time = torch.linspace(low, high, 24, dtype=torch.float64), torch.linspace(0, 1, 12, dtype=torch.float64)
    parts = (axis, time), (axis, time[:1]), (axis[:1], time), (axis[-1:], time)
    inside, first, left, right = (torch.cartesian_prod(*part) for part in parts)
    return inside, first, left, right


def poisson(seed: int) -> Made:
    """u'' = −(4π)² sin 4πx on [0, 1], u = 0 at the ends; residuals at 64 points."""
    net, x = sequence([1, 20, 20, 1], nn.Tanh, seed), torch.linspace(0, 1, 64, dtype=torch.float64)[:, None]
    force, ends = (4 * torch.pi) ** 2 * torch.sin(4 * torch.pi * x), x[[0, -1]]

    def loss() -> Tensor:
        at = x.clone().requires_grad_()
        u2 = _derivatives(_derivatives(net(at), at), at)
        return 1e-3 * (u2 + force).square().mean() + 10.0 * net(ends).square().mean()

    return list(net.parameters()), loss


def oscillator(seed: int) -> Made:
    """u'' + 4u' + 400u = 0 on [0, 1], u(0) = 1, u'(0) = 0; residuals at 64 points."""
    net, t = sequence([1, 20, 20, 1], nn.Tanh, seed), torch.linspace(0, 1, 64, dtype=torch.float64)[:, None]

    def loss() -> Tensor:
        at = t.clone().requires_grad_()
        u = net(at)
        u1 = _derivatives(u, at)
        u2 = _derivatives(u1, at)
        return 1e-4 * (u2 + 4 * u1 + 400 * u).square().mean() + (u[0] - 1).square().sum() + 0.01 * u1[0].square().sum()

    return list(net.parameters()), loss


def convection(seed: int) -> Made:
    """u_t + 5 u_x = 0 on [0, 2π] × [0, 1], u(x, 0) = sin x, periodic."""
    net = sequence([2, 20, 20, 1], nn.Tanh, seed)
    inside, first, left, right = _space_time(0, 2 * torch.pi)

    def loss() -> Tensor:
        at = inside.clone().requires_grad_()
        du = _derivatives(net(at), at)
        start = (net(first) - torch.sin(first[:, :1])).square().mean()
        return (du[:, 1] + 5.0 * du[:, 0]).square().mean() + start + (net(left) - net(right)).square().mean()

    return list(net.parameters()), loss


def reaction(seed: int) -> Made:
    """u_t = 3u(1 − u) on [0, 2π] × [0, 1], u(x, 0) a bell at π, periodic."""
    net = sequence([2, 20, 20, 1], nn.Tanh, seed)
    inside, first, left, right = _space_time(0, 2 * torch.pi)
    bell = torch.exp(-0.5 * ((first[:, :1] - torch.pi) / (torch.pi / 4)) ** 2)

    def loss() -> Tensor:
        at = inside.clone().requires_grad_()
        u = net(at)
        residual = _derivatives(u, at)[:, 1:] - 3 * u * (1 - u)
        ends = (net(left) - net(right)).square().mean()
        return residual.square().mean() + (net(first) - bell).square().mean() + ends

    return list(net.parameters()), loss


def burgers(seed: int) -> Made:
    """u_t + u u_x = 0.05 u_xx on [−1, 1] × [0, 1], u(x, 0) = −sin πx, u = 0 at the ends."""
    net = sequence([2, 20, 20, 1], nn.Tanh, seed)
    inside, first, left, right = _space_time(-1, 1)
    ends = torch.cat([left, right])

    def loss() -> Tensor:
        at = inside.clone().requires_grad_()
        u = net(at)
        du = _derivatives(u, at)
        residual = du[:, 1:] + u * du[:, :1] - 0.05 * _derivatives(du[:, 0], at)[:, :1]
        start = (net(first) + torch.sin(torch.pi * first[:, :1])).square().mean()
        return residual.square().mean() + start + net(ends).square().mean()

    return list(net.parameters()), loss


def heat(seed: int) -> Made:
    """u_t = 0.1 u_xx on [0, π] × [0, 1], u(x, 0) = sin 2x, u = 0 at the ends."""
    net = sequence([2, 20, 20, 1], nn.Tanh, seed)
    inside, first, left, right = _space_time(0, torch.pi)
    ends = torch.cat([left, right])

    def loss() -> Tensor:
        at = inside.clone().requires_grad_()
        du = _derivatives(net(at), at)
        residual = du[:, 1] - 0.1 * _derivatives(du[:, 0], at)[:, 0]
        start = (net(first) - torch.sin(2 * first[:, :1])).square().mean()
        return residual.square().mean() + start + net(ends).square().mean()

    return list(net.parameters()), loss
