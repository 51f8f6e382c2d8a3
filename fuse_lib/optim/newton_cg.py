"""Truncated Newton: conjugate gradients on H p = −g, stopped early, with H v from differences of gradients.

Nocedal & Wright, algorithm 7.1 (line search Newton–CG). Each inner step costs one closure call:

    z = 0, r = g, v = −g
    κ = vᵀHv                       κ not clearly positive: stop with z, or with −g if there is none yet
    z ← z + α v,  r ← r + α Hv,    α = rᵀr/κ
    ‖r‖ ≤ η ‖g‖ and j αrᵀr ≤ ½ |gᵀz|: stop with z after j products; else v ← −r + β v,  β = r'ᵀr'/rᵀr

The second test is Nash and Sofer's (Oper. Res. Lett. 9, 1990): the model ½gᵀz still falls by less than half of what
it fell by in the mean. The residual alone stops too early where H is ill-conditioned: it is small as soon as the stiff
directions are solved, before z has gone anywhere along the valley.

*Negative curvature* is met before the first z or after some steps: every z so far is a descent direction, for it is
a minimiser of the model over a subspace where the model is convex. The search then may lengthen the step.

*Forcing*: η = 0.9 (‖g‖/‖g_before‖)^φ with φ = (1 + √5)/2, at most 0.5 and not much below the last one's power
(Eisenstat & Walker, SIAM J. Sci. Comput. 17, 1996, choice 2): rough far away, exact where it converges, so that the
outer iterations converge superlinearly, and free of the scales of f and x.

*Budget*: products and search share `max_evals`. 5 calls, or half of what is left if that is less, are kept for the
search; a system that is not solved by then gives the z that there is. For ill-conditioned problems raise `max_evals`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fuse_lib.optim.differences import Differences
from fuse_lib.optim.method import Direction, Evaluate, Method
from fuse_lib.optim.point import Point, Search
from fuse_lib.optim.vectors import Vectors

FOR_SEARCH = 5  # closure calls
ROUGHEST = 0.5
ORDER = 0.5 * (1.0 + math.sqrt(5.0))


class NewtonCG(Method):
    """Truncated Newton.

    length: of the differences, relative (see differences.py); None for the one that suits the dtype.
    gg, eta: gᵀg and η of the last iteration; 0 before the first.
    """

    name = "newton-cg"

    def __init__(self, vectors: Vectors, length: float | None = None) -> None:
        super().__init__(vectors)
        self.length = length
        self.gg = self.eta = self._eta = 0.0

    def direction(self, point: Point, evaluate: Evaluate, most: int) -> Direction | None:
        vectors, dot = self.vectors, self.vectors.dot
        most = max(most - FOR_SEARCH, most // 2)
        if most < 1:
            return None
        self._eta = eta = self._forcing(point.gg)
        hessian = Differences(vectors, point, evaluate, self.length)
        g = point.gradient.vector
        z = torch.zeros_like(g)
        r, rr = g.clone(), point.gg
        v, slope, found = torch.neg(g), 0.0, False
        flat = 10.0 * hessian.length  # of ‖v‖‖Hv‖: less than that the differences cannot tell from zero
        while hessian.calls < most:
            hv = hessian.times(v)
            if hv is None:
                break
            (curvature,), (vv,), (hh,) = vectors.read([dot(v, hv), dot(v, v), dot(hv, hv)])
            if not curvature > flat * math.sqrt(vv) * math.sqrt(hh):  # NaN is not
                break
            alpha = rr / curvature
            z.add_(v, alpha=alpha)
            r.add_(hv, alpha=alpha)
            before, gain = rr, alpha * rr  # of the model, twice
            (rr,), (slope,) = vectors.read([dot(r, r), dot(g, z)])
            found = True
            solved = rr <= eta**2 * point.gg and hessian.calls * gain <= -0.5 * slope
            if solved or not math.isfinite(rr + slope):
                break
            v.mul_(rr / before).sub_(r)
        if not (found and math.isfinite(slope) and slope < 0.0):
            return Direction(torch.neg(g, out=vectors.take()), -point.gg, None, hessian.calls)
        return Direction(z, slope, 1.0, hessian.calls)

    def _forcing(self, gg: float) -> float:
        """η for a gradient with this gᵀg."""
        if not self.gg > 0.0:
            return ROUGHEST
        eta, floor = 0.9 * (gg / self.gg) ** (0.5 * ORDER), 0.9 * self.eta**ORDER
        if floor > 0.1:
            eta = max(eta, floor)
        return min(eta, ROUGHEST)

    def searched(self, found: Search) -> None:
        self.gg, self.eta = found.start.gg, self._eta
        super().searched(found)

    def clear(self) -> None:
        self.gg = self.eta = 0.0

    # ---- checkpoints
    def in_use(self) -> bool:
        return self.gg > 0.0

    def state(self, known: Point | None) -> tuple[dict[str, object], dict[str, Tensor]]:
        return {"last_gg": self.gg, "eta": self.eta}, {}

    def load(self, numbers: dict, vectors: dict[str, Tensor], known: Point | None) -> None:
        self.gg, self.eta = float(numbers["last_gg"]), float(numbers["eta"])
