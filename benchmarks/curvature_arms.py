"""Notebook 15: L-BFGS, and what is left of it when one thing at a time is taken away. Same engine, same line search.

    true        L-BFGS as it is: the pairs (s, y) of its own path
    shuffled    each s beside a y that was measured along another step, of the same ‖s‖, ‖y‖ and sᵀy: the history is as
                full, as long and as positive as the true one, and knows nothing about directions
    identity    y = γs with γ = yᵀy/sᵀy, one pair: −Hg is −g/γ, with the very H₀ of L-BFGS. One number of curvature
    steepest    −g with the usual first trial (Nocedal & Wright, eq. 3.60): no curvature but what a search sees along g
    exact       −Q |Λ|⁻¹ Qᵀg from the true Hessian, |λ| no smaller than DAMPING times the largest (Dauphin et al. 2014,
                arXiv 1406.2572). The Hessian costs nothing here: an upper bound

The pairs are altered where they are stored, in a subclass of the library's second phase: the library has no hook.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from fuse_lib import LBFGS
from fuse_lib.optim.point import Point, Search
from fuse_lib.optim.second_order import SecondOrder

MEMORY = 10  # pairs
DAMPING = 1e-6


class Altered(SecondOrder):
    """The second phase with other pairs: `alter(s, y)` says what takes the place of y, (d,) each."""

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


class Directed(SecondOrder):
    """A direction of one's own, the first trial of whose search is 1."""

    def line_search(self, start: Point, evaluate, max_evals: int, first_trial: float = 1.0) -> Search:
        self.history.clear()  # the engine shortens the first trial to length 1 then; here it shall be the whole step
        return super().line_search(start, evaluate, max_evals, first_trial * max(1.0, math.sqrt(start.gg)))


class Steepest(Directed):
    """p = −α g, α such that the first trial promises the decrease of the last step."""

    alpha, gg = 0.0, 0.0

    def direction(self, point: Point) -> tuple[Tensor, float]:
        guess = self.alpha * self.gg / point.gg if self.alpha else min(1.0, 1.0 / math.sqrt(point.gg))
        self.alpha, self.gg = guess, point.gg
        return point.gradient.vector * -guess, -guess * point.gg

    def line_search(self, start, evaluate, max_evals, first_trial=1.0):
        found = super().line_search(start, evaluate, max_evals, first_trial)
        self.alpha *= found.t  # 0 where nothing was found: begin anew
        return found


class Exact(Directed):
    """p = −|H|⁻¹ g. hessian: (d,) → (d, d), of the function without noise."""

    hessian: Callable[[Tensor], Tensor]

    def direction(self, point: Point) -> tuple[Tensor, float]:
        g = point.gradient.vector
        with torch.enable_grad():
            values, axes = torch.linalg.eigh(self.hessian(point.x.clone()))
        values = values.abs()
        p = axes @ ((axes.T @ -g) / values.clamp(min=DAMPING * float(values.max())))
        return p, float(p.dot(g))


class Arm(LBFGS):
    """`LBFGS` with another second phase. kind: its class. hessian: for `Exact`."""

    def __init__(self, params, kind: type[SecondOrder], hessian=None, **options) -> None:
        self._kind, self._hessian = kind, hessian
        super().__init__(params, history_size=1 if kind is Identity else MEMORY, **options)

    def _new_second_phase(self) -> SecondOrder:
        made = super()._new_second_phase()
        second = self._kind(made.vectors, made.history, made.full_batch)
        if self._kind is Exact:
            second.hessian = self._hessian
        return second


ARMS: dict[str, type[SecondOrder]] = {
    "steepest": Steepest,
    "identity": Identity,
    "shuffled": Shuffled,
    "true": SecondOrder,
    "exact": Exact,
}
