"""Non-linear conjugate gradients, by Hager and Zhang (SIAM J. Optim. 16, 2005: CG_DESCENT).

    p = −g + β s,    β = (y − 2 s yᵀy/sᵀy)ᵀg / sᵀy,    β ≥ 0.4 sᵀg₀ / sᵀs

with s the last step, y the change of the gradient along it and g₀ the gradient where it began. On a quadratic with
exact searches the 2 s yᵀy/sᵀy term is zero and this is the linear conjugate gradient method: done after as many steps
as the Hessian has distinct eigenvalues. Else that term makes gᵀp ≤ −7/8 gᵀg whatever the search did. The bound on β,
the one of Hager & Zhang (SIAM J. Optim. 23, 2013, eq. 1.4), is free of scales and keeps the method convergent. Where
β is of no use the method starts anew with −g.

It remembers two vectors of length d. The search is stricter than L-BFGS's, |φ'(t)| ≤ 0.01 |φ'(0)|, for directions are
conjugate only as far as the search is exact: on a quadratic of condition 10⁴ with the customary 0.1 it needs four times
as many iterations. It begins where the last one suggests (Nocedal & Wright, eq. 3.60), and the second trial is the
minimum of a cubic, exact on a quadratic. So an iteration costs two evaluations, or three.

In exact arithmetic s and y belong to one batch. With a batch a step the new g is another batch's: it runs, but what
is conjugate then is the noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fuse_lib.optim.method import Direction, Evaluate, Method
from fuse_lib.optim.point import Point, Search
from fuse_lib.optim.vectors import Vectors

LEAST = 0.4  # of β, in units of sᵀg₀/sᵀs
DESCENT = 1e-3  # of gᵀg, what a direction must at least promise; exact arithmetic promises 7/8


class ConjugateGradients(Method):
    """Hager–Zhang.

    s, y: (d,) each, of the last step; None after a restart. s_start: sᵀg₀, nan where it is still to be read.
    decrease: of the last search, its step times the slope at its start, < 0; nan where no search came before.
    """

    name = "cg"
    curvature = 0.01

    def __init__(self, vectors: Vectors) -> None:
        super().__init__(vectors)
        self.s: Tensor | None = None
        self.y: Tensor | None = None
        self.s_start = self.decrease = math.nan
        self._products: dict[str, float] | None = None  # with the gradient that was looked at last

    # ---- a point is looked at
    def wanted(self, point: Point) -> dict[str, Tensor]:
        if self.s is None:
            return {}
        dot, s, y, g = self.vectors.dot, self.s, self.y, point.gradient.vector
        return {"ss": dot(s, s), "sy": dot(s, y), "yy": dot(y, y), "sg": dot(s, g), "yg": dot(y, g)}

    def seen(self, point: Point, read: dict[str, list[float]]) -> None:
        names = ("ss", "sy", "yy", "sg", "yg")
        self._products = {name: read[name][0] for name in names} if self.s is not None else None

    # ---- one iteration
    def direction(self, point: Point, evaluate: Evaluate, most: int) -> Direction | None:
        beta = self._beta()
        slope = -point.gg + beta * self._products["sg"] if beta else -point.gg
        if not slope <= -DESCENT * point.gg:
            self.clear()
            return None
        first = self.decrease / slope
        p = torch.neg(point.gradient.vector, out=self.vectors.take())
        if beta:
            p.add_(self.s, alpha=beta)
        return Direction(p, slope, first if 0.0 < first < math.inf else None)

    def _beta(self) -> float:
        """β, or 0 where the last step is of no use."""
        if self._products is None:
            return 0.0
        ss, sy, yy, sg, yg = self._products.values()
        if not (sy > 0.0 and ss > 0.0):
            return 0.0
        beta = (yg - 2.0 * yy * (sg / sy)) / sy
        if self.s_start < 0.0:
            beta = max(beta, LEAST * self.s_start / ss)
        return beta if math.isfinite(beta) else 0.0

    def searched(self, found: Search) -> None:
        self._forget_vectors()
        s = torch.sub(found.end.x, found.start.x, out=self.vectors.take())
        self.s, self.y = self.vectors.inward(s), found.y
        self.s_start = self.decrease = found.t * found.slope

    def remember(self, start: Point, end: Point) -> None:
        """A blended step: its length is no search's."""
        self._forget_vectors()
        self.s = self.vectors.inward(end.x - start.x)
        self.y = end.gradient.vector - start.gradient.vector
        self.s_start = self.decrease = math.nan

    def clear(self) -> None:
        self._forget_vectors()
        self.s_start = self.decrease = math.nan

    def _forget_vectors(self) -> None:
        if self.s is not None:
            self.vectors.give(self.s, self.y)
        self.s = self.y = self._products = None

    # ---- checkpoints
    def in_use(self) -> bool:
        return self.s is not None

    def state(self, known: Point | None) -> tuple[dict[str, object], dict[str, Tensor]]:
        has_pair = self.s is not None
        # Products with a known point's gradient are read again when it is looked at.
        numbers = {"has_pair": has_pair, "s_start": self.s_start, "decrease": self.decrease}
        vectors = {"s": self.s, "y": self.y} if has_pair else {"s": self.vectors.zeros(), "y": self.vectors.zeros()}
        return numbers, vectors

    def load(self, numbers: dict, vectors: dict[str, Tensor], known: Point | None) -> None:
        self.s_start, self.decrease = float(numbers["s_start"]), float(numbers["decrease"])
        if int(numbers["has_pair"]):
            like = {"dtype": self.vectors.dtype, "device": self.vectors.device}
            self.s, self.y = (vectors[name].to(**like, copy=True) for name in ("s", "y"))
