"""Hessian-vector products from the closure alone, by differences of gradients.

    H v ≈ (∇f(x + h v) − ∇f(x)) / h,    h = 2 √ε (1 + ‖x‖) / ‖v‖        (Nocedal & Wright, section 8.1)

with ε the rounding error of the parameters' dtype: a longer h sees the third derivative, a shorter one rounding. In
float64 a product is right to about 1e-7, in float32 to 1e-3 or so. It costs one call of the closure and works where
double backward does not (fused kernels, checkpointing, DDP).

Both gradients have to be of one function: the closure has to use one batch, and one dropout mask, for all its calls
within a step. If it draws anew in each call, the difference of two batches is divided by a small h, and the product is
noise. Nothing can notice that without more calls; `full_batch=True` is tested once.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fuse_lib.optim.method import Evaluate
from fuse_lib.optim.point import Point
from fuse_lib.optim.vectors import Vectors


class Differences:
    """Products with the Hessian at one point.

    start: the point, evaluated and read. length: 2 √ε, relative to (1 + ‖x‖)/‖v‖; None for that.

    Attributes:
        calls: of the closure.
    """

    def __init__(self, vectors: Vectors, start: Point, evaluate: Evaluate, length: float | None = None) -> None:
        self.vectors, self.start, self.evaluate = vectors, start, evaluate
        self.length = 2.0 * math.sqrt(rounding(vectors)) if length is None else length
        self.calls = 0
        ((xx,),) = vectors.read([vectors.dot(start.x, start.x)])
        self.size = 1.0 + math.sqrt(xx) if math.isfinite(xx) else math.inf

    def times(self, v: Tensor) -> Tensor | None:
        """H v, (d,), in the metric's variables; None where v is zero or not finite, or nothing can be computed.

        It may hold what is not finite. The parameters are left at x + h v.
        """
        vectors, start = self.vectors, self.start
        v = vectors.masked(v)
        outward = vectors.outward(v)
        ((vv,),) = vectors.read([vectors.dot(outward, outward)])
        h = self.length * self.size / math.sqrt(vv) if 0.0 < vv < math.inf else 0.0
        if not 0.0 < h < math.inf:
            return None
        vectors.move(start.x, h, outward)
        self.calls += 1
        self.evaluate()
        gradient = vectors.gradient()
        return vectors.masked(gradient.vector.sub_(start.gradient.vector).div_(h))


def rounding(vectors: Vectors) -> float:
    """ε of the narrowest of the parameters' dtypes."""
    return max((torch.finfo(p.dtype).eps for p in vectors.params), default=torch.finfo(vectors.dtype).eps)
