"""Two valleys: Rosenbrock's, which is curved, and a straight one of any condition number."""

from __future__ import annotations

import torch
from torch import Tensor

from fuse_lib.problems.problem import Problem, check_dim, check_number


def rosenbrock(dim: int = 2) -> Problem:
    """Rosenbrock's curved valley: easy to find, slow to follow.

    f(x) = Σ_{i<d} 100 (x_{i+1} − x_i²)² + (1 − x_i)², minimum 0 at (1, …, 1). It is the only one for d ≤ 3; from
    d = 4 on there is also a local minimum near (−1, 1, …, 1), of value about 4 (Shang and Qiu 2006).

    Definition: H. H. Rosenbrock, The Computer Journal 3, 1960, doi 10.1093/comjnl/3.3.175, with its start
    (−1.2, 1), repeated for d > 2; the domain is De Jong's, ±2.048.

    >>> rosenbrock()(torch.tensor([-1.2, 1.0]))
    tensor(24.2000)
    """
    check_dim(dim, at_least=2)

    def function(x: Tensor) -> Tensor:
        a, b = x[..., :-1], x[..., 1:]
        return (100.0 * (b - a.square()).square() + (1.0 - a).square()).sum(-1)

    return Problem(
        name="rosenbrock" if dim == 2 else f"rosenbrock-{dim}",
        function=function,
        formula=r"\sum_{i<d} 100\,(x_{i+1} - x_i^2)^2 + (1 - x_i)^2",
        domain=((-2.048, 2.048),) * dim,
        start=tuple(-1.2 if i % 2 == 0 else 1.0 for i in range(dim)),
        minima=((1.0,) * dim,),
        least=0.0,
        reference="https://doi.org/10.1093/comjnl/3.3.175",
    )


def valley(condition: float = 1e3, dim: int = 2) -> Problem:
    """A convex quadratic valley of a given condition number, turned so that it lies along no axis.

    f(x) = ½ xᵀ Q diag(λ) Qᵀ x, minimum 0 at 0, with eigenvalues λ from 1 to `condition`, equally spaced on a log
    scale. Q is a rotation, the product of the reflections at (1, 1, …) and at (1, 2, …, d): for d = 2 the
    matrix [[0.8, −0.6], [0.6, 0.8]]. (Were it not turned, Adam's one step size a coordinate would do away with the
    condition number.)

    Definition: a construction of this course; such a quadratic is the standard example of condition, for instance in
    Nocedal and Wright, Numerical Optimization, 2006, section 3.3, doi 10.1007/978-0-387-40065-5.

    >>> valley(condition=100.0)(torch.tensor([[-0.6, 0.8], [0.8, 0.6]]))  # along the steepest axis, and the flattest
    tensor([50.0000,  0.5000])
    """
    check_dim(dim, at_least=2)
    check_number("condition", condition, at_least=1.0)
    rotation = _rotation(dim)
    curvatures = torch.logspace(0.0, torch.log10(torch.tensor(float(condition), dtype=torch.float64)).item(), dim,
                                dtype=torch.float64)  # fmt: skip

    def function(x: Tensor) -> Tensor:
        along = x @ rotation.to(x)
        return 0.5 * (curvatures.to(x) * along.square()).sum(-1)

    return Problem(
        name="valley",
        function=function,
        formula=r"\tfrac12\, x^\top Q\,\mathrm{diag}(\lambda)\,Q^\top x",
        domain=((-2.0, 2.0),) * dim,
        start=(-1.5, *(1.0 for _ in range(dim - 1))),
        minima=((0.0,) * dim,),
        least=0.0,
        reference="https://doi.org/10.1007/978-0-387-40065-5",
    )


def _rotation(dim: int) -> Tensor:
    """(d, d) orthogonal, determinant 1, float64: two reflections, one after the other."""
    eye = torch.eye(dim, dtype=torch.float64)
    first, second = torch.ones(dim, dtype=torch.float64), torch.arange(1, dim + 1, dtype=torch.float64)
    one, two = (eye - 2.0 * torch.outer(v, v) / v.dot(v) for v in (first, second))
    return two @ one
