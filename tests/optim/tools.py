"""Small problems and helpers for the optimizer's tests."""

from __future__ import annotations

import torch
from torch import nn


def net(dtype=torch.float64, seed=7, device="cpu"):
    """A small net on a non-convex fit that is far from solved after 40 steps, and its data."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=dtype) * 0.5)
    x = torch.rand(64, 2, generator=generator, dtype=dtype) * 4 - 2
    y = torch.sin(3 * x[:, :1]) * torch.cos(2 * x[:, 1:])
    return model.to(device), x.to(device), y.to(device)


def groups_of(model, lr=1e-2):
    """Two param groups with different learning rates."""
    first, _, last = model
    return [{"params": list(first.parameters()), "lr": lr}, {"params": list(last.parameters()), "lr": lr / 2}]


def closure_for(opt, model, x, y):
    def closure():
        opt.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        return loss

    return closure


def minibatches(x, y, k, size=16):
    """The rows of call k, the same whenever asked."""
    start = (k * size) % len(x)
    return x[start : start + size], y[start : start + size]


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def train(opt, model, x, y, steps, start=0, full_batch=False, scheduler=None):
    """Run steps; returns the parameters after each and the losses."""
    path, losses = [], []
    for k in range(start, start + steps):
        rows = (x, y) if full_batch else minibatches(x, y, k)
        losses.append(float(opt.step(closure_for(opt, model, *rows)).detach()))
        if scheduler is not None:
            scheduler.step()
        path.append(flat(model))
    return path, losses
