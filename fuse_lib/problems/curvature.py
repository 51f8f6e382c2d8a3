"""Four functions of prescribed curvature: a bent valley, a saddle, a plateau, and a bowl full of ripples.

All are simple along axes of their own, w = Qᵀx, with a random rotation Q, so that no coordinate-wise method sees them
as simple. All are constructions of this course. With Λ = diag(λ), their Hessians are, along w,

    bent valley   JᵀΛJ on the valley's floor, J unit triangular: its determinant never changes, its condition does
    saddle        λ_i (3 w_i² − 1) for the axes that lead down, λ_j for the others, everywhere
    plateau       Λ/(1 + q)² − 2 Λw wᵀΛ/(1 + q)³ with q = ½ wᵀΛw, everywhere
    ripples       Λ + ρI at 0; everywhere within ρ of Λ
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fuse_lib.problems.landscape import Landscape, plain, random_rotation, spaced
from fuse_lib.problems.problem import check_dim, check_number, check_whole

_NOCEDAL = "https://doi.org/10.1007/978-0-387-40065-5"
_SADDLES = "https://arxiv.org/abs/1406.2572"  # Dauphin et al. 2014: saddle points, and |λ| in Newton's direction
_GOLDEN = (1.0 + math.sqrt(5.0)) / 2.0


def bent_valley(condition: float = 1e3, dim: int = 2, bend: float = 0.3, seed: int = 0) -> Landscape:
    """A valley of known curvature along a parabola: w_d = bend · w_1² is its floor.

    f = ½ Σ λ_i u_i² with u = w but for u_d = w_d − bend · w_1², and λ from 1 to `condition`; minimum 0 at 0, the only
    stationary point. On the floor (u_2 = … = u_d = 0) the spectrum is λ_2 … λ_{d−1} and the two eigenvalues of
    [[1 + c²κ, −cκ], [−cκ, κ]], c = 2 bend w_1: their product is κ, their quotient grows along the valley.

    Args:
        condition: κ ≥ 1 at the minimum. dim: d ≥ 2. bend: ≥ 0; 0 is straight. seed: of Q.

    >>> f = bent_valley(condition=100.0)
    >>> [[round(v, 3) for v in f.spectrum(f.at(name)).tolist()] for name in ("minimum", "floor")]
    [[1.0, 100.0], [0.551, 181.449]]
    """
    check_dim(dim, at_least=2)
    check_number("condition", condition, at_least=1.0)
    check_number("bend", bend)
    Q, curvatures = random_rotation(dim, seed), spaced(condition, dim)
    kappa = float(condition)

    def function(x: Tensor) -> Tensor:
        w = x @ Q.to(x)
        last = w[..., -1] - bend * w[..., 0].square()
        lam = curvatures.to(x)
        return 0.5 * ((lam[:-1] * w[..., :-1].square()).sum(-1) + lam[-1] * last.square())

    def spectrum(x: Tensor) -> Tensor:
        c = 2.0 * bend * float((x @ Q.to(x))[0])
        half = 0.5 * (1.0 + c * c * kappa + kappa)
        large = half + math.sqrt(max(half * half - kappa, 0.0))
        two = torch.tensor([kappa / large, large], dtype=x.dtype, device=x.device)
        return torch.cat([curvatures[1:-1].to(x), two]).sort().values

    def on_floor(w1: float) -> Tensor:
        w = torch.zeros(dim, dtype=torch.float64)
        w[0], w[-1] = w1, bend * w1 * w1
        return Q @ w

    start = on_floor(-1.5) + Q @ torch.full((dim,), 0.5, dtype=torch.float64)
    return Landscape(
        name=f"bent valley, κ={condition:g}",
        function=function,
        formula=r"\tfrac12 \sum_i \lambda_i u_i^2,\; u_d = w_d - b\,w_1^2",
        domain=((-2.5, 2.5),) * dim,
        start=plain(start),
        minima=((0.0,) * dim,),
        least=0.0,
        reference=_NOCEDAL,
        spectrum=spectrum,
        points={"minimum": (0.0,) * dim, "floor": plain(on_floor(-1.5))},
        rotation=Q,
    )


def saddle(negative: int = 1, positive: int = 1, condition: float = 1.0, seed: int = 0) -> Landscape:
    """A saddle at 0 with so many eigenvalues of either sign, and minima of equal value around it.

    f = Σ λ_i (¼ w_i⁴ − ½ w_i²) over the first `negative` axes + Σ ½ λ_j w_j² over the others; λ from 1 to `condition`
    on either side. Saddle value 0; least value −¼ Σ λ_i at w_i = ±1, w_j = 0: 2^negative minima, all of them global,
    with the spectrum 2 λ_i and λ_j. The spectrum holds everywhere, since f is separable along w.

    Args:
        negative: 1 … 8 axes that lead down. positive: ≥ 1. condition: ≥ 1. seed: of Q.

    >>> f = saddle(negative=2, positive=3, condition=10.0)
    >>> [round(v, 3) for v in f.spectrum(f.at("saddle")).tolist()]
    [-10.0, -1.0, 1.0, 3.162, 10.0]
    """
    check_whole("negative", negative, 1, 8)
    check_whole("positive", positive, 1, 10_000)
    check_number("condition", condition, at_least=1.0)
    dim = negative + positive
    Q = random_rotation(dim, seed)
    down, up = spaced(condition, negative), spaced(condition, positive)

    def function(x: Tensor) -> Tensor:
        w = (x @ Q.to(x)).square()
        a, b = w[..., :negative], w[..., negative:]
        return (down.to(x) * (0.25 * a.square() - 0.5 * a)).sum(-1) + 0.5 * (up.to(x) * b).sum(-1)

    def spectrum(x: Tensor) -> Tensor:
        w = x @ Q.to(x)
        return torch.cat([down.to(x) * (3.0 * w[:negative].square() - 1.0), up.to(x)]).sort().values

    signs = [[-1.0 if k >> i & 1 else 1.0 for i in range(negative)] for k in range(2**negative)]
    ends = [torch.tensor([*s, *(0.0,) * positive], dtype=torch.float64) for s in signs]
    start = torch.tensor([1e-2] * negative + [1.0] * positive, dtype=torch.float64)
    return Landscape(
        name=f"saddle, {negative} of {dim} down",
        function=function,
        formula=r"\sum_i \lambda_i(\tfrac14 w_i^4 - \tfrac12 w_i^2) + \tfrac12\sum_j \lambda_j w_j^2",
        domain=((-1.8, 1.8),) * dim,
        start=plain(Q @ start),
        minima=tuple(plain(Q @ w) for w in ends),
        least=-0.25 * float(down.sum()),
        reference=_SADDLES,
        spectrum=spectrum,
        points={"saddle": (0.0,) * dim, "minimum": plain(Q @ ends[0])},
        rotation=Q,
    )


def plateau(condition: float = 10.0, dim: int = 2, distance: float = 5.0, seed: int = 0) -> Landscape:
    """A pit in a plain: f = q/(1 + q) with q = ½ wᵀΛw, below 1 everywhere, minimum 0 at 0.

    Far out gradient and Hessian fall like ‖w‖⁻³ and ‖w‖⁻⁴, and along the way down the curvature is negative (from
    q = 1/3 on for an eigenvector). At 0 the spectrum is λ, from 1 to `condition`; elsewhere it is that of the matrix
    in this file's head, a diagonal one less one of rank one.

    Args:
        condition: κ ≥ 1. dim: d ≥ 2. distance: ‖w‖ of the standard start, along (1, …, 1). seed: of Q.

    >>> f = plateau()
    >>> bool(f.spectrum(f.x0())[0] < 0), f.spectrum(f.at("minimum"))
    (True, tensor([ 1., 10.], dtype=torch.float64))
    """
    check_dim(dim, at_least=2)
    check_number("condition", condition, at_least=1.0)
    check_number("distance", distance)
    Q, curvatures = random_rotation(dim, seed), spaced(condition, dim)

    def function(x: Tensor) -> Tensor:
        q = 0.5 * (curvatures.to(x) * (x @ Q.to(x)).square()).sum(-1)
        return q / (1.0 + q)

    def spectrum(x: Tensor) -> Tensor:
        lam = curvatures.to(x)
        slope = lam * (x @ Q.to(x))
        q = 0.5 * slope.square().div(lam).sum()
        return torch.linalg.eigvalsh(torch.diag(lam) / (1 + q) ** 2 - 2 * torch.outer(slope, slope) / (1 + q) ** 3)

    start = Q @ torch.full((dim,), distance / math.sqrt(dim), dtype=torch.float64)
    return Landscape(
        name=f"plateau, κ={condition:g}",
        function=function,
        formula=r"q/(1+q),\; q = \tfrac12 w^\top\Lambda w",
        domain=((-1.5 * distance - 1.0, 1.5 * distance + 1.0),) * dim,
        start=plain(start),
        minima=((0.0,) * dim,),
        least=0.0,
        reference=_NOCEDAL,
        spectrum=spectrum,
        points={"minimum": (0.0,) * dim, "start": plain(start)},
        rotation=Q,
    )


def ripples(
    condition: float = 100.0, dim: int = 2, strength: float = 3.0, wavelength: float = 0.05, seed: int = 0
) -> Landscape:
    """A quadratic bowl with 2d ripples on it, whose curvature is of a known size, and about as chaotic as it gets.

    f = ½ wᵀΛw + a Σ_k Σ_{ν} (1 − cos(ν v_k·x)), v_k the rows of another rotation, ν = 2π/wavelength and the golden
    mean times that, with a = ρ/(ν₁² + ν₂²). Global minimum 0 at 0 with the spectrum λ + ρ; everywhere the ripples add
    a matrix whose eigenvalues are within ±ρ. ρ = strength · condition: above 1 they hide the bowl's curvature at
    most points, while its value and its gradient, averaged over a wavelength, stay.

    Args:
        condition: κ ≥ 1. dim: d ≥ 2. strength: ρ/κ ≥ 0. wavelength: > 0. seed: of both rotations.

    >>> f = ripples(condition=10.0, strength=2.0)
    >>> [round(v, 6) for v in f.spectrum(f.at("minimum")).tolist()]
    [21.0, 30.0]
    """
    check_dim(dim, at_least=2)
    check_number("condition", condition, at_least=1.0)
    check_number("strength", strength)
    check_number("wavelength", wavelength, at_least=1e-6)
    Q, V, curvatures = random_rotation(dim, seed), random_rotation(dim, seed + 10_000), spaced(condition, dim)
    rho, frequencies = strength * condition, [2.0 * math.pi / wavelength * k for k in (1.0, _GOLDEN)]
    height = rho / sum(nu * nu for nu in frequencies)

    def function(x: Tensor) -> Tensor:
        bowl = 0.5 * (curvatures.to(x) * (x @ Q.to(x)).square()).sum(-1)
        along = x @ V.to(x)
        waves = sum(2.0 * torch.sin(0.5 * nu * along).square() for nu in frequencies)  # 1 − cos without cancellation
        return bowl + height * waves.sum(-1)

    def spectrum(x: Tensor) -> Tensor:
        along, Qx, Vx = x @ V.to(x), Q.to(x), V.to(x)
        waves = height * sum(nu * nu * torch.cos(nu * along) for nu in frequencies)
        return torch.linalg.eigvalsh((Qx * curvatures.to(x)) @ Qx.T + (Vx * waves) @ Vx.T)

    return Landscape(
        name=f"ripples, ρ/κ={strength:g}",
        function=function,
        formula=r"\tfrac12 w^\top\Lambda w + a\sum_{k,\nu} (1-\cos \nu v_k^\top x)",
        domain=((-2.0, 2.0),) * dim,
        start=plain(Q @ torch.full((dim,), 1.0, dtype=torch.float64)),
        minima=((0.0,) * dim,),
        least=0.0,
        reference=_NOCEDAL,
        spectrum=spectrum,
        points={"minimum": (0.0,) * dim},
        rotation=Q,
    )
