"""A function whose curvature is known: a `Problem` with the spectrum of its Hessian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fuse_lib.problems.problem import Problem


@dataclass(frozen=True)
class Landscape(Problem):
    """A problem that says what its Hessian's eigenvalues are.

    Args:
        The first eight as for `Problem`; `minima` may list some of many, as its maker says.
        spectrum: (d,) → (d,), the eigenvalues of ∇²f there, ascending, from a formula and not from ∇²f. It holds at
            `points` and wherever its maker says so.
        points: name → a point where `spectrum` holds, d numbers: a minimum, a saddle, …
        rotation: Q, (d, d) orthogonal: the columns are the axes along which f is simple, x = Q w.

    >>> from fuse_lib import problems
    >>> f = problems.saddle(negative=1, positive=1)
    >>> f.spectrum(torch.tensor(f.points["saddle"]))
    tensor([-1.,  1.])
    """

    spectrum: Callable[[Tensor], Tensor] = field(repr=False)
    points: dict[str, tuple[float, ...]] = field(repr=False)
    rotation: Tensor = field(repr=False)

    def hessian(self, x: Tensor) -> Tensor:
        """∇²f at x, (d,) → (d, d), by automatic differentiation."""
        self._check(x)
        return hessian(self.function, x)

    def at(self, name: str, dtype: torch.dtype = torch.float64) -> Tensor:
        """The documented point of that name, (d,).

        Raises:
            ValueError: there is none; the message lists those that there are.
        """
        if name not in self.points:
            raise ValueError(f"name: got {name!r}; allowed is one of {', '.join(map(repr, self.points))}")
        return torch.tensor(self.points[name], dtype=dtype)

    def from_axes(self, w: Tensor) -> Tensor:
        """x = Q w, (..., d) → (..., d): a point given along the function's own axes."""
        return w @ self.rotation.to(w).T


def hessian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """∇²f at x, (d,) → (d, d): reverse over reverse, for torch's forward mode warns of its own deprecated parts."""
    return torch.func.jacrev(torch.func.grad(function))(x)


def random_rotation(dim: int, seed: int) -> Tensor:
    """(d, d) orthogonal, float64, uniformly distributed: Q of the QR decomposition of a normal matrix, signs fixed.

    A full rotation matters: along the axes Adam's one step size a coordinate would undo any condition number.
    """
    normal = torch.randn(dim, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    q, r = torch.linalg.qr(normal)
    return q * r.diagonal().sign()


def spaced(condition: float, dim: int) -> Tensor:
    """d curvatures from 1 to `condition`, even on a log scale, (d,) float64."""
    return torch.tensor([float(condition) ** (i / max(dim - 1, 1)) for i in range(dim)], dtype=torch.float64)


def plain(x: Tensor) -> tuple[float, ...]:
    """A vector as the plain numbers that `Problem` wants."""
    return tuple(x.tolist())
