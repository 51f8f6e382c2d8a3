"""A function to minimise, with everything that is known about it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

RADIUS = 1e-2  # of `solved`, as a share of the search domain's width


@dataclass(frozen=True)
class Problem:
    """A test function.

    Args:
        name: its name in `fuse_lib.problems.NAMES`.
        function: (..., d) → (...).
        formula: the definition, in LaTeX.
        domain: the search domain, (low, high) of each coordinate. It is where starts are drawn and contours
            are shown; nothing keeps an optimizer in it.
        start: the standard start, d numbers.
        minima: all global minimisers, each d numbers.
        least: the value there, f*.
        reference: where the definition comes from.

    >>> square = Problem("square", lambda x: x.square().sum(-1), "x^2", ((-1, 1),), (0.5,), ((0.0,),), 0.0, "-")
    >>> square(torch.tensor([[0.5], [2.0]]))
    tensor([0.2500, 4.0000])
    >>> square.solved(torch.tensor([[0.0], [0.5]]))
    tensor([ True, False])
    """

    name: str
    function: Callable[[Tensor], Tensor] = field(repr=False)
    formula: str = field(repr=False)
    domain: tuple[tuple[float, float], ...]
    start: tuple[float, ...]
    minima: tuple[tuple[float, ...], ...] = field(repr=False)
    least: float
    reference: str = field(repr=False)

    @property
    def dim(self) -> int:
        """d, the number of variables."""
        return len(self.start)

    def __call__(self, x: Tensor) -> Tensor:
        """f at each x.

        Args:
            x: (..., d), of a float dtype. All leading dimensions are a batch.

        Returns:
            (...), of the same dtype.

        Raises:
            TypeError: x is no tensor of a float dtype.
            ValueError: its last dimension is not d.
        """
        self._check(x)
        return self.function(x)

    def x0(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """The standard start, (d,)."""
        return torch.tensor(self.start, dtype=dtype)

    def sample(self, n: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """n starts, uniform in the domain, (n, d). The same for the same seed."""
        low, high = torch.tensor(self.domain, dtype=torch.float64).T
        uniform = torch.rand(n, self.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        return (low + (high - low) * uniform).to(dtype)

    def grid(self, n: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """The domain's plane as n × n points, (n, n, 2): [i, j] is the j-th x and the i-th y, as `contour` wants it.

        Raises:
            ValueError: the problem has more than two variables.
        """
        if self.dim != 2:
            raise ValueError(f"grid: {self.name} has {self.dim} variables; allowed is a problem with 2")
        xs, ys = (torch.linspace(low, high, n, dtype=dtype) for low, high in self.domain)
        return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)

    def gap(self, x: Tensor) -> Tensor:
        """(f(x) − f*) / (f(start) − f*), (...): which share of the descent from the standard start is left."""
        return (self(x) - self.least) / self._descent()

    def nearest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(number of the nearest global minimiser, distance to it), both (...). The distance is Euclidean."""
        self._check(x)
        targets = torch.tensor(self.minima, dtype=x.dtype, device=x.device)
        distance, number = torch.linalg.vector_norm(x.unsqueeze(-2) - targets, dim=-1).min(dim=-1)
        return number, distance

    def solved(self, x: Tensor, f: Tensor | float | None = None, tolerance: float = 1e-6) -> Tensor:
        """Whether x is at a global minimum.

        Two things must be true: of the descent from the standard start to f* at most the share `tolerance` is
        left, f − f* ≤ tolerance · (f(start) − f*), and x is nearer than 1 % of the domain's width to one of
        `minima`. The second keeps a point that is low for another reason (rounding, a search that has left the
        domain) from counting.

        Args:
            x: (..., d). f: the values there without noise, (...); computed where not given. tolerance: > 0.

        Returns:
            bool, (...). False where f is not finite.
        """
        f = self(x) if f is None else torch.as_tensor(f, dtype=x.dtype, device=x.device)
        width = min(high - low for low, high in self.domain)
        low_enough = f - self.least <= tolerance * self._descent()
        return low_enough & (self.nearest(x)[1] <= RADIUS * width)

    def _descent(self) -> float:
        """f(start) − f*."""
        return float(self.function(self.x0())) - self.least

    def _check(self, x: Tensor) -> None:
        if not (isinstance(x, Tensor) and x.dtype.is_floating_point):
            got = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else repr(x)
            raise TypeError(f"x: got {got}; allowed is a tensor of a float dtype")
        if x.ndim == 0 or x.shape[-1] != self.dim:
            raise ValueError(f"x: got the shape {tuple(x.shape)}; allowed for {self.name} is (..., {self.dim})")


def check_dim(dim: object, at_least: int) -> None:
    """ValueError where dim is no whole number ≥ at_least."""
    if not isinstance(dim, int) or isinstance(dim, bool) or dim < at_least:
        raise ValueError(f"dim: got {dim!r}; allowed is a whole number ≥ {at_least}")


def check_number(name: str, value: object, at_least: float = 0.0) -> None:
    """ValueError where value is no finite number ≥ at_least."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not at_least <= value < math.inf:
        raise ValueError(f"{name}: got {value!r}; allowed is a finite number ≥ {at_least:g}")


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """ValueError where value is no whole number from low to high."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name}: got {value!r}; allowed is a whole number from {low} to {high}")
