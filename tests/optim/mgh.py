"""The 35 unconstrained problems of Moré, Garbow & Hillstrom, *Testing unconstrained optimization software*
(ACM Trans. Math. Softw. 7, 1981), in their numbering.

Each is a sum of squares f(x) = Σ r_i(x)² with a standard start. To add one, write its residuals and decorate
them with `problem`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """f(x) = Σ r_i(x)².

    number: in the paper. residuals: (n,) → (m,) tensor. start: the paper's, (n,).
    start_value: f there. minima: the known values of f at local minima (some of them reached only at
    infinity), lowest first; they agree with the paper's six digits. solution: where the first one lies, if known.
    """

    number: int
    name: str
    residuals: Callable[[Tensor], Tensor]
    start: tuple[float, ...]
    start_value: float
    minima: tuple[float, ...]
    solution: tuple[float, ...] | None

    def __call__(self, x: Tensor) -> Tensor:
        """f at x, (n,), as a 0-d tensor."""
        return self.residuals(x).square().sum()

    def x0(self) -> Tensor:
        """The standard start, (n,) float64."""
        return torch.tensor(self.start, dtype=torch.float64)

    def tolerance(self, minimum: float) -> float:
        """How far above a minimum counts as solved: 1e-6 of the whole descent, and of |f*| where that is more
        than 1. The descent is what keeps a problem whose start is already low from being solved by standing still.
        """
        return 1e-6 * min(max(1.0, abs(minimum)), self.start_value - minimum)

    def reached(self, lowest: float) -> float | None:
        """Which of the minima a run solved, if `lowest` is the least value it saw, or None."""
        return next((m for m in self.minima if lowest <= m + self.tolerance(m)), None)


PROBLEMS: list[Problem] = []


def problem(start, start_value: float, minima=(0.0,), solution=None):
    def register(residuals: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        name = residuals.__name__.strip("_").replace("_", " ")
        number = len(PROBLEMS) + 1
        at = None if solution is None else tuple(map(float, solution))
        PROBLEMS.append(Problem(number, name, residuals, tuple(map(float, start)), start_value, minima, at))
        return residuals

    return register


def count(n: int) -> Tensor:
    """1, 2, …, n as float64."""
    return torch.arange(1, n + 1, dtype=torch.float64)


def data(text: str) -> Tensor:
    return torch.tensor([float(word) for word in text.split()], dtype=torch.float64)


@problem((-1.2, 1), 24.2, solution=(1, 1))
def rosenbrock(x):
    return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


@problem((0.5, -2), 400.5, minima=(0.0, 48.98425367924), solution=(5, 4))
def freudenstein_and_roth(x):
    a, b = x
    return torch.stack([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b])


@problem((0, 1), 1.135262, solution=(1.0981593296997149e-05, 9.106146739866524))
def powell_badly_scaled(x):
    return torch.stack([1e4 * x[0] * x[1] - 1, torch.exp(-x).sum() - 1.0001])


@problem((1, 1), 999998000003.0, solution=(1e6, 2e-6))
def brown_badly_scaled(x):
    return torch.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


@problem((1, 1), 14.203125, solution=(3, 0.5))
def beale(x):
    return data("1.5 2.25 2.625") - x[0] * (1 - x[1] ** count(3))


@problem((0.3, 0.4), 4171.306, minima=(124.3621823556,))
def jennrich_and_sampson(x):
    i = count(10)
    return 2 + 2 * i - (torch.exp(i * x[0]) + torch.exp(i * x[1]))


@problem((-1, 0, 0), 2500.0, solution=(1, 0, 0))
def helical_valley(x):
    turns = torch.atan(x[1] / x[0]) / (2 * math.pi) + (0.5 if x[0] < 0 else 0.0)
    return torch.stack([10 * (x[2] - 10 * turns), 10 * (torch.hypot(x[0], x[1]) - 1), x[2]])


@problem((1, 1, 1), 41.68170, minima=(0.008214877306579, 17.42869333333))
def bard(x):
    y = data("0.14 0.18 0.22 0.25 0.29 0.32 0.35 0.39 0.37 0.58 0.73 0.96 1.34 2.10 4.39")
    u = count(15)
    v = 16 - u
    return y - (x[0] + u / (v * x[1] + torch.minimum(u, v) * x[2]))


@problem((0.4, 1, 0), 3.888107e-6, minima=(1.12793276961e-8,))
def gaussian(x):
    half = "0.0009 0.0044 0.0175 0.0540 0.1295 0.2420 0.3521"
    y = data(f"{half} 0.3989 {' '.join(half.split()[::-1])}")
    t = (8 - count(15)) / 2
    return x[0] * torch.exp(-x[1] * (t - x[2]) ** 2 / 2) - y


@problem((0.02, 4000, 250), 1.693608e9, minima=(87.9458551709,))
def meyer(x):
    y = data("34780 28610 23650 19630 16370 13720 11540 9744 8261 7030 6005 5147 4427 3820 3307 2872")
    return x[0] * torch.exp(x[1] / (45 + 5 * count(16) + x[2])) - y


@problem((5, 2.5, 0.15), 12.11070, solution=(50, 25, 1.5))
def gulf_research_and_development(x):
    t = count(99) / 100
    y = 25 + (-50 * torch.log(t)) ** (2 / 3)
    return torch.exp(-(torch.abs(y - x[1]) ** x[2]) / x[0]) - t


@problem((0, 10, 20), 1031.154, solution=(1, 10, 1))
def box_three_dimensional(x):
    t = count(10) / 10
    return torch.exp(-t * x[0]) - torch.exp(-t * x[1]) - x[2] * (torch.exp(-t) - torch.exp(-10 * t))


@problem((3, -1, 0, 1), 215.0, solution=(0, 0, 0, 0))
def powell_singular(x):
    a, b, c, d = x
    return torch.stack([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])


@problem((-3, -1, -3, -1), 19192.0, solution=(1, 1, 1, 1))
def wood(x):
    a, b, c, d = x
    left = [10 * (b - a**2), 1 - a, 90**0.5 * (d - c**2), 1 - c]
    return torch.stack([*left, 10**0.5 * (b + d - 2), (b - d) / 10**0.5])


@problem((0.25, 0.39, 0.415, 0.39), 5.313172e-3, minima=(3.07505603849e-4, 1.02734e-3))
def kowalik_and_osborne(x):
    y = data("0.1957 0.1947 0.1735 0.1600 0.0844 0.0627 0.0456 0.0342 0.0323 0.0235 0.0246")
    u = data("4.0 2.0 1.0 0.5 0.25 0.167 0.125 0.1 0.0833 0.0714 0.0625")
    return y - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


@problem((25, 5, -5, -1), 7926693.336, minima=(85822.2016264,))
def brown_and_dennis(x):
    t = count(20) / 5
    return (x[0] + t * x[1] - torch.exp(t)) ** 2 + (x[2] + x[3] * torch.sin(t) - torch.cos(t)) ** 2


@problem((0.5, 1.5, -1, 0.01, 0.02), 0.879026, minima=(5.46489469748e-5,))
def osborne_1(x):
    y = data(
        "0.844 0.908 0.932 0.936 0.925 0.908 0.881 0.850 0.818 0.784 0.751 0.718 0.685 0.658 0.628 0.603 0.580 "
        "0.558 0.538 0.522 0.506 0.490 0.478 0.467 0.457 0.448 0.438 0.431 0.424 0.420 0.414 0.411 0.406"
    )
    t = 10 * (count(33) - 1)
    return y - (x[0] + x[1] * torch.exp(-t * x[3]) + x[2] * torch.exp(-t * x[4]))


@problem((1, 2, 1, 1, 1, 1), 0.779070, minima=(0.0, 5.65564992551e-3), solution=(1, 10, 1, 5, 4, 3))
def biggs_exp6(x):
    t = count(13) / 10
    y = torch.exp(-t) - 5 * torch.exp(-10 * t) + 3 * torch.exp(-4 * t)
    return x[2] * torch.exp(-t * x[0]) - x[3] * torch.exp(-t * x[1]) + x[5] * torch.exp(-t * x[4]) - y


@problem((1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5), 2.093420, minima=(4.01377362935e-2,))
def osborne_2(x):
    y = data(
        "1.366 1.191 1.112 1.013 0.991 0.885 0.831 0.847 0.786 0.725 0.746 0.679 0.608 0.655 0.616 0.606 0.602 "
        "0.626 0.651 0.724 0.649 0.649 0.694 0.644 0.624 0.661 0.612 0.558 0.533 0.495 0.500 0.423 0.395 0.375 "
        "0.372 0.391 0.396 0.405 0.428 0.429 0.523 0.562 0.607 0.653 0.672 0.708 0.633 0.668 0.645 0.632 0.591 "
        "0.559 0.597 0.625 0.739 0.710 0.729 0.720 0.636 0.581 0.428 0.292 0.162 0.098 0.054"
    )
    t = (count(65) - 1).unsqueeze(1) / 10
    peaks = x[1:4] * torch.exp(-((t - x[8:11]) ** 2) * x[5:8])
    return y - (x[0] * torch.exp(-t[:, 0] * x[4]) + peaks.sum(1))


@problem(6 * [0], 30.0, minima=(2.28767005355e-3,))
def watson(x):
    powers = (count(29) / 29).unsqueeze(1) ** torch.arange(len(x))
    slope = powers[:, :-1] @ (count(len(x) - 1) * x[1:])
    return torch.cat([slope - (powers @ x) ** 2 - 1, torch.stack([x[0], x[1] - x[0] ** 2 - 1])])


@problem(5 * [-1.2, 1], 121.0, solution=10 * [1])
def extended_rosenbrock(x):
    odd, even = x[0::2], x[1::2]
    return torch.cat([10 * (even - odd**2), 1 - odd])


@problem(3 * [3, -1, 0, 1], 645.0, solution=12 * [0])
def extended_powell_singular(x):
    a, b, c, d = x.reshape(-1, 4).T
    return torch.cat([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])


@problem(range(1, 11), 148032.565, minima=(7.08765146709e-5,))
def penalty_i(x):
    return torch.cat([1e-5**0.5 * (x - 1), (x @ x - 0.25).reshape(1)])


@problem(10 * [0.5], 162.652777, minima=(2.936605374567e-4,))
def penalty_ii(x):
    n, e = len(x), torch.exp(x / 10)
    i = count(n)
    y = torch.exp(i / 10)
    smooth = torch.cat([e[1:] + e[:-1] - (y[1:] + y[:-1]), e[1:] - math.exp(-0.1)])
    ends = torch.stack([x[0] - 0.2, ((n - i + 1) * x**2).sum() - 1])
    return torch.cat([ends, 1e-5**0.5 * smooth])


@problem([1 - j / 10 for j in range(1, 11)], 2198551.1625, solution=10 * [1])
def variably_dimensioned(x):
    total = count(len(x)) @ (x - 1)
    return torch.cat([x - 1, torch.stack([total, total**2])])


@problem(10 * [0.1], 7.075759e-3, minima=(0.0, 2.79505612188e-5))
def trigonometric(x):
    n, cos = len(x), torch.cos(x)
    return n - cos.sum() + count(n) * (1 - cos) - torch.sin(x)


@problem(10 * [0.5], 273.248047, minima=(0.0, 1.0), solution=10 * [1])
def brown_almost_linear(x):
    return torch.cat([x[:-1] + x.sum() - (len(x) + 1), (x.prod() - 1).reshape(1)])


def _grid(x):
    """h, t_i = i h, and (x_i + t_i + 1)³ of problems 28 and 29."""
    h = 1 / (len(x) + 1)
    t = count(len(x)) * h
    return h, t, (x + t + 1) ** 3


@problem([j / 11 * (j / 11 - 1) for j in range(1, 11)], 7.885191e-4)
def discrete_boundary_value(x):
    h, _, cubes = _grid(x)
    zero = x.new_zeros(1)
    return 2 * x - torch.cat([zero, x[:-1]]) - torch.cat([x[1:], zero]) + h**2 * cubes / 2


@problem([j / 11 * (j / 11 - 1) for j in range(1, 11)], 6.341684e-2)
def discrete_integral_equation(x):
    h, t, cubes = _grid(x)
    left = (t * cubes).cumsum(0)
    right = ((1 - t) * cubes).flip(0).cumsum(0).flip(0) - (1 - t) * cubes
    return x + h * ((1 - t) * left + t * right) / 2


@problem(10 * [-1], 21.0)
def broyden_tridiagonal(x):
    zero = x.new_zeros(1)
    return (3 - 2 * x) * x - torch.cat([zero, x[:-1]]) - 2 * torch.cat([x[1:], zero]) + 1


@problem(10 * [-1], 360.0)
def broyden_banded(x):
    i = count(len(x))
    offset = i.unsqueeze(0) - i.unsqueeze(1)  # j − i
    band = ((offset >= -5) & (offset <= 1) & (offset != 0)).to(x)
    return x * (2 + 5 * x**2) + 1 - band @ (x * (1 + x))


@problem(10 * [1], 50.0, minima=(10.0,), solution=10 * [-1])
def linear_full_rank(x):
    m = 20
    return torch.cat([x, x.new_zeros(m - len(x))]) - 2 / m * x.sum() - 1


@problem(10 * [1], 8658670.0, minima=(20 * 19 / (2 * 41),))
def linear_rank_1(x):
    return count(20) * (count(len(x)) @ x) - 1


@problem(10 * [1], 4067996.0, minima=((20**2 + 60 - 6) / (2 * 37),))
def linear_rank_1_with_zero_columns_and_rows(x):
    inner = count(18) * (count(len(x))[1:-1] @ x[1:-1]) - 1
    return torch.cat([inner, -x.new_ones(2)])


@problem([j / 9 for j in range(1, 9)], 3.861770e-2, minima=(3.51687372568e-3,))
def chebyquad(x):
    n = len(x)
    i = count(n).unsqueeze(1)
    integral = torch.where(i % 2 == 0, -1 / (i**2 - 1).clamp(min=1), torch.zeros_like(i))
    shifted = 2 * x - 1  # T_i(z), by its recurrence: it is a polynomial outside [0, 1], too
    rows = [torch.ones_like(x), shifted]
    while len(rows) <= n:
        rows.append(2 * shifted * rows[-1] - rows[-2])
    return torch.stack(rows[1:]).mean(1) - integral[:, 0]
