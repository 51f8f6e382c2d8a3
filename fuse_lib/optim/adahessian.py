"""AdaHessian (Yao, Gholami, Shen, Mustafa, Keutzer & Mahoney, AAAI 2021, arXiv 2006.00719): Adam with the Hessian's
diagonal in the place of the squared gradient.

    D = z ⊙ Hz,    z_i = ±1 at random        an estimate of diag(H) (Hutchinson)
    m ← β₁ m + (1 − β₁) g,    v ← β₂ v + (1 − β₂) D ⊙ D
    x ← x − lr m̂ / (√v̂ ^ k + ε)              m̂, v̂: corrected for their start at zero

Here Hz is a difference of two gradients (`differences.py`), so that a step costs two closure calls: one at its start,
one for the probe. There is **no line search**, by definition: the loss may go up, lr matters and is the user's, the
step's end is not evaluated, and nothing says "converged" but a gradient of exactly zero. The paper's averaging of D
within a convolution's kernel is left out.

lr is one of `second_order_args`, for what suits the first phase does not suit this. The groups' lr count as they stand
to one another. (A diagonal method is blind to a diagonal change of variables, so `handover="metric"` is refused.)

The z of probe number n come from a generator on the CPU with a seed made of `seed` and n, whatever the device: a run
goes on exactly after loading, and ranks that hold whole parameters draw alike.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fuse_lib.optim.differences import Differences
from fuse_lib.optim.method import Evaluate, Method
from fuse_lib.optim.point import Point
from fuse_lib.optim.vectors import Vectors


class AdaHessian(Method):
    """AdaHessian.

    lr, betas, eps, power (k), seed: see above. length: of the differences, relative; None for what suits the dtype.
    m, v: (d,) each, None before the first step. steps, probes: how many of each were made, of the latter also such as
        told nothing.
    """

    name = "adahessian"
    searches = False
    inherits = ()
    sharded = False

    def __init__(
        self,
        vectors: Vectors,
        lr: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-4,
        power: float = 1.0,
        seed: int = 0,
        length: float | None = None,
    ) -> None:
        super().__init__(vectors)
        self.lr, self.betas, self.eps, self.power, self.seed, self.length = lr, betas, eps, power, seed, length
        self.m: Tensor | None = None
        self.v: Tensor | None = None
        self.steps = self.probes = 0
        self._next: tuple[Tensor, Tensor] | None = None

    def step(self, point: Point, evaluate: Evaluate) -> Tensor | None:
        vectors = self.vectors
        hessian = Differences(vectors, point, evaluate, self.length)
        z = self._signs()
        hz = hessian.times(z)
        self.probes += 1
        if hz is None or not math.isfinite(vectors.read([vectors.dot(hz, hz)])[0][0]):
            return None
        (b1, b2), k = self.betas, self.steps + 1
        g = point.gradient.vector
        m = (vectors.zeros() if self.m is None else self.m * b1).add_(g, alpha=1.0 - b1)
        d = hz.mul_(z)
        v = (vectors.zeros() if self.v is None else self.v * b2).addcmul_(d, d, value=1.0 - b2)
        root = (v / (1.0 - b2**k)).sqrt_()
        if self.power != 1.0:
            root.pow_(self.power)
        p = (m / root.add_(self.eps)).mul_(-self.lr / (1.0 - b1**k))
        if vectors.scale is not None:  # from g/D in the metric's variables to the same step in x, times the groups' lr
            p.mul_(vectors.scale).mul_(vectors.scale)
        self._next = m, v
        return p

    def _signs(self) -> Tensor:
        """z, (d,), ±1."""
        generator = torch.Generator().manual_seed((self.seed * 0x9E3779B97F4A7C15 + self.probes) % 2**63)
        bits = torch.randint(0, 2, (self.vectors.numel,), generator=generator)
        return (2 * bits - 1).to(dtype=self.vectors.dtype, device=self.vectors.device)

    def taken(self) -> None:
        (self.m, self.v), self._next = self._next, None
        self.steps += 1

    def forget(self) -> None:
        self.m = self.v = self._next = None
        self.steps = 0  # the probes go on, so that none comes twice

    # ---- checkpoints
    def in_use(self) -> bool:
        return self.probes > 0

    def state(self, known: Point | None) -> tuple[dict[str, object], dict[str, Tensor]]:
        zeros = self.vectors.zeros
        numbers = {"steps": self.steps, "probes": self.probes}
        return numbers, {"m": zeros() if self.m is None else self.m, "v": zeros() if self.v is None else self.v}

    def load(self, numbers: dict, vectors: dict[str, Tensor], known: Point | None) -> None:
        self.steps, self.probes = int(numbers["steps"]), int(numbers["probes"])
        if self.steps:
            like = {"dtype": self.vectors.dtype, "device": self.vectors.device}
            self.m, self.v = (vectors[name].to(**like, copy=True) for name in ("m", "v"))
