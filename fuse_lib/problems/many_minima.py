"""Functions with many minima, of which one is the lowest: Rastrigin, Ackley, Styblinski-Tang."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fuse_lib.problems.problem import Problem, check_dim


def rastrigin(dim: int = 2) -> Problem:
    """Rastrigin's function: a bowl with a dip at nearly every whole number.

    f(x) = 10 d + Σ x_i² − 10 cos(2π x_i), minimum 0 at 0. In the domain each coordinate has 11 dips, so that in the
    plane there are 121 minima, of which one is global.

    Definition: Mühlenbein, Schomisch, Born, Parallel Computing 17, 1991, doi 10.1016/S0167-8191(05)80052-3.
    The start is this course's.

    >>> rastrigin()(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    tensor([0., 1.])
    """
    check_dim(dim, at_least=1)

    def function(x: Tensor) -> Tensor:
        return (10.0 + x.square() - 10.0 * torch.cos(2.0 * math.pi * x)).sum(-1)

    return Problem(
        name="rastrigin",
        function=function,
        formula=r"10\,d + \sum_i x_i^2 - 10\cos(2\pi x_i)",
        domain=((-5.12, 5.12),) * dim,
        start=tuple(-3.3 if i % 2 == 0 else 2.7 for i in range(dim)),
        minima=((0.0,) * dim,),
        least=0.0,
        reference="https://doi.org/10.1016/S0167-8191(05)80052-3",
    )


def ackley(dim: int = 2) -> Problem:
    """Ackley's function: a nearly flat plain full of dips, and a funnel.

    f(x) = 20 + e − 20 exp(−0.2 ‖x‖/√d) − exp(1/d Σ cos 2π x_i), minimum 0 at 0. There it is not smooth: it has the
    point of a cone, of slope 4/√d. (autograd gives the gradient 0 at the very point, one of its subgradients.)

    Definition: D. H. Ackley, A Connectionist Machine for Genetic Hillclimbing, 1987, doi 10.1007/978-1-4613-1997-9,
    with the domain that Jamil and Yang (arXiv 1308.4008) give, ±35, cut to the usual ±5. The start is this course's.

    >>> round(float(ackley()(torch.tensor([1.0, 0.0], dtype=torch.float64))), 4)
    2.6375
    """
    check_dim(dim, at_least=1)

    def function(x: Tensor) -> Tensor:
        bowl = 20.0 * torch.expm1(-0.2 / math.sqrt(dim) * torch.linalg.vector_norm(x, dim=-1))
        dips = math.e * torch.expm1((torch.cos(2.0 * math.pi * x) - 1.0).mean(-1))
        return -bowl - dips  # expm1, so that near the minimum no digits cancel

    return Problem(
        name="ackley",
        function=function,
        formula=r"20 + e - 20\,e^{-0.2\,\|x\|/\sqrt d} - e^{\frac1d \sum_i \cos 2\pi x_i}",
        domain=((-5.0, 5.0),) * dim,
        start=tuple(2.7 if i % 2 == 0 else -1.6 for i in range(dim)),
        minima=((0.0,) * dim,),
        least=0.0,
        reference="https://doi.org/10.1007/978-1-4613-1997-9",
    )


_LOWEST = -2.903534027771177  # the lower root of 4 t³ − 32 t + 5
_LEAST = -39.166165703771416  # ½ (t⁴ − 16 t² + 5 t) there


def styblinski_tang(dim: int = 2) -> Problem:
    """The function of Styblinski and Tang: each coordinate has two hollows, of unequal depth.

    f(x) = ½ Σ x_i⁴ − 16 x_i² + 5 x_i, minimum −39.16617 d at (−2.903534, …). The other hollow of a coordinate, at
    2.746803, is 14.1 higher: in the plane there are four minima, of which one is global.

    Definition: Styblinski, Tang, Neural Networks 3, 1990, doi 10.1016/0893-6080(90)90029-K; domain of Jamil and Yang,
    arXiv 1308.4008. The start is this course's.

    >>> round(float(styblinski_tang()(torch.tensor([-2.903534, -2.903534]))), 3)
    -78.332
    """
    check_dim(dim, at_least=1)

    def function(x: Tensor) -> Tensor:
        square = x.square()
        return 0.5 * (square * (square - 16.0) + 5.0 * x).sum(-1)

    return Problem(
        name="styblinski-tang",
        function=function,
        formula=r"\tfrac12 \sum_i x_i^4 - 16 x_i^2 + 5 x_i",
        domain=((-5.0, 5.0),) * dim,
        start=(0.0,) * dim,
        minima=((_LOWEST,) * dim,),
        least=_LEAST * dim,
        reference="https://doi.org/10.1016/0893-6080(90)90029-K",
    )
