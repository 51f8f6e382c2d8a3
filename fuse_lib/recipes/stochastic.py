"""L-BFGS on minibatches, in parts that can be exchanged.

x ← x − α H g, and a recipe says where g, H's pairs and H₀ come from. No line search: it would fit one minibatch. α
falls from lr to 0 along a cosine, as Adam's does, and is tuned like Adam's. A step is at most `LONGEST`, the one
safeguard that all share.

Gradients
    plain      of the minibatch
    svrg       g_B(x) − g_B(x̃) + ∇f(x̃), x̃ renewed once a pass (Johnson & Zhang 2013): 3 evaluations where plain has 1
Pairs
    two        y between the gradients of two minibatches, one at each end: what comes free
    same       y on one minibatch at both ends: one more evaluation a step
    overlap    the later half of a minibatch is the first half of the next: y on that half, free (Berahas, Nocedal &
               Takáč, arXiv 1605.06049)
    average    s between means of EVERY iterates, y = ∇²f s by the difference of two gradients on WIDE minibatches
               at once (SQN: Byrd, Hansen, Nocedal & Singer, arXiv 1401.7020; with svrg: Moritz, Nishihara & Jordan,
               arXiv 1508.02087)
    mean       exponential means of s and of y on the same minibatch
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from fuse_lib.recipes.softmax import Softmax, minibatches

LONGEST = 1.0  # of a step, in units of ‖x‖ + 1
EVERY, WIDE, KEEP = 10, 5, 0.9


@dataclass(frozen=True)
class Recipe:
    """gradient, pairs: see above. damped: Powell. metric: H₀ = γ diag(1/(√v̂/mean + 0.1)), Adam's second moments."""

    pairs: str = "same"
    gradient: str = "plain"
    damped: bool = False
    metric: bool = False
    memory: int = 10


RECIPES = {
    "two-batch pairs": Recipe("two"),
    "same-batch pairs": Recipe(),
    "overlap": Recipe("overlap"),
    "Powell damping": Recipe(damped=True),
    "averaged iterates, Hessian-vector pairs": Recipe("average"),
    "SVRG, Hessian-vector pairs": Recipe("average", "svrg"),
    "exponential means of pairs": Recipe("mean"),
    "Adam's metric as H0": Recipe(metric=True),
}


def direction(g: Tensor, pairs, inverse: Tensor | float = 1.0) -> Tensor:
    """−Hg by the two-loop recursion, all (d,). pairs: (s, y), oldest first. inverse: H₀'s diagonal but for γ."""
    q, alphas = -g, []
    for s, y in reversed(pairs):
        alphas.append(s @ q / (s @ y))
        q = q - alphas[-1] * y
    if pairs:
        s, y = pairs[-1]
        q = q * (s @ y / (y @ (inverse * y)))
    q = q * inverse
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q = q + s * (alpha - y @ q / (s @ y))
    return q


def judged(s: Tensor, y: Tensor, pairs, damped: bool) -> tuple[Tensor, Tensor] | None:
    """The pair as it is kept: positive curvature, or mended by Powell with B = I/γ; else None."""
    ss, sy, yy = float(s @ s), float(s @ y), float(y @ y)
    if not (ss > 0 and yy > 0 and math.isfinite(ss + yy)):
        return None
    if damped and pairs:
        last_s, last_y = pairs[-1]
        bs = s * (last_y @ last_y / (last_s @ last_y))
        sbs = float(s @ bs)
        if sy < 0.2 * sbs:
            tau = 0.8 * sbs / (sbs - sy)
            return s, tau * y + (1 - tau) * bs
    return (s, y) if sy > 1e-4 * math.sqrt(ss * yy) else None


class Vectors:
    """Parameters and gradients of a problem as one vector each, (d,)."""

    def __init__(self, f: Softmax) -> None:
        self.f = f

    def x(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.f.params])

    @torch.no_grad()
    def to(self, x: Tensor) -> None:
        torch.nn.utils.vector_to_parameters(x, self.f.params)

    def gradient(self, x: Tensor, rows: Tensor | None) -> Tensor:
        self.to(x)
        self.f.batch_closure(rows)
        return torch.cat([p.grad.flatten() for p in self.f.params])


def run(
    f: Softmax, recipe: Recipe, lr: float, passes: float, batch: int, seed: int, metric: Tensor | None = None
) -> None:
    """From where f is, until the passes are spent. metric: Adam's v̂, (d,), for recipes that want it."""
    v = Vectors(f)
    x, pairs = v.x(), deque(maxlen=recipe.memory)
    inverse = 1.0
    if recipe.metric and metric is not None:
        root = metric.sqrt()
        inverse = 1 / (root / root.mean() + 0.1)
    source = _SVRG(f, v, batch) if recipe.gradient == "svrg" else v.gradient
    end = f.samples + passes * f.rows
    begun, measured = f.samples, f.passes_spent
    mean_x, old_mean, before, mean_s, mean_y = torch.zeros_like(x), None, None, 0.0, 0.0
    half = batch // 2
    overlap = None
    for step, rows in enumerate(minibatches(f.rows, batch, 10**9, seed)):
        share = (f.samples - begun) / (end - begun)
        if share >= 1:
            break
        if recipe.pairs == "overlap":  # this minibatch: the last one's second half, and half of the drawn rows
            if overlap is None:
                overlap, g_overlap = rows[:half], v.gradient(x, rows[:half])
            fresh = rows[half:]
            g_fresh = v.gradient(x, fresh)
            g = (g_overlap + g_fresh) / 2
        else:
            g = source(x, rows)
        if recipe.pairs == "two" and before is not None:
            _keep(pairs, x - before[0], g - before[1], recipe)
        before = x, g
        p = direction(g, pairs, inverse)
        size, longest = float(p.norm()), LONGEST * (1 + float(x.norm()))
        if not math.isfinite(size):
            pairs.clear()
            p, size = -g, float(g.norm())
        alpha = lr / 2 * (1 + math.cos(math.pi * share))
        new = x + alpha * p * min(1.0, longest / max(alpha * size, 1e-30))
        if recipe.pairs == "same" or recipe.pairs == "mean":
            s, y = new - x, v.gradient(new, rows) - g
            if recipe.pairs == "mean":
                mean_s, mean_y = KEEP * mean_s + (1 - KEEP) * s, KEEP * mean_y + (1 - KEEP) * y
                s, y = mean_s, mean_y
            _keep(pairs, s, y, recipe)
        elif recipe.pairs == "overlap":
            g_new = v.gradient(new, fresh)
            _keep(pairs, new - x, g_new - g_fresh, recipe)
            overlap, g_overlap = fresh, g_new
        elif recipe.pairs == "average":
            mean_x = mean_x + new / EVERY
            if (step + 1) % EVERY == 0:
                if old_mean is not None:
                    _keep(pairs, s := mean_x - old_mean, hessian_times(v, mean_x, s, batch, step), recipe)
                old_mean, mean_x = mean_x, torch.zeros_like(x)
        x = new
        v.to(x)
        if f.passes_spent - measured >= 1:
            measured = f.passes_spent
            f.measure()
    v.to(x)
    f.measure()


def hessian_times(v: Vectors, x: Tensor, s: Tensor, batch: int, step: int) -> Tensor:
    """∇²f_B(x) s by a central difference on WIDE·batch rows: two evaluations."""
    generator = torch.Generator().manual_seed(step)
    rows = torch.randperm(v.f.rows, generator=generator)[: WIDE * batch]
    h = 0.01 * (1 + float(x.norm())) / max(float(s.norm()), 1e-12)
    return (v.gradient(x + h * s, rows) - v.gradient(x - h * s, rows)) / (2 * h)


class _SVRG:
    def __init__(self, f: Softmax, v: Vectors, batch: int) -> None:
        self.v, self.every, self.at = v, max(1, f.rows // batch), 0

    def __call__(self, x: Tensor, rows: Tensor) -> Tensor:
        if self.at % self.every == 0:
            self.anchor, self.full = x, self.v.gradient(x, None)
        self.at += 1
        return self.v.gradient(x, rows) - self.v.gradient(self.anchor, rows) + self.full


def _keep(pairs: deque, s: Tensor, y: Tensor, recipe: Recipe) -> None:
    pair = judged(s, y, pairs, recipe.damped)
    if pair is not None:
        pairs.append(pair)
