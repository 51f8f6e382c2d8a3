"""Notebook 15: L-BFGS, and what is left of it when one thing at a time is taken away. Same engine, same line search.

    true        L-BFGS as it is: the pairs (s, y) of its own path
    shuffled    each s beside a y that was measured along another step, of the same ‖s‖, ‖y‖ and sᵀy: the history is as
                full, as long and as positive as the true one, and knows nothing about directions
    identity    y = γs with γ = yᵀy/sᵀy, one pair: −Hg is −g/γ, with the very H₀ of L-BFGS. One number of curvature
    steepest    −g with the usual first trial (Nocedal & Wright, eq. 3.60): no curvature but what a search sees along g
    exact       −Q |Λ|⁻¹ Qᵀg from the true Hessian, |λ| no smaller than DAMPING times the largest (Dauphin et al. 2014,
                arXiv 1406.2572). The Hessian costs nothing here: an upper bound

The arms are methods of the second phase, as `fuse_lib.optim.method` describes one: L-BFGS with other pairs, or a
direction of its own. Search, points and promise are the library's.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from fuse_lib import LBFGS
from fuse_lib.optim.method import Direction, Evaluate, Method
from fuse_lib.optim.point import Point, Search
from fuse_lib.optim.quasi_newton import QuasiNewton
from fuse_lib.optim.second_order import SecondOrder

MEMORY = 10  # pairs
DAMPING = 1e-6


class Altered(QuasiNewton):
    """L-BFGS with other pairs: `alter(s, y)` says what takes the place of y, (d,) each."""

    def alter(self, s: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError

    def _chain(self, start: Point, end: Point, staged):
        """The pair was just written. Its products are no longer those of the search, so they are computed anew."""
        s, y = self.history.free
        if s.dot(y) > 0:
            y.copy_(self.alter(s, y))
        staged.dots = None
        return staged


class Shuffled(Altered):
    """y is turned about s until its part across s points where that of an earlier step's y did.

    y ← ‖y‖ (c ŝ + √(1 − c²) û), c = cos(s, y), û the direction across s of the wrong y, drawn from the last MEMORY. So
    ‖s‖, ‖y‖, sᵀy, and with them the test of curvature and γ, stay as they were. The first pair has no other, and stays.
    """

    def alter(self, s: Tensor, y: Tensor) -> Tensor:
        if not hasattr(self, "pool"):
            self.pool, self.draw = deque(maxlen=MEMORY), torch.Generator().manual_seed(0)
        pool = list(self.pool)
        self.pool.append(y.clone())
        if not pool:
            return y
        wrong = pool[int(torch.randint(len(pool), (), generator=self.draw))]
        return turned(s, y, wrong)


def turned(s: Tensor, y: Tensor, wrong: Tensor) -> Tensor:
    """y with its part across s along that of `wrong`, (d,). y itself where `wrong` has none."""
    along = s / s.norm()
    across = wrong - along * along.dot(wrong)
    if not float(across.norm()) > 1e-12 * float(wrong.norm()):
        return y
    part = along.dot(y)
    rest = (y.dot(y) - part * part).clamp(min=0.0).sqrt()
    return part * along + rest * across / across.norm()


class Identity(Altered):
    """Keeps one pair (s, γs): the inverse Hessian is the number 1/γ."""

    def alter(self, s: Tensor, y: Tensor) -> Tensor:
        return s * (y.dot(y) / s.dot(y))


class Steepest(Method):
    """p = −α g, α such that the first trial promises the decrease of the last step."""

    alpha, gg = 0.0, 0.0

    def direction(self, point: Point, evaluate: Evaluate, most: int) -> Direction:
        guess = self.alpha * self.gg / point.gg if self.alpha else min(1.0, 1.0 / math.sqrt(point.gg))
        self.alpha, self.gg = guess, point.gg
        return Direction(point.gradient.vector * -guess, -guess * point.gg, first=1.0)

    def searched(self, found: Search) -> None:
        self.alpha *= found.t
        super().searched(found)

    def clear(self) -> None:
        self.alpha = 0.0  # nothing was found: begin anew


class Exact(Method):
    """p = −|H|⁻¹ g. hessian: (d,) → (d, d), of the function without noise."""

    hessian: Callable[[Tensor], Tensor]

    def direction(self, point: Point, evaluate: Evaluate, most: int) -> Direction:
        g = point.gradient.vector
        with torch.enable_grad():
            values, axes = torch.linalg.eigh(self.hessian(point.x.clone()))
        values = values.abs()
        p = axes @ ((axes.T @ -g) / values.clamp(min=DAMPING * float(values.max())))
        return Direction(p, float(p.dot(g)), first=1.0)


class Arm(LBFGS):
    """`LBFGS` with another method. kind: its class. hessian: for `Exact`."""

    def __init__(self, params, kind: type[Method], hessian=None, **options) -> None:
        self._kind, self._hessian = kind, hessian
        super().__init__(params, history_size=1 if kind is Identity else MEMORY, **options)

    def _new_second_phase(self) -> SecondOrder:
        made = super()._new_second_phase()
        pairs = (made.history,) if issubclass(self._kind, QuasiNewton) else ()
        method = self._kind(made.vectors, *pairs)
        if self._kind is Exact:
            method.hessian = self._hessian
        return SecondOrder(made.vectors, method, made.full_batch)


ARMS: dict[str, type[Method]] = {
    "steepest": Steepest,
    "identity": Identity,
    "shuffled": Shuffled,
    "true": QuasiNewton,
    "exact": Exact,
}
