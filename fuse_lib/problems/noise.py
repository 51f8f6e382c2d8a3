"""Noise on the gradients of a function, in a way that any torch optimizer sees it.

Nothing is done to the optimizer, and no hook is needed: the noise is a term of the loss. With a normal vector ξ,
drawn anew, the closure minimises

    f(x) + ξᵀ(x − x̄)        x̄: the value of x, taken as a constant        loss="exact"
    f(x) + ξᵀx                                                             loss="tilted"

The gradient of both is ∇f(x) + ξ. The first has the value f(x): the gradient is noisy, the loss is not. The second is
another function than f, tilted by ξ; its loss is as noisy as its gradient, and the two agree with one another, as those
of a minibatch do. A line search can tell the two apart.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fuse_lib.problems.problem import Problem, check_number

LOSSES = ("exact", "tilted")


class NoisyGradient:
    """A problem whose gradients carry additive normal noise of a known size.

    Args:
        problem: what is minimised.
        sigma: the size of the noise relative to the gradient at the standard start x0: E‖ξ‖² = σ² ‖∇f(x0)‖², equal
            in all components and independent of x.
        seed: of the noise. Draws come from a generator of their own, on the host.
        loss: "exact" (only the gradient is noisy) or "tilted" (the loss as well); see above.
        hold: False draws ξ at each evaluation. True keeps it until `redraw()`: called before each step, it makes
            all evaluations of that step see one function, as those on one minibatch do.

    Raises:
        ValueError: an argument that is not allowed.

    In a batch every row has noise of its own.

    >>> from fuse_lib import problems
    >>> noisy = NoisyGradient(problems.get("rosenbrock"), sigma=0.1, seed=0)
    >>> x = noisy.problem.x0().requires_grad_()
    >>> noisy(x).backward()                    # the value is exact, the gradient is off by about 10 %
    >>> exact = torch.tensor([-215.6, -88.0], dtype=torch.float64)
    >>> bool(0 < (x.grad - exact).norm() < 0.3 * exact.norm())
    True
    """

    def __init__(
        self, problem: Problem, sigma: float, seed: int = 0, *, loss: str = "exact", hold: bool = False
    ) -> None:
        check_number("sigma", sigma)
        if loss not in LOSSES:
            raise ValueError(f"loss: got {loss!r}; allowed is one of {', '.join(map(repr, LOSSES))}")
        self.problem, self.sigma, self.loss, self.hold = problem, sigma, loss, hold
        start = problem.x0().requires_grad_()
        (gradient,) = torch.autograd.grad(problem(start), start)
        self.scale = sigma * float(gradient.norm()) / math.sqrt(problem.dim)
        self._generator = torch.Generator().manual_seed(seed)
        self._held: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """f(x) plus the noise term, (..., d) → (...)."""
        f = self.problem(x)
        if self.sigma == 0.0:
            return f
        xi = self._noise(x)
        return f + (xi * (x - x.detach() if self.loss == "exact" else x)).sum(-1)

    def redraw(self) -> None:
        """Forget the noise that is held; the next evaluation draws it anew."""
        self._held = None

    def _noise(self, x: Tensor) -> Tensor:
        if self._held is not None and self._held.shape == x.shape:
            return self._held.to(x)
        xi = self.scale * torch.randn(x.shape, dtype=torch.float64, generator=self._generator)
        self._held = xi if self.hold else None
        return xi.to(x)

    @property
    def deterministic(self) -> bool:
        """Whether all evaluations are of one function, so that `full_batch=True` may be promised."""
        return self.sigma == 0.0
