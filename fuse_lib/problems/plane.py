"""Two polynomials in the plane: Beale's, with its flat floor, and Himmelblau's, with four minima of equal value."""

from __future__ import annotations

from torch import Tensor

from fuse_lib.problems.problem import Problem


def beale() -> Problem:
    """Beale's function: a flat, bent floor, and walls of fourth and sixth order.

    f(x, y) = (1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)², minimum 0 at (3, 0.5).

    Definition and start (1, 1): Moré, Garbow, Hillstrom, ACM Trans. Math. Softw. 7, 1981, number 5,
    doi 10.1145/355934.355936; the domain is that of Jamil and Yang, arXiv 1308.4008.

    >>> import torch
    >>> beale()(torch.tensor([3.0, 0.5]))
    tensor(0.)
    """

    def function(p: Tensor) -> Tensor:
        x, y = p.unbind(-1)
        return (1.5 - x + x * y).square() + (2.25 - x + x * y.square()).square() + (2.625 - x + x * y.pow(3)).square()

    return Problem(
        name="beale",
        function=function,
        formula=r"(1.5 - x + xy)^2 + (2.25 - x + xy^2)^2 + (2.625 - x + xy^3)^2",
        domain=((-4.5, 4.5),) * 2,
        start=(1.0, 1.0),
        minima=((3.0, 0.5),),
        least=0.0,
        reference="https://doi.org/10.1145/355934.355936",
    )


def himmelblau() -> Problem:
    """Himmelblau's function: four global minima of value 0, one in each quadrant.

    f(x, y) = (x² + y − 11)² + (x + y² − 7)². The standard start (0, 0) is near its hill between the minima.

    Definition: D. M. Himmelblau, Applied Nonlinear Programming, McGraw-Hill 1972; also in Jamil and Yang,
    arXiv 1308.4008.

    >>> import torch
    >>> himmelblau()(torch.tensor([[3.0, 2.0], [0.0, 0.0]]))
    tensor([  0., 170.])
    """

    def function(p: Tensor) -> Tensor:
        x, y = p.unbind(-1)
        return (x.square() + y - 11.0).square() + (x + y.square() - 7.0).square()

    return Problem(
        name="himmelblau",
        function=function,
        formula=r"(x^2 + y - 11)^2 + (x + y^2 - 7)^2",
        domain=((-5.0, 5.0),) * 2,
        start=(0.0, 0.0),
        minima=(
            (3.0, 2.0),
            (-2.805118086952745, 3.131312518250573),
            (-3.779310253377747, -3.283185991286170),
            (3.584428340330492, -1.848126526964404),
        ),
        least=0.0,
        reference="https://arxiv.org/abs/1308.4008",
    )
