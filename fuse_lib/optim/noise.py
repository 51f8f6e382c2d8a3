"""How far the computed loss may be off at a point.

There is the rounding of f itself, and that of x seen through the gradient, ε sqrt(Σ (g_i x_i)²) if the x_i are rounded
independently. The latter is what remains where the minimum is 0.

The sum is two operations on long vectors, and most steps gain so much that nobody has to know it. Where to read a
number is just to look at it, only ‖x‖² comes with the point, half the work: the sum is at most ‖g‖² ‖x‖². What is
above that bound is above the noise; for what is not, the sum is computed after all. Elsewhere a sum that is asked for
later would make the host wait once more, so there it comes with the point.
"""

from __future__ import annotations

import math

from torch import Tensor

from fuse_lib.optim.blocks import in_blocks
from fuse_lib.optim.point import Point
from fuse_lib.optim.vectors import Vectors, in_range


class Noise:
    """The noise at a point that was read.

    eps: the rounding error of a loss, relative to it. known: what was read of `wanted`.
    at_most: it is not above this, which is known at once. `noise()` is the noise.
    """

    def __init__(self, vectors: Vectors, point: Point, eps: float, known: float) -> None:
        self._vectors, self._point, self._eps = vectors, point, eps
        self._noise: float | None = None
        if not vectors.on_host:
            self.at_most = self._noise = self._from(known)
        elif in_range(known) and in_range(point.gg):  # twice: these sums are rounded, too
            self.at_most = eps * max(abs(point.f), 2.0 * math.sqrt(known) * math.sqrt(point.gg))
        else:
            self.at_most = math.inf

    def __call__(self) -> float:
        if self._noise is None:
            vectors, point = self._vectors, self._point
            g, x = point.gradient.vector, vectors.inward(point.x)
            ((gx,),) = vectors.read(in_blocks(vectors.products, g, x, whole=vectors.weights is not None))
            self._noise = self._from(gx)
        return self._noise

    def _from(self, gx: float) -> float:
        """From Σ (g_i x_i)², which is computed anew in float64 where float32 may have over- or underflowed."""
        vectors, g = self._vectors, self._point.gradient.vector
        if not in_range(gx) and g.dtype != vectors.wide:
            terms = g.to(vectors.wide) * vectors.inward(self._point.x).to(vectors.wide)
            gx = vectors.read([vectors.dot(terms, terms)])[0][0]
        root = math.sqrt(max(gx, 0.0))
        return self._eps * max(abs(self._point.f), root if math.isfinite(root) else 0.0)


def wanted(vectors: Vectors, g: Tensor, x: Tensor) -> tuple[Tensor]:
    """What is to be read with a point where the gradient is g, (d,) each, 0-d, as `in_blocks` wants it."""
    return (vectors.dot(x, x),) if vectors.on_host else vectors.products(g, x)
